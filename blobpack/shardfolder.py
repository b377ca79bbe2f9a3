"""The folder that the blobs of a set go to: its own, and after an error as it was."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.atomic import said_of
from blobpack.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator


class ShardFolder:
    """A folder that was empty.

    Attributes:
        written: The blobs in it, and the one that is being written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Make it, unless it is there.

        Raises:
            StorageError: it is not empty, or can't be made.
        """
        self._folder = Path(folder)
        self.written: list[str] = []
        with said_of(folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            if any(self._folder.iterdir()):
                raise StorageError(
                    f"{os.fspath(folder)}: is not empty: shards are packed to a folder of their own"
                )

    def path_of(self, name: str) -> str:
        """Say where a file of that name goes."""
        return os.fspath(self._folder / name)

    def begin(self, name: str) -> str:
        """Count a blob, and say where it goes."""
        self.written.append(self.path_of(name))
        return self.written[-1]

    def discard(self) -> None:
        """Remove the blobs, and the folder."""
        for path in self.written:
            Path(path).unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()


@contextmanager
def shard_folder(folder: str | os.PathLike[str]) -> Iterator[ShardFolder]:
    """Open a folder for blobs; if the block fails, none of them is left.

    Raises:
        StorageError: it is not empty, or can't be made.
    """
    if "://" in os.fspath(folder):
        raise StorageError(
            f"{os.fspath(folder)}: shards are packed to a local folder; upload it then"
        )
    place = ShardFolder(folder)
    try:
        yield place
    except BaseException:
        place.discard()
        raise
