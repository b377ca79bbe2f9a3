"""Reads bodies: of a known length, or in chunks (RFC 9112, 7.1), as servers send them without Content-Length."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from blobpack.stores.http.response import Response, parse_headers
from blobpack.stores.http.retry import Fault, SlowFault, TimeoutFault

if TYPE_CHECKING:
    from collections.abc import Callable

# A body may take one timeout for each 100,000 bytes. A limit that did not grow with the size lost 40 MB over a link of
# 200 KB/s that all connections share: each attempt was cut off short of its end.
SLOWEST_BYTES = 100_000
# The line in front of a chunk is a hexadecimal number, and rarely extensions.
LINE_BYTES_MAX = 4096
LAST_CHUNK = b"\r\n0\r\n\r\n"


class Incoming(NamedTuple):
    """A response whose head has come.

    Attributes:
        receive: Receives more bytes into a buffer; returns 0 at the end of the connection.
        buffer: Holds what has come.
        head: Status line and headers.
        start: Where the body begins in the buffer.
        have: End of what has come.
        timeout_s: Limit between bytes.
    """

    receive: Callable[[memoryview], int]
    buffer: memoryview
    head: bytes
    start: int
    have: int
    timeout_s: float

    def deadline_after(self, began: float, size: int) -> float:
        """Return the time of the monotonic clock by which a body must have come, from its size and the time it began."""
        # Each attempt that timed out doubles the timeout, and so the deadline: other threads may share a slow link.
        return began + self.timeout_s * (2 + size / SLOWEST_BYTES)


class TooSlowError(TimeoutError):
    """Bytes of a body came until its deadline, but too few of them."""


def read_body(incoming: Incoming, size: int) -> bytes:
    """Read a body of a known length.

    Raises:
        Fault: the body is longer, or was cut, or stalled.
    """
    receive, buffer, head, start, have, _ = incoming
    if have - start > size:
        request_id = Response(0, parse_headers(head), b"").request_id
        raise Fault(f"the body is longer than its {size} bytes", request_id=request_id)
    if have - start == size:
        return bytes(buffer[start:have])
    large: io.BytesIO | None = None
    if start + size <= len(buffer):
        target, at, end = buffer, have, start + size
    else:
        # BytesIO gives the bytes object that it filled without a copy: for 256 MiB over loopback, 256 MiB of memory
        # instead of 512, and 0.16 to 0.41 s of processor time instead of 0.47 to 0.64.
        large = io.BytesIO(bytes(size))
        target, at, end = large.getbuffer(), have - start, size
        target[:at] = buffer[start:have]
        start = 0
    began = time.monotonic()
    deadline = incoming.deadline_after(began, size)
    try:
        while at < end:
            came = receive(target[at:end])
            if not came:
                raise ConnectionError("the body was cut")
            at += came
            if at < end and time.monotonic() > deadline:
                raise TooSlowError
    except OSError as exc:
        took_s = time.monotonic() - began
        raise _body_fault(exc, head, bytes(target[start:at]), size, took_s) from exc
    if large is None:
        return bytes(target[start:end])
    # While a view exists, getvalue would have to copy.
    target.release()
    return large.getvalue()


def read_chunks(incoming: Incoming, size: int) -> tuple[bytes, bool]:
    """Read a body that is sent in chunks.

    Args:
        incoming: The response.
        size: Bytes that the chunks hold at most.

    Returns:
        The body, and whether the next response begins right behind it.

    Raises:
        Fault: the chunks are malformed, hold more bytes, were cut, or stalled.
    """
    chunks = ChunkReader(incoming)
    began = time.monotonic()
    try:
        chunks.read(size, incoming.deadline_after(began, size))
    except OSError as exc:
        took_s = time.monotonic() - began
        raise _body_fault(exc, incoming.head, bytes(chunks.body), size, took_s) from exc
    return bytes(chunks.body), chunks.has_ended


def read_chunked_error(incoming: Incoming) -> tuple[bytes, bool]:
    """Read an error body sent in chunks. It may be cut, and the sizes of the chunks stay in it.

    Returns:
        The body, and whether it came whole.
    """
    receive, buffer, _, start, have, timeout_s = incoming
    deadline = time.monotonic() + timeout_s
    # The status has arrived, and decides alone. The body only explains it.
    with suppress(OSError):
        while bytes(buffer[start:have][-len(LAST_CHUNK) :]) != LAST_CHUNK and have < len(buffer):
            came = receive(buffer[have:])
            if not came or time.monotonic() > deadline:
                break
            have += came
    body = bytes(buffer[start:have])
    return body, body.endswith(LAST_CHUNK)


def _body_fault(exc: OSError, head: bytes, came: bytes, size: int, took_s: float) -> Fault:
    """Return the fault of an incomplete body, with the bytes that came: a retry may continue behind them."""
    part = Response(int(head[9:12]), parse_headers(head), came)
    if isinstance(exc, TimeoutError):
        kind = SlowFault if isinstance(exc, TooSlowError) else TimeoutFault
        return kind(
            f"the body stalled: {len(came)} of {size} bytes came in {took_s:.1f} s",
            request_id=part.request_id,
            part=part,
        )
    return Fault(
        f"{len(came)} bytes came instead of {size}: {exc}", request_id=part.request_id, part=part
    )


class ChunkReader:
    """Reads one body, chunk by chunk.

    Attributes:
        body: The bytes of the chunks so far.
        has_ended: The last chunk came, without trailers and without a byte behind it.
    """

    def __init__(self, incoming: Incoming) -> None:
        """Begin with the bytes that came together with the head."""
        self.body = bytearray()
        self.has_ended = False
        self._receive, self._buffer = incoming.receive, incoming.buffer
        self._waiting = bytearray(incoming.buffer[incoming.start : incoming.have])

    def read(self, size: int, deadline: float) -> None:
        """Read all chunks.

        Args:
            size: Bytes that they hold at most.
            deadline: End of the time for it, by the monotonic clock.

        Raises:
            Fault: the chunks are malformed, or hold more bytes.
            OSError: the connection ended or timed out.
        """
        while True:
            length = self._read_length()
            if length > size - len(self.body):
                raise Fault(f"the body is longer than its {size} bytes", status=206)
            while len(self._waiting) < length + 2:
                self._receive_more(deadline)
            self.body += self._waiting[:length]
            line_end = self._waiting[length : length + 2]
            del self._waiting[: length + 2]
            if not length:
                self.has_ended = line_end == b"\r\n" and not self._waiting
                return

    def _read_length(self) -> int:
        while (end := self._waiting.find(b"\r\n", 0, LINE_BYTES_MAX)) < 0:
            if len(self._waiting) >= LINE_BYTES_MAX:
                raise Fault("the chunks of the body are malformed", status=206)
            self._receive_more()
        number = bytes(self._waiting[:end]).partition(b";")[0].strip()
        del self._waiting[: end + 2]
        # int() alone would accept signs, "0x" and "_".
        if not number or number.strip(b"0123456789abcdefABCDEF"):
            raise Fault("the chunks of the body are malformed", status=206)
        return int(number, 16)

    def _receive_more(self, deadline: float = float("inf")) -> None:
        came = self._receive(self._buffer)
        if not came:
            raise ConnectionError("the body was cut")
        self._waiting += self._buffer[:came]
        if time.monotonic() > deadline:
            raise TimeoutError
