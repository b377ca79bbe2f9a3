"""The objects below a prefix in S3: listed folder by folder at once where the keys allow, else page by page."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from blobpack.stores.s3.object import S3Object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

THREADS = 16
DEPTH_MAX = 8  # folders that hold nothing but one folder


class Listed(NamedTuple):
    """An object as a listing tells of it."""

    key: str
    size: int
    version: str


def list_objects(bucket: str, prefix: str, *, client: S3Client | None = None) -> list[Listed]:
    """List the objects whose keys begin with a prefix, in byte order of their keys.

    S3 lists a thousand keys at a time, one page after the other. Folders at the first level that branches are
    listed side by side, unless there are so many that they would take more requests than their keys.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: S3 refused or could not be reached.
    """
    place = S3Object(f"s3://{bucket}/{prefix or '*'}", client=client)
    found: list[Listed] = []
    for _ in range(DEPTH_MAX):
        page = _page(place, prefix, Delimiter="/")
        folders = [folder["Prefix"] for folder in page.get("CommonPrefixes", ())]
        if page.get("IsTruncated"):
            return sorted(found + list(_walk(place, prefix)), key=_in_order)
        found += _objects_of(page)
        if len(folders) != 1:
            break
        prefix = folders[0]
    with ThreadPoolExecutor(THREADS) as pool:
        for objects in pool.map(lambda folder: list(_walk(place, folder)), folders):
            found += objects
    return sorted(found, key=_in_order)


def _in_order(listed: Listed) -> bytes:
    return listed.key.encode("utf-8", "surrogateescape")


def _walk(place: S3Object, prefix: str) -> Iterator[Listed]:
    """Go through all pages of a prefix."""
    more: dict[str, str] = {}
    while True:
        page = _page(place, prefix, **more)
        yield from _objects_of(page)
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _page(place: S3Object, prefix: str, **arguments: str) -> dict[str, Any]:
    return place.ask("list_objects_v2", what=f"list {prefix!r}", Prefix=prefix, **arguments)


def _objects_of(page: dict[str, Any]) -> list[Listed]:
    return [
        Listed(found["Key"], found["Size"], found["ETag"]) for found in page.get("Contents", ())
    ]
