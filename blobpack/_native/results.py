"""The values that native functions return, by name. Pure Python, so that native code can import it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from blobpack._native.members import Member


class MemberColumns(NamedTuple):
    """Members as columns; blobpack.columns.Columns has these fields too, and describes them."""

    names: memoryview
    name_bounds: memoryview
    offset_start: memoryview
    offset_end: memoryview
    media_type: memoryview | None = None
    width: memoryview | None = None
    height: memoryview | None = None
    crc32c: memoryview | None = None
    mtime: memoryview | None = None


class FactColumns(NamedTuple):
    """Facts of n payloads, one column for each."""

    media_type: memoryview  # (n,) uint8, places in blobpack.columns.MEDIA_TYPES
    width: memoryview  # (n,) uint32, pixels as shown; 0: unknown
    height: memoryview
    crc32c: memoryview  # (n,) uint32


class Facts(NamedTuple):
    """Facts of one payload."""

    media_type: int
    width: int
    height: int
    crc32c: int


class MemberKinds(NamedTuple):
    """Numbers of members of each kind that a walk met, in the order of `member_kind` in _native/tar/group.pxd."""

    files: int
    hard_links: int
    folders: int
    symbolic_links: int
    devices: int
    sparse: int
    other: int


class StreamMember(NamedTuple):
    """A member of a tar that is read front to back."""

    name: bytes
    kind: str  # a field of MemberKinds
    size: int  # bytes of the payload


class SharedTexts(NamedTuple):
    """Long names of pax global headers, which many rows have; the columns of these rows hold an empty name."""

    names: memoryview
    name_bounds: memoryview  # (texts + 1,) int64
    numbers: memoryview  # (rows,) int64, the text that is a row's name; -1: the name in its columns
    first_used: memoryview  # (texts,) int64, where the first member begins that has the text, bytes


class Walk(NamedTuple):
    """Result of a walk along a tar's headers."""

    members: MemberColumns
    position: int  # where the walk ended, bytes
    end_marker: int  # zero blocks found there: 0, 1 or 2
    dangling_links: int  # hard links that have no row
    kinds: MemberKinds
    shared: SharedTexts | None  # None: the columns hold all names


class NotPacked(NamedTuple):
    """A file that was not packed."""

    file: int  # its place among the files to pack
    status: int  # one of the FILE_… of blobpack._native.gather
    error: int  # errno where the status is FILE_UNREADABLE, else 0


class Gathered(NamedTuple):
    """Result of packing files: the members, and the files that were left out."""

    members: MemberColumns
    position: int  # where the next member would go
    write_error: int  # errno of a write that failed, or 0
    not_packed: list[NotPacked]


class Copied(NamedTuple):
    """Result of a copy, with the errors that ended it."""

    source_ended: bool
    read_error: int  # errno, or 0
    write_error: int


class FoundRow(NamedTuple):
    """The last row of a name that was looked up."""

    row: int
    offset_start: int
    offset_end: int
    crc32c: int | None  # None where the index has no checksums

    def is_of(self, member: Member) -> bool:
        """Return whether this is the row of a Member of its name: offsets are equal, and checksums, if both are known.

        Checksums count because members of two blobs of a collection may have one name and equal offsets. No other fact
        counts.
        """
        return (
            self.offset_start == member.offset_start
            and self.offset_end == member.offset_end
            and (
                member.crc32c is None or self.crc32c is None or member.crc32c == self.crc32c
            )
        )


# what a search for a Member returns in place of a row
NO_SUCH_NAME, OTHER_MEMBER = -1, -2


def row_of_member(found: FoundRow | None, member: Member) -> int:
    """Return the row of a Member, if it is the last row of its name; else NO_SUCH_NAME or OTHER_MEMBER."""
    if found is None:
        return NO_SUCH_NAME
    return found.row if found.is_of(member) else OTHER_MEMBER
