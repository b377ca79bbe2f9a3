"""Where a new file goes, by its URL: beside the place it takes at the end, or up to S3 as it is written."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from blobpack.indexfile.identity import Witness
from blobpack.stores import is_local, local_name
from blobpack.stores.atomic import replacing
from blobpack.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.stores.s3.store import S3Store


@contextmanager
def writing(
    url: str | os.PathLike[str],
    *,
    expected_bytes: int | None = None,
    resume: bool = False,
    new: bool = False,
) -> Iterator[BinaryIO]:
    """Open a new file or object that takes url's place when the block ends without an error.

    Args:
        url: A path, file:// or s3:// URL. An object can only be written front to back.
        expected_bytes: What it will have at most, about; for S3.
        resume: Go on with an upload to S3 that was interrupted.
        new: In S3, there must be no object yet.

    Raises:
        BlobChangedError: one is there.
        StorageError: it can't be created, written or put in place.
    """
    if is_local(url):
        with replacing(local_name(url)) as file:
            yield file
        return
    from blobpack.stores.s3.upload import uploading

    with uploading(os.fspath(url), expected_bytes=expected_bytes, resume=resume, new=new) as upload:
        yield cast("BinaryIO", upload)


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
