"""Checks of the target of a new blob: it may replace a blob, but never a file of another kind.

`blobpack pack photo.jpg out.tar`, typed with the arguments exchanged, must not destroy the photo.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError, StorageError
from blobpack.stores.open import open_store
from blobpack.stores.output import resolve_target
from blobpack.stores.zstd_format import is_zstd
from blobpack.tar.header import BLOCK, begins_tar
from blobpack.writing.compress import is_compressed_target

if TYPE_CHECKING:
    from blobpack.stores.base import Store
    from blobpack.stores.location import Location


def check_target(target: Location) -> os.stat_result | None:
    """Check the local file that a new blob would replace.

    Returns:
        The state of the file, by which pack recognises it among its sources; None if there is no file.

    Raises:
        StorageError: there is something else than a plain file; or the file is neither empty nor a tar, nor zstd if the
            new blob is compressed.
    """
    path = resolve_target(target)
    try:
        with path.open("rb") as file:
            block = file.read(BLOCK)
            state = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageError(f"{target}: can't be replaced: {exc.strerror}") from exc
    if not (is_compressed_target(path) and is_zstd(block)):
        _check_tar(block, target)
    return state


def check_remote_target(target: Location) -> bool:
    """Check the object in S3 that a new blob would replace.

    Returns:
        Whether there is an object.

    Raises:
        StorageError: the object is neither empty nor a tar, or S3 can't be reached.
    """
    try:
        with open_store(target) as store:
            block = store.read_range(0, min(BLOCK, store.size))
    except BlobNotFoundError:
        return False
    _check_tar(block, target)
    return True


def _check_tar(block: bytes, target: Location) -> None:
    # An empty file may be replaced: mktemp(1) makes such a target.
    if block and not begins_tar(block):
        raise StorageError(
            f"{target}: exists and is no tar, so it is not replaced; remove it first"
        )


def refuse_same_file(target: Location, store: Store) -> None:
    """Check that a blob is not written to the file that it is read from.

    Raises:
        StorageError: the target is the file of the store.
    """
    fd = store.fd
    if fd is None:
        return
    # by device and inode, because two paths may lead to one file
    try:
        is_source = os.path.samestat(os.stat(target), os.fstat(fd))  # noqa: PTH116 (paths of any kind)
    except FileNotFoundError:
        return
    if is_source:
        raise StorageError(f"{target}: can't be written, because a source is read from this file")
