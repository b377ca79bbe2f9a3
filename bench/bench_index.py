"""Index: a name looked up, and names chosen by glob, among the million of (b)."""

from __future__ import annotations

import fnmatch
import random
from collections import deque
from typing import TYPE_CHECKING

import pytest
from data import SEED

import blobpack

if TYPE_CHECKING:
    from conftest import Figure
    from data import DataSets

    from blobpack import Index

LOOKUPS = 100_000
ROUNDS = 15
GLOB = "*.jpg"


@pytest.fixture(scope="module")
def index(data: DataSets) -> Index:
    """Scan (b)."""
    return blobpack.scan(data.tar("b_gnu").path)


@pytest.fixture(scope="module")
def names(index: Index) -> list[str]:
    """Choose names to look up: as they come from a file, not the objects of any table."""
    return [str(name) for name in random.Random(SEED).choices(index.names, k=LOOKUPS)]


@pytest.fixture
def ranges(index: Index) -> dict[str, tuple[int, int]]:
    """Return start and end by name, in a dict."""
    return {member.name: (member.offset_start, member.offset_end) for member in index}


def bench_lookup(figure: Figure, index: Index, names: list[str]) -> None:
    """Look up ranges."""
    range_of = index.range_of

    def look_up_all() -> None:
        for name in names:
            range_of(name)

    figure.of("look up a range (b)", items=LOOKUPS, unit="lookup")
    figure.take(look_up_all, rounds=ROUNDS)


def bench_lookup_in_dict(
    figure: Figure, names: list[str], ranges: dict[str, tuple[int, int]]
) -> None:
    """Look them up in a dict."""

    def look_up_all() -> None:
        for name in names:
            ranges[name]

    figure.of("look up a range (b)", "dict", items=LOOKUPS, unit="lookup")
    figure.take(look_up_all, rounds=ROUNDS)


def bench_contains(figure: Figure, index: Index, names: list[str]) -> None:
    """Ask whether names are there."""
    figure.of("name in index (b)", items=LOOKUPS, unit="lookup")
    assert figure.take(lambda: sum(name in index for name in names), rounds=ROUNDS) == LOOKUPS


def bench_contains_in_dict(
    figure: Figure, names: list[str], ranges: dict[str, tuple[int, int]]
) -> None:
    """Ask a dict."""
    figure.of("name in index (b)", "dict", items=LOOKUPS, unit="lookup")
    assert figure.take(lambda: sum(name in ranges for name in names), rounds=ROUNDS) == LOOKUPS


def bench_first_lookup(figure: Figure, index: Index) -> None:
    """Look up one name in an index that has never been asked."""
    name = index.name_at(len(index) // 2)
    figure.of("first lookup (b)", items=len(index), unit="member")
    figure.take(lambda: index.slice(0, len(index)).range_of(name), rounds=7)


def bench_first_lookup_in_dict(figure: Figure, index: Index) -> None:
    """Build a dict from lists that are there, and look up one name."""
    names = index.names[:]
    rows = list(zip(index.offset_start.tolist(), index.offset_end.tolist(), strict=True))
    figure.of("first lookup (b)", "dict", items=len(index), unit="member")
    figure.take(lambda: dict(zip(names, rows, strict=True))[names[len(names) // 2]], rounds=7)


def bench_select(figure: Figure, index: Index) -> None:
    """Choose a third by glob, into an index."""
    figure.of(f"select {GLOB} (b)", items=len(index), unit="member")
    chosen = figure.take(lambda: index.select(GLOB), rounds=ROUNDS)
    assert len(chosen) == -(-len(index) // 3)


def bench_select_with_fnmatch(figure: Figure, index: Index) -> None:
    """Choose from a list of names that is there."""
    names = index.names[:]
    figure.of(f"select {GLOB} (b)", "fnmatch.filter", items=len(index), unit="member")
    assert len(figure.take(lambda: fnmatch.filter(names, GLOB), rounds=5)) == -(-len(index) // 3)


def ends_in_five(name: str) -> bool:
    """Return whether a name matches: a predicate as callers of select write it."""
    return name.endswith("5.jpg")


def bench_select_where(figure: Figure, index: Index) -> None:
    """Choose by a predicate over members' names, into an index."""
    figure.of("select where name (b)", items=len(index), unit="member")
    chosen = figure.take(lambda: index.select(where=lambda m: m.name.endswith("5.jpg")), rounds=7)
    assert len(chosen) == sum(map(ends_in_five, index.names))


def bench_select_where_in_a_loop(figure: Figure, index: Index) -> None:
    """Ask the same of each name in a plain loop."""
    figure.of("select where name (b)", "loop over index.names", items=len(index), unit="member")
    figure.take(lambda: [name for name in index.names if ends_in_five(name)], rounds=7)


def bench_select_where_in_a_list(figure: Figure, index: Index) -> None:
    """Ask the same of each name in a list that is there."""
    names = list(index.names)
    figure.of("select where name (b)", "loop over a list", items=len(index), unit="member")
    figure.take(lambda: [name for name in names if ends_in_five(name)], rounds=7)


def bench_select_where_size(figure: Figure, index: Index) -> None:
    """Choose by a predicate over members' sizes."""
    figure.of("select where size (b)", items=len(index), unit="member")
    figure.take(lambda: index.select(where=lambda m: m.size > 1500), rounds=7)


def bench_select_where_size_in_a_loop(figure: Figure, index: Index) -> None:
    """Ask each size in a list that is there."""
    sizes = (index.offset_end - index.offset_start).tolist()
    is_large = (1500).__lt__
    figure.of("select where size (b)", "loop over a list", items=len(index), unit="member")
    figure.take(lambda: [size for size in sizes if is_large(size)], rounds=7)


def bench_select_names(figure: Figure, index: Index) -> None:
    """Choose the names of another index."""
    other = index.select("*.png")
    figure.of("select names of an index (b)", items=len(index), unit="member")
    assert figure.take(lambda: index.select(names=other), rounds=7) == other


def bench_select_names_of_a_set(figure: Figure, index: Index) -> None:
    """Choose those in a set, from a list that is there."""
    names = list(index.names)
    others = list(index.select("*.png").names)
    figure.of("select names of an index (b)", "set", items=len(index), unit="member")

    def choose() -> list[str]:
        wanted = set(others)
        return [name for name in names if name in wanted]

    assert figure.take(choose, rounds=7) == others


def bench_iterate_members(figure: Figure, index: Index) -> None:
    """Go through all members."""
    figure.of("go through members (b)", items=len(index), unit="member")
    figure.take(lambda: deque(index, 0), rounds=7)


def bench_iterate_tuples(figure: Figure, index: Index) -> None:
    """Make a tuple of each name, start and end, from lists that are there."""
    lists = (list(index.names), index.offset_start.tolist(), index.offset_end.tolist())
    figure.of("go through members (b)", "zip of lists", items=len(index), unit="member")
    figure.take(lambda: deque(map(tuple, zip(*lists, strict=True)), 0), rounds=7)
