"""A blob against its index: does each header say what the index says, and is each payload what was packed?"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blobpack.errors import FormatError, StaleIndexError
from blobpack.index.index import Index
from blobpack.model import check_callable, check_flag, check_threads
from blobpack.reading.blob import Blob, check_blob
from blobpack.reading.find_index import embedded_index, find_index, read_any_index
from blobpack.stores.location import location_of
from blobpack.stores.open import open_tar
from blobpack.tar.check import Failure, check_structure, failure_at, without_url
from blobpack.tar.facts import read_facts

if TYPE_CHECKING:
    import os

    from blobpack.columns import Columns
    from blobpack.model import ProgressCallback
    from blobpack.stores.base import Store


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verify found.

    Attributes:
        url: The blob.
        members: How many the index has.
        payload_bytes: How many bytes of payloads were compared with their checksums.
        checksums: Whether there were any to compare: False for fast, and for an index without them.
        full: Whether they were asked for.
        failures: What is wrong, structure first, then payloads, each in archive order.
        seconds: How long it took.
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
        """Nothing failed."""
        return not self.failures

    def __str__(self) -> str:
        what = "structure"
        if self.checksums:
            what += f" and checksums of {self.payload_bytes:,} bytes"
        elif self.full:
            what += " only: the index has no checksums to compare"
        count = len(self.failures)
        found = f"{count:,} failure{'s' * (count > 1)}" if count else "all is well"
        return f"{self.url}: {self.members:,} members, {what}, {self.seconds:.2f} s: {found}"


def verify(
    blob: Blob | str | os.PathLike[str],
    *,
    index: Index | str | os.PathLike[str] | None = None,
    full: bool = True,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> VerifyReport:
    """Compare a blob with its index.

    Damage is reported, not raised: each member that fails is named.

    Args:
        blob: A blob, or a path or URL of one.
        index: Its members, or the path of its index or offsets file, where blob is a path or URL; None for the index that
            open_blob finds.
        full: Also read every payload and compare it with the index's checksum, if the index has them.
        threads: How many read.
        progress: progress(members, bytes), called now and then while payloads are read.

    Raises:
        BlobNotFoundError: there is no such blob.
        FormatError: the index given is damaged itself.
        StorageError: the store failed.
        TypeError: an argument has another type.
        ValueError: a number out of range; or an index beside an open blob, which has its own.
    """
    check_blob("blob", blob)
    if index is not None and not isinstance(index, Index):
        location_of("index", index)
    if index is not None and isinstance(blob, Blob):
        raise ValueError("index goes with a path or URL: an open blob has its own")
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
            columns = members.columns
            checksums = full and columns.crc32c is not None
            broken, failed = check_structure(store, columns, threads)
            failures += broken
            if checksums:
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
    """Find the index; one of another state of the blob is a failure, and compared all the same if it can be."""
    if isinstance(index, Index):
        return index, []
    if index is not None:
        return read_any_index(index), []
    try:
        return find_index(store, None, "refuse"), []
    except StaleIndexError as exc:
        failure = Failure("archive", None, None, None, without_url(str(exc), store.url))
        try:
            return embedded_index(store, believe=True), [failure]
        except StaleIndexError:  # not even its sizes fit
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
    """Compare checksums; the failures, and the bytes compared.

    Args:
        store: The blob.
        columns: The index, with checksums.
        failed: Rows that have failed already: if they can't be read either, that is no news.
        threads: How many read.
        progress: progress(members, bytes).
    """
    import numpy as np

    (_, _, _, checksums), unreadable = read_facts(
        store, columns, images=False, threads=threads, progress=progress
    )
    found, wanted = np.asarray(checksums), np.asarray(columns.crc32c)
    differs = found != wanted
    failures = {}
    sizes = np.asarray(columns.offset_end) - np.asarray(columns.offset_start)
    for fault in unreadable:
        differs[fault.row] = False
        sizes[fault.row] = 0
        if fault.row not in failed:
            failures[fault.row] = failure_at("unreadable", columns, fault.row, fault.reason)
    for row in np.flatnonzero(differs).tolist():
        failures[row] = failure_at(
            "checksum",
            columns,
            row,
            f"its CRC-32C is {found[row]:08x}, the index says {wanted[row]:08x}",
        )
    return [failures[row] for row in sorted(failures)], int(sizes.sum())
