"""The folder or prefix that the blobs of a set are written to. After an error, nothing is left in it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.errors import StorageError
from blobpack.stores.arguments import location_of
from blobpack.stores.location import Location
from blobpack.stores.output import translate_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.stores.access.remote import Access


def shard_location(url: str | os.PathLike[str], access: Access) -> Location:
    """Parse the folder or prefix that shards go to; nothing is read.

    Raises:
        TypeError: the argument is not a path or URL.
        ValueError: a URL is neither local nor in S3, or names no prefix.
    """
    location = location_of("folder", url, prefix=True, access=access)
    if not location.is_local and not (location.is_s3 and location.key.strip("/")):
        raise ValueError(
            f"folder must be a local path or s3://bucket/prefix, not {location.text!r}"
        )
    return location


@contextmanager
def shard_folder(location: Location) -> Iterator[ShardFolder]:
    """Open an empty folder or prefix for blobs; if the block fails, what was written to it is removed.

    Args:
        location: A folder, which is made if it does not exist; or s3://bucket/prefix, with or without a "/" at its
            end.

    Raises:
        StorageError: the folder or prefix is not empty, or the folder can't be made.
    """
    folder: ShardFolder = S3Prefix(location) if location.is_s3 else LocalFolder(location)
    folder.open()
    try:
        yield folder
    # BaseException: after Ctrl-C, too
    except BaseException as exc:
        try:
            folder.discard()
        except StorageError as failed:
            # a note, because the error of the block is the one to report
            exc.add_note(str(failed))
        raise


class ShardFolder(ABC):
    """A folder for the blobs of a set and their collection.

    Attributes:
        begun: Locations of the files that `begin` returned, whether or not the files exist yet.
    """

    def __init__(self) -> None:
        self.begun: list[Location] = []

    def begin(self, name: str) -> Location:
        """Return the location of a new file, and remember it for discard."""
        # Remembered before the file is written, because even an interrupted upload may have made
        # the object.
        self.begun.append(self.location_of(name))
        return self.begun[-1]

    @abstractmethod
    def location_of(self, name: str) -> Location:
        """Return the location of a file with that name."""

    @abstractmethod
    def open(self) -> None:
        """Make the folder if it does not exist, and check that it is empty.

        Raises:
            StorageError: the folder is not empty, or can't be made.
        """

    @abstractmethod
    def discard(self) -> None:
        """Remove all files that were begun.

        Raises:
            StorageError: a file can't be removed.
        """


class LocalFolder(ShardFolder):
    """A local folder for the blobs of a set."""

    def __init__(self, location: Location) -> None:
        """Remember the folder; it is made by `open`."""
        super().__init__()
        self._path = Path(location)
        self._access = location.access

    def location_of(self, name: str) -> Location:
        """Return the path of a file in the folder."""
        return Location(os.fspath(self._path / name), "local", self._access)

    def open(self) -> None:
        """Make the folder, or check that it is empty; see ShardFolder."""
        with translate_write_errors(self._path):
            self._path.mkdir(parents=True, exist_ok=True)
            # shards of an earlier pack would be read as part of this set by a glob over the folder
            if any(self._path.iterdir()):
                raise StorageError(
                    f"{self._path}: is not empty: shards are packed to a folder of their own"
                )

    def discard(self) -> None:
        """Remove the files that were begun, and the folder; see ShardFolder."""
        with translate_write_errors(self._path):
            for location in self.begun:
                Path(location).unlink(missing_ok=True)
        # the folder stays if somebody else has put a file there
        with suppress(OSError):
            self._path.rmdir()


class S3Prefix(ShardFolder):
    """A prefix in S3 for the blobs of a set."""

    def __init__(self, location: Location) -> None:
        """Remember the prefix; no request is sent."""
        from blobpack.stores.s3.bucket import Bucket

        super().__init__()
        # with a "/" at its end, so that "train" does not count the objects of "train-old/"
        self._location = location.as_folder
        self._bucket = Bucket.at(self._location)

    def location_of(self, name: str) -> Location:
        """Return the location of an object below the prefix."""
        return self._location.below(name)

    def open(self) -> None:
        """Check that there is no object below the prefix; see ShardFolder."""
        # Another pack may begin after this check. Then the conditional writes of the shards decide
        # which pack succeeds.
        page = self._bucket.ask(
            "list_objects_v2", what="list what is there", Prefix=self._location.key, MaxKeys=1
        )
        if page.get("Contents"):
            raise StorageError(
                f"{self._location}: is not empty, there is {page['Contents'][0]['Key']}: shards are packed to a "
                f"prefix of their own; if a killed pack has left shards there without a collection, delete them first"
            )

    def discard(self) -> None:
        """Delete the objects that were begun; see ShardFolder."""
        left: list[StorageError] = []
        for key in [location.key for location in self.begun]:
            # S3 answers the deletion of a missing object with success
            try:
                self._bucket.ask("delete_object", what=f"delete {key}", Key=key)
            except StorageError as exc:
                # the other objects may still be deleted
                left.append(exc)
        if left:
            raise StorageError(f"{left[0]}; {len(left)} objects may be left below {self._location}")
