"""The objects below a prefix in S3: folders are listed side by side where the keys allow, else page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from blobpack.stores.s3.bucket import Bucket
from blobpack.threads import map_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

LISTED_AT_ONCE = 16  # folders
DEPTH_MAX = 8  # of folders that hold one folder and nothing else


class Listed(NamedTuple):
    """An object in a listing.

    Attributes:
        key: Its key.
        size: Its bytes.
        version: Its ETag.
    """

    key: str
    size: int
    version: str


def list_objects(bucket: str, prefix: str) -> list[Listed]:
    """List the objects whose keys begin with a prefix, in byte order of their keys.

    S3 lists a thousand keys at a time, one page after the other. The folders of the first level that has several of
    them are listed side by side, unless there are so many that they would take more requests than their keys.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: S3 refused or could not be reached.
    """
    place = Bucket(bucket)
    found: list[Listed] = []
    for _ in range(DEPTH_MAX):
        page = _page(place, prefix, Delimiter="/")
        folders = [folder["Prefix"] for folder in page.get("CommonPrefixes", ())]
        # a thousand folders and objects came: listing folder by folder would cost more requests
        if page.get("IsTruncated"):
            return sorted(found + list(_walk(place, prefix)), key=_in_order)
        found += _objects_of(page)
        if len(folders) != 1:
            break
        prefix = folders[0]
    for objects in map_ahead(
        lambda folder: list(_walk(place, folder)), folders, threads=LISTED_AT_ONCE, name="list"
    ):
        found += objects
    return sorted(found, key=_in_order)


def _in_order(listed: Listed) -> bytes:
    return listed.key.encode("utf-8", "surrogateescape")


def _walk(bucket: Bucket, prefix: str) -> Iterator[Listed]:
    """Iterate over all pages of a prefix."""
    more: dict[str, str] = {}
    while True:
        page = _page(bucket, prefix, **more)
        yield from _objects_of(page)
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _page(bucket: Bucket, prefix: str, **arguments: str) -> dict[str, Any]:
    return bucket.ask("list_objects_v2", what="list objects", Prefix=prefix, **arguments)


def _objects_of(page: dict[str, Any]) -> list[Listed]:
    return [
        Listed(found["Key"], found["Size"], found["ETag"]) for found in page.get("Contents", ())
    ]
