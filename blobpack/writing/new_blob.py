"""A blob that is being written: where its archive goes, and what follows when that is whole.

A plain local blob is written where it stays. A blob in S3 goes up as it is written, and a witness computes its
identity on the way. A compressed blob is written to a scratch file first: frames are cut where members end.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.identity import Witness, identify
from blobpack.model import ScanReport
from blobpack.stores.local import LocalStore
from blobpack.stores.location import Location
from blobpack.stores.open import open_tar
from blobpack.stores.output import scratch, writing
from blobpack.tar.header import END_OF_ARCHIVE
from blobpack.writing.compress import LEVEL, compress_blob, is_compressed_target
from blobpack.writing.embed import region_bytes, write_behind, write_beside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.index.index import Index
    from blobpack.indexfile.identity import Identity
    from blobpack.model import IndexPlace
    from blobpack.stores.sink import FileSink, Sink

OWNER_ONLY = 0o600  # of a scratch file in a folder that others use


@dataclass(frozen=True, slots=True)
class NewBlob:
    """A blob that is being written.

    Attributes:
        location: Where it goes.
        sink: The new file or object.
        tar: Takes the archive: the sink, the witness that watches it, or a scratch file.
        level: Compression level of zstd; None for a plain blob.
        witness: Knows the archive's identity if the archive can't be read again.
    """

    location: Location
    sink: Sink
    tar: Sink
    level: int | None
    witness: Witness | None = None

    def finish(self, packed: Index, position: int, place: IndexPlace) -> int:
        """End the archive, put its index behind it if that is its place, and compress it if it is to be.

        Args:
            packed: Its members.
            position: Where the last one ends.
            place: Where the index goes.

        Returns:
            The blob's bytes.
        """
        size = archive_bytes = end_archive(self.tar, packed, position)
        if place == "embed":
            behind = self.witness.sink if self.witness else self.tar
            size += write_behind(behind, packed, self._identity(archive_bytes))
        if self.level is None:
            return size
        return compress_blob(self.tar.local(), packed.columns, archive_bytes, self.sink, self.level)

    def _identity(self, archive_bytes: int) -> Identity:
        """Describe the archive, which is written as far as its end."""
        if self.witness:
            return self.witness.identity()
        tar = self.tar.local()
        tar.flush()
        with LocalStore(tar.path) as store:
            return identify(store, archive_bytes)

    def write_beside(self, packed: Index) -> None:
        """Write the index into a file beside the blob, which is in its place now."""
        path = sidecar_of(self.location)
        if self.witness:
            packed.identity = replace(self.witness.identity(), version=self.sink.version)
            packed.save(path)
            return
        with open_tar(self.location) as store:
            write_beside(store, packed, path)


@contextmanager
def new_blob(
    url: str | os.PathLike[str],
    *,
    level: int = LEVEL,
    expected_bytes: int | None = None,
    resume: bool = False,
    new: bool = False,
) -> Iterator[NewBlob]:
    """Open a new blob that takes url's place when the block ends without an error.

    Args:
        url: A path or s3:// URL; .tar.zst and .tzst are compressed.
        level: Of zstd.
        expected_bytes: As of writing, and so is what follows.
        resume: The same.
        new: The same.

    Raises:
        BlobChangedError: it is to be new in S3, and one is there.
        StorageError: it can't be created, written or put in place.
    """
    location = Location.parse(url)
    with writing(location, expected_bytes=expected_bytes, resume=resume, new=new) as sink:
        if is_compressed_target(location):
            with _scratch_for(location) as tar:
                yield NewBlob(location, sink, tar, level)
        elif sink.is_stream:
            witness = Witness(sink)
            yield NewBlob(location, sink, witness, None, witness)
        else:
            yield NewBlob(location, sink, sink, None)


@contextmanager
def _scratch_for(location: Location) -> Iterator[FileSink]:
    """Open a file that is removed when the block ends: beside a local blob, else in the temporary folder."""
    if location.is_local:
        with scratch(location) as file:
            yield file
        return
    with scratch(os.path.join(tempfile.gettempdir(), location.path_or_name)) as file:  # noqa: PTH118
        os.fchmod(file.fileno(), OWNER_ONLY)
        yield file


def unwritten_bytes(packed: Index, position: int, place: IndexPlace) -> int:
    """Compute how many bytes a plain blob of these members would have."""
    size = end_archive(None, packed, position)
    return size + region_bytes(packed) if place == "embed" else size


def end_archive(sink: Sink | None, packed: Index, position: int) -> int:
    """Write the end-of-archive marker behind members, and give their index the report of a scan.

    Returns:
        Where the archive ends.
    """
    if sink:
        sink.write(END_OF_ARCHIVE)
    packed.report = ScanReport(bytes_scanned=position, end_marker=2)
    return position + len(END_OF_ARCHIVE)
