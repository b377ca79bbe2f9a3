"""A blob that is an object in another cloud than S3, or behind a URL that fsspec knows."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from blobpack.plan import SpeedEstimate
from blobpack.stores.base import Store
from blobpack.stores.clouds.client import client_of
from blobpack.stores.http.etag import check_opened
from blobpack.stores.location import Location
from blobpack.stores.stats import Counters

if TYPE_CHECKING:
    from collections.abc import Callable


class CloudStore(Store):
    """A blob in another cloud, pinned to the version found when it was opened."""

    location: Location
    counters: Counters
    is_remote = True

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        size: int | None = None,
        version: str | None = None,
        tail_bytes: int = 0,
        counters: Counters | None = None,
    ) -> None:
        """Open an object.

        Args:
            url: URL of the object.
            size: Size in bytes, if a listing or an index knows it. Then no request is sent, and size and version are
                believed until a read finds them wrong. None: ask the server.
            version: Version that the object must have; None accepts any.
            tail_bytes: Number of last bytes to fetch in the opening request, and to keep for peek.
            counters: Counts the requests; None: new counters.

        Raises:
            BlobNotFoundError: no such bucket or key.
            BlobChangedError: the object has another version.
            StorageError: the server refused or could not be reached, or a package is not installed.
            ValueError: this is no such URL.
        """
        self.location = Location.parse(url)
        self.url = self.location.text
        self.counters = counters or Counters()
        self._client, self._pid = client_of(self.location), os.getpid()
        self._key = self.location.key
        self._speed = SpeedEstimate()
        if size is not None:
            self.size, self.version = size, version or ""
            return
        self._open(tail_bytes)
        check_opened(self.url, self.version, version)

    def _open(self, tail_bytes: int) -> None:
        """Ask for size and version, and fetch the last bytes, in one request where the server can."""
        began = time.perf_counter()
        found, tail = (
            self._client.read_tail(self._key, tail_bytes)
            if tail_bytes
            else (self._client.head(self._key), b"")
        )
        self.counters.count_request(len(tail), len(tail), time.perf_counter() - began)
        self.size, self.version = found.size, found.version
        # This server sends the last bytes only by their positions, which the size tells.
        if tail_bytes and not tail and self.size:
            tail = self.fetch(max(0, self.size - tail_bytes), self.size)
        self.tail = tail

    def fetch(self, start: int, end: int) -> bytes:
        """Read the bytes start to end; the client sends the request again after faults that may pass."""
        began = time.perf_counter()
        payload = b""
        try:
            if self._pid != os.getpid():
                # forked: it can't use the connections of its parent
                self._client, self._pid = client_of(self.location), os.getpid()
            payload = self._client.read(self._key, start, end, self.version)
        finally:
            took = time.perf_counter() - began
            self.counters.count_request(end - start, len(payload), took)
        self._speed.note(len(payload), took)
        return payload

    @property
    def latency_s(self) -> float:
        """Recent time from a small request to its response; see Store."""
        return self._speed.latency_s

    @property
    def bytes_per_s(self) -> float:
        """Recent speed of long responses on one connection; see Store."""
        return self._speed.bytes_per_s

    def __reduce__(self) -> tuple[Callable[..., CloudStore], tuple[Location, str]]:
        # without the client: credentials are looked up again where the store arrives
        return _reopen_cloud_store, (self.location, self.version)


def _reopen_cloud_store(location: Location, version: str) -> CloudStore:
    return CloudStore(location, version=version)
