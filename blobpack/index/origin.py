"""The origin of an index that was cut from another one: which index that was, and which of its rows were taken.

Indexes can be joined if their offsets are those of one blob, or if they were cut from one index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import ReferenceType, ref

from blobpack.index.row_numbers import rows_as_array
from blobpack.indexfile.identity import COLLECTION_IDENTITY

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

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
        """Return the origin of the members at some places among these rows; a range has the step 1."""
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
    return Origin(origins[0].base, np.concatenate([rows_as_array(each.rows) for each in origins]))


def common_identity(identities: set[Identity | None], *, one_origin: bool) -> Identity | None:
    """Return the identity of the blob that several indexes belong to; None if that of any index is not known.

    Args:
        identities: The identities of those indexes that have rows.
        one_origin: Whether all of them were cut from one index.

    Raises:
        ValueError: two of them belong to different blobs.
    """
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
