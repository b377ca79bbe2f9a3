"""A blob that is being written: where its archive goes, and what is written when the archive is complete.

Strategy: a plain local blob is written to its final file. A blob in S3 is uploaded while it is written; it can't be read
again, so a `Witness` computes its identity on the way. A compressed blob is written to a scratch file first, because
its frames end where members end, and these ends are known when all members are written.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError
from blobpack.indexfile.footer import sidecar_of
from blobpack.indexfile.identity import IdentifyingSink, identify
from blobpack.model import ScanReport
from blobpack.stores.local import LocalStore
from blobpack.stores.location import Location
from blobpack.stores.output import resolve_target, scratch, translate_write_errors, writing
from blobpack.tar.header import END_OF_ARCHIVE
from blobpack.writing.beside import forget_beside, forget_if_replaced
from blobpack.writing.blob_file import shared, undisturbed
from blobpack.writing.compress import LEVEL, compress_blob, is_compressed_target
from blobpack.writing.embed import measure_index, write_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.index.index import Index
    from blobpack.indexfile.identity import Identity
    from blobpack.model import IndexPlace
    from blobpack.stores.sink import FileSink, Sink

# mode of a scratch file in the temporary folder: all users can open that folder, but must not read the payloads
OWNER_ONLY = 0o600


@dataclass(slots=True)
class NewBlob:
    """A blob that is being written.

    Attributes:
        location: Where the blob will be.
        sink: The new file or object.
        tar: Where to write the archive: the sink itself, a witness in front of it, or a scratch file.
        level: Compression level; None for a plain blob.
        witness: Computes the identity of an archive that can't be read again; None if it can.
        index: The index that goes into a file beside the blob; None if it goes elsewhere, or is not known yet.
    """

    location: Location
    sink: Sink
    tar: Sink
    level: int | None
    witness: IdentifyingSink | None = None
    index: Index | None = None

    def finish(self, packed: Index, position: int, place: IndexPlace) -> int:
        """End the archive, write the index behind it if it belongs there, and compress both if the target asks for it.

        Args:
            packed: The members of the archive.
            position: Where the last member ends, its padding included.
            place: Where the index goes.

        Returns:
            Bytes of the blob.
        """
        size = archive_bytes = end_archive(self.tar, packed, position)
        if place == "embed":
            # past the witness: the identity describes the archive, without the index
            behind = self.witness.sink if self.witness else self.tar
            size += write_behind(behind, packed, self._identity(archive_bytes))
        elif place == "sidecar":
            # Of the bytes written here. Once the blob is in place, another process may replace it at any moment.
            packed.identity = self._identity(archive_bytes)
            self.index = packed
        if self.level is None:
            return size
        tar = self.tar.local()
        # reading the scratch file may fail, too, and its name says nothing
        with translate_write_errors(self.location):
            return compress_blob(tar, packed._columns, archive_bytes, self.sink, self.level)

    def _identity(self, archive_bytes: int) -> Identity:
        """Compute the identity of the archive, which is complete."""
        if self.witness:
            return self.witness.identity()
        tar = self.tar.local()
        # the store reads from the file, and would miss what waits in the buffer
        tar.flush()
        # a compressed blob for S3 is made in a scratch file
        place = self.location if self.location.is_local else tar.path
        with LocalStore(place, fd=tar.fileno()) as store:
            return identify(store, archive_bytes)

    def save_index(self) -> None:
        """Write the index into a file beside the blob, if it goes there; the blob has taken its place."""
        if self.index is None:
            return
        if self.index.identity and self.sink.version:
            # The ETag of a finished upload ties the index to this object: an overwritten one is noticed at once.
            self.index.identity = replace(self.index.identity, version=self.sink.version)
        self.index.save(sidecar_of(self.location), force=True)
        if self.location.has_key:
            forget_if_replaced(self.location, self.sink.version)


@contextmanager
def new_blob(
    url: str | os.PathLike[str],
    *,
    level: int = LEVEL,
    expected_bytes: int | None = None,
    resume: bool = False,
    new: bool = False,
) -> Iterator[NewBlob]:
    """Open a new blob, which appears at url when the block ends without an error, with its index file if it has one.

    Args:
        url: A path or s3:// URL. A blob whose name ends in .tar.zst or .tzst is compressed.
        level: Compression level, for a compressed blob.
        expected_bytes: In S3: about the most bytes that the blob will have.
        resume: In S3: continue an interrupted upload.
        new: Fail if there is a file or object already.

    Raises:
        BlobChangedError: `new`, and there is a file or object already.
        StorageError: the blob can't be created, written or put in place.
    """
    location = Location.parse(url)
    with ExitStack() as held:

        def make_way() -> None:
            if location.is_local:
                # until the index file is there, too: otherwise it could belong to another blob than the one in place
                held.enter_context(undisturbed(resolve_target(location), wait=True))
                new_file = Path(sink.local().path)
                held.enter_context(shared(new_file, wait=True, url=location.text))
                # under the lock of the folder, so no other blob of blobpack can appear before the rename
                if new and os.path.lexists(location.path):
                    raise BlobChangedError(f"{location} exists already; it was not replaced")
            if not new:
                forget_beside(location)

        with writing(
            location, expected_bytes=expected_bytes, resume=resume, new=new, ready=make_way
        ) as sink:
            if is_compressed_target(location):
                with _scratch_for(location) as tar:
                    blob = NewBlob(location, sink, tar, level)
                    yield blob
            else:
                witness = IdentifyingSink(sink) if sink.is_stream else None
                blob = NewBlob(location, sink, witness or sink, None, witness)
                yield blob
        blob.save_index()


@contextmanager
def _scratch_for(location: Location) -> Iterator[FileSink]:
    """Open a file that is removed when the block ends.

    It lies beside a local blob, on the disk that must have room for the blob anyway; for S3, in the temporary folder.
    """
    if location.is_local:
        with scratch(location) as file:
            yield file
        return
    with scratch(os.path.join(tempfile.gettempdir(), location.path_or_name)) as file:  # noqa: PTH118
        os.fchmod(file.fileno(), OWNER_ONLY)
        yield file


def unwritten_bytes(packed: Index, position: int, place: IndexPlace) -> int:
    """Compute the bytes that a plain blob of these members would have."""
    size = end_archive(None, packed, position)
    return size + measure_index(packed).bytes_inside if place == "embed" else size


def end_archive(sink: Sink | None, packed: Index, position: int) -> int:
    """Write the end-of-archive marker behind the last member, and set the report of the index.

    Args:
        sink: The archive; None to write nothing.
        packed: The members; the report becomes that of a scan of this archive.
        position: Where the last member ends, its padding included.

    Returns:
        Where the archive ends, its marker included.
    """
    if sink:
        sink.write(END_OF_ARCHIVE)
    packed.report = ScanReport(bytes_scanned=position, end_marker=2)
    return position + len(END_OF_ARCHIVE)
