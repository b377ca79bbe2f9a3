"""Uploads to S3 that were begun and not ended: they are under way, or a process that was killed left them.

Nobody sees their parts, which S3 keeps, and bills, until they are aborted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from blobpack.errors import StorageError
from blobpack.stores.location import Location
from blobpack.stores.s3.object import S3Object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from blobpack.stores.s3.store import S3Store


class Unfinished(NamedTuple):
    """An upload.

    Attributes:
        since: When it began, by S3's clock.
        id: S3's name for it.
        bucket: Where it goes.
        key: Of the object that it would make.
    """

    since: datetime
    id: str
    bucket: str
    key: str

    @property
    def url(self) -> str:
        """The object's."""
        return f"s3://{self.bucket}/{self.key}"

    def __str__(self) -> str:
        return f"{self.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC  {self.url}  {self.id}"


def find_unfinished(url: str, *, older_than: timedelta | None = None) -> list[Unfinished]:
    """Find the uploads to an object, to what is below a prefix, or to a whole bucket.

    Args:
        url: s3://bucket/key, s3://bucket/prefix/ or s3://bucket. Without a "/" at its end it is both an object and
            a prefix.
        older_than: Only those that began longer ago.

    Raises:
        BlobNotFoundError: there is no such bucket.
        StorageError: S3 refused or could not be reached.
    """
    location = Location.parse(url, prefix=True)
    bucket, key = location.bucket, location.key
    place = S3Object(f"s3://{bucket}/{key or '*'}")
    now = datetime.now(UTC)
    below = f"{key.rstrip('/')}/" if key else ""
    return [
        upload
        for upload in uploads_to(place, key)
        if (upload.key == key or upload.key.startswith(below))
        and (older_than is None or now - upload.since > older_than)
    ]


def uploads_to(place: S3Store, prefix: str) -> Iterator[Unfinished]:
    """Go through the uploads to the keys of a bucket that begin with a prefix."""
    marker: dict[str, str] = {}
    while True:
        answer = place.ask("list_multipart_uploads", what="list uploads", Prefix=prefix, **marker)
        for found in answer.get("Uploads", ()):
            yield Unfinished(found["Initiated"], found["UploadId"], place.bucket, found["Key"])
        if not answer.get("IsTruncated"):
            return
        marker = {
            "KeyMarker": answer["NextKeyMarker"],
            "UploadIdMarker": answer["NextUploadIdMarker"],
        }


def abort(upload: Unfinished) -> bool:
    """Throw the parts of an upload away; False if it has ended meanwhile.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    try:
        S3Object(upload.url).ask_object(
            "abort_multipart_upload", what="abort an upload", UploadId=upload.id
        )
    except StorageError as exc:
        if "NoSuchUpload" in str(exc):
            return False
        raise
    return True
