"""Copy members of blobs into one new blob, with their headers; no payload is decoded or packed again.

Strategy: members that stand together in a source are copied as one range. Which bytes before a payload are the headers
of that member is read from the source, so an index that belongs to another blob is noticed before bytes are copied.
Names and offsets come from the indexes of the sources. What stands between members (folders, symbolic links, end
markers) is left out. A hard link becomes a member of its own, with a copy of the payload that it points to.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blobpack.columns import Columns
from blobpack.editing.source_blobs import OpenBlobs
from blobpack.errors import DuplicateNameError, SourceError
from blobpack.index.index import Index
from blobpack.packing.pack import mb_per_second
from blobpack.progress import counting
from blobpack.stores.sink import parts_of
from blobpack.tar.names import normal_lookup
from blobpack.tar.splicing.extents import Offsets
from blobpack.tar.splicing.splice import splice
from blobpack.wording import counted, setting
from blobpack.writing.new_blob import new_blob
from blobpack.writing.target import check_target, refuse_same_file, replacing_unseen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from blobpack.editing.source_blobs import Chosen
    from blobpack.model import Duplicates, IndexPlace
    from blobpack.opening.blob_rows import BlobPart
    from blobpack.progress import CountCallback, ProgressCallback
    from blobpack.stores.location import Location
    from blobpack.stores.sink import Parts

# Estimate for the header and padding of a member and its row of the index: far more than most members have.
MEMBER_EXTRA_BYTES = 4096


def combine(
    location: Location,
    blobs: Sequence[BlobPart],
    parts: Sequence[Chosen],
    duplicates: Duplicates | None,
    place: IndexPlace,
    allow_empty: bool,
    force: bool,
    progress: ProgressCallback | None,
) -> CombineReport:
    """Copy members into a new blob; see merge.

    Args:
        location: The blob to write.
        blobs: All blobs of the sources, none of which may be replaced.
        parts: The members, in order. A blob may come several times.
        duplicates: See merge; None: members of the same name are all copied.
        place: Where the index goes.
        allow_empty: See merge.
        force: See merge.
        progress: See merge.
    """
    began = time.perf_counter()
    exists = check_target(location, place, force=force)
    # the new blob would replace its own source, and members that were not chosen would be lost
    for blob in blobs:
        refuse_same_file(location, blob.location, blob.store.fd if blob.store else None)
    chosen = [part.members for part in parts]
    if duplicates == "last":
        chosen = _last_of_each_name(chosen)
    # most likely a filter that matches nothing
    if not any(map(len, chosen)) and not allow_empty:
        raise SourceError(
            f"no member to copy, so {location} is not written ({setting('allow_empty', True)} writes an empty blob)"
        )
    offsets = Offsets(sum(map(len, chosen)))
    expected_bytes = sum(map(_most_bytes, chosen)) if location.has_key else None
    with (
        replacing_unseen(exists),
        new_blob(location, expected_bytes=expected_bytes, new=exists is None) as out,
    ):
        with parts_of(out.tar) as archive:
            show = counting(progress, total=sum(map(len, chosen)))
            index = _copy_members(parts, chosen, archive, offsets, duplicates, show)
        blob_bytes = out.finish(index, offsets.pos, place)
    left_out: Counter[str] = Counter()
    members_behind = []
    for blob in blobs:
        if report := blob.read_index().report:
            left_out.update(report.without_row())
            if report.members_behind:
                members_behind.append(blob.url)
    return CombineReport(
        members=len(index),
        payload_bytes=index.payload_bytes,
        blob_bytes=blob_bytes,
        replaced=sum(len(part.members) for part in parts) - len(index),
        new_headers=offsets.new_headers,
        left_out=dict(left_out),
        members_behind=members_behind,
        seconds=time.perf_counter() - began,
        index=index,
    )


def _most_bytes(columns: Columns) -> int:
    """Estimate the most bytes that members take in a blob: an upload to S3 chooses the size of its parts by it."""
    import numpy as np

    payload_bytes = np.asarray(columns.offset_end).sum() - np.asarray(columns.offset_start).sum()
    return int(payload_bytes) + len(columns) * MEMBER_EXTRA_BYTES


def _copy_members(
    parts: Sequence[Chosen],
    chosen: Sequence[Columns],
    archive: Parts,
    offsets: Offsets,
    duplicates: Duplicates | None,
    progress: CountCallback | None,
) -> Index:
    """Copy the chosen members of each part, and compare all names meanwhile."""
    from concurrent.futures import ThreadPoolExecutor

    names = Columns.concatenate(chosen)
    # in a thread of its own: the names are compared while the payloads are copied
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(_check_names, names, parts, duplicates)
        show = _progress_unless_failed(check, progress)
        with OpenBlobs() as opened:
            for part, columns in zip(parts, chosen, strict=True):
                store, extents = opened.get(part.blob)
                splice(store, extents, columns, archive, offsets, show)
        check.result()
    return Index._from_columns(offsets.put_into(names))


def _check_names(names: Columns, parts: Sequence[Chosen], duplicates: Duplicates | None) -> None:
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
        for part in parts:
            if first <= row < first + len(part.members):
                holders.append(part.blob.url)
            first += len(part.members)
    one, other = map(names.name_at, rows)
    if one == other:
        raise DuplicateNameError(
            f"member {one!r} is in {holders[0]} and in {holders[1]}; {setting('duplicates', 'last')} keeps the last one"
        )
    raise DuplicateNameError(
        f"member {one!r} in {holders[0]} and member {other!r} in {holders[1]} would be extracted to one file"
    )


def _progress_unless_failed(check: Future[None], progress: CountCallback | None) -> CountCallback:
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
        left_out: Kind → number of entries without a payload that were left out, such as folders and symbolic links, if
            the indexes of the sources record them.
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
            f"copied {counted(self.members, 'member')}, {counted(self.payload_bytes, 'byte')}, into "
            f"{counted(self.blob_bytes, 'byte')} "
            f"in {self.seconds:.2f} s ({mb_per_second(self.blob_bytes, self.seconds):,.0f} MB/s)"
        )
        if self.replaced:
            text += f"\nreplaced by later members of the same name: {self.replaced:,}"
        for kind, count in sorted(self.left_out.items()):
            text += f"\nleft out {count:,}: {kind.replace('_', ' ')}"
        return text
