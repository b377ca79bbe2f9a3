"""Write a collection: the indexes of many blobs are joined to one, and a table records which rows belong to which blob.

Strategy: some blobs are opened in parallel, ahead of the one whose index is written. Indexes are copied in parts, so
memory does not grow with the number of members. Making the lookup finds names that two blobs have, with no pass of its
own. Only if some names are not in normal form, such as "./a", their normal forms are compared in a second pass.

New blobs may be joined to a collection that is there. Its file is copied without reading its names, and none of its blobs
is opened; see indexfile/extend.py. All of its rows are read and written again if the lookup has no room for the new names,
if the new blobs lack facts, or if its file does not say that all names are in normal form, and names must be compared.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from blobpack._native.name_hashes import LookupFullError
from blobpack.columns import FACT_WITHOUT_UNKNOWN
from blobpack.errors import DuplicateNameError, FormatError, StaleIndexError, StorageError
from blobpack.foreign.index_command import index_command
from blobpack.indexfile.extend import PAGE_NAMES_WITH_ROOM, Base
from blobpack.indexfile.identity import COLLECTION_IDENTITY, identify
from blobpack.indexfile.mapped import LocalIndex
from blobpack.indexfile.shard_table import Shard, encode_shards
from blobpack.indexfile.writer import PAGE_NAMES, write_sections
from blobpack.look_ahead import map_ahead
from blobpack.model import redacted
from blobpack.opening.find_index import embedded_index, first_found, sidecar_index
from blobpack.opening.locations import name_from
from blobpack.quoting import quoted
from blobpack.stores.open import open_tar
from blobpack.tar.scan import scan_store
from blobpack.threads import processor_count
from blobpack.wording import setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.columns import Columns
    from blobpack.index.index import Index
    from blobpack.indexfile.footer import Footer
    from blobpack.model import Duplicates, ScanReport, Stale
    from blobpack.progress import CountCallback
    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache
    from blobpack.stores.location import Location
    from blobpack.stores.sink import FileSink
    from blobpack.stores.stats import Counters

# In S3, each blob takes a few small requests, which wait for the server in parallel. Each blob that is opened ahead takes
# memory for a small index. A local blob also takes a file descriptor.
BLOBS_JOINED_AT_ONCE = 16
# Local blobs need no requests, so more threads than processors gain nothing.
LOCAL_BLOBS_JOINED_AT_ONCE = 4
# An index of at most this many rows is read whole by the thread that opens its blob, so that its requests run in parallel,
# too. A larger index is read in parts by the thread that writes, so that 16 large indexes are never in memory.
WHOLE_INDEX_ROWS_MAX = 1 << 16


class _FewerFactsError(Exception):
    """A blob's index lacks facts that the blobs before it have."""

    def __init__(self, facts: frozenset[str]) -> None:
        super().__init__()
        self.facts = facts


@dataclass(slots=True)
class _OpenedBlob:
    """A blob that was opened, and its index; the parts of a large index are not read yet."""

    shard: Shard
    store: Store
    parts: Iterable[Columns]
    facts: frozenset[str]
    rows: int
    report: ScanReport | None
    was_scanned: bool


@dataclass(frozen=True, slots=True)
class Collected:
    """A collection that new blobs are joined to.

    Attributes:
        index: Its members.
        shards: Its blobs.
    """

    index: Index
    shards: list[Shard]


class CollectionWriter:
    """Writes one collection to a file.

    Attributes:
        reports: Blob → the report that its index has of a scan.
        scanned: The blobs that had no index, and were scanned.
    """

    def __init__(
        self,
        blobs: list[Location],
        folder: Location,
        *,
        duplicates: Duplicates,
        scan: bool,
        concatenated: bool = False,
        stale: Stale = "refuse",
        cache: Cache | None = None,
        counters: Counters | None = None,
        progress: CountCallback | None = None,
        before: Collected | None = None,
    ) -> None:
        """Set what is written.

        Args:
            blobs: The blobs, in this order.
            folder: The folder of the collection.
            duplicates: What to do with a name that two blobs have; see collect.
            scan: Scan blobs that have no index; see collect.
            concatenated: Scan all blobs, also behind end-of-archive markers; see collect.
            stale: What to do with an index that does not fit its blob.
            cache: Keeps what is read of remote blobs.
            counters: Count the requests for all blobs; None: new counters for each.
            progress: Called after each blob with the number of blobs and their bytes.
            before: A collection whose members come first. It keeps its facts: those of new members may be unknown.
        """
        self.before = before
        self.blobs, self.folder = blobs, folder
        self.duplicates, self.scan, self.stale = duplicates, scan, stale
        self.concatenated = concatenated
        self.cache, self.counters, self.progress = cache, counters, progress
        self.shards: list[Shard] = []
        self.facts: frozenset[str] | None = None
        self.reports: dict[str, ScanReport] = {}
        self.scanned: list[str] = []
        self._blob_bytes = 0

    def write(self, file: FileSink) -> Footer:
        """Write the collection to an empty file, with the facts that all of its blobs have; return its footer."""
        # A part with fewer facts is met only when parts before it are written. Then all is written again without these
        # facts. This ends, because each turn drops at least one fact. Looking first would open every blob twice.
        base = self._base()
        while True:
            self.shards = list(self.before.shards) if self.before else []
            self.scanned = []
            self._blob_bytes = sum(shard.blob_bytes for shard in self.shards)
            try:
                footer = self._write_sections(file, base)
            except LookupFullError:
                base = None
                file.restart()
            except _FewerFactsError as fewer:
                self.facts, base = fewer.facts, None
                file.restart()
            else:
                # the footer goes last: a file that was cut short has none, and is no collection
                file.write(footer.encode())
                return footer

    def _base(self) -> Base | None:
        """Return the index of the members before, if it can be copied."""
        stored = self.before and self.before.index._stored
        if not isinstance(stored, LocalIndex):
            return None
        return Base.of(stored, compares_files=self.duplicates == "refuse")

    def _write_sections(self, file: FileSink, base: Base | None) -> Footer:
        return write_sections(
            file,
            self._parts(base),
            None,
            identity=COLLECTION_IDENTITY,
            blobs=lambda: encode_shards(self.shards),
            repeated=self._check_holders if self.duplicates == "refuse" else None,
            base=base,
            # a collection that grows is likely to grow again
            page_names=PAGE_NAMES_WITH_ROOM if self.before else PAGE_NAMES,
        )

    def _parts(self, base: Base | None) -> Iterator[Columns]:
        """Yield the members of the blobs; without a base, those of the collection before come first."""
        row = 0
        if self.before and len(self.before.index):
            row = len(self.before.index)
            self.facts = self.before.index.facts if self.facts is None else self.facts
            if base is None:
                for part in self.before.index._parts():
                    yield _keep_facts(part, self.facts)
        # a local blob is scanned by several threads already, and opened in no time
        waits = any(not blob.is_local for blob in self.blobs)
        at_once = BLOBS_JOINED_AT_ONCE if waits else processor_count(LOCAL_BLOBS_JOINED_AT_ONCE)
        for opened in map_ahead(
            self._open,
            self.blobs,
            threads=at_once,
            most=at_once,
            name="open-blobs",
            drop=lambda opened: opened.store.close(),
        ):
            with opened.store:
                # an empty blob has no facts to compare, and must not take them from all others
                if opened.rows:
                    if self.facts is None:
                        self.facts = opened.facts
                    elif not self.facts <= opened.facts:
                        raise _FewerFactsError(self.facts & opened.facts)
                if opened.report:
                    self.reports[opened.store.url] = opened.report
                if opened.was_scanned:
                    self.scanned.append(opened.store.url)
                for part in opened.parts:
                    yield _keep_facts(part, self.facts or frozenset())
            self.shards.append(replace(opened.shard, first_row=row, row_end=row + opened.rows))
            row += opened.rows
            self._blob_bytes += opened.shard.blob_bytes
            if self.progress:
                self.progress(len(self.shards), self._blob_bytes)

    def _open(self, blob: Location) -> _OpenedBlob:
        store = open_tar(blob, tail=True, cache=self.cache, counters=self.counters)
        try:
            found = self._index_of(store)
            index = scan_store(store) if found is None else found
            identity = index.identity or identify(store, store.size)
            rows = len(index)
            shard = Shard(
                name=name_from(self.folder, blob),
                first_row=0,
                row_end=rows,
                blob_bytes=store.stored_bytes,
                payload_bytes=index.payload_bytes,
                is_compressed=store.is_compressed,
                # A local file's version holds its inode and mtime, which a copy changes; its checksums identify it. An
                # ETag pins every later read.
                identity=replace(identity, version=store.version if store.is_remote else ""),
            )
            parts: Iterable[Columns] = (
                [index._columns] if rows <= WHOLE_INDEX_ROWS_MAX else index._parts()
            )
            facts = index.facts
            if self.before and len(self.before.index):
                # otherwise one blob without facts would take those of all members away
                kept = self.before.index.facts
                parts = (part.with_unknown(kept) for part in parts)
                facts |= kept - {FACT_WITHOUT_UNKNOWN}
            return _OpenedBlob(shard, store, parts, facts, rows, index.report, found is None)
        except BaseException:
            store.close()
            raise

    def _index_of(self, store: Store) -> Index | None:
        """Find a blob's index; return None if the blob has none, and the caller allowed to scan it."""
        if self.concatenated:
            return scan_store(store, concatenated=True)
        try:
            # no offsets file: it may hold only some of the members, and no checksums
            index = first_found(store, embedded_index, sidecar_index)
        except (StaleIndexError, FormatError):
            if self.stale != "rescan":
                raise
            return scan_store(store)
        if index is None and not self.scan:
            command = index_command(store.location) if store.location else None
            raise StorageError(
                f"{store.url} has no index: {f'{command} makes one, or ' if command else ''}{setting('scan', True)} scans it now"
            )
        return index

    def _check_holders(self, row: int, other: int, name: str, other_name: str) -> None:
        """Check that two members of one name, or of names that are extracted to one file, are in one blob.

        Raises:
            DuplicateNameError: they are in two blobs; the message names both.
        """
        # Two members of one name in one blob are no mistake: `tar -r` makes them, and the last one is read. A blob that is
        # given twice is refused here, because each of its members is met twice.
        first, last = (
            self.shards[bisect_right(self.shards, place, key=lambda shard: shard.row_end)]
            for place in (row, other)
        )
        if first is last:
            return
        holder, other_holder = quoted(redacted(first.name)), quoted(redacted(last.name))
        blobs = f"two blobs of the collection in {self.folder}"
        if name == other_name:
            raise DuplicateNameError(
                f"member {name!r} is in {holder} and in {other_holder}, {blobs}; {setting('duplicates', 'last')} finds the "
                "last one"
            )
        raise DuplicateNameError(
            f"member {name!r} in {holder} and member {other_name!r} in {other_holder}, {blobs}, would be extracted to one "
            "file"
        )


def _keep_facts(part: Columns, facts: frozenset[str]) -> Columns:
    """Return the members with these facts only."""
    others: dict[str, Any] = {name: None for name, _ in part.facts() if name not in facts}
    return replace(part, **others)
