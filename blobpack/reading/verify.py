"""Verify a blob: compare each header with the index, and each payload with its checksum.

Strategy: damage is a result and not an error, so nothing here stops at the first failure. Headers
are compared first, by a walk of the archive; then payloads, which are read in parallel. If a
member's header has failed and its payload can't be read either, only the header is reported.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.errors import FormatError, StaleIndexError
from blobpack.index.index import Index
from blobpack.model import check_callable, check_flag, check_threads
from blobpack.opening.blob import Blob, check_blob
from blobpack.opening.find_index import embedded_index, find_index, read_any_index
from blobpack.quoting import one_line
from blobpack.stores.location import location_of
from blobpack.stores.open import open_tar
from blobpack.tar.check import Failure, check_structure, failure_at, without_url
from blobpack.tar.facts import read_facts
from blobpack.wording import counted

if TYPE_CHECKING:
    import os

    from blobpack.columns import Columns
    from blobpack.model import ProgressCallback
    from blobpack.stores.base import Store

# Payloads with a wrong checksum that are read a second time. If more of them are wrong, the blob is damaged, and not the
# answers of its server.
READ_AGAIN_MAX = 16


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of verify.

    Attributes:
        url: Path or URL of the blob.
        members: Number of members in the index.
        payload_bytes: Bytes of payloads that were compared with their checksums.
        checksums: Whether payloads were compared: False if full was False, or the index has no checksums.
        full: Whether the caller asked for payloads to be compared.
        failures: Everything that is wrong: first headers, then payloads, each in archive order.
        seconds: Time that verify took.
    """

    url: str
    members: int
    payload_bytes: int
    checksums: bool
    full: bool
    failures: list[Failure] = field(repr=False)
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def __str__(self) -> str:
        what = "structure"
        if self.checksums:
            what += f" and checksums of {counted(self.payload_bytes, 'byte')}"
        elif self.full:
            what += " only: the index has no checksums to compare"
        count = len(self.failures)
        found = counted(count, "failure") if count else "all is well"
        return f"{one_line(self.url)}: {counted(self.members, 'member')}, {what}, {self.seconds:.2f} s: {found}"


def verify(
    blob: Blob | str | os.PathLike[str],
    *,
    index: Index | str | os.PathLike[str] | None = None,
    full: bool = True,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> VerifyReport:
    """Compare a blob with its index.

    Damage is reported, not raised: the report names each member that fails.

    Args:
        blob: An open blob, or the path or URL of one.
        index: An index, or the path or URL of an index or offsets file, if `blob` is a path or URL; None for the index
            that open_blob finds.
        full: Also read every payload and compare it with its checksum, if the index has checksums.
        threads: Number of threads that read; None for one for each processor, up to 8, or 8 for a remote blob.
        progress: progress(members, bytes), called now and then while payloads are read.

    Raises:
        BlobNotFoundError: there is no such blob.
        FormatError: the index that was given is damaged itself.
        StorageError: the store failed.
        TypeError: an argument has a wrong type.
        ValueError: a number is out of range; or an index is given together with an open blob, which has its own.
    """
    check_blob("blob", blob)
    if index is not None and not isinstance(index, Index):
        location_of("index", index)
    if index is not None and isinstance(blob, Blob):
        raise ValueError("index goes with a path or URL of a blob: an open blob has its own index")
    check_flag("full", full)
    check_threads(threads)
    check_callable("progress", progress)
    began = time.perf_counter()
    with ExitStack() as stack:
        failures: list[Failure] = []
        members: Index | None
        if isinstance(blob, Blob):
            store, members = blob.store, blob.index
        else:
            store = stack.enter_context(open_tar(blob, tail=True))
            members, failures = _index_to_compare(store, index)
        compared, checksums = 0, False
        if members is not None:
            columns = members._columns
            checksums = full and columns.crc32c is not None
            broken, failed = check_structure(store, columns, threads)
            failures += broken
            if checksums:
                # after the headers: rows whose headers failed are known by then, and not reported twice
                broken, compared = _check_payloads(store, columns, failed, threads, progress)
                failures += broken
        return VerifyReport(
            url=store.url,
            members=0 if members is None else len(members),
            payload_bytes=compared,
            checksums=checksums,
            full=full,
            failures=failures,
            seconds=time.perf_counter() - began,
        )


def _index_to_compare(
    store: Store, index: Index | str | os.PathLike[str] | None
) -> tuple[Index | None, list[Failure]]:
    """Find the index. If it does not fit, return a failure, and the index if it can be compared."""
    if isinstance(index, Index):
        return index, []
    if index is not None:
        return read_any_index(index), []
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


# Payloads


def _check_payloads(
    store: Store,
    columns: Columns,
    failed: set[int],
    threads: int | None,
    progress: ProgressCallback | None,
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
