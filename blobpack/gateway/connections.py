"""The connections of the server: fast answers, and bounds on clients that send too much or too slowly.

Strategy: uvicorn writes the head of an answer and then its body, and uvloop 0.23 sends each of them at once. The first
send wakes the client for the head alone. On loopback, an image of 5 kB then took 36 to 38 µs of the server's time. If
head and body are sent together, it takes 30 to 34 µs.

A plain GET of an image that the page cache holds is answered as soon as its head has come, without an ASGI call. The
task, event and messages of such a call take a third of the time of an answer. Every other request goes to the ASGI
application.

httptools keeps all bytes that come until a head is complete, and uvicorn has no timeout for that. So a head has a largest
size, and must be complete in time. One timer looks at each connection every 30 s, so a request needs no timer of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from blobpack.gateway.http_range import CONDITIONAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    # gets the target of a GET as it was sent; returns the encoded header fields of a 200 and its body, or None
    ReadyAnswer = Callable[[bytes], tuple[bytes, bytes] | None]

# Every head of an answer is smaller than this. A piece of a body is mostly larger, and is not held back.
HELD_BYTES_MAX = 4096
# Request line and header fields, and what follows a body as trailers; nginx accepts 32 KiB. A head that arrives within one
# read, of up to 256 KiB, is accepted.
HEAD_BYTES_MAX = 64 << 10
# the size and the line ends around each chunk of a body (RFC 9112, 7.1)
CHUNK_FRAME_BYTES = 12
# A client that is still sending the head of a request at the second look, or does not take the last bytes of a connection
# that is closing, is hung up on.
LOOK_EVERY_S = 30.0
# If a connection were closed at once, with bytes unread, the client would see a reset in place of the error.
LINGER_S = 1.0
DRAINED_BYTES_MAX = 1 << 20
CLOSING, NO_REQUEST = object(), object()
# a request with one of these fields is no plain GET: it may have a body, or another answer than 200
NOT_PLAIN = CONDITIONAL | {
    b"authorization",
    b"content-length",
    b"expect",
    b"transfer-encoding",
    b"upgrade",
}
STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class JoinedWrites:
    """Wraps a transport: what is written first is held until the next write, or until the event loop goes on."""

    __slots__ = ("_call_soon", "_held", "_transport", "_write", "_writelines", "is_closing")

    def __init__(
        self, transport: asyncio.Transport, call_soon: Callable[[Callable[[], None]], object]
    ) -> None:
        self._transport, self._call_soon = transport, call_soon
        # bound once: each answer calls them
        self._write, self._writelines = transport.write, transport.writelines
        self.is_closing = transport.is_closing
        self._held = b""

    def write(self, data: bytes) -> None:
        """Send data, behind what is held."""
        held = self._held
        if held:
            self._held = b""
            self._writelines((held, data))
        elif len(data) <= HELD_BYTES_MAX:
            self._held = data
            self._call_soon(self._flush)
        else:
            self._write(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        """Send several parts at once, behind what is held."""
        self._flush()
        self._writelines(parts)

    def _flush(self) -> None:
        held = self._held
        if held:
            self._held = b""
            self._write(held)

    def close(self) -> None:
        """Close the transport when all is sent."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def protocol_class(ready_answer: ReadyAnswer | None = None) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol for HTTP, with joined writes and bounds.

    Args:
        ready_answer: Answers plain GETs that wait for nothing. A request for which it returns None goes to the ASGI
            application, as all do that are no plain GETs.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    # made at run time: uvicorn chooses its class then
    protocol = type("Protocol", (Bounds, AutoHTTPProtocol), {})
    # h11 has no such callbacks
    if ready_answer is None or not hasattr(AutoHTTPProtocol, "on_headers_complete"):
        return protocol
    own = {"_ready_answer": staticmethod(ready_answer)}
    return type("ReadyProtocol", (ReadyAnswers, protocol), own)


class Bounds(asyncio.Protocol):
    """Stands in front of uvicorn's protocol: joins writes, and hangs up on clients that send too much or too slowly."""

    # uvicorn's
    transport: Any
    cycle: Any
    timeout_keep_alive_task: Any

    def connection_made(self, transport: Any) -> None:
        """Begin a connection."""
        loop = asyncio.get_running_loop()
        self._head_bytes, self._is_refused = 0, False
        self._seen: object = None
        joined: Any = JoinedWrites(transport, loop.call_soon)
        super().connection_made(joined)
        self._look = loop.call_later(LOOK_EVERY_S, self._look_at_client)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count and parse what a client has sent."""
        self._head_bytes += len(data)
        if self._is_refused:
            self._drain()
            return
        super().data_received(data)
        if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse_head()

    # httptools' callbacks; h11 has a bound of its own

    def on_message_begin(self) -> None:
        """Begin to count the bytes of a head."""
        self._head_bytes = 0
        super().on_message_begin()  # type: ignore[misc]  # uvicorn's

    def on_body(self, body: bytes) -> None:
        """Leave out the bytes of a body."""
        self._head_bytes -= len(body) + CHUNK_FRAME_BYTES
        super().on_body(body)  # type: ignore[misc]  # uvicorn's

    def _refuse_head(self) -> None:
        # in the middle of an answer, these bytes would be taken for a part of it
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(TOO_LARGE)
        self._is_refused = True
        asyncio.get_running_loop().call_later(LINGER_S, self.transport.close)

    def _drain(self) -> None:
        if self._head_bytes > HEAD_BYTES_MAX + DRAINED_BYTES_MAX:
            self.transport.close()

    def _look_at_client(self) -> None:
        """Hang up on a client if nothing has come of its connection since the last look."""
        awaited = CLOSING if self.transport.is_closing() else self._awaited_head()
        if awaited is not None and awaited is self._seen:
            self.transport.abort()
            return
        self._seen = awaited
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(LOOK_EVERY_S, self._look_at_client)

    def _awaited_head(self) -> object:
        """Return the request after which a head is awaited; None if a request is being answered, or none is awaited."""
        is_answered = self.cycle is None or self.cycle.response_complete
        # uvicorn sets this timer behind an answer, and unsets it at the next byte
        is_idle = self.timeout_keep_alive_task is not None
        return (self.cycle or NO_REQUEST) if is_answered and not is_idle else None


class ReadyAnswers(Bounds):
    """Stands in front of uvicorn's protocol for httptools, and answers plain GETs by itself."""

    # uvicorn's
    parser: Any
    flow: Any
    headers: list[tuple[bytes, bytes]]
    url: bytes
    server_state: Any
    on_response_complete: Callable[[], None]

    _ready_answer: ReadyAnswer
    # True if this class has answered the request that is being parsed.
    _is_answered = False
    # If several requests arrive together, only the first is answered here, so that other clients get their turn.
    _may_answer = False

    def data_received(self, data: bytes) -> None:
        """Parse what a client has sent."""
        self._may_answer = True
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Answer a plain GET, or leave the request to uvicorn."""
        self._is_answered = self._may_answer and self._is_plain() and self._answer()
        self._may_answer = False
        if not self._is_answered:
            super().on_headers_complete()  # type: ignore[misc]  # uvicorn's

    def on_message_complete(self) -> None:
        """End a request."""
        if not self._is_answered:
            super().on_message_complete()  # type: ignore[misc]  # uvicorn's

    def _is_plain(self) -> bool:
        """Return whether a request is a GET without body or conditions, and no other answer is under way."""
        parser, cycle = self.parser, self.cycle
        if (
            parser.get_method() != b"GET"
            or (cycle is not None and not cycle.response_complete)
            # The client has not received the earlier answers yet.
            or self.flow.write_paused
            or not parser.should_keep_alive()
            or parser.get_http_version() != "1.1"
        ):
            return False
        return NOT_PLAIN.isdisjoint(dict(self.headers))

    def _answer(self) -> bool:
        """Send the answer if it is ready; return whether it was."""
        ready = self._ready_answer(self.url)
        if ready is None:
            return False
        fields, body = ready
        head = [STATUS_LINE]
        # the date, which uvicorn renews each second
        for name, value in self.server_state.default_headers:
            head += (name, b": ", value, b"\r\n")
        head += (fields, b"\r\n")
        self.transport.writelines((b"".join(head), body))
        # The next head gets its full time.
        self._seen = None
        self.on_response_complete()
        return True
