"""The part of the file system that looks files and folders up, and lists them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from blobpack._native.packed import normal_name
from blobpack.errors import FactsMissingError
from blobpack.integrations.fsspec.base import AbstractFileSystem, tokenize
from blobpack.integrations.fsspec.listing import file_info, folder_info, infos_of
from blobpack.integrations.fsspec.paths import Entry, folders_of
from blobpack.integrations.fsspec.reads import MissingPathError

if TYPE_CHECKING:
    from blobpack.integrations.fsspec.listing import Info
    from blobpack.integrations.fsspec.shared import OpenedBlob, SharedBlob
    from blobpack.opening.reader import Reader


class ListedBlob(AbstractFileSystem):  # type: ignore[misc] # fsspec is optional, and mypy runs without it
    """The members of a blob or collection, which can be found and listed."""

    protocol = "blob"
    root_marker = ""

    _shared: SharedBlob

    @property
    def reader(self) -> Reader:
        """The open Blob or Collection."""
        return self._shared.opened().reader

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        # a list comes back with its elements done
        return normal_name(stripped) if isinstance(stripped, str) else stripped

    def info(self, path: str, **kwargs: Any) -> Info:
        """Return the name, type and size of a file or folder; of a file also its offsets and facts.

        Raises:
            MissingPathError: there is neither; it is a FileNotFoundError.
        """
        path = self._strip_protocol(path)
        opened = self._shared.opened()
        row = opened.row_of(path)
        if row >= 0:
            return file_info(path, opened.reader.index[row])
        if opened.paths.is_folder(path):
            return folder_info(path)
        raise missing(opened, path)

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Return whether there is a file or folder of this path."""
        return self._kind(path) is not None

    def isfile(self, path: str) -> bool:
        """Return whether there is a file of this path."""
        return self._kind(path) == "file"

    def isdir(self, path: str) -> bool:
        """Return whether there is a folder of this path, and no file."""
        return self._kind(path) == "directory"

    def _kind(self, path: str) -> str | None:
        # not every error: a server that can't be reached says nothing about what exists
        try:
            return str(self.info(path)["type"])
        except MissingPathError:
            return None

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """List a folder; for a file, the file alone."""
        path = self._strip_protocol(path)
        opened = self._shared.opened()
        # a tar may hold a file and a folder of one path: the folder is listed
        entries = list(opened.paths.children(path))
        if not entries and path:
            row = opened.row_of(path)
            if row < 0:
                raise missing(opened, path)
            entries = [Entry(path, row)]
        if not detail:
            return [entry.path for entry in entries]
        return infos_of(opened.reader.index, entries)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return the paths of all files below a folder, sorted; with detail, a dict of them and what `info` returns."""
        # the base class walks from folder to folder
        if maxdepth is not None:
            return super().find(path, maxdepth, withdirs, detail, **kwargs)
        path = self._strip_protocol(path)
        opened = self._shared.opened()
        entries = list(opened.paths.files_below(path))
        if not entries and path and (row := opened.row_of(path)) >= 0:
            entries = [Entry(path, row)]
        elif withdirs:
            folders = {folder for entry in entries for folder in folders_of(entry.path, path)}
            # as find does in a shell; the root has no name
            folders |= {path} if path and entries else set()
            entries += [Entry(folder, -1) for folder in folders]
        entries.sort()
        if not detail:
            return [entry.path for entry in entries]
        return {info["name"]: info for info in infos_of(opened.reader.index, entries)}

    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """Return the paths that match a pattern. A file whose own name has the characters of a pattern is found by it, too."""
        # as `blobpack.open` does: what exists under the name as it is spelled comes first
        literal = self._strip_protocol(path)
        if self._shared.opened().reader.index._find(literal) >= 0:
            return {literal: self.info(literal)} if kwargs.get("detail") else [literal]
        return super().glob(path, maxdepth=maxdepth, **kwargs)

    def modified(self, path: str) -> datetime:
        """Return the time of a file's last modification.

        Raises:
            FactsMissingError: the index does not know it.
        """
        mtime = self.info(path).get("mtime")
        if mtime is None:
            raise FactsMissingError(
                f"{self.reader.url}: the modification time of {path} is unknown"
            )
        return datetime.fromtimestamp(mtime, UTC)

    def ukey(self, path: str) -> str:
        """Return a text that changes if a file does; fsspec's caches keep files by it."""
        return str(tokenize(self.reader.url, self.info(path)))

    def invalidate_cache(self, path: str | None = None) -> None:
        """Open the blob again at its next use, as it is then."""
        self._shared.forget()
        super().invalidate_cache(path)


def missing(opened: OpenedBlob, path: str) -> MissingPathError:
    """Return the error for a path that is neither a file nor a folder."""
    return MissingPathError(f"{opened.reader.url}: no file or folder {path!r}")
