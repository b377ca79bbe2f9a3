"""What tells an archive from another: the same whether it is read back or watched while it is written."""

from __future__ import annotations

import io
import random

import pytest

from blobpack import Index, StaleIndexError
from blobpack.checksum import crc32c
from blobpack.indexfile.identity import (
    COLLECTION_IDENTITY,
    IdentifyingSink,
    Identity,
    identify,
    sample_ranges,
)
from blobpack.opening.freshness import check_identity
from blobpack.stores.memory import MemoryStore

SIZES = (
    0,
    1,
    1023,
    1024,
    1025,
    16_383,
    16_384,
    16_385,
    32_768,
    32_769,
    65_536,
    65_537,
    100_000,
    3_000_001,
)


@pytest.mark.parametrize("size", SIZES)
def test_samples_are_few_and_cover_a_small_archive(size):
    ranges = sample_ranges(size)
    assert len(ranges) <= 32
    assert all(0 <= start < end <= size for start, end in ranges)
    if size <= 32_768:
        assert sum(end - start for start, end in ranges) == size
    else:
        assert len(ranges) >= 17


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("before", [0, 1, 700, 5_000, 40_000])
def test_watched_while_written_is_as_read_back(size, before):
    rng = random.Random(size)
    archive = rng.randbytes(size)
    before = min(before, size)
    file = io.BytesIO()
    witness = IdentifyingSink(file, MemoryStore(archive[:before]), before)
    pos = before
    while pos < size:
        end = min(size, pos + rng.choice((1, 511, 512, 1024, 4096, 70_000)))
        assert witness.write(archive[pos:end]) == end - pos
        pos = end
    assert file.getvalue() == archive[before:]
    assert witness.identity() == identify(MemoryStore(archive), size)
    assert witness.tell() == size


@pytest.mark.parametrize("size", [0, 5000, 100_000])
def test_the_checksums_are_those_of_the_page_of_the_format(size):
    """Index files that are there record them: of the last 4,096 bytes, and of samples of 1,024 bytes."""
    archive = random.Random(size).randbytes(size)
    step = next(step for i in range(50) if (step := 1024 << i) * 32 >= size)
    samples = b"".join(archive[at : at + 1024] for at in range(0, size, step))
    expected = Identity(size, crc32c(archive[-4096:]), crc32c(samples))
    assert identify(MemoryStore(archive), size) == expected
    witness = IdentifyingSink(io.BytesIO())
    witness.write(archive)
    assert witness.identity() == expected


def test_the_index_of_a_collection_is_that_of_no_archive():
    """Collections that are there record it."""
    assert Identity((1 << 64) - 1, 0, 0, "a collection") == COLLECTION_IDENTITY
    index = Index()
    index.identity = COLLECTION_IDENTITY
    for size in (0, 1024):
        assert identify(MemoryStore(bytes(size)), size) != COLLECTION_IDENTITY
        with pytest.raises(StaleIndexError, match="it is the index of a collection"):
            check_identity(MemoryStore(bytes(size)), index, "c.idx")
