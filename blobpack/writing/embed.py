"""Write the index of an archive that is complete: behind the archive, or into a file beside the blob.

Strategy: behind the archive, the index is the payload of a tar member. So tools that read on behind the end of the
archive find a header there. The header states the size of the index, which is known only when the index is written. In
a file the header is written after the index; for an upload to S3, the index is encoded once more to learn its size.

An index that is embedded in a blob in place is written in these steps, each on disk before the next one begins:

1. The index file beside the blob is removed. It would not fit the blob that is longer, and the blob would not open.
2. If the blob has an index, a mark takes the place of its footer. From here on, the blob opens by a scan of its headers.
3. The mark is written behind the archive. It says that what stands there may be overwritten.
4. The header and the index are written, but not the footer.
5. The footer is written.

If it is interrupted in between, by a kill or a power failure, the blob is a valid tar that opens by a scan, and the
next embedding finds the mark or the header, and writes a whole index.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from blobpack._native.scan import index_header
from blobpack.errors import FormatError
from blobpack.indexfile.footer import (
    FOOTER_BYTES,
    INDEX_MAGIC,
    MEMBER_HEADER_BYTES,
    sidecar_of,
)
from blobpack.indexfile.identity import identify
from blobpack.indexfile.open import read_footer
from blobpack.stores.output import (
    replacing,
    resolve_target,
    sync_folder,
    translate_write_errors,
)
from blobpack.stores.sink import CountingSink, FileSink
from blobpack.tar.facts import take_facts
from blobpack.tar.scan import scan_store
from blobpack.writing.append_mark import archive_end, mark_of
from blobpack.writing.beside import remove_leftovers_beside, remove_note, unchanged
from blobpack.writing.blob_file import WRITE_BYTES, locked
from blobpack.writing.kept_index import index_kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.index.index import Index
    from blobpack.indexfile.footer import Footer
    from blobpack.indexfile.identity import Identity
    from blobpack.stores.base import Store
    from blobpack.stores.sink import Sink
    from blobpack.writing.blob_file import BlobFile
    from blobpack.writing.kept_index import KeptIndex


def write_behind(sink: Sink, index: Index, identity: Identity) -> int:
    """Write an index behind the archive that was written to a sink.

    Args:
        sink: The blob, at the end of its archive.
        index: The members of the archive.
        identity: The identity of the archive, its end-of-archive marker included.

    Returns:
        Bytes of the index, its header and footer included.
    """
    start = sink.tell()
    # a stream can't be written at an earlier place, so the size must be known before; it costs 0.06 µs a member
    size = measure_index(index).region_bytes if sink.is_stream else 0
    sink.write(index_header(size))
    footer = index._write_sections(sink, identity)
    sink.write(footer.encode())
    if not sink.is_stream:
        tar = sink.local()
        tar.seek(start)
        tar.write(index_header(footer.region_bytes))
        tar.seek(start + footer.bytes_inside)
    index.identity = identity
    return footer.bytes_inside


def write_in_place(
    file: BlobFile, index: Index, identity: Identity, start: int, bytes_min: int
) -> None:
    """Write an index into a blob, its footer when all the rest is on disk.

    Args:
        file: The blob. Nobody believes what stands behind its archive: the footer of an old index is gone.
        index: The members of the archive; it gets the identity.
        identity: The identity of the archive.
        start: Where the archive ends.
        bytes_min: Least bytes from there to the end of the footer; zeros fill it up.

    Raises:
        StorageError: the index can't be written.
    """
    with file.writer(start + MEMBER_HEADER_BYTES) as writer:
        footer = index._write_sections(
            FileSink(writer), identity, bytes_min=bytes_min - MEMBER_HEADER_BYTES
        )
    file.write(index_header(footer.region_bytes), start)
    # the kernel may write pages in any order, and a footer makes readers believe the index
    file.sync()
    file.write(footer.encode(), start + footer.bytes_inside - FOOTER_BYTES)
    file.sync()
    index.identity = identity


def measure_index(index: Index) -> Footer:
    """Compute the footer that an index would have, for its size."""
    # Only writing it says the size: a block stores each column in 0 to 8 bytes a value, whatever its values need.
    return index._write_sections(CountingSink(), None)


def write_beside(store: Store, index: Index, path: str | os.PathLike[str]) -> Index:
    """Write an index file that belongs to a blob in its present state: a later change of the blob makes it stale.

    Args:
        store: The blob.
        index: The members of the blob; it gets the blob's identity.
        path: The file to write.

    Returns:
        The index, with the identity.

    Raises:
        BlobChangedError: a local blob was replaced or written since it was opened.
        StorageError: the file can't be written, or an append or embedding is at work on the blob.
    """
    # the version of a local file says nothing after a copy to another disk, so only checksums tie the index to it
    version = store.version if store.is_remote else ""
    index.identity = identify(store, store.size, version)
    with unchanged(store, path):
        # whoever calls this has looked what is there
        index.save(path, force=True)
    return index


def embed_index(
    blob: str | os.PathLike[str], *, facts: bool = False, threads: int | None = None
) -> Index:
    """Write an index behind the archive of a local blob; it replaces an index that is there, and the one beside the blob.

    If it fails, the blob is as it was. If it is killed, the blob is a valid tar without an index, because the footer is
    written last.

    Args:
        blob: Path of the blob.
        facts: Also read every payload, and add its facts.
        threads: See scan.

    Returns:
        The index, with the identity of the blob.

    Raises:
        BlobNotFoundError: there is no such file.
        StorageError: the blob can't be written, another append or embedding is at work on it, or something other than
            zeros or an index follows its archive.
        FormatError: the blob is damaged.
    """
    target = resolve_target(blob)
    with locked(target, os.fspath(blob)) as file:
        remove_leftovers_beside(target)
        # under the lock: members that an append adds after the scan would be overwritten
        with file.store() as store:
            size, footer = store.size, None
            # a footer that is damaged is one that no reader has mapped
            with suppress(FormatError):
                footer = read_footer(store)
            index = scan_store(store, threads=threads)
            archive_bytes, marker = archive_end(store, index)
            if facts:
                index = take_facts(store, index, threads)
        path = Path(sidecar_of(target))
        # open until the end: its bytes can be read after it is removed, and need no memory meanwhile
        with index_kept(file, footer, size) as kept, _opened_index_file(path) as sidecar:
            try:
                if sidecar:
                    with translate_write_errors(path):
                        path.unlink(missing_ok=True)
                    sync_folder(path.parent)
                kept.is_needed = True
                _write_marks(file, size, archive_bytes, marker)
                with file.store() as store:
                    identity = identify(store, archive_bytes)
                # at least as long as what it replaces, since a file that may be mapped must not shrink, and the footer must
                # be the last bytes of the file
                write_in_place(file, index, identity, archive_bytes, size - archive_bytes)
                kept.is_needed = False
                remove_note(target)
            # BaseException: after Ctrl-C, too
            except BaseException:
                if kept.is_replaced():
                    # readers may have mapped the new index, so it stays
                    file.sync()
                    kept.is_needed = False
                else:
                    _restore(file, kept, size, archive_bytes)
                    _restore_sidecar(file, sidecar, path)
                raise
    return index


def _restore_sidecar(file: BlobFile, sidecar: BinaryIO | None, path: Path) -> None:
    """Put back the index file beside a blob, if it was removed."""
    if sidecar and not path.exists() and file.is_in_place():
        with replacing(path) as restored:
            shutil.copyfileobj(sidecar, restored, WRITE_BYTES)


def _restore(file: BlobFile, kept: KeptIndex, size: int, archive_bytes: int) -> None:
    """Make a blob what it was, unless an interrupted append or embedding has left it without a whole index."""
    if size <= archive_bytes or kept.footer:
        # No reader has mapped what was added. What was there may be mapped: a reader of bytes past the end of a file is
        # killed by SIGBUS (mmap(2)).
        file.cut(size)
        file.sync()
    if kept.is_needed:
        kept.put_back()


def _write_marks(file: BlobFile, size: int, archive_bytes: int, marker: bytes) -> None:
    mark = mark_of("embed")
    # unless the mark behind the archive takes the place of the last block, too
    if size - len(mark) >= archive_bytes + len(mark):
        file.write(mark, size - len(mark))
        file.sync()
    file.write(marker + mark, archive_bytes - len(marker))
    file.sync()


@contextmanager
def _opened_index_file(path: Path) -> Iterator[BinaryIO | None]:
    """Open an index file; None if there is none, or if another program's file has its name."""
    with ExitStack() as stack:
        file = None
        with suppress(OSError):
            file = stack.enter_context(path.open("rb"))
        if file is not None:
            with translate_write_errors(path):
                is_index = file.read(len(INDEX_MAGIC)) == INDEX_MAGIC
                file.seek(0)
            file = file if is_index else None
        # outside of the handler: an error of the block would carry the missing file as its context
        yield file
