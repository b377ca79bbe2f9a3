"""Index files against `Index.load`. Oracle: the plain reader of the tests, which was written from docs/format.md alone.

Rows and lookups of a file that both readers accept must agree. A sound file must give back its members.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from plain_reader import DamagedError, PlainIndex

from blobpack import FormatError, Index
from fuzz.damage import damage
from fuzz.index_files import RowReader, damage_sealed, make_index

if TYPE_CHECKING:
    import random
    from pathlib import Path

    Row = tuple[str, int, int]


class Case(NamedTuple):
    """An index file, the names to look up, and its rows if it is sound."""

    data: bytes
    names: list[str]
    rows: list[Row] | None


def make(generator: random.Random) -> Case:
    """Make an index file, two times in three damaged, mostly with right checksums."""
    index = make_index(generator)
    data = packed(index)
    rows = rows_of(index)
    known = [name for name, _, _ in rows]
    names = [*generator.sample(known, min(4, len(known))), "absent", ""]
    chance = generator.random()
    if chance < 0.34:
        return Case(data, names, rows)
    if chance < 0.8:
        return Case(damage_sealed(data, generator), names, None)
    return Case(damage(data, generator), names, None)


def packed(index: Index) -> bytes:
    """Return the index as the bytes of its file."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder, "a.idx"))
        return Path(folder, "a.idx").read_bytes()


def rows_of(index: Index) -> list[Row]:
    """Return all rows of an index."""
    return [(member.name, member.offset_start, member.offset_end) for member in index]


def check(case: Case, folder: Path) -> str:
    """Compare all rows and some lookups with those of the plain reader.

    Returns:
        "refused", or "accepted" if all rows were read.
    """
    path = folder / "a.idx"
    path.write_bytes(case.data)
    outcome = "refused"
    # Opened twice: after all rows were read, lookups use the rows and not the sections of the file.
    with_lookup = with_rows = None
    try:
        with_lookup, with_rows = Index.load(path), Index.load(path)
    except FormatError as exc:
        assert case.rows is None, exc
        return outcome
    try:
        rows = rows_of(with_rows)
    except FormatError as exc:
        assert case.rows is None, exc
    else:
        outcome = "accepted"
        expected = case.rows if case.rows is not None else plain_rows(case.data)
        assert rows == expected, "rows"
        assert with_rows.last_end >= max((end for _, _, end in rows), default=0), "last_end"
    for name in case.names:
        check_lookup(case, with_lookup, name)
    return outcome


def plain_rows(data: bytes) -> list[Row]:
    """Return the rows that the plain reader finds."""
    return [
        (member.name.decode("utf-8", "surrogateescape"), member.offset_start, member.offset_end)
        for member in RowReader(data).members()
    ]


def check_lookup(case: Case, index: Index, name: str) -> None:
    """Look up one name: a member that is found has this name, and is the one that the plain reader finds."""
    try:
        row = index.row_of(name)
        member = index.member_at(row)
    except LookupError:
        row = member = None
    except FormatError as exc:
        assert case.rows is None, exc
        return
    if case.rows is not None:
        last = max((row for row, found in enumerate(case.rows) if found[0] == name), default=None)
        assert row == last, name
    elif member is not None:
        assert member.name == name
        # The plain reader refuses more: it reads the guide before it looks up a name.
        with suppress(DamagedError, UnicodeDecodeError):
            plain = PlainIndex(case.data)
            raw = name.encode("utf-8", "surrogateescape")
            assert row in {
                plain.find_by_lookup(raw),
                plain.find_by_guide(raw) if plain.guide_bytes else None,
            }
