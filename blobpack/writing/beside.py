"""The files beside a blob: its index file, its offsets file, and the note of an append.

Strategy: when a blob is replaced, the files of the old blob are removed first. If the process is killed in between, the
old blob is scanned when it is opened. The other way round, the new blob would be refused because of the old index file,
or read through the old offsets file, which says nothing about its blob.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError, FormatError, StorageError
from blobpack.index.offsets import iter_offsets, offsets_path, void_path
from blobpack.indexfile.footer import INDEX_MAGIC, sidecar_of
from blobpack.stores.open import open_store
from blobpack.stores.output import resolve_target, sync_folder, translate_write_errors

if TYPE_CHECKING:
    from blobpack.stores.base import Store
    from blobpack.stores.location import Location

FORBIDDEN = 403


def forget_beside(blob: Location) -> None:
    """Remove the index file and the offsets file beside a blob that is about to be replaced.

    A file of another program that has the name of one of these files stays.

    Raises:
        StorageError: a file can't be removed.
    """
    if blob.is_s3:
        _forget_in_s3(sidecar_of(blob))
        return
    # a blob that is opened through a symbolic link has its files beside the link, or beside the blob
    for path in {Path(blob), resolve_target(blob)}:
        files = [Path(sidecar_of(path)), offsets_path(path)]
        old = [
            file
            for file, is_ours in zip(files, (_is_index, _is_offsets), strict=True)
            if is_ours(file)
        ]
        for file in old:
            with translate_write_errors(file):
                file.unlink(missing_ok=True)
        if old:
            # on disk before the new blob is
            sync_folder(path.parent)
        with translate_write_errors(void_path(path)):
            void_path(path).unlink(missing_ok=True)


def _is_index(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(INDEX_MAGIC)) == INDEX_MAGIC
    # not there, or not readable: then nobody takes it for an index
    except OSError:
        return False


def _is_offsets(path: Path) -> bool:
    try:
        # an empty file has no rows: it is the offsets file of an empty selection
        next(iter_offsets(path, 1), None)
    except (FormatError, StorageError):
        return False
    return True


def _forget_in_s3(sidecar: Location) -> None:
    from blobpack.stores.s3.bucket import Bucket

    try:
        with open_store(sidecar) as store:
            begins = store.read_range(0, min(len(INDEX_MAGIC), store.size))
    except BlobNotFoundError:
        return
    except StorageError as exc:
        # S3 answers 403 and not 404 for a missing object, if the caller may not list the bucket
        if exc.status == FORBIDDEN:
            return
        raise
    if begins == INDEX_MAGIC:
        key = sidecar.key
        Bucket(sidecar.bucket).ask("delete_object", what=f"delete {key}", Key=key)


def forget_note(store: Store) -> None:
    """Remove the note of an interrupted append, after an index or offsets file beside a local blob was made anew.

    Args:
        store: The blob, as it was when its members were read.
    """
    if store.fd is None or store.location is None or not void_path(store.location).exists():
        return
    with suppress(OSError), open(store.location, "rb") as blob:  # noqa: PTH123 (a path of any kind)
        # An append that is at work needs its note. One that has ended since then has added members.
        fcntl.flock(blob, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if is_in_place(store) and store.size == os.fstat(blob.fileno()).st_size:
            void_path(store.location).unlink(missing_ok=True)


def is_in_place(store: Store) -> bool:
    """Return whether the path of a local blob still leads to the file that was opened."""
    if store.fd is None or store.location is None:
        return False
    try:
        now = os.stat(store.location)  # noqa: PTH116 (a path of any kind)
    except OSError:
        return False
    return os.path.samestat(os.fstat(store.fd), now)
