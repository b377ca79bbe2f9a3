"""A multipart upload: several threads send its parts, or have S3 copy them, and S3 joins the parts at the end.

Source: Amazon S3 User Guide, "Uploading and copying objects using multipart upload", and its limits.
"""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from blobpack.errors import StorageError
from blobpack.look_ahead import LookAhead
from blobpack.stores.access.uploads import NO_PROPERTIES, Properties, explain_refusal
from blobpack.stores.http.etag import is_strong
from blobpack.stores.s3.answers import NOT_COPIED_STATUSES, attempts_in, is_unlisted
from blobpack.stores.s3.unfinished import SentPart, abort_lost, abort_upload, list_parts
from blobpack.threads import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stores.access.uploads import Properties
    from blobpack.stores.s3.bucket import ObjectKey
    from blobpack.stores.s3.store import S3Store

# Limits of S3: the largest copied part, the number of parts of an object.
COPY_BYTES_MAX = 5 << 30
PARTS_MAX = 10_000

# An upload holds five parts in memory: 40 MiB with this size.
UPLOAD_PART_BYTES = 8 << 20
PART_STEP_BYTES = 1 << 20
# Few large copies save requests. But the parts behind them are as large, and an upload holds five of these in memory.
COPIES_WANTED = 200
COPIED_PART_BYTES_MAX = 32 << 20
# If the size of an object is unknown, parts double after each thousand: 10,000 of them then hold 7.8 TiB.
EQUAL_PARTS = 1_000


def part_size(number: int, expected_bytes: int | None, least_bytes: int = UPLOAD_PART_BYTES) -> int:
    """Compute the size of a part of an object.

    All parts but the last have one size if the size of the object is known: Cloudflare R2 accepts no others.

    Args:
        number: Number of the part, counted from 1.
        expected_bytes: Largest size that the object will have; None if it is not known.
        least_bytes: Size of the first part at least.
    """
    if expected_bytes is None:
        return least_bytes << ((number - 1) // EQUAL_PARTS)
    needed = -(-expected_bytes // PARTS_MAX)
    return max(least_bytes, needed + -needed % PART_STEP_BYTES)


def copied_part_size(size: int, least_bytes: int) -> int:
    """Compute the size of parts that are copied from an object; the parts behind them have the same size.

    Args:
        size: Bytes that are copied. Less than 5,000 bytes of them do not fit into parts of this size, or all of them.
        least_bytes: Least size of a part.
    """
    wanted = max(COPIES_WANTED, size // COPIED_PART_BYTES_MAX)
    count = min(size // UPLOAD_PART_BYTES, wanted, PARTS_MAX // 2)
    count = min(max(1, count), size // least_bytes)
    return size // count if count else least_bytes


def content_md5(body: bytes | bytearray) -> str:
    """Compute the Content-MD5 header of a body.

    S3 compares it with the body that arrived, so a body damaged on the way is refused. Source: RFC 1864.
    """
    return b64encode(_md5(body)).decode()


def _md5(body: bytes | bytearray) -> bytes:
    # Python in FIPS mode refuses MD5 unless it is marked as not used for security.
    return hashlib.md5(body, usedforsecurity=False).digest()


class CantCopyError(StorageError):
    """The server can't copy parts of an object, or not of one version of it."""


class Multipart:
    """One multipart upload. One thread calls its methods; other threads send the parts.

    Attributes:
        id: The id that S3 gave to the upload; "" before it begins and after it is complete.
    """

    def __init__(
        self, target: ObjectKey, part_threads: int, properties: Properties = NO_PROPERTIES
    ) -> None:
        """Prepare an upload; no request is sent yet.

        Args:
            target: Key of the object.
            part_threads: Number of parts that are sent at once.
            properties: Properties of the object.
        """
        self._properties = properties
        self.id = ""
        self._target = target
        self._threads = part_threads
        self._under_way: LookAhead[None] = LookAhead(part_threads, name="upload")
        # By part number; "" while the part is being sent.
        self._etags: dict[int, str] = {}
        # By part number; empty unless the object has a checksum algorithm.
        self._checksums: dict[int, dict[str, str]] = {}
        self._sent_before: dict[int, SentPart] = {}

    @property
    def parts(self) -> int:
        """Number of parts so far, including those being sent."""
        return len(self._etags)

    def begin(self) -> None:
        """Have S3 begin the upload."""
        # Ctrl-C has to wait for the id: without it nobody could abort the upload.
        uninterrupted(self._begin)

    def _begin(self) -> None:
        began = time.monotonic()
        try:
            response = self._target.ask(
                "create_multipart_upload", what="begin an upload", **self._properties.of_upload()
            )
        except StorageError as exc:
            raise explain_refusal(exc, self._properties) from exc
        self.id = response["UploadId"]
        if attempts_in(response) > 1:
            abort_lost(self._target, self.id, timedelta(seconds=time.monotonic() - began))

    def resume(self, upload_id: str) -> None:
        """Resume an upload that was interrupted; parts that S3 already has with the same bytes are not sent again."""
        self.id = upload_id
        self._sent_before = list_parts(self._target, upload_id)

    def send(self, part: bytearray) -> None:
        """Send the next part in another thread; wait while all threads are busy."""
        self._hand_over(self._send, part)

    def copy(self, source: S3Store, start: int, end: int) -> None:
        """Have S3 copy the bytes start to end of an object as the next part, without fetching them."""
        self._hand_over(self._copy, source, start, end)

    def check_copy(self, source: S3Store, size: int) -> None:
        """Wait for the first copied part, and check its size, if the server lists parts.

        Raises:
            CantCopyError: the server can't copy parts, or has copied something else.
            StorageError: S3 refused or could not be reached.
        """
        self.settle(len(self._under_way) - 1)
        try:
            found = list_parts(self._target, self.id)
        except StorageError as exc:
            if is_unlisted(exc):
                return
            raise
        # Of a source that was uploaded in parts, Swift copies its list of parts, and not its bytes.
        if 1 in found and found[1].size != size:
            raise CantCopyError(
                f"{self._target.url}: the server has copied {found[1].size} bytes of {source.url} instead of {size}"
            )

    def restart(self) -> None:
        """Begin again without the parts that were sent or copied."""
        # Waits for the threads: a part that arrived later would replace one that follows.
        self._under_way.close()
        self._under_way = LookAhead(self._threads, name="upload")
        self._etags.clear()
        self._checksums.clear()
        # A new upload, because the server of rclone lets no part be sent twice. s3rver can't abort: there, the parts that
        # follow replace those of the same numbers.
        with suppress(StorageError):
            self.abort()
            self.begin()

    def _hand_over(self, work: Callable[..., None], *arguments: Any) -> None:
        number = self.parts + 1
        # Entered before the part is sent, so that the dict is in the order of the numbers: S3 refuses a list of parts
        # in another order (InvalidPartOrder).
        self._etags[number] = ""
        self.settle(self._threads - 1)
        self._under_way.submit(work, number, *arguments)

    def settle(self, under_way_max: int = 0) -> None:
        """Wait until at most so many parts are being sent; raise the first failure."""
        while len(self._under_way) > under_way_max:
            self._under_way.pop()

    def _send(self, number: int, part: bytearray) -> None:
        before = self._sent_before.get(number)
        # With SSE-KMS an ETag is not the MD5, never matches, and the part is sent again.
        if before and before.size == len(part) and _bare(before.etag) == _md5(part).hex():
            self._etags[number] = before.etag
            return
        response = self._target.ask(
            "upload_part",
            what=f"upload part {number}",
            UploadId=self.id,
            PartNumber=number,
            Body=part,
            ContentMD5=content_md5(part),
            **self._properties.checksum_of(part),
        )
        # The ETag of a part is its MD5. A server that sends none can only expect that one.
        self._keep(number, {"ETag": f'"{_md5(part).hex()}"'} | response)

    def _copy(self, number: int, source: S3Store, start: int, end: int) -> None:
        refused = CantCopyError(f"{self._target.url}: the server can't copy parts of {source.url}")
        if not is_strong(source.version):
            raise refused
        try:
            response = self._target.ask(
                "upload_part_copy",
                what=f"copy bytes {start} to {end} of {source.url}",
                UploadId=self.id,
                PartNumber=number,
                CopySource={"Bucket": source.bucket, "Key": source.key},
                # Without it, parts of two versions could be joined.
                CopySourceIfMatch=source.version,
                CopySourceRange=f"bytes={start}-{end - 1}",
            )
        except StorageError as exc:
            if exc.status in NOT_COPIED_STATUSES:
                raise refused from exc
            raise
        result = response.get("CopyPartResult", {})
        # The server of rclone does not know the operation, and stores an empty part.
        if not result.get("ETag"):
            raise refused
        self._keep(number, result)

    def _keep(self, number: int, result: dict[str, Any]) -> None:
        """Keep what CompleteMultipartUpload must say about a part."""
        self._etags[number] = result["ETag"]
        self._checksums[number] = self._properties.checksum_in(result)

    def complete(self, conditions: dict[str, str]) -> str:
        """Have S3 join the parts to the object; all parts must have been sent.

        Args:
            conditions: Arguments that Condition.guard adds.

        Returns:
            The object's ETag.

        Raises:
            BlobChangedError: a condition is not met.
            StorageError: S3 refused or could not be reached.
        """
        sent = [
            {"PartNumber": number, "ETag": etag, **self._checksums.get(number, {})}
            for number, etag in self._etags.items()
        ]
        etag = ""
        try:
            response = self._target.ask(
                "complete_multipart_upload",
                what="complete the upload",
                UploadId=self.id,
                MultipartUpload={"Parts": sent},
                **conditions,
            )
        except StorageError:
            # If the first response was lost, boto3 sent the request again, and S3 no longer knew the upload.
            if not self._is_there():
                raise
        else:
            etag = response.get("ETag", "")
        # Readers compare with the ETag of a HEAD. Ceph RGW 16 answers with an empty ETag, and RGW 18 with one without quotes.
        # With SSE-KMS, the ETag is no MD5. If the answer did not come from an S3 server, the HEAD finds no object.
        if etag != f'"{self._expected_etag()}"':
            etag = self._target.find_etag(etag)
        # From here on there is nothing to abort.
        self.id = ""
        return etag

    def _is_there(self) -> bool:
        """Return whether the object was made of these parts."""
        try:
            return _bare(self._target.find_etag()) == self._expected_etag()
        except StorageError:
            return False

    def _expected_etag(self) -> str:
        """Return the ETag of an object that is made of these parts: the MD5 of the MD5s of the parts; "" if unknown."""
        try:
            digests = b"".join(bytes.fromhex(_bare(etag)) for etag in self._etags.values())
        # with SSE-KMS, for example
        except ValueError:
            return ""
        return f"{_md5(digests).hex()}-{self.parts}"

    def abort(self) -> None:
        """Have S3 delete the parts, if there are any; Ctrl-C waits until it has.

        Raises:
            StorageError: S3 refused or could not be reached.
        """
        if self.id:
            uninterrupted(partial(abort_upload, self._target, self.id))

    def stop(self) -> None:
        """Cancel parts that no thread has begun, and wait for the others."""
        self._under_way.close()


def _bare(etag: str) -> str:
    return etag.strip('"')
