"""A scan that steps over damage by what the index says."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from blobpack.columns import Columns
from blobpack.errors import FormatError, TruncatedError
from blobpack.index.index import Index
from blobpack.stores.base import Store
from blobpack.tar.header import BLOCK
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FAULTS_MAX = 1000  # damaged headers that are stepped over before the rest is given up


class Fault(NamedTuple):
    """Damage that belongs to no member of the index."""

    offset: int | None
    reason: str


class _StoreRange(Store):
    """The bytes start to end of another store."""

    def __init__(self, store: Store, start: int, end: int) -> None:
        self.url, self.location = store.url, store.location
        self.size = end - start
        self.version = store.version
        self.is_remote = store.is_remote
        self._store, self._start = store, start

    def fetch(self, start: int, end: int) -> bytes:
        try:
            return self._store.read_range(self._start + start, self._start + end)
        except FormatError as exc:  # of a compressed blob, whose frame may begin before this part
            raise type(exc)(str(exc), offset=max(0, (exc.offset or 0) - self._start)) from exc


class DamageScan:
    """A scan that steps over damage by what the index says: between two members it may begin anew."""

    def __init__(self, store: Store, columns: Columns, threads: int | None) -> None:
        self.store, self.columns, self.threads = store, columns, threads
        self.last_end = Index.from_columns(columns).last_end
        self.faults: list[Fault] = []
        self.damaged: dict[int, str] = {}

    @cached_property
    def borders(self) -> NDArray[np.int64]:
        """Where the index says that a member and its padding end, ascending."""
        import numpy as np

        ends = np.asarray(self.columns.offset_end, np.int64)
        borders = np.sort((ends + (BLOCK - 1)) & ~(BLOCK - 1))
        return borders[(borders > 0) & (borders < self.store.size)]

    @cached_property
    def by_start(self) -> NDArray[np.int64]:
        """The rows in the order of their payloads."""
        import numpy as np

        return np.argsort(np.asarray(self.columns.offset_start, np.int64), kind="stable")

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where their payloads start."""
        import numpy as np

        return np.asarray(self.columns.offset_start, np.int64)[self.by_start]

    def scan(self) -> Columns:
        """Scan all that can be, and return the members found; note what is damaged."""
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
                self._note_fault(start, end, fault)
                continue
            pieces = ((start, before), (before, after), (after, end))
            waiting += [piece for piece in reversed(pieces) if piece[0] < piece[1]]
        return parts[0] if len(parts) == 1 else Columns.concatenate(parts)

    def _scan(self, start: int, end: int, parts: list[Columns]) -> FormatError | None:
        """Scan a piece; the fault, with its offset in the blob, if there is one."""
        whole = start == 0 and end == self.store.size
        try:
            index = scan_store(
                self.store if whole else _StoreRange(self.store, start, end), threads=self.threads
            )
        except FormatError as exc:
            offset = start + (exc.offset or 0)
            if isinstance(exc, TruncatedError):
                return TruncatedError(f"{self._cut(end)}, at byte {offset}", offset=offset)
            what, found, _ = str(exc).removeprefix(f"{self.store.url}: ").rpartition(", at byte ")
            return FormatError(f"{what if found else exc}, at byte {offset}", offset=offset)
        walked = start + (index.report.bytes_scanned if index.report else end - start)
        if walked < min(end, self.last_end) and self._has_members(walked, end):
            return FormatError(f"zero blocks instead of a header, at byte {walked}", offset=walked)
        parts.append(_shifted(index.columns, start))
        return None

    def _cut(self, end: int) -> str:
        if end == self.store.size:
            return f"cut: the blob ends at byte {end}, before this member does"
        return f"its header says a size that runs past byte {end}, into the next member"

    def _has_members(self, start: int, end: int) -> bool:
        """Tell whether there are members within start to end, by the index."""
        borders = self.borders.searchsorted((start, end - 1), "right")
        return bool(borders[1] > borders[0]) or self._row_with_header_at(start, end) is not None

    def _borders_around(self, offset: int, start: int, end: int) -> tuple[int, int]:
        """Find the borders between members that are next to an offset, within a piece."""
        place = int(self.borders.searchsorted(offset, "right"))
        before = int(self.borders[place - 1]) if place else 0
        after = int(self.borders[place]) if place < len(self.borders) else end
        return max(before, start), min(after, end)

    def _row_with_header_at(self, start: int, end: int) -> int | None:
        """Find the member whose header lies at start, by the index."""
        place = int(self.starts.searchsorted(start, "right"))
        if place == len(self.starts) or (self.starts[place] > end and end < self.store.size):
            return None
        return int(self.by_start[place])

    def _note_fault(self, start: int, end: int, fault: FormatError) -> None:
        row = self._row_with_header_at(start, end)
        if row is None:
            self.faults.append(Fault(fault.offset, str(fault)))
        else:
            self.damaged[row] = str(fault)

    def _give_up(self, start: int) -> None:
        reason = f"over {FAULTS_MAX} damaged headers: those behind byte {start} were not looked at"
        self.faults.append(Fault(start, reason))
        place = int(self.starts.searchsorted(start, "right"))
        self.damaged |= dict.fromkeys(self.by_start[place:].tolist(), "")


def _shifted(columns: Columns, by: int) -> Columns:
    import numpy as np

    if by == 0:
        return columns
    starts, ends = (
        (np.asarray(column, np.int64) + by).data.toreadonly()
        for column in (columns.offset_start, columns.offset_end)
    )
    return replace(columns, offset_start=starts, offset_end=ends)
