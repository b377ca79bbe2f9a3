"""The blobs of a reader: the public table of them, and helpers for functions that go blob by blob."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, overload

from blobpack.index.row_numbers import as_run
from blobpack.model import redacted

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.index.index import Index
    from blobpack.indexfile.shard_table import Shards
    from blobpack.stores.base import Store
    from blobpack.stores.location import Location


@dataclass(frozen=True, slots=True, repr=False)
class BlobRows:
    """A blob, and the rows of its members in the index of the Blob or Collection that reads it.

    Attributes:
        url: Path or URL of the blob, whole, with its query, which may be a secret.
        first_row: Row of its first member.
        rows: Number of its members.
        bytes: Size of the file or object in bytes; for a compressed blob its compressed size.
        is_compressed: The blob is seekable zstd; offsets are those in the tar that it decompresses to.
    """

    url: str
    first_row: int
    rows: int
    bytes: int
    is_compressed: bool = False

    def __repr__(self) -> str:
        return (
            f"BlobRows(url={redacted(self.url)!r}, first_row={self.first_row}, rows={self.rows}, bytes={self.bytes}, "
            f"is_compressed={self.is_compressed})"
        )


class BlobTable(Sequence[BlobRows]):
    """The blobs of a collection, in the order of their rows. Each one is decoded when it is asked for."""

    __slots__ = ("_location_of", "_shards")

    def __init__(self, shards: Shards, location_of: Callable[[int], Location]) -> None:
        """Use the table of a collection.

        Args:
            shards: The table.
            location_of: Returns the location of the blob of a number.
        """
        self._shards, self._location_of = shards, location_of

    def __len__(self) -> int:
        return len(self._shards)

    @overload
    def __getitem__(self, number: int) -> BlobRows: ...
    @overload
    def __getitem__(self, number: slice) -> list[BlobRows]: ...
    def __getitem__(self, number: int | slice) -> BlobRows | list[BlobRows]:
        # a range counts negative numbers from the end, and raises IndexError, as a list does
        if isinstance(number, slice):
            return list(map(self._at, range(len(self))[number]))
        return self._at(range(len(self))[number])

    def _at(self, number: int) -> BlobRows:
        shard = self._shards[number]
        return BlobRows(
            self._location_of(number).whole,
            shard.first_row,
            shard.row_end - shard.first_row,
            shard.blob_bytes,
            shard.is_compressed,
        )

    def __eq__(self, other: object) -> bool:
        """Compare with the blobs of another reader, in order."""
        if not isinstance(other, (BlobTable, list, tuple)):
            return NotImplemented
        return list(self) == list(other)

    # equal objects need equal hashes, and a list has none
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


@dataclass(frozen=True, slots=True)
class BlobPart:
    """One blob of a reader, which is opened only if its bytes are needed.

    Attributes:
        url: Path or URL of the blob, for messages.
        location: Path or URL of the blob; None for a blob in memory.
        first_row: Row of the blob's first member in the reader's index.
        read_index: Returns the blob's members, with their offsets in this blob.
        opened: Opens the blob for a block, and returns its store. Raises BlobpackError if the blob can't be opened, or
            is not the one that was collected.
        store: The blob's store, if it is open already and stays so; else None.
    """

    url: str
    location: Location | None
    first_row: int
    read_index: Callable[[], Index]
    opened: Callable[[], AbstractContextManager[Store]]
    store: Store | None = None

    @classmethod
    def of_store(cls, store: Store, index: Index) -> BlobPart:
        """Return the only blob of a reader, which is open."""
        return cls(store.url, store.location, 0, lambda: index, lambda: nullcontext(store), store)

    @property
    def address(self) -> str:
        """Path or URL of the blob, whole, with its query, which may be a secret."""
        return self.location.whole if self.location else self.url

    def of_rows(self, rows: range | NDArray[np.int64] | None) -> BlobPart:
        """Return this blob with only some of its members.

        Args:
            rows: Rows in the reader's index, ascending; those of other blobs are left out. None for all members.
        """
        if rows is None:
            return self

        def read_index() -> Index:
            index = self.read_index()
            return index._cut(rows_within(rows, self.first_row, self.first_row + len(index)))

        return replace(self, read_index=read_index)

    def with_index_read(self) -> BlobPart:
        """Return this blob with its index read once, so that `read_index` only returns it."""
        index = self.read_index()
        return replace(self, read_index=lambda: index)


def rows_within(
    rows: range | NDArray[np.int64], first: int, last: int
) -> range | NDArray[np.int64]:
    """Return the rows in first:last, counted from `first`; the rows ascend."""
    if isinstance(rows, range):
        start = max(rows.start, first)
        return range(start - first, max(min(rows.stop, last), start) - first)
    begin, end = rows.searchsorted([first, last])
    return as_run(rows[begin:end] - first if first else rows[begin:end])
