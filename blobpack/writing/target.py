"""What a new blob would replace: nothing, or a blob; never a file that is none."""

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
    """Find the file that a blob would replace, if there is one, and refuse to lose one that is no tar.

    Raises:
        StorageError: it is not a plain file, or neither empty nor a tar, nor zstd where that is written.
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
        _refuse_no_tar(block, target)
    return state


def check_far_target(target: Location) -> bool:
    """Tell whether there is an object that a blob would replace, and refuse to lose one that is no tar.

    Raises:
        StorageError: it is neither empty nor a tar, or S3 can't be reached.
    """
    try:
        with open_store(target) as store:
            block = store.read_range(0, min(BLOCK, store.size))
    except BlobNotFoundError:
        return False
    _refuse_no_tar(block, target)
    return True


def _refuse_no_tar(block: bytes, target: Location) -> None:
    if block and not begins_tar(block):
        raise StorageError(f"{target}: exists and is no tar; it is not replaced: remove it first")


def refuse_same_file(target: Location, store: Store) -> None:
    """Refuse to write what is read from.

    Raises:
        StorageError: the store is that of the target.
    """
    if store.fd is None:
        return
    try:
        same = os.path.samestat(os.stat(target), os.fstat(store.fd))  # noqa: PTH116 (paths of any kind)
    except FileNotFoundError:
        return
    if same:
        raise StorageError(f"{target}: can't be written: it is read from, too")
