"""The folder or prefix that the blobs of a set go to: its own, and after an error as it was."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.errors import StorageError
from blobpack.stores.location import Location, location_of
from blobpack.stores.output import translate_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator


def shard_location(url: str | os.PathLike[str]) -> Location:
    """Return where shards go, whatever is there.

    Raises:
        TypeError: it is no path or URL.
        ValueError: a URL that is neither local nor in S3, or names no prefix.
    """
    location = location_of("folder", url, prefix=True)
    if not location.is_local and not (location.is_s3 and location.key.strip("/")):
        raise ValueError(
            f"folder must be a local path or s3://bucket/prefix, not {location.text!r}"
        )
    return location


@contextmanager
def shard_folder(location: Location) -> Iterator[ShardFolder]:
    """Open an empty folder or prefix for blobs; if the block fails, nothing of it is left there.

    Args:
        location: A folder, which need not be there; or s3://bucket/prefix, with or without a "/" at its end.

    Raises:
        StorageError: it is not empty, or can't be made.
    """
    folder: ShardFolder = S3Prefix(location) if location.is_s3 else LocalFolder(location)
    folder.open()
    try:
        yield folder
    except BaseException as exc:
        try:
            folder.discard()
        except StorageError as failed:
            exc.add_note(str(failed))
        raise


class ShardFolder(ABC):
    """Where blobs go, and their collection.

    Attributes:
        begun: What was begun to be written to it: it may be there.
    """

    def __init__(self) -> None:
        self.begun: list[Location] = []

    def begin(self, name: str) -> Location:
        """Return where a file of that name goes, and note that it was begun."""
        self.begun.append(self.location_of(name))
        return self.begun[-1]

    @abstractmethod
    def location_of(self, name: str) -> Location:
        """Return where a file of that name goes."""

    @abstractmethod
    def open(self) -> None:
        """Make it, if that is needed, and see that it is empty.

        Raises:
            StorageError: it is not, or can't be made.
        """

    @abstractmethod
    def discard(self) -> None:
        """Remove what was begun.

        Raises:
            StorageError: something can't be removed.
        """


class LocalFolder(ShardFolder):
    """A folder."""

    def __init__(self, location: Location) -> None:
        """Take its path."""
        super().__init__()
        self._path = Path(location)

    def location_of(self, name: str) -> Location:
        """Return a path in it."""
        return Location(os.fspath(self._path / name), "local")

    def open(self) -> None:
        """Make it, unless it is there and empty."""
        with translate_write_errors(self._path):
            self._path.mkdir(parents=True, exist_ok=True)
            if any(self._path.iterdir()):
                raise StorageError(
                    f"{self._path}: is not empty: shards are packed to a folder of their own"
                )

    def discard(self) -> None:
        """Remove the files, and the folder."""
        with translate_write_errors(self._path):
            for location in self.begun:
                Path(location).unlink(missing_ok=True)
        with suppress(OSError):
            self._path.rmdir()


class S3Prefix(ShardFolder):
    """A prefix in S3."""

    def __init__(self, location: Location) -> None:
        """Take s3://bucket/prefix."""
        from blobpack.stores.s3.bucket import Bucket

        super().__init__()
        self._location = location.as_folder
        self._bucket = Bucket(self._location.bucket)

    def location_of(self, name: str) -> Location:
        """Return the location of an object below it."""
        return self._location.below(name)

    def open(self) -> None:
        """See that there is no object below it."""
        page = self._bucket.ask(
            "list_objects_v2", what="list what is there", Prefix=self._location.key, MaxKeys=1
        )
        if page.get("Contents"):
            raise StorageError(
                f"{self._location}: is not empty, there is {page['Contents'][0]['Key']}: shards are packed to a "
                f"prefix of their own; what a kill has left there, without a collection, is to be deleted first"
            )

    def discard(self) -> None:
        """Delete the objects; S3 does not mind those that are not there."""
        left: list[StorageError] = []
        for key in [location.key for location in self.begun]:
            try:
                self._bucket.ask("delete_object", what=f"delete {key}", Key=key)
            except StorageError as exc:
                left.append(exc)
        if left:
            raise StorageError(f"{left[0]}; {len(left)} objects may be left below {self._location}")
