"""The origin of an index that was cut from another one: which index that was, and which of its rows were taken.

Indexes can be joined if their offsets are those of one blob, or if they were cut from one index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import ReferenceType, ref

from blobpack.indexfile.identity import COLLECTION_IDENTITY

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.index.index import Index
    from blobpack.index.rows import Rows
    from blobpack.indexfile.identity import Identity


class Origin(NamedTuple):
    """Rows of an index.

    Attributes:
        base: The index; a weak reference, so that a few of its rows do not keep all of them in memory.
        rows: The rows there, in the order in which they were taken.
    """

    base: ReferenceType[Rows]
    rows: range | NDArray[np.int64]

    def at(self, rows: range | NDArray[np.int64]) -> Origin:
        """Return some of these rows, by their places among these rows; a range has the step 1."""
        if isinstance(rows, range):
            return Origin(self.base, self.rows[rows.start : rows.stop])
        if isinstance(self.rows, range):
            return Origin(self.base, self.rows.start + self.rows.step * rows)
        return Origin(self.base, self.rows[rows])


def origin_of(index: Rows) -> Origin:
    """Return where an index was cut from; one that was cut from no other is its own origin."""
    return index._origin or Origin(ref(index), range(len(index)))


def common_origin(indexes: Iterable[Rows]) -> Origin | None:
    """Return the rows of several indexes, one after another, if all were cut from one index; None if not."""
    import numpy as np

    origins = [origin_of(index) for index in indexes]
    # Compared by identity, which finds equal origins even after the index is gone: weak references would compare the
    # indexes, and read them. An object has only one weak reference without a callback.
    if not origins or any(origin.base is not origins[0].base for origin in origins):
        return None
    return Origin(origins[0].base, np.concatenate([as_array(each.rows) for each in origins]))


def common_identity(indexes: list[Index], *, one_origin: bool) -> Identity | None:
    """Return the identity of the blob that all of these belong to; None if it is not known of each.

    Args:
        indexes: The indexes, each with rows.
        one_origin: Whether all of them were cut from one index.

    Raises:
        ValueError: two of them belong to different blobs.
    """
    identities = {index.identity for index in indexes}
    # all collections have this identity
    if COLLECTION_IDENTITY in identities and not one_origin:
        raise ValueError(
            "indexes of a collection can only be joined if they were cut from the index of one open collection"
        )
    known = [identity for identity in identities if identity is not None]
    if len(known) > 1:
        raise ValueError(
            "indexes must belong to one blob: these belong to different blobs, or to one blob before and after it was "
            "written to"
        )
    return known[0] if len(identities) == 1 and known else None


def as_run(rows: NDArray[np.int64]) -> range | NDArray[np.int64]:
    """Return rows as a range, if each one follows the one before."""
    first, count = (int(rows[0]), len(rows)) if len(rows) else (0, 0)
    # the first and the last one tell about most arrays at once
    if count and rows[-1] - first == count - 1 and ascends(rows, strictly=True):
        return range(first, first + count)
    return rows


def ascends(rows: range | NDArray[np.int64], *, strictly: bool = False) -> bool:
    """Return whether no row is smaller than the one before; strictly: whether each one is larger."""
    if isinstance(rows, range):
        return rows.step > 0
    return bool((rows[1:] > rows[:-1] if strictly else rows[1:] >= rows[:-1]).all())


def as_array(rows: range | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return rows as an array."""
    import numpy as np

    # np.asarray would make a Python int of each number of a range
    return np.arange(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows
