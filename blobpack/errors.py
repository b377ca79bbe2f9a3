"""Every exception blobpack raises, misuse apart.

Misuse is what is wrong with the arguments alone, whatever the storage holds: a choice that there is not, a number out
of range, a value of another type, a target that blobpack can't write to. It is a plain ValueError or TypeError that
names the argument, raised before anything is read or written. A row number that an index does not have is an
IndexError, as of any sequence. Every other error is a BlobpackError:

    BlobpackError
    ├── FormatError            ValueError         the bytes are at fault; carries `offset`
    │   ├── TruncatedError                        the blob ends too early
    │   └── ChecksumError                         bytes that do not match their checksum
    ├── ImageError             ValueError         a payload is not an image that can be decoded
    ├── DuplicateNameError     ValueError         two members would have one name
    ├── FactsMissingError      ValueError         a selection asks for what the index does not have
    ├── UnsafeNameError        ValueError         a member's name leads out of the target folder
    ├── PackageMissingError    ImportError        an optional package is needed, and not installed
    ├── MemberNotFoundError    LookupError        no member of that name
    ├── SourceError            OSError            files to pack that can't be read, or changed meanwhile
    └── StorageError           OSError            a store failed
        ├── BlobNotFoundError  FileNotFoundError  there is no such blob
        └── BlobChangedError                      not the blob the index was made from
            └── StaleIndexError                   the index beside or inside the blob is of another state of it

Each can be caught as the builtin beside it, and survives pickling. MissingIndexWarning is a UserWarning.
"""

from __future__ import annotations


class BlobpackError(Exception):
    """The base of every error below."""


class FormatError(BlobpackError, ValueError):
    """The bytes are not what their format says.

    Attributes:
        offset: Where in the blob or file the fault is, in bytes from its start; None if it has no place.
    """

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class TruncatedError(FormatError):
    """The blob or file ends before what it promises."""


class ChecksumError(FormatError):
    """Bytes do not match the checksum that was taken of them."""


class ImageError(BlobpackError, ValueError):
    """A payload is not an image that can be decoded."""


class DuplicateNameError(BlobpackError, ValueError):
    """Two members would have one name."""


class FactsMissingError(BlobpackError, ValueError):
    """A selection asks for facts, such as widths, that the index does not have."""


class UnsafeNameError(BlobpackError, ValueError):
    """A member's name would be written outside the target folder."""


class PackageMissingError(BlobpackError, ImportError):
    """Something was asked that takes an optional package, such as pyarrow; the message says how to install it."""


class MemberNotFoundError(BlobpackError, LookupError):
    """The index has no member of that name."""


class SourceError(BlobpackError, OSError):
    """Files to pack could not be read, or changed while they were.

    Attributes:
        paths: The files at fault.
    """

    def __init__(self, message: str, *, paths: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.paths = paths


class StorageError(BlobpackError, OSError):
    """A store could not do what was asked.

    Attributes:
        status: The HTTP status that said so, 0 if none did.
    """

    status = 0


class BlobNotFoundError(StorageError, FileNotFoundError):
    """There is no blob at that place."""


class BlobChangedError(StorageError):
    """The blob is no longer the one that was opened, so the offsets would lie."""


class MissingIndexWarning(UserWarning):
    """A blob had to be scanned because it has no index."""


class StaleIndexError(BlobChangedError):
    """An index that is not of the blob as it is now."""
