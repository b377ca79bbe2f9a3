"""Bytes in memory: a blob or index that is in no file, and a sink that makes one."""

from __future__ import annotations

import io

from blobpack.stores.base import Store
from blobpack.stores.sink import FileSink


class MemoryStore(Store):
    """A blob that is a bytes object."""

    location = None

    def __init__(self, data: bytes, url: str = "memory:") -> None:
        """Wrap the bytes of a blob.

        Args:
            data: The bytes.
            url: Name of the blob in messages.
        """
        self.url = url
        self.size = len(data)
        # bytes never change, so one version is enough
        self.version = f"{self.size}"
        self._data = data

    def __getstate__(self) -> dict[str, object]:
        # open again, as the stores of files are in the process that unpickles them
        return {**self.__dict__, "closed": False}

    def fetch(self, start: int, end: int) -> bytes:
        """Return the bytes start to end."""
        return self._data[start:end]

    def read_if_ready(self, start: int, end: int) -> bytes | None:
        """Return the bytes start to end, which are always in memory; None for a range that read_range refuses."""
        return None if self.closed or not 0 <= start <= end <= self.size else self._data[start:end]


class MemorySink(FileSink):
    """A file in memory as a sink."""

    def __init__(self) -> None:
        self._memory = io.BytesIO()
        super().__init__(self._memory)

    def read_back(self, start: int, end: int) -> bytes:
        """Read the bytes start to end; see LocalSink."""
        # released at once: while a view of the memory exists, nothing can be written
        with self._memory.getbuffer() as written:
            return bytes(written[start:end])

    def contents(self) -> bytes:
        """Return all that was written."""
        return self._memory.getvalue()
