"""Blobs behind HTTP: ranged GETs, each checked, each sent again when that may help. S3 reads through this, too.

A GET asks for the version that was opened (If-Match), and the answer is believed only if it is a 206 of exactly
the range, the length and the version asked for.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, urljoin, urlsplit

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stats import Counters
from blobpack.stores import retries
from blobpack.stores.base import StoreBase
from blobpack.stores.connections import AS_EXPECTED, Answer, Origin, pool_of
from blobpack.stores.hedging import is_hedged
from blobpack.stores.retries import Fault, Trial, UnreachableFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stats import Stats
    from blobpack.stores.connections import Pool

log = logging.getLogger(__name__)

REDIRECTS = (301, 302, 303, 307, 308)
REDIRECTS_MAX = 5
TRANSIENT = (200, 408, 425, 429, 500, 502, 503, 504)  # 200: a cache that ignored the range
GONE = {
    404: BlobNotFoundError,
    410: BlobNotFoundError,
    412: BlobChangedError,
    416: BlobChangedError,
}
SAFE_IN_TARGETS = "/?&=%:@!$'()*+,;~[]-._"
CONTENT_RANGE = re.compile(rb"bytes (\d+)-(\d+)/(\d+|\*)")
ERROR_CODE = re.compile(rb"<Code>([^<]*)</Code>(?:\s*<Message>([^<]*)</Message>)?")
PART_BYTES_MIN = 64 << 10  # of a body that was cut, less is fetched again
SMALL_BYTES = 64 << 10  # an answer of this tells the latency, a longer one the bandwidth
SMOOTHING = 0.1
RELOCATED_S = 1.0  # a place found later than this ago isn't looked for again


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


class RangedStore(StoreBase):
    """What stores that are read by ranged GETs do alike; a subclass says where they go.

    Attributes:
        latency_s: Until the answer to a small request has come by a connection, lately; 0 before the first.
        bytes_per_s: How fast long bodies came, lately, on one connection; 0 before the first.
    """

    is_remote = True

    def __init__(self) -> None:
        self.counters = Counters()
        self.latency_s = 0.0
        self.bytes_per_s = 0.0

    @property
    def stats(self) -> Stats:
        """What reading it has cost until now."""
        return self.counters.snapshot()

    def place(self) -> Place:
        """Say where a GET goes now."""
        raise NotImplementedError

    def handle(
        self, answer: Answer, place: Place, start: int, end: int, attempt: int
    ) -> bytes | None:
        """Deal with an answer that is neither the range nor transient: read another way, raise, or None: again.

        Args:
            answer: What came.
            place: Where it came from; another thread may have found a better one meanwhile.
            start: Of the range that was asked for.
            end: The same.
            attempt: The how manieth this was.
        """
        raise NotImplementedError

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
        timeout_s = retries.TIMEOUT_S if trial is None else trial.timeout_s
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
            took -= answer.connect_s
            if wanted <= SMALL_BYTES:
                self.latency_s += (took - self.latency_s) * (SMOOTHING if self.latency_s else 1)
            else:
                rate = wanted / max(took - self.latency_s, 1e-6)
                self.bytes_per_s += (rate - self.bytes_per_s) * (
                    SMOOTHING if self.bytes_per_s else 1
                )
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


def after(attempts: int, request: str) -> str:
    """Say how often it was tried, and the server's name for the last request."""
    return f"after {attempts} attempt{'s' * (attempts > 1)}, request {request}"


def described(answer: Answer) -> str:
    """Say what a refusal says of itself: S3's code and message, or its status; of a 200, what came."""
    if answer.status == 200:
        length = answer.headers.get(b"content-length", b"an unknown number of").decode("latin-1")
        return f"all {length} bytes came instead of a range: the server ignored it"
    code = ERROR_CODE.search(answer.body)
    if code is None:
        return f"HTTP status {answer.status}"
    said = [part.decode("utf-8", "replace") for part in code.groups() if part]
    return ": ".join(said)


def fault_of(answer: Answer) -> Fault:
    """Make a fault of an answer after which another may be better."""
    return Fault(
        described(answer),
        status=answer.status,
        request=answer.request,
        retry_after_s=answer.retry_after_s,
    )


class HttpStore(RangedStore):
    """A blob behind a public http:// or https:// URL, on a server that answers ranged GETs.

    Attributes:
        is_pinned: The server tells its versions apart; else nothing but its size does.
    """

    def __init__(self, url: str, *, version: str | None = None, tail_bytes: int = 0) -> None:
        """Learn its size and version from a GET of its last bytes.

        Args:
            url: http:// or https://.
            version: What it must have; None takes what is there.
            tail_bytes: Keep so many of its last bytes, for peek.

        Raises:
            BlobNotFoundError: there is nothing there.
            BlobChangedError: it has another version.
            StorageError: the server refused, doesn't do ranges, or could not be reached.
            ValueError: the URL is no such.
        """
        super().__init__()
        self.url = url
        self._locate(tail_bytes, version)

    def _locate(self, tail_bytes: int, version: str | None) -> None:
        """Follow redirects to where it is, and learn size and version there."""
        target = self.url
        for _ in range(REDIRECTS_MAX):
            answer = self._ask_about(target, f"bytes=-{tail_bytes or 1}")
            if answer.status not in REDIRECTS:
                break
            target = urljoin(target, answer.headers.get(b"location", b"").decode("latin-1"))
            if self.url[:5].lower() == "https" and not target.lower().startswith("https:"):
                raise StorageError(f"{self.url}: it leads to {target}, away from TLS")
        if answer.status == 416:  # nothing has no last bytes
            answer = self._ask_about(target, None)
            if answer.status == 200 and answer.headers.get(b"content-length") == b"0":
                self._keep(target, 0, answer, version)
                return
        found = CONTENT_RANGE.fullmatch(answer.headers.get(b"content-range", b""))
        if answer.status == 206 and found is not None and found[3].isdigit():
            self._keep(target, int(found[3]), answer, version)
            start, end = int(found[1]), int(found[2]) + 1
            is_tail = end == self.size and end - start == len(answer.body)
            self.tail = answer.body if tail_bytes and is_tail else b""
            return
        if answer.status == 200:
            if answer.headers.get(b"content-length") == b"0":
                self._keep(target, 0, answer, version)
                return
            raise StorageError(
                f"{self.url}: the server doesn't answer ranged requests: it sent the whole file, and members "
                f"can't be read out of it; download it, and open the file"
            )
        self.refuse_answer(answer, "open", 1)

    def _keep(self, target: str, size: int, answer: Answer, version: str | None) -> None:
        etag = answer.headers.get(b"etag", b"").decode("latin-1")
        modified = answer.headers.get(b"last-modified", b"").decode("latin-1")
        found = etag or modified or f"{size} bytes"
        if version is not None and version != found:
            raise BlobChangedError(f"{self.url}: its version is {found}, not {version}")
        self.size, self.version = size, found
        origin, begin = split_http(target)
        condition = if_match(etag)
        if modified and not etag:
            condition = f"If-Unmodified-Since: {modified}\r\n"
        self._by_etag = bool(etag)
        self.is_pinned = bool(etag or modified)
        self._redirected = target != self.url
        head = f"GET {begin}{condition}Range: bytes=".encode("latin-1")
        version_line = f"ETag: {etag}" if etag else f"Last-Modified: {modified}"
        self._place = Place(pool_of(origin), head, version_line)

    def _ask_about(self, target: str, wanted: str | None) -> Answer:
        """Send a GET of the last bytes, or a HEAD, again while that may help."""
        origin, begin = split_http(target)
        method, rest = ("GET", f"Range: {wanted}\r\n") if wanted else ("HEAD", "")
        request = f"{method} {begin}{rest}\r\n".encode("latin-1")
        pool = pool_of(origin)
        # there may be no such server
        trial = Trial(f"{self.url}: open", pool.budget, is_patient=False)
        while True:
            try:
                answer = self._get_counted(pool, request, trial.timeout_s)
                if answer.status in TRANSIENT and answer.status != 200:
                    raise fault_of(answer)
            except Fault as fault:
                if not trial.may_retry(fault):
                    raise StorageError(
                        f"{self.url}: can't open: {fault} ({after(trial.failed, fault.request)})"
                    ) from fault.__cause__
                self.counters.count_retried()
            else:
                return answer

    def _get_counted(self, pool: Pool, request: bytes, timeout_s: float) -> Answer:
        """Send a request that takes any length, and count it."""
        fetched, began, was_sent = 0, time.perf_counter(), True
        try:
            answer = pool.get(request, None, timeout_s)
            fetched = len(answer.body) if answer.status == 206 else 0
        except (UnreachableFault, StorageError):
            was_sent = False
            raise
        finally:
            if was_sent:
                self.counters.count_request(fetched, fetched, time.perf_counter() - began)
        return answer

    def place(self) -> Place:
        """Say where it was found."""
        return self._place

    def check_version(self, answer: Answer, start: int, end: int, attempt: int) -> None:
        """Compare ETags, or times of modification where there are none."""
        if self._by_etag:
            super().check_version(answer, start, end, attempt)
            return
        found = answer.headers.get(b"last-modified", b"").decode("latin-1")
        if found and found != self.version:
            raise BlobChangedError(
                f"{self.url}: can't read bytes {start} to {end}: it was modified {found}, and "
                f"{self.version} when it was opened ({after(attempt, answer.request)})"
            )

    def handle(
        self, answer: Answer, place: Place, start: int, end: int, attempt: int
    ) -> bytes | None:
        """Find the blob again if it has moved, or its signed address has expired; else raise what it means."""
        moved = answer.status in REDIRECTS or (answer.status == 403 and self._redirected)
        if moved and place is not self._place:  # another thread has found it
            return None
        if moved and time.monotonic() - place.made_at > RELOCATED_S:
            self._locate(len(self.tail), self.version)
            return None
        self.refuse_answer(answer, f"read bytes {start} to {end}", attempt)

    def __reduce__(self) -> tuple[Callable[..., HttpStore], tuple[str, str]]:
        return _reopen, (self.url, self.version)


def split_http(url: str) -> tuple[Origin, str]:
    """Part a URL into the server, and how a request for it begins, behind the method.

    Raises:
        ValueError: it is no http:// or https:// URL of a host.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError(f"{url!r} is not http(s)://host/path, without a user")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    port = parts.port or (443 if scheme == "https" else 80)
    target = quote(parts.path or "/", SAFE_IN_TARGETS)
    if parts.query:
        target += "?" + quote(parts.query, SAFE_IN_TARGETS)
    named = f"[{host}]" if ":" in host else host
    if parts.port:
        named += f":{parts.port}"
    begin = f"{target} HTTP/1.1\r\nHost: {named}\r\nAccept-Encoding: identity\r\nUser-Agent: blobpack\r\n"
    return Origin(host, port, "" if scheme == "https" else None), begin


def _reopen(url: str, version: str) -> HttpStore:
    return HttpStore(url, version=version)
