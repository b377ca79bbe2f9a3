"""Many small files → blobs of a bounded size, and the collection of them: cut between members, the same every time."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Unpack

from blobpack._native.lookup import NameLookup
from blobpack.collection.collect import collect
from blobpack.collection.collection import COLLECTION_NAME, open_collection
from blobpack.errors import BlobChangedError, DuplicateNameError
from blobpack.index.index import Index
from blobpack.model import check_number
from blobpack.packing.files import FileList, Skipped
from blobpack.packing.members import write_members
from blobpack.packing.options import PackOptions, complete_options, with_pack_options
from blobpack.packing.pack import PackReport
from blobpack.packing.shard_folder import shard_folder, shard_location
from blobpack.packing.sources import check_source, filter_by_name, resolve_source
from blobpack.tar.header import END_OF_ARCHIVE, encode_name, member_header, padding
from blobpack.writing.compress import LEVEL, check_level
from blobpack.writing.new_blob import new_blob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.model import Packable, Payload, Progress
    from blobpack.packing.shard_folder import ShardFolder
    from blobpack.packing.sources import ResolvedSource
    from blobpack.stores.location import Location
    from blobpack.stores.sink import Sink

SHARD_NAME = "{:05d}.tar"
COMPRESSED_NAME = "{:05d}.tar.zst"


@with_pack_options
def pack_shards(
    source: Packable,
    folder: str | os.PathLike[str],
    shard_bytes: int,
    *,
    level: int | None = None,
    **options: Unpack[PackOptions],
) -> PackReport:
    """Pack images into blobs of a bounded size, each with its index inside, and make the collection of them.

    They are `00000.tar`, `00001.tar` … and `collection.idx` in a folder or prefix of their own: open_collection reads
    them as one. Each blob appears whole or not at all, and the collection last; after an error, none is left. The
    next blob begins with the first file that does not fit any more, so the same input gives the same blobs. To S3
    they go up while they are packed, in bounded memory; a kill leaves those that were whole, without a collection.

    Args:
        source: As for pack.
        folder: Where to: a path, or s3://bucket/prefix; it must be empty, or not there.
        shard_bytes: The most bytes of an archive, its index apart; a member that alone is larger gets its own.
        level: Of zstd, 1 to 22: the blobs are `00000.tar.zst` … then, and shard_bytes bounds what each
            decompresses to, which takes as much room beside it, or, for S3, in the temporary folder. None for
            plain tars.
        options: Which files are packed, and how: see PackOptions.

    Returns:
        What was packed into all blobs together, with the index of the collection.

    Raises:
        BlobChangedError: another one is packed to the same prefix meanwhile; at most one succeeds.
        StorageError: the folder is not empty, or can't be written.
        TypeError: an argument has another type, or there is no such option.
        ValueError: shard_bytes has no room for anything; zstd has no such level; or the URL names no prefix.
        BlobpackError: as for pack.
    """
    began = time.perf_counter()
    complete = complete_options("pack_shards", options)
    check_source(source)
    location = shard_location(folder)
    check_number("shard_bytes", shard_bytes, len(END_OF_ARCHIVE) + 1)
    if level is not None:
        check_level(level)
    skipped = Skipped()
    found = resolve_source(source, complete, skipped)
    found, complete = filter_by_name(found, complete, skipped)
    writer = _ShardWriter(
        make_cutter(found), shard_bytes - len(END_OF_ARCHIVE), complete, skipped, level
    )
    with shard_folder(location) as place:
        blobs = writer.write_all(place)
        target = place.begin(COLLECTION_NAME)
        report = collect(blobs, target)
    with open_collection(target) as collection:
        index = collection.index
    return PackReport(
        members=report.members,
        payload_bytes=report.payload_bytes,
        blob_bytes=writer.blob_bytes,
        skipped=dict(skipped.counts),
        examples=skipped.examples,
        seconds=time.perf_counter() - began,
        index=index,
        shards=report.blobs,
    )


class _NoMoreImages(Exception):  # noqa: N818 (no error: the blob that was begun is dropped)
    """What was left was no image."""


class _ShardWriter:
    """Fills one blob after the other.

    Attributes:
        blob_bytes: Of those that are written.
    """

    def __init__(
        self,
        cutter: FileCutter | PayloadCutter,
        room: int,
        options: PackOptions,
        skipped: Skipped,
        level: int | None,
    ) -> None:
        self._cutter, self._room = cutter, room
        self._options, self._skipped, self._level = options, skipped, level
        self._members = self.blob_bytes = 0

    def write_all(self, place: ShardFolder) -> list[Location]:
        """Write blobs until nothing is left, one at least; where they are."""
        written: list[Location] = []
        name = SHARD_NAME if self._level is None else COMPRESSED_NAME
        while self._cutter or not written:
            location = place.begin(name.format(len(written)))
            try:
                self._write_blob(location, may_be_empty=not written)
            except _NoMoreImages:
                break
            except BlobChangedError:  # another pack has put it there
                place.begun.remove(location)
                raise
            written.append(location)
        return written

    def _write_blob(self, location: Location, *, may_be_empty: bool) -> None:
        level = LEVEL if self._level is None else self._level
        with new_blob(location, level=level, new=True) as blob:
            packed, end = self._fill(blob.tar, location.text)
            if not packed and not may_be_empty:
                raise _NoMoreImages
            self.blob_bytes += blob.finish(packed, end, "embed")
        self._members += len(packed)

    def _fill(self, tar: Sink, url: str) -> tuple[Index, int]:
        """Write members until the next one does not fit; what is no image leaves room for more."""
        parts: list[Index] = []
        position = members = 0
        while found := self._cutter.take_fitting(self._room - position, first=not position):
            progress = _continued(
                self._options["progress"], self._members + members, self.blob_bytes + position
            )
            options: PackOptions = {**self._options, "progress": progress}
            part, position = write_members(
                found, tar, self._skipped, options, target=url, start=position
            )
            members += len(part)
            parts += [part] if len(part) else []
        packed = Index.concatenate(parts)
        if len(parts) > 1:
            _check_no_duplicates(packed)
        return packed, position


def _check_no_duplicates(packed: Index) -> None:
    """Refuse two payloads of one name in one blob; those in two blobs, collect refuses.

    Raises:
        DuplicateNameError: there are two.
    """
    rows = NameLookup(packed.columns.names, packed.columns.name_bounds).first_duplicate()
    if rows is not None:
        raise DuplicateNameError(f"two payloads would both be member {packed.name_at(rows[0])!r}")


def _continued(progress: Progress | None, members: int, written: int) -> Progress | None:
    """Count on from what other blobs hold already."""
    if progress is None:
        return None

    def show(more_members: int, more_bytes: int) -> None:
        progress(members + more_members, written + more_bytes)

    return show


def make_cutter(found: ResolvedSource) -> FileCutter | PayloadCutter:
    """Make what there is to pack ready to be taken in parts."""
    return FileCutter(found) if isinstance(found, FileList) else PayloadCutter(iter(found))


class FileCutter:
    """Files, cut by the sizes they have now."""

    def __init__(self, sources: FileList) -> None:
        self._sources = sources
        self._next = 0

    def __bool__(self) -> bool:
        return self._next < len(self._sources.paths)

    def take_fitting(self, room: int, *, first: bool) -> FileList | None:
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
        return sources.part(slice(begin, self._next))

    def _member_bytes(self, i: int) -> int:
        path = os.path.join(self._sources.root, self._sources.paths[i])  # noqa: PTH118 (bytes)
        try:
            return member_bytes(self._sources.names[i], os.stat(path).st_size)  # noqa: PTH116
        except OSError:  # packing it tells
            return 0


class PayloadCutter:
    """(name, payload) pairs, cut as they come."""

    def __init__(self, payloads: Iterator[Payload]) -> None:
        self._payloads = payloads
        self._held: Payload | None = next(payloads, None)

    def __bool__(self) -> bool:
        return self._held is not None

    def take_fitting(self, room: int, *, first: bool) -> Iterator[Payload] | None:
        """Take the next pairs that fit; the very first does."""
        if self._held is None or not (first or self._held_bytes() <= room):
            return None
        return self._yield_fitting(room)

    def _yield_fitting(self, room: int) -> Iterator[Payload]:
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
