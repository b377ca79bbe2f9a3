"""The file of a collection while blobs are added to it.

Of two processes that add at the same time, at most one succeeds. Local ones lock the collection's file. In a bucket, the new file
replaces only the version that was read (If-Match). If there is no collection yet, neither replaces what the other has made.

`collect` without `add` replaces whatever is there, and takes no lock on it. So every writer of a local collection locks
the folder, from its last look at the old file until the new file is in its place.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO

from blobpack.collection.local_copy import local_copy
from blobpack.errors import BlobChangedError, BlobNotFoundError
from blobpack.index.index import Index
from blobpack.indexfile.open import open_stored, open_table
from blobpack.opening.collection import no_collection
from blobpack.opening.join import Collected
from blobpack.stores.access.objects import replacing_object
from blobpack.stores.output import (
    UPLOAD_READ_BYTES,
    folder_locked,
    replacing,
    resolve_target,
    writing_anywhere,
)
from blobpack.writing.blob_file import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blobpack.stores.base import Store
    from blobpack.stores.location import Location


@contextmanager
def held_collection(given: Location, location: Location) -> Iterator[Callable[[], None] | None]:
    """Lock a local collection against other appends, for a block.

    Returns:
        A function that checks that the file is still in place; None for a collection in a bucket.

    Raises:
        BlobNotFoundError: there is no collection.
        StorageError: another append is at work on it.
    """
    if not location.is_local:
        yield None
        return
    path = resolve_target(location)
    if not path.exists():
        raise no_collection(given, location)
    with locked(path, location.text) as file:

        def check_in_place() -> None:
            if not file.is_in_place():
                raise BlobChangedError(f"{location} was replaced meanwhile")

        yield check_in_place


@contextmanager
def opened_collection(given: Location, location: Location) -> Iterator[tuple[Collected, Store]]:
    """Open a collection for a block; return its members and blobs, and its file."""
    try:
        store, stored, shards = open_table(location, None)
    except BlobNotFoundError as exc:
        raise no_collection(given, location) from exc
    try:
        with ExitStack() as stack:
            if stored.is_remote:
                # The whole file is needed to write the new one, and each lookup in a remote index takes a request. A copy on
                # disk needs little memory: in memory, three million members took 400 MB.
                copy = stack.enter_context(local_copy(store))
                index = Index._from_stored(open_stored(copy, 0, stored.footer))
            else:
                index = Index._from_stored(stored)
            yield Collected(index, [shards[number] for number in range(len(shards))]), store
    finally:
        stored.close()


@contextmanager
def replacing_collection(
    location: Location, version: str, check_held: Callable[[], None] | None
) -> Iterator[BinaryIO]:
    """Open a new file. When the block ends, it replaces the file of a collection if nobody else has replaced that file."""
    if location.is_local:
        with _replacing(location, check_held) as file:
            yield file
        return
    with replacing_object(location, replaces=version) as upload, tempfile.TemporaryFile() as file:
        # This is checked before anything is written, so that the later of two appends fails at once.
        upload.claim()
        yield file
        file.seek(0)
        shutil.copyfileobj(file, upload, UPLOAD_READ_BYTES)


@contextmanager
def writing_collection(location: Location, *, new: bool) -> Iterator[BinaryIO]:
    """Open a new file. When the block ends, it becomes the file of a collection, and replaces what is there.

    Args:
        location: The file of the collection.
        new: There must be no file when the block ends.

    Raises:
        BlobChangedError: there must be no file, but another process has made one.
        StorageError: the file can't be written.
    """

    def check_new() -> None:
        if new and resolve_target(location).exists():
            raise BlobChangedError(f"{location} was made meanwhile by another process")

    if location.is_local:
        with _replacing(location, check_new) as file:
            yield file
        return
    with writing_anywhere(location, new=new) as file:
        yield file


@contextmanager
def _replacing(location: Location, check: Callable[[], None] | None) -> Iterator[BinaryIO]:
    """Open a new file as `replacing` does; the folder is locked from the check on until the new file is in its place."""
    with ExitStack() as locks:

        def ready() -> None:
            locks.enter_context(folder_locked(resolve_target(location).parent))
            if check:
                check()

        with replacing(location, ready=ready) as file:
            yield file
