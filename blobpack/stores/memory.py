"""A blob in memory, for tests and for blobs that do not come from a store."""

from __future__ import annotations

from blobpack.stores.base import Store


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

    def fetch(self, start: int, end: int) -> bytes:
        """Return the bytes start to end."""
        return self._data[start:end]
