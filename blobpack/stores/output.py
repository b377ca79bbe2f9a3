"""A new file or object: it takes its place when it is whole, or not at all.

Strategy: a local file is written beside its place under a hidden name, synced, and renamed, which replaces a file that
is there in one step (POSIX.1-2017, rename). An object goes up to S3 as it is written, where nobody sees it before it
is complete.
"""

from __future__ import annotations

import io
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from blobpack.errors import StorageError
from blobpack.stores.location import Location
from blobpack.stores.sink import FileSink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

    from blobpack.stores.sink import Sink


@contextmanager
def writing(
    url: str | os.PathLike[str],
    *,
    expected_bytes: int | None = None,
    resume: bool = False,
    new: bool = False,
) -> Iterator[Sink]:
    """Open a new file or object that takes url's place when the block ends without an error.

    Args:
        url: A path, file:// or s3:// URL.
        expected_bytes: In S3: bytes that it will have at most, about.
        resume: In S3: go on with an upload that was interrupted.
        new: In S3: there must be no object yet.

    Raises:
        BlobChangedError: there must be no object, and one is there.
        StorageError: it can't be created, written or put in place.
    """
    location = Location.parse(url)
    if location.is_local:
        with replacing(location) as file:
            yield FileSink(file, os.fspath(file.name))
        return
    from blobpack.stores.s3.upload import uploading

    with uploading(location, expected_bytes=expected_bytes, resume=resume, new=new) as upload:
        yield upload


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new local file for writing that takes path's place when the block ends without an error.

    Raises:
        StorageError: the file can't be created, written or put in place.
    """
    target = resolve_target(path)
    temporary = temporary_path(target)
    try:  # Ctrl-C may come as soon as the file is there
        with _open(temporary, path) as file:
            yield file
            file.flush()
            with said_of(path):
                keep_mode(target, file.fileno())
                # before the rename, else a power failure may leave an empty file in the old one's place
                os.fsync(file.fileno())
        with said_of(path):
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


@contextmanager
def scratch(path: str | os.PathLike[str]) -> Iterator[FileSink]:
    """Open a new file beside path that is removed when the block ends.

    Raises:
        StorageError: the file can't be created or written.
    """
    temporary = temporary_path(resolve_target(path))
    try:
        with _open(temporary, path) as file:
            yield FileSink(file, os.fspath(temporary))
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(target: Path) -> Path:
    """Choose an unused name beside the target; hidden, so that globs pass it by."""
    # file systems allow 255 bytes: a long name is cut to leave room for what is added
    return target.with_name(f".{target.name[:200]}.{os.urandom(6).hex()}.tmp")


def resolve_target(path: str | os.PathLike[str]) -> Path:
    """Follow links to the file that will be replaced, which must be a plain file if it exists.

    Raises:
        StorageError: it is a folder, a device or the like, or no file can be there.
    """
    # a name may be too long, links may lead in circles, and a file may stand where a folder should be
    with said_of(path):
        target = Path(os.path.realpath(path))
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            return target
    if not stat.S_ISREG(mode):
        raise StorageError(f"{path}: can't be replaced: it exists and is not a plain file")
    return target


class OutputFile(io.FileIO):
    """A file whose failing writes are StorageErrors that name the path it is to become."""

    def __init__(self, temporary: Path, path: str | os.PathLike[str]) -> None:
        super().__init__(temporary, "x+b")  # "x" follows no link that somebody put there
        self.path = path

    def write(self, data: Buffer, /) -> int:
        """Write as FileIO does."""
        with said_of(self.path):
            return super().write(data)


def _open(temporary: Path, path: str | os.PathLike[str]) -> BinaryIO:
    with said_of(path):
        return io.BufferedRandom(OutputFile(temporary, path))


@contextmanager
def said_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Translate the system's errors, while an output is made, to errors that name its path."""
    try:
        yield
    except StorageError:  # an OSError, too, whose message names the path already
        raise
    except OSError as exc:
        raise StorageError(f"{os.fspath(path)}: can't be written: {exc.strerror}") from exc


def keep_mode(target: Path, fd: int) -> None:
    """Set a new file's permissions to those of the file that it replaces."""
    with suppress(FileNotFoundError):
        os.fchmod(fd, stat.S_IMODE(target.stat().st_mode))


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable, where the folder may be opened and synced at all."""
    with suppress(
        OSError
    ):  # the file itself is written: a folder that can't be synced is no failure
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
