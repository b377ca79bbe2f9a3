"""Find members whose names are equal, or are equal in some form.

Strategy: few names are compared in one table. Of very many, only hashes are compared, and these are in a temporary file.
"""

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from typing_extensions import Buffer

from blobpack._native.lookup import NameLookup
from blobpack._native.name_hashes import NameHashes
from blobpack.columns import Columns
from blobpack.index.stored.picked import ROWS_IN_MEMORY_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.index.rows import Rows

# a function such as normal_names, which returns packed names and their bounds in another form
Form = Callable[[Buffer, Buffer], tuple[Buffer, Buffer]]


def first_repeated(members: Sequence[Rows], form: Form) -> tuple[int, int] | None:
    """Return the first row whose name a later row has, too, and the last row of that name; None if all names differ.

    Args:
        members: The members, in one or more indexes. Rows are counted over all of them.
        form: Returns the form of the names that is compared.
    """
    found: tuple[int, int] | None = None

    def repeated(row: int, other: int) -> None:
        nonlocal found
        if found is None or row < found[0]:
            found = row, other
        # rows of one name are reported in pairs of neighbours
        elif row == found[1]:
            found = found[0], other

    if _are_many(members) and _compare_hashes(members, form, repeated):
        return found
    return _table(members, form).first_duplicate()


def last_of_each_name(members: Sequence[Rows], form: Form) -> NDArray[np.bool_]:
    """Return which rows are the last ones of their names: (n,) bool; see first_repeated."""
    import numpy as np

    last = np.ones(sum(map(len, members)), np.bool_)

    def repeated(row: int, _: int) -> None:
        last[row] = False

    if _are_many(members) and _compare_hashes(members, form, repeated):
        return last
    return np.frombuffer(_table(members, form).last_rows(), np.bool_)


def _are_many(members: Sequence[Rows]) -> bool:
    return sum(map(len, members)) > ROWS_IN_MEMORY_MAX


def _table(members: Sequence[Rows], form: Form) -> NameLookup:
    columns = Columns.concatenate([index._columns for index in members])
    return NameLookup(*form(columns.names, columns.name_bounds))


def _compare_hashes(
    members: Sequence[Rows], form: Form, repeated: Callable[[int, int], None]
) -> bool:
    """Call repeated(row, other) for each row and the next row with an equal name; return False if hashes can't tell."""
    hashes = NameHashes(TemporaryFile)
    for index in members:
        for part in index._parts():
            hashes.add(*form(part.names, part.name_bounds))
    # Making the pages of a lookup compares the hashes. The pages themselves are not needed.
    _, pages, made = hashes.make_lookup(repeated)
    for _ in made:
        pass
    # no pages: somebody has chosen names whose hashes collide
    return pages > 0
