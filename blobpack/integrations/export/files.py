"""The files of an export: split at the limits of the tool, and complete before the first one appears."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from blobpack.errors import StorageError
from blobpack.opening.kind import object_exists
from blobpack.stores.location import Location
from blobpack.stores.output import writing_anywhere
from blobpack.stores.replace import check_replaceable
from blobpack.wording import counted, setting

if TYPE_CHECKING:
    from contextlib import ExitStack

    from blobpack.integrations.export.form import Form, Record


class ExportFiles:
    """The files that records are written to.

    Attributes:
        images: Each file, and the number of its images.
    """

    def __init__(
        self,
        form: Form,
        target: Location | BinaryIO,
        stack: ExitStack,
        *,
        chunk: int | None,
        force: bool,
    ) -> None:
        """Begin the first file.

        Args:
            form: The form of the files.
            target: The first file; the others have a number behind its name. An open file gets everything.
            stack: When it is closed without an error, the files appear.
            chunk: Largest number of images in a file; None for the tool's own limit.
            force: Replace files of any kind.

        Raises:
            StorageError: the file can't be created, or would replace a file of another kind.
        """
        self.images: dict[Location, int] = {}
        self._form, self._target, self._stack, self._force = form, target, stack, force
        limits = [limit for limit in (chunk, form.images_max) if limit]
        is_cut = isinstance(target, Location)
        self._images_max = min(limits) if limits and is_cut else None
        self._bytes_max = form.bytes_max if is_cut else None
        self._between, self._end = (text.encode() for text in form.around[1:])
        self._begin()

    def add(self, record: Record) -> None:
        """Write a record, into the next file if this one is full.

        Raises:
            StorageError: a file can't be created or written, or would replace a file of another kind.
        """
        encoded = self._form.encode(record)
        size = len(self._between) + len(encoded)
        if self._is_full(size + len(self._end)):
            self._finish_file()
            self._begin()
        self._out.write(self._between + encoded if self._count else encoded)
        self._count += 1
        self._bytes += size

    def finish(self) -> None:
        """End the last file.

        Raises:
            StorageError: the file that would be the next one exists, from an export of more images.
        """
        self._finish_file()
        if isinstance(self._target, Location) and not self._force:
            behind = numbered(self._target, len(self.images) + 1)
            if exists(behind):
                raise StorageError(
                    f"{behind}: exists, and would be taken for a part of this export, which has "
                    f"{counted(len(self.images), 'file')}: remove it first; {setting('force', True)} leaves it"
                )

    def _is_full(self, more: int) -> bool:
        if self._images_max and self._count == self._images_max:
            return True
        # a record that is too large for any file is written alone
        return bool(self._bytes_max and self._count and self._bytes + more > self._bytes_max)

    def _begin(self) -> None:
        self._count = 0
        self._out = self._opened()
        before = self._form.around[0].encode()
        self._out.write(before)
        self._bytes = len(before)

    def _opened(self) -> BinaryIO:
        if not isinstance(self._target, Location):
            return self._target
        self._location = numbered(self._target, len(self.images) + 1)
        check_replaceable(self._location, self._form.output, force=self._force)
        return self._stack.enter_context(writing_anywhere(self._location))

    def _finish_file(self) -> None:
        self._out.write(self._form.end(self._count))
        if isinstance(self._target, Location):
            self.images[self._location] = self._count


def numbered(first: Location, number: int) -> Location:
    """Return the file of a number: tasks.json, tasks-2.json and so on."""
    if number == 1:
        return first
    stem, suffix = os.path.splitext(first.whole)  # noqa: PTH122 (also of keys in S3)
    return Location(f"{stem}-{number}{suffix}", first.kind)


def exists(location: Location) -> bool:
    """Return whether there is a file or object.

    Raises:
        StorageError: S3 could not be reached.
    """
    if location.has_key:
        return object_exists(location)
    return os.path.lexists(location.path)
