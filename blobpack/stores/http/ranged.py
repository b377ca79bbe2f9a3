"""Ranged GETs, each checked, each sent again when that may help: S3 and HTTP read through this.

A GET asks for the version that was opened (If-Match), and the answer is believed only if it is a 206 of exactly
the range, the length and the version asked for.
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
from blobpack.stores.http.options import is_hedged
from blobpack.stores.http.response import (
    AS_EXPECTED,
    CONTENT_RANGE,
    GONE,
    TRANSIENT,
    Answer,
    after,
    described,
)
from blobpack.stores.http.retry import Fault, Trial, UnreachableFault
from blobpack.stores.stats import Counters

if TYPE_CHECKING:
    from blobpack.stores.http.pool import Pool

log = logging.getLogger(__name__)

PART_BYTES_MIN = 64 << 10  # of a body that was cut, less is fetched again


class Place:
    """Where a store's ranged GETs go, and what they begin with.

    Attributes:
        pool: Connections to the server.
        head: The request up to the numbers of its Range header.
        version_line: What right answers have among their headers.
        made_at: When, on the monotonic clock.
        series: Names the requests to Pool.take: the head, if a strong ETag tells the blob's answers from others.
    """

    __slots__ = ("head", "made_at", "pool", "series", "version_line")

    def __init__(self, pool: Pool, head: bytes, version_line: str) -> None:
        self.pool = pool
        self.head = head
        self.version_line = f"\r\n{version_line}\r\n".encode("latin-1")
        self.made_at = time.monotonic()
        self.series = head if version_line.startswith('ETag: "') else None


class RangedStore(Store):
    """A store that is read by ranged GETs; a subclass says where they go."""

    counters: Counters
    is_remote = True

    def __init__(self) -> None:
        self.counters = Counters()
        self._speed = SpeedEstimate()

    @property
    def latency_s(self) -> float:
        """Recent time from a small request to its answer; see Store."""
        return self._speed.latency_s

    @property
    def bytes_per_s(self) -> float:
        """Recent speed of long answers on one connection; see Store."""
        return self._speed.bytes_per_s

    @abstractmethod
    def place(self) -> Place:
        """Return where a GET goes now, and what it begins with."""

    @abstractmethod
    def handle(
        self, answer: Answer, place: Place, start: int, end: int, attempt: int
    ) -> bytes | None:
        """Handle an answer that is neither the range nor transient.

        Args:
            answer: What the server answered.
            place: Where the answer came from. Another thread may have found a better place meanwhile.
            start: Where the range begins that was asked for.
            end: Where it ends.
            attempt: Number of this attempt, counted from 1.

        Returns:
            The range, read in another way; or None to send the GET again.

        Raises:
            StorageError: the answer is final.
        """

    def fetch(self, start: int, end: int) -> bytes:
        """Read the bytes start to end: one ranged GET, again if it fails in a way that may pass.

        A long body that is cut is gone on with where it was cut.
        """
        trial: Trial | None = None
        parts: list[bytes] = []
        at = start
        while True:
            place = self.place()
            attempt = 1 if trial is None else trial.failed + 1
            try:
                answer = self._ask(place, at, end, trial)
                if answer.status == 206 and self._is_right(answer, at, end, attempt):
                    return answer.body if not parts else b"".join((*parts, answer.body))
                if answer.status == 200 and at == 0 and end == len(answer.body) == self.size:
                    self.check_version(answer, start, end, attempt)  # some say so of all there is
                    return answer.body
                if answer.status in TRANSIENT:
                    raise fault_of(answer)
            except Fault as fault:
                if fault.status == 206:
                    place.pool.forget()  # a connection may be an answer behind
                if trial is None:
                    trial = Trial(f"{self.url}: bytes {start} to {end}", place.pool.budget)
                if part := self._right_part(fault.part, at, end, attempt):
                    parts.append(part)
                    at += len(part)
                if not trial.may_retry(fault, has_progressed=bool(part)):
                    raise StorageError(
                        f"{self.url}: can't read bytes {start} to {end}: {fault} "
                        f"({after(trial.failed, fault.request)})"
                    ) from fault.__cause__
                self.counters.count_retried()
                continue
            body = self.handle(answer, place, start, end, attempt)
            if body is not None:
                return body

    def _ask(self, place: Place, start: int, end: int, trial: Trial | None) -> Answer:
        """Send one GET, and count it."""
        request = place.head + b"%d-%d\r\n\r\n" % (start, end - 1)
        wanted = end - start
        timeout_s = retry.TIMEOUT_S if trial is None else trial.timeout_s
        fetched, began, was_sent = 0, time.perf_counter(), True
        try:
            expected = (
                b"\r\nContent-Length: %d\r\n" % wanted,
                b"\r\nContent-Range: bytes %d-%d/%d\r\n" % (start, end - 1, self.size),
                place.version_line,
            )
            if is_hedged():
                count = self.counters.count_hedged
                answer = place.pool.get_hedged(
                    request, wanted, timeout_s, expected, place.series, count
                )
            else:
                answer = place.pool.get(request, wanted, timeout_s, expected, place.series)
            fetched = len(answer.body)
        except (UnreachableFault, StorageError):
            was_sent = False
            raise
        except Fault as fault:
            if fault.part is not None and len(fault.part.body) >= PART_BYTES_MIN:
                fetched = len(fault.part.body)
            raise
        finally:
            took = time.perf_counter() - began
            if was_sent:
                self.counters.count_request(fetched, fetched, took)
        if fetched == wanted:
            place.pool.budget.regain()
            self._speed.note(wanted, took - answer.connect_s)
        return answer

    def _is_right(self, answer: Answer, start: int, end: int, attempt: int) -> bool:
        """Check that a 206 is of the range, the length and the version asked for.

        Raises:
            BlobChangedError: it is of another version.
            Fault: it is of another range or length.
        """
        headers = answer.headers
        if headers is AS_EXPECTED:
            return True
        self.check_version(answer, start, end, attempt)
        if len(answer.body) != end - start:
            length = headers.get(b"content-length", b"? (chunked)").decode("latin-1")
            raise Fault(
                f"{length} bytes came instead of {end - start}", status=206, request=answer.request
            )
        self._check_place(answer, start, end, attempt)
        return True

    def _right_part(self, part: Answer | None, start: int, end: int, attempt: int) -> bytes:
        """Give what came of an answer that was cut, if the rest may be read behind it; else nothing.

        It must be long, and surely of the version that the rest will be of: a strong ETag tells.
        """
        if part is None or part.status != 206 or len(part.body) < PART_BYTES_MIN:
            return b""
        if self.version[:1] != '"' or part.headers.get(b"etag") != self.version.encode("latin-1"):
            return b""
        try:
            self._check_place(part, start, end, attempt)
        except Fault:
            return b""
        return part.body

    def _check_place(self, answer: Answer, start: int, end: int, attempt: int) -> None:
        """Check that a 206 says that it is of the range asked for.

        Raises:
            BlobChangedError: the blob has another size.
            Fault: it is of another range.
        """
        found = CONTENT_RANGE.fullmatch(answer.headers.get(b"content-range", b""))
        if found is None:
            raise Fault("it doesn't say which range came", status=206, request=answer.request)
        first, last, size = found.groups()
        if int(first) != start or int(last) != end - 1:
            raise Fault(
                f"bytes {int(first)} to {int(last) + 1} came", status=206, request=answer.request
            )
        if size != b"*" and int(size) != self.size:
            raise BlobChangedError(
                f"{self.url}: can't read bytes {start} to {end}: the blob has {int(size)} bytes, it had "
                f"{self.size} when it was opened ({after(attempt, answer.request)})"
            )

    def check_version(self, answer: Answer, start: int, end: int, attempt: int) -> None:
        """Compare the ETag of an answer, if it has one: a server may ignore If-Match.

        Raises:
            BlobChangedError: it is another.
        """
        found = answer.headers.get(b"etag")
        if found and found.decode("latin-1") != self.version:
            raise BlobChangedError(
                f"{self.url}: can't read bytes {start} to {end}: the object's ETag is "
                f"{found.decode('latin-1')}, it was {self.version} when it was opened "
                f"({after(attempt, answer.request)})"
            )

    def refuse_answer(self, answer: Answer, what: str, attempt: int) -> NoReturn:
        """Raise what a status means.

        Raises:
            BlobNotFoundError: 404 or 410.
            BlobChangedError: 412 or 416: it is no longer the one that was opened.
            StorageError: any other.
        """
        where = f"(HTTP {answer.status}, {after(attempt, answer.request)})"
        kind = GONE.get(answer.status, StorageError)
        if kind is BlobNotFoundError:
            raise BlobNotFoundError(f"{self.url}: can't {what}: there is no such blob {where}")
        if kind is BlobChangedError:
            raise BlobChangedError(
                f"{self.url}: can't {what}: the object is no longer the one that was opened {where}"
            )
        refused = StorageError(f"{self.url}: can't {what}: {described(answer)} {where}")
        refused.status = answer.status
        raise refused


def if_match(etag: str) -> str:
    """Write the header that asks for a version; "" where the ETag is weak, as some CDNs make it, or there is none.

    Source: RFC 9110, 13.1.1: If-Match takes strong ones only, so a weak one would always fail.
    """
    return f"If-Match: {etag}\r\n" if etag and not etag.startswith("W/") else ""


def fault_of(answer: Answer) -> Fault:
    """Make a fault of an answer after which another may be better."""
    return Fault(
        described(answer),
        status=answer.status,
        request=answer.request,
        retry_after_s=answer.retry_after_s,
    )
