"""The blob that holds each member of an index: what other programs need besides offsets to read payloads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from blobpack.index.origin import origin_of
from blobpack.index.row_numbers import rows_as_array
from blobpack.model import check_several, shown
from blobpack.stores.arguments import is_place, location_of
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.index.rows import Rows

    # the URL of one blob, or those of all blobs of a collection, in order
    Urls = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class _Blob(Protocol):
    """A blob of a reader; opening/blob_rows.py has the class."""

    @property
    def url(self) -> str: ...
    @property
    def first_row(self) -> int: ...
    @property
    def is_compressed(self) -> bool: ...


class _Reader(Protocol):
    """An open blob or collection; opening/reader.py has the class."""

    _location: Location | None

    @property
    def blobs(self) -> Sequence[_Blob]: ...


@dataclass(frozen=True, slots=True)
class Places:
    """The blobs that hold the members of an index.

    Attributes:
        urls: Absolute paths, and URLs with their queries, which may be secrets.
        numbers: (n,) int64: the blob of each row, as its place in `urls`.
    """

    urls: list[str]
    numbers: NDArray[np.int64]


def places_of(index: Rows, url: Urls | None) -> Places:
    """Return the blob of each member.

    Args:
        index: The members.
        url: URL of the blob; for a collection, the URLs of all of its blobs, in their order. None: the paths and URLs from
            which they were opened.

    Raises:
        TypeError: the URL is neither a path or URL nor several of them.
        ValueError: a blob is compressed; the number of URLs is not that of the blobs; or no URL is given, and the index is not
            that of an open blob or collection.
    """
    import numpy as np

    given = None if url is None else _checked(url)
    found = _reader_and_rows(index)
    blobs = list(found[0].blobs) if found else []
    for blob in blobs:
        if blob.is_compressed:
            raise ValueError(
                f"{Location.parse(blob.url)} is compressed: its offsets are those in the tar that it decompresses to, which "
                "other programs can't use"
            )
    if given is None:
        if found is None or found[0]._location is None:
            # an index does not keep its blob open
            raise ValueError(
                "url must be given: the blob or collection of this index is not open any more, or has no path or URL"
            )
        given = [_address(Location.parse(blob.url)) for blob in blobs]
    if len(given) != max(len(blobs), 1):
        raise ValueError(
            f"url must name each of the {len(blobs)} blobs, in their order, not {len(given)}"
        )
    # rows of an index that was cut are those of the index that it was cut from
    if found is None or len(blobs) == 1:
        return Places(given, np.zeros(len(index), np.int64))
    first_rows = np.array([blob.first_row for blob in blobs], np.int64)
    return Places(given, np.searchsorted(first_rows, rows_as_array(found[1]), side="right") - 1)


def _reader_and_rows(index: Rows) -> tuple[_Reader, range | NDArray[np.int64]] | None:
    """Return the open reader of an index, or of the index that it was cut from, and the rows there; None if none is open."""
    base, rows = origin_of(index)
    for each, numbers in ((index, range(len(index))), (base(), rows)):
        reader = each._reader() if each is not None and each._reader is not None else None
        if reader is not None:
            return reader, numbers  # type: ignore[return-value]  # wings below `opening` don't know its classes
    return None


def _checked(url: Urls) -> list[str]:
    if is_place(url):
        return [_address(location_of("url", url))]
    check_several("url", url, "URLs")
    listed = list(url)  # type: ignore[arg-type]
    for each in listed:
        if not is_place(each):
            raise TypeError(f"url must be URLs or paths, but one is {shown(each)}")
    return [_address(location_of("url", each)) for each in listed]


def _address(location: Location) -> str:
    # other programs may run in other folders; links stay, because their targets may move
    return os.path.abspath(location.path) if location.is_local else location.whole  # noqa: PTH100 (keeps links)
