"""Writing an index front to back, in bounded memory.

Strategy: encode the members' blocks as they come, and remember the hashes of each name (native, 16 bytes a member). The
hashes of more than 2 million members go to a temporary file, 20 bytes a member. At the end, build the lookup, the
directory and the guide from the hashes and positions. The caller writes the footer last, so that an interrupted write
leaves no index.
"""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from blobpack.checksum import crc32c
from blobpack.indexfile.encoder import MemberEncoder, whole_blocks
from blobpack.indexfile.footer import (
    BLOCK_ROWS,
    FOOTER_BYTES,
    INDEX_MAGIC,
    REGION_HEADER,
    VERSION,
    Footer,
)
from blobpack.indexfile.written_names import WrittenNames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blobpack.columns import Columns
    from blobpack.indexfile.extend import Base
    from blobpack.indexfile.identity import Identity
    from blobpack.model import ScanReport
    from blobpack.stores.sink import Sink

# names in a page of the lookup, on average; a page has 504 slots
PAGE_NAMES = 400
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
    members = MemberEncoder(
        base, is_collection=blobs is not None, compares_files=repeated is not None
    )
    sections.write(REGION_HEADER.pack(INDEX_MAGIC, VERSION))
    if base:
        sections.length += base.copy_blocks(sink.local(), members.blocks)
        parts = chain([base.last_rows()], parts)
    for part in whole_blocks(parts):
        sections.write(members.encode(part))
    report_names = _reporter(repeated, name_at, sink, members) if repeated else None
    lookup = _write_lookup(sections, members, base, page_names, report_names)
    if repeated and report_names:
        members.compare_files(report_names)
        if members.clash:
            repeated(*members.clash)
    directory = sections.write(members.blocks.directory(REGION_HEADER.size))
    packed_guide = _encode_guide(members.blocks.guide())
    guide = sections.write(packed_guide)
    # only now: collect opens blob after blob while `parts` is iterated, and knows all blobs after the last part
    packed_blobs = blobs() if blobs else b""
    section = sections.write(packed_blobs)
    row_count = len(members.blocks)
    return Footer(
        region_bytes=sections.fill_up(bytes_min),
        identity=identity,
        row_count=row_count,
        payload_bytes=min(members.payload_bytes, PAYLOAD_BYTES_MAX),
        last_end=members.last_end,
        block_count=-(-row_count // BLOCK_ROWS),
        directory=directory,
        lookup=lookup.start,
        lookup_pages=lookup.page_count,
        lookup_seed=lookup.seed,
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


class _Lookup(NamedTuple):
    """A lookup that was written; its start is a position in the region."""

    start: int
    page_count: int
    seed: int


def _write_lookup(
    sections: _Sections,
    members: MemberEncoder,
    base: Base | None,
    page_names: int,
    repeated: Callable[[int, int], object] | None,
) -> _Lookup:
    """Write the lookup of all names, or that of a base with the new names in it."""
    if base:
        seed, page_count = 0, base.footer.lookup_pages
        pages: Iterable[bytearray] = base.extended_lookup(members.names, repeated)
    else:
        seed, page_count, pages = members.names.make_lookup(repeated, page_names=page_names)
    # A line of the lookup is 64 bytes, one cache line. An index starts at a multiple of 512 in its file, so the lines
    # are aligned in the mapped file, too.
    sections.write(bytes(-sections.length % 64))
    start = sections.length
    for some in pages:
        sections.write(some)
    return _Lookup(start, page_count, seed)


def _reporter(
    repeated: Callable[[int, int, str, str], object],
    name_at: Callable[[int], str] | None,
    sink: Sink,
    members: MemberEncoder,
) -> Callable[[int, int], object]:
    """Return a function that reports two rows with their names."""
    names = (
        name_at
        or WrittenNames(
            sink.local(), members.blocks, members.facts or frozenset(), members.last_end
        ).name_at
    )
    return lambda row, other: repeated(row, other, names(row), names(other))


def _encode_guide(names: list[bytes] | None) -> bytes:
    """Encode the first name of each block; return nothing if there is to be no guide."""
    if not names:
        return b""
    ends, end = [], 0
    for name in names:
        end += len(name)
        ends.append(end)
    packed = struct.pack(f"<{len(ends)}I", *ends) + b"".join(names)
    return struct.pack("<I", crc32c(packed)) + packed
