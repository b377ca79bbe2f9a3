"""A new object in S3, written front to back like a file: parts go up, by threads, while the next one is filled.

An object of one part is one PUT. Otherwise the parts are joined at the end, and nobody sees them until then. If
something fails, or on Ctrl-C, they are deleted. Each part goes with its MD5, which S3 checks. Memory holds the parts
under way and the one that is filled.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, StorageError
from blobpack.stores.location import Location
from blobpack.stores.s3.bucket import Bucket, ObjectKey
from blobpack.stores.s3.condition import Condition
from blobpack.stores.s3.multipart import (
    COPY_BYTES_MAX,
    PARTS_MAX,
    UPLOAD_PART_BYTES_MIN,
    Multipart,
    content_md5,
    part_size,
)
from blobpack.stores.s3.unfinished import abort_latest, uploads_to
from blobpack.stores.sink import Sink

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from typing_extensions import Buffer

    from blobpack.stores.s3.store import S3Store

COPY_BYTES = 256 << 20  # of one copied part: several are copied at once
PARTS_AT_ONCE = 4  # memory holds as many, and the one that is filled


@contextmanager
def uploading(
    url: str | os.PathLike[str],
    *,
    expected_bytes: int | None = None,
    replaces: str | None = None,
    new: bool = False,
    resume: bool = False,
) -> Iterator[Upload]:
    """Open an object for writing that takes the key's place when the block ends without an error.

    Args:
        url: s3://bucket/key.
        expected_bytes: Bytes that it will have at most, about; see part_size.
        replaces: The ETag of the object that it takes the place of; any other object stays. See condition.py.
        new: There must be no object yet.
        resume: Go on with an upload that was interrupted: parts that are there with the same bytes stay. If this
            upload is interrupted again, its parts are left there for the next one.

    Raises:
        BlobChangedError: the object to replace is another one, or one is there.
        StorageError: S3 refused or could not be reached.
    """
    location = Location.parse(url)
    target = ObjectKey(Bucket(location.bucket), location.key)
    condition = Condition(target, replaces=replaces, new=new)
    upload = Upload(target, condition, expected_bytes=expected_bytes, resume=resume)
    try:
        yield upload
        upload.finish()
    except BaseException as exc:
        upload.give_up(exc)
        raise
    finally:
        upload.stop()


class Upload(Sink):
    """An object that is being written; uploading makes and ends it.

    Attributes:
        url: The object's URL.
        version: Its ETag, once it is finished.
        multipart: Its parts, if it has several.
    """

    def __init__(
        self, target: ObjectKey, condition: Condition, *, expected_bytes: int | None, resume: bool
    ) -> None:
        """Prepare an upload; nothing is asked of S3 yet. For the arguments see uploading."""
        self.url = target.url
        self.multipart = Multipart(target, PARTS_AT_ONCE)
        self._target = target
        self._condition = condition
        self._expected_bytes = expected_bytes
        self._resume = resume
        self._pos = 0
        self._part = bytearray()

    def tell(self) -> int:
        """Return how many bytes were written or copied."""
        return self._pos

    def write(self, data: Buffer, /) -> int:
        """Write on; waits while as many parts are under way as there are threads."""
        view = memoryview(data).cast("B")
        size = len(view)
        while view:
            room = part_size(self.multipart.parts + 1, self._expected_bytes) - len(self._part)
            # a full part waits for the byte behind it, so an object of exactly one part is still one PUT
            if not room:
                self._send_part()
                continue
            self._part += view[:room]
            view = view[room:]
        self._pos += size
        return size

    def copy(self, source: S3Store, size: int) -> None:
        """Have S3 copy the first bytes of another object, 5 MiB or more, without fetching them.

        Raises:
            BlobChangedError: the source is not the version any more that was opened.
        """
        count = max(1, -(-size // COPY_BYTES), -(-size // COPY_BYTES_MAX))
        count = min(count, size // UPLOAD_PART_BYTES_MIN, PARTS_MAX // 2)
        if count * COPY_BYTES_MAX < size:
            raise StorageError(f"{self.url}: {size} bytes are more than an object in S3 may have")
        self.begin()
        # of equal size: more is written behind the last one, so it, too, must have 5 MiB
        bounds = [size * i // count for i in range(count + 1)]
        for start, end in pairwise(bounds):
            self.multipart.copy(source, start, end)
        self._pos += size

    def begin(self) -> None:
        """Begin a multipart upload, or find the latest one that was interrupted; again is harmless."""
        if self.multipart.id:
            return
        if self._resume and (uploads := uploads_to(self._target)):
            self.multipart.go_on_with(uploads[-1].id)
        else:
            self.multipart.begin()

    def claim(self) -> None:
        """Begin, unless another upload to the key was first; see condition.py.

        Raises:
            BlobChangedError: there is one.
        """
        self.begin()
        self._condition.check_first(self.multipart.id)

    def _send_part(self) -> None:
        self.begin()
        if self.multipart.parts == PARTS_MAX:
            raise StorageError(
                f"{self.url}: {self._pos} bytes take more than the {PARTS_MAX} parts that S3 allows; "
                f"{self._expected_bytes} were expected"
            )
        self.multipart.send(self._part)
        self._part = bytearray()

    def finish(self) -> None:
        """Send what is left, and have S3 make the object.

        Raises:
            BlobChangedError: what is at the key is not what must be there.
            StorageError: S3 refused or could not be reached.
        """
        if not self.multipart.id:
            self._put_whole()
            # the earlier upload was of a larger object: nothing will go on with it
            if self._resume:
                abort_latest(self._target)
            return
        if self._part:
            self._send_part()
        self.multipart.settle()
        self._condition.check(self.multipart.id)
        try:
            self.version = self.multipart.complete(self._condition.arguments)
        except BlobChangedError as exc:
            raise self._condition.unmet() from exc

    def _put_whole(self) -> None:
        try:
            answer = self._target.ask(
                "put_object",
                what="upload",
                Body=self._part,
                ContentMD5=content_md5(self._part),
                **self._condition.arguments,
            )
        except BlobChangedError as exc:
            raise self._condition.unmet() from exc
        self.version = answer["ETag"]

    def give_up(self, exc: BaseException) -> None:
        """Delete the parts, when none is under way any more; keep them for an upload that resumes.

        Args:
            exc: What went wrong. It takes a note if the parts are kept or can't be deleted.
        """
        try:
            self.stop()
        finally:  # also after a second Ctrl-C
            self._discard(exc)

    def _discard(self, exc: BaseException) -> None:
        upload_id = (
            self.multipart.id
        )  # "" if it is complete: a failure after that leaves nothing behind
        if upload_id and self._resume:
            exc.add_note(
                f"the parts of {self.url} that went up are kept: --resume goes on with them"
            )
            return
        try:
            self.multipart.abort()
        except StorageError as failed:
            exc.add_note(f"{failed}; its parts are left behind: upload {upload_id}")

    def stop(self) -> None:
        """Wait for the threads, and have no more parts begun."""
        self.multipart.stop()
