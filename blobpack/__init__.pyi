"""The public names, listed only here. `__init__.py` reads this file, and loads each name at its first use."""

from .collection.collect import collect as collect
from .collection.report import CollectReport as CollectReport
from .editing.append import (
    AppendReport as AppendReport,
    append as append,
)
from .editing.combine import CombineReport as CombineReport
from .editing.merge import (
    merge as merge,
    subset as subset,
)
from .errors import (
    BlobChangedError as BlobChangedError,
    BlobNotFoundError as BlobNotFoundError,
    BlobpackError as BlobpackError,
    ChecksumError as ChecksumError,
    DuplicateNameError as DuplicateNameError,
    FactsMissingError as FactsMissingError,
    FormatError as FormatError,
    ImageError as ImageError,
    LeftOutWarning as LeftOutWarning,
    MemberNotFoundError as MemberNotFoundError,
    MissingIndexWarning as MissingIndexWarning,
    PackageMissingError as PackageMissingError,
    SourceError as SourceError,
    StaleIndexError as StaleIndexError,
    StorageError as StorageError,
    TruncatedError as TruncatedError,
    UnsafeNameError as UnsafeNameError,
)
from .index.index import Index as Index
from .index.tables.offsets import (
    iter_offsets as iter_offsets,
    read_offsets as read_offsets,
)
from .model import (
    ByteRange as ByteRange,
    Member as Member,
    ScanReport as ScanReport,
)
from .opening.blob import Blob as Blob
from .opening.blob_rows import BlobRows as BlobRows
from .opening.collection import (
    Collection as Collection,
    open_collection as open_collection,
)
from .opening.open import open as open
from .opening.open_blob import open_blob as open_blob
from .packing.manifest import read_manifest as read_manifest
from .packing.options import PackOptions as PackOptions
from .packing.pack import (
    PackReport as PackReport,
    pack as pack,
)
from .packing.repack import repack as repack
from .packing.shards import pack_shards as pack_shards
from .progress import Progress as Progress
from .reading.extract import (
    ExtractReport as ExtractReport,
    extract as extract,
)
from .reading.image import (
    read_image as read_image,
    read_images as read_images,
)
from .reading.verify import (
    VerifyReport as VerifyReport,
    verify as verify,
)
from .stores.access.remote import (
    CopyOptions as CopyOptions,
    RemoteOptions as RemoteOptions,
)
from .stores.access.s3_options import S3Options as S3Options
from .stores.stats import (
    Stats as Stats,
    stats as stats,
)
from .tar.check import Failure as Failure
from .tar.scan import scan as scan
from .writing.foreign_index import write_foreign_index as write_foreign_index
from .writing.offsets import write_offsets as write_offsets

__version__: str
