"""The folder or prefix that the blobs of a set are written to. After an error, nothing is left in it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from blobpack.errors import StorageError
from blobpack.stores.access.objects import delete_object, first_below, list_objects
from blobpack.stores.arguments import location_of
from blobpack.stores.location import Location
from blobpack.stores.output import translate_write_errors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from blobpack.stores.access.remote import Access


def shard_location(url: str | os.PathLike[str], access: Access) -> Location:
    """Parse the folder or prefix that shards go to; nothing is read.

    Raises:
        TypeError: the argument is not a path or URL.
        ValueError: a URL is neither local nor in S3, or names no prefix.
    """
    location = location_of("folder", url, prefix=True, access=access)
    if not location.is_local and not (location.has_key and location.key.strip("/")):
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
    folder = folder_at(location)
    folder.open()
    with discarded_on_error(folder):
        yield folder


def folder_at(location: Location) -> ShardFolder:
    """Return the folder or prefix at a location, which is not opened."""
    return ObjectPrefix(location) if location.has_key else LocalFolder(location)


@contextmanager
def discarded_on_error(written: Discardable) -> Iterator[None]:
    """Remove what was written if the block fails."""
    try:
        yield
    # BaseException: after Ctrl-C, too
    except BaseException as exc:
        try:
            written.discard()
        except StorageError as failed:
            # a note, because the error of the block is the one to report
            exc.add_note(str(failed))
        raise


class Discardable(Protocol):
    """A set of files that can be removed as a whole."""

    def discard(self) -> None:
        """Remove it.

        Raises:
            StorageError: a part can't be removed.
        """


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
    def open(self, besides: str = "") -> None:
        """Make the folder if it does not exist, and check that it is empty.

        Args:
            besides: A part of the names of files that may be there; empty: none may.

        Raises:
            StorageError: the folder is not empty, or can't be made.
        """

    @abstractmethod
    def discard(self) -> None:
        """Remove all files that were begun.

        Raises:
            StorageError: a file can't be removed.
        """

    @abstractmethod
    def sweep(self, mark: str, keep: Collection[str] = ()) -> None:
        """Remove what processes that may have been killed have written, unfinished files and uploads included.

        Args:
            mark: A part of the names of what is removed.
            keep: Names of files that stay.

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

    def open(self, besides: str = "") -> None:
        """Make the folder, or check that it is empty; see ShardFolder."""
        with translate_write_errors(self._path):
            self._path.mkdir(parents=True, exist_ok=True)
            # shards of an earlier pack would be read as part of this set by a glob over the folder
            if any(not besides or besides not in path.name for path in self._path.iterdir()):
                raise StorageError(
                    f"{self._path}: is not empty: shards are packed to a folder of their own"
                )

    def discard(self) -> None:
        """Remove the files that were begun, and the folder; see ShardFolder."""
        with translate_write_errors(self._path):
            for location in self.begun:
                Path(location).unlink(missing_ok=True)
        self._remove_if_empty()

    def sweep(self, mark: str, keep: Collection[str] = ()) -> None:
        """Remove files, and the hidden files that would have become such files; see ShardFolder."""
        with translate_write_errors(self._path), suppress(FileNotFoundError):
            for path in self._path.iterdir():
                if mark in path.name and path.name not in keep:
                    path.unlink(missing_ok=True)
        self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        # the folder stays if somebody else has put a file there
        with suppress(OSError):
            self._path.rmdir()


class ObjectPrefix(ShardFolder):
    """A prefix, in S3 or in another cloud, for the blobs of a set."""

    def __init__(self, location: Location) -> None:
        """Remember the prefix; no request is sent."""
        super().__init__()
        # with a "/" at its end, so that "train" does not count the objects of "train-old/"
        self._location = location.as_folder

    def location_of(self, name: str) -> Location:
        """Return the location of an object below the prefix."""
        return self._location.below(name)

    def open(self, besides: str = "") -> None:
        """Check that there is no object below the prefix; see ShardFolder."""
        # Another pack may begin after this check. Then the conditional writes of the shards decide
        # which pack succeeds.
        found = first_below(self._location)
        if found is not None and besides:
            place = len(self._location.key)
            keys = (each.key for each in list_objects(self._location))
            found = next((key for key in keys if besides not in key[place:]), None)
        if found is not None:
            raise StorageError(
                f"{self._location}: is not empty, there is {found}: shards are packed to a "
                f"prefix of their own; if a killed pack has left shards there without a collection, delete them first"
            )

    def discard(self) -> None:
        """Delete the objects that were begun; see ShardFolder."""
        self._delete(self.begun)

    def sweep(self, mark: str, keep: Collection[str] = ()) -> None:
        """Delete objects, and abort the uploads of such objects; see ShardFolder."""
        prefix = self._location.key
        # Uploads are aborted first. If one of them ends meanwhile, its object is in the listing of objects that follows.
        if self._location.is_s3:
            self._abort_uploads(mark)
        names = [found.key.removeprefix(prefix) for found in list_objects(self._location)]
        self._delete(self.location_of(name) for name in names if mark in name and name not in keep)

    def _abort_uploads(self, mark: str) -> None:
        from blobpack.stores.s3.answers import is_unlisted
        from blobpack.stores.s3.bucket import Bucket, ObjectKey
        from blobpack.stores.s3.unfinished import abort_upload, list_uploads

        bucket, prefix = Bucket.at(self._location), self._location.key
        try:
            for upload in list_uploads(bucket, prefix):
                if mark in upload.key.removeprefix(prefix):
                    abort_upload(ObjectKey(bucket, upload.key), upload.id)
        except StorageError as exc:
            # The server can't list uploads, or the right to list them is missing. S3 may then keep their parts.
            if not is_unlisted(exc):
                raise

    def _delete(self, locations: Iterable[Location]) -> None:
        left: list[StorageError] = []
        for location in locations:
            try:
                delete_object(location)
            except StorageError as exc:
                # the other objects may still be deleted
                left.append(exc)
        if left:
            raise StorageError(f"{left[0]}; {len(left)} objects may be left below {self._location}")
