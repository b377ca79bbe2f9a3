"""The plan of a copy: parts of the source, new headers, and the pieces to write one behind the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack._native.splice import encode_headers
from blobpack.tar.splicing.extents import zeros

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.columns import Columns

    Int64s = NDArray[np.int64]

# Bytes of the source that are handled at a time: also the most that a remote source keeps in its temporary file, a
# single longer member apart.
SPLICE_PART_BYTES = 64 << 20


def parts_of_rows(before: Int64s, padded_end: Int64s) -> Iterator[tuple[int, int]]:
    """Divide rows into parts of up to SPLICE_PART_BYTES; a longer member is a part of its own."""
    import numpy as np

    sizes = padded_end - before
    total = np.cumsum(sizes)
    first, count = 0, len(sizes)
    while first < count:
        base = int(total[first - 1]) if first else 0
        last = int(np.searchsorted(total, base + SPLICE_PART_BYTES, "right"))
        last = max(last, first + 1)
        yield first, last
        first = last


def new_headers(columns: Columns) -> tuple[memoryview, Int64s]:
    """Encode headers for members that can't keep theirs.

    Returns:
        headers: The headers, one behind the other.
        header_bounds: (n + 1,) int64; the headers of member i are headers[header_bounds[i]:header_bounds[i + 1]].
    """
    import numpy as np

    sizes = np.asarray(columns.offset_end) - np.asarray(columns.offset_start)
    # 0 is the mtime of members whose time is not known
    mtimes = zeros(len(columns)).data if columns.mtime is None else columns.mtime
    headers, bounds = encode_headers(columns.names, columns.name_bounds, sizes.data, mtimes)
    return headers, np.asarray(bounds)


def copy_plan(
    begin: Int64s, sizes: Int64s, made: Int64s, header_bounds: Int64s
) -> tuple[Int64s, Int64s]:
    """List the pieces to write, in order; ranges that follow each other in the source become one piece.

    Args:
        begin: (k,) where the range of each member begins in the source.
        sizes: (k,) bytes of each range.
        made: (m,) rows that get new headers.
        header_bounds: (m + 1,) bounds of the new headers.

    Returns:
        pieces: (n,) int64, start in the source, or ~start in the new headers, as copy_pieces wants it.
        sizes: (n,) int64, bytes of each piece.
    """
    import numpy as np

    # ~x is negative for every x from 0 on, so that one column can say both kinds of start
    pieces = np.insert(begin, made, ~header_bounds[:-1])
    sizes = np.insert(sizes, made, np.diff(header_bounds))
    # An empty payload behind new headers is a piece of no bytes. It would keep its neighbours from being joined.
    filled = sizes > 0
    if not bool(filled.all()):
        pieces, sizes = pieces[filled], sizes[filled]
    first = np.ones(len(pieces), bool)
    first[1:] = (pieces[1:] != pieces[:-1] + sizes[:-1]) | (pieces[1:] < 0) | (pieces[:-1] < 0)
    firsts = np.flatnonzero(first)
    return pieces[firsts], np.add.reduceat(sizes, firsts) if len(firsts) else sizes
