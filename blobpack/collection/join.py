"""Indexes of many blobs → one file: one behind the other, and a section that says whose rows are whose.

Blobs are opened side by side, some at a time, and their indexes go by in parts, so that memory does not grow with
their number but for 8 bytes a member while the lookup is made. Names are compared when it is: a name that two
blobs have is seen there.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from blobpack.collection.locations import name_from
from blobpack.errors import DuplicateNameError, StorageError
from blobpack.indexfile.identity import COLLECTION_IDENTITY, identify
from blobpack.indexfile.shard_table import Shard, encode_shards
from blobpack.indexfile.writer import write_sections
from blobpack.reading.find_index import embedded_index, first_found, sidecar_index
from blobpack.stores.open import open_tar
from blobpack.tar.scan import scan_store
from blobpack.threads import map_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.columns import Columns
    from blobpack.index.index import Index
    from blobpack.model import Duplicates, ProgressCallback
    from blobpack.stores.base import Store
    from blobpack.stores.location import Location
    from blobpack.stores.sink import FileSink

BLOBS_JOINED_AT_ONCE = 16
WHOLE_INDEX_ROWS_MAX = 1 << 16  # an index of no more is read by the thread that opens it


class _FewerFactsError(Exception):
    """A blob does not have all the facts of those before it."""

    def __init__(self, facts: frozenset[str]) -> None:
        super().__init__()
        self.facts = facts


@dataclass(slots=True)
class _OpenedBlob:
    """A blob whose index is at hand; of a large one, the parts are still to be read."""

    shard: Shard
    store: Store
    parts: Iterable[Columns]
    facts: frozenset[str]
    rows: int


class Joining:
    """Writes one collection."""

    def __init__(
        self,
        blobs: list[Location],
        folder: Location,
        *,
        duplicates: Duplicates,
        scan: bool,
        progress: ProgressCallback | None,
    ) -> None:
        self.blobs, self.folder = blobs, folder
        self.duplicates, self.scan, self.progress = duplicates, scan, progress
        self.shards: list[Shard] = []
        self.facts: frozenset[str] | None = None

    def write(self, file: FileSink) -> None:
        """Write the collection to an empty file; again, without these facts, if not all blobs have the same facts."""
        while True:
            self.shards = []
            try:
                footer = write_sections(
                    file,
                    self._parts(),
                    None,
                    identity=COLLECTION_IDENTITY,
                    blobs=lambda: encode_shards(self.shards),
                    repeated=self._refuse if self.duplicates == "refuse" else None,
                )
            except _FewerFactsError as fewer:
                self.facts = fewer.facts
                file.restart()
            else:
                file.write(footer.encode())
                return

    def _parts(self) -> Iterator[Columns]:
        row = 0
        for opened in map_ahead(
            self._open,
            self.blobs,
            threads=BLOBS_JOINED_AT_ONCE,
            most=BLOBS_JOINED_AT_ONCE,
            name="open-blobs",
            drop=lambda opened: opened.store.close(),
        ):
            with opened.store:
                if opened.rows:
                    if self.facts is None:
                        self.facts = opened.facts
                    elif not self.facts <= opened.facts:
                        raise _FewerFactsError(self.facts & opened.facts)
                for part in opened.parts:
                    yield _without_others(part, self.facts or frozenset())
            self.shards.append(replace(opened.shard, first_row=row, row_end=row + opened.rows))
            row += opened.rows
            if self.progress:
                self.progress(len(self.shards), row)

    def _open(self, blob: Location) -> _OpenedBlob:
        store = open_tar(blob, tail=True)
        try:
            index = self._index_of(store)
            identity = index.identity or identify(store, store.size)
            rows = len(index)
            shard = Shard(
                name=name_from(self.folder, blob),
                first_row=0,
                row_end=rows,
                blob_bytes=store.stored_bytes,
                payload_bytes=index.payload_bytes,
                is_compressed=store.is_compressed,
                identity=replace(identity, version=store.version if store.is_remote else ""),
            )
            parts: Iterable[Columns] = (
                [index.columns] if rows <= WHOLE_INDEX_ROWS_MAX else index.parts()
            )
            return _OpenedBlob(shard, store, parts, index.taken, rows)
        except BaseException:
            store.close()
            raise

    def _index_of(self, store: Store) -> Index:
        """Find a blob's index, or scan it if that is wanted."""
        index = first_found(store, embedded_index, sidecar_index)
        if index is None and not self.scan:
            raise StorageError(
                f"{store.url} has no index: `blobpack index {store.url}` makes one, or ask for a scan"
            )
        return scan_store(store) if index is None else index

    def _refuse(self, name: str, row: int, other: int) -> None:
        """Refuse a name that two blobs have; one that a blob has twice is that blob's own matter.

        Raises:
            DuplicateNameError: both blobs are said.
        """
        first, last = sorted(
            bisect_right(self.shards, place, key=lambda shard: shard.row_end)
            for place in (row, other)
        )
        if first != last:
            holders = f"in {self.shards[first].name} and in {self.shards[last].name}"
            raise DuplicateNameError(f"member {name!r} is {holders}, of those in {self.folder}")


def _without_others(part: Columns, facts: frozenset[str]) -> Columns:
    """Leave out the facts that are not among these."""
    others: dict[str, Any] = {name: None for name, _ in part.facts() if name not in facts}
    return replace(part, **others)
