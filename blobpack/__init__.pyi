"""The public face; __init__.py loads each name when it is first asked for."""

from blobpack.collection.collect import CollectReport, collect
from blobpack.collection.collection import Collection, open_collection
from blobpack.editing.append import AppendReport, append
from blobpack.editing.merge import CombineReport, merge, subset
from blobpack.errors import (
    BlobChangedError,
    BlobNotFoundError,
    BlobpackError,
    ChecksumError,
    DuplicateNameError,
    FactsMissingError,
    FormatError,
    ImageError,
    MemberNotFoundError,
    MissingIndexWarning,
    PackageMissingError,
    SourceError,
    StaleIndexError,
    StorageError,
    TruncatedError,
    UnsafeNameError,
)
from blobpack.index.index import Index
from blobpack.index.offsets import iter_offsets, read_offsets, write_offsets
from blobpack.model import ByteRange, Member, ScanReport
from blobpack.packing.manifest import read_manifest
from blobpack.packing.pack import PackReport, pack
from blobpack.packing.repack import repack
from blobpack.packing.shards import pack_shards
from blobpack.reading.blob import Blob, open_blob
from blobpack.reading.extract import ExtractReport, extract
from blobpack.reading.image import read_image, read_images
from blobpack.reading.verify import VerifyReport, verify
from blobpack.stores.stats import Stats, stats
from blobpack.tar.check import Failure
from blobpack.tar.scan import scan

__all__ = [
    "AppendReport",
    "Blob",
    "BlobChangedError",
    "BlobNotFoundError",
    "BlobpackError",
    "ByteRange",
    "ChecksumError",
    "CollectReport",
    "Collection",
    "CombineReport",
    "DuplicateNameError",
    "ExtractReport",
    "FactsMissingError",
    "Failure",
    "FormatError",
    "ImageError",
    "Index",
    "Member",
    "MemberNotFoundError",
    "MissingIndexWarning",
    "PackReport",
    "PackageMissingError",
    "ScanReport",
    "SourceError",
    "StaleIndexError",
    "Stats",
    "StorageError",
    "TruncatedError",
    "UnsafeNameError",
    "VerifyReport",
    "append",
    "collect",
    "extract",
    "iter_offsets",
    "merge",
    "open_blob",
    "open_collection",
    "pack",
    "pack_shards",
    "read_image",
    "read_images",
    "read_manifest",
    "read_offsets",
    "repack",
    "scan",
    "stats",
    "subset",
    "verify",
    "write_offsets",
]
