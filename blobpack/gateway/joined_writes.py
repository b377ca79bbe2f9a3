"""A transport that sends the head of an answer and its body by one system call.

uvicorn writes first the head and then the body, and uvloop 0.23 sends each immediately. The first send wakes the client
for the head alone. On loopback, an image of 5 kB takes 36 to 38 µs of the server's time in this way, and 30 to 34 µs if
head and body are joined.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# the head of an answer is smaller than this; pieces of a body, which are larger, are not held back
HELD_BYTES_MAX = 4096


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


def protocol_class() -> type[asyncio.Protocol]:
    """Return uvicorn's protocol for HTTP, with joined writes."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # a class that is chosen at run time
        def connection_made(self, transport: asyncio.Transport) -> None:
            call_soon = asyncio.get_running_loop().call_soon
            super().connection_made(JoinedWrites(transport, call_soon))

    return Protocol
