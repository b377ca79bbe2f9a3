"""Types of the command line's parameters.

A wrong value is wrong usage: `self.fail` ends the command with exit code 2 and a message that names the parameter. click
also calls `convert` for values that have been converted already, such as defaults, so each type accepts its own values.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from fractions import Fraction
from math import inf
from typing import IO, TYPE_CHECKING, Any

import click

from blobpack.cli.completion.names import complete_location
from blobpack.errors import BlobpackError
from blobpack.model import BYTES_MAX
from blobpack.stores.arguments import location_of
from blobpack.stores.location import Location
from blobpack.writing.compress import is_compressed_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.shell_completion import CompletionItem

# [0-9] and not \d, which also matches the digits of other scripts
SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>(?:[kmg]i?)?)b?", re.IGNORECASE)
# decimal units (SI) and binary ones (IEC 80000-13), in either case: m is mega, not milli
UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class Completed:
    """Completes paths and s3:// URLs in the shell."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Return the completions of what was typed."""
        return complete_location(ctx, param, incomplete)


class BlobUrl(Completed, click.ParamType[Location]):
    """A path or a URL of a kind that blobpack reads."""

    name = "blob"

    def __init__(self, *, prefix: bool = False) -> None:
        """Set whether a bucket, or a prefix in it, is accepted, too."""
        self._prefix = prefix

    def convert(
        self, value: str | Location, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Parse a path or URL; a URL of another kind is wrong usage."""
        if value == "":
            self.fail("this is empty, but a path or URL is needed", param, ctx)
        try:
            return Location.parse(value, prefix=self._prefix)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Place(Completed, click.ParamType[Location]):
    """A folder, an S3 bucket or prefix, or a host or prefix behind HTTP."""

    name = "place"

    def convert(
        self, value: str | Location, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Parse a path or URL; an empty text, or a URL of another kind, is wrong usage."""
        try:
            return location_of(self.name, value, prefix=True)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class PathOrS3(Completed, click.Path):
    """A path, like click.Path, or an s3:// URL."""

    def __init__(self, *, prefix: bool = False, is_read: bool = True, **options: Any) -> None:
        """Set what is accepted.

        Args:
            prefix: Also accept a bucket, or a prefix in it.
            is_read: Also accept a version of an object, which can only be read.
            options: Options of click.Path, which hold for local paths only.
        """
        super().__init__(**options)
        self._prefix, self._is_read = prefix, is_read

    def convert(  # type: ignore[override]
        self, value: str | Location, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Parse a path or s3:// URL; any other URL, or one that names no object, is wrong usage."""
        try:
            location = Location.parse(value, prefix=self._prefix)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        if not (location.is_local or location.has_key):
            self.fail(
                f"{location} is neither a local path nor a URL that can be written to, such as s3://bucket/key",
                param,
                ctx,
            )
        if location.has_key and location.key.endswith("/") and not self.dir_okay:
            self.fail(f"{location} is a prefix: add the name of an object", param, ctx)
        if location.is_s3 and location.version_id and not self._is_read:
            self.fail(
                f"{location} names a version of an object, which can't be written: leave out ?versionId=",
                param,
                ctx,
            )
        # Whether an object exists is found by the library's first request for it. To ask here, too, would cost one more.
        if not location.has_key:
            super().convert(location.text, param, ctx)
        return location


class PathOrUrl(Completed, click.Path):
    """A path, like click.Path, or a URL of a kind that blobpack reads."""

    def convert(  # type: ignore[override]
        self, value: str | Location, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Parse a path or URL; a URL of another kind is wrong usage."""
        location = BlobUrl().convert(value, param, ctx)
        if location.is_local:
            super().convert(location.text, param, ctx)
        return location


class LocalPath(click.Path):
    """A path, like click.Path, and no URL."""

    def convert(  # type: ignore[override]
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return a path; a URL is wrong usage."""
        # click.Path accepts a URL as a path, and writing there would make a folder named `s3:`
        location = _local(self, value, param, ctx)
        return str(super().convert(location.path, param, ctx))


class LocalList(click.Path):
    """A path, like click.Path, of a list of URLs; the options for accounts and servers hold for these URLs."""

    def convert(  # type: ignore[override]
        self, value: str | Location, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Return the location of a path; a URL is wrong usage."""
        location = _local(self, value, param, ctx)
        super().convert(location.path, param, ctx)
        return location


class LocalFile(click.File):
    """A file to read, like click.File, and no URL."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> IO[Any]:
        """Open a file; a URL is wrong usage."""
        if isinstance(value, str):
            value = _local(self, value, param, ctx).path
        return super().convert(value, param, ctx)


def _local(
    kind: click.ParamType[Any],
    value: str | Location,
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> Location:
    """Parse a path or file:// URL; a remote URL is wrong usage."""
    location = BlobUrl().convert(value, param, ctx)
    if not location.is_local:
        kind.fail(f"{location} is a URL, but this takes a local path", param, ctx)
    return location


class PlainTar(PathOrS3):
    """A path, like click.Path, or an s3:// URL, of a tar to write that is not compressed."""

    def __init__(self, **options: Any) -> None:
        """Set what is accepted; see PathOrS3."""
        super().__init__(is_read=False, **options)

    def convert(  # type: ignore[override]
        self, value: str | Location, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Parse a path or s3:// URL; any other URL, or the name of a compressed tar, is wrong usage."""
        location = super().convert(value, param, ctx)
        # merge and subset copy bytes as they lie in a tar, and no step compresses them
        if is_compressed_target(location):
            self.fail(
                f"{location} would be compressed, but this writes plain tars: write one, then `blobpack repack` it",
                param,
                ctx,
            )
        return location


class Regex(click.ParamType[re.Pattern[str]]):
    """A regular expression in Python's syntax."""

    name = "regex"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> re.Pattern[str]:
        """Compile a regular expression; a text that is none is wrong usage."""
        try:
            return re.compile(value)
        except re.error as exc:
            self.fail(f"{value!r}: {exc}", param, ctx)


class Whole(click.IntRange):
    """A whole number within bounds. Help texts show the bounds as 1 to 64, and none where there is no highest number."""

    def _describe_range(self) -> str:
        # click writes 1<=x<=64, and 0<=x<=9223372036854775807
        return "" if self.max in (None, BYTES_MAX) else f"{self.min} to {self.max}"


class ByteSize(click.ParamType[int]):
    """A number of bytes, such as 500, 4k or 1.5Mi."""

    name = "bytes"

    def __init__(self, least: int = 0) -> None:
        """Set the least number that is accepted."""
        self._least = least

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Parse a number of bytes; a fraction of a byte, or a text that is no size, is wrong usage."""
        written = SIZE.fullmatch(str(value).strip())
        if written is None:
            self.fail(f"{value!r} is not a size, such as 500, 4k, 1.5M or 64Ki", param, ctx)
        # exact: as a float, 1.005k would be 1004.9999999999999 bytes
        size = Fraction(written["number"]) * UNITS[written["unit"].lower()]
        if size.denominator != 1:
            self.fail(f"{value!r} is not a whole number of bytes", param, ctx)
        if not self._least <= size <= BYTES_MAX:
            self.fail(f"{value!r} is not from {self._least:,} to {BYTES_MAX:,} bytes", param, ctx)
        return int(size)


class Prices(click.ParamType[tuple[float, float]]):
    """Two prices of a thousand requests, such as 0.0004,0.005."""

    name = "prices"

    def convert(
        self,
        value: str | tuple[float, float],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[float, float]:
        """Parse two prices; anything else is wrong usage."""
        if isinstance(value, tuple):
            return value
        try:
            get, put = (float(price) for price in value.split(","))
        except ValueError:
            # refused below, with the message that negative prices get
            get = put = -1.0
        # float() also accepts "nan", which fails every comparison, and "inf"
        if not (0 <= get < inf and 0 <= put < inf):
            self.fail(f"{value!r} is not two prices, such as 0.0004,0.005", param, ctx)
        return get, put


class TwoParts(click.ParamType[tuple[str, str]]):
    """A text of two parts, split at its first separator: for subclasses, which check the parts."""

    separator = "="

    def convert(
        self,
        value: str | tuple[str, str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, str]:
        """Split a text; parts that the subclass does not allow are wrong usage."""
        # click converts a default, and a value that it has converted, again
        if isinstance(value, tuple):
            return value
        first, separator, second = value.partition(self.separator)
        if fault := self.fault_of(value, first, second if separator else None):
            self.fail(fault, param, ctx)
        return first, second

    def fault_of(self, text: str, first: str, second: str | None) -> str:
        """Return what is wrong with a text; "" if nothing is. The second part is None without a separator."""
        raise NotImplementedError


@contextmanager
def usage_errors(**options: str) -> Iterator[None]:
    """Turn errors in the arguments of a library function into wrong usage.

    Args:
        options: The option of an argument whose message begins with its name, such as base_url="--url".
    """
    try:
        yield
    # a FormatError, say, is a ValueError, too, but no error of the usage
    except BlobpackError:
        raise
    except ValueError as exc:
        argument, space, rest = str(exc).partition(" ")
        raise click.UsageError(f"{options.get(argument, argument)}{space}{rest}") from exc
