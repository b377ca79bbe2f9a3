"""The `.tar.idx` of Megatron-Energon: the offset of each sample's first header, and where the last sample ends.

The file holds numbers of 8 bytes, least significant byte first, and nothing else: no names, no sizes, nothing about the
tar. So the members come from a scan of the tar, and the numbers are compared with this scan.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from blobpack.foreign.fit import misfit
from blobpack.foreign.formats.samples import group_samples, split_for_energon
from blobpack.tar.header import BLOCK
from blobpack.tar.scan import scan_store
from blobpack.tar.splicing.extents import padded_to

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blobpack.foreign.index_file import IndexFile
    from blobpack.foreign.source import SourceBlob
    from blobpack.index.index import Index
    from blobpack.stores.base import Store

NUMBER_BYTES = 8


def matches(file: IndexFile) -> bool:
    """Return whether a file can be a `.tar.idx`: whole numbers of blocks, each larger than the one before.

    It has no magic number. But no other format begins with such a number: the first eight bytes of a pickle, of JSON, SQLite,
    DALI's text or blobpack's own index are an odd or a huge number.
    """
    size = len(file.head) // NUMBER_BYTES * NUMBER_BYTES
    if not size or file.store.size % NUMBER_BYTES:
        return False
    numbers = _numbers(file.head[:size])
    return all(
        number % BLOCK == 0 and 0 <= number < 1 << 63 and (not row or number > numbers[row - 1])
        for row, number in enumerate(numbers)
    )


def _numbers(content: bytes) -> array[int]:
    numbers = array("Q", content)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def read(file: IndexFile, store: Store) -> Index:
    """Read a `.tar.idx`, and scan the tar; see table.py."""
    return scanned_samples(_numbers(file.content), file, store)


def scanned_samples(offsets: array[int], file: IndexFile, store: Store) -> Index:
    """Scan a tar, and check that samples begin at some offsets, and that the last one ends at the last offset.

    Raises:
        StaleIndexError: an offset is not between two members, or the end is not that of the archive.
    """
    import numpy as np

    index = scan_store(store)
    end = index.report.bytes_scanned if index.report else 0
    if offsets[-1] != end:
        raise misfit(
            file, store, f"its samples end at byte {offsets[-1]}, and the archive at {end}"
        )
    gaps, starts = _gaps(index)
    # A number of 2⁶³ or more becomes negative here. No sample begins there, so it is found below.
    begins = np.asarray(offsets, np.uint64).astype(np.int64)[:-1]
    # the first header of a sample lies behind the member before, and before the payload of its first member
    rows = np.searchsorted(starts, begins, "right")
    fits = rows < len(starts)
    fits[fits] = begins[fits] >= gaps[rows[fits]]
    if not fits.all():
        row = int((~fits).argmax())
        raise misfit(file, store, f"it has sample {row} at byte {begins[row]}, where no header is")
    return index


def _gaps(index: Index) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the headers before each payload begin, and where the payloads begin, both ascending.

    The rows of hard links are left out: their payload is that of another member.
    """
    import numpy as np

    starts, first = np.unique(index.offset_start, return_index=True)
    ends = padded_to(index.offset_end[first], starts)
    return np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(starts)], starts


def first_headers(index: Index) -> tuple[list[tuple[str, list[tuple[int, str]]]], list[int]]:
    """Group an index into Energon's samples.

    Returns:
        samples: See group_samples; without rows of hard links, which Energon does not list.
        offsets: Where the headers of each sample begin, and where the last sample ends.
    """
    import numpy as np

    _, first = np.unique(index.offset_start, return_index=True)
    rows = np.sort(first)
    kept = index[rows] if len(rows) < len(index) else index
    samples = group_samples(kept.names, split_for_energon)
    samples = [(stem, [(int(rows[row]), rest) for row, rest in files]) for stem, files in samples]
    gaps, starts = _gaps(index)
    begins = index.offset_start[[files[0][0] for _, files in samples]] if samples else starts[:0]
    end = (
        index.report.bytes_scanned
        if index.report
        else int(padded_to(index.offset_end, index.offset_start).max(initial=0))
    )
    return samples, [*gaps[np.searchsorted(starts, begins)].tolist(), end]


def encode(blobs: list[SourceBlob]) -> tuple[bytes, int]:
    """Write a `.tar.idx`; see table.py."""
    (blob,) = blobs
    # Energon writes numbers in the byte order of the machine, and it runs on little-endian machines.
    samples, offsets = first_headers(blob.index)
    numbers = array("Q", offsets)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes(), sum(len(files) for _, files in samples)
