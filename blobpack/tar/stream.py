"""The members of a tar, compressed or not, wherever it lies, read once and front to back: tarfile's work.

What tarfile leaves unsaid is said here: a damaged header is an error and not the end, and so is a cut stream.
"""

from __future__ import annotations

import io
import tarfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, BinaryIO, Self, cast

from blobpack.errors import BlobpackError, FormatError, TruncatedError
from blobpack.stores.zstd_format import is_zstd
from blobpack.tar.scan import refuse_other_formats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer
    from zstandard import ZstdDecompressionObj

    from blobpack.stores.base import Store

FETCH_BYTES = 1 << 22
PIECE_BYTES = 1 << 10

EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
EXTENDED_BYTES_MAX = 1 << 26  # as scan and libarchive have it

# what tarfile and the decompressors raise of damaged bytes, beside their own errors
TARFILE_SLIPS = (OSError, ValueError, LookupError, ArithmeticError, RecursionError)


def read_members(stream: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Read a tar from its first byte to its last.

    Args:
        stream: The tar, decompressed; read on behind the end of the archive, where checksums are.

    Returns:
        Members in archive order, each with its payload as a file, to be read before the next one; None if it
        has no payload of its own: folders, links, devices.

    Raises:
        Whatever tarfile and the stream raise; said_of translates it.
    """
    with tarfile.open(
        fileobj=stream,
        mode="r|",
        bufsize=FETCH_BYTES,
        tarinfo=StrictHeader,
        encoding="utf-8",
        errors="surrogateescape",
    ) as archive:
        for member in iter(archive.next, None):
            archive.members.clear()  # type: ignore[attr-defined]  # else it keeps all that it has met
            yield member, archive.extractfile(member) if member.isfile() else None
    while stream.read(FETCH_BYTES):
        pass


@contextmanager
def said_of(store: Store) -> Iterator[None]:
    """Translate what the standard library and zstd say of a stream that is damaged or cut."""
    import lzma
    import zlib

    import zstandard

    try:
        yield
    except BlobpackError:
        raise
    except EOFError as exc:
        raise TruncatedError(f"{store.url}: cut short: {exc}") from exc
    except tarfile.ReadError as exc:
        kind = TruncatedError if "unexpected end" in str(exc) else FormatError
        raise kind(f"{store.url}: {exc}") from exc
    except (
        *TARFILE_SLIPS,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        zstandard.ZstdError,
    ) as exc:
        raise FormatError(f"{store.url}: {exc}") from exc


class StrictHeader(tarfile.TarInfo):
    """A header that is an error if it is damaged or cut: tarfile takes one for the end of the archive."""

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        """Go on behind the block; refuse what would have tarfile take any amount of memory.

        Every Python comes by here; by frombuf not every one: some, Debian's 3.11.2 among them, have a private one.
        """
        if self.type in EXTENDED and self.size > EXTENDED_BYTES_MAX:
            raise tarfile.ReadError(f"an extended header of {self.size} bytes")
        member: Self = super()._proc_member(archive)  # type: ignore[misc]
        return member

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        """Read the next header."""
        try:
            return super().fromtarfile(archive)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as exc:
            raise tarfile.ReadError(f"{exc}, at byte {archive.offset} of the tar") from exc


class StoreFile(io.RawIOBase):
    """A store read front to back as a file."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pos = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Read what comes next into a buffer."""
        room = memoryview(buffer).cast("B")
        end = min(self._pos + len(room), self._store.size)
        read = self._store.read_range(self._pos, end)
        room[: len(read)] = read
        self._pos = end
        return len(read)


class ZstdFile(io.RawIOBase):
    """All frames of a zstd file, decompressed; one that is cut is an EOFError, as in gzip and its like.

    Pieces are small because each is decompressed whole: 1 KiB makes at most 32 MiB.
    """

    def __init__(self, file: BinaryIO) -> None:
        import zstandard

        self._file = file
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame: ZstdDecompressionObj | None = None
        self._left = b""
        self._content = memoryview(b"")

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Decompress what comes next into a buffer."""
        while not self._content:
            piece = self._left or self._file.read(PIECE_BYTES)
            if not piece and self._frame is not None:
                raise EOFError("a zstd frame is cut")
            if not piece:
                return 0
            self._frame = self._frame or self._decompressor.decompressobj()
            self._content = memoryview(self._frame.decompress(piece))
            self._left = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        room = memoryview(buffer).cast("B")
        count = min(len(room), len(self._content))
        room[:count] = self._content[:count]
        self._content = self._content[count:]
        return count


@contextmanager
def decompressed(store: Store) -> Iterator[BinaryIO]:
    """Open the tar of a store, whatever it is compressed by, to be read once.

    Raises:
        FormatError: it is compressed by something else, or another kind of archive.
    """
    import bz2
    import gzip
    import lzma

    head = store.read_range(0, min(6, store.size))
    with io.BufferedReader(StoreFile(store), FETCH_BYTES) as file:
        if is_zstd(head):
            with io.BufferedReader(ZstdFile(file), FETCH_BYTES) as stream:
                yield cast("BinaryIO", stream)
        elif head.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as stream:
                yield cast("BinaryIO", stream)
        elif head.startswith(b"BZh"):
            with bz2.BZ2File(file) as stream:
                yield cast("BinaryIO", stream)
        elif head.startswith(b"\xfd7zXZ\0"):
            with lzma.LZMAFile(file) as stream:
                yield cast("BinaryIO", stream)
        else:
            refuse_other_formats(store)
            yield file
