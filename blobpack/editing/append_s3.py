"""Members appended to a blob in S3, which is made anew and never downloaded.

Strategy: S3 copies the old members by itself, the new members and the index go up behind them, and the object appears
whole. It replaces the version that was opened, and no other one.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from blobpack.editing.blob_state import read_state
from blobpack.editing.new_members import AppendResult, NewMembers, NothingAdded
from blobpack.index.index import Index
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.identity import Witness
from blobpack.packing.sources import expected_bytes
from blobpack.stores.base import TAIL_BYTES
from blobpack.stores.memory import MemoryStore
from blobpack.writing.embed import write_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.stores.location import Location
    from blobpack.stores.s3.store import S3Store


def append_in_s3(location: Location, new: NewMembers) -> AppendResult:
    """Add members to a blob in S3."""
    from blobpack.stores.s3.store import S3Store

    added = Index()
    with S3Store(location, tail_bytes=TAIL_BYTES) as store:
        before = read_state(store, new.stale)
        found = new.find()
        new_bytes = expected_bytes(found)
        found = new.check_names(found, before)
        index, blob_bytes = before.index, store.size
        with suppress(NothingAdded), continuing_upload(store, before.end, new_bytes) as tail:
            added, _ = new.write(found, before, tail, location.text)
            index = before.joined(added)
            index.identity = tail.identity()
            if before.place == "embed":
                write_behind(tail.sink, index, index.identity)
            blob_bytes = tail.sink.tell()
    if added and before.place == "sidecar" and index.identity:
        index.identity = replace(index.identity, version=tail.sink.version)
        index.save(sidecar_of(location))
    return AppendResult(before, added, index, blob_bytes)


@contextmanager
def continuing_upload(store: S3Store, end: int, new_bytes: int | None) -> Iterator[Witness]:
    """Open an object anew behind its first bytes; what is written takes its place when the block ends.

    S3 copies these bytes by itself. If they are fewer than S3 copies as a part, they are read and sent again. Only the
    version that was opened is replaced: if two appends do this at once, at most one succeeds.

    Args:
        store: The object.
        end: How many of its bytes stay.
        new_bytes: Bytes that will be written at most, about; None if that is not known.

    Raises:
        BlobChangedError: the object is another one now, or another upload to it is under way.
        StorageError: S3 refused or could not be reached.
    """
    from blobpack.stores.s3.multipart import UPLOAD_PART_BYTES_MIN
    from blobpack.stores.s3.upload import uploading

    # copies take at most half of the 10,000 parts, so what is written must fit the other half
    expected = None if new_bytes is None else 2 * new_bytes
    with uploading(store.location, expected_bytes=expected, replaces=store.version) as upload:
        upload.claim()
        if end < UPLOAD_PART_BYTES_MIN:
            kept = store.read_range(0, end)
            upload.write(kept)
            yield Witness(upload, MemoryStore(kept), end)
        else:
            upload.copy(store, end)
            yield Witness(upload, store, end)
