"""Unfinished uploads to S3: still running, or left behind by a process that was killed.

Nobody sees their parts, but S3 stores and bills them until the upload is aborted. An upload with `resume` uses them.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from blobpack.errors import StorageError
from blobpack.quoting import one_line
from blobpack.stores.location import Location
from blobpack.stores.s3.bucket import Bucket, ObjectKey
from blobpack.stores.s3.client import NO_OPTIONS
from blobpack.stores.url import object_url
from blobpack.threads import uninterrupted

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from blobpack.stores.access.s3_options import S3Options

log = logging.getLogger(__name__)


class Unfinished(NamedTuple):
    """An unfinished upload. Uploads are sorted by the time at which they began.

    Attributes:
        since: Time at which the upload began, by S3's clock.
        id: The id that S3 gave to the upload.
        bucket: Name of the bucket.
        key: Key of the object that the upload would create.
    """

    since: datetime
    id: str
    bucket: str
    key: str

    @property
    def url(self) -> str:
        """URL of the object that the upload would create."""
        return object_url(self.bucket, self.key)

    def __str__(self) -> str:
        return (
            f"{self.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC  {one_line(self.url)}  {self.id}"
        )


class SentPart(NamedTuple):
    """A part of an unfinished upload that S3 has.

    Attributes:
        size: Size in bytes.
        etag: ETag: the quoted MD5 of the part's bytes.
    """

    size: int
    etag: str


def find_unfinished(
    url: str | os.PathLike[str], *, older_than: timedelta | None = None
) -> list[Unfinished]:
    """Find the unfinished uploads to an object, below a prefix, or to a bucket.

    Args:
        url: s3://bucket/key, s3://bucket/prefix/ or s3://bucket. A URL without a "/" at its end means both the object
            and the prefix.
        older_than: Return only uploads that began longer ago.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: S3 refused or could not be reached.
    """
    location = Location.parse(url, prefix=True)
    key = location.key
    # Ages are hours or days, so it does not matter if our clock differs from S3's by minutes.
    now = datetime.now(UTC)
    below = f"{key.rstrip('/')}/" if key else ""
    return [
        upload
        for upload in list_uploads(Bucket.at(location), key)
        if (upload.key == key or upload.key.startswith(below))
        and (older_than is None or now - upload.since > older_than)
    ]


def list_uploads(bucket: Bucket, prefix: str) -> Iterator[Unfinished]:
    """Iterate over the uploads to the keys of a bucket that begin with a prefix, page by page."""
    marker: dict[str, str] = {}
    while True:
        page = bucket.ask("list_multipart_uploads", what="list uploads", Prefix=prefix, **marker)
        for found in page.rows("Uploads"):
            yield Unfinished(found["Initiated"], found["UploadId"], bucket.name, found["Key"])
        if not page.get("IsTruncated"):
            return
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def uploads_to(target: ObjectKey) -> list[Unfinished]:
    """List the unfinished uploads to one key, the earliest first."""
    # A prefix also matches longer keys.
    uploads = list_uploads(target.bucket, target.key)
    return sorted(upload for upload in uploads if upload.key == target.key)


def list_parts(target: ObjectKey, upload_id: str) -> dict[int, SentPart]:
    """List the parts of an unfinished upload that S3 has, by their numbers."""
    parts: dict[int, SentPart] = {}
    marker = 0
    # S3 returns at most a thousand parts in a page.
    while True:
        page = target.ask(
            "list_parts", what="list parts", UploadId=upload_id, PartNumberMarker=marker
        )
        for part in page.rows("Parts"):
            parts[part["PartNumber"]] = SentPart(part["Size"], part["ETag"])
        if not page.get("IsTruncated"):
            return parts
        marker = page["NextPartNumberMarker"]


def abort_upload(target: ObjectKey, upload_id: str) -> bool:
    """Have S3 delete the parts of an unfinished upload; return False if it has ended meanwhile.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    try:
        target.ask("abort_multipart_upload", what="abort an upload", UploadId=upload_id)
    except StorageError as exc:
        # Somebody else has completed or aborted it.
        if "NoSuchUpload" in str(exc):
            return False
        raise
    return True


def abort(upload: Unfinished, options: S3Options = NO_OPTIONS) -> bool:
    """Have S3 delete the parts of an upload that find_unfinished returned; return False if it has ended meanwhile.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    return abort_upload(ObjectKey(Bucket(upload.bucket, options=options), upload.key), upload.id)


def abort_interrupted(target: ObjectKey, upload: Unfinished) -> None:
    """Abort an interrupted upload to a key, which nobody will resume; a failure is only logged."""
    try:
        uninterrupted(partial(abort_upload, target, upload.id))
    except StorageError as exc:
        # The new object is complete, so the call has succeeded.
        log.warning("%s; the parts of an interrupted upload may be left behind", exc)


def abort_lost(target: ObjectKey, upload_id: str, sent_for: timedelta) -> None:
    """Abort uploads that S3 began for this process, and whose ids were lost with the answers; a failure is only logged.

    Args:
        target: The key.
        upload_id: Id of the upload whose answer came.
        sent_for: Time from the first request that asked for an upload to the answer.
    """
    try:
        uploads = uploads_to(target)
        ours = next(upload for upload in uploads if upload.id == upload_id)
        # S3 may report times in whole seconds
        first = ours.since - sent_for - timedelta(seconds=1)
        for upload in uploads:
            # An upload that has parts belongs to another process.
            is_lost = first <= upload.since <= ours.since and upload.id != upload_id
            if is_lost and not list_parts(target, upload.id):
                abort_upload(target, upload.id)
    except (StorageError, StopIteration) as exc:
        log.warning(
            "%s: an upload may be left behind, because an answer of S3 was lost: %s",
            target.url,
            exc,
        )
