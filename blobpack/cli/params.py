"""Types of the command line's parameters."""

from __future__ import annotations

import re
from fractions import Fraction
from math import inf
from typing import Any

import click

from blobpack.stores.location import Location
from blobpack.writing.compress import is_compressed_target

SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>(?:[kmg]i?)?)b?", re.IGNORECASE)
UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class BlobUrl(click.ParamType[Location]):
    """A path or a URL of a kind that blobpack reads."""

    name = "blob"

    def convert(
        self, value: str | Location, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Refuse URLs of other kinds as wrong usage."""
        try:
            return Location.parse(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class PathOrS3(click.Path):
    """A path, as click.Path, or an s3:// URL."""

    def __init__(self, *, prefix: bool = False, **options: Any) -> None:
        """Say what may be given.

        Args:
            prefix: Also a bucket, or a prefix in it.
            options: Of click.Path.
        """
        super().__init__(**options)
        self._prefix = prefix

    def convert(  # type: ignore[override]
        self, value: str | Location, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Return a path or s3:// URL; any other URL, or one that names no object, is wrong usage."""
        try:
            location = Location.parse(value, prefix=self._prefix)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        if not (location.is_local or location.is_s3):
            self.fail(f"{location} is neither a local path nor an s3:// URL", param, ctx)
        if not location.is_s3:
            super().convert(location.text, param, ctx)
        return location


class PathOrUrl(click.Path):
    """A path, as click.Path, or a URL of a kind that blobpack reads."""

    def convert(  # type: ignore[override]
        self, value: str | Location, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Return a path or URL; a URL of another kind is wrong usage."""
        location = BlobUrl().convert(value, param, ctx)
        if location.is_local:
            super().convert(location.text, param, ctx)
        return location


class LocalPath(click.Path):
    """A path, as click.Path; a URL is none, and would make folders called `s3:`."""

    def convert(  # type: ignore[override]
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return a path; a URL is wrong usage."""
        if "://" in value:
            self.fail(f"{value!r} is a URL, and this takes a local path", param, ctx)
        return str(super().convert(value, param, ctx))


class PlainTar(click.Path):
    """A path, as click.Path, of a tar that is to be written."""

    def convert(  # type: ignore[override]
        self, value: str | Location, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Return a path; a URL that is not local, or the path of a compressed tar, is wrong usage."""
        location = BlobUrl().convert(value, param, ctx)
        if not location.is_local:
            self.fail(f"{location} is a URL, and this takes a local path", param, ctx)
        if is_compressed_target(location):
            self.fail(
                f"{location} would be compressed, and this writes plain tars: make one, and `blobpack repack` it",
                param,
                ctx,
            )
        super().convert(location.text, param, ctx)
        return location


class Regex(click.ParamType[re.Pattern[str]]):
    """A regular expression of Python's."""

    name = "regex"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> re.Pattern[str]:
        """Refuse what is none as wrong usage."""
        try:
            return re.compile(value)
        except re.error as exc:
            self.fail(f"{value!r}: {exc}", param, ctx)


class ByteSize(click.ParamType[int]):
    """A number of bytes, such as 500, 4k or 1.5Mi."""

    name = "bytes"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Refuse what is no whole number of bytes as wrong usage."""
        written = SIZE.fullmatch(str(value).strip())
        if written is None:
            self.fail(f"{value!r} is no size: 500, 4k, 1.5M or 64Ki are", param, ctx)
        size = Fraction(written["number"]) * UNITS[written["unit"].lower()]
        if size.denominator != 1:
            self.fail(f"{value!r} is not a whole number of bytes", param, ctx)
        return int(size)


class Prices(click.ParamType[tuple[float, float]]):
    """Prices of a thousand requests, such as 0.0004,0.005."""

    name = "prices"

    def convert(
        self,
        value: str | tuple[float, float],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[float, float]:
        """Refuse what is no two prices as wrong usage."""
        if isinstance(value, tuple):
            return value
        try:
            get, put = (float(price) for price in value.split(","))
        except ValueError:
            get = put = -1.0
        if not (0 <= get < inf and 0 <= put < inf):
            self.fail(f"{value!r} is no two prices: 0.0004,0.005 are", param, ctx)
        return get, put
