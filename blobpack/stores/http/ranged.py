"""Ranged GETs that are checked and retried; S3 and HTTP stores read through this module.

Strategy: each GET asks for the version that was opened (If-Match). A response is believed only if it has exactly the
range, the length and the version asked for, because servers and caches may ignore each of these headers. Its headers
decide, and not its status: some servers send the right range with status 200.
The usual response is compared with three expected header lines and never parsed. A long body that is cut is continued
at the cut: on a slow link, fetching all of it again might never succeed.
"""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, NoReturn

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.plan import SpeedEstimate
from blobpack.stores.base import Store
from blobpack.stores.http import retry
from blobpack.stores.http.etag import differ, is_strong, with_quotes
from blobpack.stores.http.options import is_hedged
from blobpack.stores.http.response import (
    AS_EXPECTED,
    CONTENT_RANGE,
    GONE,
    TRANSIENT,
    Response,
    describe_attempts,
    describe_error,
)
from blobpack.stores.http.retry import Fault, Retries, UnreachableFault
from blobpack.stores.stats import Counters

if TYPE_CHECKING:
    from blobpack.stores.http.pool import Pool

log = logging.getLogger(__name__)

# If less than this came before a body was cut, the range is fetched again from its start. Progress resets the count of
# attempts, so with a smaller limit a server that sends a few bytes at a time could keep a read going for very long.
CONTINUED_BYTES_MIN = 64 << 10


class RangedGet:
    """A GET of a blob up to the numbers of its Range header, and the server that it goes to.

    Attributes:
        pool: Connections to the server.
        head: The bytes of the request, up to and including "Range: bytes=".
        version_line: The header line by which a right response names the version, with the line ends on both sides.
        made_at: Time at which this was made, by the monotonic clock.
        series: The series that its requests belong to; see Pool.take.
    """

    __slots__ = ("head", "made_at", "pool", "series", "version_line")

    def __init__(self, pool: Pool, head: bytes, version_line: str) -> None:
        self.pool = pool
        self.head = head
        self.version_line = f"\r\n{version_line}\r\n".encode("latin-1")
        self.made_at = time.monotonic()
        # In a series, a response to another request must be noticed. A weak ETag or Last-Modified may stay the same
        # when the bytes change (RFC 9110, 8.8.1), so they do not count.
        self.series = head if version_line.startswith('ETag: "') else None


class RangedStore(Store):
    """A store that reads by ranged GETs. A subclass makes the RangedGet and handles unusual responses."""

    counters: Counters
    is_remote = True

    def __init__(self, counters: Counters | None = None) -> None:
        self.counters = counters or Counters()
        self._speed = SpeedEstimate()

    @property
    def latency_s(self) -> float:
        """Recent time from a small request to its response; see Store."""
        return self._speed.latency_s

    @property
    def bytes_per_s(self) -> float:
        """Recent speed of long responses on one connection; see Store."""
        return self._speed.bytes_per_s

    def forget(self, start: int, end: int) -> bool:
        """Drop these bytes from the tail; return True, because only this answer may have been damaged. See Store."""
        super().forget(start, end)
        return start < end

    @abstractmethod
    def ranged_get(self) -> RangedGet:
        """Return the GET to send now."""

    @abstractmethod
    def handle(
        self, response: Response, ranged_get: RangedGet, start: int, end: int, attempt: int
    ) -> None:
        """Handle a response that is neither the range nor transient; after that, the GET is sent again.

        Args:
            response: The response.
            ranged_get: The GET that was sent. Another thread may have made a newer one meanwhile.
            start: Start of the requested range.
            end: End of the requested range.
            attempt: Number of this attempt, counted from 1.

        Raises:
            StorageError: another attempt would not help.
        """

    def fetch(self, start: int, end: int) -> bytes:
        """Read the bytes start to end with one ranged GET, which is sent again after faults that may pass."""
        # Nearly every read succeeds at once, so the retries are created at the first fault.
        retries: Retries | None = None
        parts: list[bytes] = []
        at = start
        while True:
            ranged_get = self.ranged_get()
            attempt = 1 if retries is None else retries.failed + 1
            try:
                response = self._send(ranged_get, at, end, retries)
                if response.has_range:
                    self._check_response(response, at, end, attempt)
                    return response.body if not parts else b"".join((*parts, response.body))
                # Some servers answer a range that is the whole blob with 200, which RFC 9110, 14.2, allows.
                if response.status == 200 and at == 0 and end == len(response.body) == self.size:
                    self.check_version(response, start, end, attempt)
                    return response.body
                if response.status in TRANSIENT:
                    raise fault_of(response)
            except Fault as fault:
                # A 206 with wrong bytes may answer an earlier request. Other connections may have the same problem.
                if fault.status == 206:
                    ranged_get.pool.close_idle()
                if retries is None:
                    retries = Retries(f"{self.url}: bytes {start} to {end}", ranged_get.pool.budget)
                if part := self._usable_part(fault.part, at, end, attempt):
                    parts.append(part)
                    at += len(part)
                if not retries.may_retry(fault, has_progressed=bool(part)):
                    what = f"read bytes {start} to {end}"
                    raise last_error(self.url, what, fault, retries.failed) from fault.__cause__
                self.counters.count_retried()
                continue
            self.handle(response, ranged_get, start, end, attempt)

    def _send(
        self, ranged_get: RangedGet, start: int, end: int, retries: Retries | None
    ) -> Response:
        """Send one GET, and count it."""
        request = ranged_get.head + b"%d-%d\r\n\r\n" % (start, end - 1)
        body_bytes = end - start
        timeout_s = retry.TIMEOUT_S if retries is None else retries.timeout_s
        fetched, began, was_sent = 0, time.perf_counter(), True
        try:
            expected_lines = (
                b"\r\nContent-Length: %d\r\n" % body_bytes,
                b"\r\nContent-Range: bytes %d-%d/%d\r\n" % (start, end - 1, self.size),
                ranged_get.version_line,
            )
            if is_hedged():
                count = self.counters.count_hedged
                response = ranged_get.pool.get_hedged(
                    request, body_bytes, timeout_s, expected_lines, ranged_get.series, count
                )
            else:
                response = ranged_get.pool.get(
                    request, body_bytes, timeout_s, expected_lines, ranged_get.series
                )
            fetched = len(response.body)
        # Without a connection there was no request, and nothing to pay for.
        except (UnreachableFault, StorageError):
            was_sent = False
            raise
        except Fault as fault:
            # Bytes that fetch will throw away are not counted as fetched.
            if fault.part is not None and len(fault.part.body) >= CONTINUED_BYTES_MIN:
                fetched = len(fault.part.body)
            raise
        finally:
            took = time.perf_counter() - began
            if was_sent:
                self.counters.count_request(fetched, fetched, took)
        if fetched == body_bytes:
            ranged_get.pool.budget.regain()
            # Without the time to connect: plans of batches weigh a request on an open connection against a gap.
            self._speed.note(body_bytes, took - response.connect_s)
        return response

    def _check_response(self, response: Response, start: int, end: int, attempt: int) -> None:
        """Check that a 206 has the range, the length and the version asked for.

        Raises:
            BlobChangedError: the response is of another version.
            Fault: the response has another range or length.
        """
        headers = response.headers
        if headers is AS_EXPECTED:
            return
        self.check_version(response, start, end, attempt)
        if len(response.body) != end - start:
            length = headers.get(b"content-length", b"? (chunked)").decode("latin-1")
            raise Fault(
                f"{length} bytes came instead of {end - start}",
                status=206,
                request_id=response.request_id,
            )
        self._check_range(response, start, end, attempt)

    def _usable_part(self, part: Response | None, start: int, end: int, attempt: int) -> bytes:
        """Return the bytes of a response that was cut, if reading can continue behind them; else b""."""
        if part is None or not part.has_range or len(part.body) < CONTINUED_BYTES_MIN:
            return b""
        # Parts may be combined only if a strong ETag shows that they are of one version (RFC 9110, 15.3.7.3).
        if self.version[:1] != '"' or with_quotes(part.etag) != self.version:
            return b""
        try:
            self._check_range(part, start, end, attempt)
        except Fault:
            return b""
        return part.body

    def _check_range(self, response: Response, start: int, end: int, attempt: int) -> None:
        """Check that the Content-Range of a 206 is the range asked for.

        The length alone is not enough: servers have sent another range of the same length.

        Raises:
            BlobChangedError: the blob has another size.
            Fault: the response has another range, or does not name its range.
        """
        found = CONTENT_RANGE.fullmatch(response.headers.get(b"content-range", b""))
        if found is None:
            raise Fault(
                "the response doesn't say which range it holds",
                status=206,
                request_id=response.request_id,
            )
        first, last, size = found.groups()
        if int(first) != start or int(last) != end - 1:
            raise Fault(
                f"bytes {int(first)} to {int(last) + 1} came instead of {start} to {end}",
                status=206,
                request_id=response.request_id,
            )
        # "*" means that the server does not know the size (RFC 9110, 14.4).
        if size != b"*" and int(size) != self.size:
            raise BlobChangedError(
                f"{self.url}: can't read bytes {start} to {end}: the blob has {int(size)} bytes, it had "
                f"{self.size} when it was opened ({describe_attempts(attempt, response.request_id)})"
            )

    def check_version(self, response: Response, start: int, end: int, attempt: int) -> None:
        """Compare the ETag of a response, if it has one, with the version that was opened.

        A server may ignore If-Match; s3rver is one of them.

        Raises:
            BlobChangedError: the ETag is another one.
        """
        if differ(response.etag, self.version):
            raise BlobChangedError(
                f"{self.url}: can't read bytes {start} to {end}: the object's ETag is {response.etag}, it was "
                f"{self.version} when it was opened ({describe_attempts(attempt, response.request_id)})"
            )

    def raise_for(self, response: Response, what: str, attempt: int) -> NoReturn:
        """Raise the error that a status means.

        Raises:
            BlobNotFoundError: the status is 404 or 410.
            BlobChangedError: the status is 412 or 416: the blob is no longer the one that was opened.
            StorageError: any other status.
        """
        where = f"(HTTP {response.status}, {describe_attempts(attempt, response.request_id)})"
        kind = GONE.get(response.status, StorageError)
        described = describe_error(response)
        if kind is BlobNotFoundError:
            described = "there is no such blob"
        if kind is BlobChangedError:
            described = "the object is no longer the one that was opened"
        error = kind(f"{self.url}: can't {what}: {described} {where}")
        error.status = response.status
        raise error


def if_match(etag: str) -> str:
    """Return the If-Match header line that asks for a version; "" if the ETag is weak or empty.

    Source: RFC 9110, 13.1.1: If-Match compares strongly, so a weak ETag, as some CDNs send it, would always fail.
    """
    return f"If-Match: {etag}\r\n" if is_strong(etag) else ""


def fault_of(response: Response) -> Fault:
    """Return the fault that a transient status means."""
    return Fault(
        describe_error(response),
        status=response.status,
        request_id=response.request_id,
        retry_after_s=response.retry_after_s,
    )


def last_error(url: str, what: str, fault: Fault, attempts: int) -> StorageError:
    """Return the error for the fault of the last attempt."""
    error = StorageError(
        f"{url}: can't {what}: {fault} ({describe_attempts(attempts, fault.request_id)})"
    )
    # if the body was cut or wrong, the status was one of success
    error.status = fault.status if fault.status >= 400 else 0
    return error
