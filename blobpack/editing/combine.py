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

from blobpack._native.packed import normal_names
from blobpack.editing.copy_members import copy_members
from blobpack.errors import SourceError
from blobpack.index.repeated_names import last_of_each_name
from blobpack.index.row_numbers import as_run
from blobpack.packing.pack import mb_per_second
from blobpack.progress import counting
from blobpack.stores.sink import parts_of
from blobpack.tar.splicing.extents import Offsets
from blobpack.wording import counted, setting
from blobpack.writing.new_blob import new_blob
from blobpack.writing.target import check_target, refuse_same_file, replacing_unseen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobpack.editing.source_blobs import Chosen
    from blobpack.index.index import Index
    from blobpack.model import Duplicates, IndexPlace
    from blobpack.opening.blob_rows import BlobPart
    from blobpack.progress import ProgressCallback
    from blobpack.stores.location import Location

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
    chosen = _last_of_each_name(parts) if duplicates == "last" else parts
    members = sum(len(part.members) for part in chosen)
    # most likely a filter that matches nothing
    if not members and not allow_empty:
        raise SourceError(
            f"no member to copy, so {location} is not written ({setting('allow_empty', True)} writes an empty blob)"
        )
    offsets = Offsets()
    expected_bytes = sum(map(_most_bytes, chosen)) if location.has_key else None
    with (
        replacing_unseen(exists),
        new_blob(location, expected_bytes=expected_bytes, new=exists is None) as out,
    ):
        with parts_of(out.tar) as archive:
            show = counting(progress, total=members)
            index = copy_members(chosen, archive, offsets, duplicates, show)
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


def _most_bytes(part: Chosen) -> int:
    """Estimate the most bytes that members take in a blob: an upload to S3 chooses the size of its parts by it."""
    return part.members.payload_bytes + len(part.members) * MEMBER_EXTRA_BYTES


def _last_of_each_name(parts: Sequence[Chosen]) -> list[Chosen]:
    """Leave out members if a later one, of any part, has the same name, or is extracted to the same file."""
    import numpy as np

    last = last_of_each_name([part.members for part in parts], normal_names)
    kept, first = [], 0
    for part in parts:
        mask = last[first : first + len(part.members)]
        if not mask.all():
            rows = as_run(np.flatnonzero(mask))
            part = part._replace(members=part.members._view(rows))
        kept.append(part)
        first += len(mask)
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
