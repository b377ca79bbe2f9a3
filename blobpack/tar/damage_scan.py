"""A scan that continues behind damaged headers, because the index says where the next member begins.

Strategy: scan the whole blob. If a header is damaged, cut the range at the borders between members on both sides of
the fault, by the index, and scan the three pieces by themselves. A fault in a piece that holds one member belongs to
that member. So a sound blob costs one scan, and each damaged header costs a few more.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from blobpack.columns import Columns
from blobpack.errors import FormatError, TruncatedError
from blobpack.index.index import Index
from blobpack.stores.base import Store
from blobpack.tar.behind import describe_members, warn_of_left_out
from blobpack.tar.header import BLOCK
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blobpack.model import ScanReport

# Damaged headers until the scan gives up. The limit is for a blob that is damaged all over, or is another blob than the
# index describes: each damaged header costs up to three more scans.
FAULTS_MAX = 1000


class Damage(NamedTuple):
    """Damage that belongs to no member of the index."""

    offset: int | None
    reason: str


class StoreRange(Store):
    """The bytes start to end of another store.

    It has no fd, even if the other store has one: the native scan would read the file from its first byte.
    """

    def __init__(self, store: Store, start: int, end: int) -> None:
        self.url, self.location = store.url, store.location
        self.size = end - start
        self.version = store.version
        self.is_remote = store.is_remote
        self._store, self._start = store, start

    def fetch(self, start: int, end: int) -> bytes:
        """Read the bytes start to end of the range."""
        try:
            return self._store.read_range(self._start + start, self._start + end)
        except FormatError as exc:
            # A frame of a compressed blob is damaged. It may begin before this range, and the scan's caller needs
            # an offset within the range.
            raise type(exc)(str(exc), offset=max(0, (exc.offset or 0) - self._start)) from exc


class DamageScan:
    """A scan that continues behind damaged headers at the next member that the index knows.

    Attributes:
        damaged: Row of the index → what is wrong with its header. The reason is "" for members that the scan did not
            look at, because it had given up.
        faults: Damage that belongs to no member.
    """

    def __init__(self, store: Store, columns: Columns, threads: int | None) -> None:
        """Prepare a scan.

        Args:
            store: The blob.
            columns: The members as the index lists them.
            threads: Number of threads that walk headers; None for the default of a scan.
        """
        self.store, self.columns, self.threads = store, columns, threads
        self.last_end = Index._from_columns(columns)._last_end
        self.faults: list[Damage] = []
        self.damaged: dict[int, str] = {}

    # The three arrays are computed only when a fault is found: a sound blob needs none of them.

    @cached_property
    def borders(self) -> NDArray[np.int64]:
        """Offsets at which members end with their padding, by the index, ascending."""
        import numpy as np

        ends = np.asarray(self.columns.offset_end, np.int64)
        borders = np.sort((ends + (BLOCK - 1)) & ~(BLOCK - 1))
        return borders[(borders > 0) & (borders < self.store.size)]

    @cached_property
    def by_start(self) -> NDArray[np.int64]:
        """The rows of the index, sorted by offset_start."""
        import numpy as np

        return np.argsort(np.asarray(self.columns.offset_start, np.int64), kind="stable")

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The offset_start of each row in by_start."""
        import numpy as np

        return np.asarray(self.columns.offset_start, np.int64)[self.by_start]

    def scan(self) -> Columns:
        """Scan the blob, and return the members that were found; note damage in `damaged` and `faults`."""
        parts: list[Columns] = []
        waiting = [(0, self.store.size)]
        while waiting:
            start, end = waiting.pop()
            if len(self.damaged) + len(self.faults) >= FAULTS_MAX:
                self._give_up(start)
                break
            fault = self._scan(start, end, parts)
            if fault is None:
                continue
            before, after = self._borders_around(fault.offset or 0, start, end)
            if (before, after) == (start, end):
                if not self._scan_joined(start, end, parts):
                    self._note_fault(start, end, fault)
                continue
            # A scan that failed returns no members. So the sound bytes before the fault are scanned again, and then
            # the member with the fault by itself, to see whether it is damaged or only followed by damage.
            pieces = ((start, before), (before, after), (after, end))
            # reversed, because pop() takes the last piece: members must come out in archive order
            waiting += [piece for piece in reversed(pieces) if piece[0] < piece[1]]
        return parts[0] if len(parts) == 1 else Columns.concatenate(parts)

    def _scan(self, start: int, end: int, parts: list[Columns]) -> FormatError | None:
        """Scan a range, and append its members to parts; return the fault, with its offset in the blob."""
        # The whole blob is scanned through its own store: a local file then takes the native path, with threads.
        whole = start == 0 and end == self.store.size
        try:
            index = scan_store(
                self.store if whole else StoreRange(self.store, start, end),
                threads=self.threads,
                look_bytes=None,
            )
            columns = index._columns
        except FormatError as exc:
            offset = start + (exc.offset or 0)
            if isinstance(exc, TruncatedError):
                return TruncatedError(f"{self._why_cut(end)}, at byte {offset}", offset=offset)
            # The message ends in an offset from the range's start, which would mislead: say the blob's offset.
            what, found, _ = str(exc).removeprefix(f"{self.store.url}: ").rpartition(", at byte ")
            return FormatError(f"{what if found else exc}, at byte {offset}", offset=offset)
        walked = start + (index.report.bytes_scanned if index.report else end - start)
        # A zero block ends an archive for every tar reader. If the index has members behind it, then a header was
        # overwritten by zeros.
        if walked < min(end, self.last_end) and self._has_members(walked, end):
            return FormatError(f"zero blocks instead of a header, at byte {walked}", offset=walked)
        parts.append(_shifted(columns, start))
        if index.report and end == self.store.size:
            self._note_behind(start, index.report)
        return None

    def _scan_joined(self, start: int, end: int, parts: list[Columns]) -> bool:
        """Scan a range that holds one member, by the index, and begins with the end of an archive.

        The index may be of joined tars: then the member follows an end-of-archive marker.

        Returns:
            True if the member was found, and appended to parts.
        """
        try:
            index = scan_store(StoreRange(self.store, start, end), concatenated=True)
        except FormatError:
            return False
        if len(index):
            parts.append(_shifted(index._columns, start))
        return len(index) > 0

    def _note_behind(self, start: int, report: ScanReport) -> None:
        """Note members behind the end of the archive, where the index has none."""
        if report.members_behind:
            behind = start + report.members_behind
            reason = f"{describe_members(behind)}; `blobpack index --concatenated` finds them"
            self.faults.append(Damage(behind, reason))
        elif report.other_behind:
            # not a fault of the blob by itself: a tar ends at its marker, and users may put data of their own behind it
            warn_of_left_out(
                self.store.url, replace(report, other_behind=start + report.other_behind)
            )

    def _why_cut(self, end: int) -> str:
        # a range that ends before the blob does is not cut: the size in a header leads out of it
        if end == self.store.size:
            return f"cut: the blob ends at byte {end}, before this member does"
        return f"its header says a size that runs past byte {end}, into the next member"

    def _has_members(self, start: int, end: int) -> bool:
        """Return whether the index has members within start to end."""
        borders = self.borders.searchsorted((start, end - 1), "right")
        return bool(borders[1] > borders[0]) or self._row_with_header_at(start, end) is not None

    def _borders_around(self, offset: int, start: int, end: int) -> tuple[int, int]:
        """Find the borders between members on both sides of an offset, within a range."""
        place = int(self.borders.searchsorted(offset, "right"))
        before = int(self.borders[place - 1]) if place else 0
        after = int(self.borders[place]) if place < len(self.borders) else end
        return max(before, start), min(after, end)

    def _row_with_header_at(self, start: int, end: int) -> int | None:
        """Find the member whose headers begin at start, by the index: the first with its payload behind start."""
        place = int(self.starts.searchsorted(start, "right"))
        # A payload that starts behind the range belongs to the next member. At the end of the blob it belongs here:
        # the blob was cut between the header and the payload.
        if place == len(self.starts) or (self.starts[place] > end and end < self.store.size):
            return None
        return int(self.by_start[place])

    def _note_fault(self, start: int, end: int, fault: FormatError) -> None:
        row = self._row_with_header_at(start, end)
        if row is None:
            self.faults.append(Damage(fault.offset, str(fault)))
        else:
            self.damaged[row] = str(fault)

    def _give_up(self, start: int) -> None:
        reason = f"over {FAULTS_MAX} damaged headers: those behind byte {start} were not checked"
        self.faults.append(Damage(start, reason))
        # These members count as damaged, or each of them would be reported as missing. Their reason is empty, because
        # the fault above covers all of them.
        place = int(self.starts.searchsorted(start, "right"))
        self.damaged |= dict.fromkeys(self.by_start[place:].tolist(), "")


def _shifted(columns: Columns, by: int) -> Columns:
    """Add a number of bytes to all offsets."""
    import numpy as np

    if by == 0:
        return columns
    starts, ends = (
        (np.asarray(column, np.int64) + by).data.toreadonly()
        for column in (columns.offset_start, columns.offset_end)
    )
    return replace(columns, offset_start=starts, offset_end=ends)
