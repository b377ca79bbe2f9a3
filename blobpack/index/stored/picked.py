"""Rows that meet conditions, picked part by part: as columns if they are few, or else as rows of a file."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from blobpack.columns import Columns
from blobpack.index.stored.chosen_rows import ChosenRows, sums_of
from blobpack.index.stored.scratch import write_scratch
from blobpack.indexfile.mapped import LocalIndex
from blobpack.indexfile.remote import RemoteIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.index.stored.chosen_rows import Numbers
    from blobpack.indexfile.open import StoredIndex

# If more rows of an index file are picked, they stay there. In memory, this many take about 15 MB.
ROWS_IN_MEMORY_MAX = 1 << 18


class PickedNumbers:
    """Numbers of rows, ascending, that are collected part by part; 2 bytes a row."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, NDArray[np.unsignedinteger]]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, first: int, places: NDArray[np.int64]) -> None:
        """Add rows of a part that begins with the row `first`."""
        import numpy as np

        if len(places):
            self._parts.append((first, places.astype(np.min_scalar_type(places[-1]))))
            self._count += len(places)

    def joined(self) -> Numbers:
        """Return all numbers; as a range, if they are one run."""
        import numpy as np

        if self._parts:
            first = self._parts[0][0] + int(self._parts[0][1][0])
            last = self._parts[-1][0] + int(self._parts[-1][1][-1])
            if last - first + 1 == self._count:
                return range(first, last + 1)
        numbers, at = np.empty(self._count, np.int64), 0
        for start, places in self._parts:
            numbers[at : at + len(places)] = places
            numbers[at : at + len(places)] += start
            at += len(places)
        return numbers


def pick(
    masked: Iterable[tuple[Columns, NDArray[np.bool_]]], stored: StoredIndex | None
) -> tuple[Columns | StoredIndex, Numbers]:
    """Pick the rows that masks keep.

    Args:
        masked: All rows, in order, part by part, each part with its mask.
        stored: The index that the parts are read from; None if they are in memory.

    Returns:
        The members, and their rows. Many members of an index file stay there; many of a remote index are now in a
        temporary file.

    Raises:
        StorageError: the temporary file can't be written.
    """
    numbers = PickedNumbers()
    taken = _taken(masked, numbers)
    few: list[Columns] = []
    for part in taken:
        few.append(part)
        if len(numbers) > ROWS_IN_MEMORY_MAX:
            return _many(chain(few, taken), stored, numbers)
    return Columns.concatenate(few), numbers.joined()


def _taken(
    masked: Iterable[tuple[Columns, NDArray[np.bool_]]], numbers: PickedNumbers
) -> Iterator[Columns]:
    """Yield the rows of each part that the mask keeps, and add their numbers."""
    import numpy as np

    first = 0
    for part, mask in masked:
        places = np.flatnonzero(mask)
        numbers.add(first, places)
        yield part if len(places) == len(part) else part.take(places)
        first += len(part)


def _many(
    picked: Iterable[Columns], stored: StoredIndex | None, numbers: PickedNumbers
) -> tuple[Columns | StoredIndex, Numbers]:
    """Return many members, and their rows: as rows of a file, unless all of them are in memory already."""
    if isinstance(stored, (LocalIndex, ChosenRows)):
        sums = sums_of(picked)
        rows = numbers.joined()
        return choose(stored, rows, sums), rows
    # to a local file, because each pass over a remote index would fetch it again
    if isinstance(stored, RemoteIndex):
        scratch = write_scratch(picked)
        return scratch, numbers.joined()
    return Columns.concatenate(list(picked)), numbers.joined()


def choose(
    stored: LocalIndex | ChosenRows, rows: Numbers, sums: tuple[int, int] | None = None
) -> ChosenRows:
    """Choose rows of a mapped index, which may be closed after that."""
    if isinstance(stored, ChosenRows):
        return stored.of_rows(rows, sums)
    return ChosenRows(stored.again(), rows, sums)
