"""An index behind its archive, or in a file beside it: written once the archive is whole."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, get_args

from blobpack.errors import BlobNotFoundError, StorageError
from blobpack.indexfile.footer import MAGIC, sidecar_path
from blobpack.indexfile.identity import Witness, identify
from blobpack.indexfile.open import read_footer
from blobpack.stores.local import LocalStore
from blobpack.stores.location import is_local
from blobpack.stores.output import resolve_target, said_of
from blobpack.tar.facts import take_facts
from blobpack.tar.header import BLOCK, END_OF_ARCHIVE
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.indexfile.identity import Identity
    from blobpack.stores.base import Store

IndexPlace = Literal["embed", "sidecar", "none"]
WINDOW_BYTES = 1 << 20
UNDER_WAY = b"blobpack: an append is at work here, or was interrupted; index: "


def write_behind(file: BinaryIO | Witness, index: Index, archive_bytes: int) -> int:
    """Write an index behind the archive that a new file holds so far.

    Args:
        file: At the archive's end, open for writing, and named; or a Witness of what was written.
        index: Its members.
        archive_bytes: The archive's bytes, its end marker included.

    Returns:
        The index's bytes.
    """
    if isinstance(file, Witness):
        identity, file = file.identity(), file.file
    else:
        file.flush()
        with LocalStore(file.name) as store:
            identity = identify(store, archive_bytes)
        file.seek(archive_bytes)
    footer = index.write_sections(file, identity)
    file.write(footer.encode())
    index.identity = identity
    return footer.region_bytes


def region_bytes(index: Index) -> int:
    """Compute how many bytes an index takes."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 (no path of a file)
        return index.write_sections(nowhere, None).region_bytes


def write_beside(store: Store, index: Index, path: str | os.PathLike[str]) -> Index:
    """Write an index file that is tied to a blob as it is now.

    Returns:
        The index, tied to the blob.

    Raises:
        StorageError: the file can't be written.
    """
    version = "" if is_local(store.url) else store.version
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
    with said_of(blob), target.open("r+b") as locked:
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
        footer = index.write_sections(file, identity, bytes_min=size - archive_bytes)
        write_durably(file, file.tell(), footer.encode())
    return identity


def forget_beside(blob: str | os.PathLike[str]) -> None:
    """Remove an index file left beside a blob that is another one now, or has its index inside."""
    path = Path(sidecar_path(blob))
    with suppress(OSError):
        with path.open("rb") as file:
            ours = file.read(len(MAGIC)) == MAGIC
        if ours:
            path.unlink()


def lock(fd: int, url: str) -> None:
    """Keep others from changing a blob, for as long as the file is open.

    Raises:
        StorageError: another process is at work on it.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise StorageError(f"{url}: another append or embedding is at work on it") from exc
    except OSError as exc:
        raise StorageError(f"{url}: can't be locked: {exc.strerror}") from exc


def archive_end(store: Store, scanned: Index) -> tuple[int, bytes]:
    """Find where an index goes behind an archive that was scanned, and which zeros are missing before it.

    Raises:
        StorageError: something that is no index of ours stands behind the archive's end.
    """
    report = scanned.report
    end = report.bytes_scanned if report else 0
    marked = end + len(END_OF_ARCHIVE)
    if store.size <= marked:
        return marked, bytes(marked - end)
    footer = read_footer(store)
    if footer is None:
        if place_left_behind(store, marked):
            return marked, END_OF_ARCHIVE
        if trailing_zeros(store, marked) < store.size - marked:
            raise StorageError(
                f"{store.url}: something other than zeros stands behind the archive's end at byte {marked}, "
                f"so an index can't go there: make one beside it"
            )
        return store.size + -store.size % BLOCK, bytes(-store.size % BLOCK)
    kept = footer.identity.archive_bytes if footer.identity else 0
    whole = kept == store.size - footer.region_bytes and kept >= marked
    return (kept, b"") if whole else (marked, END_OF_ARCHIVE)


def mark_of(place: IndexPlace) -> bytes:
    """Make the block that says an append is under way, and where the blob's index goes after it."""
    return (UNDER_WAY + place.encode() + b"\n").ljust(BLOCK, b"\0")


def place_marked(block: bytes) -> IndexPlace | None:
    """Read what such a block says; None when it is none."""
    places: tuple[IndexPlace, ...] = get_args(IndexPlace)
    return next((place for place in places if block == mark_of(place)), None)


def place_left_behind(store: Store, marked: int) -> IndexPlace | None:
    """Find what an index, or an append or embedding that was interrupted, left behind an archive's end.

    Args:
        store: The blob.
        marked: Where its end-of-archive marker ends.

    Returns:
        Where the blob's index was; None when what is there, if anything, is not ours.
    """
    if store.size <= marked:
        return None
    last = store.read_range(max(store.size - BLOCK, 0), store.size)
    pos = marked + trailing_zeros(store, marked) // BLOCK * BLOCK
    first = store.read_range(pos, min(pos + BLOCK, store.size))
    if first.startswith(MAGIC) or last.endswith(MAGIC):
        return "embed"
    return place_marked(first) or place_marked(last)


def trailing_zeros(store: Store, start: int) -> int:
    """Count the zeros from a place on, up to the store's end."""
    pos = start
    while pos < store.size:
        window = store.read_range(pos, min(pos + WINDOW_BYTES, store.size))
        if window.strip(b"\0"):
            return pos - start + len(window) - len(window.lstrip(b"\0"))
        pos += len(window)
    return pos - start


def write_durably(file: BinaryIO, position: int, block: bytes) -> None:
    """Write bytes at a place, and wait until they are on disk."""
    file.seek(position)
    file.write(block)
    file.flush()
    os.fsync(file.fileno())
