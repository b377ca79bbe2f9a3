"""A blob in S3: boto3 signs a GET of the object, and our own connections send it.

Strategy: boto3 decides on credentials and their refresh, profile, region, endpoint, addressing and certificates. The
GET that it signs is sent again for each range, with its own Range header; see signing.py. It is signed again each
minute, and when S3 answers 403. On our connections a GET takes a twentieth to a seventieth of the processor time that
boto3 takes for it.

Some requests our connections can't send, and boto3 does: those for access points, for S3 Express or through proxies
that are not http://, and all requests for an object after S3 answered 403 twice. `Stats` says so, and why.
BLOBPACK_S3=boto3 sends every request through boto3. After 301, 307 or 400 boto3 reads the range, too: it finds the bucket's region, or credentials
that have not expired. Then it signs again, and our connections send the next request.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from blobpack.errors import StorageError
from blobpack.stores.http.etag import check_opened
from blobpack.stores.http.ranged import RangedStore
from blobpack.stores.http.response import describe_attempts
from blobpack.stores.location import Location
from blobpack.stores.s3 import boto3_get, signing
from blobpack.stores.s3.bucket import ObjectKey
from blobpack.stores.s3.signing import NeedsBoto3Error

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from blobpack.stores.http.ranged import RangedGet
    from blobpack.stores.http.response import Response
    from blobpack.stores.s3.signing import Signatures
    from blobpack.stores.stats import Counters

log = logging.getLogger(__name__)

# S3 answers 301 or 307 if the bucket is in another region, and 400 to a token that has expired.
MISDIRECTED = (301, 307, 400)


class MisdirectedError(NeedsBoto3Error):
    """The request went to the wrong region, or with an expired token; boto3 may find the right ones.

    Attributes:
        ranged_get: The GET that was misdirected.
    """

    def __init__(self, message: str, ranged_get: RangedGet) -> None:
        super().__init__(message)
        self.ranged_get = ranged_get


class S3Store(RangedStore):
    """A blob that is an object in S3, pinned to the version found when it was opened.

    Attributes:
        bucket: The bucket's name.
        key: The object's key.
    """

    location: Location

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        size: int | None = None,
        version: str | None = None,
        tail_bytes: int = 0,
        signatures: Signatures | None = None,
        counters: Counters | None = None,
    ) -> None:
        """Open an object.

        Args:
            url: s3://bucket/key.
            size: Size in bytes, if a listing or an index knows it. Then no request is sent, and size and version are
                believed until a read finds them wrong. None: ask S3 for size and ETag.
            version: ETag that the object must have; None accepts any.
            tail_bytes: Number of last bytes to fetch in the opening request, and to keep for peek.
            signatures: Signs for many objects that are read once each. None: boto3 signs for this object.
            counters: Counts the requests; None: new counters.

        Raises:
            BlobNotFoundError: no such bucket or key.
            BlobChangedError: the object has another ETag.
            StorageError: S3 refused or could not be reached.
            ValueError: this is not an s3:// URL.
        """
        super().__init__()
        if counters is not None:
            self.counters = counters
        self.location = Location.parse(url)
        self.url = self.location.text
        self.object_key = ObjectKey.at(self.location, self.counters)
        self.bucket, self.key = self.object_key.bucket.name, self.object_key.key
        self._signatures = signatures
        # why reads go through boto3; None while they use our own connections
        self._boto3_reason: NeedsBoto3Error | None = None
        self._ranged_get: RangedGet | None = None
        self._signed_again: RangedGet | None = None
        self._signed_after_boto3: RangedGet | None = None
        # A HEAD for each object would double the requests when the objects of a listing are packed.
        if size is not None:
            self.size, self.version = size, version or ""
            return
        self._open(tail_bytes)
        check_opened(self.url, self.version, version)

    def _open(self, tail_bytes: int) -> None:
        """Ask for size and ETag, and fetch the last bytes in the same request if tail_bytes is not 0."""
        # A GET of the last bytes tells size and ETag, too: one round trip less than a HEAD and a GET.
        tail = boto3_get.fetch_tail(self.object_key, tail_bytes) if tail_bytes else None
        if tail is not None:
            self.size, self.version, self.tail = tail
            return
        head = self.object_key.head(what="open")
        if "ContentLength" not in head:
            raise StorageError(f"{self.url}: can't open: the server does not tell its size")
        self.size, self.version = head["ContentLength"], head["ETag"]

    def ranged_get(self) -> RangedGet:
        """Return the signed GET; sign again if the signature is a minute old."""
        ranged_get = self._ranged_get
        if ranged_get is None and self._signatures is not None:
            ranged_get = self._ranged_get = self._signatures.ranged_get_of(
                self.object_key, self.version
            )
        elif ranged_get is None or time.monotonic() - ranged_get.made_at > signing.SIGNED_FOR_S:
            ranged_get = self._ranged_get = self._sign()
        return ranged_get

    def _sign(self) -> RangedGet:
        return signing.sign(self.object_key, self.version)

    def fetch(self, start: int, end: int) -> bytes:
        """Read the bytes start to end with one ranged GET, which is sent again after faults that may pass."""
        if self._boto3_reason is None:
            try:
                return super().fetch(start, end)
            except MisdirectedError as exc:
                if exc.ranged_get is not self._signed_after_boto3:
                    return self._fetch_misdirected(start, end, exc)
                # boto3 has signed again since, and that request was misdirected, too
                reason = self._leave_to_boto3(exc)
            except NeedsBoto3Error as exc:
                reason = self._leave_to_boto3(exc)
        else:
            reason = self._boto3_reason
        return self._fetch_by_boto3(start, end, reason)

    def _fetch_by_boto3(self, start: int, end: int, reason: NeedsBoto3Error) -> bytes:
        self.counters.count_boto3(str(reason))
        return boto3_get.fetch(self.object_key, self.size, self.version, start, end)

    def _fetch_misdirected(self, start: int, end: int, reason: MisdirectedError) -> bytes:
        """Read through boto3, which finds the right region or credentials, and sign again with them."""
        content = self._fetch_by_boto3(start, end, reason)
        try:
            self._ranged_get = self._signed_after_boto3 = self._sign()
        except NeedsBoto3Error as exc:
            self._leave_to_boto3(exc)
        return content

    def _leave_to_boto3(self, reason: NeedsBoto3Error) -> NeedsBoto3Error:
        self._boto3_reason = reason
        log.debug("%s: reads go through boto3: %s", self.url, reason)
        return reason

    def handle(
        self, response: Response, ranged_get: RangedGet, start: int, end: int, attempt: int
    ) -> None:
        """Sign again after the first 403, leave what boto3 may solve to boto3, or raise the error."""
        # A 403 may mean that the signature has expired. A signature that was just made has not.
        latest = self._ranged_get
        if response.status == 403 and (
            ranged_get is not latest or latest is not self._signed_again
        ):
            # Another thread may have signed again already. Its signature must get a try before boto3 takes over.
            if ranged_get is latest:
                self._ranged_get = self._signed_again = self._sign()
            self.counters.count_retried()
            return
        reason = f"HTTP {response.status}, {describe_attempts(attempt, response.request_id)}"
        if response.status in MISDIRECTED:
            raise MisdirectedError(reason, ranged_get)
        if response.status == 403:
            raise NeedsBoto3Error(reason)
        self.raise_for(response, f"read bytes {start} to {end}", attempt)

    def __reduce__(self) -> tuple[Callable[..., S3Store], tuple[Location, str]]:
        # with the account, and without credentials
        return _reopen_s3_store, (self.location, self.version)


def _reopen_s3_store(location: Location, version: str) -> S3Store:
    return S3Store(location, version=version)
