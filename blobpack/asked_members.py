"""Checks of what a caller asks for: names, Members and rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack._native.members import Member
from blobpack.model import check_several, check_whole, is_whole, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.model import CheckedWhich, Which


def row_number(row: object, count: int) -> int:
    """Return a row's number, counted from the start; negative rows count from the end.

    Raises:
        IndexError: there is no such row among `count` rows.
        TypeError: the row is not a whole number.
    """
    number = check_whole("row", row)
    if not -count <= number < count:
        raise IndexError(f"no row {number} among {count} rows")
    return number + count if number < 0 else number


def not_which(which: object) -> TypeError:
    """Return the error for a value that names no member: it is neither a name nor a Member nor a row."""
    return TypeError(f"which must be a name, a Member or a row, not {shown(which)}")


def checked_which(which: object) -> CheckedWhich:
    """Return what names a member: a name or a Member as it is, a row as int.

    Raises:
        TypeError: the value is none of these.
    """
    if isinstance(which, (str, Member)):
        return which
    try:
        return check_whole("row", which)
    except TypeError:
        raise not_which(which) from None


def names_of(names: Iterable[str | Member]) -> Iterator[str]:
    """Return an iterator of names, of given names and members.

    Raises:
        TypeError: one name was given instead of several; or, when it is reached, one of them is neither a str nor a
            Member.
    """
    check_several("names", names, "names or members")

    # checked one by one as they are taken: names may come from a generator that makes each name only when it is asked
    def name_of(name: str | Member) -> str:
        if isinstance(name, str):
            return name
        if isinstance(name, Member):
            return name.name
        raise TypeError(f"names must be several names or members, but one is {shown(name)}")

    return map(name_of, names)


def which_of(several: Iterable[Which], single: str) -> Iterator[CheckedWhich]:
    """Return an iterator of what names members: names, Members and rows.

    Args:
        several: The names, Members and rows.
        single: Name of the function that takes one of them, for messages.

    Raises:
        TypeError: one name, Member or row was given instead of several; or, when it is reached, one of them is none of
            these.
    """
    # checked one by one as they are taken: they may come from a generator that makes each one only when it is asked
    return map(one_of_several, several_which(several, single))


def several_which(several: Iterable[Which], single: str) -> Iterator[Which]:
    """Return an iterator of names, Members and rows that are not checked yet; see which_of."""
    if isinstance(several, (str, Member)) or is_whole(several):
        raise TypeError(
            f"several must be several names, Members or rows, not one: {shown(several)}; {single}(…) reads one member"
        )
    check_several("several", several, "names, Members or rows")
    return iter(several)


def one_of_several(which: object) -> CheckedWhich:
    """Return checked_which of one of several."""
    try:
        return checked_which(which)
    except TypeError:
        raise TypeError(
            f"several must be names, Members or rows, but one is {shown(which)}"
        ) from None


def members_of(members: Iterable[Member]) -> Iterator[Member]:
    """Return an iterator of the given members.

    Raises:
        TypeError: one member was given instead of several; or, when it is reached, one of them is not a Member.
    """
    check_several("members", members, "Members")

    def check(member: Member) -> Member:
        if not isinstance(member, Member):
            raise not_a_member(member)
        return member

    return map(check, members)


def not_a_member(thing: object) -> TypeError:
    """Return the error for a value that is not a Member, among several members."""
    return TypeError(f"members must be Members, for example an index, but one is {shown(thing)}")
