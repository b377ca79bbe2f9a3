"""Files of other formats that are given as a tar: the error says what the file is, and what to do."""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import TYPE_CHECKING

from blobpack._native.facts import facts_of
from blobpack.columns import MEDIA_TYPES
from blobpack.errors import FormatError
from blobpack.indexfile.footer import INDEX_MAGIC
from blobpack.wording import with_article

if TYPE_CHECKING:
    from blobpack.stores.base import Store

# The first bytes of a file, what such a file is, and the tool that gets the tar out of it; "" if `blobpack repack` can.
COMPRESSED = (
    (b"\x1f\x8b", "gzip", ""),
    (b"BZh", "bzip2", ""),
    (b"\xfd7zXZ\0", "xz", ""),
    (b"\x28\xb5\x2f\xfd", "zstd", ""),
    (b"\x04\x22\x4d\x18", "LZ4 data", "unlz4"),
    (b"LZIP", "lzip data", "lzip -d"),
    (b"\x1f\x9d", "compress data", "uncompress"),
    (b"PK\x03\x04", "a zip archive", "unzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-zip archive", "7z x"),
)
# Files that users have beside their blobs, or get instead of them, by their first bytes in lower case.
OTHERS = (
    (INDEX_MAGIC.lower(), "an index or a collection", "give the blob itself"),
    (b"\x80\x04", "a pickle, perhaps an offsets file", "give the blob itself"),
    (b"par1", "a Parquet file", ""),
    (b"sqlite format 3\0", "an SQLite database", ""),
    (b"%pdf-", "a PDF document", ""),
    (b"\x89hdf\r\n", "an HDF5 file", ""),
    (b"<!doctype html", "an HTML page", "the server may have sent an error or a login page"),
    (b"<html", "an HTML page", "the server may have sent an error or a login page"),
    (b"<?xml", "an XML document", "the server may have sent an error"),
    (b"version https://git-lfs", "a pointer of Git LFS", "`git lfs pull` gets the file"),
)
# a name, as people say it; the others are the second half of their media types, in capitals
IMAGE_NAMES = {
    "image/jp2": "JPEG 2000",
    "image/jxl": "JPEG XL",
    "image/webp": "WebP",
    "image/x-portable-anymap": "PNM",
    "image/x-exr": "OpenEXR",
    "image/vnd.radiance": "Radiance",
    "image/vnd.adobe.photoshop": "Photoshop",
    "image/x-nrrd": "NRRD",
    "image/svg+xml": "SVG",
}
# more than the longest of the magics, and enough for the head of an image
HEAD_BYTES = 512


def raise_if_other_format(store: Store) -> None:
    """Raise an error that names the format of a file, if its first bytes are those of a known format.

    Raises:
        FormatError: the file is compressed, an archive of another kind, an image, or another well-known file.
    """
    head = store.read_range(0, min(HEAD_BYTES, store.size))
    for magic, what, tool in COMPRESSED:
        if head.startswith(magic):
            found = f"{what}, not a plain tar" if tool else f"one {what} stream"
            advice = (
                f"decompress it first ({tool})"
                if tool
                else "make a blob of it with `blobpack repack FILE OUT.tar`"
            )
            raise FormatError(
                f"{store.url}: {found} at byte 0, so no member can be read by its offsets: {advice}",
                offset=0,
            )
    seen = other_format(head)
    if seen:
        what, advice = seen
        raise FormatError(
            f"{store.url}: {what}, not a tar, at byte 0{advice and f': {advice}'}", offset=0
        )


def other_format(head: bytes) -> tuple[str, str] | None:
    """Return what a file is, with its article, and what its user can do; None if its first bytes say nothing."""
    image = image_format(head)
    if image:
        return f"{with_article(image)} image", "`blobpack pack` makes a blob of images"
    lowered = head.lower()
    for magic, what, advice in OTHERS:
        if lowered.startswith(magic):
            return what, advice
    return ("a text file", "") if is_text(head) else None


def is_text(head: bytes) -> bool:
    """Return whether the first bytes of a file are lines of text in UTF-8.

    A line must end: without that, they may be the name at the start of a tar that was cut.
    """
    decoder = getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(head)  # a character may be cut at the end
    except UnicodeDecodeError:
        return False
    return "\n" in text and all(char.isprintable() or char in "\t\n\r\f" for char in text)


def image_format(head: bytes) -> str | None:
    """Return the name of an image's format, such as JPEG; None if the bytes do not begin an image."""
    if not head:
        return None
    media_type = MEDIA_TYPES[facts_of(head, b"").media_type]
    return IMAGE_NAMES.get(media_type) or media_type.partition("/")[2].upper() or None
