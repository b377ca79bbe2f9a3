"""A multipart upload: its parts are sent, or copied by S3, by several threads, and joined at the end.

Source: Amazon S3 User Guide, "Uploading and copying objects using multipart upload", and its limits.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import partial
from typing import TYPE_CHECKING, Any

from blobpack.errors import StorageError
from blobpack.stores.s3.shield import uninterrupted
from blobpack.stores.s3.unfinished import SentPart, abort_upload, list_parts
from blobpack.threads import LookAhead

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stores.s3.bucket import ObjectKey
    from blobpack.stores.s3.store import S3Store

# S3's limits: on all parts but the last, on one copied part, on the parts of an object
UPLOAD_PART_BYTES_MIN = 5 << 20
COPY_BYTES_MAX = 5 << 30
PARTS_MAX = 10_000

UPLOAD_PART_BYTES = 8 << 20
PART_STEP_BYTES = 1 << 20
EQUAL_PARTS = 1_000  # of an object of unknown size, before they double


def part_size(number: int, expected_bytes: int | None) -> int:
    """Compute how large a part of an object is.

    Args:
        number: Number of the part, counted from 1.
        expected_bytes: Bytes that the object will have at most. None if that is not known: then parts double every
            thousand, and 10,000 of them hold 7 TiB.
    """
    if expected_bytes is None:
        return UPLOAD_PART_BYTES << ((number - 1) // EQUAL_PARTS)
    needed = -(-expected_bytes // PARTS_MAX)
    return max(UPLOAD_PART_BYTES, needed + -needed % PART_STEP_BYTES)


def content_md5(body: bytearray) -> str:
    """Compute the Content-MD5 header of a body, which S3 checks; source: RFC 1864."""
    return b64encode(_md5(body)).decode()


def _md5(body: bytes | bytearray) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


class Multipart:
    """One multipart upload. One thread calls it; its parts go up by others.

    Attributes:
        id: S3's name for it; "" before it begins and after it is complete.
    """

    def __init__(self, target: ObjectKey, part_threads: int) -> None:
        """Prepare an upload; nothing is asked of S3 yet.

        Args:
            target: The key of the object.
            part_threads: How many parts go up at once.
        """
        self.id = ""
        self._target = target
        self._threads = part_threads
        self._under_way: LookAhead[None] = LookAhead(part_threads, name="upload")
        self._etags: dict[int, str] = {}  # by part number; "" while the part is under way
        self._sent_before: dict[int, SentPart] = {}

    @property
    def parts(self) -> int:
        """Number of parts so far, those under way included."""
        return len(self._etags)

    def begin(self) -> None:
        """Have S3 begin the upload. Ctrl-C waits for its id: without that nobody could abort it."""
        uninterrupted(self._begin)

    def _begin(self) -> None:
        answer = self._target.ask("create_multipart_upload", what="begin an upload")
        self.id = answer["UploadId"]

    def go_on_with(self, upload_id: str) -> None:
        """Go on with an upload that was interrupted: parts that S3 has with the same bytes are not sent again."""
        self.id = upload_id
        self._sent_before = list_parts(self._target, upload_id)

    def send(self, part: bytearray) -> None:
        """Have the next part sent; waits while as many are under way as there are threads."""
        self._hand_over(self._send, part)

    def copy(self, source: S3Store, start: int, end: int) -> None:
        """Have S3 copy the bytes start to end of an object as the next part, which is not fetched."""
        self._hand_over(self._copy, source, start, end)

    def _hand_over(self, work: Callable[..., None], *arguments: Any) -> None:
        number = self.parts + 1
        # the number is entered before the part is sent: S3 wants parts in ascending order (InvalidPartOrder)
        self._etags[number] = ""
        self.settle(self._threads - 1)
        self._under_way.submit(work, number, *arguments)

    def settle(self, under_way_max: int = 0) -> None:
        """Wait until at most so many parts are under way; raise the first failure."""
        while len(self._under_way) > under_way_max:
            self._under_way.pop()

    def _send(self, number: int, part: bytearray) -> None:
        before = self._sent_before.get(number)
        # an ETag that is not the MD5 (SSE-KMS makes such) never matches, and the part is sent again
        if before and before.size == len(part) and _bare(before.etag) == _md5(part).hex():
            self._etags[number] = before.etag
            return
        answer = self._target.ask(
            "upload_part",
            what=f"upload part {number}",
            UploadId=self.id,
            PartNumber=number,
            Body=part,
            ContentMD5=content_md5(part),
        )
        self._etags[number] = answer["ETag"]

    def _copy(self, number: int, source: S3Store, start: int, end: int) -> None:
        answer = self._target.ask(
            "upload_part_copy",
            what=f"copy bytes {start} to {end} of {source.url}",
            UploadId=self.id,
            PartNumber=number,
            CopySource={"Bucket": source.bucket, "Key": source.key},
            CopySourceIfMatch=source.version,  # else parts of two versions could be joined
            CopySourceRange=f"bytes={start}-{end - 1}",
        )
        self._etags[number] = answer["CopyPartResult"]["ETag"]

    def complete(self, conditions: dict[str, str]) -> str:
        """Have S3 join the parts, all of which are there, to the object.

        Args:
            conditions: IfMatch or IfNoneMatch, perhaps.

        Returns:
            The object's ETag.

        Raises:
            BlobChangedError: a condition is not met.
            StorageError: S3 refused or could not be reached.
        """
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in self._etags.items()]
        try:
            answer = self._target.ask(
                "complete_multipart_upload",
                what="complete the upload",
                UploadId=self.id,
                MultipartUpload={"Parts": parts},
                **conditions,
            )
        except StorageError:
            # if the first answer got lost, boto3 asked again, and S3 found no such upload any more
            if not self._is_there():
                raise
            answer = {}
        self.id = ""  # from here on there is nothing to abort
        # Ceph RGW 16 answers with an empty ETag, and RGW 18 with one without quotes. Readers compare with HEAD's.
        etag: str = answer.get("ETag", "")
        return etag if etag.endswith('"') else self._head_etag()

    def _head_etag(self) -> str:
        etag: str = self._target.head(what="look at the object")["ETag"]
        return etag

    def _is_there(self) -> bool:
        """Return whether the object was made of these parts: its ETag is then the MD5 of their MD5s."""
        try:
            digests = b"".join(bytes.fromhex(_bare(etag)) for etag in self._etags.values())
            found = self._head_etag()
        except (StorageError, ValueError):
            return False
        return _bare(found) == f"{_md5(digests).hex()}-{self.parts}"

    def abort(self) -> None:
        """Have S3 delete the parts, if there are any. Ctrl-C waits for that.

        Raises:
            StorageError: S3 refused or could not be reached.
        """
        if self.id:
            uninterrupted(partial(abort_upload, self._target, self.id))

    def stop(self) -> None:
        """Wait for the threads, and have no more parts begun."""
        self._under_way.close()


def _bare(etag: str) -> str:
    return etag.strip('"')
