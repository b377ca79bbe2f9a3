"""All exceptions that blobpack raises, except those for misuse of arguments.

Misuse is an error in the arguments alone, whatever the storage holds: a choice that does not exist, a number out of
range, a value of another type, a target that blobpack can't write to. It is a plain ValueError or TypeError that names
the argument, raised before anything is read or written. A row number that an index does not have is an IndexError, as
in any sequence. Every other error is a BlobpackError:

    BlobpackError
    ├── FormatError            ValueError         the bytes are wrong; carries `offset`
    │   ├── TruncatedError                        the blob or file ends too early
    │   └── ChecksumError                         bytes do not match their checksum
    ├── ImageError             ValueError         a payload is not an image that can be decoded
    ├── DuplicateNameError     ValueError         two members would have the same name
    ├── FactsMissingError      ValueError         a selection needs facts that the index does not have
    ├── UnsafeNameError        ValueError         a name leads out of the folder where it must stay
    ├── PackageMissingError    ImportError        an optional package is needed and not installed
    ├── MemberNotFoundError    KeyError           no member has this name
    ├── SourceError            OSError            files to pack can't be read, changed, or are none
    └── StorageError           OSError            a store failed
        ├── BlobNotFoundError  FileNotFoundError  there is no blob at this path or URL
        └── BlobChangedError                      the blob is not the one that was opened
            └── StaleIndexError                   the index belongs to another state of the blob

Each error can also be caught as the builtin in the second column, and survives pickling. LeftOutWarning and
MissingIndexWarning are UserWarnings.
"""

from __future__ import annotations

import sys
import warnings

# modules whose lines a warning does not name
OWN_MODULES = ("blobpack.", "contextlib")


class BlobpackError(Exception):
    """Base class of all exceptions of blobpack."""


class FormatError(BlobpackError, ValueError):
    """The bytes are not what their format requires.

    Attributes:
        offset: Position of the fault in the blob or file, in bytes from its start; None if it has no position.
    """

    # BaseException.__reduce__ calls the class with the message alone, then restores __dict__. So keyword-only arguments
    # need defaults, or the error could not be sent to another process.
    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class TruncatedError(FormatError):
    """The blob or file ends before the end that its headers announce."""


class ChecksumError(FormatError):
    """Bytes do not match the checksum that was stored for them."""


class ImageError(BlobpackError, ValueError):
    """A payload is not an image that can be decoded."""


class DuplicateNameError(BlobpackError, ValueError):
    """Two members would have the same name."""


class FactsMissingError(BlobpackError, ValueError):
    """A selection needs facts, such as widths, that the index does not have."""


class UnsafeNameError(BlobpackError, ValueError):
    """The name of a member, or of a blob in a collection, leads out of the folder where it must stay."""


class PackageMissingError(BlobpackError, ImportError):
    """A call needs an optional package that is not installed, such as pyarrow; the message says how to install it."""


class MemberNotFoundError(BlobpackError, KeyError):
    """The index has no member with this name, or not this Member."""

    def __str__(self) -> str:
        # str() of a KeyError is the repr of its message, in quotes
        return Exception.__str__(self)


class SourceError(BlobpackError, OSError):
    """Files to pack could not be read, or changed while they were packed; or there are no files to pack.

    Attributes:
        paths: The files.
    """

    def __init__(self, message: str, *, paths: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.paths = paths


class StorageError(BlobpackError, OSError):
    """A disk or server failed, or refused a request.

    Attributes:
        status: The HTTP status of the server's answer; 0 if there was no answer, or if its status was no error.
    """

    status = 0


class BlobNotFoundError(StorageError, FileNotFoundError):
    """There is no blob at this path or URL."""


class BlobChangedError(StorageError):
    """The blob is not the one that was opened or indexed, so offsets would point at wrong bytes."""


class MissingIndexWarning(UserWarning):
    """A blob has no index, so its headers had to be scanned."""


class LeftOutWarning(UserWarning):
    """Members, or bytes that may be members, lie behind the end of an archive, and are left out."""


class StaleIndexError(BlobChangedError):
    """The index belongs to another state of the blob."""


def warn_caller(message: str, category: type[Warning]) -> None:
    """Issue a warning for the line, outside of blobpack, that called blobpack."""
    frame, level = sys._getframe(1), 2
    # contextlib calls the generators of blobpack's own context managers
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(OWN_MODULES):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
