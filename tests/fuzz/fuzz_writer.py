"""The writer of index files, also when it adds members to an index. Oracle: a dict of names, and the rows themselves.

Few hashes of names stay in memory, so most indexes are made through the temporary file of hashes. An index that members are
added to may be damaged. Then adding fails, or what is found under a name is a row of that name.
"""

from __future__ import annotations

import fnmatch
import glob
from array import array
from contextlib import closing
from functools import partial
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from blobpack import BlobpackError, FormatError, Index
from blobpack._native.name_hashes import LookupFullError, NameHashes
from blobpack.columns import FACTS, Columns
from blobpack.indexfile import encoder
from blobpack.indexfile.extend import Base
from blobpack.indexfile.writer import write_sections
from blobpack.stores.sink import FileSink
from fuzz.damage import damage
from fuzz.index_files import damage_sealed
from fuzz.index_steps import Case, Step, make

__all__ = ["check", "make"]

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LOOKED_UP = 400  # names of one index, at most


class Rows:
    """All rows that an index must hold, and which of them have equal names."""

    def __init__(self, case: Case) -> None:
        self._random = np.random.default_rng(case.seed)
        self._facts = case.facts
        self.parts: list[Columns] = []
        self.names: list[bytes] = []
        self.last: dict[bytes, int] = {}
        self.repeated: list[tuple[int, int]] = []
        self.clashes: list[tuple[int, int]] = []
        self._normal: dict[bytes, int] = {}

    def add(self, step: Step) -> list[Columns]:
        """Add the members of a step, and return them as columns."""
        parts = [self._columns_of(names) for names in step.parts]
        self.parts += parts
        for name in (name for part in step.parts for name in part):
            row, normal = len(self.names), normal_of(name)
            self.names.append(name)
            if name in self.last:
                self.repeated.append((self.last[name], row))
            if normal in self._normal:
                self.clashes.append((self._normal[normal], row))
            self.last[name] = self._normal[normal] = row
        return parts

    def _columns_of(self, names: list[bytes]) -> Columns:
        count = len(names)
        bounds = array("q", accumulate(map(len, names), initial=0))
        starts = self._random.integers(0, 1 << 40, count) * int(self._random.choice((1, 512)))
        ends = starts + self._random.integers(0, 1 << int(self._random.choice((1, 20, 40))), count)
        facts = {
            name: as_column(self._random.integers(0, 7, count).astype(FACTS[name]), FACTS[name])
            for name in self._facts
        }
        packed = memoryview(b"".join(names))
        return Columns(
            packed, memoryview(bounds), as_column(starts, "q"), as_column(ends, "q"), **facts
        )


def as_column(values: NDArray[np.integer[Any]], kind: str) -> memoryview:
    """Return numbers as a column of this kind."""
    return memoryview(array(kind, values.tobytes()))


def normal_of(name: bytes) -> bytes:
    """Return the path that a name is extracted to."""
    return b"/".join(piece for piece in name.split(b"/") if piece not in {b"", b"."})


def check(case: Case, folder: Path) -> str:
    """Write the index step by step, and compare it with the rows after each step.

    Returns:
        "refused" if members could not be added to a damaged index; else "accepted".
    """
    path = folder / "a.idx"
    rows = Rows(case)
    for number, step in enumerate(case.steps):
        if step.damage_seed is not None:
            path.write_bytes(damaged(path.read_bytes(), step.damage_seed))
        first_new = len(rows.names)
        added = rows.add(step)
        try:
            with closing(Index.load(path) if number else Index()) as before:
                if before.facts != frozenset(case.facts) and len(before):
                    assert step.damage_seed is not None
                    return "refused"
                report, extended = write(folder / "b.idx", step, added, before)
        except BlobpackError:
            assert step.damage_seed is not None
            return "refused"
        (folder / "b.idx").replace(path)
        if step.damage_seed is not None:
            check_damaged(path, rows, first_new)
            return "accepted"
        with closing(Index.load(path)) as index:
            if step.reports and index._stored.footer.lookup_pages:
                check_report(report, rows, first_new if extended else 0)
            check_index(index, rows)
    return "accepted"


def damaged(data: bytes, seed: int) -> bytes:
    """Damage an index file, mostly with right checksums."""
    generator = Random(seed)
    return (damage_sealed if generator.random() < 0.8 else damage)(data, generator)


def write(
    path: Path, step: Step, added: list[Columns], before: Index
) -> tuple[set[tuple[int, int]], bool]:
    """Write an index of the members before and those that are added, as collect does.

    Returns:
        The rows that were reported because of their names, and whether the index before was copied.
    """
    report: set[tuple[int, int]] = set()

    def repeated(row: int, other: int, *_names: str) -> None:
        report.add((row, other))

    stored = before._stored
    base = Base.of(stored, compares_files=step.reports) if stored is not None else None
    hashes = partial(NameHashes, in_memory=step.in_memory)
    with path.open("w+b") as file, mock.patch.object(encoder, "NameHashes", hashes):
        sink = FileSink(file, str(path))
        options = {
            "identity": None,
            "blobs": bytes,  # no section of blobs, but names are compared as those of a collection
            "repeated": repeated if step.reports else None,
            "page_names": step.page_names,
        }
        try:
            parts = added if base else [*before._parts(), *added]
            footer = write_sections(sink, parts, None, base=base, **options)
        except LookupFullError:
            base = None
            sink.restart()
            footer = write_sections(sink, [*before._parts(), *added], None, **options)
        sink.write(footer.encode())
    return report, base is not None


def check_report(report: set[tuple[int, int]], rows: Rows, first_new: int) -> None:
    """Check that all rows of one name were reported, and some of one normal form."""
    missing = {pair for pair in rows.repeated if pair[1] >= first_new} - report
    assert not missing, ("not reported", sorted(missing)[:3])
    for row, other in report:
        assert row < other
        assert normal_of(rows.names[row]) == normal_of(rows.names[other]), (row, other)
    assert report or not any(other >= first_new for _, other in rows.clashes), "no clash"


def check_index(index: Index, rows: Rows) -> None:
    """Compare all rows of an index, and the answers to lookups and selections, with the rows that were written."""
    index._check_lookup()
    assert len(index) == len(rows.names)
    whole = Columns.concatenate(rows.parts)
    # facts of no rows are none
    assert not rows.names or Columns.concatenate([*index._parts()]) == whole
    generator = Random(len(rows.names))
    known = [*rows.last]
    asked = known if len(known) <= LOOKED_UP else generator.sample(known, LOOKED_UP)
    texts = [as_text(name) for name in asked]
    found = [index._find(text) for text in texts]
    assert found == [rows.last[name] for name in asked]
    for text, row in zip(texts[:50], found, strict=False):
        assert index._name_at(row) == text
        bounds = whole.offset_start[row], whole.offset_end[row]
        assert index._bounds_at(row) == index._bounds_of(text) == bounds
        assert index._find(text + "\udcff") == rows.last.get(name_of(text + "\udcff"), -1)
    if not known:
        assert index._find("first") == -1
        return
    text = as_text(generator.choice(known))
    pattern = glob.escape(text[: generator.randint(0, len(text))]) + "*"
    selected = [row for row, name in enumerate(rows.names) if matches(name, pattern)]
    assert index.select(pattern)._columns == whole.take(np.array(selected, np.int64))


def matches(name: bytes, pattern: str) -> bool:
    return fnmatch.fnmatchcase(as_text(name), pattern)


def as_text(name: bytes) -> str:
    """Return a name as blobpack shows it."""
    return name.decode("utf-8", "surrogateescape")


def name_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def check_damaged(path: Path, rows: Rows, first_new: int) -> None:
    """Check that new names are found in an index that was damaged before they were added, or damage is noticed."""
    try:
        index = Index.load(path)
    except FormatError:
        return
    with closing(index):
        for name in rows.names[first_new:][-LOOKED_UP:]:
            try:
                row = index._find(as_text(name))
                assert row >= 0, ("lost", name)
                assert index._name_at(row) == as_text(name)
            except FormatError:
                pass
