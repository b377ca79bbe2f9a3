"""Bodies that are sent in chunks, by servers that do not send Content-Length.

Source: RFC 9112, 7.1.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from blobpack.stores.http.retry import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

# The line in front of a chunk is a hexadecimal number, and rarely extensions.
LINE_BYTES_MAX = 4096


class ChunkReader:
    """Reads one body, chunk by chunk.

    Attributes:
        body: The bytes of the chunks so far.
        has_ended: The last chunk came, without trailers and without a byte behind it.
    """

    def __init__(
        self, receive: Callable[[memoryview], int], buffer: memoryview, begin: bytes
    ) -> None:
        """Begin with the bytes that came together with the head.

        Args:
            receive: Receives into a buffer; returns 0 at the end of the connection.
            buffer: The buffer.
            begin: The first bytes behind the head.
        """
        self.body = bytearray()
        self.has_ended = False
        self._receive, self._buffer = receive, buffer
        self._waiting = bytearray(begin)

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
