"""The files beside a blob: its index file, its offsets file, and the note of an append.

Strategy: when a blob is replaced, the files of the old blob are removed first. If the process is killed in between, the
old blob is scanned when it is opened. The other way round, the new blob would be refused because of the old index file,
or read through the old offsets file, which says nothing about its blob.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, FormatError, StorageError
from blobpack.index.tables.offsets import iter_offsets, offsets_path, void_path
from blobpack.indexfile.footer import INDEX_MAGIC, sidecar_of
from blobpack.indexfile.open import read_footer
from blobpack.stores.access.objects import delete_object
from blobpack.stores.http.etag import differ
from blobpack.stores.local import version_of
from blobpack.stores.location import Location
from blobpack.stores.open import may_be_missing, open_store
from blobpack.stores.output import (
    remove_leftovers,
    resolve_target,
    sync_folder,
    translate_write_errors,
)
from blobpack.writing.blob_file import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobpack.stores.base import Store


def forget_beside(blob: Location) -> None:
    """Remove the index file and the offsets file beside a blob that is about to be replaced.

    A file of another program that has the name of one of these files stays.

    Raises:
        StorageError: a file can't be removed, or can't be read, so that nobody knows whose it is.
    """
    if blob.has_key:
        _forget_object(sidecar_of(blob))
        return
    # a blob that is opened through a symbolic link has its files beside the link, or beside the blob
    target = resolve_target(blob)
    is_link = target != Path(os.path.abspath(blob))  # noqa: PTH100 (keeps links)
    for path in (Path(blob), target) if is_link else (Path(blob),):
        index_file, offsets_file = files_beside(path)
        old = [
            file
            for file, recognise in ((index_file, _is_index), (offsets_file, _is_offsets))
            if _is_ours(file, recognise)
        ]
        for file in old:
            with translate_write_errors(file):
                file.unlink(missing_ok=True)
        if old:
            # on disk before the new blob is
            sync_folder(path.parent)
        remove_note(path)
        remove_leftovers_beside(path)


def _is_ours(path: Path, recognise: Callable[[Path], bool]) -> bool:
    if not os.path.isfile(path):  # noqa: PTH113 (a name may be too long, which Path.is_file raises)
        return False
    try:
        return recognise(path)
    # removed meanwhile, or a file of another program
    except (FileNotFoundError, FormatError):
        return False
    # another reader may be able to read it, and would take it for the index of the new blob
    except OSError as exc:
        raise StorageError(
            f"{path}: can't be read, so the blob beside it is not replaced: {exc.strerror or exc}"
        ) from exc


def _is_index(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(INDEX_MAGIC)) == INDEX_MAGIC


def _is_offsets(path: Path) -> bool:
    # an empty file has no rows: it is the offsets file of an empty selection
    next(iter_offsets(path, 1), None)
    return True


def _forget_object(sidecar: Location) -> None:
    try:
        with open_store(sidecar) as store:
            begins = store.read_range(0, min(len(INDEX_MAGIC), store.size))
    except StorageError as exc:
        if may_be_missing(exc):
            return
        raise
    if begins == INDEX_MAGIC:
        delete_object(sidecar)


def forget_if_replaced(blob: Location, version: str) -> None:
    """Remove the index file that was just put beside an object in S3, if another process has replaced the object.

    S3 has no lock. Without its index file, the new object is scanned when it is opened; with this one, it would be refused.

    Args:
        blob: The object.
        version: Version of the object that the index file belongs to.
    """
    sidecar = sidecar_of(blob)
    try:
        with open_store(blob) as store:
            if not differ(store.version, version):
                return
        with open_store(sidecar) as beside:
            footer = read_footer(beside)
    except StorageError as exc:
        # this process may write objects, and perhaps not read them
        if may_be_missing(exc):
            return
        raise
    if footer and footer.identity and footer.identity.version == version:
        delete_object(sidecar)


@contextmanager
def unchanged(store: Store, beside: str | os.PathLike[str]) -> Iterator[None]:
    """Check that a local blob is as it was when it was opened, and keep it so for a block that writes a file about it.

    If the file is one that opening the blob finds, the note of an interrupted append goes after the block.

    Args:
        store: The blob, as it was when its members were read.
        beside: The index file or offsets file that the block writes.

    Raises:
        BlobChangedError: the blob was replaced or written since it was opened.
        StorageError: an append or embedding is at work on it.
    """
    if store.is_remote or store.location is None:
        yield
        return
    blob, target = resolve_target(store.location), Location.parse(beside)
    with undisturbed(blob, wait=False):
        try:
            now = version_of(blob.stat())
        except OSError:
            now = ""
        if now != store.version:
            raise BlobChangedError(
                f"{store.url}: it was replaced or written while {target} was made"
            )
        yield
        found = {resolve_target(file) for file in files_beside(Path(store.location))}
        if target.is_local and resolve_target(target) in found:
            remove_note(Path(store.location))


def remove_leftovers_beside(blob: Path) -> None:
    """Remove what killed runs have left of the files beside a blob, as far as the system allows."""
    remove_leftovers(*files_beside(blob), void_path(blob))


def remove_note(blob: Path) -> None:
    """Remove the note of an append, if there is one: the files beside the blob are up to date, or gone.

    Raises:
        StorageError: the note can't be removed.
    """
    with translate_write_errors(void_path(blob)):
        void_path(blob).unlink(missing_ok=True)


def files_beside(blob: Path) -> tuple[Path, Path]:
    """Return the paths at which opening a blob finds its index file and its offsets file."""
    return Path(sidecar_of(blob)), offsets_path(blob)
