"""The contract of clients of other clouds, and the client for a location.

Strategy: a client sends the requests about the objects of one bucket, container or host, and translates the errors.
There is one store, one upload and one listing for all clients. obstore and fsspec are imported when the first client is
made.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.clouds.schemes import OBSTORE_SCHEMES
from blobpack.stores.http.etag import differ

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Buffer

    from blobpack.stores.access.listed import Listed
    from blobpack.stores.location import Location

# connections and credentials are kept for this many buckets
CLIENTS_KEPT = 64


class Client(ABC):
    """Requests about the objects of one bucket, container or host. Safe to share between threads.

    All methods raise BlobNotFoundError if there is no such bucket or object, BlobChangedError if a condition is not met,
    and StorageError if the server refuses or can't be reached.

    Attributes:
        root: URL of the bucket, container or host, with "/" at its end.
        puts_on_condition: `put` checks its condition and writes in one step.
    """

    root: str
    puts_on_condition = True

    def url(self, key: str) -> str:
        """Return the URL of an object."""
        return self.root + key

    @abstractmethod
    def head(self, key: str) -> Listed:
        """Return size and version of an object."""

    @abstractmethod
    def read(self, key: str, start: int, end: int, version: str) -> bytes:
        """Read the bytes start to end of one version of an object; "": of any version."""

    @abstractmethod
    def read_tail(self, key: str, count: int) -> tuple[Listed, bytes]:
        """Read the last bytes of an object, with its size and version; b"" if the server can't in one request."""

    @abstractmethod
    def list(self, prefix: str) -> list[Listed]:
        """Return the objects whose keys begin with a prefix, at any depth, in any order."""

    def properties(self, key: str) -> dict[str, str]:
        """Return Content-Type and metadata of an object, by name; empty if the server keeps none."""
        return {}

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete an object; a missing one is no error."""

    @abstractmethod
    def put(self, key: str, payload: Buffer, wanted: Wanted, about: Mapping[str, str]) -> str:
        """Write an object whose bytes are all in memory, if the condition is met, and return its version.

        Args:
            key: The key.
            payload: The bytes.
            wanted: The condition.
            about: Content-Type and metadata.
        """

    @abstractmethod
    def open_writer(self, key: str, part_bytes: int, about: Mapping[str, str]) -> Writer:
        """Open an object for writing, which appears when the writer commits.

        Args:
            key: The key.
            part_bytes: Bytes of each part that is sent.
            about: Content-Type and metadata.
        """


class Writer(ABC):
    """An object that is being written front to back, in several parts. Its methods raise StorageError."""

    @abstractmethod
    def write(self, part: Buffer, /) -> None:
        """Write all of a part."""

    @abstractmethod
    def settle(self) -> None:
        """Send what is left, if the object can still be given up afterwards."""

    @abstractmethod
    def commit(self) -> str:
        """Have the object appear, and return its version."""

    @abstractmethod
    def abandon(self) -> None:
        """Abandon the object, which then never appears."""


class Wanted:
    """The condition on which an object may be written: its key must hold one version, no object, or anything.

    Attributes:
        new: There must be no object.
        replaces: Version of the object that must be there; None: any, or none.
    """

    def __init__(self, *, new: bool = False, replaces: str | None = None) -> None:
        self.new = new
        self.replaces = replaces

    def check(self, client: Client, key: str) -> None:
        """Look at the object, and check the condition.

        Raises:
            BlobChangedError: the condition is not met.
            StorageError: the server refused or could not be reached.
        """
        if not (self.new or self.replaces):
            return
        try:
            found = client.head(key).version
        except BlobNotFoundError:
            found = None
        is_met = (
            found is None
            if self.new
            else bool(found) and not differ(found or "", self.replaces or "")
        )
        if not is_met:
            raise self.unmet(client.url(key))

    def unmet(self, url: str) -> BlobChangedError:
        """Return the error for a condition that is not met."""
        if self.new:
            return BlobChangedError(f"{url} exists already; it was not replaced")
        return BlobChangedError(
            f"{url} was changed meanwhile: its version is no longer {self.replaces}; it was not replaced"
        )


def client_of(location: Location) -> Client:
    """Return the client for a location that is in another cloud, or behind a URL that fsspec knows.

    Raises:
        StorageError: the package that is needed is not installed, or the configuration is wrong.
    """
    # A forked process makes its own clients: it can't use the connections and threads of its parent.
    return _client_of(location.scheme, location.bucket, location.access.s3.anonymous, os.getpid())


@lru_cache(CLIENTS_KEPT)
def _client_of(scheme: str, bucket: str, anonymous: bool, _pid: int) -> Client:
    root = f"{scheme}://{bucket}/" if bucket else f"{scheme}://"
    if scheme in OBSTORE_SCHEMES:
        _check_installed("obstore", "clouds", root)
        from blobpack.stores.clouds.obstore_client import ObstoreClient
        from blobpack.stores.clouds.obstore_settings import ONCE, new_store

        _check_not_forked(root)
        once = partial(new_store, root, anonymous=anonymous, retries=ONCE)
        return ObstoreClient(root, new_store(root, anonymous=anonymous), once)
    _check_installed("fsspec", "fsspec", root)
    from blobpack.stores.clouds.fsspec_client import FsspecClient, new_file_system

    return FsspecClient(root, new_file_system(root))


# The process that made the first client of obstore; 0: none did.
_obstore_pid = 0


def _check_not_forked(url: str) -> None:
    """Check that obstore works in this process.

    obstore starts its threads once. A forked process has none of them, and would wait forever.

    Raises:
        StorageError: this process was forked from one that has used obstore.
    """
    global _obstore_pid
    _obstore_pid = _obstore_pid or os.getpid()
    if _obstore_pid != os.getpid():
        raise StorageError(
            f"{url}: obstore, which sends the requests, does not work in a process that was forked from one that used it: "
            "start processes by spawn or forkserver"
        )


def forget_clients() -> None:
    """Forget all clients, so that credentials are looked up again."""
    _client_of.cache_clear()


def _check_installed(package: str, extra: str, url: str) -> None:
    # Not by an import: an ImportError may also come from a package that is installed and broken.
    if find_spec(package) is None:
        scheme = url.partition(":")[0]
        raise StorageError(
            f"{url}: {scheme}:// URLs need the package {package}: run `pip install 'blobpack[{extra}]'`"
        )
