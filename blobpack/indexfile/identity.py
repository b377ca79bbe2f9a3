"""What tells one archive from another without reading it: its size, and checksums of some of its bytes.

Samples stand at multiples of a power of two, so that they can be taken while an archive is written to where it
can't be read again, before its size is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.stores.sink import Sink
from blobpack.threads import map_ahead

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from blobpack.stores.base import Store

IDENTITY_TAIL_BYTES = 4096  # the end-of-archive marker, and most of what stands before it
SAMPLES_MAX = 32
SAMPLE_BYTES = 1024
SAMPLE_THREADS = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """An archive, as far as its size and samples tell it.

    Attributes:
        archive_bytes: The tar's bytes: all of the blob, or up to the index inside it.
        tail_crc: CRC-32C of its last 4,096 bytes.
        samples_crc: CRC-32C of up to 32 samples of 1,024 bytes, spread evenly over it.
        version: What the store called this version of the blob; empty if that says nothing elsewhere.
    """

    archive_bytes: int
    tail_crc: int
    samples_crc: int
    version: str = ""


# what no archive is: of an index whose offsets are in several blobs
COLLECTION_IDENTITY = Identity((1 << 64) - 1, 0, 0, "a collection")


def identify(store: Store, archive_bytes: int, version: str = "") -> Identity:
    """Describe the archive in the first bytes of a store: at most 36 KiB of it are read.

    Raises:
        StorageError: the store failed.
    """
    tail = read_tail(store, archive_bytes)
    return Identity(archive_bytes, crc32c(tail), samples_crc_of(store, archive_bytes), version)


def read_tail(store: Store, archive_bytes: int) -> bytes:
    """Read the last bytes of the archive."""
    return store.peek(max(0, archive_bytes - IDENTITY_TAIL_BYTES), archive_bytes)


def samples_crc_of(store: Store, archive_bytes: int) -> int:
    """Compute the checksum over the samples, from the first to the last."""
    crc = 0
    for start, end in sample_ranges(archive_bytes):
        crc = crc32c(store.read_range(start, end), crc)
    return crc


def sample_ranges(archive_bytes: int) -> list[tuple[int, int]]:
    """Choose the samples: all of a small archive, else 17 to 32, evenly spaced from the first byte on."""
    step = sample_step(archive_bytes)
    return [
        (start, min(start + SAMPLE_BYTES, archive_bytes)) for start in range(0, archive_bytes, step)
    ]


def sample_step(archive_bytes: int) -> int:
    """Compute how far apart samples start: the least power of two that makes at most 32 of them."""
    step = SAMPLE_BYTES
    while step * SAMPLES_MAX < archive_bytes:
        step *= 2
    return step


class IdentifyingSink(Sink):
    """Passes an archive on to a sink, and computes the archive's identity on the way, in 36 KiB of memory.

    When the archive outgrows its samples, every other one of them is dropped: the remaining ones are the samples of
    an archive twice as large.

    Attributes:
        sink: Takes what is written.
    """

    def __init__(self, sink: Sink, store: Store | None = None, start: int = 0) -> None:
        """Watch what is written.

        Args:
            sink: Takes what is written.
            store: Holds the bytes of the archive before it, if there are any.
            start: How many bytes these are.
        """
        self.sink = sink
        self._pos = start
        self._step = sample_step(start)
        self._tail = bytearray()
        self._samples: dict[int, bytearray] = {}
        if store:
            self._tail += store.read_range(max(0, start - IDENTITY_TAIL_BYTES), start)
            ranges = sample_ranges(start)
            read = map_ahead(
                lambda bounds: store.read_range(*bounds),
                ranges,
                threads=SAMPLE_THREADS,
                name="identity",
            )
            self._samples = {
                begin: bytearray(sample) for (begin, _), sample in zip(ranges, read, strict=True)
            }

    def tell(self) -> int:
        """Return how many bytes the archive has so far."""
        return self._pos

    def write(self, data: Buffer, /) -> int:
        """Write on."""
        view = memoryview(data).cast("B")
        end = self._pos + len(view)
        while self._step * SAMPLES_MAX < end:
            self._step *= 2
            self._samples = {
                start: sample for start, sample in self._samples.items() if start % self._step == 0
            }
        for start in range(self._pos - self._pos % self._step, end, self._step):
            part = view[max(start - self._pos, 0) : max(start + SAMPLE_BYTES - self._pos, 0)]
            if part:
                self._samples.setdefault(start, bytearray()).extend(part)
        self._tail = (self._tail + view[-IDENTITY_TAIL_BYTES:])[-IDENTITY_TAIL_BYTES:]
        self._pos = end
        self.sink.write(view)
        return len(view)

    def identity(self) -> Identity:
        """Describe the archive that was written so far, as identify would from a store."""
        crc = 0
        for start in sorted(self._samples):
            crc = crc32c(bytes(self._samples[start]), crc)
        return Identity(self._pos, crc32c(bytes(self._tail)), crc)
