"""Blobs behind http:// and https:// URLs, read by ranged GETs.

Strategy: one GET of the last bytes opens the blob. It follows redirects, and its response tells size, version and
whether the server supports ranges. Reads go straight to the URL where the redirects ended. If that URL moves, or is a
signed URL that expires, the redirects are followed again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, StorageError
from blobpack.stores.base import to_http_range
from blobpack.stores.http.etag import check_opened
from blobpack.stores.http.pool import pool_of
from blobpack.stores.http.ranged import RangedGet, RangedStore, fault_of, if_match, last_error
from blobpack.stores.http.redirect import redirect_target
from blobpack.stores.http.request import split_http
from blobpack.stores.http.response import (
    CONTENT_RANGE,
    TRANSIENT,
    Response,
    describe_attempts,
    says_expired,
)
from blobpack.stores.http.retry import Fault, Retries, UnreachableFault
from blobpack.stores.location import Location

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from blobpack.stores.http.pool import Pool
    from blobpack.stores.stats import Counters

REDIRECTS = (301, 302, 303, 307, 308)
# Statuses with which servers ignore or refuse a range of the last bytes: 400 Azure Blob, 416 and 501 others.
NO_SUFFIX = (200, 400, 405, 416, 501)
# Redirects that are followed at most: they may form a loop.
REDIRECTS_MAX = 5
# If a URL found less than a second ago is refused, the refusal is final. Otherwise a server that refuses every URL
# would be asked forever.
RELOCATED_S = 1.0


class HttpStore(RangedStore):
    """A blob behind an http:// or https:// URL, on a server that supports ranged GETs.

    Attributes:
        is_pinned: The server names versions of the blob by ETag or Last-Modified. If it does not, a changed blob is
            noticed only by its size.
    """

    location: Location

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        version: str | None = None,
        tail_bytes: int = 0,
        counters: Counters | None = None,
    ) -> None:
        """Open a blob by a GET of its last bytes.

        Args:
            url: http:// or https:// URL.
            version: Version that the blob must have; None accepts any.
            tail_bytes: Number of last bytes to keep for peek.
            counters: Count the requests; None: new counters.

        Raises:
            BlobNotFoundError: the server has no such blob.
            BlobChangedError: the blob has another version.
            StorageError: the server refused, does not support ranges, or could not be reached.
            ValueError: the URL is of another kind, names a user, or names no host.
        """
        super().__init__(counters)
        # Ranges that were asked for again because the server said that the request had expired.
        self._asked_again: set[tuple[int, int]] = set()
        self.location = Location.parse(url)
        self.url = self.location.text
        self._locate(tail_bytes, version)

    def _locate(self, tail_bytes: int, version: str | None) -> None:
        """Follow redirects to the blob, and find its size and version."""
        target = self.location.whole
        for followed in range(REDIRECTS_MAX + 1):
            # A range of the last bytes also tells the size. Without a tail, one byte is enough for that.
            response = self._send_opening(target, f"bytes=-{tail_bytes or 1}")
            if response.status not in REDIRECTS:
                break
            if followed == REDIRECTS_MAX:
                raise StorageError(
                    f"{self.url}: can't open: the server redirects more than {REDIRECTS_MAX} times"
                )
            target = redirect_target(
                target, response.headers.get(b"location", b"").decode("latin-1")
            )
        # An empty blob has no last bytes, so a server may answer 416. Others ignore or refuse a range of the last bytes.
        if response.status in NO_SUFFIX and not response.has_range and not response.is_empty:
            response = self._ask_for_last_bytes(target, tail_bytes or 1) or response
        found = CONTENT_RANGE.fullmatch(response.headers.get(b"content-range", b""))
        if response.has_range and found is not None and found[3].isdigit():
            self._pin(target, int(found[3]), response, version)
            start, end = int(found[1]), int(found[2]) + 1
            # Some servers answer a suffix range with other bytes; s3rver sends one byte too many.
            is_tail = end == self.size and end - start == len(response.body)
            self.tail = response.body if tail_bytes and is_tail else b""
            return
        if response.status != 200:
            self.raise_for(response, "open", 1)
        if response.is_empty:
            self._pin(target, 0, response, version)
            return
        raise StorageError(
            f"{self.url}: the server answered with a web page, and not with the file"
            if response.is_web_page
            else f"{self.url}: the server does not support ranged requests: it sent the whole file; "
            f"download the file, and open it"
        )

    def _ask_for_last_bytes(self, target: str, count: int) -> Response | None:
        """Ask for the size by a HEAD, and then for the last bytes by their positions.

        Returns:
            The response to the HEAD if the blob is empty; None if the server does not tell the size.
        """
        head = self._send_opening(target, None)
        length = head.headers.get(b"content-length", b"")
        if head.status != 200 or not length.isdigit():
            return None
        size = int(length)
        return (
            self._send_opening(target, to_http_range(max(0, size - count), size)) if size else head
        )

    def _pin(self, target: str, size: int, response: Response, version: str | None) -> None:
        """Set size and version from a response, and prepare the GETs that ask for this version."""
        etag = response.headers.get(b"etag", b"").decode("latin-1")
        modified = response.headers.get(b"last-modified", b"").decode("latin-1")
        found = etag or modified or f"{size} bytes"
        check_opened(self.url, found, version)
        self.size, self.version = size, found
        origin, begin = split_http(target, self.location)
        condition = if_match(etag)
        if modified and not etag:
            condition = f"If-Unmodified-Since: {modified}\r\n"
        self._by_etag = bool(etag)
        self.is_pinned = bool(etag or modified)
        self._redirected = target != self.location.whole
        head = f"GET {begin}{condition}Range: bytes=".encode("latin-1")
        version_line = f"ETag: {etag}" if etag else f"Last-Modified: {modified}"
        self._ranged_get = RangedGet(pool_of(origin), head, version_line)

    def _send_opening(self, target: str, wanted: str | None) -> Response:
        """Send a GET of a range, or a HEAD if the range is None; retry faults that may pass."""
        origin, begin = split_http(target, self.location)
        method, rest = ("GET", f"Range: {wanted}\r\n") if wanted else ("HEAD", "")
        request = f"{method} {begin}{rest}\r\n".encode("latin-1")
        pool = pool_of(origin)
        # Not patient: if the URL is mistyped, nothing may listen at its port. Nobody should wait a minute for that.
        retries = Retries(f"{self.url}: open", pool.budget, is_patient=False)
        has_expired = False
        while True:
            try:
                response = self._send_counted(pool, request, retries.timeout_s)
                # 200 is not retried, though TRANSIENT has it: a HEAD succeeds with it, and so does a GET of an empty
                # blob. In other cases it means that the server does not support ranges.
                if response.status in TRANSIENT and response.status != 200:
                    raise fault_of(response)
                if says_expired(*response.error) and not has_expired:
                    has_expired = True
                    self.counters.count_retried()
                    continue
            except Fault as fault:
                if not retries.may_retry(fault):
                    raise last_error(self.url, "open", fault, retries.failed) from fault.__cause__
                self.counters.count_retried()
            else:
                return response

    def _send_counted(self, pool: Pool, request: bytes, timeout_s: float) -> Response:
        """Send a request whose response may have any length, and count it."""
        fetched, began, was_sent = 0, time.perf_counter(), True
        try:
            response = pool.get(request, None, timeout_s)
            fetched = len(response.body) if response.status == 206 else 0
        # Without a connection there was no request.
        except (UnreachableFault, StorageError):
            was_sent = False
            raise
        finally:
            if was_sent:
                self.counters.count_request(fetched, fetched, time.perf_counter() - began)
        return response

    def ranged_get(self) -> RangedGet:
        """Return the GET that goes to where the redirects ended."""
        return self._ranged_get

    def check_version(self, response: Response, start: int, end: int, attempt: int) -> None:
        """Compare ETags; if the blob has none, compare Last-Modified."""
        if self._by_etag:
            super().check_version(response, start, end, attempt)
            return
        found = response.headers.get(b"last-modified", b"").decode("latin-1")
        if found and found != self.version:
            raise BlobChangedError(
                f"{self.url}: can't read bytes {start} to {end}: it was modified {found}, and "
                f"{self.version} when it was opened ({describe_attempts(attempt, response.request_id)})"
            )

    def handle(
        self, response: Response, ranged_get: RangedGet, start: int, end: int, attempt: int
    ) -> None:
        """Follow the redirects again if the blob has moved or its signed URL has expired; else raise the error."""
        moved = response.status in REDIRECTS or (response.status == 403 and self._redirected)
        # Another thread has followed the redirects meanwhile. Signed URLs expire for all threads at once.
        if moved and ranged_get is not self._ranged_get:
            return
        if moved and time.monotonic() - ranged_get.made_at > RELOCATED_S:
            self._locate(len(self.tail), self.version)
            return
        # One server of several may have a wrong clock. If the URL has really expired, the next response says so, too.
        if says_expired(*response.error) and (start, end) not in self._asked_again:
            self._asked_again.add((start, end))
            self.counters.count_retried()
            return
        self.raise_for(response, f"read bytes {start} to {end}", attempt)

    def __reduce__(self) -> tuple[Callable[..., HttpStore], tuple[Location, str]]:
        return _reopen_http_store, (self.location, self.version)


def _reopen_http_store(location: Location, version: str) -> HttpStore:
    return HttpStore(location, version=version)
