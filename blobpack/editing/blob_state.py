"""Read the state of a blob before an append: its members, where they end, and what stands behind that end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from blobpack.columns import Columns
from blobpack.errors import BlobNotFoundError, FormatError, StaleIndexError, StorageError
from blobpack.index.index import Index
from blobpack.index.stored.picked import ROWS_IN_MEMORY_MAX
from blobpack.index.stored.scratch import write_scratch
from blobpack.index.tables.offsets import void_path
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.open import read_footer
from blobpack.opening.find_index import whole_index
from blobpack.stores.open import open_store
from blobpack.stores.zstd.format import is_zstd
from blobpack.tar.damage_scan import StoreRange
from blobpack.tar.header import BLOCK
from blobpack.tar.scan import scan_store
from blobpack.writing.append_mark import place_left_behind, read_mark, trailing_zeros

if TYPE_CHECKING:
    from blobpack.indexfile.footer import Footer
    from blobpack.model import IndexPlace, ScanReport, Stale
    from blobpack.stores.base import Store


@dataclass(frozen=True, slots=True)
class BlobState:
    """The state of a blob before an append.

    Attributes:
        lookup: The index to look up names in before the blob is changed. For a local blob it is mapped from the
            file, where it will be overwritten.
        index: The index in memory, or in a temporary file.
        end: Position where the end-of-archive marker starts, or would start if it is missing.
        size: Bytes of the blob.
        place: Where the index is, or was before an append that was interrupted.
        footer: The footer of the index inside the blob, if that index is whole.
        only_zeros: All bytes behind `end` are zeros.
    """

    lookup: Index
    index: Index
    end: int
    size: int
    place: IndexPlace
    footer: Footer | None
    only_zeros: bool

    @property
    def has_facts(self) -> bool:
        """Whether facts of new members can be recorded: the blob has facts, or no members yet."""
        return not len(self.index) or bool(self.index.facts)

    def joined(self, added: Index) -> Index:
        """Return the index of the old members and the new ones behind them."""
        report = self.index.report
        # the report of a scan that would now go to the new end; the old part keeps its counts
        if report and added.report:
            end = added.report
            behind = {"members_behind": 0, "other_behind": 0, "unseen_behind": 0}
            report = replace(
                report, bytes_scanned=end.bytes_scanned, end_marker=end.end_marker, **behind
            )
        # otherwise one text file would take the sizes of all images away
        known = self.index.facts
        new = added._columns.with_unknown(known)
        if len(self.index) > ROWS_IN_MEMORY_MAX:
            shared = known & {name for name, _ in new.facts()}
            parts = (part.with_facts(shared) for part in chain(self.index._parts(), [new]))
            joined = Index._from_stored(write_scratch(parts))
        else:
            joined = Index._from_columns(Columns.concatenate([self.index._columns, new]))
        joined.report = report
        return joined


def read_state(store: Store, stale: Stale) -> BlobState:
    """Find the members of a blob and where they end, and check that nothing but blobpack's data stands behind.

    Raises:
        StaleIndexError: the index does not fit the blob any more.
        FormatError: the blob is damaged.
        StorageError: the blob is compressed, or other data stands behind the end of the archive.
    """
    # offsets of a compressed blob are those in its tar, so there is no place to write at
    if is_zstd(store.read_range(0, min(BLOCK, store.size))):
        raise StorageError(
            f"{store.url}: members can't be appended to a compressed blob: `blobpack repack` it to a "
            f"plain tar, append to that, and `blobpack repack` the result to a compressed one"
        )
    found, report = _find_index(store, stale)
    marker_end = report.bytes_scanned + BLOCK * report.end_marker
    place = place_left_behind(store, marker_end)
    zeros = place is None
    # zeros are fine: GNU tar pads an archive to a multiple of 10,240 bytes
    if zeros and marker_end + trailing_zeros(store, marker_end) < store.size:
        raise StorageError(
            f"{store.url}: data of another program stands behind the archive's end at byte "
            f"{marker_end}, perhaps another tar, and an append would overwrite it"
        )
    embedded = found.identity is not None and place == "embed"
    index = _kept_index(found)
    index.report, index.identity = report, found.identity
    return BlobState(
        # a name that is looked up in a remote index costs a request; the index in memory is there already
        lookup=index if store.is_remote else found,
        index=index,
        end=report.bytes_scanned,
        size=store.size,
        # the note comes before the index file, which an interrupted append may have removed already
        place=place or _place_in_note(store) or _place_beside(store),
        footer=read_footer(store) if embedded else None,
        only_zeros=zeros,
    )


def _kept_index(found: Index) -> Index:
    """Return an index that stays as it is when the blob and its index are overwritten."""
    if found._mapped is not None and len(found) > ROWS_IN_MEMORY_MAX:
        return Index._from_stored(write_scratch(found._parts()))
    return Index._from_columns(found._columns)


def _find_index(store: Store, stale: Stale) -> tuple[Index, ScanReport]:
    """Find the index of a blob, and the report of a scan, which says where the archive ends."""
    try:
        found = whole_index(store)
        if found.report:
            _check_end(store, found, found.report)
    except (StaleIndexError, FormatError):
        if stale != "rescan":
            raise
        found = scan_store(store)
    # the report is optional in an index file (docs/format.md): without it, a scan finds the end of the archive
    report = found.report or scan_store(store).report
    # for mypy: a scan always makes a report
    if report is None:
        raise FormatError(f"{store.url}: the end of the archive is not known")
    return found, report


def _check_end(store: Store, index: Index, report: ScanReport) -> None:
    """Check that the headers behind the last member of an index lead to the end that its report says.

    A hostile writer can make the checksums of an index fit any report. At another end, an append would overwrite headers,
    or leave zeros before the new members, where tar readers stop.

    Raises:
        FormatError: the archive ends elsewhere.
    """
    last_end = index._last_end
    start = last_end + -last_end % BLOCK
    end = report.bytes_scanned + BLOCK * report.end_marker
    if start == end:
        return
    try:
        # folders and links may follow the last member, and in joined tars also markers of the tars before
        walked = scan_store(StoreRange(store, start, min(end, store.size)), concatenated=True)
    except FormatError:
        walked = Index()
    found = walked.report
    if found is None or (start + found.bytes_scanned, found.end_marker) != (
        report.bytes_scanned,
        report.end_marker,
    ):
        raise FormatError(
            f"{store.url}: the index says that the archive ends at byte {report.bytes_scanned}, but the headers behind "
            f"its last member do not: the index or a header from byte {start} on is damaged",
            offset=start,
        )


def _place_beside(store: Store) -> IndexPlace:
    """Return "sidecar" if there is an index file beside the blob, otherwise "none"."""
    if store.location is None:
        return "none"
    try:
        open_store(sidecar_of(store.location)).close()
    except BlobNotFoundError:
        return "none"
    return "sidecar"


def _place_in_note(store: Store) -> IndexPlace | None:
    """Read the note that an interrupted append has left beside a local blob; None if there is no note."""
    # an append in S3 leaves no note: the old object stays whole until the new one replaces it
    if store.location is None or store.is_remote:
        return None
    try:
        return read_mark(void_path(store.location).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageError(f"{void_path(store.location)}: can't be read: {exc.strerror}") from exc
