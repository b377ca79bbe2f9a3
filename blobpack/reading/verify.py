"""Verify blobs: compare each header with the index, and each payload with its checksum.

Strategy: blobs are verified one after the other, each by `verify_blob`, and their results are summed up. Blobs in a
folder without a collection are verified with their own indexes, as each of them would be alone. A collection is compared
with its blobs, and says of each whether it is the blob that was collected.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Unpack

from blobpack.errors import BlobChangedError, BlobNotFoundError, FormatError, StaleIndexError
from blobpack.index.index import Index
from blobpack.model import check_callable, check_flag, check_threads
from blobpack.opening.blob import Blob
from blobpack.opening.kind import kind_of
from blobpack.opening.list_blobs import list_blobs
from blobpack.opening.open import source_of, stored_collection
from blobpack.opening.reader import Reader
from blobpack.progress import counting
from blobpack.quoting import one_line
from blobpack.reading.verify_blob import Verified, index_to_compare, verify_blob
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import location_of
from blobpack.stores.open import open_tar
from blobpack.tar.check import Failure, without_url
from blobpack.wording import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from blobpack.opening.blob_rows import BlobPart
    from blobpack.progress import ProgressCallback
    from blobpack.stores.base import Store
    from blobpack.stores.location import Location

# They concern a whole blob: if it is one of several, the others are still verified.
WHOLE_BLOB_ERRORS = (BlobChangedError, BlobNotFoundError, FormatError, StaleIndexError)
NOTHING = Verified(0, 0, None, [])


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of verify.

    Attributes:
        url: Path or URL of the blob, of the collection, or of the folder, prefix or glob of the blobs.
        members: Number of members in the index, or in all indexes.
        payload_bytes: Bytes of payloads that were compared with their checksums.
        checksums: Whether payloads were compared: False if full was False, or an index has no checksums.
        full: Whether the caller asked for payloads to be compared.
        failures: Everything that is wrong, blob by blob: first headers, then payloads, each in archive order.
        seconds: Time that verify took.
        blobs: Number of blobs that were verified.
    """

    url: str
    members: int
    payload_bytes: int
    checksums: bool
    full: bool
    failures: list[Failure] = field(repr=False)
    seconds: float
    blobs: int = 1

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def __str__(self) -> str:
        what = "structure"
        if self.checksums or self.payload_bytes:
            what += f" and checksums of {counted(self.payload_bytes, 'byte')}"
        if self.full and not self.checksums:
            what += " only: the index has no checksums to compare"
        count = len(self.failures)
        found = counted(count, "failure") if count else "all is well"
        of = "" if self.blobs == 1 else f" of {counted(self.blobs, 'blob')}"
        return (
            f"{one_line(self.url)}: {counted(self.members, 'member')}{of}, {what}, {self.seconds:.2f} s: "
            f"{found}"
        )


@with_remote_options
def verify(
    source: Reader | str | os.PathLike[str],
    *,
    index: Index | str | os.PathLike[str] | None = None,
    full: bool = True,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    **remote: Unpack[RemoteOptions],
) -> VerifyReport:
    """Compare a blob with its index, or many blobs with theirs.

    Damage is reported, not raised: the report names each member that fails, and its blob. The members of a collection
    are compared with its blobs; a blob that is missing, or has changed since it was collected, is a failure. Blobs in a
    folder without a collection are compared with their own indexes.

    Args:
        source: An open blob or collection; or the path or URL of one, or of a folder, prefix or glob of blobs.
        index: An index, or the path or URL of an index or offsets file, or of the index of another program, if `source` is
            the path or URL of a blob; None for the index that open_blob finds.
        full: Also read every payload and compare it with its checksum, if the index has checksums.
        threads: Number of threads that read; None for one for each processor, up to 8, or 8 for a remote blob.
        progress: Called now and then with the Progress in members and bytes, while payloads are read.
        remote: How remote blobs are reached: see RemoteOptions.

    Raises:
        BlobNotFoundError: there is no such blob or collection, or there are no blobs.
        FormatError: the index that was given, or the collection, is damaged itself.
        UnsafeNameError: a blob lies outside of the collection's folder; see open_collection.
        StorageError: the store failed.
        TypeError: an argument has a wrong type.
        ValueError: a number is out of range; or an index is given together with an open blob, which has its own.
    """
    access = Access.of("verify", remote)
    found = source_of("source", source, access)
    if index is not None and not isinstance(index, Index):
        index = location_of("index", index, access=access)
    if index is not None and isinstance(source, Reader):
        raise ValueError("index can't be combined with an open blob, which has its own index")
    check_flag("full", full)
    check_threads(threads)
    check_callable("progress", progress)
    began = time.perf_counter()
    blobs, done = 0, NOTHING
    with _subjects_of(found, index) as (url, subjects, members):
        total = None if members is None else Total(len(members), members.payload_bytes)
        for subject in subjects:
            blobs += 1
            done = _sum(done, _verify_one(subject, full, threads, progress, done, total))
    return VerifyReport(
        url=url,
        members=done.members,
        payload_bytes=done.payload_bytes,
        checksums=bool(done.checksums),
        full=full,
        failures=done.failures,
        seconds=time.perf_counter() - began,
        blobs=blobs,
    )


class Total(NamedTuple):
    """The number of members that are verified, and the sum of their sizes."""

    members: int
    payload_bytes: int


class _Subject(NamedTuple):
    """A blob to verify.

    Attributes:
        url: Path or URL of the blob.
        opened: Opens the blob for a block; returns its store, its index, and failures that were found on the way.
        is_alone: The caller asked for this blob only, so errors that concern the whole blob are raised.
    """

    url: str
    opened: Callable[[], AbstractContextManager[tuple[Store, Index | None, list[Failure]]]]
    is_alone: bool


@contextmanager
def _subjects_of(
    source: Reader | Location, index: Index | Location | None
) -> Iterator[tuple[str, Iterable[_Subject], Index | None]]:
    """Find the blobs to verify; yield the path or URL of all together, the blobs, and their members if they are known."""
    if isinstance(source, Reader):
        yield source.url, _indexed(source), source.index
        return
    kind = kind_of(source) if index is None else "blob"
    if kind == "blob":
        yield (
            source.text,
            [_Subject(source.text, partial(_opened_alone, source, index), is_alone=True)],
            None,
        )
        return
    collection = stored_collection(source, kind)
    if collection is not None:
        with collection:
            yield collection.url, _indexed(collection), collection.index
        return
    blobs = list_blobs(source, kind)
    yield (
        source.text,
        [_Subject(blob.text, partial(_opened_alone, blob, None), is_alone=False) for blob in blobs],
        None,
    )


def _indexed(reader: Reader) -> Iterator[_Subject]:
    """Yield the blobs of a reader, to be compared with the reader's index."""
    is_alone = isinstance(reader, Blob)
    if not is_alone:
        # that of a single blob is checked together with the blob
        reader.index._check_lookup()
    for part in reader._each_blob():
        opened = partial(_opened_blob if is_alone else _opened_collected, part)
        yield _Subject(part.url, opened, is_alone)


@contextmanager
def _opened_blob(part: BlobPart) -> Iterator[tuple[Store, Index | None, list[Failure]]]:
    with part.opened() as store:
        yield store, part.read_index(), []


@contextmanager
def _opened_collected(part: BlobPart) -> Iterator[tuple[Store, Index | None, list[Failure]]]:
    with ExitStack() as stack:
        failures = []
        try:
            store = stack.enter_context(part.opened())
            # an object in S3 that was replaced is noticed only by a read
            store.read_range(0, min(1, store.size))
        except (BlobChangedError, StaleIndexError) as exc:
            if part.location is None:
                raise
            # comparing the members still shows which of them changed
            failures = [Failure("archive", None, None, None, without_url(str(exc), part.url))]
            store = stack.enter_context(open_tar(part.location, tail=True))
        yield store, part.read_index(), failures


@contextmanager
def _opened_alone(
    blob: Location, index: Index | str | os.PathLike[str] | None
) -> Iterator[tuple[Store, Index | None, list[Failure]]]:
    with open_tar(blob, tail=True) as store:
        yield store, *index_to_compare(store, index)


def _verify_one(
    subject: _Subject,
    full: bool,
    threads: int | None,
    progress: ProgressCallback | None,
    before: Verified,
    total: Total | None,
) -> Verified:
    """Verify one blob.

    Args:
        subject: The blob.
        full: See verify.
        threads: See verify.
        progress: See verify.
        before: The blobs before it, together.
        total: What all blobs have; None if it is known for a single blob only, when that is open.
    """
    try:
        with subject.opened() as (store, index, found):
            if subject.is_alone and index is not None:
                total = Total(len(index), index.payload_bytes)
            show = counting(
                progress,
                done=before.members,
                done_bytes=before.payload_bytes,
                total=total and total.members,
                total_bytes=total and total.payload_bytes,
            )
            done = verify_blob(store, index, full=full, threads=threads, progress=show)
        failures = found + done.failures
    except WHOLE_BLOB_ERRORS as exc:
        if subject.is_alone:
            raise
        offset = exc.offset if isinstance(exc, FormatError) else None
        done = NOTHING
        failures = [Failure("archive", None, offset, None, without_url(str(exc), subject.url))]
    if not subject.is_alone:
        failures = [replace(failure, blob=subject.url) for failure in failures]
    return done._replace(failures=failures)


def _sum(one: Verified, other: Verified) -> Verified:
    # a blob without an index says nothing about checksums
    said = [each.checksums for each in (one, other) if each.checksums is not None]
    return Verified(
        one.members + other.members,
        one.payload_bytes + other.payload_bytes,
        all(said) if said else None,
        one.failures + other.failures,
    )
