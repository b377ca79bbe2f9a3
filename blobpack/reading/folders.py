"""The folders that extracted members go to, opened by descriptors so that no link leads out of them."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from blobpack.closing import Closing
from blobpack.errors import StorageError
from blobpack.stores.output import hidden_path, hold, release, remove_leftovers_in

# with O_NOFOLLOW, a link in a folder's place is an error: ENOTDIR on Linux, because of O_DIRECTORY; ELOOP by POSIX
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# no hard links on this file system (Linux, link(2)), or no more of them to one file; or another extraction has taken the
# temporary link, which can't be locked, for a leftover
NO_HARD_LINKS = (errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOENT)
# in place of a file's own name, which may be too long for a suffix
TEMPORARY = Path("blobpack-extract")


class Folders(Closing):
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
        # folders that hold no leftovers of killed extractions any more
        self._cleaned: set[tuple[str, ...]] = {()}
        remove_leftovers_in(self._fd, TEMPORARY)

    def close(self) -> None:
        """Close the folders that are open."""
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
                # exchanged first: Ctrl-C between the two must not let the handler close the number once more, since it
                # may belong to another file by then
                above, fd = fd, below
                os.close(above)
        except BaseException:
            os.close(fd)
            raise
        above, self._fd, self._parts = self._fd, fd, parts
        os.close(above)
        if parts not in self._cleaned:
            self._cleaned.add(parts)
            remove_leftovers_in(fd, TEMPORARY)
        return fd

    def link(self, target: tuple[str, ...], parts: tuple[str, ...]) -> bool:
        """Make a file that is a hard link to another one; return False if the file system can't."""
        target_fd = os.dup(self.descend(target[:-1]))
        try:
            folder_fd = self.descend(parts[:-1])
            temporary = temporary_name()
            # the try starts before the link is made, because Ctrl-C may come at any moment after that
            try:
                # a link that was put in the target's place meanwhile is not followed
                os.link(
                    *(target[-1], temporary),
                    src_dir_fd=target_fd,
                    dst_dir_fd=folder_fd,
                    follow_symlinks=False,
                )
                os.rename(temporary, parts[-1], src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            finally:
                # a rename to a link of the same file does nothing (POSIX.1-2017, rename)
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder_fd)
        except OSError as exc:
            if exc.errno in NO_HARD_LINKS:
                return False
            raise
        finally:
            os.close(target_fd)
        return True


def temporary_name() -> str:
    """Return a random name. With O_EXCL it can't be a link that somebody put there before."""
    return hidden_path(TEMPORARY, os.urandom(8).hex()).name


def write_file(folder_fd: int, name: str, payload: bytes) -> None:
    """Write a file under a temporary name, then rename it; a link of the final name is replaced."""
    # Opening the final name would write through a link that lies there, and a reader could see half a file.
    temporary = temporary_name()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    # the try starts before the file is created, because Ctrl-C may come at any moment after that
    try:
        with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=folder_fd), "wb") as file:
            is_held = hold(file.fileno())
            file.write(payload)
            file.flush()
            if is_held:
                # before the lock ends, or another extraction could take the file for a leftover
                os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
                release(file.fileno())
    # also after Ctrl-C
    except BaseException:
        # Ctrl-C may come when the file has its final name already
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder_fd)
        raise
    if not is_held:
        # another extraction has removed it just when it was created
        write_file(folder_fd, name, payload)
