"""Writes new files and objects that appear complete or not at all.

Strategy: a local file is written under a hidden name in the target's folder, synced, and renamed. A rename replaces an
existing file in one step (POSIX.1-2017, rename). An object is uploaded to S3 while it is written; nobody sees it before
it is complete.

A process holds a lock on its hidden file (flock(2)), which ends with the process, however that ends. So the next process
that writes to the same target can tell the files of killed processes from those of running ones, and removes them.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from blobpack.errors import BlobpackError, StorageError
from blobpack.stores.location import Location
from blobpack.stores.sink import FileSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from blobpack.stores.sink import Sink

# bytes of one read from a temporary file; the upload itself cuts what it gets into parts
UPLOAD_READ_BYTES = 8 << 20


@contextmanager
def writing(
    url: str | os.PathLike[str],
    *,
    expected_bytes: int | None = None,
    resume: bool = False,
    new: bool = False,
    ready: Callable[[], None] | None = None,
) -> Iterator[Sink]:
    """Open a new file or object, which replaces the one at the URL when the block ends without an error.

    Args:
        url: A path, or the URL of a file or object.
        expected_bytes: For an object: estimated largest size of the object.
        resume: For S3: resume an upload that was interrupted.
        new: For an object: there must be no object yet.
        ready: Called when everything is written, just before the file or object takes its place.

    Raises:
        BlobChangedError: there must be no object, but there is one.
        StorageError: the file or object can't be created, written or renamed.
    """
    location = Location.parse(url)
    if location.is_local:
        with replacing(location, ready=ready) as file:
            yield FileSink(file, os.fspath(file.name))
        return
    if not location.is_s3:
        from blobpack.stores.clouds.upload import uploading as uploading_to_cloud

        if resume:
            raise StorageError(f"{location}: only an upload to S3 can be resumed")
        with uploading_to_cloud(
            location, expected_bytes=expected_bytes, new=new, ready=ready
        ) as cloud_upload:
            yield cloud_upload
        return
    # Imported here, because boto3 takes 160 ms to import.
    from blobpack.stores.s3.upload import uploading

    with uploading(
        location, expected_bytes=expected_bytes, resume=resume, new=new, ready=ready
    ) as upload:
        yield upload


@contextmanager
def writing_anywhere(location: Location, *, new: bool = False) -> Iterator[BinaryIO]:
    """Open a new file that can be written at any position, and replaces the file or object when the block ends.

    For S3 it is a temporary file, because an upload only goes forward. It is uploaded when the block ends.

    Args:
        location: The path or URL.
        new: For an object: there must be no object yet.

    Raises:
        BlobChangedError: there must be no object, but there is one.
        StorageError: the file or object can't be created or written.
    """
    if location.is_local:
        with replacing(location) as file:
            yield file
        return
    with tempfile.TemporaryFile() as temporary:
        yield temporary
        size = temporary.seek(0, io.SEEK_END)
        temporary.seek(0)
        with writing(location, expected_bytes=size, new=new) as upload:
            shutil.copyfileobj(temporary, upload, UPLOAD_READ_BYTES)


@contextmanager
def replacing(
    path: str | os.PathLike[str], *, ready: Callable[[], None] | None = None
) -> Iterator[BinaryIO]:
    """Open a new local file for writing, which replaces the one at the path when the block ends without an error.

    Args:
        path: The path.
        ready: Called when everything is on disk, just before the new file takes its place.

    Raises:
        StorageError: the file can't be created, written or renamed.
    """
    target = resolve_target(path)
    with _hidden_file(target, path) as (file, temporary):
        yield file
        file.flush()
        with translate_write_errors(path):
            keep_mode(target, file.fileno())
            # Before the rename: otherwise a power failure could leave an empty file in place of the old one.
            os.fsync(file.fileno())
        if ready:
            ready()
        # before the lock ends, or another process could take the file for a leftover
        with translate_write_errors(path):
            temporary.replace(target)
        release(file.fileno())
    sync_folder(target.parent)


@contextmanager
def scratch(path: str | os.PathLike[str]) -> Iterator[FileSink]:
    """Open a new file in the folder of the path; it is removed when the block ends.

    Raises:
        StorageError: the file can't be created or written.
    """
    with _hidden_file(resolve_target(path), path) as (file, temporary):
        yield FileSink(file, os.fspath(temporary))


@contextmanager
def _hidden_file(target: Path, path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a new hidden file beside the target; it is removed after the block, unless the block has renamed it."""
    remove_leftovers(target)
    temporary = temporary_path(target)
    # The try starts before the file is created, because Ctrl-C may come at any moment after that.
    try:
        while not (file := _create(temporary, path)):
            temporary = temporary_path(target)
        with file:
            yield file, temporary
    # Ctrl-C must not leave the file behind, either.
    finally:
        discard(temporary)


def discard(temporary: Path) -> None:
    """Remove a temporary file, if it is there and the system allows it."""
    # On a read-only file system, this fails as creating the file did. The first error names the path that the user knows.
    with suppress(OSError):
        temporary.unlink()


def remove_leftovers(target: Path, *others: Path) -> None:
    """Remove hidden files that killed processes have left behind, as far as the system allows.

    Args:
        target: The file that they would have become.
        others: More such files in the same folder.
    """
    with suppress(OSError):
        folder_fd = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_leftovers_in(folder_fd, target, *others)
        finally:
            os.close(folder_fd)


def remove_leftovers_in(folder_fd: int, *targets: Path) -> None:
    """Remove hidden files in an open folder that killed processes have left behind, as far as the system allows."""
    names = "|".join(re.escape(hidden_path(path, "").name.removesuffix(".tmp")) for path in targets)
    ours = re.compile(rf"(?:{names})[0-9a-f]{{12,16}}\.tmp")
    with suppress(OSError), os.scandir(folder_fd) as entries:
        for entry in entries:
            if ours.fullmatch(entry.name):
                _remove_unless_held(folder_fd, entry.name)


def _remove_unless_held(folder_fd: int, name: str) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    # a file system without locks, say: then nobody can tell whether a process still writes to the file
    with suppress(OSError):
        fd = os.open(name, flags, dir_fd=folder_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder_fd)
        finally:
            os.close(fd)


def hold(fd: int) -> bool:
    """Lock a new hidden file until it is closed; return False if another process takes it for a leftover."""
    try:
        # Shared: a blob that has just taken its place stays locked until its index file is there, too. See
        # writing/blob_file.py.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # without locks, no process removes leftovers
        return True
    return os.fstat(fd).st_nlink > 0


def release(fd: int) -> None:
    """End a lock, also if a forked process has inherited the descriptor."""
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)


@contextmanager
def folder_locked(folder: Path) -> Iterator[None]:
    """Let only one process at a time replace a blob and the files beside it, if the file system has locks."""
    fd = None
    try:
        with suppress(OSError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        if fd is not None:
            release(fd)
            os.close(fd)


def temporary_path(target: Path) -> Path:
    """Choose an unused hidden name in the folder of the target; globs skip hidden names."""
    return hidden_path(target, os.urandom(6).hex())


def hidden_path(target: Path, mark: str) -> Path:
    """Return the hidden name in the folder of the target that has a mark of 12 or more hexadecimal digits."""
    # File systems allow names of 255 bytes, and a character may take four. The cut leaves room for the random part and the
    # suffix. It may leave half of a character at the end, which is a legal name.
    name = os.fsdecode(os.fsencode(target.name)[:200])
    return target.with_name(f".{name}.{mark}.tmp")


def resolve_target(path: str | os.PathLike[str]) -> Path:
    """Return the file that will be replaced, behind all symbolic links; it must be a plain file if it exists.

    Raises:
        StorageError: the target exists and is not a plain file, or no file can have this path.
    """
    # Errors of the system: the name is too long, links form a loop, or a parent is not a folder.
    with translate_write_errors(path):
        target = Path(os.path.realpath(path))
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            return target
    if not stat.S_ISREG(mode):
        raise StorageError(f"{path}: can't be replaced: it exists and is not a plain file")
    return target


class OutputFile(io.FileIO):
    """A temporary file; if writing to it fails, the StorageError names the path that it will have."""

    def __init__(self, temporary: Path, path: str | os.PathLike[str]) -> None:
        # "x" fails if the name exists. Otherwise a symbolic link that somebody placed there could redirect the output.
        super().__init__(temporary, "x+b")
        self.path = path

    def write(self, data: Buffer, /) -> int:
        """Write like FileIO.write."""
        with translate_write_errors(self.path):
            return super().write(data)

    def close(self) -> None:
        """Close the file. What must last was synced before, so an error of the system says nothing new."""
        with suppress(OSError):
            super().close()


def _create(temporary: Path, path: str | os.PathLike[str]) -> BinaryIO | None:
    """Create and lock a hidden file; return None if another process takes it for a leftover."""
    with translate_write_errors(path):
        file = OutputFile(temporary, path)
        if hold(file.fileno()):
            return io.BufferedRandom(file)
    file.close()
    return None


@contextmanager
def translate_write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Translate errors of the system in the block to StorageErrors that name the path."""
    try:
        yield
    # A StorageError is an OSError, too, and its message names the path already. So is a SourceError, which is about a path
    # that is read.
    except BlobpackError:
        raise
    except OSError as exc:
        raise StorageError(f"{os.fspath(path)}: can't be written: {exc.strerror}") from exc


def keep_mode(target: Path, fd: int) -> None:
    """Copy the permissions of the file that is replaced to the new file."""
    # A file that does not exist yet has none: then the umask decides.
    with suppress(FileNotFoundError):
        os.fchmod(fd, stat.S_IMODE(target.stat().st_mode))


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable, if the system allows to open and sync the folder."""
    # The file itself is complete and synced. Some file systems can't sync a folder, which is no failure.
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
