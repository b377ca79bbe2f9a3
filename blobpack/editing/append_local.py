"""Append members to a local blob in place: the payloads that are already there are neither moved nor read.

Strategy: a blob is its members, two zero blocks, and perhaps its index, with a footer as its last bytes. If an append
is interrupted at any moment, by a kill or a power failure, the blob is a valid tar of the old members, or of old and
new ones, and it opens as such. Only its index may be missing then; the next append puts it back. The steps, each on
disk before the next one begins:

1. If there is an index file or an offsets file beside the blob, a note beside the blob says that these files are void,
   and the index file is removed. The footer of an index in the blob is overwritten by a mark. From here on, readers
   open the blob by a scan of its headers.
2. A second mark is written behind the zero blocks. It says that what stands there is no other archive, and may be
   overwritten.
3. All new bytes are written, except for the first 1,536, whose place is still taken by the zero blocks and the mark:
   the rest of the new members, their zero blocks, and a mark. Space for the index is allocated behind them.
4. These 1,536 bytes are written. If they lie in one page, a single write makes the new members appear: the append
   relies on the kernel and the disk to write a page whole. Otherwise, the bytes in the second page are written first.
   In one of eight cases, these include the second zero block. If just this write is interrupted, the archive ends
   with one zero block: then GNU tar lists the old members with a warning, bsdtar and Python's tarfile without one,
   and busybox lists them and fails.
5. The index is written, and its footer when the index is on disk. Until then, readers scan. The note is removed.

Readers that have the blob open go on. No payload moves. Their mapped index is overwritten, which they notice by its
footer, the first bytes that change. So a copy of the index lies beside the blob from before step 1 until step 5 has
ended: `indexfile/overwritten.py` finds the copy, or the new index. A file never becomes shorter while an index in it
may be mapped, because the kernel would kill the readers (SIGBUS).
An append that fails, but is not killed, restores the blob as it found it, with another stamp in the footer. If readers
may have seen the new members already, it does steps 4 and 5 once more instead.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from blobpack.editing.blob_state import BlobState, read_state
from blobpack.editing.new_members import AppendResult, NewMembers, NothingAdded
from blobpack.editing.tail import HELD_BYTES, Tail
from blobpack.errors import StorageError
from blobpack.index.index import Index
from blobpack.index.tables.offsets import offsets_path, void_path
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.identity import identify
from blobpack.stores.output import (
    folder_locked,
    replacing,
    resolve_target,
    sync_folder,
    translate_write_errors,
)
from blobpack.tar.header import BLOCK, END_OF_ARCHIVE
from blobpack.writing.append_mark import mark_of
from blobpack.writing.beside import remove_leftovers_beside, remove_note
from blobpack.writing.blob_file import WRITE_BYTES, BlobFile, locked
from blobpack.writing.embed import measure_index, write_in_place
from blobpack.writing.kept_index import index_kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.stores.location import Location
    from blobpack.writing.kept_index import KeptIndex


def append_in_place(location: Location, new: NewMembers) -> AppendResult:
    """Append members to a local blob; see append.

    Raises:
        BlobpackError: as described for append.
    """
    path = resolve_target(location)
    sidecar = Path(sidecar_of(path))
    added = index = Index()
    with locked(path, location.text) as file:
        remove_leftovers_beside(path)
        with file.store() as store:
            before = read_state(store, new.stale)
        # before anything is changed, so that most failures leave the blob untouched
        found = new.check_names(new.find(), before.index, before.lookup, location)
        tail = Tail(file, before)
        with (
            index_kept(file, before.footer, before.size) as kept,
            # open until the end: its bytes can be read after it is removed, and need no memory meanwhile
            _opened_if_there(sidecar) as old_sidecar,
        ):
            try:
                kept.is_needed = True
                _void_index(file, before)
                added, tail.end = new.write(
                    found,
                    before,
                    tail,
                    location.text,
                    replaced=os.fstat(file.fd),
                    held=tail.held,
                )
                index = before.joined(added)
                tail.finish(measure_index(index).bytes_inside if before.place == "embed" else 0)
                tail.commit()
                _write_index(file, before, index, tail.end)
                kept.is_needed = False
            # BaseException: after Ctrl-C, too
            except BaseException as exc:
                if tail.has_appeared():
                    _complete(exc, file, tail, before, index, kept)
                else:
                    _restore(file, before, kept)
                    _restore_files(file, sidecar, old_sidecar)
                    index = before.index
                if not isinstance(exc, NothingAdded):
                    raise
        blob_bytes = os.fstat(file.fd).st_size
    offsets = offsets_path(path)
    stale_offsets = os.fspath(offsets) if added and offsets.exists() else None
    return AppendResult(before.place, added, index, blob_bytes, stale_offsets)


def _complete(
    failure: BaseException,
    file: BlobFile,
    tail: Tail,
    before: BlobState,
    index: Index,
    kept: KeptIndex,
) -> None:
    """Complete an append that failed behind its commit: readers may have opened the blob with its new members.

    Raises:
        StorageError: the append failed with an error. The message says that the new members are in the blob nevertheless.
    """
    lost = ""
    try:
        tail.commit()
        _write_index(file, before, index, tail.end)
        kept.is_needed = False
    except StorageError:
        lost = (
            ", but the blob has no index now: it is scanned when it is opened, and the next "
            "append writes one"
        )
    if isinstance(failure, StorageError):
        raise StorageError(f"{failure}; the members are appended{lost}") from failure


# Marking the index as void, and restoring it


def _void_index(file: BlobFile, before: BlobState) -> None:
    """Make the index void and mark the end of the blob (steps 1 and 2)."""
    mark = mark_of(before.place)
    sidecar = Path(sidecar_of(file.path))
    if sidecar.exists() or offsets_path(file.path).exists():
        # on disk before the index file goes: it says where the next append must write an index
        with replacing(void_path(file.path)) as note:
            note.write(mark)
        with translate_write_errors(sidecar):
            sidecar.unlink(missing_ok=True)
        sync_folder(sidecar.parent)
    # readers look for a footer in the last block; one that lies in the held bytes is overwritten below
    if before.size - BLOCK >= before.end + HELD_BYTES:
        file.write(mark, before.size - BLOCK)
        file.sync()
    # after the footer's mark is on disk: no reader may find a footer whose index has begun to be overwritten
    file.write(END_OF_ARCHIVE + mark, before.end)
    file.sync()


@contextmanager
def _opened_if_there(path: Path) -> Iterator[BinaryIO | None]:
    """Open a file for reading; None if it does not exist or can't be read."""
    file = None
    with suppress(OSError):
        file = path.open("rb")
    # outside of the handler: an error of the block would carry the missing file as its context
    with file or nullcontext():
        yield file


def _restore(file: BlobFile, before: BlobState, kept: KeptIndex) -> None:
    """Write what stood behind the old members again: index and footer, zeros, or the mark of an interrupted append."""
    inside = before.footer.bytes_inside if before.footer else 0
    start = before.size - inside
    mark = mark_of(before.place)
    # as in step 2: the commit may have overwritten them in part
    file.write(END_OF_ARCHIVE + mark, before.end)
    file.sync()
    if not before.footer and not before.only_zeros:
        if before.size - BLOCK >= before.end + HELD_BYTES:
            file.write(mark, before.size - BLOCK)
        zeros_end = before.end
    else:
        zeros_end = start
    for pos in range(before.end + HELD_BYTES, zeros_end, WRITE_BYTES):
        file.write(bytes(min(WRITE_BYTES, zeros_end - pos)), pos)
    file.sync()
    # only bytes that this append has added are cut: no reader has mapped them
    if os.fstat(file.fd).st_size > before.size:
        file.cut(before.size)
        file.sync()
    # the mark goes last, because it says that what stands behind it may be overwritten
    file.write(bytes(min(HELD_BYTES, zeros_end - before.end)), before.end)
    file.sync()
    kept.put_back()


def _restore_files(file: BlobFile, sidecar: Path, old_sidecar: BinaryIO | None) -> None:
    """Write the old index file beside the blob again, and remove the note."""
    # its bytes and not the index in memory: an index file may be stale, or fit the blob without an identity
    if old_sidecar and not sidecar.exists() and file.is_in_place():
        with replacing(sidecar) as restored:
            shutil.copyfileobj(old_sidecar, restored, WRITE_BYTES)
    # last: if restoring is killed, the note still says that the files beside the blob are void
    remove_note(file.path)


# Writing the new members


def _write_index(file: BlobFile, before: BlobState, index: Index, end: int) -> None:
    """Write the index of old and new members to the place of the old index (step 5).

    Args:
        file: The blob.
        before: Its state before the append.
        index: The old and the new members.
        end: Where the archive ends.

    Raises:
        StorageError: the index can't be written.
    """
    if before.place == "embed":
        with file.store() as store:
            identity = identify(store, end)
            size = store.size
        # never shorter than the file is now: a reader may have mapped its last bytes
        write_in_place(file, index, identity, end, size - end)
        remove_note(file.path)
        return
    # no index is in the file, so nobody has mapped it; the mark and old bytes behind the new end go
    file.cut(end)
    file.sync()
    if before.place == "sidecar":
        with file.store() as store:
            index.identity = identify(store, end)
        # The blob is locked, but other programs than blobpack can replace it nevertheless.
        with folder_locked(file.path.parent):
            if not file.is_in_place():
                raise StorageError(f"{file.url}: another blob has taken its place")
            index.save(sidecar_of(file.path), force=True)
        remove_note(file.path)
