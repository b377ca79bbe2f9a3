"""The names in an index that is being written, read back from its file."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from blobpack._native.fetched_index import decode_blocks
from blobpack.columns import Columns
from blobpack.indexfile.footer import BLOCK_ROWS, INDEX_PAGE_BYTES, facts_to_bits
from blobpack.indexfile.pages import DIRECTORY_PAGE_POSITIONS
from blobpack.recently_used import RecentlyUsed

if TYPE_CHECKING:
    from blobpack._native.block_encoder import BlockEncoder
    from blobpack.stores.sink import LocalSink

# blocks that are kept to report names, 1,024 members each
READ_BACK_BLOCKS_MAX = 256


class WrittenNames:
    """The names in rows, read back from the file that is being written.

    The writer need not keep the names of all members in memory, and the source of the members may be gone: parts may be
    an iterator over a stream.
    """

    def __init__(
        self, sink: LocalSink, encoder: BlockEncoder, facts: frozenset[str], last_end: int
    ) -> None:
        """Use the blocks of an index; all of them are written, and nothing behind them.

        Args:
            sink: The file.
            encoder: The encoder of the blocks.
            facts: The facts in them.
            last_end: Largest offset_end of the members.
        """
        self._sink, self._rows = sink, len(encoder)
        self._facts, self._last_end = facts_to_bits(facts), last_end
        # now: some names are reported while the lookup is written behind the blocks
        self._blocks = sink.tell() - encoder.blocks_bytes
        self._directory = encoder.directory(0)
        self._kept: RecentlyUsed[int, Columns] = RecentlyUsed(READ_BACK_BLOCKS_MAX)

    def name_at(self, row: int) -> str:
        """Return the name in a row."""
        number, place = divmod(row, BLOCK_ROWS)
        block = self._kept.get(number)
        if block is None:
            block = self._kept.put(number, self._read(number))
        return block.name_at(place)

    def _read(self, number: int) -> Columns:
        start, last = self._position(number), self._position(number + 1)
        packed = self._sink.read_back(self._blocks + start, self._blocks + last)
        return Columns(
            *decode_blocks(
                packed,
                array("q", [0, last - start]),
                number * BLOCK_ROWS,
                self._rows,
                self._last_end,
                self._facts,
                "the index that is being written",
                0,
            )
        )

    def _position(self, number: int) -> int:
        page, place = divmod(number, DIRECTORY_PAGE_POSITIONS)
        start = page * INDEX_PAGE_BYTES + 8 + 8 * place
        return int.from_bytes(self._directory[start : start + 8], "little")
