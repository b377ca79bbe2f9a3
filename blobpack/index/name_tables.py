"""The names that members are selected by, as lookup tables of bounded size.

Strategy: a table of ten million names takes 350 MB. So more than a million names are put into several tables. For a local
index, one table is in memory at a time, and the rows are read once for each table. A remote index is read only once, with
all tables in memory.
"""

from __future__ import annotations

from array import array
from itertools import accumulate, islice
from typing import TYPE_CHECKING

from blobpack._native.lookup import NameLookup
from blobpack.asked_members import names_of
from blobpack.columns import Columns
from blobpack.index.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from blobpack._native.members import Member

# names in one table, which takes about 35 MB with them
NAMES_MAX = 1 << 20
# names that are str and bytes objects at a time, before they are packed
NAMES_ENCODED_AT_ONCE = 1 << 16


class NameTables:
    """Names, or the names of members, as tables. The first two tables are made at once, the others when they are needed."""

    def __init__(self, names: Rows | Iterable[str | Member]) -> None:
        """Make the first table, and the second one if there is one.

        Raises:
            TypeError: the names are not several names or members.
        """
        # the names of an index are packed already, so no str is made for them
        self._others = _of_parts(names) if isinstance(names, Rows) else _of_names(names)
        # two of them, to find out whether one table is enough
        self._made = list(islice(self._others, 2))

    def mark(self, part: Columns) -> NDArray[np.bool_]:
        """Return which rows of a part have one of the names. From then on, all tables are in memory."""
        self._made += self._others
        marked = _marked(self._made[0], part)
        for table in self._made[1:]:
            marked = marked | _marked(table, part)
        return marked

    def marks(self, parts: Callable[[], Iterable[Columns]], rows: int) -> NDArray[np.bool_] | None:
        """Return which rows have one of the names, if there are several tables; otherwise None. Call it only once.

        Args:
            parts: Returns all rows, in order, part by part. It is called once for each table.
            rows: Number of all rows.
        """
        if len(self._made) == 1:
            return None
        import numpy as np

        marks = np.zeros(rows, np.bool_)
        for table in self._each():
            first = 0
            for part in parts():
                marks[first : first + len(part)] |= _marked(table, part)
                first += len(part)
        return marks

    def _each(self) -> Iterator[NameLookup]:
        """Yield all tables; keep none of them."""
        while self._made:
            yield self._made.pop(0)
        yield from self._others


def _marked(table: NameLookup, part: Columns) -> NDArray[np.bool_]:
    import numpy as np

    # one byte for each row, 0 or 1, which NumPy can read as bool without a copy
    return np.frombuffer(table.mark(part.names, part.name_bounds), np.bool_)


def _of_parts(index: Rows) -> Iterator[NameLookup]:
    """Yield tables of the names of an index."""
    waiting: list[Columns] = []
    for part in index._parts():
        if waiting and sum(map(len, waiting)) + len(part) > NAMES_MAX:
            yield _table(Columns.concatenate(waiting))
            waiting = []
        waiting.append(part)
    yield _table(Columns.concatenate(waiting))


def _table(columns: Columns) -> NameLookup:
    return NameLookup(columns.names, columns.name_bounds)


def _of_names(names: Iterable[str | Member]) -> Iterator[NameLookup]:
    """Yield tables of names, or of the names of members; at least one."""
    encoded = map(_encode_name, names_of(names))
    packed, lengths = bytearray(), array("q")
    while some := list(islice(encoded, NAMES_ENCODED_AT_ONCE)):
        # most lists of names are short
        if not lengths and len(some) < NAMES_ENCODED_AT_ONCE:
            yield _packed_table(b"".join(some), map(len, some))
            return
        if len(lengths) + len(some) > NAMES_MAX:
            yield _packed_table(packed, lengths)
            packed, lengths = bytearray(), array("q")
        packed += b"".join(some)
        lengths.extend(map(len, some))
    yield _packed_table(packed, lengths)


def _packed_table(packed: Buffer, lengths: Iterable[int]) -> NameLookup:
    return NameLookup(packed, array("q", accumulate(lengths, initial=0)))


def _encode_name(name: str) -> bytes:
    try:
        return name.encode("utf-8", "surrogateescape")
    # surrogates that stand for no byte: the name matches no member, which is no error in a list of names
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")
