"""Writing an index front to back, in bounded memory.

Strategy: encode the members' blocks as they come, and remember the hashes of each name (native, 16 bytes a member). The
hashes of more than 2 million members go to a temporary file, 20 bytes a member. At the end, build the lookup, the
directory and the guide from the hashes and positions. The caller writes the footer last, so that an interrupted write
leaves no index.
"""

from __future__ import annotations

import struct
from itertools import chain
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from blobpack._native.index_writer import IndexBuilder
from blobpack._native.packed import measure, normal_names
from blobpack.checksum import crc32c
from blobpack.columns import FACTS, Columns
from blobpack.errors import FormatError
from blobpack.indexfile.footer import (
    BLOCK_ROWS,
    FOOTER_BYTES,
    INDEX_MAGIC,
    PART_ROWS,
    REGION_HEADER,
    VERSION,
    Footer,
)
from blobpack.indexfile.written_names import WrittenNames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack.indexfile.extend import Base
    from blobpack.indexfile.identity import Identity
    from blobpack.model import ScanReport
    from blobpack.stores.sink import Sink

# A reader fetches the whole guide at its first lookup, to save a request for a page of the lookup. At 50 MB/s, 256 KiB
# take 5 ms; a request to S3 takes about 30 ms.
GUIDE_BYTES_MAX = 1 << 18
# of the lookup, on average: a page has 504 slots
PAGE_NAMES = 400
# of one block, which is encoded in memory: 64 KiB for each name, sixteen times as long as the paths of Linux
BLOCK_NAME_BYTES_MAX = 64 << 20
# the footer's field has 64 bits, and the sizes of members that overlap can add up to more
PAYLOAD_BYTES_MAX = (1 << 64) - 1


def write_sections(
    sink: Sink,
    parts: Iterable[Columns],
    name_at: Callable[[int], str] | None,
    *,
    identity: Identity | None,
    report: ScanReport | None = None,
    bytes_min: int = 0,
    blobs: Callable[[], bytes] | None = None,
    repeated: Callable[[int, int, str, str], object] | None = None,
    base: Base | None = None,
    page_names: int = PAGE_NAMES,
) -> Footer:
    """Write an index without its footer.

    Args:
        sink: The sink to write to, at its position.
        parts: The members, in archive order.
        name_at: Returns the name in a row of the parts, for `repeated`. None: names are read back from the sink, a
            local file.
        identity: Identity of the archive that the index belongs to; None ties it to no archive.
        report: Report of the scan that found the members.
        bytes_min: Least size of the region, its footer included; zeros fill it up.
        blobs: For a collection, returns the section of its blobs. Called after all parts were read.
        repeated: Called as repeated(row, other, name, other_name) for two rows whose names are equal, or are extracted
            to one file.
        base: An index whose members come before those of the parts. Its names are reported, if new ones repeat them.
        page_names: Number of names in a page of the lookup on average. If there are fewer, there is room for more.

    Returns:
        The footer, which the caller writes behind the sections.

    Raises:
        FormatError: there are more members, or longer names, than the format allows.
        LookupFullError: the lookup of the base has no room for the new names. Write all members without a base.
        ValueError: the parts do not all have the same facts.
    """
    sections = _Sections(sink)
    members = _Members(base, is_collection=blobs is not None, compares_files=repeated is not None)
    sections.write(REGION_HEADER.pack(INDEX_MAGIC, VERSION))
    if base:
        sections.length += base.copy_blocks(sink.local(), members.builder)
        parts = chain([base.last_rows()], parts)
    for part in _whole_blocks(parts):
        sections.write(members.encode(part))
    report_names = _reporter(repeated, name_at, sink, members) if repeated else None
    if base:
        seed, page_count = 0, base.footer.lookup_pages
        pages: Iterable[bytearray] = base.extended_lookup(members.builder, report_names)
    else:
        seed, page_count, pages = members.builder.lookup(report_names, page_names=page_names)
    # A line of the lookup is 64 bytes, one cache line. An index starts at a multiple of 512 in its file, so the lines
    # are aligned in the mapped file, too.
    sections.write(bytes(-sections.length % 64))
    lookup = sections.length
    for some in pages:
        sections.write(some)
    if repeated and report_names:
        members.builder.compare_files(report_names)
        if members.clash:
            repeated(*members.clash)
    directory = sections.write(members.builder.directory(REGION_HEADER.size))
    packed_guide = _encode_guide(members.builder.guide())
    guide = sections.write(packed_guide)
    # only now: collect opens blob after blob while `parts` is iterated, and knows all blobs after the last part
    packed_blobs = blobs() if blobs else b""
    section = sections.write(packed_blobs)
    row_count = len(members.builder)
    return Footer(
        region_bytes=sections.fill_up(bytes_min),
        identity=identity,
        row_count=row_count,
        payload_bytes=min(members.payload_bytes, PAYLOAD_BYTES_MAX),
        last_end=members.last_end,
        block_count=-(-row_count // BLOCK_ROWS),
        directory=directory,
        lookup=lookup,
        lookup_pages=page_count,
        lookup_seed=seed,
        guide=guide,
        guide_bytes=len(packed_guide),
        facts=members.facts or frozenset(),
        report=report,
        blobs=section if packed_blobs else 0,
        blobs_bytes=len(packed_blobs),
        normal_names=members.has_normal_names,
    )


class _Sections:
    """A region that is being written, section by section."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.length = 0

    def write(self, packed: bytes | bytearray) -> int:
        """Write a section, and return its start in the region."""
        start = self.length
        self.length += self._sink.write(packed)
        return start

    def fill_up(self, bytes_min: int) -> int:
        """Write zeros up to the start of the footer, and return the size of the region with its footer."""
        # multiples of 512, the block of a tar: a blob with its index inside stays a whole number of blocks
        filled = max(self.length + FOOTER_BYTES, bytes_min)
        region_bytes = filled + -filled % FOOTER_BYTES
        self.write(bytes(region_bytes - FOOTER_BYTES - self.length))
        return region_bytes


class _Members:
    """The members that were encoded so far, and their sums."""

    def __init__(self, base: Base | None, *, is_collection: bool, compares_files: bool) -> None:
        self.builder = IndexBuilder(TemporaryFile)
        self.compares_files = compares_files
        self.payload_bytes = self.last_end = 0
        self.facts: frozenset[str] | None = None
        # only asked of collections: an append to a blob reads all names anyway
        self.has_normal_names = is_collection
        self.base = base
        # a member of the base, and a new one, that are extracted to one file: rows and names
        self.clash: tuple[int, int, str, str] | None = None
        if base:
            last = base.last_rows()
            self.payload_bytes = base.footer.payload_bytes
            self.payload_bytes -= measure(last.offset_start, last.offset_end)[0]
            self.last_end, self.facts = base.footer.last_end, base.footer.facts
            self.has_normal_names = base.footer.normal_names

    def encode(self, part: Columns) -> bytes | bytearray:
        """Encode more members; all parts but the last one must be whole blocks.

        Raises:
            ValueError: the members do not have the same facts as the members before.
        """
        taken = frozenset(name for name, _ in part.facts())
        if self.facts not in (None, taken):
            raise ValueError(
                f"parts of one index have different facts: {sorted(self.facts or ())} and {sorted(taken)}"
            )
        self.facts = taken
        payload_bytes, last_end = measure(part.offset_start, part.offset_end)
        self.payload_bytes += payload_bytes
        self.last_end = max(self.last_end, last_end)
        packed = self.builder.add(
            part.names,
            part.name_bounds,
            part.offset_start,
            part.offset_end,
            *(getattr(part, name) for name in FACTS),
        )
        if self.has_normal_names or self.compares_files:
            self._look_at_names(part)
        return packed

    def _look_at_names(self, part: Columns) -> None:
        """Note whether the names are in normal form, and find those of the base that are extracted to one file."""
        names, bounds = normal_names(part.names, part.name_bounds)
        if names is part.names:
            return
        self.has_normal_names = False
        if not self.compares_files:
            return
        self.builder.note_files(names, bounds)
        packed, ends = memoryview(names), memoryview(bounds)
        if self.base is None or self.clash:
            return
        for place in range(len(part)):
            name = part.name_at(place)
            normal = str(packed[ends[place] : ends[place + 1]], "utf-8", "surrogateescape")
            # the lookup finds equal names
            row = self.base.find(normal) if name != normal else -1
            if row >= 0:
                first = len(self.builder) - len(part)
                self.clash = (row, first + place, normal, name)
                return


def _reporter(
    repeated: Callable[[int, int, str, str], object],
    name_at: Callable[[int], str] | None,
    sink: Sink,
    members: _Members,
) -> Callable[[int, int], object]:
    """Return a function that reports two rows with their names."""
    names = (
        name_at
        or WrittenNames(
            sink.local(), members.builder, members.facts or frozenset(), members.last_end
        ).name_at
    )
    return lambda row, other: repeated(row, other, names(row), names(other))


def _whole_blocks(parts: Iterable[Columns]) -> Iterator[Columns]:
    """Cut and join parts, so that every part but the last one ends with a block."""
    left = Columns.concatenate([])
    for part in parts:
        # Rows are copied only to fill up a block: a part may be all members of a blob that was scanned.
        taken = min(-len(left) % BLOCK_ROWS, len(part)) if len(left) else 0
        if taken:
            left = Columns.concatenate([left, part.slice(0, taken)])
        if len(left) == BLOCK_ROWS:
            yield from _cut(left, 0, BLOCK_ROWS)
        elif len(left):
            continue
        last = taken + (len(part) - taken) // BLOCK_ROWS * BLOCK_ROWS
        yield from _cut(part, taken, last)
        left = part.slice(last, len(part))
    if len(left):
        _check_name_bytes(left)
        yield left


def _cut(part: Columns, first: int, last: int) -> Iterator[Columns]:
    """Cut whole blocks into parts of bounded size."""
    for start in range(first, last, PART_ROWS):
        piece = part.slice(start, min(start + PART_ROWS, last))
        _check_name_bytes(piece)
        yield piece


def _check_name_bytes(part: Columns) -> None:
    """Check that the names of a block can be held in memory.

    Raises:
        FormatError: they are longer.
    """
    import numpy as np

    if len(part.packed_names()) <= BLOCK_NAME_BYTES_MAX:
        return
    bounds = np.asarray(part.name_bounds)
    starts = np.arange(0, len(part), BLOCK_ROWS)
    sizes = bounds[np.minimum(starts + BLOCK_ROWS, len(part))] - bounds[starts]
    if sizes.max() > BLOCK_NAME_BYTES_MAX:
        raise FormatError(
            f"the names of {BLOCK_ROWS} members in a row take {sizes.max()} bytes or more, and an index holds "
            f"{BLOCK_NAME_BYTES_MAX}"
        )


def _encode_guide(names: list[bytes] | None) -> bytes:
    """Encode the first name of each block; return nothing if names do not ascend, or would take too much."""
    if not names or sum(map(len, names)) + 4 * len(names) > GUIDE_BYTES_MAX:
        return b""
    ends, end = [], 0
    for name in names:
        end += len(name)
        ends.append(end)
    packed = struct.pack(f"<{len(ends)}I", *ends) + b"".join(names)
    return struct.pack("<I", crc32c(packed)) + packed
