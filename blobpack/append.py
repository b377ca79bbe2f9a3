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

A blob in S3 is made anew: S3 copies the old members by itself, what is new and the index go up behind them, and
the object appears whole, in place of the one that was opened and of no other one.
"""

from __future__ import annotations

import io
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn, cast, get_args

from blobpack._gather import recognise_image
from blobpack.atomic import replacing, resolve_target, said_of, sync_folder
from blobpack.columns import Columns
from blobpack.discovery import void_path, whole_index
from blobpack.embed import (
    IndexPlace,
    lock,
    mark_of,
    place_left_behind,
    place_marked,
    trailing_zeros,
    write_behind,
    write_beside,
)
from blobpack.errors import (
    BlobNotFoundError,
    DuplicateNameError,
    FormatError,
    StaleIndexError,
    StorageError,
)
from blobpack.identity import identify
from blobpack.index import Index
from blobpack.indexfile import sidecar_path
from blobpack.model import Duplicates
from blobpack.objects import Objects
from blobpack.offsets import offsets_path
from blobpack.output import continuing
from blobpack.pack import expected_bytes, find_sources, pack_sources
from blobpack.scan import scan_store
from blobpack.sources import Skipped, Sources, filtered, listed
from blobpack.stored import read_footer
from blobpack.stores import is_local, local_name, open_store
from blobpack.stores.local import LocalStore
from blobpack.tarformat import BLOCK, END_OF_ARCHIVE
from blobpack.zstdseek import is_zstd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

    from blobpack.discovery import Stale
    from blobpack.indexfile import Footer
    from blobpack.model import Payload, Progress
    from blobpack.stores.base import Store
    from blobpack.stores.s3 import S3Store


HELD_BYTES = 3 * BLOCK  # the two zero blocks and the mark
PAGE_BYTES = 4096
WRITE_BYTES = 1 << 20
HEAD_BYTES = 4096  # of a file, to tell whether it is an image


@dataclass(frozen=True, slots=True)
class AppendReport:
    """What append did.

    Attributes:
        appended: Members added.
        appended_bytes: Their payloads' bytes.
        members: All that the blob has now.
        blob_bytes: Its bytes.
        index_place: Where its index is: "embed", "sidecar" or "none", as before.
        skipped: Reason → how many files were left out for it.
        examples: Reason → the first few of them.
        seconds: How long it took.
        index: The blob's members.
        stale_offsets: The offsets file beside the blob, which does not have the new members; None when there
            is none.
    """

    appended: int
    appended_bytes: int
    members: int
    blob_bytes: int
    index_place: IndexPlace
    skipped: dict[str, int]
    examples: dict[str, list[str]] = field(repr=False)
    seconds: float
    index: Index = field(repr=False)
    stale_offsets: str | None = None

    def __str__(self) -> str:
        text = (
            f"appended {self.appended:,} members, {self.appended_bytes:,} bytes, in {self.seconds:.2f} s; "
            f"the blob has {self.members:,} members, {self.blob_bytes:,} bytes"
        )
        if self.index_place == "none":
            text += "\nthe blob had no index, and has none now: `blobpack index` makes one"
        if self.stale_offsets:
            text += f"\n{self.stale_offsets} does not have the new members: `blobpack offsets` makes it anew"
        for reason, count in sorted(self.skipped.items()):
            examples = ", ".join(self.examples[reason][:3])
            text += f"\nskipped {count:,}: {reason} ({examples}{', …' if count > 3 else ''})"
        return text


def append(
    blob: str | os.PathLike[str],
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Iterable[Payload],
    *,
    duplicates: Duplicates = "refuse",
    globs: Iterable[str] = (),
    exclude: Iterable[str] = (),
    all_files: bool = False,
    hidden: bool = False,
    follow_symlinks: bool = False,
    keep_mtime: bool = False,
    facts: bool = True,
    stale: Stale = "refuse",
    threads: int | None = None,
    progress: Progress | None = None,
) -> AppendReport:
    """Add members to a blob, in time that grows with what is added, and with the index.

    The index stays where it was: inside the blob, beside it, or nowhere. Killed at any moment, the blob opens as
    before or as after. Two appends can't be at work on one blob: the second one is refused at once.

    A blob in S3 is neither downloaded nor changed: a new one takes its place, of which S3 copies the old part by
    itself. Of two appends at once at most one succeeds there, and nothing is left of the other one.

    Args:
        blob: The blob's path, or an s3:// URL.
        source: A folder, a prefix in S3, files, or (name, payload) pairs, as in pack.
        duplicates: What to do about a name that the blob has already: "refuse", or let the "last" one count. The
            old member stays in the blob, and in the order of its members.
        globs: Add only names that match one of these; `*` crosses "/".
        exclude: And none of these.
        all_files: Add every file, not only images.
        hidden: Also files and folders whose names begin with ".".
        follow_symlinks: Add what symbolic links point at, under the links' names.
        keep_mtime: Store modification times, in whole seconds; else 0.
        facts: Take them for the index, as pack does, if the blob's index has some.
        stale: What to do with an index that is not of the blob as it is now: refuse, or scan the blob.
        threads: How many read; None for as many as there are processors, up to 4.
        progress: progress(files, bytes), called now and then.

    Returns:
        What was added and what was skipped and why, with the index of all members.

    Raises:
        DuplicateNameError: the blob has a member of that name; or two files have one.
        SourceError: files can't be read, or changed meanwhile.
        UnsafeNameError: a name is empty, absolute or leads upwards with "..".
        BlobNotFoundError: there is no such blob.
        BlobChangedError: of a blob in S3, another one took its place meanwhile, or another upload is under way.
        StaleIndexError: the index is not of the blob as it is now.
        FormatError: the blob is damaged, or compressed.
        StorageError: another append is at work on the blob; something else stands behind its end; or it can't
            be written.
    """
    began = time.perf_counter()
    if duplicates not in get_args(Duplicates):
        raise ValueError(f"duplicates must be 'refuse' or 'last', not {duplicates!r}")
    if not is_local(blob):
        return _append_far(
            os.fspath(blob),
            source,
            began,
            duplicates=duplicates,
            globs=globs,
            exclude=exclude,
            all_files=all_files,
            hidden=hidden,
            follow_symlinks=follow_symlinks,
            keep_mtime=keep_mtime,
            facts=facts,
            stale=stale,
            threads=threads,
            progress=progress,
        )
    path = resolve_target(local_name(blob))
    skipped = Skipped()
    with _locked(path, os.fspath(blob)) as file:
        with LocalStore(path) as store:
            before = _examine(store, stale)
        sources, is_folder = find_sources(source, skipped, hidden=hidden, follow=follow_symlinks)
        if duplicates == "refuse":
            sources = _without_taken(
                sources, before, globs, exclude, skipped=skipped, images_only=not all_files
            )
        tail = _Tail(file, before)
        with _voided(file, before):
            added, end = pack_sources(
                sources,
                cast("BinaryIO", tail),
                skipped,
                target=file.url,
                replaced=os.fstat(file.fd),
                globs=globs,
                exclude=exclude,
                images_only=not all_files,
                follow_links=follow_symlinks or not is_folder,
                keep_mtime=keep_mtime,
                facts=facts and before.has_facts,
                threads=threads,
                progress=progress,
                start=before.end,
                held=tail.held,
            )
            if not added:
                raise _NothingAdded
            tail.finish()
        index = before.index
        if added:
            tail.commit()
            try:
                index = _write_index(file, before, added, end)
            except StorageError as exc:
                raise StorageError(
                    f"{exc}; the members are appended, but the blob has no index now: it is scanned when it "
                    f"is opened, and the next append makes one"
                ) from exc
        blob_bytes = os.fstat(file.fd).st_size
    offsets = offsets_path(path)
    return AppendReport(
        appended=len(added),
        appended_bytes=added.payload_bytes,
        members=len(index),
        blob_bytes=blob_bytes,
        index_place=before.place,
        skipped=dict(skipped.counts),
        examples=skipped.examples,
        seconds=time.perf_counter() - began,
        index=index,
        stale_offsets=os.fspath(offsets) if added and offsets.exists() else None,
    )


class _NothingAdded(Exception):  # noqa: N818 (no error: what was void is put back)
    """All there was to append was skipped."""


class _File:
    """The blob, open for an append; its errors name it."""

    def __init__(self, fd: int, path: Path, url: str) -> None:
        self.fd, self.path, self.url = fd, path, url

    def write(self, data: Buffer, pos: int) -> None:
        """Write bytes at a place, all of them."""
        view = memoryview(data).cast("B")
        with said_of(self.url):
            while view:
                done = os.pwrite(self.fd, view, pos)
                view, pos = view[done:], pos + done

    def sync(self) -> None:
        """Wait until all that was written is on disk."""
        with said_of(self.url):
            os.fsync(self.fd)

    def cut(self, size: int) -> None:
        """End the file here."""
        with said_of(self.url):
            os.ftruncate(self.fd, size)


class _Writer(io.RawIOBase):
    """Writes on from a place of a file."""

    def __init__(self, file: _File, pos: int) -> None:
        super().__init__()
        self._file, self.pos = file, pos

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        """Write all of it."""
        size = memoryview(data).nbytes
        self._file.write(data, self.pos)
        self.pos += size
        return size


@contextmanager
def _locked(path: Path, url: str) -> Iterator[_File]:
    """Open a blob for an append, and keep others from it.

    Raises:
        BlobNotFoundError: there is no such file.
        StorageError: another append has it, or it can't be written.
    """
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as exc:
            raise BlobNotFoundError(f"{url}: no such file") from exc
        except OSError as exc:
            raise StorageError(f"{url}: can't be written: {exc.strerror}") from exc
        try:
            lock(fd, url)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(fd)):
                yield _File(fd, path, url)
                return  # else it was replaced before it was locked
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class _Before:
    """A blob before an append.

    Attributes:
        found: Its index where it is, which will be written over.
        index: The same in memory.
        end: Where its end-of-archive marker starts, or is missing.
        size: Its bytes.
        place: Where its index is, or was before an append that was interrupted.
        footer: Of the index inside it, if that is whole.
        zeros: All behind `end` is zeros.
    """

    found: Index
    index: Index
    end: int
    size: int
    place: IndexPlace
    footer: Footer | None
    zeros: bool

    @property
    def has_facts(self) -> bool:
        """Whether facts of new members can be of use."""
        return not len(self.index) or any(self.index.columns.facts())


def _append_far(
    url: str,
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Iterable[Payload],
    began: float,
    *,
    duplicates: Duplicates,
    globs: Iterable[str],
    exclude: Iterable[str],
    all_files: bool,
    hidden: bool,
    follow_symlinks: bool,
    keep_mtime: bool,
    facts: bool,
    stale: Stale,
    threads: int | None,
    progress: Progress | None,
) -> AppendReport:
    """Add members to a blob in S3; see append."""
    skipped = Skipped()
    with open_store(url, tail=True) as store:
        before = _examine(store, stale)
        sources, is_folder = find_sources(source, skipped, hidden=hidden, follow=follow_symlinks)
        new_bytes = expected_bytes(sources)
        if duplicates == "refuse":
            sources = _without_taken(
                sources, before, globs, exclude, skipped=skipped, images_only=not all_files
            )
        index, blob_bytes = before.index, store.size
        with (
            suppress(_NothingAdded),
            continuing(cast("S3Store", store), before.end, new_bytes) as tail,
        ):
            added, end = pack_sources(
                sources,
                cast("BinaryIO", tail),
                skipped,
                target=url,
                replaced=None,
                globs=globs,
                exclude=exclude,
                images_only=not all_files,
                follow_links=follow_symlinks or not is_folder,
                keep_mtime=keep_mtime,
                facts=facts and before.has_facts,
                threads=threads,
                progress=progress,
                start=before.end,
            )
            if not added:
                raise _NothingAdded
            index = _joined(before, added, end)
            index.identity = tail.identity()
            if before.place == "embed":
                write_behind(tail, index, end)
            blob_bytes = tail.file.tell()
    if added and before.place == "sidecar" and index.identity:
        with open_store(url) as store:
            index.identity = replace(index.identity, version=store.version)
        index.save(sidecar_path(url))
    return AppendReport(
        appended=len(added),
        appended_bytes=added.payload_bytes,
        members=len(index),
        blob_bytes=blob_bytes,
        index_place=before.place,
        skipped=dict(skipped.counts),
        examples=skipped.examples,
        seconds=time.perf_counter() - began,
        index=index,
    )


def _examine(store: Store, stale: Stale) -> _Before:
    """Find a blob's members and their end, and that nothing of another's is behind it.

    Raises:
        StaleIndexError: the index is not of the blob as it is now.
        FormatError: the blob is damaged, or compressed.
        StorageError: something else stands behind the end.
    """
    if is_zstd(store.read_range(0, min(BLOCK, store.size))):
        raise StorageError(
            f"{store.url}: members can't be appended to a compressed blob: `blobpack repack` it to a "
            f"plain tar, and that to a compressed one again"
        )
    try:
        found = whole_index(store)
    except (StaleIndexError, FormatError):
        if stale == "refuse":
            raise
        found = scan_store(store)
    report = found.report or scan_store(store).report
    if report is None:  # of a scan, never
        raise FormatError(f"{store.url}: its end is not known")
    marked = report.bytes_scanned + BLOCK * report.end_marker
    place = place_left_behind(store, marked)
    zeros = place is None
    if zeros and marked + trailing_zeros(store, marked) < store.size:
        raise StorageError(
            f"{store.url}: something that is not blobpack's stands behind the archive's end at byte "
            f"{marked}, perhaps another tar, and would be overwritten"
        )
    beside = "sidecar" if _has_sidecar(store.url) else "none"
    tied = found.identity is not None and place == "embed"
    index = Index.from_columns(found.columns, report=report, identity=found.identity)
    return _Before(
        found=found if is_local(store.url) else index,  # far away, each lookup is a request
        index=index,
        end=report.bytes_scanned,
        size=store.size,
        place=place or _place_noted(store.url) or cast("IndexPlace", beside),
        footer=read_footer(store) if tied else None,
        zeros=zeros,
    )


def _has_sidecar(url: str) -> bool:
    """Tell whether there is an index file beside a blob."""
    try:
        open_store(sidecar_path(url)).close()
    except BlobNotFoundError:
        return False
    return True


def _place_noted(url: str) -> IndexPlace | None:
    """Read what an append that was interrupted has left beside a local blob."""
    if not is_local(url):
        return None
    path = Path(url)
    try:
        return place_marked(void_path(path).read_bytes())
    except FileNotFoundError:
        return None


def _without_taken(
    sources: Sources | Objects | Iterator[Payload],
    before: _Before,
    globs: Iterable[str],
    exclude: Iterable[str],
    *,
    skipped: Skipped,
    images_only: bool,
) -> Sources | Iterator[Payload]:
    """Refuse names that the blob has already: of files at once, of payloads as they come.

    Raises:
        DuplicateNameError: there is one.
    """
    if isinstance(sources, Objects):
        only = sources.only(listed(globs), listed(exclude), skipped, images_only=images_only)
        sources = iter(only)
    if not isinstance(sources, Sources):
        return _checked(sources, before.index)
    chosen = filtered(sources, listed(globs), listed(exclude), Skipped())
    for path, name in zip(chosen.paths, chosen.names, strict=True):
        if os.fsdecode(name) in before.found:
            whole = os.path.join(sources.root, path)  # noqa: PTH118 (bytes)
            if not images_only or _is_image(whole, name):
                _refuse(os.fsdecode(name))
    return sources


def _checked(payloads: Iterator[Payload], index: Index) -> Iterator[Payload]:
    for name, payload in payloads:
        if name in index:
            _refuse(name)
        yield name, payload


def _refuse(name: str) -> NoReturn:
    raise DuplicateNameError(
        f"the blob has a member {name!r} already; with duplicates='last' the new one would count"
    )


def _is_image(path: bytes, name: bytes) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (bytes)
            return recognise_image(file.read(HEAD_BYTES), name)
    except OSError:
        return False  # packing it tells what is wrong


# Voiding the index, and putting it back


@contextmanager
def _voided(file: _File, before: _Before) -> Iterator[None]:
    """Void the index and mark the blob's end (steps 1 and 2); put all back if the block fails."""
    mark = mark_of(before.place)
    sidecar, void = Path(sidecar_path(file.path)), void_path(file.path)
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
        if not isinstance(exc, _NothingAdded):
            raise


def _restore(file: _File, before: _Before) -> None:
    """Put back what stood behind the members, or, after an append that was interrupted, the like of it."""
    start = before.size
    if before.footer:
        start -= before.footer.region_bytes
        writer = io.BufferedWriter(_Writer(file, start), WRITE_BYTES)
        footer = before.index.write_sections(
            writer, before.index.identity, bytes_min=before.footer.region_bytes
        )
        writer.flush()
    elif not before.zeros and before.size - BLOCK >= before.end + HELD_BYTES:
        file.write(mark_of(before.place), before.size - BLOCK)
    if before.footer or before.zeros:
        for pos in range(before.end, start, WRITE_BYTES):
            file.write(bytes(min(WRITE_BYTES, start - pos)), pos)
    if os.fstat(file.fd).st_size > before.size:
        file.cut(before.size)
    file.sync()
    if before.footer:
        file.write(footer.encode(), before.size - BLOCK)
        file.sync()


# What is new


class _Tail:
    """What goes behind the members that are there: a file of which the first bytes are kept back.

    Attributes:
        held: These bytes.
    """

    def __init__(self, file: _File, before: _Before) -> None:
        self._file, self._before = file, before
        self._start = self._pos = before.end
        self.held = bytearray(HELD_BYTES)

    def fileno(self) -> int:
        """The blob's descriptor."""
        return self._file.fd

    def seek(self, pos: int) -> int:
        """Go on from a place."""
        self._pos = pos
        return pos

    def write(self, data: bytes) -> int:
        """Write on, or keep back what belongs at the start."""
        kept = max(0, min(len(data), self._start + HELD_BYTES - self._pos))
        if kept:
            at = self._pos - self._start
            self.held[at : at + kept] = data[:kept]
        self._file.write(memoryview(data)[kept:], self._pos + kept)
        self._pos += len(data)
        return len(data)

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
        in_page = PAGE_BYTES - self._start % PAGE_BYTES
        if in_page < HELD_BYTES:
            self._file.write(self.held[in_page:], self._start + in_page)
            self._file.sync()
        self._file.write(self.held[:in_page], self._start)
        self._file.sync()


def _joined(before: _Before, added: Index, end: int) -> Index:
    """Put the index of the new members behind that of the old ones."""
    report = before.index.report
    if report:
        report = replace(report, bytes_scanned=end - len(END_OF_ARCHIVE), end_marker=2)
    columns = Columns.concatenate([before.index.columns, added.columns])
    return Index.from_columns(columns, report=report)


def _write_index(file: _File, before: _Before, added: Index, end: int) -> Index:
    """Write the index of all members where it was (step 5).

    Raises:
        StorageError: it can't be written; the members are there all the same.
    """
    index = _joined(before, added, end)
    if before.place == "embed":
        with LocalStore(file.path) as store:
            index.identity = identify(store, end)
            size = store.size
        writer = io.BufferedWriter(_Writer(file, end), WRITE_BYTES)
        footer = index.write_sections(writer, index.identity, bytes_min=size - end)
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
            write_beside(store, index, sidecar_path(file.path))
        void_path(file.path).unlink(missing_ok=True)
    return index
