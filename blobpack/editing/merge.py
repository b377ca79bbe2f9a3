"""Copy members of blobs into one new blob, with their headers; no payload is decoded or packed again.

Strategy: members that stand together in a source are copied as one range. Which bytes before a payload are the headers
of that member is read from the source, so an index that belongs to another blob is noticed before bytes are copied.
Names and offsets come from the indexes of the sources. What stands between members (folders, symbolic links, end
markers) is left out. A hard link becomes a member of its own, with a copy of the payload that it points to.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blobpack.argument_order import is_place, is_several, recognise_swap
from blobpack.columns import Columns
from blobpack.errors import DuplicateNameError, SourceError
from blobpack.index.index import Index
from blobpack.model import (
    Duplicates,
    IndexPlace,
    check_callable,
    check_choice,
    check_flag,
    check_several,
)
from blobpack.opening.blob import check_blob, opened
from blobpack.opening.open import is_blob
from blobpack.packing.pack import mb_per_second
from blobpack.stores.location import Location, output_location
from blobpack.stores.replace import check_suffix
from blobpack.tar.names import normal_lookup
from blobpack.tar.splice import Offsets, splice
from blobpack.wording import counted, setting
from blobpack.writing.compress import is_compressed_target
from blobpack.writing.new_blob import new_blob
from blobpack.writing.target import TAR, check_target, refuse_same_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future

    from blobpack.model import Member, ProgressCallback
    from blobpack.opening.blob import Blob


@recognise_swap(sources=is_several, target=is_place)
def merge(
    target: str | os.PathLike[str],
    sources: Iterable[Blob | str | os.PathLike[str]],
    *,
    duplicates: Duplicates = "refuse",
    index: IndexPlace = "embed",
    allow_empty: bool = False,
    force: bool = False,
    progress: ProgressCallback | None = None,
) -> CombineReport:
    """Copy the members of several blobs into one new blob, in the order of the sources.

    The new blob appears whole or not at all, and replaces a blob that is already there.

    Args:
        target: The blob to write.
        sources: Blobs, or their paths or URLs.
        duplicates: What to do with members of the same name: "refuse" them, or keep only the "last" one. "a.jpg"
            and "./a.jpg" count as one name, because both are extracted to one file.
        index: Where the index of the new blob goes: "embed" puts it behind the members, "sidecar" into a file beside
            the blob, and "none" writes no index.
        allow_empty: Make a blob without members if the sources have none. Otherwise that is an error.
        force: Replace a file that is not a tar, and allow a suffix of another format, such as .zip.
        progress: Called from time to time as progress(members, bytes).

    Returns:
        What was copied, and the index.

    Raises:
        DuplicateNameError: two members have the same name.
        SourceError: there is no member to copy.
        BlobNotFoundError: a source does not exist.
        BlobChangedError: an index does not fit its blob.
        FormatError: a source is damaged.
        StorageError: a source can't be read; or the target can't be written, is one of the sources, or would
            replace a file that is not a tar.
        TypeError: an argument has a wrong type, such as one blob instead of several.
        ValueError: a choice does not exist, the target is a URL or compressed, or its suffix promises another format.
    """
    location = _check_arguments(target, index, allow_empty, force, progress)
    check_choice("duplicates", duplicates, Duplicates)
    check_several("sources", sources, "blobs, paths or URLs")
    # a list, because a generator could be read only once, and a wrong element must be found before a blob is opened
    sources = list(sources)
    for source in sources:
        check_blob("sources", source)
    with ExitStack() as stack:
        blobs = [stack.enter_context(opened(source)) for source in sources]
        parts = [(blob, blob.index._columns) for blob in blobs]
        return _combine(location, parts, duplicates, index, allow_empty, force, progress)


@recognise_swap(source=is_blob, target=is_place)
@recognise_swap(target=is_place, members=is_several)
def subset(
    source: Blob | str | os.PathLike[str],
    target: str | os.PathLike[str],
    members: Index | Iterable[str | Member],
    *,
    index: IndexPlace = "embed",
    allow_empty: bool = False,
    force: bool = False,
    progress: ProgressCallback | None = None,
) -> CombineReport:
    """Copy some members of a blob into a new one, in the order given.

    The new blob appears whole or not at all, and replaces a blob that is already there.

    Args:
        source: A blob, or its path or URL.
        target: The blob to write.
        members: A selection of the blob's index; or names or members.
        index: Where the index of the new blob goes; see merge.
        allow_empty: Make a blob without members if none is given. Otherwise that is an error.
        force: Replace a file that is not a tar, and allow a suffix of another format; see merge.
        progress: Called from time to time as progress(members, bytes).

    Returns:
        What was copied, and the index.

    Raises:
        MemberNotFoundError: the blob has no member of that name.
        TypeError: an argument has a wrong type, such as one name instead of several.
        BlobpackError: as described for merge.
    """
    location = _check_arguments(target, index, allow_empty, force, progress)
    check_blob("source", source)
    check_several("members", members, "names or members")
    with opened(source) as blob:
        columns = _selected(blob.index, members)._columns
        return _combine(location, [(blob, columns)], None, index, allow_empty, force, progress)


def _selected(index: Index, members: Index | Iterable[str | Member]) -> Index:
    if isinstance(members, Index):
        return members
    return Index(index[member] if isinstance(member, str) else member for member in members)


def _combine(
    location: Location,
    parts: Sequence[tuple[Blob, Columns]],
    duplicates: Duplicates | None,
    place: IndexPlace,
    allow_empty: bool,
    force: bool,
    progress: ProgressCallback | None,
) -> CombineReport:
    began = time.perf_counter()
    check_target(location, place, force=force)
    # the new blob would replace its own source, and members that were not chosen would be lost
    for blob, _ in parts:
        refuse_same_file(location, blob.store)
    chosen = [columns for _, columns in parts]
    if duplicates == "last":
        chosen = _last_of_each_name(chosen)
    # most likely a filter that matches nothing
    if not any(map(len, chosen)) and not allow_empty:
        raise SourceError(
            f"no member to copy, so {location} is not written ({setting('allow_empty', True)} writes an empty blob)"
        )
    offsets = Offsets(sum(map(len, chosen)))
    with new_blob(location) as out:
        tar = out.tar.local()
        index = _copy_members(parts, chosen, tar.fileno(), offsets, duplicates, progress)
        # the members were written at places, which does not move the position of the file
        tar.seek(offsets.pos)
        blob_bytes = out.finish(index, offsets.pos, place)
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
        members_behind=[
            blob.url for blob, _ in parts if blob.index.report and blob.index.report.members_behind
        ],
        seconds=time.perf_counter() - began,
        index=index,
    )


def _check_arguments(
    target: str | os.PathLike[str],
    place: IndexPlace,
    allow_empty: bool,
    force: bool,
    progress: ProgressCallback | None,
) -> Location:
    """Check the arguments that merge and subset share, and return the target; nothing is read.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: the target is not local or ends like a compressed blob, or the place of the index does not exist.
    """
    location = output_location("target", target, s3=False)
    check_choice("index", place, IndexPlace)
    check_flag("allow_empty", allow_empty)
    check_flag("force", force)
    check_callable("progress", progress)
    # ranges are copied from file to file as they are, and no step compresses them
    if is_compressed_target(location):
        raise ValueError(
            f"target {location}: merge and subset write plain tars: make one, then compress it by `blobpack repack`"
        )
    check_suffix("target", location, TAR, force=force)
    return location


def _copy_members(
    parts: Sequence[tuple[Blob, Columns]],
    chosen: Sequence[Columns],
    fd: int,
    offsets: Offsets,
    duplicates: Duplicates | None,
    progress: ProgressCallback | None,
) -> Index:
    """Copy the chosen members of each part, and compare all names meanwhile."""
    from concurrent.futures import ThreadPoolExecutor

    names = Columns.concatenate(chosen)
    # in a thread of its own: the names are compared while the payloads are copied
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(_check_names, names, parts, duplicates)
        show = _progress_unless_failed(check, progress)
        for (blob, _), columns in zip(parts, chosen, strict=True):
            splice(blob.store, blob.index._columns, columns, fd, offsets, show)
        check.result()
    return Index._from_columns(offsets.put_into(names))


def _check_names(
    names: Columns, parts: Sequence[tuple[Blob, Columns]], duplicates: Duplicates | None
) -> None:
    """Check that no two members have the same name, if duplicates are to be refused.

    Raises:
        DuplicateNameError: two members have the same name, or names of one file. The message names both blobs.
    """
    if duplicates != "refuse":
        return
    rows = normal_lookup(names).first_duplicate()
    if rows is None:
        return
    # the names of all parts are one table: the row says which part, and so which blob, holds the member
    holders = []
    for row in rows:
        first = 0
        for blob, columns in parts:
            if first <= row < first + len(columns):
                holders.append(blob.url)
            first += len(columns)
    one, other = map(names.name_at, rows)
    if one == other:
        raise DuplicateNameError(f"member {one!r} is in {holders[0]} and in {holders[1]}")
    raise DuplicateNameError(
        f"member {one!r} in {holders[0]} and member {other!r} in {holders[1]} would be extracted to one file"
    )


def _progress_unless_failed(
    check: Future[None], progress: ProgressCallback | None
) -> ProgressCallback:
    """Return a progress function that raises the error of the check, if the check has failed."""

    def show(members: int, copied_bytes: int) -> None:
        # the copy calls this between its parts, so a duplicate name ends it long before all bytes are copied
        if check.done():
            check.result()
        if progress:
            progress(members, copied_bytes)

    return show


def _last_of_each_name(parts: Sequence[Columns]) -> list[Columns]:
    """Leave out members if a later one, of any part, has the same name, or is extracted to the same file."""
    import numpy as np

    names = Columns.concatenate(parts)
    last = np.frombuffer(normal_lookup(names).last_rows(), bool)
    kept, first = [], 0
    for columns in parts:
        mask = last[first : first + len(columns)]
        # a part without duplicates stays as it is: taking rows copies all its columns
        kept.append(columns if mask.all() else columns.take(np.flatnonzero(mask)))
        first += len(columns)
    return kept


@dataclass(frozen=True, slots=True)
class CombineReport:
    """The report of merge or subset.

    Attributes:
        members: Number of members of the new blob.
        payload_bytes: Bytes of their payloads.
        blob_bytes: Bytes of the new blob.
        replaced: Number of members that were left out because a later member has their name.
        new_headers: Number of members that got a new header: hard links, and members named by a global header.
        left_out: Kind → number of entries without a payload that were left out, such as folders and symbolic links,
            as far as the indexes of the sources know them.
        members_behind: Sources that have members behind the end of their archive, which their indexes do not have.
        seconds: How long it took.
        index: The members of the new blob.
    """

    members: int
    payload_bytes: int
    blob_bytes: int
    replaced: int
    new_headers: int
    left_out: dict[str, int]
    members_behind: list[str]
    seconds: float
    index: Index = field(repr=False)

    def __str__(self) -> str:
        text = (
            f"copied {counted(self.members, 'member')}, {counted(self.payload_bytes, 'byte')}, into {counted(self.blob_bytes, 'byte')} "
            f"in {self.seconds:.2f} s ({mb_per_second(self.blob_bytes, self.seconds):,.0f} MB/s)"
        )
        if self.replaced:
            text += f"\nreplaced by later members of the same name: {self.replaced:,}"
        for kind, count in sorted(self.left_out.items()):
            text += f"\nleft out {count:,}: {kind.replace('_', ' ')}"
        return text
