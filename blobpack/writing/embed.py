"""An index behind its archive, or in a file beside it: written once the archive is whole."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError
from blobpack.indexfile.footer import MAGIC, sidecar_of
from blobpack.indexfile.identity import identify
from blobpack.stores.local import LocalStore
from blobpack.stores.output import resolve_target, translate_write_errors
from blobpack.stores.sink import CountingSink, FileSink
from blobpack.tar.facts import take_facts
from blobpack.tar.scan import scan_store
from blobpack.writing.append_mark import archive_end
from blobpack.writing.blob_file import lock, write_durably

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.indexfile.identity import Identity
    from blobpack.stores.base import Store
    from blobpack.stores.sink import Sink


def write_behind(sink: Sink, index: Index, identity: Identity) -> int:
    """Write an index behind the archive that a sink holds so far.

    Args:
        sink: At the archive's end.
        index: The archive's members.
        identity: Describes the archive, its end marker included.

    Returns:
        The index's bytes.
    """
    footer = index.write_sections(sink, identity)
    sink.write(footer.encode())
    index.identity = identity
    return footer.region_bytes


def region_bytes(index: Index) -> int:
    """Compute how many bytes an index takes."""
    return index.write_sections(CountingSink(), None).region_bytes


def write_beside(store: Store, index: Index, path: str | os.PathLike[str]) -> Index:
    """Write an index file that is tied to a blob as it is now.

    Returns:
        The index, tied to the blob.

    Raises:
        StorageError: the file can't be written.
    """
    version = store.version if store.is_remote else ""
    index.identity = identify(store, store.size, version)
    index.save(path)
    return index


def embed_index(
    blob: str | os.PathLike[str], index: Index | None = None, *, facts: bool = False
) -> Index:
    """Put an index behind the archive of a local blob, in place of one that is there.

    What stands behind the end-of-archive marker is the index's. Interrupted, the blob is a valid tar
    without an index: the footer is the last that is written.

    Args:
        blob: The blob's path.
        index: Its members; None scans the blob.
        facts: Also read every payload, and take what its bytes tell.

    Returns:
        The index.

    Raises:
        StorageError: the blob can't be written, or something else stands behind its end.
        FormatError: the blob is damaged.
    """
    target = resolve_target(blob)
    if not target.exists():
        raise BlobNotFoundError(f"{os.fspath(blob)}: no such file")
    with translate_write_errors(blob), target.open("r+b") as locked:
        lock(locked.fileno(), os.fspath(blob))
        with LocalStore(target) as store:
            size = store.size
            scanned = scan_store(store)
            archive_bytes, marker = archive_end(store, scanned)
            index = scanned if index is None else index
            if facts:
                index = take_facts(store, index)
        try:
            index.identity = _write_index(target, index, archive_bytes, marker, size)
        except BaseException:
            if size <= archive_bytes:  # it had no index: it is as it was
                os.truncate(target, size)
            raise
    forget_beside(target)
    return index


def _write_index(
    target: Path, index: Index, archive_bytes: int, marker: bytes, size: int
) -> Identity:
    """Write an index behind the archive of a file, its footer last."""
    with target.open("r+b") as file:
        if size > archive_bytes:  # the old magic goes first: from here on the blob has no index
            write_durably(file, size - len(MAGIC), bytes(len(MAGIC)))
        write_durably(file, archive_bytes - len(marker), marker)
        with LocalStore(target) as store:
            identity = identify(store, archive_bytes)
        file.seek(archive_bytes)
        footer = index.write_sections(FileSink(file), identity, bytes_min=size - archive_bytes)
        write_durably(file, file.tell(), footer.encode())
    return identity


def forget_beside(blob: str | os.PathLike[str]) -> None:
    """Remove an index file left beside a blob that is another one now, or has its index inside."""
    path = Path(sidecar_of(blob))
    with suppress(OSError):
        with path.open("rb") as file:
            ours = file.read(len(MAGIC)) == MAGIC
        if ours:
            path.unlink()
