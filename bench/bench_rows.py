"""Members by row, and as Members, beside members by name: reads of (a), and lookups in the index file of (b).

The system beside blobpack is blobpack itself, asked by name. A ratio of more than 1 means that a row costs more. The rows
of (b) are a million. `member in index` compares the offsets and the checksum, too, so it costs somewhat more than a name.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from data import SEED

import blobpack
from blobpack import Index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from conftest import Figure
    from data import DataSets

    from blobpack import Blob

READS = 10_000
LOOKUPS = 100_000
ROUNDS = 15
BY_NAME = "blobpack, by name"


@pytest.fixture(scope="module")
def blob(data: DataSets) -> Iterator[Blob]:
    """Open (a) with its index file, which is mapped."""
    path = data.tar("a").path
    index = path.with_suffix(".rows.idx")
    blobpack.scan(path).save(index)
    with blobpack.open_blob(path, index) as blob:
        yield blob
    index.unlink()


@pytest.fixture(scope="module")
def index(data: DataSets, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Open the index file of (b)."""
    path = tmp_path_factory.mktemp("rows") / "b.idx"
    blobpack.scan(data.tar("b_gnu").path).save(path)
    return Index.load(path)


def rows_of(index: Index, count: int) -> list[int]:
    """Choose rows at random."""
    return random.Random(SEED).choices(range(len(index)), k=count)


def each(ask: Callable[[object], object], asked: Iterable[object]) -> Callable[[], None]:
    """Return a function that asks for one after the other."""

    def ask_all() -> None:
        for which in asked:
            ask(which)

    return ask_all


def bench_read(figure: Figure, blob: Blob) -> None:
    """Read by row."""
    rows = rows_of(blob.index, READS)
    figure.of("read by row (a) 4.6 KB", items=READS, unit="read")
    figure.take(each(blob.read, rows), rounds=ROUNDS)
    assert [*map(blob.read, rows[:100])] == [*map(blob.read, names_of(blob.index, rows[:100]))]


def bench_read_by_name(figure: Figure, blob: Blob) -> None:
    """Read by name."""
    names = names_of(blob.index, rows_of(blob.index, READS))
    figure.of("read by row (a) 4.6 KB", BY_NAME, items=READS, unit="read")
    figure.take(each(blob.read, names), rounds=ROUNDS)


def bench_read_member(figure: Figure, blob: Blob) -> None:
    """Read a Member."""
    members = [blob.index[row] for row in rows_of(blob.index, READS)]
    figure.of("read a Member (a) 4.6 KB", items=READS, unit="read")
    figure.take(each(blob.read, members), rounds=ROUNDS)


def bench_read_member_by_name(figure: Figure, blob: Blob) -> None:
    """Read by name."""
    names = names_of(blob.index, rows_of(blob.index, READS))
    figure.of("read a Member (a) 4.6 KB", BY_NAME, items=READS, unit="read")
    figure.take(each(blob.read, names), rounds=ROUNDS)


def bench_contains(figure: Figure, index: Index) -> None:
    """Look whether a Member is in the index: member in index."""
    members = [index[row] for row in rows_of(index, LOOKUPS)]
    figure.of("member in an index file (b)", items=LOOKUPS, unit="member")
    figure.take(each(index.__contains__, members), rounds=ROUNDS)


def bench_contains_by_name(figure: Figure, index: Index) -> None:
    """Look whether a name is in the index: name in index."""
    names = names_of(index, rows_of(index, LOOKUPS))
    figure.of("member in an index file (b)", BY_NAME, items=LOOKUPS, unit="member")
    figure.take(each(index.__contains__, names), rounds=ROUNDS)


def bench_member(figure: Figure, index: Index) -> None:
    """Make a Member by its row: index[i]."""
    figure.of("index[i] in an index file (b)", items=LOOKUPS, unit="member")
    figure.take(each(index.__getitem__, rows_of(index, LOOKUPS)), rounds=ROUNDS)


def bench_member_by_name(figure: Figure, index: Index) -> None:
    """Make a Member by its name: index[name]."""
    names = names_of(index, rows_of(index, LOOKUPS))
    figure.of("index[i] in an index file (b)", BY_NAME, items=LOOKUPS, unit="member")
    figure.take(each(index.__getitem__, names), rounds=ROUNDS)


def bench_name(figure: Figure, index: Index) -> None:
    """Decode a name by its row: index.names[i]."""
    figure.of("index.names[i] in an index file (b)", items=LOOKUPS, unit="name")
    figure.take(
        each(lambda row: index.names[row], rows_of(index, LOOKUPS)),  # type: ignore[index]
        rounds=ROUNDS,
    )


def bench_name_by_name(figure: Figure, index: Index) -> None:
    """Make a Member by its name: index[name]."""
    names = names_of(index, rows_of(index, LOOKUPS))
    figure.of("index.names[i] in an index file (b)", BY_NAME, items=LOOKUPS, unit="name")
    figure.take(each(lambda name: index[name], names), rounds=ROUNDS)  # type: ignore[call-overload]


def names_of(index: Index, rows: list[int]) -> list[str]:
    """Return the names in rows, which are unique in these data sets."""
    return [index.names[row] for row in rows]
