"""Pack many small files into blobs of a bounded size, and make the collection of these blobs.

Strategy: sources are cut between members, by the sizes of the members alone, so the same input gives the same blobs.
Each blob is whole before the next one begins, and the collection is written last: it makes the set visible.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Unpack

from blobpack.argument_order import is_new_folder, is_number, recognise_swap
from blobpack.collection.collect import collect
from blobpack.errors import BlobChangedError, DuplicateNameError
from blobpack.index.index import Index
from blobpack.model import check_flag, check_number
from blobpack.opening.collection import open_collection
from blobpack.opening.kind import COLLECTION_NAME
from blobpack.packing.cutters import FileCutter, PayloadCutter, make_cutter
from blobpack.packing.files import Skipped
from blobpack.packing.members import write_members
from blobpack.packing.options import (
    PackOptions,
    complete_options,
    target_access_of,
    with_pack_options,
)
from blobpack.packing.pack import PackReport, nothing_to_pack
from blobpack.packing.shard_folder import shard_folder, shard_location
from blobpack.packing.sources import (
    check_packable,
    filter_by_name,
    is_packable,
    number_of,
    resolve_source,
)
from blobpack.progress import continued
from blobpack.stores.arguments import is_place
from blobpack.tar.header import END_OF_ARCHIVE
from blobpack.tar.names import normal_lookup
from blobpack.writing.compress import LEVEL, check_level
from blobpack.writing.new_blob import new_blob

if TYPE_CHECKING:
    import os

    from blobpack.model import Packable
    from blobpack.packing.shard_folder import ShardFolder
    from blobpack.stores.location import Location
    from blobpack.stores.sink import Sink

# the names sort in the order of the numbers, up to 100,000 shards
SHARD_NAME = "{:05d}.tar"
# no member fits into less
SHARD_BYTES_MIN = len(END_OF_ARCHIVE) + 1
COMPRESSED_NAME = "{:05d}.tar.zst"


@recognise_swap(source=is_packable, folder=is_new_folder)
@recognise_swap(folder=is_place, shard_bytes=is_number)
@with_pack_options
def pack_shards(
    source: Packable,
    folder: str | os.PathLike[str],
    shard_bytes: int,
    *,
    level: int | None = None,
    allow_empty: bool = False,
    **options: Unpack[PackOptions],
) -> PackReport:
    """Pack images into blobs of a bounded size, each with its index inside, and make the collection of them.

    The blobs are `00000.tar`, `00001.tar` … and the collection is `collection.idx`, in a folder or
    prefix of their own. open_collection reads them together. Each blob appears whole or not at all,
    and the collection appears last. After an error, no blob is left. Blobs in S3 are uploaded while
    they are packed, in bounded memory. If the process is killed, the blobs that were complete stay,
    without a collection.

    The next blob begins with the first file that does not fit any more, so the same input gives the
    same blobs. Files that follow each other and have one stem, such as `1.jpg` and `1.json`, are one
    sample, and lie in one blob, unless they are larger than a blob or than 64 MiB. WebDataset needs
    this, because it reads samples from one blob at a time.

    Args:
        source: Folders, prefixes in S3, files or payloads, named as pack names them.
        folder: The folder to write to: a path or s3://bucket/prefix. It must be empty, or not exist yet.
        shard_bytes: The largest size of an archive, without its index. A single member that is larger gets a blob
            of its own.
        level: Compression level of zstd, 1 to 22. Then the blobs are `00000.tar.zst` …, and shard_bytes bounds the
            tar that each one decompresses to. That tar needs space beside the blob, or, for S3, in the temporary
            folder. None: plain tars.
        allow_empty: Make one blob without members if there is nothing to pack. Otherwise that is an error.
        options: Which files are packed, and how: see PackOptions.

    Returns:
        What was packed into all blobs together, with the index of the collection.

    Raises:
        BlobChangedError: another pack writes to the same prefix at the same time; at most one succeeds.
        StorageError: the folder is not empty, or can't be written to.
        TypeError: an argument has a wrong type, or an option does not exist.
        ValueError: shard_bytes is too small for any member, zstd has no such level, or the URL
            names no prefix.
        BlobpackError: as described for pack.
    """
    began = time.perf_counter()
    complete = complete_options("pack_shards", options)
    check_packable(source, complete)
    location = shard_location(folder, target_access_of(complete))
    check_number("shard_bytes", shard_bytes, SHARD_BYTES_MIN)
    check_flag("allow_empty", allow_empty)
    if level is not None:
        check_level(level)
    skipped = Skipped(complete["on_skipped"])
    found = resolve_source(source, complete, skipped)
    # before cutting: files that the filters exclude must take no room
    found, complete = filter_by_name(found, complete, skipped)
    room = shard_bytes - len(END_OF_ARCHIVE)
    writer = ShardWriter(
        make_cutter(found, room), room, complete, skipped, level, allow_empty, number_of(found)
    )
    shard_name = SHARD_NAME if level is None else COMPRESSED_NAME
    with shard_folder(location) as place:
        blobs = writer.write_all(place, shard_name)
        target = place.begin(COLLECTION_NAME)
        # reads only the indexes of the blobs, and refuses a name that is in two of them
        report = collect(blobs, target)
    # not closed here, because the index in the report is read from the file
    index = open_collection(target).index
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
    """No file that was left is an image, so the blob that was begun is empty."""


class ShardWriter:
    """Writes one blob after the other.

    Attributes:
        blob_bytes: Bytes of the blobs that are whole.
    """

    def __init__(
        self,
        cutter: FileCutter | PayloadCutter,
        room: int,
        options: PackOptions,
        skipped: Skipped,
        level: int | None,
        allow_empty: bool,
        total: int | None,
    ) -> None:
        self._allow_empty = allow_empty
        self._cutter, self._room = cutter, room
        self._options, self._skipped, self._level = options, skipped, level
        self._total = total
        self._members = self.blob_bytes = 0

    def write_all(self, place: ShardFolder, shard_name: str) -> list[Location]:
        """Write blobs until nothing is left, and at least one; return their locations.

        Args:
            place: The folder or prefix.
            shard_name: Format of the names of blobs, which receives the number of the blob.
        """
        written: list[Location] = []
        while self._cutter or not written:
            location = place.begin(shard_name.format(len(written)))
            try:
                self._write_blob(location, may_be_empty=not written and self._allow_empty)
            except _NoMoreImages:
                break
            except BlobChangedError:
                # another pack has put this blob there: discard must not delete it
                place.begun.remove(location)
                raise
            written.append(location)
        if not written:
            raise nothing_to_pack(location.text, self._skipped)
        return written

    def _write_blob(self, location: Location, *, may_be_empty: bool) -> None:
        level = LEVEL if self._level is None else self._level
        # new=True: S3 makes the object only if there is none (If-None-Match), so two packs to one prefix can't mix
        with new_blob(location, level=level, new=True) as blob:
            packed, end = self._fill(blob.tar, location.text)
            # raised inside the block, so that the empty blob never appears
            if not packed and not may_be_empty:
                raise _NoMoreImages
            self.blob_bytes += blob.finish(packed, end, "embed")
        self._members += len(packed)

    def _fill(self, tar: Sink, url: str) -> tuple[Index, int]:
        """Write members until the next one does not fit."""
        parts: list[Index] = []
        position = members = 0
        # In several turns, because skipped files leave room: only reading a file shows whether it
        # is an image.
        while found := self._cutter.take_fitting(self._room - position, first=not position):
            progress = continued(
                self._options["progress"],
                self._members + members,
                self.blob_bytes + position,
                self._total,
            )
            options: PackOptions = {**self._options, "progress": progress}
            part, position = write_members(
                found, tar, self._skipped, options, target=url, start=position
            )
            members += len(part)
            parts += [part] if len(part) else []
        packed = Index.concatenate(parts)
        # write_members itself has checked the names of each single part
        if len(parts) > 1:
            _check_no_duplicates(packed)
        return packed, position


def _check_no_duplicates(packed: Index) -> None:
    """Check that no two members of one blob have the same name.

    Raises:
        DuplicateNameError: two members have the same name.
    """
    # collect refuses a name that is in two blobs, but permits it twice in one blob, as tar does
    rows = normal_lookup(packed._columns).first_duplicate()
    if rows is not None:
        raise DuplicateNameError(f"two payloads would both be member {packed._name_at(rows[0])!r}")
