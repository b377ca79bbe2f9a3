"""Copy the chosen members of each source into a new blob, and make the index of the new blob.

Strategy: few members are copied in one go, and their index is in memory. Very many are copied batch by batch. When a batch
is copied, its new offsets are known, and it goes into an index in a temporary file. So memory holds one batch. Batches take
up to a fifth more processor time, because the index is written twice.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from blobpack._native.packed import normal_names
from blobpack.columns import FACTS, Columns
from blobpack.editing.source_blobs import OpenBlobs
from blobpack.errors import DuplicateNameError
from blobpack.index.index import Index
from blobpack.index.repeated_names import first_repeated
from blobpack.index.stored.picked import ROWS_IN_MEMORY_MAX
from blobpack.index.stored.scratch import write_scratch
from blobpack.indexfile.footer import PART_ROWS
from blobpack.tar.splicing.splice import splice
from blobpack.wording import setting

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from concurrent.futures import Future

    from blobpack.editing.source_blobs import Chosen
    from blobpack.model import Duplicates
    from blobpack.progress import CountCallback
    from blobpack.stores.sink import Parts
    from blobpack.tar.splicing.extents import Offsets


def copy_members(
    parts: Sequence[Chosen],
    archive: Parts,
    offsets: Offsets,
    duplicates: Duplicates | None,
    progress: CountCallback | None,
) -> Index:
    """Copy members to the end of a new blob.

    Args:
        parts: The members, in order.
        archive: The archive of the new blob.
        offsets: Counts what is copied.
        duplicates: See merge; members that "last" leaves out are left out of the parts already.
        progress: progress(members, bytes), called from time to time.

    Returns:
        The members of the new blob. Very many are in a temporary file, which the index keeps open.

    Raises:
        DuplicateNameError: two members have the same name, if duplicates are to be refused.
    """
    from concurrent.futures import ThreadPoolExecutor

    # in a thread of its own: the names are compared while the payloads are copied
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(_check_names, parts, duplicates)
        show = _progress_unless_failed(check, progress)
        if sum(len(part.members) for part in parts) > ROWS_IN_MEMORY_MAX:
            with closing(_copied_batches(parts, archive, offsets, show)) as batches:
                index = Index._from_stored(write_scratch(batches))
        else:
            index = _copied_at_once(parts, archive, offsets, show)
        check.result()
    return index


def _copied_at_once(
    parts: Sequence[Chosen], archive: Parts, offsets: Offsets, progress: CountCallback
) -> Index:
    """Copy all members of all parts; return their index in memory."""
    names = Columns.concatenate([part.members._columns for part in parts])
    offsets.expect(len(names))
    with OpenBlobs() as opened:
        for part in parts:
            store, extents = opened.get(part.blob)
            splice(store, extents, part.members._columns, archive, offsets, progress)
    return Index._from_columns(offsets.put_into(names))


def _copied_batches(
    parts: Sequence[Chosen], archive: Parts, offsets: Offsets, progress: CountCallback | None
) -> Generator[Columns, None, None]:
    """Copy batches of members; yield each with its offsets in the new blob, and the facts that all members have."""
    shared = frozenset(FACTS).intersection(*(part.members.facts for part in parts))
    with OpenBlobs() as opened:
        for part in parts:
            store, extents = opened.get(part.blob)
            for batch in _batches(part.members):
                offsets.expect(len(batch))
                splice(store, extents, batch, archive, offsets, progress)
                yield offsets.put_into(batch.with_facts(shared))


def _batches(members: Index) -> Iterator[Columns]:
    """Yield members in order, up to 65,536 at a time."""
    for part in members._parts():
        for first in range(0, len(part), PART_ROWS):
            yield part.slice(first, min(first + PART_ROWS, len(part)))


def _check_names(parts: Sequence[Chosen], duplicates: Duplicates | None) -> None:
    """Check that no two members have the same name, if duplicates are to be refused.

    Raises:
        DuplicateNameError: two members have the same name, or names of one file. The message names both blobs.
    """
    if duplicates != "refuse":
        return
    rows = first_repeated([part.members for part in parts], normal_names)
    if rows is None:
        return
    # rows are counted over all parts: the row says which part, and so which blob, holds the member
    holders, names = [], []
    for row in rows:
        first = 0
        for part in parts:
            if first <= row < first + len(part.members):
                holders.append(part.blob.url)
                names.append(part.members._name_at(row - first))
            first += len(part.members)
    one, other = names
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
