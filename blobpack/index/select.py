"""The conditions of `Index.select`, and how they narrow a table of members.

Strategy: all conditions narrow one mask of rows. Globs, names and numbers are compared natively or by NumPy, for all
rows. A regex and `where` call Python for each row, so they come last and see only the rows that are left. Only `where`
needs Member objects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from blobpack._native.globs import match_names
from blobpack.columns import MEDIA_TYPES, Columns
from blobpack.errors import FactsMissingError
from blobpack.index.name_tables import NameTables
from blobpack.model import check_callable, check_text, check_texts, check_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.members import Member, MemberIterator, NameIterator
    from blobpack.index.rows import Rows

    Mask = NDArray[np.bool_]

# rows that are collected in a Python list before they become part of the mask; it bounds that list
ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The conditions on members. A condition that is None or empty holds for every member.

    Attributes:
        globs: At least one of these matches the whole name.
        exclude: None of these matches the whole name.
        regex: Some part of the name matches.
        names: The name is one of these.
        min_size: Least size of the payload, in bytes.
        max_size: Largest size of the payload, in bytes.
        media_types: Codes, places in MEDIA_TYPES; the media type is one of these.
        min_width: Least width in pixels; a member of unknown width does not pass.
        max_width: Largest width.
        min_height: Least height; a member of unknown height does not pass.
        max_height: Largest height.
        where: Function that is called with each Member that passed the others; returns true to keep it.
    """

    globs: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    regex: re.Pattern[str] | None = None
    names: NameTables | None = None
    min_size: int | None = None
    max_size: int | None = None
    media_types: tuple[int, ...] | None = None
    min_width: int | None = None
    max_width: int | None = None
    min_height: int | None = None
    max_height: int | None = None
    where: Callable[[Member], object] | None = None

    def mask(self, part: Columns, named: Mask | None = None) -> Mask:
        """Compute which rows pass.

        Args:
            part: The rows.
            named: Which of them have one of the names; None: look them up in `names`.

        Returns:
            (n,) bool.

        Raises:
            FactsMissingError: a condition needs a column that the table does not have.
        """
        import numpy as np

        passed = np.ones(len(part), bool)
        if self.globs:
            passed &= _match_globs(part, self.globs)
        if self.exclude:
            passed &= ~_match_globs(part, self.exclude)
        if self.min_size is not None or self.max_size is not None:
            sizes = np.asarray(part.offset_end) - np.asarray(part.offset_start)
            _keep_within(passed, sizes, self.min_size, self.max_size)
        if self.media_types is not None:
            # a table of all 256 codes, indexed by the column, instead of a search for each member
            passed &= np.isin(np.arange(256), self.media_types)[_fact_column(part, "media_type")]
        for fact, least, most in (
            ("width", self.min_width, self.max_width),
            ("height", self.min_height, self.max_height),
        ):
            # at least 1: 0 stands for unknown, and must not pass max_width=100
            if least is not None or most is not None:
                _keep_within(passed, _fact_column(part, fact), max(least or 0, 1), most)
        if self.names is not None:
            passed &= self.names.mark(part) if named is None else named
        if self.regex is not None:
            _keep_if(part, passed, self.regex.search, Columns.iter_names)
        if self.where is not None:
            # reuse: a Member that `where` did not keep is filled again, in two thirds of the time that a new one takes
            _keep_if(part, passed, self.where, partial(Columns.iter_members, reuse=True))
        return passed


def masks(
    conditions: Conditions, parts: Callable[[], Iterable[Columns]], rows: int, *, in_one_pass: bool
) -> Iterator[tuple[Columns, Mask]]:
    """Yield all parts, each with the mask of the rows that meet the conditions.

    Args:
        conditions: The conditions.
        parts: Returns all rows, in order, part by part.
        rows: Number of all rows.
        in_one_pass: Call `parts` only once, because its rows are fetched from a server.
    """
    names = conditions.names
    named = names.marks(parts, rows) if names and not in_one_pass else None
    first = 0
    for part in parts():
        some = None if named is None else named[first : first + len(part)]
        yield part, conditions.mask(part, some)
        first += len(part)


def make_conditions(
    *,
    globs: tuple[str, ...],
    exclude: Iterable[str],
    regex: str | re.Pattern[str] | None,
    names: Rows | Iterable[str | Member] | None,
    media_type: str | Iterable[str] | None,
    where: Callable[[Member], object] | None,
    **bounds: int | None,
) -> Conditions:
    """Check the arguments of `Index.select`, and make conditions of them.

    Raises:
        TypeError: an argument has another type.
        ValueError: no media type matches, or the regex is not a regular expression.
    """
    for name, bound in bounds.items():
        if bound is not None:
            check_whole(name, bound)
    check_callable("where", where)
    for glob in globs:
        check_text("globs", glob)
    return Conditions(
        globs=globs,
        exclude=tuple(check_texts("exclude", exclude)),
        regex=None if regex is None else _compile_regex(regex),
        names=None if names is None else NameTables(names),
        media_types=None
        if media_type is None
        else find_media_types(check_texts("media_type", media_type)),
        where=where,
        **bounds,
    )


def _compile_regex(regex: str | re.Pattern[str]) -> re.Pattern[str]:
    if isinstance(regex, re.Pattern):
        check_text("regex", regex.pattern)
        return regex
    check_text("regex", regex)
    try:
        return re.compile(regex)
    # re.error is not a ValueError, but errors.py promises a ValueError for a wrong value of an argument
    except re.error as exc:
        raise ValueError(f"regex must be a regular expression, not {regex!r}: {exc}") from exc


def find_media_types(globs: Iterable[str]) -> tuple[int, ...]:
    """Return the codes of the media types that match any of the globs.

    Raises:
        ValueError: a glob matches no known media type, such as the misspelled "image/jpg".
    """
    from fnmatch import fnmatchcase

    codes: set[int] = set()
    for glob in globs:
        found = {code for code, name in enumerate(MEDIA_TYPES) if code and fnmatchcase(name, glob)}
        if not found:
            raise ValueError(
                f"media_type must be or match one of {', '.join(MEDIA_TYPES[1:])}, not {glob!r}"
            )
        codes |= found
    return tuple(sorted(codes))


def _match_globs(part: Columns, globs: tuple[str, ...]) -> Mask:
    import numpy as np

    return np.frombuffer(match_names(part.names, part.name_bounds, globs), np.bool_)


def _keep_within(passed: Mask, values: NDArray[Any], least: int | None, most: int | None) -> None:
    if least is not None:
        passed &= values >= least
    if most is not None:
        passed &= values <= most


def _fact_column(part: Columns, name: str) -> NDArray[Any]:
    import numpy as np

    column = getattr(part, name)
    # a table without rows has no facts either, but nothing is missing
    if column is None and len(part):
        raise FactsMissingError(
            f"the index has no {name.replace('_', ' ')} of its members: `blobpack index --facts BLOB` "
            "adds the facts to the index of an existing blob; pack adds them, too, but not with --no-facts"
        )
    return np.asarray(column if column is not None else np.zeros(0, np.uint8))


def _keep_if(
    part: Columns,
    passed: Mask,
    ask: Callable[[Any], object],
    iterate: Callable[[Columns, memoryview], NameIterator | MemberIterator],
) -> None:
    """Call a function for each row that passed so far, in order, and drop the rows for which it returns false.

    The loop is in Python because a call of a Python function from C takes longer than one from Python.
    """
    for first in range(0, len(part), ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, len(part))
        # a view: what is assigned to it changes `passed`
        mask = passed[first:last]
        members = iterate(part.slice(first, last), mask.data.cast("B"))
        rows = [members.row for member in members if ask(member)]
        mask[:] = False
        mask[rows] = True
