"""Blobs → a collection: their indexes one behind the other in one file, and a section that says whose rows are whose.

Blobs are opened side by side, some at a time, and their indexes go by in parts, so that memory does not grow with
their number but for 8 bytes a member while the lookup is made. Names are compared when it is: a name that two
blobs have is seen there.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, cast, get_args

from blobpack.atomic import replacing
from blobpack.collection import COLLECTION_NAME, collection_path
from blobpack.discovery import embedded_index, first_found, sidecar_index
from blobpack.errors import DuplicateNameError, StorageError
from blobpack.identity import OF_A_COLLECTION, identify
from blobpack.indexfile import MAGIC
from blobpack.indexwriter import write_sections
from blobpack.model import Duplicates
from blobpack.output import writing
from blobpack.scan import scan_store
from blobpack.shards import Shard, encode_shards, folder_of, name_from
from blobpack.stores import is_local, local_name, open_tar
from blobpack.stores.globs import has_glob, list_blobs
from blobpack.stores.zstd import SeekableStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack.columns import Columns
    from blobpack.stores.base import Store

    Progress = Callable[[int, int], object]

BLOBS_AT_ONCE = 16
COPY_BYTES = 8 << 20
ROWS_AT_ONCE = 1 << 16  # an index of no more is read by the thread that opens it


@dataclass(frozen=True, slots=True)
class CollectReport:
    """What collect did.

    Attributes:
        url: The collection.
        blobs: How many it is of.
        members: Theirs.
        payload_bytes: Their bytes.
        collection_bytes: The collection's.
        seconds: How long it took.
    """

    url: str
    blobs: int
    members: int
    payload_bytes: int
    collection_bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"collected {self.members:,} members, {self.payload_bytes:,} bytes, of {self.blobs:,} blobs in "
            f"{self.seconds:.2f} s: {self.url}, {self.collection_bytes:,} bytes"
        )


def collect(
    blobs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    target: str | os.PathLike[str] | None = None,
    *,
    duplicates: Duplicates = "refuse",
    scan: bool = False,
    progress: Progress | None = None,
) -> CollectReport:
    """Make one collection of many blobs, in which any name is found without opening them.

    The collection appears whole or not at all, and replaces one that is there. It says where its blobs lie from
    its own folder, so both can be moved together; blobs elsewhere by their whole path or URL. Blobs that are
    added later are not in it until it is made anew.

    Args:
        blobs: A folder, or a prefix that ends with "/", of which all .tar, .tar.zst and .tzst are taken; a glob,
            whose `*` stays within a folder and whose `**` does not; or blobs one by one, taken in their order.
        target: Where to: a path or an s3:// URL; None for `collection.idx` in that folder.
        duplicates: What to do when two blobs have one name: "refuse", or let the member of the "last" blob be found.
        scan: Scan blobs that have no index.
        progress: progress(blobs, members), called after each blob.

    Returns:
        What was collected.

    Raises:
        BlobNotFoundError: there are no blobs.
        DuplicateNameError: two blobs have one name; both are said.
        StaleIndexError: a blob's index is not of the blob as it is now.
        StorageError: a blob has no index, can't be read or changed meanwhile; or the target can't be written, or
            is no collection.
        FormatError: a blob or its index is damaged.
        ValueError: the blobs are given one by one, and the target is not.
    """
    if duplicates not in get_args(Duplicates):
        raise ValueError(f"duplicates must be 'refuse' or 'last', not {duplicates!r}")
    began = time.perf_counter()
    if isinstance(blobs, (str, os.PathLike)):
        urls = list_blobs(blobs)
        target = target or _beside(blobs)
    else:
        urls = [os.fspath(local_name(blob) if is_local(blob) else blob) for blob in blobs]
    if target is None:
        raise ValueError("blobs that are given one by one need a target")
    url = os.fspath(local_name(target) if is_local(target) else target)
    check_collection_target(url)
    work = _Collecting(urls, folder_of(url), duplicates=duplicates, scan=scan, progress=progress)
    if is_local(url):
        with replacing(url) as file:
            work.write(file)
            collection_bytes = file.tell()
    else:
        import shutil
        import tempfile

        with tempfile.TemporaryFile() as file:
            work.write(cast("BinaryIO", file))
            collection_bytes = file.tell()
            file.seek(0)
            with writing(url, expected_bytes=collection_bytes) as upload:
                shutil.copyfileobj(file, upload, COPY_BYTES)
    return CollectReport(
        url=url,
        blobs=len(urls),
        members=work.shards[-1].row_end if work.shards else 0,
        payload_bytes=sum(shard.payload_bytes for shard in work.shards),
        collection_bytes=collection_bytes,
        seconds=time.perf_counter() - began,
    )


def check_collection_target(url: str) -> None:
    """Refuse to lose a file that is no index.

    Raises:
        StorageError: it is there, and is none.
    """
    if not is_local(url):
        return
    try:
        with open(url, "rb") as file:  # noqa: PTH123 (a path of any kind)
            begins = file.read(len(MAGIC))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise StorageError(f"{url}: can't be replaced: {exc.strerror}") from exc
    if begins and begins != MAGIC:
        raise StorageError(
            f"{url}: exists and is no collection; it is not replaced: remove it first"
        )


def _beside(blobs: str | os.PathLike[str]) -> str:
    """Name the collection of a folder, prefix or glob; of one blob, that in its folder."""
    path = os.fspath(local_name(blobs) if is_local(blobs) else blobs)
    if has_glob(path) or path.endswith("/") or os.path.isdir(path):  # noqa: PTH112
        return collection_path(path)
    return folder_of(path) + COLLECTION_NAME


class _FewerFactsError(Exception):
    """A blob does not have all the facts of those before it."""

    def __init__(self, facts: frozenset[str]) -> None:
        super().__init__()
        self.facts = facts


@dataclass(slots=True)
class _Opened:
    """A blob whose index is at hand; of a large one, the parts are still to be read."""

    shard: Shard
    store: Store
    parts: Iterable[Columns]
    facts: frozenset[str]
    rows: int


class _Collecting:
    """Writes one collection."""

    def __init__(
        self,
        urls: list[str],
        folder: str,
        *,
        duplicates: Duplicates,
        scan: bool,
        progress: Progress | None,
    ) -> None:
        self.urls, self.folder = urls, folder
        self.duplicates, self.scan, self.progress = duplicates, scan, progress
        self.shards: list[Shard] = []
        self.facts: frozenset[str] | None = None

    def write(self, file: BinaryIO) -> None:
        """Write the collection at the start of an empty file; again without the facts that not all blobs have."""
        while True:
            self.shards = []
            try:
                footer = write_sections(
                    file,
                    self._parts(),
                    None,
                    identity=OF_A_COLLECTION,
                    blobs=lambda: encode_shards(self.shards),
                    repeated=self._refuse if self.duplicates == "refuse" else None,
                )
            except _FewerFactsError as fewer:
                self.facts = fewer.facts
                file.seek(0)
                file.truncate()
            else:
                file.write(footer.encode())
                return

    def _parts(self) -> Iterator[Columns]:
        row = 0
        for opened in self._opened():
            with opened.store:
                if opened.rows:
                    if self.facts is None:
                        self.facts = opened.facts
                    elif not self.facts <= opened.facts:
                        raise _FewerFactsError(self.facts & opened.facts)
                for part in opened.parts:
                    yield _without_others(part, self.facts or frozenset())
            self.shards.append(replace(opened.shard, first_row=row, row_end=row + opened.rows))
            row += opened.rows
            if self.progress:
                self.progress(len(self.shards), row)

    def _opened(self) -> Iterator[_Opened]:
        """Open the blobs some at a time, and give them in their order."""
        urls = iter(self.urls)
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(BLOBS_AT_ONCE) as threads:
            waiting = deque(threads.submit(self._open, url) for url in islice(urls, BLOBS_AT_ONCE))
            try:
                while waiting:
                    opened = waiting.popleft().result()
                    waiting.extend(threads.submit(self._open, url) for url in islice(urls, 1))
                    yield opened
            finally:
                for future in waiting:
                    if not future.cancel() and not future.exception():
                        future.result().store.close()

    def _open(self, url: str) -> _Opened:
        store = open_tar(url, tail=True)
        try:
            index = first_found(store, embedded_index, sidecar_index)
            if index is None and not self.scan:
                raise StorageError(
                    f"{url} has no index: `blobpack index {url}` makes one, or ask for a scan"
                )
            if index is None:
                index = scan_store(store)
            identity = index.identity or identify(store, store.size)
            base = store.base if isinstance(store, SeekableStore) else store
            rows = len(index)
            parts: Iterable[Columns] = [index.columns] if rows <= ROWS_AT_ONCE else index.parts()
            shard = Shard(
                name=name_from(self.folder, url),
                first_row=0,
                row_end=rows,
                blob_bytes=base.size,
                payload_bytes=index.payload_bytes,
                is_compressed=isinstance(store, SeekableStore),
                identity=replace(identity, version="" if is_local(url) else store.version),
            )
            return _Opened(shard, store, parts, index.taken, rows)
        except BaseException:
            store.close()
            raise

    def _refuse(self, name: str, row: int, other: int) -> None:
        """Refuse a name that two blobs have; one that a blob has twice is that blob's own matter.

        Raises:
            DuplicateNameError: both blobs are said.
        """
        first, last = sorted(
            bisect_right(self.shards, place, key=lambda shard: shard.row_end)
            for place in (row, other)
        )
        if first != last:
            holders = f"in {self.shards[first].name} and in {self.shards[last].name}"
            raise DuplicateNameError(f"member {name!r} is {holders}, of those in {self.folder}")


def _without_others(part: Columns, facts: frozenset[str]) -> Columns:
    """Leave out the facts that are not among these."""
    others: dict[str, Any] = {name: None for name, _ in part.facts() if name not in facts}
    return replace(part, **others)
