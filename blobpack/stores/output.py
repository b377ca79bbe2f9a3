"""Where a new file goes, by its URL: beside the place it takes at the end, or up to S3 as it is written."""

from __future__ import annotations

import io
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from blobpack.errors import StorageError
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer


@contextmanager
def writing(
    url: str | os.PathLike[str],
    *,
    expected_bytes: int | None = None,
    resume: bool = False,
    new: bool = False,
) -> Iterator[BinaryIO]:
    """Open a new file or object that takes url's place when the block ends without an error.

    Args:
        url: A path, file:// or s3:// URL. An object can only be written front to back.
        expected_bytes: What it will have at most, about; for S3.
        resume: Go on with an upload to S3 that was interrupted.
        new: In S3, there must be no object yet.

    Raises:
        BlobChangedError: one is there.
        StorageError: it can't be created, written or put in place.
    """
    location = Location.parse(url)
    if location.is_local:
        with replacing(location) as file:
            yield file
        return
    from blobpack.stores.s3.upload import uploading

    with uploading(location.text, expected_bytes=expected_bytes, resume=resume, new=new) as upload:
        yield cast("BinaryIO", upload)


def temporary_path(target: Path) -> Path:
    """Name a file beside the target that nothing else uses; hidden, so that globs pass it by."""
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
        super().__init__(temporary, "x+b")
        self.path = path

    def write(self, data: Buffer, /) -> int:
        """Write as FileIO does."""
        with said_of(self.path):
            return super().write(data)


@contextmanager
def said_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Translate the system's errors while an output is made."""
    try:
        yield
    except StorageError:  # it says already what is the matter
        raise
    except OSError as exc:
        raise StorageError(f"{os.fspath(path)}: can't be written: {exc.strerror}") from exc


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file for writing that takes path's place when the block ends without an error.

    Raises:
        StorageError: the file can't be created, written or put in place.
    """
    target = resolve_target(path)
    temporary = temporary_path(target)
    try:  # Ctrl-C may come as soon as the file is there
        with said_of(path):
            file = io.BufferedRandom(OutputFile(temporary, path))
        with file:
            yield cast("BinaryIO", file)
            file.flush()
            with said_of(path):
                keep_mode(target, file.fileno())
                os.fsync(file.fileno())
        with said_of(path):
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


@contextmanager
def scratch(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file beside path that is gone when the block ends.

    Raises:
        StorageError: the file can't be created or written.
    """
    temporary = temporary_path(resolve_target(path))
    try:
        with said_of(path):
            file = io.BufferedRandom(OutputFile(temporary, path))
        with file:
            yield cast("BinaryIO", file)
    finally:
        temporary.unlink(missing_ok=True)


def keep_mode(target: Path, fd: int) -> None:
    """Give a new file the permissions of the one it replaces."""
    with suppress(FileNotFoundError):
        os.fchmod(fd, stat.S_IMODE(target.stat().st_mode))


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable, where the folder may be opened and synced at all."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
