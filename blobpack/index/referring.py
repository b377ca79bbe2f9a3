"""The methods of an index that let other packages read payloads from the blob, without blobpack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from blobpack.index.tables.references import to_references
from blobpack.index.tabular import TabularRows

if TYPE_CHECKING:
    from blobpack.index.index import Index
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
        return to_references(cast("Index", self), url)
