"""Checks of the target of a new blob: which files it may replace, and that it is not its own source."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, StorageError
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.open import INDEX
from blobpack.stores.open import is_denied
from blobpack.stores.replace import OutputKind, check_replaceable
from blobpack.stores.zstd.format import is_zstd
from blobpack.tar.header import BLOCK, begins_tar
from blobpack.writing.compress import is_compressed_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.model import IndexPlace
    from blobpack.stores.base import Store
    from blobpack.stores.location import Location


def _is_tar(store: Store) -> bool:
    return begins_tar(store.read_range(0, min(BLOCK, store.size)))


def _is_compressed_tar(store: Store) -> bool:
    return is_zstd(store.read_range(0, min(BLOCK, store.size))) or _is_tar(store)


TAR = OutputKind("tar", _is_tar)
# It may also replace a plain tar. Only the suffix decides whether a blob is compressed, so that is no mistake.
COMPRESSED_TAR = OutputKind("compressed tar", _is_compressed_tar)


def kind_of(target: Location) -> OutputKind:
    """Return the kind of blob that is written to a target."""
    return COMPRESSED_TAR if is_compressed_target(target) else TAR


def check_target(target: Location, place: IndexPlace, *, force: bool) -> bool | None:
    """Check what a new blob, and the index file beside it, would replace.

    Returns:
        Whether there is a blob that is replaced; None if S3 does not let the caller look. Then the blob must be written
        so that it replaces nothing.

    Raises:
        StorageError: a file or object of another kind would be replaced; see check_replaceable.
    """
    if place == "sidecar":
        check_replaceable(sidecar_of(target), INDEX, force=force)
    try:
        return check_replaceable(target, kind_of(target), force=force)
    except StorageError as exc:
        if is_denied(exc):
            return None
        raise


@contextmanager
def replacing_unseen(exists: bool | None) -> Iterator[None]:
    """Explain the error of a block that writes a new blob where the caller could not look.

    Args:
        exists: What check_target returned.

    Raises:
        BlobChangedError: there is an object already.
    """
    try:
        yield
    except BlobChangedError as exc:
        if exists is not None:
            raise
        raise BlobChangedError(
            f"{exc}: only with the right s3:GetObject could be seen whether it may be replaced"
        ) from exc


def refuse_same_file(target: Location, source: Location | None, fd: int | None) -> None:
    """Check that a blob is not written to the file or object that it is read from.

    Args:
        target: The blob to write.
        source: The blob that is read; None for one in memory.
        fd: Descriptor of the blob that is read, if it is an open local file.

    Raises:
        StorageError: the target is the source.
    """
    is_source = source == target
    opened = fd if fd is not None else source if source and source.is_local else None
    if target.is_local and opened is not None:
        # by device and inode, because two paths may lead to one file; one of them may not exist
        with suppress(OSError):
            is_source = os.path.samestat(os.stat(target), os.stat(opened))  # noqa: PTH116 (paths of any kind)
    if is_source:
        raise StorageError(f"{target}: can't be written, because a source is read from this file")
