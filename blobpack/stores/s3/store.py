"""A blob in S3: boto3 signs a GET of the object, and ranged GETs take our own connections.

Strategy: boto3 decides who we are and where the bucket is (credentials and their refresh, profile, region, endpoint,
addressing, certificates). The GET that it signs is repeated with each Range and If-Match; see signing.py. It is signed
anew each minute, and when S3 answers 403.

What our connections don't do goes through boto3: a request that gets 403 twice, keys of the customer's (SSE-C),
requester pays, access points, proxies; BLOBPACK_S3=boto3 sends all of them there. After 301, 307 or 400, too, boto3
reads: it finds the bucket's region, or credentials that have not expired. Then it signs once more, and our connections
are tried again.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError
from blobpack.stores.http.ranged import RangedStore
from blobpack.stores.location import Location
from blobpack.stores.s3 import boto3_get, signing
from blobpack.stores.s3.bucket import Bucket, ObjectKey
from blobpack.stores.s3.signing import ThinPathError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from blobpack.stores.http.ranged import Place
    from blobpack.stores.http.response import Answer
    from blobpack.stores.s3.signing import Signatures
    from blobpack.stores.stats import Counters

log = logging.getLogger(__name__)

MISDIRECTED = (301, 307, 400)  # S3 answers 400 to an expired token, too


class MisdirectedError(ThinPathError):
    """The request went to a wrong region, or with a token that has expired; boto3 may find what is right.

    Attributes:
        place: Where it went.
    """

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


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
            size: Its bytes, if a listing or an index knows them: then nothing is asked, and the version is taken
                for granted. A read finds out if they are wrong. None asks for the object's size and ETag.
            version: The ETag it must have; None takes what is there.
            tail_bytes: Fetch so many of its last bytes in the same request, and keep them.
            signatures: Shared by objects that are read once each; None has boto3 sign for this one.
            counters: Count the requests; None counts them apart.

        Raises:
            BlobNotFoundError: no such bucket or key.
            BlobChangedError: it has another ETag.
            StorageError: S3 refused or could not be reached.
            ValueError: the URL is not one of S3.
        """
        super().__init__()
        if counters is not None:
            self.counters = counters
        self.location = Location.parse(url)
        self.url = self.location.text
        self.bucket, self.key = self.location.bucket, self.location.key
        self.object_key = ObjectKey(Bucket(self.bucket, self.counters), self.key)
        self._signatures = signatures
        self._is_thin = True
        self._place: Place | None = None
        self._signed_anew: Place | None = None
        self._signed_after_boto3: Place | None = None
        # a HEAD for each object would double the requests of packing what a listing found
        if size is not None:
            self.size, self.version = size, version or ""
            return
        self._open(tail_bytes)
        if version is not None and version != self.version:
            raise BlobChangedError(f"{url}: the object's ETag is {self.version}, not {version}")

    def _open(self, tail_bytes: int) -> None:
        """Ask for the size and ETag, together with the last bytes if these are wanted."""
        # a GET of the last bytes tells size and ETag, too: one round trip less than HEAD and GET
        tail = boto3_get.fetch_tail(self.object_key, tail_bytes) if tail_bytes else None
        if tail is not None:
            self.size, self.version, self.tail = tail
            return
        head = self.object_key.head(what="open")
        self.size, self.version = head["ContentLength"], head["ETag"]

    def place(self) -> Place:
        """Return the signed request, signed anew when it is a minute old."""
        place = self._place
        if place is None and self._signatures is not None:
            place = self._place = self._signatures.place_of(self.object_key, self.version)
        elif place is None or time.monotonic() - place.made_at > signing.SIGNED_FOR_S:
            place = self._place = self._sign()
        return place

    def _sign(self) -> Place:
        return signing.sign(self.object_key, self.version)

    def fetch(self, start: int, end: int) -> bytes:
        """Read the bytes start to end: one ranged GET, again if it fails in a way that may pass."""
        if self._is_thin:
            try:
                return super().fetch(start, end)
            except MisdirectedError as exc:
                if exc.place is not self._signed_after_boto3:
                    return self._fetch_misdirected(start, end)
                self._leave_to_boto3(exc)  # boto3's own signature was misdirected, too
            except ThinPathError as exc:
                self._leave_to_boto3(exc)
        return self._fetch_by_boto3(start, end)

    def _fetch_by_boto3(self, start: int, end: int) -> bytes:
        return boto3_get.fetch(self.object_key, self.version, start, end)

    def _fetch_misdirected(self, start: int, end: int) -> bytes:
        """Read through boto3, which learns from the answer, and sign as it does from then on."""
        content = self._fetch_by_boto3(start, end)
        try:
            self._place = self._signed_after_boto3 = self._sign()
        except ThinPathError as exc:
            self._leave_to_boto3(exc)
        return content

    def _leave_to_boto3(self, reason: ThinPathError) -> None:
        self._is_thin = False
        log.debug("%s: reads go through boto3: %s", self.url, reason)

    def handle(
        self, answer: Answer, place: Place, start: int, end: int, attempt: int
    ) -> bytes | None:
        """Sign anew on the first 403; leave to boto3 what it may solve; else raise what the status means."""
        # a 403 may mean that the signature has expired; one that was just made has not
        latest = self._place
        if answer.status == 403 and (place is not latest or latest is not self._signed_anew):
            if place is latest:  # else another thread has signed anew
                self._place = self._signed_anew = self._sign()
            self.counters.count_retried()
            return None
        reason = f"HTTP {answer.status}, request {answer.request}"
        if answer.status in MISDIRECTED:
            raise MisdirectedError(reason, place)
        if answer.status == 403:
            raise ThinPathError(reason)
        self.refuse_answer(answer, f"read bytes {start} to {end}", attempt)

    def __reduce__(self) -> tuple[Callable[..., S3Store], tuple[str, str]]:
        return _reopen, (self.url, self.version)


def _reopen(url: str, version: str) -> S3Store:
    return S3Store(url, version=version)
