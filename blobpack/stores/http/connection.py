"""One kept-alive connection for ranged GETs.

Strategy: our own socket and one reused buffer, because an HTTP library costs more than the request itself. For a GET of
4 KB the kernel takes 9 µs of processor time, Python's http.client 62 µs, urllib3 131 µs and httpx 291 µs; this
connection takes about as much as the kernel. It supports only what ranged GETs need: HTTP/1.1, and bodies whose length
Content-Length or Content-Range tells.
"""

from __future__ import annotations

import select
import ssl
import time
from functools import partial
from typing import TYPE_CHECKING

from blobpack.stores.http.body import Incoming, read_body, read_chunked_error, read_chunks
from blobpack.stores.http.connect import CONNECT_TIMEOUT_S, connect
from blobpack.stores.http.response import (
    AS_EXPECTED,
    CONTENT_RANGE,
    Response,
    closes_after,
    parse_headers,
)
from blobpack.stores.http.retry import Fault, TimeoutFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stores.http.connect import Origin
    from blobpack.stores.http.hedging import HedgedReceiver


# The head and a small body usually arrive together, so one recv into this buffer reads both.
BUFFER_BYTES = 64 << 10
# A hostile server could send headers without end. 32 KiB is also nginx's limit for the headers of a request.
HEAD_BYTES_MAX = 32 << 10
# An S3 error is a few hundred bytes of XML. A much larger body is left unread, and the connection is closed.
ERROR_BODY_BYTES_MAX = 32 << 10


class Connection:
    """One connection, used by one thread at a time.

    Attributes:
        first_byte_at: Time of the first byte of the last response, by perf_counter.
        connect_s: Seconds that connecting took; 0 after the first response.
        idle_since: Time at which the connection was returned to the pool, by the monotonic clock.
        series: The series of the last request; see Pool.take.
        reusable: Another request can follow on this connection.
        used: At least one response came on this connection.
    """

    __slots__ = (
        "_buffer",
        "_received",
        "_timeout_s",
        "_view",
        "connect_s",
        "first_byte_at",
        "idle_since",
        "reusable",
        "series",
        "socket",
        "used",
    )

    def __init__(self, origin: Origin, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connect.

        Raises:
            UnreachableFault: the server can't be reached; another attempt may succeed.
            StorageError: no such server exists, or its certificate is not trusted.
        """
        began = time.perf_counter()
        self.socket = connect(origin, timeout_s)
        self.idle_since = 0.0
        self.series: bytes | None = None
        self.connect_s = time.perf_counter() - began
        self._timeout_s = timeout_s
        self._received = 0
        self.first_byte_at = 0.0
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self.reusable = False
        self.used = False

    def get(
        self,
        request: bytes,
        body_bytes: int | None,
        timeout_s: float,
        expected_lines: tuple[bytes, ...] = (),
        receiver: HedgedReceiver | None = None,
    ) -> Response:
        """Send a request and read the response.

        Args:
            request: The bytes of the request.
            body_bytes: Expected length of a 206's body; a body of another length is not read. None accepts any length.
            timeout_s: Limit for the first byte, and between bytes.
            expected_lines: Header lines, each with its line ends, that the right response has. Content-Length must be
                among them. If all are present, the response is a 206 whose headers are AS_EXPECTED, unparsed.
            receiver: Receives the response, and may turn to a second connection. None receives from this socket only.

        Raises:
            Fault: no response came, or its body was cut or stalled.
            OvertakenError: the second connection answers first.
        """
        self.send(request, timeout_s if receiver is None else receiver.hedge_after_s)
        # The response to HEAD may have a Content-Length, but never has a body (RFC 9110, 9.3.2).
        has_body = request[:4] != b"HEAD"
        return self.read_response(
            body_bytes, timeout_s, expected_lines, receiver, has_body=has_body
        )

    def send(self, request: bytes, timeout_s: float) -> None:
        """Send a request, and set the timeout for its response.

        Raises:
            Fault: the request can't be sent.
        """
        # False until the whole response was read: after an interruption in between, the rest of this response would be
        # taken for the response to the next request.
        self.reusable = False
        try:
            self.set_timeout(timeout_s)
            self.socket.sendall(request)
        except TimeoutError as exc:
            raise TimeoutFault(f"the request could not be sent within {timeout_s:g} s") from exc
        except OSError as exc:
            raise Fault(f"no response: {exc}", at_once=self.used) from exc

    def set_timeout(self, timeout_s: float) -> None:
        """Set the socket's timeout."""
        # settimeout makes a system call even if the timeout stays the same, and most requests keep it.
        if timeout_s != self._timeout_s:
            self.socket.settimeout(timeout_s)
            self._timeout_s = timeout_s

    def receive_now(self) -> int:
        """Receive the bytes of a response that have arrived, without waiting.

        Returns:
            Number of bytes; 0 if the connection was closed; -1 if nothing has arrived.
        """
        self.socket.settimeout(0)
        try:
            self._received = self.socket.recv_into(self._view)
        # The socket is readable, but TLS sent no application data: session tickets, for example (RFC 8446, 4.6.1).
        except (BlockingIOError, ssl.SSLWantReadError):
            return -1
        except OSError:
            return 0
        finally:
            self.socket.settimeout(self._timeout_s)
        return self._received

    def read_response(
        self,
        body_bytes: int | None,
        timeout_s: float,
        expected_lines: tuple[bytes, ...] = (),
        receiver: HedgedReceiver | None = None,
        *,
        has_body: bool = True,
    ) -> Response:
        """Read the response to the request that was sent; see get."""
        view = self._view
        receive = self.socket.recv_into if receiver is None else partial(receiver.receive, self)
        try:
            # receive_now may have received the first bytes already
            have, self._received = self._received or receive(view), 0
            self.first_byte_at = time.perf_counter()
            head_end = self._buffer.find(b"\r\n\r\n", 0, have)
            if head_end < 0:
                have, head_end = self._receive_rest_of_head(receive, have, timeout_s)
        except TimeoutError as exc:
            raise TimeoutFault(f"no response within {timeout_s:g} s") from exc
        except OSError as exc:
            raise Fault(f"no response: {exc}", at_once=self.used) from exc
        # With the line end of the last header: each of the expected lines has one.
        head = bytes(view[: head_end + 2])
        start = head_end + 4
        # Looking for the expected lines takes less than half as long as parsing the headers.
        if (
            body_bytes is not None
            and expected_lines
            and head[:12] == b"HTTP/1.1 206"
            and not closes_after(head)
        ):
            for line in expected_lines:
                if line not in head:
                    break
            else:
                # A small body nearly always comes together with its head.
                if have - start == body_bytes:
                    body = bytes(view[start:have])
                else:
                    body = read_body(
                        Incoming(receive, view, head, start, have, timeout_s), body_bytes
                    )
                self.reusable = self.used = True
                return Response(206, AS_EXPECTED, body)
        incoming = Incoming(receive, view, head, start, have, timeout_s)
        return self._read_unexpected(incoming, body_bytes, has_body=has_body)

    def _receive_rest_of_head(
        self, receive: Callable[[memoryview], int], have: int, timeout_s: float
    ) -> tuple[int, int]:
        """Receive until the head has come, and return the end of the bytes that came, and the end of the head.

        Raises:
            Fault: the head is too long, or the connection was closed.
            OSError: the connection failed, or nothing came in time.
        """
        deadline = time.monotonic() + timeout_s
        while (head_end := self._buffer.find(b"\r\n\r\n", 0, have)) < 0:
            # The socket's timeout begins again with each byte. A server that sends a byte now and then must not keep
            # the request for hours.
            if time.monotonic() > deadline:
                raise TimeoutError
            came = receive(self._view[have:]) if have < HEAD_BYTES_MAX else 0
            if not came:
                raise self._head_fault(have)
            have += came
        return have, head_end

    def _read_unexpected(
        self, incoming: Incoming, body_bytes: int | None, *, has_body: bool
    ) -> Response:
        """Parse a head that is not as expected, and read the body if it is of use."""
        head = incoming.head
        if head[:7] != b"HTTP/1." or not head[9:12].isdigit():
            raise Fault(f"this is not an HTTP response: {head[:20]!r}")
        status = int(head[9:12])
        headers = parse_headers(head)
        length = headers.get(b"content-length", b"")
        size = int(length) if length.isdigit() else -1
        self.used = True
        if not has_body:
            size = 0
        # S3 sends its errors in chunks. Without their code and message, an error would not say what is wrong.
        elif status >= 400 and headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            body, has_ended = read_chunked_error(incoming)
            self.reusable = has_ended and not closes_after(head)
            return Response(status, headers, body)
        response = Response(status, headers, b"")
        if response.has_range and size < 0:
            return self._read_unmeasured(incoming, response, body_bytes)
        # A 200 with as many bytes as the range may be the whole blob, asked for as one range: RangedStore decides.
        # Any other long body is left unread, and the connection is closed.
        if size < 0 or (
            body_bytes not in (None, size)
            if response.has_range
            else size > ERROR_BODY_BYTES_MAX and (status, size) != (200, body_bytes)
        ):
            return response
        body = read_body(incoming, size)
        # An HTTP/1.0 connection ends after the response unless both sides agree otherwise (RFC 9112, 9.3).
        self.reusable = head[:8] == b"HTTP/1.1" and not closes_after(head)
        return Response(status, headers, body)

    def _read_unmeasured(
        self, incoming: Incoming, response: Response, body_bytes: int | None
    ) -> Response:
        """Read a range without Content-Length: in chunks, or up to the end of the connection."""
        found = CONTENT_RANGE.fullmatch(response.headers.get(b"content-range", b""))
        size = int(found[2]) + 1 - int(found[1]) if found else -1
        if size < 0 or body_bytes not in (None, size):
            return response
        if response.headers.get(b"transfer-encoding", b"").lower() != b"chunked":
            return response._replace(body=read_body(incoming, size))
        body, has_ended = read_chunks(incoming, size)
        self.reusable = has_ended and not closes_after(incoming.head)
        return response._replace(body=body)

    def _head_fault(self, have: int) -> Fault:
        if have >= HEAD_BYTES_MAX:
            return Fault(f"the headers of the response are longer than {HEAD_BYTES_MAX} bytes")
        # A server may close a kept connection at any time (RFC 9112, 9.3.1). That is no reason to wait.
        return Fault("the connection was closed before a response", at_once=self.used and not have)

    def is_open(self) -> bool:
        """Return whether the server has neither closed the connection nor sent anything since the last response.

        Unrequested bytes, such as a response sent twice, would be taken for the response to the next request.
        """
        # poll, because select fails on file descriptors of 1,024 and above (select(2))
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        if poller.poll(0):
            return False
        # poll does not see bytes that the TLS layer has received and decrypted.
        return not (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending())

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __del__(self) -> None:
        # There is no socket if connecting failed.
        if hasattr(self, "socket"):
            self.socket.close()
