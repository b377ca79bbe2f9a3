"""Encode members as the blocks of an index file, and keep what its other sections need."""

from __future__ import annotations

from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from blobpack._native.block_encoder import BlockEncoder
from blobpack._native.name_hashes import NameHashes
from blobpack._native.packed import measure, normal_names
from blobpack.columns import FACTS, Columns
from blobpack.errors import FormatError
from blobpack.indexfile.footer import BLOCK_ROWS, PART_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack.indexfile.extend import Base

# A reader fetches the whole guide at its first lookup, to save a request for a page of the lookup. At 50 MB/s, 256 KiB
# take 5 ms; a request to S3 takes about 30 ms.
GUIDE_BYTES_MAX = 1 << 18
# of one block, which is encoded in memory: 64 KiB for each name, sixteen times as long as the paths of Linux
BLOCK_NAME_BYTES_MAX = 64 << 20


class MemberEncoder:
    """Encodes members as blocks, and keeps what the rest of an index is made of.

    Attributes:
        blocks: The native encoder, which keeps what the directory and the guide are made of.
        names: Hashes of the names, of which the lookup is made.
        payload_bytes: Sum of the sizes of the members so far.
        last_end: The largest offset_end of them.
        facts: The facts that all of them have; None before the first one.
        has_normal_names: All names are known to be in normal form.
        clash: A member of the base, and a new one, that are extracted to one file: rows and names; None if there are
            none.
    """

    def __init__(self, base: Base | None, *, is_collection: bool, compares_files: bool) -> None:
        """Begin without members, or behind those of a base.

        Args:
            base: An index that members are added to.
            is_collection: Find out whether all names are in normal form. For one blob this is not needed, because an append
                reads all of its names anyway.
            compares_files: Compare the normal forms of names.
        """
        self.blocks = BlockEncoder(guide_bytes_max=GUIDE_BYTES_MAX)
        self.names = NameHashes(TemporaryFile, first_row=base.whole_rows if base else 0)
        # hashes of the normal forms of all names; None: all names so far are in normal form
        self._files: NameHashes | None = None
        self._base, self._compares_files = base, compares_files
        self.payload_bytes = self.last_end = 0
        self.facts: frozenset[str] | None = None
        self.has_normal_names = is_collection
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
        packed = self.blocks.add(
            part.names,
            part.name_bounds,
            part.offset_start,
            part.offset_end,
            *(getattr(part, name) for name in FACTS),
        )
        if self.has_normal_names or self._compares_files:
            self._look_at_names(part)
        self.names.add(part.names, part.name_bounds)
        return packed

    def compare_files(self, repeated: Callable[[int, int], object]) -> None:
        """Call repeated(row, other) for rows of two names with one normal form.

        If all names are in normal form, making the lookup has compared them.
        """
        if self._files is not None:
            for _ in self._files.make_lookup(repeated)[2]:
                pass

    def _look_at_names(self, part: Columns) -> None:
        """Note whether the names are in normal form, and find those of the base that are extracted to one file."""
        names, bounds = normal_names(part.names, part.name_bounds)
        is_normal = names is part.names
        self.has_normal_names = self.has_normal_names and is_normal
        if not self._compares_files:
            return
        if self._files is None and not is_normal:
            self._files = self.names.copy()
        if self._files is not None:
            self._files.add(names, bounds)
        if is_normal or self._base is None or self.clash:
            return
        packed, ends = memoryview(names), memoryview(bounds)
        for place in range(len(part)):
            name = part.name_at(place)
            normal = str(packed[ends[place] : ends[place + 1]], "utf-8", "surrogateescape")
            # the lookup finds equal names
            row = self._base.find(normal) if name != normal else -1
            if row >= 0:
                first = len(self.blocks) - len(part)
                self.clash = (row, first + place, normal, name)
                return


def whole_blocks(parts: Iterable[Columns]) -> Iterator[Columns]:
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
