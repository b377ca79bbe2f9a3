"""Members appended to a blob in S3, which is made anew and never downloaded.

S3 copies the old members by itself, what is new and the index go up behind them, and the object appears whole, in
place of the one that was opened and of no other one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from blobpack.editing.blob_state import examine
from blobpack.editing.new_members import Done, New, NothingAdded
from blobpack.index.index import Index
from blobpack.indexfile.footer import sidecar_path
from blobpack.packing.sources import expected_bytes
from blobpack.stores.open import open_store
from blobpack.stores.output import continuing
from blobpack.writing.embed import write_behind

if TYPE_CHECKING:
    from blobpack.stores.s3.store import S3Store
    from blobpack.stores.s3.upload import Upload


def append_anew(url: str, new: New) -> Done:
    """Add members to a blob in S3."""
    added = Index()
    with open_store(url, tail=True) as store:
        before = examine(store, new.stale)
        found = new.find()
        new_bytes = expected_bytes(found)
        found = new.checked(found, before)
        index, blob_bytes = before.index, store.size
        with (
            suppress(NothingAdded),
            continuing(cast("S3Store", store), before.end, new_bytes) as tail,
        ):
            added, end = new.write(found, before, tail, url)
            index = before.joined(added)
            index.identity = tail.identity()
            if before.place == "embed":
                write_behind(tail, index, end)
            blob_bytes = tail.file.tell()
    if added and before.place == "sidecar" and index.identity:
        index.identity = replace(index.identity, version=cast("Upload", tail.file).version)
        index.save(sidecar_path(url))
    return Done(before, added, index, blob_bytes)
