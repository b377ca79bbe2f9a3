"""Members appended to a blob in S3, which is made anew and never downloaded.

S3 copies the old members by itself, what is new and the index go up behind them, and the object appears whole, in
place of the one that was opened and of no other one.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, cast

from blobpack.editing.blob_state import examine
from blobpack.editing.new_members import Done, New, NothingAdded
from blobpack.index.index import Index
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.identity import Witness
from blobpack.packing.sources import expected_bytes
from blobpack.stores.memory import MemoryStore
from blobpack.stores.open import open_store
from blobpack.writing.embed import write_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.stores.location import Location
    from blobpack.stores.s3.store import S3Store
    from blobpack.stores.s3.upload import Upload


def append_anew(location: Location, new: New) -> Done:
    """Add members to a blob in S3."""
    added = Index()
    with open_store(location, tail=True) as store:
        before = examine(store, new.stale)
        found = new.find()
        new_bytes = expected_bytes(found)
        found = new.checked(found, before)
        index, blob_bytes = before.index, store.size
        with (
            suppress(NothingAdded),
            continuing(cast("S3Store", store), before.end, new_bytes) as tail,
        ):
            added, end = new.write(found, before, tail, location.text)
            index = before.joined(added)
            index.identity = tail.identity()
            if before.place == "embed":
                write_behind(tail, index, end)
            blob_bytes = tail.file.tell()
    if added and before.place == "sidecar" and index.identity:
        index.identity = replace(index.identity, version=cast("Upload", tail.file).version)
        index.save(sidecar_of(location))
    return Done(before, added, index, blob_bytes)


@contextmanager
def continuing(store: S3Store, end: int, new_bytes: int | None) -> Iterator[Witness]:
    """Open an object anew behind its first bytes; what is written takes its place when the block ends.

    S3 copies these bytes by itself, or, where they are fewer than it copies, they are read and sent again. Only
    the version that was opened is replaced: of two that do this at once, one at most succeeds.

    Args:
        store: The object.
        end: How many bytes stay.
        new_bytes: What will be written at most, about; None when that is not known.

    Raises:
        BlobChangedError: the object is another one now, or another upload to it is under way.
        StorageError: S3 refused or could not be reached.
    """
    from blobpack.stores.s3.upload import PART_BYTES_MIN, uploading

    # of the parts, copies take half at most
    expected = None if new_bytes is None else 2 * new_bytes
    with uploading(store.url, expected_bytes=expected, replaces=store.version) as upload:
        upload.claim()
        if end < PART_BYTES_MIN:
            kept = store.read_range(0, end)
            upload.write(kept)
            yield Witness(cast("BinaryIO", upload), MemoryStore(kept), end)
        else:
            upload.copy(store, end)
            yield Witness(cast("BinaryIO", upload), store, end)
