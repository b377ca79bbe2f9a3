"""Members → files, never outside the target folder: no absolute names, no "..", no way through links."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.errors import StorageError, UnsafeNameError
from blobpack.model import check_callable, check_local_path, members_of
from blobpack.reading.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blobpack.model import Member

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """What extract did.

    Attributes:
        members: Files written.
        payload_bytes: Their bytes.
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
    """Write members as files below a folder, which is made if it is not there.

    Each file appears whole or not at all, and replaces one of its name; it is not forced to disk, as no tar
    tool does. Of members with one name the last one wins.

    Args:
        blob: An open blob or collection.
        folder: Where to.
        members: Which; None for all of the blob's.
        progress: progress(members), called after each one.

    Raises:
        UnsafeNameError: a name is empty, absolute, holds "..", or would lead through a link. Names are
            checked before the first file is written, links as each is met.
        StorageError: a file can't be written, or the store failed.
        TypeError: an argument has another type, such as names instead of members.
        ValueError: the folder is a URL.
    """
    if not isinstance(blob, Reader):
        raise TypeError(f"blob must be an open blob or collection, not {blob!r}")
    check_local_path("folder", folder)
    check_callable("progress", progress)
    given = members_of(blob.index if members is None else members)
    chosen = {member.name: member for member in given}
    split = [(split_name(name), member) for name, member in chosen.items()]
    total = 0
    payloads = blob.read_members(chosen.values())
    with _Folders(folder) as folders:
        for count, (parts, member) in enumerate(split, 1):
            payload = next(payloads)
            try:
                write_file(folders.descend(parts[:-1]), parts[-1], payload)
            except OSError as exc:
                raise _refusal(exc, member.name, folder) from exc
            total += len(payload)
            if progress:
                progress(count)
    return ExtractReport(len(chosen), total)


def split_name(name: str) -> tuple[str, ...]:
    """Part a member's name into folders and file name.

    Raises:
        UnsafeNameError: it is empty, absolute or holds ".." or NUL.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if not parts or name.startswith("/") or ".." in parts or name.endswith("/") or "\0" in name:
        raise UnsafeNameError(f"member {name!r} would be written outside the target folder")
    return parts


class _Folders:
    """The folders below the target, each opened without following links; the last one stays open."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        try:
            os.makedirs(root, exist_ok=True)  # noqa: PTH103 (a path of any kind)
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise StorageError(f"{os.fspath(root)}: can't be extracted to: {exc.strerror}") from exc
        self._parts: tuple[str, ...] = ()
        self._fd = os.dup(self._root)

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)
        os.close(self._root)

    def descend(self, parts: tuple[str, ...]) -> int:
        """Open a folder by its parts, making what is missing."""
        if parts == self._parts:
            return self._fd
        fd = os.dup(self._root)
        try:
            for part in parts:
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
    """Write a file under a temporary name, then put it in place; a link of that name is replaced."""
    temporary = f".{os.urandom(8).hex()}.tmp"
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder_fd
    )
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(payload)
        os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except BaseException:
        os.unlink(temporary, dir_fd=folder_fd)
        raise


def _refusal(
    exc: OSError, name: str, folder: str | os.PathLike[str]
) -> StorageError | UnsafeNameError:
    if exc.errno in (errno.ELOOP, errno.ENOTDIR):
        return UnsafeNameError(
            f"member {name!r} would be written through a link or a file below {os.fspath(folder)}"
        )
    return StorageError(
        f"member {name!r} can't be written below {os.fspath(folder)}: {exc.strerror}"
    )
