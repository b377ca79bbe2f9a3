"""The headers of a blob against its index, row by row.

They are scanned anew. Where one is damaged, the index says where the next member begins, and the scan goes on
from there: so one damaged header hides no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.tar.compare import member_key, unmatched_rows
from blobpack.tar.damage_scan import DamageScan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.columns import Columns
    from blobpack.model import FailureKind
    from blobpack.stores.base import Store


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


def check_structure(
    store: Store, columns: Columns, threads: int | None
) -> tuple[list[Failure], set[int]]:
    """Compare the headers with the index; the failures, and the rows that are not where they should be."""
    scan = DamageScan(store, columns, threads)
    found = scan.scan()
    only_index, only_blob = unmatched_rows(columns, found)
    failures = [
        *(Failure("archive", None, offset, None, reason) for offset, reason in scan.faults),
        *_describe_missing(store, columns, only_index, found, only_blob, scan.damaged),
        *(
            failure_at("extra", found, row, "in the blob, not in the index")
            for row in _extra_rows(columns, only_index, found, only_blob)
        ),
    ]
    failures.sort(key=lambda failure: failure.offset_start or 0)
    return failures, scan.damaged.keys() | set(only_index)


def _describe_missing(
    store: Store,
    index: Columns,
    only_index: list[int],
    found: Columns,
    only_blob: list[int],
    damaged: dict[int, str],
) -> Iterator[Failure]:
    """Say of each row that only the index has, what the blob has instead.

    Args:
        store: The blob.
        index: Its members, as they should be.
        only_index: The rows that the blob does not have.
        found: Its members, as they are.
        only_blob: The rows that the index does not have.
        damaged: Rows whose headers are damaged, and how; "" where that has been said.
    """
    by_name = {found.name_at(row): row for row in reversed(only_blob)}
    names = {index.name_at(row) for row in only_index}
    by_place = {member_key(found, row)[1:]: found.name_at(row) for row in only_blob}
    unmatched = set(only_index)
    for row in sorted(damaged.keys() | unmatched):
        name, place = index.name_at(row), member_key(index, row)[1:]
        other = by_name.get(name)
        named = by_place.get(place)
        if other is not None and row in unmatched:
            start, end = member_key(found, other)[1:]
            yield failure_at("differs", index, row, f"its header says bytes {start} to {end}")
        elif row in damaged:
            if damaged[row]:
                yield failure_at("header", index, row, damaged[row])
        elif named is not None and named not in names:
            yield failure_at("differs", index, row, f"its header says that this is {named!r}")
        else:
            end_of_blob = f": the blob ends at byte {store.size}" if place[1] > store.size else ""
            yield failure_at("missing", index, row, f"in the index, not in the blob{end_of_blob}")


def _extra_rows(
    index: Columns, only_index: list[int], found: Columns, only_blob: list[int]
) -> Iterator[int]:
    """Find the rows that only the blob has, and that are not one of the index's under another name or place."""
    names = {index.name_at(row) for row in only_index}
    places = {member_key(index, row)[1:] for row in only_index}
    for row in only_blob:
        if found.name_at(row) not in names and member_key(found, row)[1:] not in places:
            yield row
