"""Copy small members that lie one behind the other, in one pass.

Strategy: to find where the headers of small members begin, nearly all bytes have to be read. So native code compares the
headers with the index while it copies them. If it finds anything else than these members, such as a folder between them,
nothing counts as copied.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blobpack._native.matching import copy_if_equal
from blobpack.errors import StorageError
from blobpack.threads import processor_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blobpack.columns import Columns
    from blobpack.stores.base import Store

    Int64s = NDArray[np.int64]

# Of larger members, the headers are read alone, and copy_file_range copies the rest.
DENSE_MEMBER_BYTES_MAX = 16 << 10
# one thread reads while the other one writes; two can't write to one file at the same time
DENSE_THREADS_MAX = 2


def is_dense(before: Int64s, padded_end: Int64s) -> bool:
    """Return whether members are small, and lie one behind the other by their index.

    Args:
        before: (k,) where the member before each of them ends, k at least 1.
        padded_end: (k,) where each ends with its padding.
    """
    mean_bytes = (int(padded_end[-1]) - int(before[0])) // len(before)
    return 0 <= mean_bytes <= DENSE_MEMBER_BYTES_MAX and bool((before[1:] == padded_end[:-1]).all())


def copy_dense(
    from_fd: int, store: Store, start: int, members: Columns, to_fd: int, to: int
) -> bool:
    """Copy members that lie one behind the other to the end of a file, if nothing else lies between them.

    Args:
        from_fd: The source, open for reading.
        store: The source.
        start: Where the headers of the first member begin.
        members: The members.
        to_fd: The new blob, open for writing.
        to: The end of the new blob.

    Returns:
        Whether they were copied. If not, the new blob ends where it did.

    Raises:
        StorageError: the new blob can't be written.
    """
    try:
        copied = copy_if_equal(
            from_fd,
            store.size,
            start,
            members.names,
            members.name_bounds,
            members.offset_start,
            members.offset_end,
            to_fd,
            to,
            threads=processor_count(DENSE_THREADS_MAX),
        )
        if not copied:
            os.ftruncate(to_fd, to)
    except OSError as exc:
        raise StorageError(f"{store.url}: can't be copied: {exc.strerror}") from exc
    return copied
