"""The headers of a blob against its index, row by row.

They are scanned anew. Where one is damaged, the index says where the next member begins, and the scan goes on
from there: so one damaged header hides no other.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from blobpack.columns import Columns
from blobpack.errors import FormatError, TruncatedError
from blobpack.index.index import Index
from blobpack.stores.base import Store
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.model import FailureKind

FAULTS_MAX = 1000  # damaged headers that are stepped over before the rest is given up
RUN_ROWS = 1024
BLOCK = 512


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that is not as it should be.

    Attributes:
        kind: "header" damaged; "missing" from the blob; "extra", not in the index; "differs" from it in name or
            offsets; "checksum" of the payload; "unreadable"; "archive" for what concerns no member.
        name: The member's; None for the archive.
        offset_start: Where its payload should lie; for the archive, where the fault is, if it has a place.
        offset_end: The same; None for the archive.
        reason: What was found.
    """

    kind: FailureKind
    name: str | None
    offset_start: int | None
    offset_end: int | None
    reason: str

    def __str__(self) -> str:
        if self.name is None:
            return f"the archive: {self.reason}"
        return f"{self.name}: bytes {self.offset_start} to {self.offset_end}: {self.reason}"


def failure_at(kind: FailureKind, columns: Columns, row: int, reason: str) -> Failure:
    """Say what is wrong with the member in a row."""
    start, end = columns.offset_start[row], columns.offset_end[row]
    return Failure(kind, columns.name_at(row), start, end, reason)


def without_url(message: str, url: object) -> str:
    """Leave out of an error's message which blob it is about."""
    return message.removeprefix(f"{url}: ")


class _Part(Store):
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


def check_structure(
    store: Store, columns: Columns, threads: int | None
) -> tuple[list[Failure], set[int]]:
    """Compare the headers with the index; the failures, and the rows that are not where they should be."""
    walk = _Walk(store, columns, threads)
    found = walk.walk()
    left, right = _unmatched(columns, found)
    failures = [
        *walk.failures,
        *_explain(store, columns, left, found, right, walk.blamed),
        *(
            failure_at("extra", found, row, "in the blob, not in the index")
            for row in _unclaimed(columns, left, found, right)
        ),
    ]
    failures.sort(key=lambda failure: failure.offset_start or 0)
    return failures, walk.blamed.keys() | set(left)


class _Walk:
    """A scan that steps over damage by what the index says: between two members it may begin anew."""

    def __init__(self, store: Store, columns: Columns, threads: int | None) -> None:
        self.store, self.columns, self.threads = store, columns, threads
        self.last_end = Index.from_columns(columns).last_end
        self.failures: list[Failure] = []
        self.blamed: dict[int, str] = {}

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

    def walk(self) -> Columns:
        """Scan all that can be, and return the members found; note what is damaged."""
        parts: list[Columns] = []
        waiting = [(0, self.store.size)]
        while waiting:
            start, end = waiting.pop()
            if len(self.blamed) + len(self.failures) >= FAULTS_MAX:
                self._give_up(start)
                break
            fault = self._scan(start, end, parts)
            if fault is None:
                continue
            before, after = self._around(fault.offset or 0, start, end)
            if (before, after) == (start, end):
                self._blame(start, end, fault)
                continue
            pieces = ((start, before), (before, after), (after, end))
            waiting += [piece for piece in reversed(pieces) if piece[0] < piece[1]]
        return parts[0] if len(parts) == 1 else Columns.concatenate(parts)

    def _scan(self, start: int, end: int, parts: list[Columns]) -> FormatError | None:
        """Scan a piece; the fault, with its offset in the blob, if there is one."""
        whole = start == 0 and end == self.store.size
        try:
            index = scan_store(
                self.store if whole else _Part(self.store, start, end), threads=self.threads
            )
        except FormatError as exc:
            offset = start + (exc.offset or 0)
            if isinstance(exc, TruncatedError):
                return TruncatedError(f"{self._cut(end)}, at byte {offset}", offset=offset)
            what, found, _ = without_url(str(exc), self.store.url).rpartition(", at byte ")
            return FormatError(f"{what if found else exc}, at byte {offset}", offset=offset)
        walked = start + (index.report.bytes_scanned if index.report else end - start)
        if walked < min(end, self.last_end) and self._goes_on(walked, end):
            return FormatError(f"zero blocks instead of a header, at byte {walked}", offset=walked)
        parts.append(_moved(index.columns, start))
        return None

    def _cut(self, end: int) -> str:
        if end == self.store.size:
            return f"cut: the blob ends at byte {end}, before this member does"
        return f"its header says a size that runs past byte {end}, into the next member"

    def _goes_on(self, start: int, end: int) -> bool:
        """Tell whether there are members within start to end, by the index."""
        borders = self.borders.searchsorted((start, end - 1), "right")
        return bool(borders[1] > borders[0]) or self._row_behind(start, end) is not None

    def _around(self, offset: int, start: int, end: int) -> tuple[int, int]:
        """Find the borders between members that are next to an offset, within a piece."""
        place = int(self.borders.searchsorted(offset, "right"))
        before = int(self.borders[place - 1]) if place else 0
        after = int(self.borders[place]) if place < len(self.borders) else end
        return max(before, start), min(after, end)

    def _row_behind(self, start: int, end: int) -> int | None:
        """Find the member whose header lies at start, by the index."""
        place = int(self.starts.searchsorted(start, "right"))
        if place == len(self.starts) or (self.starts[place] > end and end < self.store.size):
            return None
        return int(self.by_start[place])

    def _blame(self, start: int, end: int, fault: FormatError) -> None:
        row = self._row_behind(start, end)
        if row is None:
            self.failures.append(Failure("archive", None, fault.offset, None, str(fault)))
        else:
            self.blamed[row] = str(fault)

    def _give_up(self, start: int) -> None:
        reason = f"over {FAULTS_MAX} damaged headers: those behind byte {start} were not looked at"
        self.failures.append(Failure("archive", None, start, None, reason))
        place = int(self.starts.searchsorted(start, "right"))
        self.blamed |= dict.fromkeys(self.by_start[place:].tolist(), "")


def _moved(columns: Columns, by: int) -> Columns:
    import numpy as np

    if by == 0:
        return columns
    starts, ends = (
        (np.asarray(column, np.int64) + by).data.toreadonly()
        for column in (columns.offset_start, columns.offset_end)
    )
    return replace(columns, offset_start=starts, offset_end=ends)


def _unmatched(index: Columns, found: Columns) -> tuple[list[int], list[int]]:
    """Step through both tables side by side; the rows of each that the other does not have."""
    left: list[int] = []
    right: list[int] = []
    one, other = 0, 0
    while one < len(index) and other < len(found):
        same = _same_rows(index, one, found, other)
        one += same
        other += same
        if one == len(index) or other == len(found):
            break
        if index.offset_start[one] <= found.offset_start[other]:
            left.append(one)
            one += 1
        else:
            right.append(other)
            other += 1
    left += range(one, len(index))
    right += range(other, len(found))
    return _without_pairs(index, left, found, right)


def _same_rows(index: Columns, one: int, found: Columns, other: int) -> int:
    """Count the rows that are alike in both tables from here on."""
    total = 0
    rows = 1
    while rows := min(rows, len(index) - one, len(found) - other):
        same = _same_run(index, one, found, other, rows)
        total += same
        one += same
        other += same
        if same < rows:
            break
        rows = min(4 * rows, RUN_ROWS)
    return total


def _same_run(index: Columns, one: int, found: Columns, other: int, rows: int) -> int:
    import numpy as np

    first, second = index.slice(one, one + rows), found.slice(other, other + rows)
    if (
        np.array_equal(np.asarray(first.offset_start), np.asarray(second.offset_start))
        and np.array_equal(np.asarray(first.offset_end), np.asarray(second.offset_end))
        and np.array_equal(first.name_lengths(), second.name_lengths())
        and first.packed_names() == second.packed_names()
    ):
        return rows
    return next(row for row in range(rows) if _row(first, row) != _row(second, row))


def _row(columns: Columns, row: int) -> tuple[bytes, int, int]:
    name = bytes(columns.names[columns.name_bounds[row] : columns.name_bounds[row + 1]])
    return name, columns.offset_start[row], columns.offset_end[row]


def _without_pairs(
    index: Columns, left: list[int], found: Columns, right: list[int]
) -> tuple[list[int], list[int]]:
    """Take out rows that are in both tables, but in another order."""
    places = defaultdict(list)
    for other in reversed(right):
        places[_row(found, other)].append(other)
    paired = set()
    alone = []
    for one in left:
        others = places.get(_row(index, one))
        if others:
            paired.add(others.pop())
        else:
            alone.append(one)
    return alone, [other for other in right if other not in paired]


def _explain(
    store: Store,
    index: Columns,
    left: list[int],
    found: Columns,
    right: list[int],
    blamed: dict[int, str],
) -> Iterator[Failure]:
    """Say of each row that only the index has, what the blob has instead.

    Args:
        store: The blob.
        index: Its members, as they should be.
        left: The rows that the blob does not have.
        found: Its members, as they are.
        right: The rows that the index does not have.
        blamed: Rows whose headers are damaged, and how; "" where that has been said.
    """
    by_name = {found.name_at(row): row for row in reversed(right)}
    names = {index.name_at(row) for row in left}
    by_place = {_row(found, row)[1:]: found.name_at(row) for row in right}
    unmatched = set(left)
    for row in sorted(blamed.keys() | unmatched):
        name, place = index.name_at(row), _row(index, row)[1:]
        other = by_name.get(name)
        named = by_place.get(place)
        if other is not None and row in unmatched:
            start, end = _row(found, other)[1:]
            yield failure_at("differs", index, row, f"its header says bytes {start} to {end}")
        elif row in blamed:
            if blamed[row]:
                yield failure_at("header", index, row, blamed[row])
        elif named is not None and named not in names:
            yield failure_at("differs", index, row, f"its header says that this is {named!r}")
        else:
            end_of_blob = f": the blob ends at byte {store.size}" if place[1] > store.size else ""
            yield failure_at("missing", index, row, f"in the index, not in the blob{end_of_blob}")


def _unclaimed(index: Columns, left: list[int], found: Columns, right: list[int]) -> Iterator[int]:
    """Find the rows that only the blob has, and that are not one of the index's under another name or place."""
    names = {index.name_at(row) for row in left}
    places = {_row(index, row)[1:] for row in left}
    for row in right:
        if found.name_at(row) not in names and _row(found, row)[1:] not in places:
            yield row
