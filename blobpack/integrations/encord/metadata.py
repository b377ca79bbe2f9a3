"""Client metadata of members and groups, from a file, a table, a dict or a function.

Strategy: the rows of a file or table may come in any order, and hold embeddings, so that a million of them may not fit into
memory. They are written to a temporary file once. Only the position of each member's row is kept in memory, 8 bytes for each.
"""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from itertools import islice
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from blobpack.closing import Closing
from blobpack.errors import DuplicateNameError
from blobpack.integrations.encord.form.client_metadata import check_fields
from blobpack.integrations.encord.metadata_rows import (
    has_columns,
    read_rows,
    table_rows,
)
from blobpack.model import shown
from blobpack.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blobpack.index.index import Index
    from blobpack.integrations.encord.form.items import Document
    from blobpack.integrations.encord.metadata_rows import Row
    from blobpack.model import Member

    # what callers pass
    GivenMetadata = (
        str
        | os.PathLike[str]
        | Mapping[str, Document]
        | Callable[[Member], Document | None]
        | Any  # a table that exports Arrow
        | None
    )

# rows that are in memory together: each may hold an embedding of 4,096 numbers, which takes 130 KB
ROWS_AT_ONCE = 64


class Metadata(Closing):
    """Client metadata of the members of a blob, and of groups of them.

    Attributes:
        unused: Number of rows that belong to no member and to no group that was asked for.
    """

    unused: int = 0

    @abstractmethod
    def of_member(self, row: int, member: Member) -> Document | None:
        """Return the metadata of a member; None if it has none."""

    @abstractmethod
    def of_group(self, name: str) -> Document | None:
        """Return the metadata of a group; None if it has none."""

    def close(self) -> None:
        """Remove the temporary file, if there is one."""


class _NoMetadata(Metadata):
    def of_member(self, row: int, member: Member) -> None:
        return None

    def of_group(self, name: str) -> None:
        return None


class _ByName(Metadata):
    """Metadata in a dict, by the names of members and groups."""

    def __init__(self, given: Mapping[str, Document]) -> None:
        self._given = given
        self.unused = len(given)

    def of_member(self, row: int, member: Member) -> Document | None:
        return self.of_group(member.name)

    def of_group(self, name: str) -> Document | None:
        fields = self._given.get(name)
        if fields is None:
            return None
        self.unused -= 1
        check_fields(f"metadata of {name!r}", fields)
        return dict(fields)


class _ByFunction(Metadata):
    """Metadata that a function returns for each member."""

    def __init__(self, function: Callable[[Member], Document | None]) -> None:
        self._function = function

    def of_member(self, row: int, member: Member) -> Document | None:
        fields = self._function(member)
        if fields is None:
            return None
        check_fields(f"metadata of {member.name!r}", fields)
        return dict(fields)

    def of_group(self, name: str) -> None:
        return None


class _InFile(Metadata):
    """Metadata of a file or table, kept in a temporary file."""

    def __init__(self, rows: Iterable[Row], index: Index) -> None:
        """Read all rows.

        Raises:
            DuplicateNameError: two rows have one name.
            FormatError: a row is not as Encord accepts it.
        """
        import numpy as np

        self._file = TemporaryFile()  # noqa: SIM115 (closed by close)
        self._places = np.full(len(index), -1, np.int64)
        # the places of rows that name no member, and may name a group
        self._others: dict[str, int] = {}
        try:
            taken = iter(rows)
            while some := list(islice(taken, ROWS_AT_ONCE)):
                self._keep(some, index)
        except BaseException:
            self.close()
            raise

    @property
    def unused(self) -> int:  # type: ignore[override]  # counted only here
        """Number of rows that belong to no member and to no group that was asked for."""
        return len(self._others)

    def _keep(self, rows: Sequence[Row], index: Index) -> None:
        hits = index._search([name for _, name, _ in rows])
        for (where, name, fields), hit in zip(rows, hits, strict=True):
            place = self._file.tell()
            self._file.write(check_fields(where, fields).encode() + b"\n")
            is_second = name in self._others if hit is None else self._places[hit.row] >= 0
            if is_second:
                raise DuplicateNameError(
                    f"{where}: an earlier row has the name {quoted(name)}, too"
                )
            if hit is None:
                self._others[name] = place
            else:
                self._places[hit.row] = place

    def of_member(self, row: int, member: Member) -> Document | None:
        place = int(self._places[row])
        return None if place < 0 else self._read(place)

    def of_group(self, name: str) -> Document | None:
        place = self._others.pop(name, None)
        return None if place is None else self._read(place)

    def _read(self, place: int) -> Document:
        self._file.seek(place)
        found: Document = json.loads(self._file.readline())
        return found

    def close(self) -> None:
        self._file.close()


def open_metadata(given: GivenMetadata, index: Index) -> Metadata:
    """Return the client metadata that a caller passes, ready to be asked for.

    Args:
        given: A path of JSON lines, CSV or Parquet; a table that exports Arrow; a dict by name; a function; or None.
        index: The index of the members that it is about.

    Raises:
        DuplicateNameError: two rows have one name.
        FormatError: a row is not as Encord accepts it.
        SourceError: the file can't be read.
        TypeError: the value is none of these.
    """
    if given is None:
        return _NoMetadata()
    if isinstance(given, (str, os.PathLike)):
        return _InFile(read_rows(given), index)
    if has_columns(given):
        return _InFile(table_rows(given), index)
    if isinstance(given, Mapping):
        return _ByName(given)
    if callable(given):
        return _ByFunction(given)
    raise TypeError(
        f"metadata must be a path, a table, a dict by name, a function or None, not {shown(given)}"
    )
