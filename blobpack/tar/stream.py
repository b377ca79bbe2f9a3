"""Open a tar as a stream that is read once, front to back: decompressed, from a file or a store.

Strategy: decompression is left to the standard library and zstandard, and the members are found by the walk of a scan
(_native/tar/stream.pyx), so that names, kinds and refusals are those of a scan.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from blobpack.errors import BlobpackError, FormatError, TruncatedError
from blobpack.stores.base import StoreFile
from blobpack.stores.zstd.format import is_zstd
from blobpack.tar.header import BLOCK, begins_tar
from blobpack.tar.other_formats import raise_if_other_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer
    from zstandard import ZstdDecompressionObj

    from blobpack.stores.base import Store

STREAM_READ_BYTES = 1 << 22
# A zstd block holds up to 128 KiB of content, and takes 4 bytes if it repeats one byte (RFC 8878, 3.1.1.2). So 1 KiB of
# input decompresses to 32 MiB at most, however hostile it is.
ZSTD_INPUT_BYTES = 1 << 10

# What the decompressors raise for damaged bytes besides their own errors.
DAMAGE_ERRORS = (OSError, ValueError, LookupError, ArithmeticError)


@contextmanager
def translated_errors(store: Store) -> Iterator[None]:
    """Translate errors of the decompressors, for a stream that is damaged or cut.

    Raises:
        TruncatedError: the stream ends too early.
        FormatError: the stream is damaged.
    """
    import lzma
    import zlib

    import zstandard

    try:
        yield
    except BlobpackError:
        raise
    # gzip, bz2, lzma and ZstdFile raise EOFError if the stream ends before its end marker
    except EOFError as exc:
        raise TruncatedError(f"{store.url}: cut short: {exc}") from exc
    except (*DAMAGE_ERRORS, zlib.error, lzma.LZMAError, zstandard.ZstdError) as exc:
        raise FormatError(f"{store.url}: {exc}") from exc


class ZstdFile(io.RawIOBase):
    """A file that decompresses all frames of a zstd file.

    A frame that is cut raises EOFError, as the standard library's files for gzip, bzip2 and xz do. zstandard's own
    reader takes a cut for the end. Input is decompressed in small pieces, since all that comes of one is in memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        import zstandard

        self._file = file
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame: ZstdDecompressionObj | None = None
        self._left = b""
        self._content = memoryview(b"")

    def readable(self) -> bool:
        """Return True; io.BufferedReader asks."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Decompress the next bytes into a buffer, and return their number; 0 at the end of the file.

        Raises:
            EOFError: the file ends inside a frame.
        """
        while not self._content:
            piece = self._left or self._file.read(ZSTD_INPUT_BYTES)
            if not piece and self._frame is not None:
                raise EOFError("the file ends inside a zstd frame")
            if not piece:
                return 0
            self._frame = self._frame or self._decompressor.decompressobj()
            # A piece may give no bytes, such as a header. Then the loop goes on: readinto must not return 0 before
            # the end.
            self._content = memoryview(self._frame.decompress(piece))
            # what follows the end of this frame: the beginning of the next one
            self._left = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        room = memoryview(buffer).cast("B")
        count = min(len(room), len(self._content))
        room[:count] = self._content[:count]
        self._content = self._content[count:]
        return count


@contextmanager
def decompressed(store: Store) -> Iterator[io.BufferedIOBase]:
    """Open the tar in a store as a stream that can be read once; it is decompressed if it is compressed.

    Its first bytes say how: a name may have any suffix.

    Raises:
        FormatError: the blob is compressed by a program other than gzip, bzip2, xz and zstd, or is an archive of
            another kind.
    """
    import bz2
    import gzip
    import lzma

    head = store.read_range(0, min(BLOCK, store.size))
    with io.BufferedReader(StoreFile(store), STREAM_READ_BYTES) as file:
        # A tar begins with its first member's name, which may be BZh1.jpg. So a header's checksum counts before magics.
        if begins_tar(head):
            yield file
        elif is_zstd(head):
            with io.BufferedReader(ZstdFile(file), STREAM_READ_BYTES) as stream:
                yield stream
        elif head.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream
        elif head.startswith(b"BZh"):
            with bz2.BZ2File(file) as stream:
                yield stream
        elif head.startswith(b"\xfd7zXZ\0"):
            with lzma.LZMAFile(file) as stream:
                yield stream
        else:
            raise_if_other_format(store)
            yield file
