"""uvicorn's protocol for HTTP, with shorter ways for what most requests of an image server are.

Strategy: a plain GET of an image that the page cache holds is answered where its header ends, without the task, event
and messages of an ASGI call: those take half of the time of such an answer. Every other request takes uvicorn's own
way. So the ASGI application can answer everything, and this module only makes a server faster.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from blobpack.gateway.http_range import CONDITIONAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    # gets the target of a GET as it was sent; returns the encoded header fields of a 200 and its body, or None
    ReadyAnswer = Callable[[bytes], tuple[bytes, bytes] | None]

# the head of an answer is smaller; a piece of a body is not held back
HELD_BYTES_MAX = 4096
STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
# a request with one of these fields is no plain GET: it may have a body, or another answer than 200
NOT_PLAIN = CONDITIONAL | {
    b"authorization",
    b"content-length",
    b"expect",
    b"transfer-encoding",
    b"upgrade",
}


class JoinedWrites:
    """Wraps a transport: what is written first is held until the next write, or until the event loop goes on.

    uvicorn writes the head of an answer and then its body, and uvloop 0.23 sends each at once. On loopback, an image of
    5 kB took 36 to 38 µs of the server's time so, because the first send wakes the client for the head alone. Joined, it
    takes 30 to 34 µs.
    """

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
    """Return uvicorn's protocol for HTTP, with joined writes.

    Args:
        ready_answer: Answers plain GETs that wait for nothing; what it returns None for goes to the ASGI application.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # a class that is chosen at run time
        def connection_made(self, transport: asyncio.Transport) -> None:
            call_soon = asyncio.get_running_loop().call_soon
            super().connection_made(JoinedWrites(transport, call_soon))

    # uvicorn's protocol for h11 has no callbacks of a parser
    if ready_answer is None or not hasattr(AutoHTTPProtocol, "on_headers_complete"):
        return Protocol
    return with_ready_answers(Protocol, ready_answer)


def with_ready_answers(protocol: Any, ready_answer: ReadyAnswer) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol for httptools, with answers that need no task."""

    class ReadyProtocol(protocol):  # type: ignore[misc]  # a class that is chosen at run time
        # whether the request that is parsed was answered here
        _is_answered = False
        # Of requests that arrive together, only the first is answered here: the others must not hold up other clients.
        _may_answer = False

        def data_received(self, data: bytes) -> None:
            self._may_answer = True
            super().data_received(data)

        def on_headers_complete(self) -> None:
            self._is_answered = self._may_answer and self._answer()
            self._may_answer = False
            if not self._is_answered:
                super().on_headers_complete()

        def on_message_complete(self) -> None:
            if not self._is_answered:
                super().on_message_complete()

        def _answer(self) -> bool:
            """Answer a plain GET if the answer waits for nothing; return whether it was answered."""
            parser, cycle = self.parser, self.cycle
            if (
                parser.get_method() != b"GET"
                # an answer before this one is not yet sent, or not yet taken
                or (cycle is not None and not cycle.response_complete)
                or self.flow.write_paused
                or not parser.should_keep_alive()
                or parser.get_http_version() != "1.1"
            ):
                return False
            for name, _ in self.headers:
                if name in NOT_PLAIN:
                    return False
            ready = ready_answer(self.url)
            if ready is None:
                return False
            fields, body = ready
            head = [STATUS_LINE]
            # the date, which uvicorn renews each second
            for name, value in self.server_state.default_headers:
                head += (name, b": ", value, b"\r\n")
            head += (fields, b"\r\n")
            self.transport.writelines((b"".join(head), body))
            self.on_response_complete()
            return True

    return ReadyProtocol
