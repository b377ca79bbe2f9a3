"""Check that the rows of a foreign index fit a tar.

Strategy: every row is checked. A scan of a local tar takes less time than reading most foreign indexes, so all rows are
compared with a scan. A remote tar is not scanned. Its offsets are compared with each other and with the size of the tar.
The headers of the first and the last member are read when the tar is opened, and all other headers together with their
payloads; see guard.py.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack._native.packed import take_names
from blobpack.columns import Columns
from blobpack.errors import StaleIndexError
from blobpack.foreign.headers import check_headers, remedy_for
from blobpack.index.index import Index
from blobpack.indexfile.open import read_footer
from blobpack.tar.header import BLOCK
from blobpack.tar.scan import scan_store
from blobpack.wording import counted

if TYPE_CHECKING:
    from array import array

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.foreign.index_file import IndexFile
    from blobpack.stores.base import Store

    Int64s = NDArray[np.int64]

# headers that are read when a remote blob is opened
HEADERS_AT_OPEN = 2


@dataclass(frozen=True, slots=True)
class ForeignRows:
    """The rows of a foreign index.

    Attributes:
        names: The name of each member; None if the format has none.
        start: (n,) int64, offset_start of each member.
        end: (n,) int64, offset_end of each member.
        tar_bytes: Size of the tar file when the index was made; None if it is not recorded.
    """

    names: list[str] | None
    start: array[int]
    end: array[int]
    tar_bytes: int | None = None


def fit(rows: ForeignRows, file: IndexFile, store: Store) -> Index:
    """Check rows against a tar, and return them as an index.

    Raises:
        StaleIndexError: a row does not fit the tar, or the tar has another size than was recorded.
        FormatError: a name can't be encoded, or the tar is damaged.
    """
    if rows.tar_bytes is not None:
        check_tar_bytes(store, rows.tar_bytes, file)
    if not len(rows.start):
        return Index()
    names, bounds = _packed(rows, file)
    columns = Columns(
        names, bounds, memoryview(rows.start).toreadonly(), memoryview(rows.end).toreadonly()
    )
    return fit_columns(columns, file, store, has_names=rows.names is not None)


def fit_columns(
    columns: Columns, file: IndexFile, store: Store, *, has_names: bool = True
) -> Index:
    """Check rows, at least one, against a tar, and return them as an index.

    Raises:
        StaleIndexError: a row does not fit the tar.
        FormatError: the tar is damaged.
    """
    check_bounds(store, columns, file)
    # Without names, the tar is scanned even if it is remote: only its headers have the names.
    if store.fd is None and has_names:
        index = Index._from_columns(columns)
        return check_headers(store, index, file.url, most=HEADERS_AT_OPEN, format=file.format)
    return Index._from_columns(compared(store, columns, file, has_names=has_names))


def misfit(file: IndexFile, store: Store, reason: str) -> StaleIndexError:
    """Make the error for an index that does not fit a tar."""
    return StaleIndexError(
        f"{file.url} does not fit {store.url} as it is now: {reason}; {remedy_for(file.format)}"
    )


def check_tar_bytes(store: Store, tar_bytes: int, file: IndexFile) -> None:
    """Compare the size of a tar with the recorded size. An index that blobpack has embedded since then is not counted.

    Raises:
        StaleIndexError: the sizes differ.
    """
    if store.stored_bytes == tar_bytes:
        return
    footer = read_footer(store)
    if footer is None or store.stored_bytes - footer.bytes_inside != tar_bytes:
        raise misfit(
            file, store, f"the tar had {tar_bytes} bytes, and now has {store.stored_bytes}"
        )


def check_bounds(store: Store, columns: Columns, file: IndexFile) -> None:
    """Check that all members lie within a tar, behind a first header, and that none of them overlap.

    Members that have the same bytes are fine: hard links have those of another member.

    Raises:
        StaleIndexError: a member lies elsewhere, or overlaps another one.
    """
    import numpy as np

    start, end = np.asarray(columns.offset_start), np.asarray(columns.offset_end)

    def refuse_first(wrong: NDArray[np.bool_], reason: str) -> None:
        if wrong.any():
            row = int(wrong.argmax())
            raise misfit(
                file,
                store,
                f"it has member {columns.name_at(row)!r} at bytes {start[row]} to {end[row]}, {reason}",
            )

    # The header of a payload lies before it, so no payload begins in the first block.
    refuse_first((start < BLOCK) | (end < start), "where no member can be")
    refuse_first(end > store.size, f"and the tar has {store.size} bytes")
    # In the order of the starts, each member only has to be compared with the largest end before it.
    order = np.lexsort((end, start))
    begins, ends = start[order], end[order]
    before = np.maximum.accumulate(ends)[:-1]
    same = (begins[1:] == begins[:-1]) & (ends[1:] == ends[:-1])
    overlaps = np.zeros(len(start), bool)
    # the header of the second one lies between them
    overlaps[order[1:]] = (begins[1:] < before + BLOCK) & ~same
    refuse_first(overlaps, "which overlaps another member or its header")


def compared(store: Store, columns: Columns, file: IndexFile, *, has_names: bool = True) -> Columns:
    """Compare all rows with a scan of the tar, and return them. Rows without names get the names in the headers.

    Raises:
        StaleIndexError: a row is no member of the tar, or has another size or name.
        FormatError: the tar is damaged.
    """
    import numpy as np

    start = np.asarray(columns.offset_start)
    scan = scan_store(store)
    # Only some programs list the members behind an end-of-archive marker, in a tar that was joined by cat.
    if scan.report and int(start.max()) > scan.report.bytes_scanned:
        scan = scan_store(store, concatenated=True)
    found = scan._columns
    # A binary search needs ascending offsets. In a scan, the row of a hard link has the offset of an earlier member.
    order = np.argsort(np.asarray(found.offset_start), kind="stable")
    begins = np.asarray(found.offset_start)[order]
    places = np.searchsorted(begins, start)
    known = places < len(begins)
    # For an offset behind the last member, searchsorted returns a place past the end.
    known[known] = begins[places[known]] == start[known]
    if not known.all():
        row = int((~known).argmax())
        named = f"member {columns.name_at(row)!r}" if has_names else "a member"
        raise misfit(file, store, f"it has {named} at byte {start[row]}, where no member begins")
    rows = order[places]
    sizes = np.asarray(found.offset_end)[rows] - start
    wrong = sizes != np.asarray(columns.offset_end) - start
    if wrong.any():
        row = int(wrong.argmax())
        size = int(columns.offset_end[row]) - int(start[row])
        raise misfit(
            file,
            store,
            f"it has {counted(size, 'byte')} for member {found.name_at(int(rows[row]))!r} at byte {start[row]}, "
            f"which has {sizes[row]:,}",
        )
    if not has_names:
        return found.take(rows)
    _check_names(store, columns, found, rows, file)
    return columns


def _check_names(
    store: Store, columns: Columns, found: Columns, rows: Int64s, file: IndexFile
) -> None:
    """Compare the name in each row with the names that the scan found at its offset.

    Args:
        store: The blob, for messages.
        columns: The rows.
        found: The members that the scan found.
        rows: (n,) int64, a row of `found` with the offset of each row of `columns`.
        file: The index, for messages.

    Raises:
        StaleIndexError: a name differs.
    """
    names, bounds = take_names(found.names, found.name_bounds, rows.data)
    # Usually all names are equal. This comparison makes no string of each name.
    if bounds == columns.name_bounds and names == columns.packed_names():
        return
    others: dict[int, list[str]] = {}
    for row in range(len(columns)):
        name, place = columns.name_at(row), int(rows[row])
        if may_mean(name, found.name_at(place)):
            continue
        # hard links have other names for these bytes
        if not others:
            for other in range(len(found)):
                others.setdefault(found.offset_start[other], []).append(found.name_at(other))
        start = columns.offset_start[row]
        if not any(may_mean(name, other) for other in others[start]):
            raise misfit(
                file,
                store,
                f"it has member {name!r} at byte {start}, and the header there names {others[start][0]!r}",
            )


def may_mean(name: str, other: str) -> bool:
    """Return whether a foreign index may call a member by a name.

    Programs leave out folders, add them, drop "./", or spell bytes that are not UTF-8 as backslashes.
    """
    if name in (other, posixpath.basename(other)) or name.endswith(f"/{other}"):
        return True
    # As ratarmount names a member.
    plain = posixpath.normpath(f"/{other}").lstrip("/")
    spelled = other.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name in (plain, spelled) or name.endswith(f"/{plain}")


def _packed(rows: ForeignRows, file: IndexFile) -> tuple[memoryview, memoryview]:
    """Pack the names of rows; without names, they are empty."""
    import numpy as np

    # All names are joined and encoded at once, because a call for each of a million names takes longer.
    names = [""] * len(rows.start) if rows.names is None else rows.names
    text = "".join(names)
    try:
        packed = text.encode("utf-8", "surrogateescape")
        lengths = (
            map(len, names)
            if len(packed) == len(text)
            else (len(name.encode("utf-8", "surrogateescape")) for name in names)
        )
        bounds = np.zeros(len(names) + 1, np.int64)
        np.cumsum(np.fromiter(lengths, np.int64, len(names)), out=bounds[1:])
    except UnicodeEncodeError as exc:
        raise file.fault(f"a name holds {text[exc.start]!r}, which can't be encoded") from exc
    return memoryview(packed), bounds.data.toreadonly()
