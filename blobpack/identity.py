"""What tells one archive from another without reading it: its size, and checksums of some of its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.checksum import crc32c

if TYPE_CHECKING:
    from blobpack.stores.base import Store

TAIL_BYTES = 4096  # the end-of-archive marker, and most of what stands before it
SAMPLES = 16
SAMPLE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """An archive, as far as its size and samples tell it.

    Attributes:
        archive_bytes: The tar's bytes: all of the blob, or up to the index inside it.
        tail_crc: CRC-32C of its last 4,096 bytes.
        samples_crc: CRC-32C of 16 samples of 1,024 bytes, spread evenly over it.
        version: What the store called this version of the blob; empty if that says nothing elsewhere.
    """

    archive_bytes: int
    tail_crc: int
    samples_crc: int
    version: str = ""


# what no archive is: of an index whose offsets are in several blobs
OF_A_COLLECTION = Identity((1 << 64) - 1, 0, 0, "a collection")


def identify(store: Store, archive_bytes: int, version: str = "") -> Identity:
    """Describe the archive in the first bytes of a store: at most 20 KiB of it are read.

    Raises:
        StorageError: the store failed.
    """
    tail = read_tail(store, archive_bytes)
    return Identity(archive_bytes, crc32c(tail), samples_crc_of(store, archive_bytes), version)


def read_tail(store: Store, archive_bytes: int) -> bytes:
    """Read the last bytes of the archive."""
    return store.peek(max(0, archive_bytes - TAIL_BYTES), archive_bytes)


def samples_crc_of(store: Store, archive_bytes: int) -> int:
    """Compute the checksum over the samples, from the first to the last."""
    crc = 0
    for start, end in sample_ranges(archive_bytes):
        crc = crc32c(store.read_range(start, end), crc)
    return crc


def sample_ranges(archive_bytes: int) -> list[tuple[int, int]]:
    """Choose the samples: all of a small archive, else 16, the first and the last bytes among them."""
    if archive_bytes <= SAMPLES * SAMPLE_BYTES:
        return [(0, archive_bytes)]
    last = archive_bytes - SAMPLE_BYTES
    starts = (last * i // (SAMPLES - 1) for i in range(SAMPLES))
    return [(start, start + SAMPLE_BYTES) for start in starts]
