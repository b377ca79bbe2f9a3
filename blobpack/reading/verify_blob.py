"""Verify one blob: compare each header with the index, and each payload with its checksum.

Strategy: if a quick pass finds that the blob is sound, that is all. Else the blob is read again. Damage is a result and
not an error, so that nothing here stops at the first failure. Headers are compared first, by a walk of the archive; then
payloads, which are read in parallel. If a member's header has failed and its payload can't be read either, only the header
is reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobpack.checksum import crc32c
from blobpack.errors import FormatError, StaleIndexError
from blobpack.foreign.any_index import opened_index
from blobpack.foreign.table import format_of, read_foreign
from blobpack.index.index import Index
from blobpack.index.tables.offsets import read_offsets
from blobpack.opening.find_index import embedded_index, find_index
from blobpack.progress import only_forward
from blobpack.stores.location import Location
from blobpack.tar.check import Failure, check_structure, failure_at, is_sound, without_url
from blobpack.tar.facts import read_facts

if TYPE_CHECKING:
    import os

    from blobpack.columns import Columns
    from blobpack.progress import CountCallback
    from blobpack.stores.base import Store

# Payloads with a wrong checksum that are read a second time. If more of them are wrong, the blob is damaged, and not the
# answers of its server.
READ_AGAIN_MAX = 16


class Verified(NamedTuple):
    """The result for one blob.

    Attributes:
        members: Number of members in the index.
        payload_bytes: Bytes of payloads that were compared with their checksums.
        checksums: Whether payloads were compared; None if there is no index to compare.
        failures: Everything that is wrong: first headers, then payloads, each in archive order.
    """

    members: int
    payload_bytes: int
    checksums: bool | None
    failures: list[Failure]


def verify_blob(
    store: Store,
    index: Index | None,
    *,
    full: bool,
    threads: int | None,
    progress: CountCallback | None,
) -> Verified:
    """Compare a blob with its index; without an index, there is nothing to compare.

    Args:
        store: The blob.
        index: The members of the blob.
        full: Also compare payloads, if the index has checksums.
        threads: Number of threads that read.
        progress: progress(members, bytes), called now and then while payloads are read.

    Raises:
        StorageError: the store failed.
    """
    if index is None:
        return Verified(0, 0, None, [])
    columns = index._columns
    checksums, compared = full and columns.crc32c is not None, 0
    progress = only_forward(progress)
    damaged = _check_lookup(store, index)
    if checksums and is_sound(store, columns, threads, progress):
        return Verified(len(columns), index.payload_bytes, True, damaged)
    failures, failed = check_structure(store, columns, threads)
    failures = damaged + failures
    if checksums:
        # after the headers: rows whose headers failed are known by then, and not reported twice
        broken, compared = _check_payloads(store, columns, failed, threads, progress)
        failures += broken
    return Verified(len(columns), compared, checksums, failures)


def _check_lookup(store: Store, index: Index) -> list[Failure]:
    """Return the fault of the parts of an index that only lookups by name read."""
    try:
        index._check_lookup()
    except FormatError as exc:
        return [Failure("archive", None, exc.offset, None, without_url(str(exc), store.url))]
    return []


def index_to_compare(
    store: Store, index: Index | str | os.PathLike[str] | None
) -> tuple[Index | None, list[Failure]]:
    """Find the index. If it does not fit, return a failure, and the index if it can be compared."""
    if isinstance(index, Index):
        return index, []
    if index is not None:
        try:
            return _given_index(store, index), []
        except StaleIndexError as exc:
            return None, [Failure("archive", None, None, None, without_url(str(exc), store.url))]
    try:
        return find_index(store, None, "refuse"), []
    except StaleIndexError as exc:
        failure = Failure("archive", None, None, None, without_url(str(exc), store.url))
        # If an index inside the blob does not fit any more, comparing it still shows which members
        # changed. An index file that does not fit may belong to another blob, so comparing it would
        # show nothing.
        try:
            return embedded_index(store, believe=True), [failure]
        except StaleIndexError:
            return None, [failure]
    except FormatError as exc:
        return None, [Failure("archive", None, exc.offset, None, without_url(str(exc), store.url))]


def _given_index(store: Store, path: str | os.PathLike[str]) -> Index:
    """Open the index at a path or URL, to compare it with the blob.

    Raises:
        StaleIndexError: a foreign index, other than an offsets file, does not fit the blob.
    """
    location = Location.parse(path)
    with opened_index(location, store.cache) as file:
        if isinstance(file, Index):
            return file
        is_offsets_file = location.is_local and format_of(file) == "supervisely"
        return read_offsets(location) if is_offsets_file else read_foreign(file, store)


def _check_payloads(
    store: Store,
    columns: Columns,
    failed: set[int],
    threads: int | None,
    progress: CountCallback | None,
) -> tuple[list[Failure], int]:
    """Compare payloads with their checksums, and return the failures and the number of bytes compared.

    Args:
        store: The blob.
        columns: The index, with checksums.
        failed: Rows that have failed already. If their payloads can't be read, that is not reported again.
        threads: Number of threads that read.
        progress: progress(members, bytes).
    """
    # imported here, so that opening and packing blobs need no NumPy (131 ms)
    import numpy as np

    (_, _, _, checksums), unreadable = read_facts(
        store, columns, images=False, threads=threads, progress=progress
    )
    found, wanted = np.asarray(checksums), np.asarray(columns.crc32c)
    differs = found != wanted
    failures = {}
    sizes = np.asarray(columns.offset_end) - np.asarray(columns.offset_start)
    for fault in unreadable:
        # a payload that could not be read has no checksum to compare, and adds no bytes
        differs[fault.row] = False
        sizes[fault.row] = 0
        if fault.row not in failed:
            failures[fault.row] = failure_at("unreadable", columns, fault.row, fault.reason)
    # Perhaps only the answer that brought the payload was damaged.
    for row in np.flatnonzero(differs)[:READ_AGAIN_MAX].tolist():
        start, end = columns.offset_start[row], columns.offset_end[row]
        if store.forget(start, end):
            differs[row] = crc32c(store.read_range(start, end)) != wanted[row]
    for row in np.flatnonzero(differs).tolist():
        failures[row] = failure_at(
            "checksum",
            columns,
            row,
            f"its CRC-32C is {found[row]:08x}, the index says {wanted[row]:08x}",
        )
    return [failures[row] for row in sorted(failures)], int(sizes.sum())
