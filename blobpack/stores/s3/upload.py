"""A new object in S3, written front to back like a file.

Strategy: threads send full parts while the next part is filled. An object of one part is a single PUT. Otherwise S3
joins the parts at the end, and nobody sees them before. After an error or Ctrl-C the parts are deleted. Each part is
sent with its MD5, which S3 checks. Memory holds the parts being sent and the one being filled.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from blobpack.errors import BlobChangedError, StorageError
from blobpack.stores.access.uploads import (
    NO_PROPERTIES,
    UPLOAD_PART_BYTES_MIN,
    Properties,
    explain_refusal,
    with_given,
)
from blobpack.stores.http.etag import with_quotes
from blobpack.stores.location import Location
from blobpack.stores.s3.answers import is_unlisted
from blobpack.stores.s3.boto3_get import fetch
from blobpack.stores.s3.bucket import ObjectKey
from blobpack.stores.s3.condition import Condition
from blobpack.stores.s3.multipart import (
    COPY_BYTES_MAX,
    PARTS_MAX,
    UPLOAD_PART_BYTES,
    CantCopyError,
    Multipart,
    content_md5,
    copied_part_size,
    part_size,
)
from blobpack.stores.s3.properties import check_kept
from blobpack.stores.s3.refusals import was_sent_again
from blobpack.stores.s3.unfinished import abort_interrupted, uploads_to
from blobpack.stores.sink import Sink
from blobpack.wording import setting

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from blobpack.stores.s3.store import S3Store
    from blobpack.stores.s3.unfinished import Unfinished

log = logging.getLogger(__name__)

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
        self._interrupted = _interrupted_upload(target) if resume else []
        self._least_part_bytes = UPLOAD_PART_BYTES
        self._copied_parts = 0
        self._pos = 0
        self._part = bytearray()

    def tell(self) -> int:
        """Return the number of bytes that were written or copied."""
        return self._pos

    def write(self, data: Buffer, /) -> int:
        """Write the data; wait while all threads are busy sending parts."""
        view = memoryview(data).cast("B")
        total = len(view)
        while view:
            number = self.multipart.parts + 1 - self._copied_parts
            size = part_size(number, self._expected_bytes, self._least_part_bytes)
            room = size - len(self._part)
            # A full part is sent when another byte follows, so an object of exactly one part is still a single PUT.
            if not room:
                self._send_part()
                continue
            self._part += view[:room]
            view = view[room:]
        self._pos += total
        return total

    def copy(self, source: S3Store, size: int) -> None:
        """Begin with the first bytes of another object: S3 copies them, without sending them here.

        All parts must have one size, so the few bytes that do not fill one are fetched and sent. If the server can't copy
        parts, all bytes are.

        Raises:
            BlobChangedError: the source is no longer the version that was opened.
            StorageError: S3 refused or could not be reached.
        """
        least_bytes = part_size(1, self._expected_bytes or size, UPLOAD_PART_BYTES_MIN)
        part_bytes = copied_part_size(size, least_bytes)
        if part_bytes > COPY_BYTES_MAX:
            raise StorageError(f"{self.url}: {size} bytes are more than S3 allows in one object")
        self._least_part_bytes = part_bytes
        self.begin()
        copied = size - size % part_bytes
        try:
            for start in range(0, copied, part_bytes):
                self.multipart.copy(source, start, start + part_bytes)
            # The first one shows whether the server can do it. Then the others go on while new bytes are written.
            if copied:
                self.multipart.check_copy(source, part_bytes)
        except CantCopyError as exc:
            log.debug("%s, so they are fetched and sent: %s", exc, exc.__cause__)
            self.multipart.restart()
            copied = 0
        self._copied_parts, self._pos = copied // part_bytes, copied
        for start in range(copied, size, part_bytes):
            self.write(source.read_range(start, min(start + part_bytes, size)))

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
            self._condition.look()
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
        self.version = self._condition.guard(self.multipart.complete)
        check_kept(self._target, self._properties)

    def _put_whole(self) -> None:
        def put(conditions: dict[str, str]) -> dict[str, Any]:
            try:
                return self._target.ask(
                    "put_object",
                    what="upload",
                    Body=self._part,
                    ContentMD5=content_md5(self._part),
                    **self._properties.arguments,
                    **self._properties.checksum_of(self._part),
                    **conditions,
                )
            except BlobChangedError as exc:
                # If the first answer was lost, the condition may fail because this object is there already.
                if was_sent_again(exc) and self._is_there():
                    return {}
                raise

        try:
            response = self._condition.guard(put)
        except BlobChangedError:
            raise
        except StorageError as exc:
            raise explain_refusal(exc, self._properties) from exc
        etag = with_quotes(response.get("ETag", ""))
        # With SSE-KMS, the ETag is no MD5. If the answer did not come from an S3 server, the HEAD finds no object.
        if etag != f'"{hashlib.md5(self._part, usedforsecurity=False).hexdigest()}"':
            etag = self._target.find_etag(etag)
        self.version = etag
        check_kept(self._target, self._properties)

    def _is_there(self) -> bool:
        """Return whether the object at the key has the bytes of this upload."""
        try:
            head = self._target.head(what="look at the object")
            size = len(self._part)
            return bool(head["ContentLength"] == size) and (
                not size or fetch(self._target, size, head["ETag"], 0, size) == self._part
            )
        except StorageError:
            return False

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


def _interrupted_upload(target: ObjectKey) -> list[Unfinished]:
    """Return the latest unfinished upload to a key in a list, which is empty if there is none.

    Raises:
        StorageError: S3 can't list uploads, refused or could not be reached.
    """
    try:
        return uploads_to(target)[-1:]
    except StorageError as exc:
        if is_unlisted(exc):
            raise StorageError(
                f"{exc}; {setting('resume', True)} needs a server that lists unfinished uploads"
            ) from exc
        raise
