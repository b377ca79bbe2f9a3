"""Lists the objects below a prefix in S3.

Strategy: S3 returns a listing in pages of a thousand keys, and each page needs the token of the page before. Folders
do not depend on each other, so several of them are listed at once if the keys have folders.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from blobpack.errors import StorageError
from blobpack.look_ahead import map_ahead
from blobpack.stores.access.listed import Listed
from blobpack.stores.http.etag import with_quotes
from blobpack.stores.s3.answers import FORBIDDEN, described, harmless
from blobpack.stores.s3.client import NO_OPTIONS, client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.stores.access.s3_options import S3Options
    from blobpack.stores.s3.answers import Answered
    from blobpack.stores.s3.bucket import Bucket, ObjectKey

log = logging.getLogger(__name__)

FOLDERS_AT_ONCE = 16
# A folder with a single folder in it costs a request, and then the same question is asked about that folder. After this
# many requests, the last folder is listed page by page.
DEPTH_MAX = 8


def list_objects(bucket: Bucket, prefix: str) -> list[Listed]:
    """List the objects whose keys begin with a prefix, in byte order of their keys.

    The folders of the first level that has several of them are listed at once. If there are more than a thousand
    folders and objects on that level, all keys are listed page by page instead.

    Args:
        bucket: The bucket, which counts the requests.
        prefix: How the keys begin.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: S3 refused or could not be reached.
    """
    found: list[Listed] = []
    for _ in range(DEPTH_MAX):
        page = _page(bucket, prefix, Delimiter="/")
        folders = [folder["Prefix"] for folder in page.get("CommonPrefixes", ())]
        # With more than a thousand folders, one request for each of them could cost more than listing all keys.
        if page.get("IsTruncated"):
            found += _walk(bucket, prefix)
            folders = []
            break
        found += _objects_of(page)
        if len(folders) != 1:
            break
        prefix = folders[0]
    for objects in map_ahead(
        lambda folder: list(_walk(bucket, folder)), folders, threads=FOLDERS_AT_ONCE, name="list"
    ):
        found += objects
    if not all(one.version for one in found):
        log.warning(
            "s3://%s/%s: the server lists no ETags, so a change of an object can't be noticed",
            bucket.name,
            prefix,
        )
    return sorted(found, key=_in_order)


def find_object(target: ObjectKey) -> Listed | None:
    """Return the object at a key; None if there is none.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: S3 refused or could not be reached.
    """
    if target.version_id:
        return _look_at(target)
    try:
        # The key itself comes before all longer ones. A HEAD could not tell a missing bucket from a missing key.
        found = _objects_of(_page(target.bucket, target.key, MaxKeys=1))
    except StorageError as exc:
        if exc.status != FORBIDDEN:
            raise
        # The caller may read objects, and not list them.
        return _look_at(target)
    return found[0] if found and found[0].key == target.key else None


def _look_at(target: ObjectKey) -> Listed:
    head = target.head(what="find the object")
    return Listed(target.key, head["ContentLength"], head["ETag"])


def list_level(bucket: Bucket, prefix: str) -> list[str]:
    """Return the keys that begin with a prefix, cut behind the next "/", each once: a thousand at most.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: S3 refused or could not be reached.
    """
    page = _page(bucket, prefix, Delimiter="/")
    folders = [folder["Prefix"] for folder in page.get("CommonPrefixes", ())]
    return folders + [found.key for found in _objects_of(page)]


def list_buckets(options: S3Options = NO_OPTIONS) -> list[str]:
    """Return the names of the buckets of an account.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    try:
        answer = client_of(options).list_buckets()
    except (BotoCoreError, ClientError) as exc:
        raise StorageError(
            f"can't list the buckets of this account: {described(exc)}"
        ) from harmless(exc)
    return [bucket["Name"] for bucket in answer.get("Buckets", ())]


def _in_order(listed: Listed) -> bytes:
    # S3 sorts keys by their UTF-8 bytes. Python sorts strings by code points, in the same order but for surrogates.
    return listed.key.encode("utf-8", "surrogateescape")


def _walk(bucket: Bucket, prefix: str) -> Iterator[Listed]:
    """Iterate over the objects of all pages of a prefix."""
    more: dict[str, str] = {}
    while True:
        page = _page(bucket, prefix, **more)
        yield from _objects_of(page)
        if not page.get("IsTruncated"):
            return
        token = page["NextContinuationToken"]
        # such a listing would never end
        if token == more.get("ContinuationToken"):
            raise page.lacks("another NextContinuationToken")
        more = {"ContinuationToken": token}


def _page(bucket: Bucket, prefix: str, **arguments: Any) -> Answered:
    return bucket.ask("list_objects_v2", what="list objects", Prefix=prefix, **arguments)


def _objects_of(page: Answered) -> list[Listed]:
    return [
        Listed(found["Key"], found["Size"], with_quotes(found.get("ETag", "")))
        for found in page.rows("Contents")
    ]
