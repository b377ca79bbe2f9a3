"""The images that an export lists. Only the index is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobpack.errors import FactsMissingError, FormatError
from blobpack.index.which import NAMES_SEARCHED_AT_ONCE, find_named, rows_of_several
from blobpack.integrations.urls import url_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from blobpack.index.index import Index
    from blobpack.model import Member, Which


class ListedImage(NamedTuple):
    """An image of a blob or collection.

    Attributes:
        number: Its row, counted from 1. It is the same in every export of the blob, whatever is selected.
        name: Name of the member.
        url: Its URL; "" if the export has none.
        media_type: Its media type.
        width: Its width as shown, in pixels; None if it is not known.
        height: Its height.
        size: Size of its payload in bytes.
    """

    number: int
    name: str
    url: str
    media_type: str
    width: int | None
    height: int | None
    size: int


class ListedImages:
    """The chosen images, batch by batch, so that an index of any size needs memory only for a batch.

    Attributes:
        left_out: Number of chosen members that were left out so far: they are no images, or were replaced by a later
            member of the same name.
    """

    def __init__(
        self,
        index: Index,
        members: Index | Iterable[Which] | None,
        *,
        url: str | None,
        sides: bool,
    ) -> None:
        """Choose the images.

        Args:
            index: Index of the blob or collection.
            members: List only these. None: all.
            url: URL of the blob, below which the images have their URLs.
            sides: Leave out images whose width and height are not known.

        Raises:
            FactsMissingError: the index does not know which members are images, or their widths and heights.
            MemberNotFoundError: one of the members is not in the index.
        """
        needed = ("media_type", "width", "height") if sides else ("media_type",)
        check_facts(index, needed)
        self.left_out = 0
        self._index, self._url, self._sides = index, url, sides
        self._rows: Sequence[int] = range(len(index))
        if members is not None and members is not index:
            self._rows = sorted(set(rows_of_several(index, members, "members").tolist()))

    def __iter__(self) -> Iterator[ListedImage]:
        """Yield the images in archive order.

        Raises:
            FormatError: a name is not UTF-8, so no JSON can hold it.
        """
        for first in range(0, len(self._rows), NAMES_SEARCHED_AT_ONCE):
            rows = self._rows[first : first + NAMES_SEARCHED_AT_ONCE]
            members = list(
                self._index[rows[0] : rows[-1] + 1]
                if isinstance(rows, range)
                else self._index[rows]
            )
            hits = find_named(self._index, [member.name for member in members])
            for row, member, hit in zip(rows, members, hits, strict=True):
                # the URL of a name leads to the last member of that name
                if hit is None or hit.row != row or not self._is_image(member):
                    self.left_out += 1
                else:
                    yield self._listed(row, member)

    def _is_image(self, member: Member) -> bool:
        if member.media_type is None or not member.media_type.startswith("image/"):
            return False
        return not self._sides or bool(member.width and member.height)

    def _listed(self, row: int, member: Member) -> ListedImage:
        check_utf8(member)
        url = url_of(self._url, member.name) if self._url else ""
        return ListedImage(
            row + 1,
            member.name,
            url,
            member.media_type or "",
            member.width,
            member.height,
            member.size,
        )


def check_facts(index: Index, needed: Iterable[str]) -> None:
    """Check that an index has the facts that an export needs.

    Raises:
        FactsMissingError: it has not.
    """
    for name in needed:
        if len(index) and name not in index.facts:
            raise FactsMissingError(
                f"the index has no {name.replace('_', ' ')} of its members, which an export needs: `blobpack index "
                "--facts BLOB` adds the facts to the index of an existing blob"
            )


def check_utf8(member: Member) -> None:
    """Check that a member's name is UTF-8.

    Raises:
        FormatError: it is not.
    """
    # a byte that is not UTF-8 stands in the name as a surrogate, which no other tool can read (RFC 8259, 8.2)
    if not member.name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in member.name):
        raise FormatError(
            f"{member.name!r}: this name is not UTF-8, so no JSON can hold it: leave the member out",
            offset=member.offset_start,
        )
