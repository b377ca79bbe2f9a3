"""Find members whose names are those of one file, among the members of several blobs that are merged.

Strategy: few names are compared in one table. Of very many, only hashes are compared, and these are in a temporary file.
"""

from __future__ import annotations

from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from blobpack._native.name_hashes import NameHashes
from blobpack._native.packed import normal_names
from blobpack.columns import Columns
from blobpack.index.stored.picked import ROWS_IN_MEMORY_MAX
from blobpack.tar.names import normal_lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.index.index import Index


def first_repeated(members: Sequence[Index]) -> tuple[int, int] | None:
    """Return the first row whose name a later row has, too, and the last row of that name; None if all names differ.

    Args:
        members: The members of each source; their rows are counted over all sources.
    """
    found: tuple[int, int] | None = None

    def repeated(row: int, other: int) -> None:
        nonlocal found
        if found is None or row < found[0]:
            found = row, other
        # rows of one name are reported in pairs of neighbours
        elif row == found[1]:
            found = found[0], other

    if _are_many(members) and _compare_hashes(members, repeated):
        return found
    return normal_lookup(_columns_of(members)).first_duplicate()


def last_of_each_name(members: Sequence[Index]) -> NDArray[np.bool_]:
    """Return which rows are the last ones of their names: (n,) bool; see first_repeated."""
    import numpy as np

    last = np.ones(sum(map(len, members)), np.bool_)

    def repeated(row: int, _: int) -> None:
        last[row] = False

    if _are_many(members) and _compare_hashes(members, repeated):
        return last
    return np.frombuffer(normal_lookup(_columns_of(members)).last_rows(), np.bool_)


def _are_many(members: Sequence[Index]) -> bool:
    return sum(map(len, members)) > ROWS_IN_MEMORY_MAX


def _columns_of(members: Sequence[Index]) -> Columns:
    return Columns.concatenate([index._columns for index in members])


def _compare_hashes(members: Sequence[Index], repeated: Callable[[int, int], None]) -> bool:
    """Call repeated(row, other) for each row, and the next row of its name; return False if that can't be found out."""
    hashes = NameHashes(TemporaryFile)
    for index in members:
        for part in index._parts():
            hashes.add(*normal_names(part.names, part.name_bounds))
    # The hashes are compared while the pages of a lookup are made of them, which nobody needs.
    _, pages, made = hashes.make_lookup(repeated)
    for _ in made:
        pass
    # no pages: names that were made to collide
    return pages > 0
