"""Payloads of many files, read as one batch; a file that fails does not end the batch, if the caller says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, BlobNotFoundError, MemberNotFoundError, StorageError
from blobpack.integrations.fsspec.parts import read_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blobpack.integrations.fsspec.parts import Part
    from blobpack.opening.reader import Reader


class MissingPathError(MemberNotFoundError, FileNotFoundError):
    """There is no file or folder of this path. fsspec expects a FileNotFoundError."""


def read_each(reader: Reader, asked: Sequence[Part | Exception]) -> Iterator[bytes | Exception]:
    """Read parts of files as one batch; in place of a part that can't be read, yield its error.

    Args:
        reader: The blob or collection.
        asked: The parts; or an error, which is yielded in its turn.
    """
    found = [part for part in asked if not isinstance(part, Exception)]
    payloads = _read_parts(reader, found)
    for part in asked:
        yield part if isinstance(part, Exception) else next(payloads)


def _read_parts(reader: Reader, parts: Sequence[Part]) -> Iterator[bytes | Exception]:
    done = 0
    while done < len(parts):
        try:
            for payload in read_parts(reader, parts[done:]):
                done += 1
                yield payload
        # one member, or one blob of a collection: the others may be well
        except (BlobNotFoundError, BlobChangedError, ValueError) as exc:
            done += 1
            yield exc
        # A server that has failed after all repetitions would fail for each of the others, too, after as long a wait.
        except StorageError as exc:
            for _ in parts[done:]:
                yield exc
            return
