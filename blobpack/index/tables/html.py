"""An index as a table in HTML, which Jupyter shows in place of its repr.

Strategy: read the first and the last rows only, and cut long names, so that the table of any index is small. Nothing is
imported for it: pandas would take half a second.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from blobpack.columns import FACTS
from blobpack.errors import BlobpackError
from blobpack.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.index.tabular import TabularRows
    from blobpack.model import Member

# rows shown of the beginning, and of the end
ROWS_SHOWN = 5
NAME_SHOWN = 100  # characters


def html_table(index: TabularRows) -> str:
    """Return a table of the first and last rows, whatever the names are."""
    facts = [fact for fact in FACTS if fact in index.facts]
    try:
        rows = "".join(_rows(index, facts))
    # what is shown in passing must not fail: a notebook may show an index after its blob was closed
    except BlobpackError as exc:
        return f"<p>{escape(repr(index))}: {escape(str(exc))}</p>"
    titles = "".join(
        f"<th>{title}</th>" for title in ("", "name", "offset_start", "offset_end", *facts)
    )
    return (
        f"<table><caption>{counted(len(index), 'member')}</caption><thead><tr>{titles}</tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _rows(index: TabularRows, facts: list[str]) -> Iterator[str]:
    first = min(len(index), ROWS_SHOWN)
    last = max(first, len(index) - ROWS_SHOWN)
    for row in range(first):
        yield _row(row, index._member_at(row), facts)
    if last > first:
        yield f"<tr>{'<td>…</td>' * (4 + len(facts))}</tr>"
    for row in range(last, len(index)):
        yield _row(row, index._member_at(row), facts)


def _row(row: int, member: Member, facts: list[str]) -> str:
    known = [getattr(member, fact) for fact in facts]
    numbers = (f"{member.offset_start:,}", f"{member.offset_end:,}")
    values = (*numbers, *("" if value is None else str(value) for value in known))
    cells = "".join(f"<td>{escape(value)}</td>" for value in values)
    return f"<tr><th>{row:,}</th><td>{_shown_name(member.name)}</td>{cells}</tr>"


def _shown_name(name: str) -> str:
    if len(name) > NAME_SHOWN:
        name = f"{name[: NAME_SHOWN // 2]}…{name[-NAME_SHOWN // 2 :]}"
    # a byte that is not UTF-8 stands as a surrogate, which no notebook can save
    return escape(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
