"""Index files against both of blobpack's readers. Oracle: the plain reader of the tests, written from docs/format.md alone.

One reader maps a local file, the other one fetches ranges from a store. Rows, with their facts, and lookups of a file that is
accepted must be those of the plain reader. A sound file must give back its members.
"""

from __future__ import annotations

import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from plain_reader import ROWS, PlainIndex, PlainMember, hash_of

from blobpack import FormatError, Index
from blobpack.indexfile.open import open_stored, read_footer
from blobpack.stores.memory import MemoryStore
from fuzz.damage import damage
from fuzz.index_files import RowReader, damage_sealed, make_index

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


class Case(NamedTuple):
    """An index file, the names to look up, and its rows if it is sound."""

    data: bytes
    names: list[str]
    rows: list[PlainMember] | None


def make(generator: random.Random) -> Case:
    """Make an index file, two times in three damaged, mostly with right checksums."""
    index = make_index(generator)
    data = packed(index)
    rows = rows_of(index)
    known = [as_text(row.name) for row in rows]
    names = [*generator.sample(known, min(4, len(known))), "absent", ""]
    names += in_last_line(data, known)
    chance = generator.random()
    if chance < 0.34:
        return Case(data, names, rows)
    if chance < 0.8:
        return Case(damage_sealed(data, generator), names, None)
    return Case(damage(data, generator), names, None)


def packed(index: Index) -> bytes:
    """Return the index as the bytes of its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.idx")
        index.save(path)
        return path.read_bytes()


def in_last_line(data: bytes, known: list[str]) -> list[str]:
    """Return names whose slots begin in the last line of a page of the lookup, and may go on in the first line.

    They are among the last names, which find the most slots taken.
    """
    seed = PlainIndex(data).seed
    return [
        name
        for name in known[-300:]
        if (hash_of(name.encode("utf-8", "surrogateescape"), seed) & 0xFFFF) * 63 >> 16 == 62
    ]


def as_text(name: bytes) -> str:
    """Return a name as blobpack shows it."""
    return name.decode("utf-8", "surrogateescape")


def rows_of(index: Index) -> list[PlainMember]:
    """Return all rows of an index, as the plain reader returns them."""
    columns = index._columns
    names = bytes(columns.names)
    facts = {fact: column.tolist() for fact, column in columns.facts()}
    bounds = pairwise(columns.name_bounds.tolist())
    starts, ends = columns.offset_start.tolist(), columns.offset_end.tolist()
    return [
        PlainMember(
            names[first:last], start, end, {fact: values[row] for fact, values in facts.items()}
        )
        for row, ((first, last), start, end) in enumerate(zip(bounds, starts, ends, strict=True))
    ]


def check(case: Case, folder: Path) -> str:
    """Compare both readers with the plain reader.

    Returns:
        "refused", or "accepted" if one of them read all rows.
    """
    path = folder / "a.idx"
    path.write_bytes(case.data)
    openers = (partial(Index.load, path), partial(fetched, case.data))
    accepted = [check_reader(case, load) for load in openers]
    return "accepted" if any(accepted) else "refused"


def fetched(data: bytes) -> Index:
    """Open an index that is read by ranges.

    Raises:
        FormatError: it is damaged, or not the index of one blob.
    """
    store = MemoryStore(data)
    footer = read_footer(store)
    if footer is None or footer.region_bytes != len(data) or footer.blobs_bytes:
        raise FormatError("not the index of one blob", offset=0)
    return Index._from_stored(open_stored(store, 0, footer))


def check_reader(case: Case, load: Callable[[], Index]) -> bool:
    """Compare all rows and some lookups of one reader with those of the plain reader; return whether it read all rows."""
    # Opened twice: after all rows were read, lookups use the rows and not the sections of the file.
    try:
        with_lookup, with_rows = load(), load()
    except FormatError as exc:
        check_refusal(case, exc)
        return False
    is_read = False
    try:
        rows = rows_of(with_rows)
    except FormatError as exc:
        check_refusal(case, exc)
    else:
        is_read = True
        assert rows == list(RowReader(case.data).members()), "rows"
        assert case.rows is None or rows == case.rows, "rows that were saved"
        assert with_rows._last_end >= max((row.offset_end for row in rows), default=0), "last_end"
    for name in case.names:
        check_lookup(case, with_lookup, name)
    return is_read


def check_refusal(case: Case, exc: FormatError) -> None:
    """Check that a file was refused for a reason within it."""
    assert case.rows is None, exc
    assert exc.offset is not None
    assert 0 <= exc.offset <= len(case.data), exc


def check_lookup(case: Case, index: Index, name: str) -> None:
    """Look up one name: the last row of that name must be found, or in a damaged file, another row of that name."""
    try:
        row = index.row_of(name)
        member = index._member_at(row)
    except LookupError:
        row = member = None
    except FormatError as exc:
        check_refusal(case, exc)
        return
    raw = name.encode("utf-8", "surrogateescape")
    if case.rows is None:
        if row is not None and member is not None:
            # A damaged lookup may lead to any row, but not to one of another name.
            found = RowReader(case.data).block(row // ROWS)[row % ROWS]
            assert found[:3] == (raw, member.offset_start, member.offset_end), (name, found)
        return
    plain = PlainIndex(case.data)
    last = max((row for row, found in enumerate(case.rows) if found.name == raw), default=None)
    assert row == last == plain.find_by_lookup(raw), name
    assert not plain.guide_bytes or row == plain.find_by_guide(raw), name
