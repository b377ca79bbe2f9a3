"""Members of blobs → one blob: payloads are copied with their headers, nothing is decoded or packed anew.

Members that lie together in a source are copied as one range. Which bytes before a payload are the member's
own headers is read from the source, so that an index of another blob is noticed before its bytes are copied;
names and offsets come from the sources' indexes. What stands between members (folders, symbolic links, end
markers) stays behind. A hard link becomes a member of its own, with a copy of the payload it points at.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blobpack._native.lookup import NameLookup
from blobpack.columns import Columns
from blobpack.errors import DuplicateNameError
from blobpack.index.index import Index
from blobpack.model import (
    Duplicates,
    IndexPlace,
    check_callable,
    check_choice,
    check_several,
)
from blobpack.packing.pack import mb_per_second
from blobpack.reading.blob import check_blob, opened
from blobpack.stores.location import Location, output_location
from blobpack.tar.splice import Offsets, splice
from blobpack.writing.compress import is_compressed_target
from blobpack.writing.embed import forget_beside
from blobpack.writing.new_blob import new_blob
from blobpack.writing.target import check_target, refuse_same_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future

    from blobpack.model import Member, Progress
    from blobpack.reading.blob import Blob


def merge(
    target: str | os.PathLike[str],
    sources: Iterable[Blob | str | os.PathLike[str]],
    *,
    duplicates: Duplicates = "refuse",
    index: IndexPlace = "embed",
    progress: Progress | None = None,
) -> CombineReport:
    """Put the members of several blobs into one, in the order of the sources.

    The blob appears whole or not at all, and replaces one that is there.

    Args:
        target: The blob to write.
        sources: Blobs, or their paths or URLs.
        duplicates: What to do about members of one name: "refuse", or keep the "last" of them.
        index: Where the new blob's index goes: "embed" puts it behind the members, "sidecar" beside the blob.
        progress: progress(members, bytes), called now and then.

    Returns:
        What was copied, with the index.

    Raises:
        DuplicateNameError: two members have one name.
        BlobNotFoundError: a source is not there.
        BlobChangedError: an index is not that of its blob.
        FormatError: a source is damaged.
        StorageError: a source can't be read; or the target can't be written, is one of the sources, or would
            replace a file that is no tar.
        TypeError: an argument has another type, such as one blob instead of several.
        ValueError: a choice that there is not; or a target that is a URL, or compressed.
    """
    _check_arguments(target, index, progress)
    check_choice("duplicates", duplicates, Duplicates)
    check_several("sources", sources, "blobs, paths or URLs")
    sources = list(sources)
    for source in sources:
        check_blob("sources", source)
    with ExitStack() as stack:
        blobs = [stack.enter_context(opened(source)) for source in sources]
        parts = [(blob, blob.index.columns) for blob in blobs]
        return _combine(target, parts, duplicates, index, progress)


def subset(
    source: Blob | str | os.PathLike[str],
    target: str | os.PathLike[str],
    members: Index | Iterable[str | Member],
    *,
    index: IndexPlace = "embed",
    progress: Progress | None = None,
) -> CombineReport:
    """Put some members of a blob into a new one, in the order given.

    The blob appears whole or not at all, and replaces one that is there.

    Args:
        source: A blob, its path or URL.
        target: The blob to write.
        members: A selection of its index; or names, or members.
        index: Where the new blob's index goes, as in merge.
        progress: progress(members, bytes), called now and then.

    Returns:
        What was copied, with the index.

    Raises:
        MemberNotFoundError: a name is not there.
        TypeError: one name instead of several.
        BlobpackError: as for merge.
    """
    _check_arguments(target, index, progress)
    check_blob("source", source)
    check_several("members", members, "names or members")
    with opened(source) as blob:
        columns = _selected(blob.index, members).columns
        return _combine(target, [(blob, columns)], None, index, progress)


def _selected(index: Index, members: Index | Iterable[str | Member]) -> Index:
    if isinstance(members, Index):
        return members
    return Index(index[member] if isinstance(member, str) else member for member in members)


def _combine(
    target: str | os.PathLike[str],
    parts: Sequence[tuple[Blob, Columns]],
    duplicates: Duplicates | None,
    place: IndexPlace,
    progress: Progress | None,
) -> CombineReport:
    began = time.perf_counter()
    location = Location.parse(target)
    check_target(location)
    for blob, _ in parts:
        refuse_same_file(location, blob.store)
    chosen = [columns for _, columns in parts]
    if duplicates == "last":
        chosen = _last_of_each_name(chosen)
    offsets = Offsets(sum(map(len, chosen)))
    with new_blob(location) as out:
        tar = out.tar.local()
        index = _copy_members(parts, chosen, tar.fileno(), offsets, duplicates, progress)
        tar.seek(offsets.pos)
        blob_bytes = out.finish(index, offsets.pos, place)
    forget_beside(location)
    if place == "sidecar":
        out.write_beside(index)
    left_out: Counter[str] = Counter()
    for blob, _ in parts:
        left_out.update(blob.index.report.without_row() if blob.index.report else {})
    return CombineReport(
        members=len(index),
        payload_bytes=index.payload_bytes,
        blob_bytes=blob_bytes,
        replaced=sum(len(columns) for _, columns in parts) - len(index),
        new_headers=offsets.new_headers,
        left_out=dict(left_out),
        seconds=time.perf_counter() - began,
        index=index,
    )


def _check_arguments(
    target: str | os.PathLike[str], place: IndexPlace, progress: Progress | None
) -> None:
    """Check that a new blob can be written to a target, whatever is there.

    Raises:
        TypeError: an argument of another type.
        ValueError: the target is not local, or is to be compressed; or a place that there is not.
    """
    location = output_location("target", target, s3=False)
    check_choice("index", place, IndexPlace)
    check_callable("progress", progress)
    if is_compressed_target(location):
        raise ValueError(
            f"target {location}: merge and subset write plain tars: make one, and `blobpack repack` it"
        )


def _copy_members(
    parts: Sequence[tuple[Blob, Columns]],
    chosen: Sequence[Columns],
    fd: int,
    offsets: Offsets,
    duplicates: Duplicates | None,
    progress: Progress | None,
) -> Index:
    """Copy what is chosen of each part, while names are compared: that takes as long as 500 MB of copying."""
    from concurrent.futures import ThreadPoolExecutor

    names = Columns.concatenate(chosen)
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(_check_names, names, parts, duplicates)
        show = _progress_unless_failed(check, progress)
        for (blob, _), columns in zip(parts, chosen, strict=True):
            splice(blob.store, blob.index.columns, columns, fd, offsets, show)
        check.result()
    return Index.from_columns(offsets.put_into(names))


def _check_names(
    names: Columns, parts: Sequence[tuple[Blob, Columns]], duplicates: Duplicates | None
) -> None:
    """Refuse two members of one name, if that is chosen, and say which blobs hold them."""
    if duplicates != "refuse":
        return
    rows = NameLookup(names.names, names.name_bounds).first_duplicate()
    if rows is None:
        return
    holders = []
    for row in rows:
        first = 0
        for blob, columns in parts:
            if first <= row < first + len(columns):
                holders.append(blob.url)
            first += len(columns)
    where = f"in {holders[0]} and in {holders[1]}"
    raise DuplicateNameError(f"member {names.name_at(rows[0])!r} is {where}")


def _progress_unless_failed(check: Future[None], progress: Progress | None) -> Progress:
    """Tell progress, and let a check that has failed meanwhile end the work."""

    def show(members: int, copied_bytes: int) -> None:
        if check.done():
            check.result()
        if progress:
            progress(members, copied_bytes)

    return show


def _last_of_each_name(parts: Sequence[Columns]) -> list[Columns]:
    import numpy as np

    names = Columns.concatenate(parts)
    last = np.frombuffer(NameLookup(names.names, names.name_bounds).last_rows(), bool)
    kept, first = [], 0
    for columns in parts:
        mask = last[first : first + len(columns)]
        kept.append(columns if mask.all() else columns.take(np.flatnonzero(mask)))
        first += len(columns)
    return kept


@dataclass(frozen=True, slots=True)
class CombineReport:
    """What merge or subset did.

    Attributes:
        members: Those of the new blob.
        payload_bytes: Their bytes.
        blob_bytes: The blob's.
        replaced: Members left out because a later one has their name.
        new_headers: Members whose header was encoded anew: hard links, and those that a global header named.
        left_out: Kind → how many of what has no payload stayed behind, as far as the sources' scans tell.
        seconds: How long it took.
        index: The blob's members.
    """

    members: int
    payload_bytes: int
    blob_bytes: int
    replaced: int
    new_headers: int
    left_out: dict[str, int]
    seconds: float
    index: Index = field(repr=False)

    def __str__(self) -> str:
        text = (
            f"copied {self.members:,} members, {self.payload_bytes:,} bytes, into {self.blob_bytes:,} bytes "
            f"in {self.seconds:.2f} s ({mb_per_second(self.blob_bytes, self.seconds):,.0f} MB/s)"
        )
        if self.replaced:
            text += f"\nreplaced by later members of the same name: {self.replaced:,}"
        for kind, count in sorted(self.left_out.items()):
            text += f"\nleft out {count:,}: {kind.replace('_', ' ')}"
        return text
