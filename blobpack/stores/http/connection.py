"""One kept-alive connection for ranged GETs: our own socket, and a buffer that we own.

An HTTP client's own work for a GET of 4 KB takes three to thirty times what the kernel's does; this takes less
than the kernel's. It does what ranged GETs need and no more: HTTP/1.1, bodies of a known length.
"""

from __future__ import annotations

import io
import select
import socket
import ssl
import time
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from blobpack.errors import StorageError
from blobpack.stores.http.response import AS_EXPECTED, Answer, headers_of
from blobpack.stores.http.retry import Fault, TimeoutFault, UnreachableFault

if TYPE_CHECKING:
    from collections.abc import Callable


BUFFER_BYTES = 64 << 10
HEAD_BYTES_MAX = 32 << 10
ERROR_BODY_BYTES_MAX = 32 << 10
CONNECT_TIMEOUT_S = 5.0
SLOWEST_BYTES = 100_000  # a body of which less comes within its timeout, all in all, has stalled
CLOSES = b"onnection: close"
LAST_CHUNK = b"\r\n0\r\n\r\n"


class Origin(NamedTuple):
    """A server to connect to.

    Attributes:
        host: Its name or address.
        port: Its port.
        ca_file: What its certificate is verified with; "" for what the system trusts, None without TLS.
    """

    host: str
    port: int
    ca_file: str | None


class Race(Protocol):
    """Who else may be heard while a connection says nothing."""

    patience_s: float  # how long it may say nothing before that

    def receive(self, first: Connection, buffer: memoryview) -> int:
        """Receive what the connection says, or raise that another one speaks."""
        ...


class Connection:
    """One connection, used by one thread at a time.

    Attributes:
        answered_at: When the first byte of the last answer had come, on the clock of perf_counter.
        connect_s: How long connecting took; 0 after the first answer.
        idle_since: When it was given back, on the monotonic clock.
        series: What the last request was one of; see Pool.take.
    """

    __slots__ = (
        "_buffer",
        "_heard",
        "_timeout_s",
        "_view",
        "answered_at",
        "connect_s",
        "idle_since",
        "reusable",
        "series",
        "socket",
        "used",
    )

    def __init__(self, origin: Origin, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connect.

        Raises:
            UnreachableFault: it can't be reached; another attempt may succeed.
            StorageError: there is no such server, or its certificate is not trusted.
        """
        where = f"{origin.host}:{origin.port}"
        began = time.perf_counter()
        try:
            self.socket = socket.create_connection(origin[:2], timeout_s)
        except OSError as exc:
            if isinstance(exc, socket.gaierror) and exc.errno == socket.EAI_NONAME:
                raise StorageError(f"there is no server {origin.host}: {exc}") from exc
            raise UnreachableFault(f"can't connect to {where}: {exc}") from exc
        except UnicodeError as exc:  # a part of the name is empty, or of over 63 letters
            raise StorageError(f"there is no server {origin.host}: {exc}") from exc
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if origin.ca_file is not None:
                self.socket = tls_context(origin.ca_file).wrap_socket(
                    self.socket, server_hostname=origin.host
                )
        except OSError as exc:
            self.socket.close()
            if isinstance(exc, ssl.SSLCertVerificationError):
                raise StorageError(f"the certificate of {where} is not trusted: {exc}") from exc
            raise UnreachableFault(f"can't talk TLS with {where}: {exc}") from exc
        self.idle_since = 0.0
        self.series: bytes | None = None
        self.connect_s = time.perf_counter() - began
        self._timeout_s = timeout_s
        self._heard = 0
        self.answered_at = 0.0
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self.reusable = False
        self.used = False

    def get(
        self,
        request: bytes,
        wanted: int | None,
        timeout_s: float,
        expected: tuple[bytes, ...] = (),
        race: Race | None = None,
    ) -> Answer:
        """Send a request and read its answer.

        Args:
            request: Its bytes.
            wanted: How long the body of a 206 must be; None takes any. Another is not read.
            timeout_s: For the first byte, and between bytes.
            expected: Lines that the head of a right answer has, its length among them. Where it has all,
                the answer is a 206 with AS_EXPECTED for its headers, and they aren't taken apart.
            race: Lets a second connection answer in this one's place.

        Raises:
            Fault: no answer came, or it was cut, or stalled.
            OvertakenError: the second connection answers.
        """
        self.send(request, timeout_s if race is None else race.patience_s)
        return self.answer(wanted, timeout_s, expected, race, has_body=request[:4] != b"HEAD")

    def send(self, request: bytes, timeout_s: float) -> None:
        """Send a request whose answer may take so long.

        Raises:
            Fault: it can't be sent.
        """
        self.reusable = False
        try:
            self.be_patient(timeout_s)
            self.socket.sendall(request)
        except TimeoutError as exc:
            raise TimeoutFault(f"not even the request went out within {timeout_s:g} s") from exc
        except OSError as exc:
            raise Fault(f"no answer: {exc}", at_once=self.used) from exc

    def be_patient(self, timeout_s: float) -> None:
        """Let the socket wait for so long."""
        if timeout_s != self._timeout_s:
            self.socket.settimeout(timeout_s)
            self._timeout_s = timeout_s

    def hear(self) -> int:
        """Take what has come of an answer, without waiting: how many bytes, 0 if it has ended, -1 for none yet."""
        self.socket.settimeout(0)
        try:
            self._heard = self.socket.recv_into(self._view)
        except (BlockingIOError, ssl.SSLWantReadError):  # TLS has things to say of its own
            return -1
        except OSError:
            return 0
        finally:
            self.socket.settimeout(self._timeout_s)
        return self._heard

    def answer(
        self,
        wanted: int | None,
        timeout_s: float,
        expected: tuple[bytes, ...] = (),
        race: Race | None = None,
        *,
        has_body: bool = True,
    ) -> Answer:
        """Read the answer to the request that was sent; see get."""
        view = self._view
        receive = self.socket.recv_into if race is None else partial(race.receive, self)
        try:
            have, self._heard = self._heard or receive(view), 0
            self.answered_at = time.perf_counter()
            head_end = self._buffer.find(b"\r\n\r\n", 0, have)
            while head_end < 0:
                came = receive(view[have:]) if have < HEAD_BYTES_MAX else 0
                if not came:
                    raise self._no_answer(have)
                have += came
                head_end = self._buffer.find(b"\r\n\r\n", 0, have)
        except TimeoutError as exc:
            raise TimeoutFault(f"no answer within {timeout_s:g} s") from exc
        except OSError as exc:
            raise Fault(f"no answer: {exc}", at_once=self.used) from exc
        head = bytes(view[: head_end + 2])
        if wanted is not None and expected and head[:12] == b"HTTP/1.1 206" and CLOSES not in head:
            for line in expected:
                if line not in head:
                    break
            else:
                body = self._body(receive, head_end + 4, have, wanted, timeout_s, head)
                self.reusable = self.used = True
                return Answer(206, AS_EXPECTED, body)
        return self._other_answer(
            receive, head, head_end + 4, have, wanted, timeout_s, has_body=has_body
        )

    def _other_answer(
        self,
        receive: Callable[[memoryview], int],
        head: bytes,
        start: int,
        have: int,
        wanted: int | None,
        timeout_s: float,
        *,
        has_body: bool,
    ) -> Answer:
        """Take a head apart that is not as expected, and read what of its body is of use."""
        if head[:7] != b"HTTP/1." or not head[9:12].isdigit():
            raise Fault(f"not an answer of HTTP: {head[:20]!r}")
        status = int(head[9:12])
        headers = headers_of(head)
        length = headers.get(b"content-length", b"")
        size = int(length) if length.isdigit() else -1
        self.used = True
        if not has_body:
            size = 0
        elif status >= 400 and headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            body = self._said_in_chunks(receive, start, have, timeout_s)
            self.reusable = CLOSES not in head and body.endswith(LAST_CHUNK)
            return Answer(status, headers, body)
        if size < 0 or (
            wanted not in (None, size)
            if status == 206
            else size > ERROR_BODY_BYTES_MAX and (status, size) != (200, wanted)
        ):
            return Answer(status, headers, b"")
        body = self._body(receive, start, have, size, timeout_s, head)
        self.reusable = head[:8] == b"HTTP/1.1" and headers.get(b"connection", b"") != b"close"
        return Answer(status, headers, body)

    def _no_answer(self, have: int) -> Fault:
        if have >= HEAD_BYTES_MAX:
            return Fault(f"its headers are longer than {HEAD_BYTES_MAX} bytes")
        return Fault("the connection was closed before an answer", at_once=self.used and not have)

    def _body(
        self,
        receive: Callable[[memoryview], int],
        start: int,
        have: int,
        size: int,
        timeout_s: float,
        head: bytes,
    ) -> bytes:
        """Read a body of which some lies in the buffer already."""
        if have - start > size:
            request = Answer(0, headers_of(head), b"").request
            raise Fault(f"more than its {size} bytes came", request=request)
        if have - start == size:
            return bytes(self._view[start:have])
        large: io.BytesIO | None = None
        if start + size <= BUFFER_BYTES:
            target, at, end = self._view, have, start + size
        else:
            large = io.BytesIO(bytes(size))  # it is written in place, and given out without a copy
            target, at, end = large.getbuffer(), have - start, size
            target[:at] = self._view[start:have]
            start = 0
        # longer at each attempt, as the timeout is: the link may be slow, and many share it
        began = time.monotonic()
        deadline = began + timeout_s * (2 + size / SLOWEST_BYTES)
        try:
            while at < end:
                came = receive(target[at:end])
                if not came:
                    raise ConnectionError("the body was cut")
                at += came
                if at < end and time.monotonic() > deadline:
                    raise TimeoutError
        except OSError as exc:
            took_s = time.monotonic() - began
            raise cut_fault(exc, head, bytes(target[start:at]), size, took_s) from exc
        if large is None:
            return bytes(target[start:end])
        target.release()
        return large.getvalue()

    def _said_in_chunks(
        self, receive: Callable[[memoryview], int], start: int, have: int, timeout_s: float
    ) -> bytes:
        """Read what is said of an error in chunks, as S3 does; their sizes stay in it, and it may be cut."""
        deadline = time.monotonic() + timeout_s
        with suppress(OSError):  # the status has come
            while not self._buffer.endswith(LAST_CHUNK, start, have) and have < BUFFER_BYTES:
                came = receive(self._view[have:])
                if not came or time.monotonic() > deadline:
                    break
                have += came
        return bytes(self._view[start:have])

    def is_open(self) -> bool:
        """Tell whether the server still waits for a request: it has neither closed nor said anything.

        What it says unasked, an answer twice for instance, would be taken for the answer to the next request.
        """
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        if poller.poll(0):
            return False
        return not (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending())

    def close(self) -> None:
        """Let go of the socket."""
        self.socket.close()

    def __del__(self) -> None:
        if hasattr(self, "socket"):
            self.socket.close()


def cut_fault(exc: OSError, head: bytes, came: bytes, size: int, took_s: float) -> Fault:
    """Make a fault of a body of which not all has come."""
    part = Answer(int(head[9:12]), headers_of(head), came)
    if isinstance(exc, TimeoutError):
        return TimeoutFault(
            f"the body stalled: {len(came)} of {size} bytes came in {took_s:.1f} s",
            request=part.request,
            part=part,
        )
    return Fault(
        f"{len(came)} bytes came instead of {size}: {exc}", request=part.request, part=part
    )


@cache
def tls_context(ca_file: str) -> ssl.SSLContext:
    """Make, once, what verifies servers with a file of certificates, "" for those the system trusts."""
    return ssl.create_default_context(cafile=ca_file or None)
