"""Extract members into files, and never write outside the target folder.

Strategy: a name is hostile input. It is refused if it is absolute or holds "..", before the first file is written.
Folders are opened one part at a time, each relative to the descriptor of the one above and without following links. So
a link that lies in the way, or is put there while files are written, can't lead outside.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack._native.packed import normal_name
from blobpack.errors import StorageError, UnsafeNameError
from blobpack.model import check_callable, members_of
from blobpack.reading.reader import Reader
from blobpack.stores.location import local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blobpack.model import Member

# with O_NOFOLLOW, a link in a folder's place is an error: ENOTDIR on Linux, because of O_DIRECTORY; ELOOP by POSIX
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """The result of extract.

    Attributes:
        members: Number of files written.
        payload_bytes: Bytes of these files.
    """

    members: int
    payload_bytes: int


def extract(
    blob: Reader,
    folder: str | os.PathLike[str],
    members: Iterable[Member] | None = None,
    *,
    progress: Callable[[int], object] | None = None,
) -> ExtractReport:
    """Write members as files below a folder, which is made if it does not exist.

    Each file appears whole or not at all, and replaces a file of its name. Files are not forced to disk (fsync). If
    several members have one name, the last one is written.

    Args:
        blob: An open blob or collection.
        folder: Path of the folder to write to.
        members: The members to extract; None for all members of the blob.
        progress: progress(members), called after each member.

    Raises:
        UnsafeNameError: a name is empty, absolute, holds "..", or would lead through a link. Names
            are checked before the first file is written; links are found only when their members
            are written.
        StorageError: a file can't be written, or the store failed.
        TypeError: an argument has a wrong type, such as names instead of members.
        ValueError: the folder is a URL.
    """
    if not isinstance(blob, Reader):
        raise TypeError(f"blob must be an open blob or collection, not {blob!r}")
    folder = local_path("folder", folder)
    check_callable("progress", progress)
    given = members_of(blob.index if members is None else members)
    # If several members have one name, also if they spell it in two ways ("a", "./a"), only the last one is kept: its file would replace the other
    # files anyway.
    chosen = {normal_name(member.name): member for member in given}
    # all names, before the first file: a name that is refused leaves nothing behind
    split = [(split_name(member.name), member) for member in chosen.values()]
    total = 0
    # one batch for all: 300 neighbours in S3 take 2 requests instead of 300
    payloads = blob.read_members(chosen.values())
    with _Folders(folder) as folders:
        for count, (parts, member) in enumerate(split, 1):
            payload = next(payloads)
            try:
                write_file(folders.descend(parts[:-1]), parts[-1], payload)
            except OSError as exc:
                raise _translated(exc, member.name, folder) from exc
            total += len(payload)
            if progress:
                progress(count)
    return ExtractReport(len(chosen), total)


def split_name(name: str) -> tuple[str, ...]:
    """Split a member's name into its folders and its file name.

    Raises:
        UnsafeNameError: the name is empty or absolute, or holds ".." or NUL.
    """
    # "a//b" and "./a/b" are a/b to every tar tool, so empty and "." parts are dropped; a name that ends with "/" has
    # no file name
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if not parts or name.startswith("/") or ".." in parts or name.endswith("/") or "\0" in name:
        raise UnsafeNameError(f"member {name!r} would be written outside the target folder")
    return parts


class _Folders:
    """Opens folders below the target without following links, and keeps the last one open.

    Neighbours in a blob mostly lie in one folder, so keeping it open saves most of the calls.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        try:
            os.makedirs(root, exist_ok=True)  # noqa: PTH103 (a path of any kind)
            # here links are followed: the caller named this folder, not the blob
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise StorageError(f"{os.fspath(root)}: can't extract to it: {exc.strerror}") from exc
        # os.makedirs calls itself for each folder above
        except RecursionError as exc:
            raise StorageError(f"{os.fspath(root)}: can't extract to it: it is too deep") from exc
        self._parts: tuple[str, ...] = ()
        self._fd = os.dup(self._root)

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)
        os.close(self._root)

    def descend(self, parts: tuple[str, ...]) -> int:
        """Open a folder by its parts, make those that are missing, and return its descriptor."""
        if parts == self._parts:
            return self._fd
        fd = os.dup(self._root)
        try:
            for part in parts:
                # mkdir without checking first whether the folder exists: after the check, another
                # process could make it.
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=fd)
                below = os.open(part, FOLDER_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._parts = fd, parts
        return fd


def write_file(folder_fd: int, name: str, payload: bytes) -> None:
    """Write a file under a temporary name, then rename it; a link of the final name is replaced."""
    # Opening the final name would write through a link that lies there, and a reader could see half a file. A random
    # name with O_EXCL can't be a link that somebody put there before.
    temporary = f".{os.urandom(8).hex()}.tmp"
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder_fd
    )
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(payload)
        os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    # Also after Ctrl-C, because nobody else knows the temporary name, and could remove the file.
    except BaseException:
        # Ctrl-C may come when the file has its final name already
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder_fd)
        raise


def _translated(
    exc: OSError, name: str, folder: str | os.PathLike[str]
) -> StorageError | UnsafeNameError:
    if exc.errno in (errno.ELOOP, errno.ENOTDIR):
        return UnsafeNameError(
            f"member {name!r} would be written through a link or a file that lies below {os.fspath(folder)}"
        )
    return StorageError(
        f"member {name!r} can't be written below {os.fspath(folder)}: {exc.strerror}"
    )
