"""Index in memory: look up a name, and select names by glob or predicate, among the million members of (b)."""

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
    """Choose names to look up, as new strings: a dict finds the very object that is its key faster than an equal one."""
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
    """Look up ranges in a dict."""

    def look_up_all() -> None:
        for name in names:
            ranges[name]

    figure.of("look up a range (b)", "dict", items=LOOKUPS, unit="lookup")
    figure.take(look_up_all, rounds=ROUNDS)


def bench_contains(figure: Figure, index: Index, names: list[str]) -> None:
    """Test whether names are in the index."""
    figure.of("name in index (b)", items=LOOKUPS, unit="lookup")
    assert figure.take(lambda: sum(name in index for name in names), rounds=ROUNDS) == LOOKUPS


def bench_contains_in_dict(
    figure: Figure, names: list[str], ranges: dict[str, tuple[int, int]]
) -> None:
    """Test whether names are in a dict."""
    figure.of("name in index (b)", "dict", items=LOOKUPS, unit="lookup")
    assert figure.take(lambda: sum(name in ranges for name in names), rounds=ROUNDS) == LOOKUPS


def bench_first_lookup(figure: Figure, index: Index) -> None:
    """Look up one name in a new index, which builds its name table then."""
    name = index._name_at(len(index) // 2)
    figure.of("first lookup (b)", items=len(index), unit="member")
    # a slice is a new index without a name table
    figure.take(lambda: index[:].range_of(name), rounds=7)


def bench_first_lookup_in_dict(figure: Figure, index: Index) -> None:
    """Build a dict from lists that exist already, and look up one name."""
    names = index.names[:]
    rows = list(zip(index.offset_start.tolist(), index.offset_end.tolist(), strict=True))
    figure.of("first lookup (b)", "dict", items=len(index), unit="member")
    figure.take(lambda: dict(zip(names, rows, strict=True))[names[len(names) // 2]], rounds=7)


def bench_select(figure: Figure, index: Index) -> None:
    """Select a third of the members by glob, into an index."""
    figure.of(f"select {GLOB} (b)", items=len(index), unit="member")
    chosen = figure.take(lambda: index.select(GLOB), rounds=ROUNDS)
    assert len(chosen) == -(-len(index) // 3)


def bench_select_with_fnmatch(figure: Figure, index: Index) -> None:
    """Select from a list of names that exists already."""
    names = index.names[:]
    figure.of(f"select {GLOB} (b)", "fnmatch.filter", items=len(index), unit="member")
    assert len(figure.take(lambda: fnmatch.filter(names, GLOB), rounds=5)) == -(-len(index) // 3)


def ends_in_five(name: str) -> bool:
    """Return whether a name matches: a predicate as callers of select write it."""
    return name.endswith("5.jpg")


def bench_select_where(figure: Figure, index: Index) -> None:
    """Select by a predicate over the names of members, into an index."""
    figure.of("select where name (b)", items=len(index), unit="member")
    chosen = figure.take(lambda: index.select(where=lambda m: m.name.endswith("5.jpg")), rounds=7)
    assert len(chosen) == sum(map(ends_in_five, index.names))


def bench_select_where_in_a_loop(figure: Figure, index: Index) -> None:
    """Apply the predicate to each name in a plain loop over the index."""
    figure.of("select where name (b)", "loop over index.names", items=len(index), unit="member")
    figure.take(lambda: [name for name in index.names if ends_in_five(name)], rounds=7)


def bench_select_where_in_a_list(figure: Figure, index: Index) -> None:
    """Apply the predicate to each name in a list that exists already."""
    names = list(index.names)
    figure.of("select where name (b)", "loop over a list", items=len(index), unit="member")
    figure.take(lambda: [name for name in names if ends_in_five(name)], rounds=7)


def bench_select_where_size(figure: Figure, index: Index) -> None:
    """Select by a predicate over the sizes of members."""
    figure.of("select where size (b)", items=len(index), unit="member")
    figure.take(lambda: index.select(where=lambda m: m.size > 1500), rounds=7)


def bench_select_where_size_in_a_loop(figure: Figure, index: Index) -> None:
    """Apply the predicate to each size in a list that exists already."""
    sizes = (index.offset_end - index.offset_start).tolist()
    # a bound method in C, the fastest predicate that Python has
    is_large = (1500).__lt__
    figure.of("select where size (b)", "loop over a list", items=len(index), unit="member")
    figure.take(lambda: [size for size in sizes if is_large(size)], rounds=7)


def bench_select_names(figure: Figure, index: Index) -> None:
    """Select the names of another index."""
    other = index.select("*.png")
    figure.of("select names of an index (b)", items=len(index), unit="member")
    assert figure.take(lambda: index.select(names=other), rounds=7) == other


def bench_select_names_of_a_set(figure: Figure, index: Index) -> None:
    """Select the names that are in a set, from a list that exists already."""
    names = list(index.names)
    others = list(index.select("*.png").names)
    figure.of("select names of an index (b)", "set", items=len(index), unit="member")

    def choose() -> list[str]:
        wanted = set(others)
        return [name for name in names if name in wanted]

    assert figure.take(choose, rounds=7) == others


def bench_iterate_members(figure: Figure, index: Index) -> None:
    """Iterate over all members."""
    figure.of("go through members (b)", items=len(index), unit="member")
    figure.take(lambda: deque(index, 0), rounds=7)


def bench_iterate_tuples(figure: Figure, index: Index) -> None:
    """Make a tuple of each name, start and end, from lists that exist already."""
    lists = (list(index.names), index.offset_start.tolist(), index.offset_end.tolist())
    figure.of("go through members (b)", "zip of lists", items=len(index), unit="member")
    figure.take(lambda: deque(map(tuple, zip(*lists, strict=True)), 0), rounds=7)
