"""A blob before an append: its members, where they end, and that nothing of another's stands behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blobpack.columns import Columns
from blobpack.errors import BlobNotFoundError, FormatError, StaleIndexError, StorageError
from blobpack.index.index import Index
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.open import read_footer
from blobpack.reading.find_index import void_path, whole_index
from blobpack.stores.open import open_store
from blobpack.stores.zstd_format import is_zstd
from blobpack.tar.header import BLOCK
from blobpack.tar.scan import scan_store
from blobpack.writing.append_mark import place_left_behind, read_mark, trailing_zeros

if TYPE_CHECKING:
    from blobpack.indexfile.footer import Footer
    from blobpack.model import IndexPlace, ScanReport, Stale
    from blobpack.stores.base import Store


@dataclass(frozen=True, slots=True)
class BlobState:
    """A blob before an append.

    Attributes:
        found: Its index where it is, which will be written over.
        index: The same in memory.
        end: Where its end-of-archive marker starts, or is missing.
        size: Its bytes.
        place: Where its index is, or was before an append that was interrupted.
        footer: Of the index inside it, if that is whole.
        zeros: All behind `end` is zeros.
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
        """Whether facts of new members can be of use."""
        return not len(self.index) or any(self.index.columns.facts())

    def joined(self, added: Index) -> Index:
        """Put the index of new members behind that of the old ones; what a scan would tell has a new end."""
        report = self.index.report
        if report and added.report:
            end = added.report
            report = replace(report, bytes_scanned=end.bytes_scanned, end_marker=end.end_marker)
        columns = Columns.concatenate([self.index.columns, added.columns])
        return Index.from_columns(columns, report=report)


def read_state(store: Store, stale: Stale) -> BlobState:
    """Find a blob's members and their end, and that nothing of another's is behind it.

    Raises:
        StaleIndexError: the index is not of the blob as it is now.
        FormatError: the blob is damaged, or compressed.
        StorageError: something else stands behind the end.
    """
    if is_zstd(store.read_range(0, min(BLOCK, store.size))):
        raise StorageError(
            f"{store.url}: members can't be appended to a compressed blob: `blobpack repack` it to a "
            f"plain tar, and that to a compressed one again"
        )
    found, report = _find_index(store, stale)
    marked = report.bytes_scanned + BLOCK * report.end_marker
    place = place_left_behind(store, marked)
    zeros = place is None
    if zeros and marked + trailing_zeros(store, marked) < store.size:
        raise StorageError(
            f"{store.url}: something that is not blobpack's stands behind the archive's end at byte "
            f"{marked}, perhaps another tar, and would be overwritten"
        )
    tied = found.identity is not None and place == "embed"
    index = Index.from_columns(found.columns, report=report, identity=found.identity)
    return BlobState(
        lookup=index if store.is_remote else found,  # remote, each lookup is a request
        index=index,
        end=report.bytes_scanned,
        size=store.size,
        place=place or _place_in_note(store) or _place_beside(store),
        footer=read_footer(store) if tied else None,
        only_zeros=zeros,
    )


def _find_index(store: Store, stale: Stale) -> tuple[Index, ScanReport]:
    """Find a blob's index, and what a scan tells of its end."""
    try:
        found = whole_index(store)
    except (StaleIndexError, FormatError):
        if stale != "rescan":
            raise
        found = scan_store(store)
    report = found.report or scan_store(store).report
    if report is None:  # of a scan, never
        raise FormatError(f"{store.url}: its end is not known")
    return found, report


def _place_beside(store: Store) -> IndexPlace:
    """Return "sidecar" if there is an index file beside a blob, else "none"."""
    if store.location is None:
        return "none"
    try:
        open_store(sidecar_of(store.location)).close()
    except BlobNotFoundError:
        return "none"
    return "sidecar"


def _place_in_note(store: Store) -> IndexPlace | None:
    """Read what an append that was interrupted has left beside a local blob."""
    if store.location is None or store.is_remote:
        return None
    try:
        return read_mark(void_path(store.location).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageError(f"{void_path(store.location)}: can't be read: {exc.strerror}") from exc
