"""Write the index of an archive that is complete: behind the archive, or into a file beside the blob."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError
from blobpack.indexfile.footer import INDEX_MAGIC, sidecar_of
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
    """Write an index behind the archive that was written to a sink.

    Args:
        sink: The blob, at the end of its archive.
        index: The members of the archive.
        identity: The identity of the archive, its end-of-archive marker included.

    Returns:
        Bytes of the index, its footer included.
    """
    footer = index.write_sections(sink, identity)
    sink.write(footer.encode())
    index.identity = identity
    return footer.region_bytes


def region_bytes(index: Index) -> int:
    """Compute the bytes that an index takes, its footer included."""
    # Only writing it says how many: a block stores each column in 0 to 8 bytes a value, whatever its values need.
    return index.write_sections(CountingSink(), None).region_bytes


def write_beside(store: Store, index: Index, path: str | os.PathLike[str]) -> Index:
    """Write an index file that belongs to a blob in its present state: a later change of the blob makes it stale.

    Args:
        store: The blob.
        index: The members of the blob; it gets the blob's identity.
        path: The file to write.

    Returns:
        The index, with the identity.

    Raises:
        StorageError: the file can't be written.
    """
    # the version of a local file says nothing after a copy to another disk, so only checksums tie the index to it
    version = store.version if store.is_remote else ""
    index.identity = identify(store, store.size, version)
    index.save(path)
    return index


def embed_index(blob: str | os.PathLike[str], *, facts: bool = False) -> Index:
    """Write an index behind the archive of a local blob; it replaces an index that is there.

    If it is interrupted, the blob is a valid tar without an index, because the footer is written last.

    Args:
        blob: Path of the blob.
        facts: Also read every payload, and add its facts.

    Returns:
        The index, with the identity of the blob.

    Raises:
        BlobNotFoundError: there is no such file.
        StorageError: the blob can't be written, another append or embedding is at work on it, or something other than
            zeros or an index follows its archive.
        FormatError: the blob is damaged.
    """
    target = resolve_target(blob)
    if not target.exists():
        raise BlobNotFoundError(f"{os.fspath(blob)}: no such file")
    with translate_write_errors(blob), target.open("r+b") as locked:
        # before the scan: members that an append adds after the scan would be overwritten
        lock(locked.fileno(), os.fspath(blob))
        with LocalStore(target) as store:
            size = store.size
            index = scan_store(store)
            archive_bytes, marker = archive_end(store, index)
            if facts:
                index = take_facts(store, index)
        try:
            index.identity = _replace_index(target, index, archive_bytes, marker, size)
        except BaseException:
            # A blob without an index becomes what it was. A blob that had one keeps its size, because the old index may
            # be mapped: a reader of bytes past the end of a file is killed by SIGBUS (mmap(2)).
            if size <= archive_bytes:
                os.truncate(target, size)
            raise
    forget_beside(target)
    return index


def _replace_index(
    target: Path, index: Index, archive_bytes: int, marker: bytes, size: int
) -> Identity:
    """Write an index behind the archive of a file, its footer last.

    Args:
        target: The file.
        index: The index.
        archive_bytes: Where the index goes.
        marker: The bytes that belong just before it.
        size: Bytes of the file.

    Returns:
        The identity of the archive, which the index now has.
    """
    with target.open("r+b") as file:
        # The magic at the end of the old footer goes first. From here on the blob has no index, and whoever opens it
        # scans it: a new index under the old footer would be taken for damage.
        if size > archive_bytes:
            write_durably(file, size - len(INDEX_MAGIC), bytes(len(INDEX_MAGIC)))
        write_durably(file, archive_bytes - len(marker), marker)
        with LocalStore(target) as store:
            identity = identify(store, archive_bytes)
        file.seek(archive_bytes)
        # at least as long as what it replaces, since a file that may be mapped must not shrink, and the footer must be
        # the last bytes of the file
        footer = index.write_sections(FileSink(file), identity, bytes_min=size - archive_bytes)
        write_durably(file, file.tell(), footer.encode())
    return identity


def forget_beside(blob: str | os.PathLike[str]) -> None:
    """Remove the index file beside a blob that was replaced, or that has its index inside now.

    The index file of the old blob would be stale, and the new blob would not open.
    """
    path = Path(sidecar_of(blob))
    with suppress(OSError):
        with path.open("rb") as file:
            # a file of another program may have the same name: it stays
            is_index = file.read(len(INDEX_MAGIC)) == INDEX_MAGIC
        if is_index:
            path.unlink()
