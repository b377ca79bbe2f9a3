"""Paths of a file system: the members of an index as files, and the folders that their names imply.

Strategy: a path is the normal form of a name, as a file is named that a tar tool extracts: "./a.jpg" is the path "a.jpg".
Paths are kept in the order of their bytes. So the files below a folder lie next to each other, and a listing skips all files
of a folder by one search. Nothing is read before the first listing, because a lookup of a name needs none of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from blobpack._native.packed import normal_names
from blobpack.index.index import Index
from blobpack.index.name_order import NameOrder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.columns import Columns

SLASH = b"/"
# the byte that follows "/": the names in a folder lie between its name with "/" and its name with this
PAST_SLASH = b"0"


class Entry(NamedTuple):
    """A file or a folder.

    Attributes:
        path: Its path.
        row: Row of the member; -1 for a folder.
    """

    path: str
    row: int


class Paths:
    """The files and folders of an index. Of members that share a path, only the last one counts."""

    def __init__(self, index: Index) -> None:
        """Read all names of an index, and sort them unless they are in order."""
        # lookups in a remote index would send a request for each block that is not in memory
        if index._is_remote:
            index._columns  # noqa: B018 (loads it)
        self._index = index if all(map(_is_normal, index._pieces())) else _with_paths(index)
        self._order = NameOrder(self._index)

    def row_of(self, path: str) -> int:
        """Return the row of a file, or -1."""
        # rows of both indexes are equal
        return self._index._find(path)

    def is_folder(self, path: str) -> bool:
        """Return whether there is a file below a path; the root "" is always a folder."""
        if not path:
            return True
        below = _below(path)
        place = self._order.first_from(below)
        return place < len(self._order) and self._order[place].startswith(below)

    def children(self, path: str) -> Iterator[Entry]:
        """Yield the files and folders in a folder, in the order of their bytes."""
        order, below = self._order, _below(path)
        place = order.first_from(below)
        while place < len(order) and (name := order[place]).startswith(below):
            child, slash, _ = name[len(below) :].partition(SLASH)
            if slash:
                yield Entry(_decoded(below + child), -1)
                place = order.first_from(below + child + PAST_SLASH, place)
                continue
            # the path of a member "./" is that of the root
            if child:
                yield Entry(_decoded(name), order.row_at(place))
            place += 1

    def files_below(self, path: str) -> Iterator[Entry]:
        """Yield all files below a folder, in the order of their bytes."""
        order, below = self._order, _below(path)
        place = order.first_from(below)
        while place < len(order) and (name := order[place]).startswith(below):
            if name:
                yield Entry(_decoded(name), order.row_at(place))
            place += 1


def folders_of(path: str, root: str) -> Iterator[str]:
    """Yield the folders of a file that lie below another folder, the nearest one first."""
    folder = path.rpartition("/")[0]
    while len(folder) > len(root):
        yield folder
        folder = folder.rpartition("/")[0]


def _below(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape") + SLASH if path else b""


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _is_normal(columns: Columns) -> bool:
    return normal_names(columns.names, columns.name_bounds)[0] is columns.names


def _with_paths(index: Index) -> Index:
    """Return an index whose names are the paths of the members, row by row."""
    columns = index._columns
    names, bounds = normal_names(columns.names, columns.name_bounds)
    return Index._from_columns(
        replace(columns, names=memoryview(names), name_bounds=memoryview(bounds))
    )
