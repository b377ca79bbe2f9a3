"""Files behind URLs that fsspec knows: memory://, ftp://, sftp://, webdav:// and others.

Strategy: these file systems have no conditional requests. So the client looks at a file again after each read, and raises
an error if the file has another version. A new file is written under a hidden name beside its target, and renamed. On a
file system that can't rename in one step, blobs can only be read. fsspec finds host, user and password in the URL and in
its configuration.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fsspec.core import url_to_fs
from fsspec.spec import AbstractFileSystem

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.access.listed import Listed
from blobpack.stores.clouds.client import Client, Wanted, Writer
from blobpack.stores.clouds.schemes import MEMORY
from blobpack.stores.http.etag import differ

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import Buffer

# Fields by which file systems tell the versions of a file apart, the most exact ones first.
VERSIONS = (
    *("etag", "ETag", "e_tag", "generation", "md5", "sha", "rev"),
    *("mtime", "LastModified", "last_modified", "modified", "modify", "last_write_time", "updated"),
    *("modificationTime", "created"),
)


def new_file_system(root: str) -> AbstractFileSystem:
    """Return the file system of fsspec for a host.

    Raises:
        StorageError: a package that the file system needs is not installed, or the host can't be reached.
    """
    try:
        return url_to_fs(root)[0]
    except (ImportError, ValueError) as exc:
        raise StorageError(f"{root}: fsspec can't read such URLs: {exc}") from exc
    # each file system has errors of its own, and most of them connect here
    except Exception as exc:
        raise StorageError(f"{root}: can't connect: {_described(exc)}") from exc


class FsspecClient(Client):
    """Requests about the files of one host through fsspec."""

    puts_on_condition = False

    def __init__(self, root: str, fs: AbstractFileSystem) -> None:
        """Wrap a file system.

        Args:
            root: URL of the host, with "/" at its end.
            fs: The file system.
        """
        self.root = root
        self.fs = fs
        self._root_path = self._path("").strip("/")
        # A file system that is not asynchronous has one connection, which serves one request at a time.
        self._alone = nullcontext() if fs.async_impl or self._is_memory else threading.RLock()

    @property
    def _is_memory(self) -> bool:
        return self.root.partition(":")[0] == MEMORY

    def _path(self, key: str) -> str:
        return str(self.fs._strip_protocol(self.root + key))

    def head(self, key: str) -> Listed:
        """Return size and version; see Client."""
        with self._translated(key, "look at the file"):
            return self._found(key)

    def _found(self, key: str) -> Listed:
        # Some file systems keep listings of folders, and would answer from an old one.
        self.fs.invalidate_cache()
        found = self.fs.info(self._path(key))
        if found["type"] == "directory":
            raise FileNotFoundError("this is a folder")
        if found.get("size") is None:
            raise StorageError(f"{self.url(key)}: can't open: the server does not tell its size")
        return Listed(key, found["size"], _version_in(found))

    def read(self, key: str, start: int, end: int, version: str) -> bytes:
        """Read a range, and check the version behind it; see Client."""
        what = f"read bytes {start} to {end}"
        with self._translated(key, what):
            payload = self._read(key, start, end)
            found = self._found(key) if version else None
        if found and differ(found.version, version):
            raise BlobChangedError(
                f"{self.url(key)}: can't {what}: its version is {found.version}, and was {version} when it was opened"
            )
        if len(payload) != end - start:
            raise BlobChangedError(f"{self.url(key)}: can't {what}: the file is shorter now")
        return payload

    def _read(self, key: str, start: int, end: int) -> bytes:
        path = self._path(key)
        if type(self.fs).cat_file is not AbstractFileSystem.cat_file:
            return bytes(self.fs.cat_file(path, start=start, end=end))
        # fsspec's own cat_file would read megabytes ahead
        with self.fs.open(path, "rb", cache_type="none") as file:
            file.seek(start)
            return bytes(file.read(end - start))

    def read_tail(self, key: str, count: int) -> tuple[Listed, bytes]:
        """Return size and version: the last bytes take a request of their own; see Client."""
        return self.head(key), b""

    def list(self, prefix: str) -> list[Listed]:
        """List the files below a prefix; see Client."""
        folder = prefix[: prefix.rfind("/") + 1]
        try:
            with self._translated(prefix, "list files"):
                self.fs.invalidate_cache()
                found = self.fs.find(self._path(folder), detail=True)
        # As in S3, a prefix without objects is no error.
        except BlobNotFoundError:
            return []
        listed = [
            Listed(self._key_of(path), each["size"] or 0, _version_in(each))
            for path, each in found.items()
        ]
        return [each for each in listed if each.key.startswith(prefix)]

    def _key_of(self, path: str) -> str:
        return path.strip("/").removeprefix(self._root_path).lstrip("/")

    def delete(self, key: str) -> None:
        """Delete a file; see Client."""
        with suppress(BlobNotFoundError), self._translated(key, "delete"):
            self.fs.rm_file(self._path(key))

    def put(self, key: str, payload: Buffer, wanted: Wanted, about: Mapping[str, str]) -> str:
        """Write a file; see Client."""
        # Only the rename is one step, so the condition is checked right before it.
        writer = self.open_writer(key, len(memoryview(payload)), about)
        try:
            writer.write(payload)
            writer.settle()
            wanted.check(self, key)
            return writer.commit()
        except BaseException:
            writer.abandon()
            raise

    def open_writer(self, key: str, part_bytes: int, about: Mapping[str, str]) -> Writer:
        """Open a hidden file, which is renamed when the writer commits; see Client."""
        if not self._is_memory and type(self.fs).mv is AbstractFileSystem.mv:
            raise StorageError(
                f"{self.url(key)}: can't be written, because {type(self.fs).__name__} of fsspec has no rename, and a "
                "file could appear in part; blobs there can be read"
            )
        return FsspecWriter(self, key)

    def rename(self, old: str, new: str) -> None:
        """Move a file to another path, and replace the file there."""
        if self._is_memory:
            # in memory, the copy appears whole
            self.fs.cp_file(old, new)
            self.fs.rm_file(old)
            return
        self.fs.mv(old, new)

    @contextmanager
    def _translated(self, key: str, what: str) -> Iterator[None]:
        """Translate the errors of a file system in a block, which has the connection for itself."""
        url = self.url(key)
        try:
            with self._alone:
                yield
        except StorageError:
            raise
        except FileNotFoundError as exc:
            raise BlobNotFoundError(f"{url}: no such file: {_described(exc)}") from exc
        # ftplib, paramiko and the others have errors of their own
        except Exception as exc:
            raise StorageError(f"{url}: can't {what}: {_described(exc)}") from exc


class FsspecWriter(Writer):
    """A hidden file, which takes the place of its target when it is complete."""

    def __init__(self, client: FsspecClient, key: str) -> None:
        self._client = client
        self._key = key
        self._path = client._path(key)
        folder, _, name = self._path.rpartition("/")
        # The name is cut, because most servers limit a name to 255 bytes.
        begin = name.encode("utf-8", "surrogateescape")[:200].decode(errors="ignore")
        self._hidden = f"{folder}/.{begin}.{os.urandom(6).hex()}.tmp"
        with client._translated(key, "write"):
            client.fs.makedirs(folder or "/", exist_ok=True)
            self._file: Any = client.fs.open(self._hidden, "wb")

    def write(self, part: Buffer, /) -> None:
        """Write a part; see Writer."""
        with self._client._translated(self._key, "write"):
            self._file.write(bytes(part))

    def settle(self) -> None:
        """Complete the hidden file; see Writer."""
        with self._client._translated(self._key, "write"):
            self._file.close()

    def commit(self) -> str:
        """Rename the file; see Writer."""
        with self._client._translated(self._key, "write"):
            self._client.rename(self._hidden, self._path)
        return self._client.head(self._key).version

    def abandon(self) -> None:
        """Remove the hidden file; see Writer."""
        with suppress(StorageError), self._client._translated(self._key, "write"):
            self._file.close()
        with suppress(StorageError):
            self._client.delete(self._client._key_of(self._hidden))


def _version_in(found: Mapping[str, Any]) -> str:
    """Return what tells versions of a file apart; "" if the server tells nothing of the kind."""
    known = next((found[name] for name in VERSIONS if found.get(name)), "")
    # memory:// has a number in its listings where it has a datetime elsewhere
    if isinstance(known, datetime):
        known = known.timestamp()
    return f"{known} {found.get('size')}" if known else ""


def _described(exc: BaseException) -> str:
    return str(exc).partition("\n")[0].strip() or type(exc).__name__
