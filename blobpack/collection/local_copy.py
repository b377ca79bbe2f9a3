"""A copy of a remote file on the local disk, for work that reads all of it."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blobpack.look_ahead import map_ahead
from blobpack.stores.local import LocalStore
from blobpack.stores.output import translate_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.stores.base import Store

# so many bytes are held in memory at most: WINDOWS_AHEAD windows
WINDOW_BYTES = 4 << 20
WINDOWS_AHEAD = 4


@contextmanager
def local_copy(store: Store) -> Iterator[LocalStore]:
    """Copy a store into an unnamed temporary file, and open that for a block. Errors name the store's URL.

    Raises:
        StorageError: the store can't be read, or the copy can't be written.
    """

    def read(start: int) -> bytes:
        return store.read_range(start, min(start + WINDOW_BYTES, store.size))

    with tempfile.TemporaryFile() as file:
        windows = map_ahead(
            read,
            range(0, store.size, WINDOW_BYTES),
            threads=WINDOWS_AHEAD,
            most=WINDOWS_AHEAD,
            name="copy",
        )
        for window in windows:
            with translate_write_errors(f"a copy of {store.url} in {tempfile.gettempdir()}"):
                file.write(window)
        file.flush()
        with LocalStore(tempfile.gettempdir(), fd=file.fileno()) as copy:
            copy.url = store.url
            yield copy
