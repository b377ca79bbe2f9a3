"""A new object in S3, written front to back like a file: parts go up, by threads, while the next one is filled.

An object of one part is one PUT. Of any other one the parts are joined at the end, and until then nobody sees
them; if something fails, or Ctrl-C, they are thrown away. Each part goes with its MD5, which S3 checks. Memory is
that of the parts under way and the one that is filled.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
import time
from base64 import b64encode
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.s3.multipart import uploads_to
from blobpack.stores.s3.object import S3Object
from blobpack.stores.s3.shield import uninterrupted
from blobpack.stores.sink import Sink
from blobpack.threads import LookAhead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client
    from typing_extensions import Buffer

    from blobpack.stores.s3.multipart import Unfinished
    from blobpack.stores.s3.store import S3Store

log = logging.getLogger(__name__)

PART_BYTES_MIN = 5 << 20  # S3's bounds: all parts but the last, one copied part, parts of an object
COPY_BYTES_MAX = 5 << 30
PARTS_MAX = 10_000
PART_BYTES = 8 << 20
PART_STEP_BYTES = 1 << 20
PARTS_ALIKE = 1_000  # of an object of unknown size, before they double
COPY_BYTES = 256 << 20
THREADS = 4
ALONE_TIMEOUT_S = 30.0  # a loser that is at work on a part notices when it ends
ALONE_POLL_S = 0.2


def part_size(number: int, expected_bytes: int | None) -> int:
    """Compute how large a part of an object is.

    Args:
        number: The part's, from 1 on.
        expected_bytes: What the object will have at most; None when that is not known: parts then double
            now and then, and 10,000 of them hold 7 TiB.
    """
    if expected_bytes is None:
        return PART_BYTES << ((number - 1) // PARTS_ALIKE)
    needed = -(-expected_bytes // PARTS_MAX)
    return max(PART_BYTES, needed + -needed % PART_STEP_BYTES)


@contextmanager
def uploading(
    url: str,
    *,
    expected_bytes: int | None = None,
    replaces: str | None = None,
    new: bool = False,
    resume: bool = False,
    threads: int = THREADS,
    client: S3Client | None = None,
) -> Iterator[Upload]:
    """Open an object for writing that takes the key's place when the block ends without an error.

    Args:
        url: s3://bucket/key.
        expected_bytes: What it will have at most, about; see part_size.
        replaces: The ETag of the object that it takes the place of; any other stays. Asked of S3, and looked at
            right before for servers that do not know such conditions.
        new: There must be no object yet.
        resume: Go on with an upload that was interrupted: parts that are there with the same bytes stay. One
            that is interrupted again is left there, for the next one.
        threads: How many parts go up at once.
        client: A boto3 client; None for one from the environment.

    Raises:
        BlobChangedError: the object to replace is another one, or one is there.
        StorageError: S3 refused or could not be reached.
    """
    upload = Upload(
        S3Object(url, client=client),
        expected_bytes=expected_bytes,
        replaces=replaces,
        new=new,
        resume=resume,
        threads=threads,
    )
    try:
        yield upload
        upload.finish()
    except BaseException as exc:
        upload.give_up(exc)
        raise
    finally:
        upload.stop()


class Upload(Sink):
    """An object that is being written; uploading makes and ends it."""

    def __init__(
        self,
        target: S3Object,
        *,
        expected_bytes: int | None,
        replaces: str | None,
        new: bool,
        resume: bool,
        threads: int,
    ) -> None:
        """Begin; nothing is asked of S3 yet."""
        self.url = target.url
        self.version = ""
        self._target = target
        self._expected_bytes = expected_bytes
        self._replaces = replaces
        self._conditions = (
            {"IfMatch": replaces} if replaces else {"IfNoneMatch": "*"} if new else {}
        )
        self._resume = resume
        self._threads = threads
        self._id = ""
        self._pos = 0
        self._part = bytearray()
        # number → ETag; none yet while it is under way
        self._parts: dict[int, str] = {}
        self._under_way: LookAhead[None] = LookAhead(threads, name="upload")
        # by one that was interrupted: number → size, ETag
        self._left: dict[int, tuple[int, str]] = {}

    def tell(self) -> int:
        """Say how many bytes were written."""
        return self._pos

    def write(self, data: Buffer, /) -> int:
        """Write on; waits while as many parts are under way as there are threads."""
        view = memoryview(data).cast("B")
        size = len(view)
        while view:
            room = part_size(len(self._parts) + 1, self._expected_bytes) - len(self._part)
            if not room:
                self._send(self._part)
                self._part = bytearray()
                continue
            self._part += view[:room]
            view = view[room:]
        self._pos += size
        return size

    def copy(self, source: S3Store, size: int) -> None:
        """Take the first bytes of another object, of 5 MiB or more, without fetching them.

        Raises:
            BlobChangedError: it is not the version any more that was opened.
        """
        count = max(1, -(-size // COPY_BYTES), -(-size // COPY_BYTES_MAX))
        count = min(count, size // PART_BYTES_MIN, PARTS_MAX // 2)
        if count * COPY_BYTES_MAX < size:
            raise StorageError(f"{self.url}: {size} bytes are more than an object in S3 may have")
        self.begin()
        bounds = [size * i // count for i in range(count + 1)]
        for start, end in pairwise(bounds):
            self._hand_over(self._copy_part, source, start, end)
        self._pos += size

    def begin(self) -> None:
        """Have S3 begin an upload of several parts, or find the one that was interrupted."""
        if self._id:
            return
        if self._resume:
            self._find_left()
        if not self._id:
            uninterrupted(self._begin_anew)

    def _begin_anew(self) -> None:
        answer = self._target.ask_object("create_multipart_upload", what="begin an upload")
        self._id = answer["UploadId"]

    def _send(self, part: bytearray) -> None:
        self.begin()
        self._hand_over(self._put_part, part)

    def _hand_over(self, work: Callable[..., None], *arguments: Any) -> None:
        number = len(self._parts) + 1
        if number > PARTS_MAX:
            raise StorageError(
                f"{self.url}: {self._pos} bytes take more than the {PARTS_MAX} parts that S3 allows; "
                f"{self._expected_bytes} were expected"
            )
        self._parts[number] = ""
        self._settle(self._threads - 1)
        self._under_way.submit(work, number, *arguments)

    def _settle(self, under_way_max: int) -> None:
        """Wait until no more parts than that are under way; raise what failed."""
        while len(self._under_way) > under_way_max:
            self._under_way.pop()

    def _put_part(self, number: int, part: bytearray) -> None:
        md5 = hashlib.md5(part, usedforsecurity=False)
        size, etag = self._left.get(number, (0, ""))
        if size != len(part) or etag.strip('"') != md5.hexdigest():
            answer = self._target.ask_object(
                "upload_part",
                what=f"upload part {number}",
                UploadId=self._id,
                PartNumber=number,
                Body=part,
                ContentMD5=b64encode(md5.digest()).decode(),
            )
            etag = answer["ETag"]
        self._parts[number] = etag

    def _copy_part(self, number: int, source: S3Store, start: int, end: int) -> None:
        answer = self._target.ask_object(
            "upload_part_copy",
            what=f"copy bytes {start} to {end} of {source.url}",
            UploadId=self._id,
            PartNumber=number,
            CopySource={"Bucket": source.bucket, "Key": source.key},
            CopySourceIfMatch=source.version,
            CopySourceRange=f"bytes={start}-{end - 1}",
        )
        self._parts[number] = answer["CopyPartResult"]["ETag"]

    def finish(self) -> None:
        """Send what is left, and join the parts.

        Raises:
            BlobChangedError: there is another object than the one to replace.
        """
        if not self._id:
            self._put_whole()
            if self._resume:
                self._drop_left()
            return
        if self._part:
            self._send(self._part)
            self._part = bytearray()
        self._settle(0)
        if self._replaces:
            self._check_alone()
        elif self._conditions:
            self._check_object()
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in self._parts.items()]
        try:
            answer = self._target.ask_object(
                "complete_multipart_upload",
                what="complete the upload",
                UploadId=self._id,
                MultipartUpload={"Parts": parts},
                **self._conditions,
            )
        except StorageError as exc:
            if not self._is_there():  # else its answer got lost, and boto3 asked again
                raise self._lost(exc) from exc
            answer = {}
        self._id = ""
        self.version = answer.get("ETag") or self._head()["ETag"]

    def _put_whole(self) -> None:
        md5 = hashlib.md5(self._part, usedforsecurity=False).digest()
        try:
            answer = self._target.ask_object(
                "put_object",
                what="upload",
                Body=self._part,
                ContentMD5=b64encode(md5).decode(),
                **self._conditions,
            )
        except BlobChangedError as exc:
            raise self._lost(exc) from exc
        self.version = answer["ETag"]

    def _drop_left(self) -> None:
        """Throw away the upload that was interrupted: what is small now did not go on with it."""
        try:
            for upload in self._uploads()[-1:]:
                uninterrupted(partial(self._abort, upload.id))
        except StorageError as exc:  # the object is there all the same
            log.warning("%s; the parts of an upload that was interrupted may be left", exc)

    def _lost(self, exc: StorageError) -> StorageError:
        """Say what an unmet condition means here."""
        if not isinstance(exc, BlobChangedError):
            return exc
        if self._replaces:
            return BlobChangedError(
                f"{self.url} was changed meanwhile: it is not {self._replaces} any more, and stays as it is"
            )
        return BlobChangedError(f"{self.url} is there already, and stays as it is")

    def _head(self) -> dict[str, Any]:
        return self._target.ask_object("head_object", what="look at the object")

    def _is_there(self) -> bool:
        """Tell whether the object is the one of these parts, by its ETag: the MD5 of theirs."""
        try:
            digests = b"".join(bytes.fromhex(etag.strip('"')) for etag in self._parts.values())
            found = self._head()["ETag"]
        except (StorageError, ValueError):
            return False
        digest = hashlib.md5(digests, usedforsecurity=False).hexdigest()
        return bool(found.strip('"') == f"{digest}-{len(self._parts)}")

    # For servers that do not know If-Match on CompleteMultipartUpload, Ceph's for one

    def claim(self) -> None:
        """Begin, unless another upload to the key was first.

        Raises:
            BlobChangedError: there is one.
        """
        self.begin()
        self._others()

    def _check_alone(self) -> None:
        """Go on only when no other upload to the key is under way, and the object is the one to replace.

        Whoever replaces the object so began an upload before looking. Of two that are under way at once, one
        at least sees the other here, or what it has made of the object: never do both go on. The later one
        gives up, the earlier one waits for that.

        Raises:
            BlobChangedError: another upload was first, or does not end; or the object is another one.
        """
        deadline = time.monotonic() + ALONE_TIMEOUT_S
        while others := self._others():
            if time.monotonic() > deadline:
                raise self._not_alone(others[0])
            time.sleep(ALONE_POLL_S)
        self._check_object()

    def _check_object(self) -> None:
        """See that the object is the one to replace, or that there is none.

        Raises:
            BlobChangedError: it is another one, or one is there.
        """
        try:
            found = self._head()["ETag"]
        except BlobNotFoundError:
            found = None
        if found != self._replaces:
            raise self._lost(BlobChangedError(self.url))

    def _others(self) -> list[Unfinished]:
        """Find the other uploads to the key; all began later than this one.

        Raises:
            BlobChangedError: one was first.
        """
        uploads = self._uploads()
        if uploads and uploads[0].id != self._id:
            raise self._not_alone(uploads[0])
        return uploads[1:]

    def _not_alone(self, other: Unfinished) -> BlobChangedError:
        return BlobChangedError(
            f"{self.url}: another upload to it is under way since {other.since:%Y-%m-%d %H:%M:%S} UTC "
            f"(upload {other.id}), so it stays as it is: try again; if that one was interrupted, "
            f"`blobpack uploads {shlex.quote(self.url)} --abort` throws it away"
        )

    def _uploads(self) -> list[Unfinished]:
        """List the uploads to the key that are under way, the first one first."""
        uploads = uploads_to(self._target, self._target.key)
        return sorted(upload for upload in uploads if upload.key == self._target.key)

    def _find_left(self) -> None:
        """Find the latest upload that was interrupted, and its parts."""
        uploads = self._uploads()
        if not uploads:
            return
        self._id = uploads[-1].id
        marker = 0
        while True:
            answer = self._target.ask_object(
                "list_parts", what="list parts", UploadId=self._id, PartNumberMarker=marker
            )
            for part in answer.get("Parts", ()):
                self._left[part["PartNumber"]] = part["Size"], part["ETag"]
            if not answer.get("IsTruncated"):
                return
            marker = answer["NextPartNumberMarker"]

    def give_up(self, exc: BaseException) -> None:
        """Throw the parts away, when none is under way any more; keep them for one that resumes.

        Args:
            exc: What went wrong; takes a note if they can't be thrown away.
        """
        try:
            self.stop()
        finally:  # also after a second Ctrl-C
            self._throw_away(exc)

    def _throw_away(self, exc: BaseException) -> None:
        if not self._id:
            return
        if self._resume:
            exc.add_note(
                f"the parts of {self.url} that went up are kept: --resume goes on with them"
            )
            return
        try:
            uninterrupted(partial(self._abort, self._id))
        except StorageError as failed:
            if "NoSuchUpload" in str(failed):
                return
            exc.add_note(f"{failed}; its parts are left behind: upload {self._id}")

    def _abort(self, upload: str) -> None:
        self._target.ask_object("abort_multipart_upload", what="abort the upload", UploadId=upload)

    def stop(self) -> None:
        """Wait for the threads, and have no part begun any more."""
        self._under_way.close()
