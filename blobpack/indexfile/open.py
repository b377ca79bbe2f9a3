"""Opening a stored index: mapped if it is in a local file, or else read by ranges as lookups need them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from blobpack.errors import FormatError
from blobpack.indexfile.footer import FOOTER_BYTES, INDEX_MAGIC, Footer
from blobpack.indexfile.mapped import LocalIndex
from blobpack.indexfile.remote import RemoteIndex
from blobpack.indexfile.shard_table import Shards
from blobpack.stores.open import open_store
from blobpack.stores.replace import OutputKind

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from typing import SupportsIndex

    from blobpack._native.mapped_index import MappedIndex
    from blobpack._native.members import Member
    from blobpack._native.results import FoundRow
    from blobpack.columns import Columns
    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache
    from blobpack.stores.location import Location
    from blobpack.stores.stats import Counters


class StoredIndex(Protocol):
    """The contract of an index in a file or store: reads touch only the parts that they need."""

    is_remote: bool  # a lookup may send requests

    @property
    def footer(self) -> Footer:
        """The footer, or one that was made for rows that are in no index file."""
        ...

    @property
    def native(self) -> MappedIndex | None:
        """The native index in which MemberReads finds members; None if this object has to be asked."""
        ...

    @property
    def url(self) -> str:
        """Path or URL of the file or blob that holds the index; empty for an index in memory."""
        ...

    def __len__(self) -> int: ...

    def find(self, name: str) -> int:
        """Return the last row with this name, or -1."""
        ...

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return offset_start and offset_end of the last row with this name, or None."""
        ...

    def find_member(self, member: Member) -> int:
        """Return the row of a Member, if it is the last row of its name; else NO_SUCH_NAME or OTHER_MEMBER."""
        ...

    def search(self, names: Sequence[str]) -> list[FoundRow | None]:
        """Find the row, offsets and checksum of each of many names, with as few requests as possible."""
        ...

    def bounds_at(self, row: SupportsIndex) -> tuple[int, int]:
        """Return offset_start and offset_end in a row; negative rows count from the end.

        Raises:
            IndexError: there is no such row.
        """
        ...

    def name_at(self, row: SupportsIndex) -> str:
        """Return the name in a row; see bounds_at."""
        ...

    def member_at(self, row: SupportsIndex) -> Member:
        """Return the member in a row; see bounds_at."""
        ...

    def search_rows(self, rows: Iterable[SupportsIndex]) -> list[FoundRow]:
        """Return the offsets and checksum in each of many rows, with as few requests as possible; see bounds_at."""
        ...

    def rows(self, first: int, last: int) -> Columns:
        """Return the rows first:last."""
        ...

    def parts(self) -> Iterator[Columns]:
        """Yield all rows in order, some ten thousand at a time."""
        ...

    def check_lookup(self) -> None:
        """Compare the parts that only lookups by name read with their checksums.

        Raises:
            FormatError: one of them is damaged.
        """
        ...

    def close(self) -> None:
        """Close the store that the index is read from. Parts that were fetched may still be found in memory.

        Closing twice is harmless. Later reads raise StorageError.
        """
        ...


def open_stored(store: Store, offset: int, footer: Footer) -> StoredIndex:
    """Open the index whose region starts at an offset of a store.

    Raises:
        FormatError: the footer's numbers do not fit the region.
    """
    return (RemoteIndex if store.fd is None else LocalIndex)(store, offset, footer)


def load_stored(
    path: str | os.PathLike[str], cache: Cache | None = None, counters: Counters | None = None
) -> StoredIndex:
    """Open an index file at a path or URL; what is read of a remote file is kept in the cache, if there is one.

    Args:
        path: Path or URL of the file.
        cache: Caches what is read.
        counters: Count the requests; None: new counters.

    Raises:
        BlobNotFoundError: there is no such file.
        FormatError: the file is damaged, is not an index, or is the collection of several blobs.
    """
    store, footer = open_region(path, cache, counters)
    if footer.blobs_bytes:
        # its offsets are in several blobs, so reads through it as the index of one blob would return wrong bytes
        raise FormatError(
            f"{store.url}: this is a collection of several blobs, not the index of one blob: open the "
            "collection itself",
            offset=0,
        )
    return open_stored(store, 0, footer)


def open_region(
    path: str | os.PathLike[str], cache: Cache | None = None, counters: Counters | None = None
) -> tuple[Store, Footer]:
    """Open the store of an index file, and read its footer; see load_stored.

    Raises:
        BlobNotFoundError: there is no such file.
        FormatError: the file is damaged, or is not an index.
    """
    # tail: one request brings the size and the last 128 KiB, which usually hold the footer, and the directory and guide
    # of a million members
    store = open_store(path, tail=True, cache=cache, counters=counters)
    footer = read_footer(store)
    # a blob with an index inside ends with a footer, too, but its region is smaller than the file
    if footer is None or footer.region_bytes != store.size:
        advice = "" if footer is None else ": it is a blob, which open_blob and blobpack.open open"
        raise FormatError(f"{store.url}: this is not an index file of blobpack{advice}", offset=0)
    return store, footer


def _is_index(store: Store, *, of_several: bool) -> bool:
    """Return whether a store begins as an index of one blob or of several; a damaged index counts as either."""
    if store.read_range(0, min(len(INDEX_MAGIC), store.size)) != INDEX_MAGIC:
        return False
    try:
        footer = read_footer(store)
    except FormatError:
        return True
    return footer is None or bool(footer.blobs_bytes) == of_several


INDEX = OutputKind("index of one blob", partial(_is_index, of_several=False), "index")
COLLECTION = OutputKind("collection", partial(_is_index, of_several=True), "index")


def read_footer(store: Store) -> Footer | None:
    """Read the footer at the end of a store; return None if there is none.

    Raises:
        ChecksumError: the footer is damaged.
        FormatError: another version of blobpack wrote the index.
    """
    start = store.size - FOOTER_BYTES
    if start < 0:
        return None
    return store.decode(start, store.size, lambda found: Footer.decode(found, store.url, start))


def open_table(location: Location, cache: Cache | None) -> tuple[Store, StoredIndex, Shards]:
    """Open the file of a collection: its store, which the index needs open, its index, and the table of its blobs.

    Raises:
        BlobNotFoundError: there is no such file.
        FormatError: the file is damaged, or is the index of one blob.
        StorageError: the file could not be reached.
    """
    store, footer = open_region(location, cache)
    try:
        # one format serves both: the index of a single blob has no section of blobs
        if not footer.blobs_bytes:
            raise FormatError(
                f"{location}: this is the index of one blob, not a collection; open its blob instead",
                offset=0,
            )
        return store, open_stored(store, 0, footer), read_shards(store, footer)
    except BaseException:
        store.close()
        raise


def read_shards(store: Store, footer: Footer) -> Shards:
    """Read the table of blobs, a section of the collection's file.

    Raises:
        FormatError: the section is damaged.
    """
    return store.decode(
        footer.blobs,
        footer.blobs + footer.blobs_bytes,
        lambda packed: Shards(packed, footer.row_count, store.url, footer.blobs),
    )
