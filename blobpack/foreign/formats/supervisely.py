"""The offsets file of Supervisely, which other parts of blobpack read and write, too: name, start and end of each member.

Nothing is recorded about the tar. Names may be basenames.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from blobpack._native.pickles import OffsetsDecoder
from blobpack.columns import Columns
from blobpack.foreign.fit import fit_columns
from blobpack.foreign.headers import check_headers
from blobpack.index.index import Index
from blobpack.index.tables.offsets_table import TablePart, write_table

if TYPE_CHECKING:
    from blobpack.foreign.index_file import IndexFile
    from blobpack.foreign.source import SourceBlob
    from blobpack.stores.base import Store

# the first byte of a pickle of protocol 2 and later; the SDK reads no others
PICKLE = b"\x80"


def matches(file: IndexFile) -> bool:
    """Return whether a file begins as a pickle, or is empty, as the offsets file of no members is."""
    return file.head[:1] in (b"", PICKLE)


def read(file: IndexFile, store: Store) -> Index:
    """Read an offsets file; see table.py."""
    # all rows at once: 2⁶² is more than any file holds
    decoded = OffsetsDecoder(io.BytesIO(file.content), file.url).read_batch(1 << 62)
    if not decoded:
        return Index()
    columns = Columns(*decoded)
    # A few headers are compared first, because that gives the clearest message about an offsets file that is out of date.
    check_headers(store, Index._from_columns(columns), file.url)
    return fit_columns(columns, file, store)


def encode(blobs: list[SourceBlob]) -> tuple[bytes, int]:
    """Write an offsets file; see table.py."""
    (blob,) = blobs
    # The file is made in memory, because it has only 44 MB for a million members.
    target = io.BytesIO()
    rows = write_table(
        lambda: [TablePart(blob.index)], target, "path", "pkl", whole=True, force=False
    )
    return target.getvalue(), rows
