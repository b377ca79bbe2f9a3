"""From a file for Encord to a blob: the images that the file lists, as objects to pack."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Unpack
from urllib.parse import unquote, urlsplit

from blobpack.errors import FormatError
from blobpack.integrations.encord.form.kinds import KINDS, OTHER_ITEMS_KEYS
from blobpack.integrations.encord.form.read import (
    csv_entries,
    csv_rows,
    is_json,
    json_entries,
    read_text,
)
from blobpack.integrations.encord.form.urls import ACCESS_POINT, fault_of_url
from blobpack.integrations.json_object import json_object
from blobpack.packing.manifest import source_on_line
from blobpack.packing.objects import LeftOut, Objects, Source
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import local_location, location_of
from blobpack.stores.location import Location
from blobpack.tar.header import encode_name
from blobpack.wording import with_article

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from blobpack.integrations.encord.form.read import Entry

PACKED = ("images", "image_groups", "image_sequences")
# AWS, "Virtual hosting of buckets": the bucket is in the host's name, or in the path
IN_HOST = re.compile(
    r"(?P<bucket>.+)\.s3(?:[.-](?:dualstack\.)?[a-z0-9-]+)?\.amazonaws\.com(?:\.cn)?"
)
IN_PATH = re.compile(r"s3(?:[.-](?:dualstack\.)?[a-z0-9-]+)?\.amazonaws\.com(?:\.cn)?")
SINGLE_COLUMN = "a video for Encord, because the CSV has a single column"


@with_remote_options
def read_registration(
    path: str | os.PathLike[str],
    base: str | os.PathLike[str] = "",
    **remote: Unpack[RemoteOptions],
) -> Objects:
    """Read the images that a file for Encord lists, as a source for pack.

    Images, and the images of groups and sequences, are packed. An image that is listed twice is packed once. Videos, DICOM
    series and other kinds are left out, and the report of pack counts them. If a CSV has a single column, its rows are left
    out, too, because Encord reads them as videos.

    Objects in S3 are read with your credentials: s3:// URLs, and https:// URLs of AWS, or of the endpoint that boto3 uses.
    Their keys become the names of the members. Other URLs are read as they are; the name of the member is the title, or the
    path of the URL.

    Args:
        path: The file: JSON of either form, or CSV.
        base: s3://bucket, the bucket behind the multi-region access point that ARNs name. Empty: objects are read through
            the access point, for which boto3 needs the package awscrt.
        remote: How the objects are reached: see RemoteOptions.

    Returns:
        A source for pack. Its members are in byte order of their names.

    Raises:
        DuplicateNameError: two objects would have the same member name.
        FormatError: this is no file for Encord, or a URL can't be read.
        SourceError: the file can't be read.
        TypeError: an argument has a wrong type.
        UnsafeNameError: a name is empty, absolute or leads upwards with "..".
        ValueError: an argument is a URL of a wrong kind.
    """
    listed = local_location("path", path, Access.of("read_registration", remote))
    where = listed.path
    bucket = None if base == "" else location_of("base", base, prefix=True, access=listed.access)
    if bucket is not None and not bucket.is_s3:
        raise ValueError(f"base must be s3://bucket, not {bucket.text!r}")
    # file and base of the command line bring their own
    places = _Places(bucket, bucket.access if bucket else listed.access)
    text = read_text(where)
    left_out: list[LeftOut] = []
    sources: dict[str, Source] = {}
    for entry, reason in _entries(text, where):
        if reason:
            shown = _shown(entry.urls[0]) if entry.urls else entry.where
            left_out.append(LeftOut(reason, encode_name(shown), shown))
            continue
        for url in entry.urls:
            source = _source_of(url, entry, places, f"{where}, {entry.where}")
            sources.setdefault(source.location.whole, source)
    return Objects(sources.values(), left_out=left_out)


def _entries(text: str, where: str) -> Iterator[tuple[Entry, str]]:
    """Yield the items of a file, and why each is left out; "" if it is packed."""
    entries: Iterator[Entry]
    video = ""
    if is_json(text):
        entries = json_entries(json_object(text, where))
    else:
        entries = csv_entries(text, where)
        first = next(csv_rows(text, where), None)
        video = SINGLE_COLUMN if first and len(first.header) == 1 else ""
    try:
        for entry in entries:
            if entry.kind in PACKED:
                yield entry, ""
            elif entry.kind == "videos" and video:
                yield entry, video
            else:
                noun = OTHER_ITEMS_KEYS.get(entry.kind) or KINDS[entry.kind].noun
                yield entry, f"{with_article(noun)} for Encord"
    except FormatError as exc:
        if str(exc).startswith(where):
            raise
        raise FormatError(f"{where}: {exc}") from exc


def _shown(url: object) -> str:
    return Location(url, "http").text if isinstance(url, str) else repr(url)


def _source_of(url: object, entry: Entry, places: _Places, where: str) -> Source:
    fault = fault_of_url(url)
    if fault or not isinstance(url, str):
        raise FormatError(f"{where}: {_shown(url)} {fault}")

    def parse() -> tuple[str, Location]:
        location = places.of(url)
        if not location.is_s3 and isinstance(entry.title, str) and entry.kind == "images":
            return entry.title, location
        return location.remote_name, location

    return source_on_line(where, parse)


class _Places:
    """Finds where objects are read."""

    def __init__(self, bucket: Location | None, access: Access) -> None:
        """Use the bucket behind an access point, if it is known, and how objects are reached."""
        self._bucket, self._access = bucket, access

    def of(self, url: str) -> Location:
        """Return where an object is read, by its URL or ARN.

        Raises:
            ValueError: no object can have this URL.
        """
        access = self._access
        match = ACCESS_POINT.match(url)
        if match:
            bucket = self._bucket.bucket if self._bucket else match[0]
            return Location.in_s3(bucket, url[match.end() + 1 :], access)
        parts = urlsplit(url)
        # the signature of a signed URL stands for credentials
        if parts.scheme not in ("http", "https") or parts.query:
            return Location.parse(url, access=access)
        path = unquote(parts.path, errors="surrogateescape").lstrip("/")
        in_host = IN_HOST.fullmatch(parts.hostname or "")
        if in_host:
            return Location.in_s3(in_host["bucket"], path, access)
        if IN_PATH.fullmatch(parts.hostname or "") or parts.netloc == self._endpoint:
            name, _, key = path.partition("/")
            return Location.in_s3(name, key, access)
        return Location.parse(url, access=access)

    @cached_property
    def _endpoint(self) -> str:
        """Host and port of the server that boto3 uses for S3."""
        from blobpack.stores.s3.client import client_of

        return urlsplit(str(client_of(self._access.s3).meta.endpoint_url)).netloc
