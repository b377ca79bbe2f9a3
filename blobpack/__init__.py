"""Pack millions of small images into one tar, and read any of them with one ranged GET."""

from blobpack.blob import Blob, open_blob
from blobpack.errors import (
    BlobChangedError,
    BlobNotFoundError,
    BlobpackError,
    ChecksumError,
    DuplicateNameError,
    FormatError,
    ImageError,
    MemberNotFoundError,
    MissingIndexWarning,
    SourceError,
    StaleIndexError,
    StorageError,
    TruncatedError,
    UnsafeNameError,
)
from blobpack.extract import ExtractReport, extract
from blobpack.image import read_image, read_images
from blobpack.index import Index
from blobpack.model import ByteRange, Member, ScanReport
from blobpack.offsets import iter_offsets, read_offsets, write_offsets
from blobpack.pack import PackReport, pack
from blobpack.repack import repack
from blobpack.scan import scan
from blobpack.verify import Failure, VerifyReport, verify

__all__ = [
    "Blob",
    "BlobChangedError",
    "BlobNotFoundError",
    "BlobpackError",
    "ByteRange",
    "ChecksumError",
    "DuplicateNameError",
    "ExtractReport",
    "Failure",
    "FormatError",
    "ImageError",
    "Index",
    "Member",
    "MemberNotFoundError",
    "MissingIndexWarning",
    "PackReport",
    "ScanReport",
    "SourceError",
    "StaleIndexError",
    "StorageError",
    "TruncatedError",
    "UnsafeNameError",
    "VerifyReport",
    "extract",
    "iter_offsets",
    "open_blob",
    "pack",
    "read_image",
    "read_images",
    "read_offsets",
    "repack",
    "scan",
    "verify",
    "write_offsets",
]
