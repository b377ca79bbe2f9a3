"""The identity of an archive: its size, and checksums of some of its bytes, to recognise a stale index.

Strategy: read at most 36 KiB, whatever the size of the archive: its last bytes, and up to 32 samples. Samples start at
multiples of a power of two. So they can be taken while an archive is written to a place where it can't be read again,
before its size is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.look_ahead import map_ahead
from blobpack.stores.sink import Sink

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from blobpack.stores.base import Store

# An append overwrites the end-of-archive marker of a tar (two zero blocks of 512 bytes), so its last bytes change.
# Where more zeros follow the marker (GNU tar fills up to 10,240 bytes), the last bytes may stay zeros. So
# opening/freshness.py also looks at the block where the archive ended.
IDENTITY_TAIL_BYTES = 4096
# 16 in early builds: their index files count as stale beside a local blob, see CHANGELOG
SAMPLES_MAX = 32
SAMPLE_BYTES = 1024
# of an archive in S3, each sample is one request: with 16 threads, 32 samples take two round trips
SAMPLE_THREADS = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """The size and checksums that tell an archive from others.

    Attributes:
        archive_bytes: Size of the tar: all of the blob, or the bytes before the index inside the blob.
        tail_crc: CRC-32C of the archive's last 4,096 bytes.
        samples_crc: CRC-32C of up to 32 samples of 1,024 bytes each, spread evenly over the archive.
        version: The store's name for this version of the blob, such as an ETag; empty for a local file, as a
            file system has no version that survives a copy.
    """

    archive_bytes: int
    tail_crc: int
    samples_crc: int
    version: str = ""


# The identity of a collection's index, whose offsets are in several blobs. No archive has 2⁶⁴ − 1 bytes, so nobody
# takes that index for the index of one blob.
COLLECTION_IDENTITY = Identity((1 << 64) - 1, 0, 0, "a collection")


def identify(store: Store, archive_bytes: int, version: str = "") -> Identity:
    """Return the identity of the archive in the first bytes of a store, of which at most 36 KiB are read.

    Raises:
        StorageError: the store failed.
    """
    tail = read_tail(store, archive_bytes)
    return Identity(archive_bytes, crc32c(tail), samples_crc_of(store, archive_bytes), version)


def read_tail(store: Store, archive_bytes: int) -> bytes:
    """Read the last 4,096 bytes of the archive."""
    return store.peek(max(0, archive_bytes - IDENTITY_TAIL_BYTES), archive_bytes)


def samples_crc_of(store: Store, archive_bytes: int) -> int:
    """Read the samples, and return the CRC-32C of all of them, from the first to the last."""
    crc = 0
    for start, end in sample_ranges(archive_bytes):
        crc = crc32c(store.read_range(start, end), crc)
    return crc


def sample_ranges(archive_bytes: int) -> list[tuple[int, int]]:
    """Return the ranges of the samples: all of a small archive, or else 17 to 32 samples at equal distances."""
    step = sample_step(archive_bytes)
    return [
        (start, min(start + SAMPLE_BYTES, archive_bytes)) for start in range(0, archive_bytes, step)
    ]


def sample_step(archive_bytes: int) -> int:
    """Return the distance between samples: the smallest power of two that yields at most 32 samples."""
    step = SAMPLE_BYTES
    while step * SAMPLES_MAX < archive_bytes:
        step *= 2
    return step


class IdentifyingSink(Sink):
    """Passes an archive on to a sink, and computes the archive's identity on the way, in 36 KiB of memory.

    If the archive outgrows its samples, every second sample is dropped. What remains are the samples of an archive of
    twice the size, because both start at multiples of a power of two.

    Attributes:
        sink: The sink that everything is written to.
    """

    def __init__(self, sink: Sink, store: Store | None = None, start: int = 0) -> None:
        """Start behind the bytes that the archive has already.

        Args:
            sink: The sink that everything is written to.
            store: The first bytes of the archive, if it is continued.
            start: Number of these bytes.
        """
        self.sink = sink
        self._pos = start
        self._step = sample_step(start)
        self._tail = bytearray()
        self._samples: dict[int, bytearray] = {}
        if store:
            self._tail += store.read_range(max(0, start - IDENTITY_TAIL_BYTES), start)
            # an append to a blob in S3 reads its old samples from there: in parallel, or 32 requests would take a
            # second at 30 ms each
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
        """Return the size of the archive so far."""
        return self._pos

    def write(self, data: Buffer, /) -> int:
        """Write data to the sink, and keep the parts of it that belong to the samples and the tail."""
        view = memoryview(data).cast("B")
        end = self._pos + len(view)
        while self._step * SAMPLES_MAX < end:
            self._step *= 2
            self._samples = {
                start: sample for start, sample in self._samples.items() if start % self._step == 0
            }
        # begin with the sample that earlier data may have left unfinished
        for start in range(self._pos - self._pos % self._step, end, self._step):
            part = view[max(start - self._pos, 0) : max(start + SAMPLE_BYTES - self._pos, 0)]
            if part:
                self._samples.setdefault(start, bytearray()).extend(part)
        self._tail = (self._tail + view[-IDENTITY_TAIL_BYTES:])[-IDENTITY_TAIL_BYTES:]
        self._pos = end
        self.sink.write(view)
        return len(view)

    def identity(self) -> Identity:
        """Return the identity of what was written so far; `identify` computes the same from a store."""
        crc = 0
        for start in sorted(self._samples):
            crc = crc32c(bytes(self._samples[start]), crc)
        return Identity(self._pos, crc32c(bytes(self._tail)), crc)
