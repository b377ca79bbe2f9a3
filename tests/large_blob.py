"""A real blob of a million members that takes no time and no disk: its archive is sparse, and its index is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blobpack.checksum import crc32c
from blobpack.columns import MEDIA_TYPES, Columns
from blobpack.index.index import Index
from blobpack.indexfile.identity import identify
from blobpack.stores.local import LocalStore
from blobpack.stores.sink import FileSink
from blobpack.writing.embed import write_behind

if TYPE_CHECKING:
    from pathlib import Path

# a header, a payload and its padding
STEP_BYTES = 10 * 512
PAYLOAD_BYTES = 4500


def payload_of(row: int) -> bytes:
    """Return a payload that was written; all others are zeros."""
    return (b"payload of row %d " % row * 300)[:PAYLOAD_BYTES]


def name_of(row: int, *, ascending: bool = True) -> str:
    """Return the name in a row."""
    return f"images/{row if ascending else row * 7919 % 1_000_003:07d}.jpg"


def make_large_blob(
    path: Path, written: list[int], *, count: int = 1_000_000, ascending: bool = True
) -> None:
    """Write a blob with an index of `count` members with all facts, and the payloads of some rows.

    Args:
        path: The blob. Its archive is larger than 4 GiB from about 840,000 members on, and nearly all of it is a hole.
        written: Rows whose payloads are written; the others are zeros.
        count: Number of members.
        ascending: Names ascend, so the index has a guide. Otherwise it has none.
    """
    rows = np.arange(count, dtype=np.int64)
    starts = rows * STEP_BYTES + 512
    checksums = np.full(count, crc32c(bytes(PAYLOAD_BYTES)), np.uint32)
    archive_bytes = count * STEP_BYTES + 10 * 512
    with path.open("w+b") as file:
        file.truncate(archive_bytes)
        for row in written:
            file.seek(starts[row])
            file.write(payload_of(row))
            checksums[row] = crc32c(payload_of(row))
        names = "".join(name_of(row, ascending=ascending) for row in range(count)).encode()
        columns = Columns(
            memoryview(names),
            (np.arange(count + 1, dtype=np.int64) * (len(names) // count)).data,
            starts.data,
            (starts + PAYLOAD_BYTES).data,
            (rows % 2 + MEDIA_TYPES.index("image/jpeg")).astype(np.uint8).data,
            (rows % 640 + 1).astype(np.uint32).data,
            (rows % 480 + 1).astype(np.uint32).data,
            checksums.data,
            np.full(count, 1_700_000_000, np.int64).data,
        )
        index = Index._from_columns(columns)
        file.flush()
        with LocalStore(path) as store:
            identity = identify(store, archive_bytes)
        file.seek(archive_bytes)
        write_behind(FileSink(file), index, identity)
