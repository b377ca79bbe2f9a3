"""Append members to a collection: they are packed into a new blob beside the others.

Strategy: the new blob is written first, and then the collection's file is replaced by one that has it, too. If the
process is killed between the two, the collection is the old one, and the new blob lies beside it unused. The old
members are copied from the collection's file, so no other blob is opened.

Of two appends at the same time, at most one succeeds; see collection/held.py. In S3, a new blob replaces nothing
(If-None-Match).
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.collection.held import held_collection, opened_collection, replacing_collection
from blobpack.editing.new_members import AppendResult, NewMembers, NothingAdded
from blobpack.errors import BlobChangedError, BlobNotFoundError, BlobpackError, StorageError
from blobpack.index.index import Index
from blobpack.indexfile.open import open_table
from blobpack.opening.collection import open_collection
from blobpack.opening.join import Collected, CollectionWriter
from blobpack.opening.kind import collection_location, kind_of, object_exists
from blobpack.opening.locations import name_from
from blobpack.packing.members import write_members
from blobpack.packing.shards import SHARD_NAME
from blobpack.packing.sources import expected_bytes
from blobpack.stores.access.objects import delete_object
from blobpack.stores.location import Location
from blobpack.stores.output import (
    translate_write_errors,
)
from blobpack.stores.sink import FileSink
from blobpack.writing.new_blob import new_blob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobpack.indexfile.shard_table import Shard
    from blobpack.packing.sources import ResolvedSource

# blobs of a collection that pack_shards has named; 18 digits at most, because a collection may come from somebody else
NUMBERED = re.compile(r"([0-9]{5,18})\.tar(?:\.zst)?")


def collection_at(location: Location) -> Location | None:
    """Return the location of a collection's file, from the file or from its folder or prefix; None for one blob."""
    kind = kind_of(location)
    return collection_location(location, kind) if kind in ("collection", "folder") else None


def append_to_collection(given: Location, location: Location, new: NewMembers) -> AppendResult:
    """Append members to a collection; see append.

    Args:
        given: What the caller named, for messages.
        location: The collection's file.
        new: The members.

    Raises:
        BlobpackError: as described for append.
    """
    with (
        held_collection(given, location) as check_held,
        opened_collection(given, location) as (before, store),
    ):
        found = new.find()
        # before check_names, which may turn objects of known sizes into a generator of payloads without sizes
        new_bytes = expected_bytes(found)
        found = new.check_names(found, before.index, before.index, location)
        shard = _next_shard(location, before.shards)
        try:
            added, blob_bytes = _write_shard(shard, found, new, new_bytes)
        except NothingAdded:
            added, blob_bytes = Index(), 0
        except BlobChangedError as exc:
            raise _other_append(location, exc) from exc
        else:
            with _removed_after_error(shard, location):
                _write_collection(location, before, shard, store.version, check_held)
    return AppendResult(
        place="embed",
        added=added,
        # not closed here, because the index is read from the file
        index=open_collection(location).index,
        blob_bytes=sum(one.blob_bytes for one in before.shards) + blob_bytes,
        shard=shard.text if added else None,
        blobs=len(before.shards) + bool(added),
    )


def _next_shard(collection: Location, shards: list[Shard]) -> Location:
    """Return the location of a new blob beside a collection: the number after those of its blobs, and of other files."""
    numbers = [int(match[1]) for shard in shards if (match := NUMBERED.fullmatch(shard.name))]
    number = max(numbers, default=-1) + 1
    # an append that was killed may have left a blob that the collection does not have
    while _exists(shard := _beside(collection, SHARD_NAME.format(number))):
        number += 1
    return shard


def _beside(collection: Location, name: str) -> Location:
    if collection.is_local:
        # not Location.folder, which is absolute: messages show paths as the caller wrote them
        folder = os.path.dirname(collection.path)  # noqa: PTH120 (a str)
        return Location(os.path.join(folder, name), "local", collection.access)  # noqa: PTH118
    return collection.folder.below(name)


def _exists(blob: Location) -> bool:
    return os.path.lexists(blob.path) if blob.is_local else object_exists(blob)


def _write_shard(
    shard: Location, found: ResolvedSource, new: NewMembers, new_bytes: int | None
) -> tuple[Index, int]:
    """Write the new blob; return its members and its size.

    Raises:
        NothingAdded: every file was skipped, and there is no new blob.
        BlobChangedError: there is such a blob already.
    """
    with new_blob(shard, expected_bytes=new_bytes, new=True) as blob:
        added, position = write_members(
            found, blob.tar, new.skipped, new.options, target=shard.text
        )
        # raised inside the block, so that the empty blob never appears
        if not added:
            raise NothingAdded
        size = blob.finish(added, position, "embed")
    return added, size


def _write_collection(
    location: Location,
    before: Collected,
    shard: Location,
    version: str,
    check_held: Callable[[], None] | None,
) -> None:
    """Replace the file of a collection by one that has a new blob, too."""
    # "last": new names were compared before the blob was written, and the old ones may have been collected so
    writer = CollectionWriter(
        [shard], location.folder, duplicates="last", scan=False, before=before
    )
    with replacing_collection(location, version, check_held) as file:
        writer.write(FileSink(file))


@contextmanager
def _removed_after_error(shard: Location, location: Location) -> Iterator[None]:
    """Remove a new blob after an error in the block, unless the collection has it.

    Raises:
        BlobChangedError: the collection was replaced meanwhile by one that lacks the blob.
    """
    try:
        yield
    # BaseException: after Ctrl-C, too
    except BaseException as exc:
        # An answer of S3 may be lost, so that the file was replaced in spite of an error. And a `collect` that replaced
        # the file may have found the new blob.
        is_there = _has_blob(location, shard)
        if is_there is False:
            _remove(shard, exc)
            if isinstance(exc, BlobChangedError):
                raise _other_append(location, exc) from exc
        if not (is_there and isinstance(exc, BlobChangedError)):
            raise


def _has_blob(location: Location, shard: Location) -> bool | None:
    """Return whether a collection has a blob; None if it can't be read."""
    name = name_from(location.folder, shard)
    try:
        store, _, shards = open_table(location, None)
    except BlobNotFoundError:
        return False
    except BlobpackError:
        return None
    with store:
        return any(shards[number].name == name for number in reversed(range(len(shards))))


def _remove(shard: Location, exc: BaseException) -> None:
    """Remove a blob; if it can't be removed, a note on the error says so."""
    try:
        if shard.is_local:
            with translate_write_errors(shard):
                Path(shard.path).unlink(missing_ok=True)
            return
        delete_object(shard)
    except StorageError as failed:
        exc.add_note(f"{failed}; the collection does not have {shard}, so it may be deleted")


def _other_append(location: Location, exc: BlobChangedError) -> BlobChangedError:
    return BlobChangedError(
        f"{location}: another append or collect ran at the same time; nothing was lost, and nothing was appended: {exc}"
    )
