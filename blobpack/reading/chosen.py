"""The members that extract writes: found through the index of the blob or collection that is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobpack.errors import MemberNotFoundError
from blobpack.index.index import Index
from blobpack.index.which import rows_of_several
from blobpack.opening.blob import Blob
from blobpack.reading.target_names import split_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.model import Member, Which
    from blobpack.opening.reader import Reader

    # the name of each member, split by split_name, and the member
    ByParts = dict[tuple[str, ...], "Chosen"]


class Chosen(NamedTuple):
    """A member, and its row in the index of the reader."""

    row: int
    member: Member


def choose(reader: Reader, members: Iterable[Which] | None) -> ByParts:
    """Find members of a reader, and return them by their names in a folder. None stands for all members.

    If several members have one name, in whatever spelling, only the last one is kept: its file would replace the other
    files anyway.

    Raises:
        MemberNotFoundError: there is no such member.
        IndexError: there is no such row.
        TypeError: these are not names, Members or rows.
    """
    numbered: Iterable[tuple[int, Member]]
    if members is None:
        numbered = enumerate(reader.index)
    else:
        try:
            rows = rows_of_several(reader.index, members, "members")
        except (MemberNotFoundError, IndexError) as exc:
            raise reader._with_url(exc) from None
        # the Members of an index are there already
        found = members if isinstance(members, Index) else reader.index[rows]
        numbered = zip(rows.tolist(), found, strict=True)
    return {split_name(member.name): Chosen(row, member) for row, member in numbered}


def read_chosen(reader: Reader, chosen: Iterable[Chosen]) -> Iterator[bytes]:
    """Read the payloads of members that were found in the index of this reader, in the order asked."""
    # A blob needs no lookup. In a collection, a Member does not name its blob, so its row is needed.
    if isinstance(reader, Blob):
        return reader.read_members(each.member for each in chosen)
    return reader.read_many(each.row for each in chosen)
