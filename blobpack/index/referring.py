"""The methods of an index that let other packages read payloads from the blob, without blobpack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blobpack.index.tables.daft import to_daft
from blobpack.index.tables.lance import to_lance
from blobpack.index.tables.references import to_references
from blobpack.index.tabular import TabularRows
from blobpack.model import check_path

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import daft
    import lance

    from blobpack.index.tables.places import Urls


class ReferringRows(TabularRows):
    """The members, whose payloads other packages find in the blob."""

    __slots__ = ()

    def to_references(self, url: Urls | None = None) -> dict[str, Any]:
        """Return references that fsspec's ReferenceFileSystem reads: kerchunk's format, version 1.

        `json.dump` writes them to a file, which this file system opens, too. If several members have one name, the last one
        counts.

        Args:
            url: Path or URL of the blob, as it is written into the references. For a collection, those of all of its blobs,
                in their order. None: the paths and URLs from which they were opened, with their queries, which may be secrets.

        Returns:
            "version": 1; "templates": the URLs; "refs": name → [template, offset, size], or "" for an empty payload.

        Raises:
            TypeError: the URL is neither a path or URL nor several of them.
            ValueError: a blob is compressed; the number of URLs is not that of the blobs; or no URL is given, and the index
                is not that of an open blob or collection.
        """
        return to_references(self, url)

    def to_daft(self, url: Urls | None = None) -> daft.DataFrame:
        """Return the columns of `to_arrow`, and a column `file`, as a DataFrame of Daft. No payload is read yet.

        The column holds a daft.File for each member, which Daft reads from the blob by its own means; null for an empty payload,
        which Daft can't read.

        Args:
            url: Path or URL of the blob as Daft finds it; see `to_references`.

        Raises:
            PackageMissingError: Daft is not installed.
            TypeError, ValueError: as for `to_references`.
        """
        return to_daft(self, url)

    def to_lance(
        self,
        path: str | os.PathLike[str],
        url: Urls | None = None,
        *,
        storage_options: Mapping[str, str] | None = None,
    ) -> lance.LanceDataset:
        """Write the columns of `to_arrow`, and a column `payload`, as a dataset of Lance. No payload is read or copied.

        The column holds ranges of the blob, which Lance reads by its own means, with `take_blobs` or `read_blobs`. The dataset
        appears whole or not at all.

        Args:
            path: Path or URL of the dataset. It must not exist yet.
            url: Path or URL of the blob as Lance finds it; see `to_references`.
            storage_options: Lance's options for the server of the dataset.

        Returns:
            The dataset, opened.

        Raises:
            PackageMissingError: Lance (pylance) is not installed.
            StorageError: the dataset exists, or can't be written.
            TypeError, ValueError: as for `to_references`.
        """
        return to_lance(self, check_path("path", path), url, storage_options)
