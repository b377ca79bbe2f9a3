"""The blobs of a reader: the public table of them, and one blob that is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from blobpack.model import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """

    url: str
    first_row: int
    rows: int
    bytes: int

    def __repr__(self) -> str:
        return f"BlobRows(url={redacted(self.url)!r}, first_row={self.first_row}, rows={self.rows}, bytes={self.bytes})"


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
        )

    def __repr__(self) -> str:
        return repr(list(self))


@dataclass(frozen=True, slots=True)
class BlobPart:
    """One open blob of a reader.

    Attributes:
        store: Delivers the blob's bytes.
        index: The blob's members, with their offsets in this blob.
        first_row: Row of the blob's first member in the reader's index.
    """

    store: Store
    index: Index
    first_row: int
