"""Many small files → blobs of a bounded size, and the collection of them: cut between members, the same every time."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.atomic import replacing, said_of
from blobpack.collect import collect
from blobpack.collection import COLLECTION_NAME, open_collection
from blobpack.embed import write_behind
from blobpack.errors import StorageError
from blobpack.index import Index
from blobpack.model import ScanReport
from blobpack.pack import PackReport, find_sources, pack_sources
from blobpack.sources import Skipped, Sources, filtered, listed
from blobpack.tarformat import END_OF_ARCHIVE, encode_name, member_header, padding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from blobpack.model import Payload, Progress

SHARD_NAME = "{:05d}.tar"


def pack_shards(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Iterable[Payload],
    folder: str | os.PathLike[str],
    shard_bytes: int,
    *,
    globs: Iterable[str] = (),
    exclude: Iterable[str] = (),
    all_files: bool = False,
    hidden: bool = False,
    follow_symlinks: bool = False,
    keep_mtime: bool = False,
    facts: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack images into blobs of a bounded size, each with its index inside, and make the collection of them.

    They are `00000.tar`, `00001.tar` … and `collection.idx` in a folder of their own: open_collection reads them as
    one. Each blob appears whole or not at all, and the collection last; after an error, none is left. The next blob
    begins with the first file that does not fit any more, so the same input gives the same blobs.

    Args:
        source: As for pack.
        folder: Where to; it must be empty, or not there.
        shard_bytes: The most bytes of an archive, its index apart; a member that alone is larger gets its own.
        globs: As for pack, and so all that follow.
        exclude: The same.
        all_files: The same.
        hidden: The same.
        follow_symlinks: The same.
        keep_mtime: The same.
        facts: The same.
        threads: The same.
        progress: The same.

    Returns:
        What was packed into all blobs together, with the index of the collection.

    Raises:
        StorageError: the folder is not empty, or can't be written.
        ValueError: shard_bytes has no room for anything.
        The same as pack.
    """
    if shard_bytes <= len(END_OF_ARCHIVE):
        raise ValueError(f"shards of {shard_bytes} bytes have no room for members")
    began = time.perf_counter()
    skipped = Skipped()
    found, is_folder = find_sources(source, skipped, hidden=hidden, follow=follow_symlinks)
    globs, exclude = listed(globs), listed(exclude)
    cut: _Files | _Payloads
    if isinstance(found, Sources):
        cut, globs, exclude = _Files(filtered(found, globs, exclude, skipped)), [], []
    else:
        cut = _Payloads(iter(found))
    target = _empty_folder(folder)
    room = shard_bytes - len(END_OF_ARCHIVE)

    def write_members(file: BinaryIO, path: Path, done: tuple[int, int]) -> tuple[Index, int]:
        """Fill a blob, and end it."""
        parts: list[Index] = []
        position = 0
        while members := cut.fitting(room - position, first=not position):
            before = done[0] + sum(len(part) for part in parts), done[1] + position
            file.seek(position)
            file.truncate()
            part, end = pack_sources(
                members,
                file,
                skipped,
                target=os.fspath(path),
                replaced=None,
                globs=globs,
                exclude=exclude,
                images_only=not all_files,
                follow_links=follow_symlinks or not is_folder,
                keep_mtime=keep_mtime,
                facts=facts,
                threads=threads,
                progress=_on_from(progress, *before),
                start=position,
            )
            position = end - len(END_OF_ARCHIVE)
            parts += [part] if len(part) else []
        file.seek(position)
        file.truncate()
        file.write(END_OF_ARCHIVE)
        return Index.concatenate(parts), position + len(END_OF_ARCHIVE)

    written: list[Path] = []
    blob_bytes = members = 0
    try:
        while cut or not written:
            path = target / SHARD_NAME.format(len(written))
            with replacing(path) as file:
                packed, size = write_members(file, path, (members, blob_bytes))
                packed.report = ScanReport(bytes_scanned=size - len(END_OF_ARCHIVE), end_marker=2)
                size += write_behind(file, packed, size)
            written.append(path)
            if not packed and len(written) > 1:  # what was left was no image
                written.pop().unlink()
                break
            blob_bytes += size
            members += len(packed)
        report = collect(written, target / COLLECTION_NAME)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            target.rmdir()
        raise
    with open_collection(target) as collection:
        index = collection.index
    return PackReport(
        members=report.members,
        payload_bytes=report.payload_bytes,
        blob_bytes=blob_bytes,
        skipped=dict(skipped.counts),
        examples=skipped.examples,
        seconds=time.perf_counter() - began,
        index=index,
        shards=len(written),
    )


class _Files:
    """Files, cut by the sizes they have now."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._next = 0

    def __bool__(self) -> bool:
        return self._next < len(self._sources.paths)

    def fitting(self, room: int, *, first: bool) -> Sources | None:
        """Take the next files that fit; the very first does."""
        begin, sources = self._next, self._sources
        while self:
            size = self._member_bytes(self._next)
            if size > room and not (first and self._next == begin):
                break
            room -= size
            self._next += 1
        if begin == self._next:
            return None
        taken = slice(begin, self._next)
        return Sources(sources.root, sources.paths[taken], sources.names[taken])

    def _member_bytes(self, i: int) -> int:
        path = os.path.join(self._sources.root, self._sources.paths[i])  # noqa: PTH118 (bytes)
        try:
            return member_bytes(self._sources.names[i], os.stat(path).st_size)  # noqa: PTH116
        except OSError:  # packing it tells
            return 0


class _Payloads:
    """(name, payload) pairs, cut as they come."""

    def __init__(self, payloads: Iterator[Payload]) -> None:
        self._payloads = payloads
        self._held: Payload | None = next(payloads, None)

    def __bool__(self) -> bool:
        return self._held is not None

    def fitting(self, room: int, *, first: bool) -> Iterator[Payload] | None:
        """Take the next pairs that fit; the very first does."""
        if self._held is None or not (first or self._held_bytes() <= room):
            return None
        return self._fitting(room)

    def _fitting(self, room: int) -> Iterator[Payload]:
        while self._held is not None:
            room -= self._held_bytes()
            yield self._held
            self._held = next(self._payloads, None)
            if self._held is not None and self._held_bytes() > room:
                return

    def _held_bytes(self) -> int:
        if self._held is None:
            return 0
        name, payload = self._held
        return member_bytes(encode_name(name), memoryview(payload).nbytes)


def member_bytes(name: bytes, size: int) -> int:
    """Compute how many bytes of an archive a member takes."""
    return len(member_header(name, size)) + size + len(padding(size))


def _empty_folder(folder: str | os.PathLike[str]) -> Path:
    if "://" in os.fspath(folder):
        raise StorageError(
            f"{os.fspath(folder)}: shards are packed to a local folder; upload it then"
        )
    target = Path(folder)
    with said_of(folder):
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise StorageError(
                f"{os.fspath(folder)}: is not empty: shards are packed to a folder of their own"
            )
    return target


def _on_from(progress: Progress | None, members: int, written: int) -> Callable[..., None] | None:
    """Count on from what other blobs hold already."""
    if progress is None:
        return None

    def show(more_members: int, more_bytes: int) -> None:
        progress(members + more_members, written + more_bytes)

    return show
