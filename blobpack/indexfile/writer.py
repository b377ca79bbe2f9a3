"""Write an index, front to back in bounded memory: the members' blocks, then what finds them."""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING

from blobpack._native.fetched_index import decode_blocks
from blobpack._native.index_writer import IndexBuilder
from blobpack._native.packed import measure
from blobpack.checksum import crc32c
from blobpack.columns import FACTS, Columns
from blobpack.indexfile.footer import (
    BLOCK_ROWS,
    DIRECTORY_PAGE_POSITIONS,
    FOOTER_BYTES,
    INDEX_MAGIC,
    INDEX_PAGE_BYTES,
    PART_ROWS,
    REGION_HEADER,
    VERSION,
    Footer,
    facts_to_bits,
)
from blobpack.threads import RecentlyUsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack.indexfile.identity import Identity
    from blobpack.model import ScanReport
    from blobpack.stores.sink import LocalSink, Sink

GUIDE_BYTES_MAX = 1 << 18
PAYLOAD_BYTES_MAX = (1 << 64) - 1  # of members that overlap
READ_BACK_BLOCKS_MAX = 256  # of those read back


def write_sections(
    sink: Sink,
    parts: Iterable[Columns],
    name_at: Callable[[int], str] | None,
    *,
    identity: Identity | None,
    report: ScanReport | None = None,
    bytes_min: int = 0,
    blobs: Callable[[], bytes] | None = None,
    repeated: Callable[[str, int, int], object] | None = None,
) -> Footer:
    """Write an index without its footer.

    Args:
        sink: Takes it, at its position.
        parts: The members, in order.
        name_at: Gives the name in a row that was among parts already; None reads it back from the sink, a local file.
        identity: The archive the index is of.
        report: What the scan met.
        bytes_min: The region is filled up with zeros to at least this, its footer included.
        blobs: Of a collection, gives the section of its blobs, once all parts were taken.
        repeated: repeated(name, row, other), called for two rows of one name.

    Returns:
        The footer to write behind it.

    Raises:
        FormatError: more members, or longer names, than the format holds.
    """
    sections, members = _Sections(sink), _Members()
    sections.write(REGION_HEADER.pack(INDEX_MAGIC, VERSION))
    for part in _whole_blocks(parts):
        sections.write(members.encode(part))
    names = name_at or _WrittenNames(sink.local(), members).name_at
    seed, pages = members.builder.lookup(_name_comparer(names, repeated))
    sections.write(bytes(-sections.length % 64))
    lookup = sections.write(pages)
    directory = sections.write(members.builder.directory(REGION_HEADER.size))
    packed_guide = _encode_guide(members.builder.guide())
    guide = sections.write(packed_guide)
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
        lookup_pages=len(pages) // INDEX_PAGE_BYTES,
        lookup_seed=seed,
        guide=guide,
        guide_bytes=len(packed_guide),
        facts=members.facts or frozenset(),
        report=report,
        blobs=section if packed_blobs else 0,
        blobs_bytes=len(packed_blobs),
    )


class _Sections:
    """A region that is being written, section by section."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.length = 0

    def write(self, packed: bytes | bytearray) -> int:
        """Write a section behind the last, and tell where in the region it starts."""
        start = self.length
        self.length += self._sink.write(packed)
        return start

    def fill_up(self, bytes_min: int) -> int:
        """Write zeros up to the footer's place, and tell the region's bytes with it."""
        filled = max(self.length + FOOTER_BYTES, bytes_min)
        region_bytes = filled + -filled % FOOTER_BYTES
        self.write(bytes(region_bytes - FOOTER_BYTES - self.length))
        return region_bytes


class _Members:
    """The members of an index that is being written: encoded, and measured."""

    def __init__(self) -> None:
        self.builder = IndexBuilder()
        self.payload_bytes = self.last_end = 0
        self.facts: frozenset[str] | None = None

    def encode(self, part: Columns) -> bytes | bytearray:
        """Encode more members, by whole blocks.

        Raises:
            ValueError: they do not have the facts that those before them have.
        """
        taken = frozenset(name for name, _ in part.facts())
        if self.facts not in (None, taken):
            raise ValueError(f"parts of one index with different facts: {self.facts} and {taken}")
        self.facts = taken
        payload_bytes, last_end = measure(part.offset_start, part.offset_end)
        self.payload_bytes += payload_bytes
        self.last_end = max(self.last_end, last_end)
        return self.builder.add(
            part.names,
            part.name_bounds,
            part.offset_start,
            part.offset_end,
            *(getattr(part, name) for name in FACTS),
        )


def _name_comparer(
    name_at: Callable[[int], str], repeated: Callable[[str, int, int], object] | None
) -> Callable[[int, int], bool]:
    """Make what tells whether two rows have one name, and tells of those that do."""

    def is_same_name(row: int, other: int) -> bool:
        name = name_at(row)
        same = name == name_at(other)
        if same and repeated:
            repeated(name, row, other)
        return same

    return is_same_name


def _whole_blocks(parts: Iterable[Columns]) -> Iterator[Columns]:
    """Cut and join parts so that all but the last one end with a block."""
    left: Columns | None = None
    for part in parts:
        whole = part if left is None or not len(left) else Columns.concatenate([left, part])
        last = len(whole) // BLOCK_ROWS * BLOCK_ROWS
        for first in range(0, last, PART_ROWS):
            yield whole.slice(first, min(first + PART_ROWS, last))
        left = whole.slice(last, len(whole))
    if left is not None and len(left):
        yield left


class _WrittenNames:
    """The names of rows whose blocks a file holds: what they were read from need not be at hand any more."""

    def __init__(self, sink: LocalSink, members: _Members) -> None:
        self._sink, self._members = sink, members
        self._facts = facts_to_bits(members.facts or frozenset())
        self._directory = members.builder.directory(0)
        self._kept: RecentlyUsed[int, Columns] = RecentlyUsed(READ_BACK_BLOCKS_MAX)

    def name_at(self, row: int) -> str:
        """Read the name in a row."""
        number, place = divmod(row, BLOCK_ROWS)
        block = self._kept.get(number)
        if block is None:
            block = self._kept.put(number, self._read(number))
        return block.name_at(place)

    def _read(self, number: int) -> Columns:
        start, last = self._position(number), self._position(number + 1)
        blocks = self._sink.tell() - self._members.builder.blocks_bytes
        packed = self._sink.read_back(blocks + start, blocks + last)
        return Columns(
            *decode_blocks(
                packed,
                array("q", [0, last - start]),
                number * BLOCK_ROWS,
                len(self._members.builder),
                self._members.last_end,
                self._facts,
                "the index that is being written",
                0,
            )
        )

    def _position(self, number: int) -> int:
        page, place = divmod(number, DIRECTORY_PAGE_POSITIONS)
        start = page * INDEX_PAGE_BYTES + 8 + 8 * place
        return int.from_bytes(self._directory[start : start + 8], "little")


def _encode_guide(names: list[bytes] | None) -> bytes:
    """Encode the first name of each block, when names ascend and it stays small."""
    if not names or sum(map(len, names)) + 4 * len(names) > GUIDE_BYTES_MAX:
        return b""
    ends, end = [], 0
    for name in names:
        end += len(name)
        ends.append(end)
    packed = struct.pack(f"<{len(ends)}I", *ends) + b"".join(names)
    return struct.pack("<I", crc32c(packed)) + packed
