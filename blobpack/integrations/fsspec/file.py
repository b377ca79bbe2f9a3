"""A member as a file that is open for reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blobpack.integrations.fsspec.base import AbstractBufferedFile
from blobpack.integrations.fsspec.parts import Part, read_parts

if TYPE_CHECKING:
    from blobpack.integrations.fsspec.filesystem import BlobFileSystem
    from blobpack.opening.reader import Reader

# A member of this size is read whole by one request when it is opened, and compared with its checksum. Larger ones are read
# part by part.
WHOLE_BYTES_MAX = 5 << 20


class BlobFile(AbstractBufferedFile):  # type: ignore[misc] # fsspec is optional, and mypy runs without it
    """A member, opened for reading. It stays the member of the blob that was open then."""

    def __init__(
        self,
        fs: BlobFileSystem,
        path: str,
        *,
        reader: Reader,
        row: int,
        size: int,
        block_size: int | None = None,
        cache_type: str | None = None,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a member.

        Args:
            fs: The file system.
            path: Path of the file.
            reader: The blob or collection.
            row: Row of the member.
            size: Its size in bytes.
            block_size: Bytes to read ahead of a large member; None: fsspec's default.
            cache_type: Name of one of fsspec's caches. None: "all" for a member of up to 5 MiB, else "readahead".
            cache_options: Options of this cache.
            kwargs: Further options of AbstractBufferedFile.
        """
        # not looked up by its path again: the file system may have opened the blob anew meanwhile
        self._reader, self._row = reader, row
        super().__init__(
            fs,
            path,
            mode="rb",
            block_size=block_size or "default",
            cache_type=cache_type or ("all" if size <= WHOLE_BYTES_MAX else "readahead"),
            cache_options=cache_options,
            size=size,
            **kwargs,
        )

    def _fetch_range(self, start: int, end: int) -> bytes:
        return next(read_parts(self._reader, [Part(self._row, start, end)]))
