"""New members behind those of a blob, in place: the payloads that are there are neither moved nor read.

A blob is its members, two zero blocks, and perhaps its index with a footer as the last bytes. Whenever an append
is interrupted, by a kill or a power failure, the blob is a valid tar of the old members or of old and new ones, and
opens as such; only its index may be missing, and the next append puts it back. The steps, each on disk before
the next one begins:

1. A note beside the blob says that its index and offsets files are void, if there are any, and the index file is
   removed; the footer is overwritten by a mark. From here on the blob opens by a scan of its headers.
2. A second mark goes behind the zero blocks: what will stand there is no other archive, and may be written over.
3. All that is new is written but its first 1,536 bytes, which belong where zero blocks and mark are: the rest of
   the members, their zero blocks, a mark.
4. Those 1,536 bytes are written. When they lie in one page, one write makes the new members appear; a page is
   what kernels and disks write whole. Else what lies in the next page is written first. In one of eight cases
   that is the second zero block: if just this write is interrupted, one zero block ends the archive. GNU tar then
   lists the old members with a warning, bsdtar and Python's tarfile without one; busybox lists them, then fails.
5. The index is written, and when it is on disk, its footer. Until then readers scan. The note is removed.

A file never gets shorter while an index in it may be mapped: readers would be killed. Readers that have the blob
open go on reading payloads; in an index they have mapped, which is overwritten, names are not found, or it is
said to be damaged: they should open the blob anew.
An append that fails, rather than being killed, puts back what it found.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.editing.blob_state import BlobState, read_state
from blobpack.editing.new_members import AppendResult, NewMembers, NothingAdded
from blobpack.errors import StorageError
from blobpack.index.index import Index
from blobpack.index.offsets import offsets_path
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.identity import identify
from blobpack.reading.find_index import void_path
from blobpack.stores.local import LocalStore
from blobpack.stores.output import replacing, resolve_target, said_of, sync_folder
from blobpack.stores.sink import FileSink, LocalSink
from blobpack.tar.header import BLOCK, END_OF_ARCHIVE
from blobpack.writing.append_mark import mark_of
from blobpack.writing.blob_file import WRITE_BYTES, BlobFile, locked
from blobpack.writing.embed import write_beside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

    from blobpack.stores.location import Location

HELD_BYTES = 3 * BLOCK  # the two zero blocks and the mark
ATOMIC_WRITE_BYTES = 4096


def append_in_place(location: Location, new: NewMembers) -> AppendResult:
    """Add members to a local blob."""
    path = resolve_target(location)
    added, end = Index(), 0
    with locked(path, location.text) as file:
        with LocalStore(path) as store:
            before = read_state(store, new.stale)
        found = new.check_names(new.find(), before)
        tail = _Tail(file, before)
        with _index_voided(file, before):
            added, end = new.write(
                found,
                before,
                tail,
                location.text,
                replaced=os.fstat(file.fd),
                held=tail.held,
            )
            tail.finish()
        index = before.index
        if added:
            tail.commit()
            index = _write_joined_index(file, before, added, end)
        blob_bytes = os.fstat(file.fd).st_size
    offsets = offsets_path(path)
    stale_offsets = os.fspath(offsets) if added and offsets.exists() else None
    return AppendResult(before, added, index, blob_bytes, stale_offsets)


# Voiding the index, and putting it back


@contextmanager
def _index_voided(file: BlobFile, before: BlobState) -> Iterator[None]:
    """Void the index and mark the blob's end (steps 1 and 2); put all back if the block fails."""
    mark = mark_of(before.place)
    sidecar, void = Path(sidecar_of(file.path)), void_path(file.path)
    had_sidecar = sidecar.exists()
    try:
        if had_sidecar or offsets_path(file.path).exists():
            with replacing(void) as note:
                note.write(mark)
            with said_of(sidecar):
                sidecar.unlink(missing_ok=True)
            sync_folder(sidecar.parent)
        if before.size - BLOCK >= before.end + HELD_BYTES:
            file.write(mark, before.size - BLOCK)
            file.sync()
        file.write(END_OF_ARCHIVE + mark, before.end)
        file.sync()
        yield
    except BaseException as exc:
        _restore(file, before)
        if had_sidecar and before.index.identity:
            before.index.save(sidecar)
        void.unlink(missing_ok=True)
        if not isinstance(exc, NothingAdded):
            raise


def _restore(file: BlobFile, before: BlobState) -> None:
    """Put back what stood behind the members, or, after an append that was interrupted, the like of it."""
    start = before.size
    if before.footer:
        start -= before.footer.region_bytes
        writer = file.writer(start)
        footer = before.index.write_sections(
            FileSink(writer), before.index.identity, bytes_min=before.footer.region_bytes
        )
        writer.flush()
    elif not before.only_zeros and before.size - BLOCK >= before.end + HELD_BYTES:
        file.write(mark_of(before.place), before.size - BLOCK)
    if before.footer or before.only_zeros:
        for pos in range(before.end, start, WRITE_BYTES):
            file.write(bytes(min(WRITE_BYTES, start - pos)), pos)
    if os.fstat(file.fd).st_size > before.size:
        file.cut(before.size)
    file.sync()
    if before.footer:
        file.write(footer.encode(), before.size - BLOCK)
        file.sync()


# What is new


class _Tail(LocalSink):
    """The blob behind the members that are there. The first bytes that are written are kept back.

    Attributes:
        held: These bytes.
    """

    def __init__(self, file: BlobFile, before: BlobState) -> None:
        self._file, self._before = file, before
        self._start = self._pos = before.end
        self.held = bytearray(HELD_BYTES)

    def fileno(self) -> int:
        """Return the blob's descriptor."""
        return self._file.fd

    def tell(self) -> int:
        """Return the position in the blob."""
        return self._pos

    def seek(self, pos: int, /) -> int:
        """Have the next write go to a position."""
        self._pos = pos
        return pos

    def write(self, data: Buffer, /) -> int:
        """Write on, or keep back what belongs at the start."""
        view = memoryview(data).cast("B")
        kept = max(0, min(len(view), self._start + HELD_BYTES - self._pos))
        if kept:
            at = self._pos - self._start
            self.held[at : at + kept] = view[:kept]
        self._file.write(view[kept:], self._pos + kept)
        self._pos += len(view)
        return len(view)

    def finish(self) -> None:
        """End what was written (step 3)."""
        mark = mark_of(self._before.place)
        end = self._pos
        self.write(mark)
        if end + BLOCK < self._before.size:
            self._file.write(mark, self._before.size - BLOCK)
        self._file.sync()

    def commit(self) -> None:
        """Write what was kept back: the new members are there (step 4)."""
        in_page = ATOMIC_WRITE_BYTES - self._start % ATOMIC_WRITE_BYTES
        if in_page < HELD_BYTES:
            self._file.write(self.held[in_page:], self._start + in_page)
            self._file.sync()
        self._file.write(self.held[:in_page], self._start)
        self._file.sync()


def _write_joined_index(file: BlobFile, before: BlobState, added: Index, end: int) -> Index:
    """Write the index of all members where it was; say what a failure means.

    Raises:
        StorageError: it can't be written.
    """
    try:
        return _replace_index(file, before, added, end)
    except StorageError as exc:
        raise StorageError(
            f"{exc}; the members are appended, but the blob has no index now: it is scanned when it "
            f"is opened, and the next append makes one"
        ) from exc


def _replace_index(file: BlobFile, before: BlobState, added: Index, end: int) -> Index:
    """Write the index of all members where it was (step 5).

    Raises:
        StorageError: it can't be written; the members are there all the same.
    """
    index = before.joined(added)
    if before.place == "embed":
        with LocalStore(file.path) as store:
            index.identity = identify(store, end)
            size = store.size
        writer = file.writer(end)
        footer = index.write_sections(FileSink(writer), index.identity, bytes_min=size - end)
        writer.flush()
        file.sync()
        file.write(footer.encode(), end + footer.region_bytes - BLOCK)
        file.sync()
        void_path(file.path).unlink(missing_ok=True)
        return index
    file.cut(end)
    file.sync()
    if before.place == "sidecar":
        with LocalStore(file.path) as store:
            write_beside(store, index, sidecar_of(file.path))
        void_path(file.path).unlink(missing_ok=True)
    return index
