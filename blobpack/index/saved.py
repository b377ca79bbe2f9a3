"""An index in a file of its own, or behind a blob: opening it, and writing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from blobpack.argument_order import recognise_swap
from blobpack.index.rows import Rows
from blobpack.indexfile.open import INDEX, StoredIndex, load_stored
from blobpack.indexfile.writer import write_sections
from blobpack.model import check_flag
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import is_place, location_of, output_location
from blobpack.stores.output import writing
from blobpack.stores.replace import check_replaceable, check_suffix

if TYPE_CHECKING:
    import os
    from typing import Self

    from blobpack.columns import Columns
    from blobpack.indexfile.footer import Footer
    from blobpack.indexfile.identity import Identity
    from blobpack.model import ScanReport
    from blobpack.stores.sink import Sink


def is_index(value: object) -> bool:
    """Return whether a value is an index."""
    return isinstance(value, SavedRows)


class SavedRows(Rows):
    """The members, with all that an index file records."""

    __slots__ = ("identity", "report")

    report: ScanReport | None
    identity: Identity | None

    @classmethod
    def _from_columns(
        cls,
        columns: Columns,
        *,
        report: ScanReport | None = None,
        identity: Identity | None = None,
    ) -> Self:
        """Make an index that uses these columns, without a copy.

        Args:
            columns: The members.
            report: Report of the scan that found them.
            identity: Identity of the archive that they belong to.
        """
        # not through __init__, the public constructor, which would check and copy member by member
        index = cls.__new__(cls)
        Rows.__init__(index, columns, None)
        index.report, index.identity = report, identity
        return index

    @classmethod
    def _from_stored(cls, stored: StoredIndex) -> Self:
        """Make an index that reads its rows from a stored index as they are needed."""
        index = cls.__new__(cls)
        Rows.__init__(index, None, stored)
        index.report, index.identity = stored.footer.report, stored.footer.identity
        return index

    @classmethod
    @with_remote_options
    def load(cls, path: str | os.PathLike[str], **remote: Unpack[RemoteOptions]) -> Self:
        """Open an index file at a path or URL. Its parts are read when they are needed.

        Args:
            path: Path or URL of the file.
            remote: How remote blobs are reached: see RemoteOptions.

        Raises:
            BlobNotFoundError: there is no such file.
            FormatError: the file is damaged, or is not an index.
        """
        return cls._from_stored(
            load_stored(location_of("path", path, access=Access.of("load", remote)))
        )

    @recognise_swap(self=is_index, path=is_place)
    @with_remote_options
    def save(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        **remote: Unpack[RemoteOptions],
    ) -> None:
        """Write the index into a file of its own, in the format that docs/format.md describes.

        Args:
            path: Path or s3:// URL of the file.
            force: Replace a file or object that is not an index, and allow a suffix of another format.
            remote: How remote blobs are reached: see RemoteOptions.

        Raises:
            StorageError: the file can't be written, or would replace a file that is not the index of one blob.
            ValueError: the path is a URL that can't be written to, or its suffix promises another format.
        """
        location = output_location("path", path, Access.of("save", remote))
        check_flag("force", force)
        if not force:
            check_suffix("path", location, INDEX)
            check_replaceable(location, INDEX)
        with writing(location) as sink:
            sink.write(self._write_sections(sink, self.identity).encode())

    def _write_sections(
        self, sink: Sink, identity: Identity | None, *, bytes_min: int = 0
    ) -> Footer:
        """Write the index without its footer.

        Args:
            sink: The sink to write to, at its position.
            identity: Identity of the archive that the index belongs to; None ties it to no archive.
            bytes_min: Least size of the index, its footer included; zeros fill it up.

        Returns:
            The footer, which the caller writes behind the sections.
        """
        return write_sections(
            sink,
            self._parts(),
            self._name_at,
            identity=identity,
            report=self.report,
            bytes_min=bytes_min,
        )
