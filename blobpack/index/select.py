"""Which members a selection keeps: conditions → rows of columns, with no object a member but for `where`.

Every condition narrows one mask; those that call Python come last, and only for the rows that are left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from blobpack._native.globs import match_names
from blobpack._native.lookup import NameLookup
from blobpack.columns import MEDIA_TYPES, Columns
from blobpack.errors import FactsMissingError
from blobpack.model import check_callable, check_text, check_texts, check_whole, names_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.members import Member, MemberIterator, NameIterator

    Mask = NDArray[np.bool_]

ROWS_AT_ONCE = 1 << 16  # rows that wait in a list


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What members must be like; all must hold, and one that is None always does.

    Attributes:
        globs: Any of these matches the whole name; with none, all names pass.
        exclude: None of these matches it.
        regex: Is found somewhere in it.
        names: It is one of these.
        min_size: Bytes of the payload.
        max_size: The same.
        media_types: The media type is one of these places in MEDIA_TYPES.
        min_width: Pixels; what is unknown passes no condition.
        max_width: The same.
        min_height: The same.
        max_height: The same.
        where: Called with a Member that passed all others; true keeps it.
    """

    globs: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    regex: re.Pattern[str] | None = None
    names: NameLookup | None = None
    min_size: int | None = None
    max_size: int | None = None
    media_types: tuple[int, ...] | None = None
    min_width: int | None = None
    max_width: int | None = None
    min_height: int | None = None
    max_height: int | None = None
    where: Callable[[Member], object] | None = None

    def kept(self, part: Columns) -> Columns:
        """Make a table of the rows that pass, in their order.

        Raises:
            FactsMissingError: a condition on a column that the table does not have.
        """
        import numpy as np

        return part.take(np.flatnonzero(self.mask(part)))

    def mask(self, part: Columns) -> Mask:
        """Tell which rows pass.

        Returns:
            (n,) bool.

        Raises:
            FactsMissingError: a condition on a column that the table does not have.
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
            passed &= np.isin(np.arange(256), self.media_types)[_fact_column(part, "media_type")]
        for fact, least, most in (
            ("width", self.min_width, self.max_width),
            ("height", self.min_height, self.max_height),
        ):
            if least is not None or most is not None:
                _keep_within(passed, _fact_column(part, fact), max(least or 0, 1), most)
        if self.names is not None:
            marked = self.names.mark(part.names, part.name_bounds)
            passed &= np.frombuffer(marked, np.bool_)
        if self.regex is not None:
            _keep_if(part, passed, self.regex.search, Columns.iter_names)
        if self.where is not None:
            _keep_if(part, passed, self.where, partial(Columns.iter_members, reuse=True))
        return passed


def make_conditions(
    *,
    globs: tuple[str, ...],
    exclude: Iterable[str],
    regex: str | re.Pattern[str] | None,
    names: Columns | Iterable[str | Member] | None,
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
        names=None if names is None else look_up_names(names),
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
    except re.error as exc:  # which is no ValueError
        raise ValueError(f"regex must be a regular expression, not {regex!r}: {exc}") from exc


def find_media_types(globs: Iterable[str]) -> tuple[int, ...]:
    """Find the codes of the media types that match any of the globs.

    Raises:
        ValueError: a glob that matches no media type there is, such as a wrong "image/jpg".
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


def look_up_names(names: Columns | Iterable[str | Member]) -> NameLookup:
    """Make a table of names to be found."""
    if isinstance(names, Columns):
        return NameLookup(names.names, names.name_bounds)
    from array import array
    from itertools import accumulate

    listed = [names] if isinstance(names, str) else names_of(names)
    packed = list(map(_encode_name, listed))
    bounds = array("q", accumulate(map(len, packed), initial=0))
    return NameLookup(b"".join(packed), bounds)


def _encode_name(name: str) -> bytes:
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # other surrogates: no member is called like that
        return name.encode("utf-8", "surrogatepass")


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
    if column is None and len(part):
        raise FactsMissingError(
            f"the index has no {name.replace('_', ' ')} of its members: `blobpack index --facts BLOB` "
            "takes the facts of a blob that is there; pack takes them unless it is told --no-facts"
        )
    return np.asarray(column if column is not None else np.zeros(0, np.uint8))


def _keep_if(
    part: Columns,
    passed: Mask,
    ask: Callable[[Any], object],
    iterate: Callable[[Columns, memoryview], NameIterator | MemberIterator],
) -> None:
    """Ask of each row that passed so far, in their order.

    A loop in Python, because calling Python from C takes longer.
    """
    for first in range(0, len(part), ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, len(part))
        mask = passed[first:last]
        members = iterate(part.slice(first, last), mask.data.cast("B"))
        rows = [members.row for member in members if ask(member)]
        mask[:] = False
        mask[rows] = True
