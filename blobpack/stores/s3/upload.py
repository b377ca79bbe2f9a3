"""A new object in S3, written front to back like a file.

Strategy: threads send full parts while the next part is filled. An object of one part is a single PUT. Otherwise S3
joins the parts at the end, and nobody sees them before. After an error or Ctrl-C the parts are deleted. Each part is
sent with its MD5, which S3 checks. Memory holds the parts being sent and the one being filled.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, StorageError
from blobpack.stores.location import Location
from blobpack.stores.s3.bucket import ObjectKey
from blobpack.stores.s3.condition import Condition
from blobpack.stores.s3.multipart import (
    COPY_BYTES_MAX,
    PARTS_MAX,
    UPLOAD_PART_BYTES,
    UPLOAD_PART_BYTES_MIN,
    Multipart,
    content_md5,
    part_size,
)
from blobpack.stores.s3.properties import (
    NO_PROPERTIES,
    Properties,
    check_kept,
    explain_refusal,
    with_given,
)
from blobpack.stores.s3.unfinished import abort_interrupted, uploads_to
from blobpack.stores.sink import Sink
from blobpack.wording import setting

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from blobpack.stores.s3.store import S3Store

# Size of a copied part. Far below S3's limit of 5 GiB, so that several parts can be copied at once.
COPIED_PART_BYTES = 256 << 20
# Memory holds this many parts and the one being filled.
PARTS_AT_ONCE = 4


@contextmanager
def uploading(
    url: str | os.PathLike[str],
    *,
    expected_bytes: int | None = None,
    replaces: str | None = None,
    new: bool = False,
    resume: bool = False,
    properties: Properties = NO_PROPERTIES,
    ready: Callable[[], None] | None = None,
) -> Iterator[Upload]:
    """Open an object for writing, which replaces the one at the key when the block ends without an error.

    Args:
        url: s3://bucket/key.
        expected_bytes: Estimated largest size of the object; see part_size.
        replaces: ETag of the object that this one replaces; another object stays as it is. See condition.py.
        new: There must be no object at the key yet.
        resume: Resume an upload that was interrupted: parts that S3 already has with the same bytes are not sent again.
            If this upload is interrupted, too, its parts are kept for the next one.
        properties: Properties of the object that it replaces, which it keeps unless S3Options gives others.
        ready: Called when everything is written, just before S3 creates the object.

    Raises:
        BlobChangedError: the object at the key is not the one to replace, or must not exist.
        StorageError: S3 refused or could not be reached.
    """
    location = Location.parse(url)
    target = ObjectKey.at(location)
    properties = with_given(properties, target)
    condition = Condition(target, replaces=replaces, new=new)
    upload = Upload(
        target, condition, properties, expected_bytes=expected_bytes, resume=resume, ready=ready
    )
    with _finished(upload):
        yield upload


@contextmanager
def _finished(upload: Upload) -> Iterator[Upload]:
    """Finish an upload when the block ends without an error, and otherwise give it up."""
    try:
        yield upload
        upload.finish()
    except BaseException as exc:
        upload.give_up(exc)
        raise
    finally:
        upload.stop()


def put_whole(target: ObjectKey, payload: bytes, media_type: str | None) -> None:
    """Put an object whose bytes are all in memory; it replaces the one at the key.

    Args:
        target: The key.
        payload: The bytes of the object.
        media_type: The Content-Type of the object; None: unknown.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    properties = with_given(NO_PROPERTIES, target, media_type or "")
    if len(payload) > UPLOAD_PART_BYTES:
        condition = Condition(target, replaces=None, new=False)
        with _finished(
            Upload(target, condition, properties, expected_bytes=len(payload))
        ) as upload:
            upload.write(payload)
        return
    # `Upload` would look at the finished object, which is one more request for each object
    target.ask(
        "put_object",
        what="upload",
        Body=payload,
        ContentMD5=content_md5(payload),
        **properties.arguments,
        **properties.checksum_of(payload),
    )


class Upload(Sink):
    """An object that is being written; `uploading` creates and finishes it.

    Attributes:
        url: URL of the object.
        version: ETag of the object, once it is finished.
        multipart: The parts, if the object has several.
    """

    def __init__(
        self,
        target: ObjectKey,
        condition: Condition,
        properties: Properties,
        *,
        expected_bytes: int | None,
        resume: bool = False,
        ready: Callable[[], None] | None = None,
    ) -> None:
        """Prepare an upload. See uploading for the arguments."""
        self.url = target.url
        self.multipart = Multipart(target, PARTS_AT_ONCE, properties)
        self._properties = properties
        self._target = target
        self._condition = condition
        self._expected_bytes = expected_bytes
        self._resume = resume
        self._ready = ready
        # Only the upload that is there now was interrupted. A later one belongs to a process that is at work.
        self._interrupted = uploads_to(target)[-1:] if resume else []
        self._pos = 0
        self._part = bytearray()

    def tell(self) -> int:
        """Return the number of bytes that were written or copied."""
        return self._pos

    def write(self, data: Buffer, /) -> int:
        """Write the data; wait while all threads are busy sending parts."""
        view = memoryview(data).cast("B")
        size = len(view)
        while view:
            room = part_size(self.multipart.parts + 1, self._expected_bytes) - len(self._part)
            # A full part is sent when another byte follows, so an object of exactly one part is still a single PUT.
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
            BlobChangedError: the source is no longer the version that was opened.
        """
        count = max(1, -(-size // COPIED_PART_BYTES), -(-size // COPY_BYTES_MAX))
        count = min(count, size // UPLOAD_PART_BYTES_MIN, PARTS_MAX // 2)
        if count * COPY_BYTES_MAX < size:
            raise StorageError(f"{self.url}: {size} bytes are more than S3 allows in one object")
        self.begin()
        # Parts of equal size. Parts may follow the last copied one, so it must have 5 MiB, too.
        bounds = [size * i // count for i in range(count + 1)]
        for start, end in pairwise(bounds):
            self.multipart.copy(source, start, end)
        self._pos += size

    def begin(self) -> None:
        """Begin a multipart upload, or resume the latest interrupted one; calling this twice is harmless."""
        if self.multipart.id:
            return
        # listed again: another process may have completed or aborted it meanwhile
        if self._interrupted and self._interrupted[0] in uploads_to(self._target):
            self.multipart.resume(self._interrupted[0].id)
        else:
            self.multipart.begin()

    def claim(self) -> None:
        """Begin, and check that no other upload to the key began earlier; see condition.py.

        Raises:
            BlobChangedError: another upload began earlier.
        """
        self.begin()
        self._condition.check_first(self.multipart.id)

    def _send_part(self) -> None:
        self.begin()
        if self.multipart.parts == PARTS_MAX:
            raise StorageError(
                f"{self.url}: {self._pos} bytes need more than the {PARTS_MAX} parts that S3 allows; "
                f"{self._expected_bytes} were expected"
            )
        self.multipart.send(self._part)
        self._part = bytearray()

    def finish(self) -> None:
        """Send the rest, and have S3 create the object.

        Raises:
            BlobChangedError: the condition on the object at the key is not met.
            StorageError: S3 refused or could not be reached.
        """
        if not self.multipart.id:
            if self._ready:
                self._ready()
            self._put_whole()
            # The interrupted upload was for a larger object. Nobody will resume it.
            for upload in self._interrupted:
                abort_interrupted(self._target, upload)
            return
        if self._part:
            self._send_part()
        self.multipart.settle()
        self._condition.check(self.multipart.id)
        if self._ready:
            self._ready()
        try:
            self.version = self.multipart.complete(self._condition.arguments)
        except BlobChangedError as exc:
            raise self._condition.unmet() from exc
        check_kept(self._target, self._properties)

    def _put_whole(self) -> None:
        try:
            response = self._target.ask(
                "put_object",
                what="upload",
                Body=self._part,
                ContentMD5=content_md5(self._part),
                **self._properties.arguments,
                **self._properties.checksum_of(self._part),
                **self._condition.arguments,
            )
        except BlobChangedError as exc:
            raise self._condition.unmet() from exc
        except StorageError as exc:
            raise explain_refusal(exc, self._properties) from exc
        self.version = response["ETag"]
        check_kept(self._target, self._properties)

    def give_up(self, exc: BaseException) -> None:
        """Wait for the threads and delete the parts; keep them if this upload may be resumed.

        Args:
            exc: The error that ended the upload. A note is added to it if the parts are kept or can't be deleted.
        """
        try:
            self.stop()
        finally:
            # Also after a second Ctrl-C while stop waits.
            self._discard(exc)

    def _discard(self, exc: BaseException) -> None:
        # "" if no multipart upload has begun, or if the object is complete: then there are no parts to delete.
        upload_id = self.multipart.id
        if upload_id and self._resume:
            exc.add_note(
                f"the parts of {self.url} that were sent are kept: {setting('resume', True)} continues with them"
            )
            return
        try:
            self.multipart.abort()
        except StorageError as failed:
            exc.add_note(f"{failed}; the parts that were sent are left behind: upload {upload_id}")

    def stop(self) -> None:
        """Cancel parts that no thread has begun, and wait for the others."""
        self.multipart.stop()
