"""Check the names of members that become files, all of them before the first file is written.

Strategy: what a target allows depends on its file system: how long a name may be, and which names it takes for one
name. Linux tells the lengths. Whether "A" and "a" are one file is tried out with the two names themselves, in a new
folder beside the target, and only if members have such names.
"""

from __future__ import annotations

import os
import tempfile
import unicodedata
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blobpack._native.packed import normal_name
from blobpack.errors import StorageError, UnsafeNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.stores.location import Location

# Deeper folders are an attack or a mistake, and many tools that copy or remove folders call themselves for each level.
DEPTH_MAX = 256
# the longest key in S3, in UTF-8
KEY_BYTES_MAX = 1024


def split_name(name: str) -> tuple[str, ...]:
    """Split a member's name into its folders and its file name.

    Raises:
        UnsafeNameError: the name is empty or absolute, or holds ".." or NUL.
    """
    # "a//b" and "./a/b" are a/b to every tar tool; a name that ends with "/" has no file name
    parts = tuple(normal_name(name).split("/"))
    if (
        parts == ("",)
        or name.startswith("/")
        or ".." in parts
        or name.endswith("/")
        or "\0" in name
    ):
        raise UnsafeNameError(f"member {name!r} would be written outside the target folder")
    return parts


def check_names(names: Iterable[tuple[str, ...]], folder: str) -> None:
    """Check that each member can become a file below a folder, and that no two of them are in each other's way.

    Args:
        names: The names, split by split_name, each of them once.
        folder: The target folder, which may not exist yet.

    Raises:
        UnsafeNameError: a name is too long or lies too deep, a member is a file where another one needs a folder, or
            the target takes two names for one.
    """
    target = _Target(folder)
    files: dict[str, str] = {}
    # folded path of a folder → the path, and a member in it
    folders: dict[str, tuple[str, str]] = {}
    last: tuple[str, ...] = ()
    with target.trying() as is_one:
        for parts in names:
            name = "/".join(parts)
            target.check_length(name, parts)
            other = files.setdefault(folded(name), name)
            if other is not name and is_one(other, name):
                raise UnsafeNameError(
                    f"members {other!r} and {name!r} would be one file below {folder}, whose file system does not "
                    "distinguish these names"
                )
            # neighbours mostly lie in one folder
            if parts[:-1] != last:
                last = parts[:-1]
                for depth in range(1, len(parts)):
                    path = "/".join(parts[:depth])
                    folders.setdefault(folded(path), (path, name))
        for key in files.keys() & folders.keys():
            path, name = folders[key]
            if is_one(files[key], path):
                raise UnsafeNameError(
                    f"member {files[key]!r} would be a file below {folder} where member {name!r} needs a folder"
                )


def check_keys(names: Iterable[tuple[str, ...]], prefix: Location) -> None:
    """Check that each member can become an object below a prefix in S3.

    Args:
        names: The names, split by split_name.
        prefix: The bucket, or the prefix with "/" at its end.

    Raises:
        UnsafeNameError: a key would be too long, or is not UTF-8.

    Source: Amazon S3 User Guide, "Naming Amazon S3 objects".
    """
    room = KEY_BYTES_MAX - len(prefix.key.encode())
    for parts in names:
        name = "/".join(parts)
        try:
            size = len(name.encode())
        except UnicodeEncodeError as exc:
            raise UnsafeNameError(f"member {name!r} can't be a key in S3: it is not UTF-8") from exc
        if size > room:
            raise UnsafeNameError(
                f"member {name!r:.200} can't be written below {prefix}: it has {size} bytes, and at most {room} are "
                f"possible there"
            )


def folded(name: str) -> str:
    """Return a text that is equal for all names that some file system takes for one name, and perhaps for more."""
    # most names
    if name.isascii():
        return name.lower()
    # File systems that fold names compare their canonical decompositions, without case and without invisible
    # characters (Unicode Standard, 3.13, "Caseless Matching"; Linux, ext4, "casefold"; HFS+ and APFS).
    decomposed = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
    return "".join(char for char in decomposed if unicodedata.category(char) != "Cf")


class _Target:
    """The folder to write to, or the next folder above it that exists."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        existing = os.path.abspath(folder)  # noqa: PTH100 (keeps links)
        while not os.path.isdir(existing) and os.path.dirname(existing) != existing:  # noqa: PTH112, PTH120
            existing = os.path.dirname(existing)  # noqa: PTH120
        self.existing = existing
        try:
            self.name_bytes_max = os.pathconf(existing, "PC_NAME_MAX")
            path_bytes_max = os.pathconf(existing, "PC_PATH_MAX")
        except OSError as exc:
            raise StorageError(f"{folder}: can't extract to it: {exc.strerror}") from exc
        # less the target folder, a "/", and the NUL that ends a path
        self.path_bytes_max = path_bytes_max - len(os.fsencode(os.path.abspath(folder))) - 2  # noqa: PTH100

    def check_length(self, name: str, parts: tuple[str, ...]) -> None:
        """Check that the file system can hold a name.

        Raises:
            UnsafeNameError: it can't.
        """
        # asked first: it takes a fraction of the time, and a character takes at most four bytes
        if 4 * len(name) <= min(self.name_bytes_max, self.path_bytes_max, 4 * DEPTH_MAX):
            return
        try:
            longest, whole = max(len(os.fsencode(part)) for part in parts), len(os.fsencode(name))
        except UnicodeEncodeError as exc:
            raise UnsafeNameError(
                f"member {name!r} can't be the name of a file: {exc.reason}"
            ) from exc
        for found, most, what in (
            (longest, self.name_bytes_max, "bytes in one part of the name"),
            (whole, self.path_bytes_max, "bytes in the whole name"),
            (len(parts), DEPTH_MAX, "folders above each other"),
        ):
            if found > most:
                raise UnsafeNameError(
                    f"member {name!r:.200} can't be written below {self.folder}: it has {found} {what}, and at most "
                    f"{most} are possible there"
                )

    @contextmanager
    def trying(self) -> Iterator[_Trial]:
        """Make a place to try names out; it is made only for two names that differ, and removed at the end."""
        trial = _Trial(self.existing)
        try:
            yield trial
        finally:
            trial.close()


class _Trial:
    """Finds out whether the file system takes two names for one.

    A file system that ignores case ignores it in all names. So each way in which two names differ is tried once.
    """

    def __init__(self, existing: str) -> None:
        self._existing = existing
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._known: dict[tuple[bool, ...], bool] = {}

    def __call__(self, one: str, other: str) -> bool:
        """Return whether two names lead to one file; both have equally many parts."""
        for part, other_part in zip(one.split("/"), other.split("/"), strict=True):
            if part != other_part and not self._is_one(part, other_part):
                return False
        return True

    def _is_one(self, part: str, other: str) -> bool:
        kind = (
            part.isascii() and other.isascii(),
            part.lower() == other.lower(),
            part.casefold() == other.casefold(),
            unicodedata.normalize("NFC", part) == unicodedata.normalize("NFC", other),
        )
        if kind not in self._known:
            self._known[kind] = self._try_out(part, other)
        return self._known[kind]

    def _try_out(self, part: str, other: str) -> bool:
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix=".blobpack-", dir=self._existing)
            path = os.path.join(self._folder.name, part)  # noqa: PTH118
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            try:
                return os.path.lexists(os.path.join(self._folder.name, other))  # noqa: PTH118
            finally:
                os.unlink(path)  # noqa: PTH108
        # writing the members will fail, too, and say why
        except OSError:
            return False

    def close(self) -> None:
        """Remove what was made."""
        if self._folder is not None:
            self._folder.cleanup()
