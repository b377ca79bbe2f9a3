"""Blobs behind HTTP: found by their URLs, and read by ranged GETs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from blobpack.errors import BlobChangedError, StorageError
from blobpack.stores.http.connection import Origin
from blobpack.stores.http.pool import pool_of
from blobpack.stores.http.ranged import Place, RangedStore, fault_of, if_match
from blobpack.stores.http.response import CONTENT_RANGE, TRANSIENT, Answer, after
from blobpack.stores.http.retry import Fault, Trial, UnreachableFault
from blobpack.stores.location import Location

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from blobpack.stores.http.pool import Pool

REDIRECTS = (301, 302, 303, 307, 308)
REDIRECTS_MAX = 5
SAFE_IN_TARGETS = "/?&=%:@!$'()*+,;~[]-._"
RELOCATED_S = 1.0  # a place found later than this ago isn't looked for again


class HttpStore(RangedStore):
    """A blob behind a public http:// or https:// URL, on a server that answers ranged GETs.

    Attributes:
        is_pinned: The server names versions of the blob, by ETag or Last-Modified. If it does not, only another
            size shows that the blob changed.
    """

    def __init__(
        self, url: str | os.PathLike[str], *, version: str | None = None, tail_bytes: int = 0
    ) -> None:
        """Learn size and version of a blob from a GET of its last bytes.

        Args:
            url: http:// or https:// URL.
            version: The version that the blob must have; None takes any.
            tail_bytes: Number of last bytes that are kept, for peek.

        Raises:
            BlobNotFoundError: the server has no such blob.
            BlobChangedError: the blob has another version.
            StorageError: the server refused, does not answer ranged requests, or could not be reached.
            ValueError: the URL is of another kind, or names a user or no host.
        """
        super().__init__()
        self.location = Location.parse(url)
        self.url = self.location.text
        self._locate(tail_bytes, version)

    def _locate(self, tail_bytes: int, version: str | None) -> None:
        """Follow redirects to the blob, and learn its size and version."""
        target = self.url
        for _ in range(REDIRECTS_MAX):
            answer = self._ask_about(target, f"bytes=-{tail_bytes or 1}")
            if answer.status not in REDIRECTS:
                break
            target = urljoin(target, answer.headers.get(b"location", b"").decode("latin-1"))
            if self.url[:5].lower() == "https" and not target.lower().startswith("https:"):
                raise StorageError(f"{self.url}: it leads to {target}, away from TLS")
        if answer.status == 416:  # an empty blob has no last bytes
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
        # not patient: a server that does not exist should not be asked for a minute
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
        """Return where the blob was found."""
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
