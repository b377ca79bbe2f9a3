"""Check of a blob against its index: of headers and payloads together, or of headers alone.

Strategy: nearly all blobs are sound. So a local file is first compared as a whole, in one pass of native code, which can
only say that nothing differs. To find out what differs, the blob is scanned, and the members that were found are compared
with the index, row by row. The scan continues behind damaged headers (`DamageScan`), so that one damaged header does not
hide the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack._native.matching import find_end_if_equal
from blobpack.quoting import one_line, quoted
from blobpack.tar.behind import Behind, look_behind
from blobpack.tar.compare import member_key, unmatched_rows
from blobpack.tar.damage_scan import DamageScan
from blobpack.threads import processor_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.columns import Columns
    from blobpack.model import FailureKind
    from blobpack.progress import CountCallback
    from blobpack.stores.base import Store


MATCH_THREADS_MAX = 8


@dataclass(frozen=True, slots=True)
class Failure:
    """A fault of a blob that verify found.

    Attributes:
        kind: "header": the header is damaged. "missing": the member is in the index, not in the blob. "extra": the
            member is in the blob, not in the index. "differs": its name or offsets differ from the index.
            "checksum": its payload has another checksum. "unreadable": its payload can't be read. "archive": the
            fault concerns no single member.
        name: Name of the member; None for "archive".
        offset_start: First byte of the payload, as the index records it; for "archive", the offset of the fault, or
            None.
        offset_end: End of the payload, as the index records it; None for "archive".
        reason: What was found, and what was expected.
        blob: Path or URL of the blob, if several were verified; else "".
    """

    kind: FailureKind
    name: str | None
    offset_start: int | None
    offset_end: int | None
    reason: str
    blob: str = ""

    def __str__(self) -> str:
        blob = self.blob and f"{one_line(self.blob)}: "
        if self.name is None:
            return f"{blob}the archive: {self.reason}"
        return f"{blob}{quoted(self.name)}: bytes {self.offset_start} to {self.offset_end}: {self.reason}"


def failure_at(kind: FailureKind, columns: Columns, row: int, reason: str) -> Failure:
    """Make the failure of the member in a row."""
    start, end = columns.offset_start[row], columns.offset_end[row]
    return Failure(kind, columns.name_at(row), start, end, reason)


def without_url(message: str, url: object) -> str:
    """Remove the URL that an error's message begins with, for a report that names the blob already."""
    return message.removeprefix(f"{url}: ")


def is_sound(
    store: Store, columns: Columns, threads: int | None, progress: CountCallback | None
) -> bool:
    """Return whether a blob has the members of an index and no others, with these checksums.

    False does not mean that the blob is damaged: it may not be a local file, or have hard links, or an index in another
    order than the archive.

    Args:
        store: The blob.
        columns: The members as the index lists them, with checksums.
        threads: Number of threads that read; None for one for each processor, up to 8.
        progress: progress(members, bytes), called now and then.

    Raises:
        StorageError: the store failed.
    """
    fd = store.fd
    if fd is None or store.size == 0 or columns.crc32c is None:
        return False
    end = find_end_if_equal(
        fd,
        store.size,
        columns.names,
        columns.name_bounds,
        columns.offset_start,
        columns.offset_end,
        columns.crc32c,
        threads=threads or processor_count(MATCH_THREADS_MAX),
        progress=progress,
    )
    return end is not None and look_behind(store.read_range, end, store.size, None) == Behind()


def check_structure(
    store: Store, columns: Columns, threads: int | None
) -> tuple[list[Failure], set[int]]:
    """Compare the headers of a blob with its index.

    Args:
        store: The blob.
        columns: The members as the index lists them.
        threads: Number of threads that walk headers; None for the default of a scan.

    Returns:
        failures: All faults, in archive order.
        failed: Rows of the index whose header is damaged, differs or is missing.

    Raises:
        StorageError: the store failed.
    """
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
    # The sort is stable: if several faults have one offset, the fault of the archive stays first.
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
    """Describe what the blob has instead of each row that only the index has.

    Args:
        store: The blob.
        index: The members as the index lists them.
        only_index: Rows of index that are not in the blob.
        found: The members as the headers describe them.
        only_blob: Rows of found that are not in the index.
        damaged: Row of the index → what is wrong with its header; "" if the scan did not look at it.
    """
    # reversed, because a later entry of a dict replaces an earlier one: the first member of a name must be found
    by_name = {found.name_at(row): row for row in reversed(only_blob)}
    names = {index.name_at(row) for row in only_index}
    by_place = {member_key(found, row)[1:]: found.name_at(row) for row in only_blob}
    unmatched = set(only_index)
    for row in sorted(damaged.keys() | unmatched):
        name, place = index.name_at(row), member_key(index, row)[1:]
        other = by_name.get(name)
        named = by_place.get(place)
        # This goes first, because the header of this name says where the member is now.
        if other is not None and row in unmatched:
            start, end = member_key(found, other)[1:]
            yield failure_at("differs", index, row, f"its header says bytes {start} to {end}")
        elif row in damaged:
            # members without a reason are covered by the one fault that says where the scan gave up
            if damaged[row]:
                yield failure_at("header", index, row, damaged[row])
        # If the name in this header belongs to another unmatched row, the other member has moved to this place. The
        # other row reports it, and the member of this row is missing.
        elif named is not None and named not in names:
            yield failure_at("differs", index, row, f"its header says that this is {named!r}")
        else:
            end_of_blob = f": the blob ends at byte {store.size}" if place[1] > store.size else ""
            yield failure_at("missing", index, row, f"in the index, not in the blob{end_of_blob}")


def _extra_rows(
    index: Columns, only_index: list[int], found: Columns, only_blob: list[int]
) -> Iterator[int]:
    """Find the members that are in the blob, but not in the index.

    A member with the name or the offsets of an unmatched row is left out: _describe_missing reports that row.
    """
    names = {index.name_at(row) for row in only_index}
    places = {member_key(index, row)[1:] for row in only_index}
    for row in only_blob:
        if found.name_at(row) not in names and member_key(found, row)[1:] not in places:
            yield row
