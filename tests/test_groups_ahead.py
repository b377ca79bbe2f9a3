"""Groups are decoded by several threads, the caller's among them, and come in order."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from blobpack.reading.groups_ahead import GROUP_BYTES_MAX, GROUP_ITEMS_MAX, decode_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 120


@pytest.fixture(params=[1, 2, 5])
def processors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("blobpack.reading.groups_ahead.processor_count", lambda most: request.param)
    return request.param


def small(item: object) -> int:
    return 1


@pytest.mark.usefixtures("processors")
def test_each_item_is_decoded_once_and_they_come_in_order() -> None:
    decoded = Counter()

    def decode(group: list[int]) -> Iterator[int]:
        for item in group:
            decoded[item] += 1
            yield -item

    for count in (0, 1, 8, 9, 1000):
        decoded.clear()
        assert list(decode_groups(decode, range(count), small)) == [-i for i in range(count)]
        assert decoded == Counter(range(count))


@pytest.mark.usefixtures("processors")
def test_the_callers_thread_decodes_instead_of_waiting() -> None:
    caller = threading.get_ident()
    caller_decoded = threading.Event()

    def decode(group: list[int]) -> Iterator[int]:
        if threading.get_ident() == caller:
            caller_decoded.set()
        assert caller_decoded.wait(DEADLINE_S), "the caller's thread only waits"
        yield from group

    assert list(decode_groups(decode, range(500), small)) == list(range(500))


@pytest.mark.usefixtures("processors")
def test_a_thread_decodes_while_the_caller_does_something_else() -> None:
    caller = threading.get_ident()
    thread_decoded = threading.Event()

    def decode(group: list[int]) -> Iterator[int]:
        if threading.get_ident() != caller:
            thread_decoded.set()
        yield from group

    results = decode_groups(decode, range(5000), small)
    next(results)
    assert thread_decoded.wait(DEADLINE_S)
    assert list(results) == list(range(1, 5000))


def test_groups_ahead_of_a_slow_caller_are_bounded(processors: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(100_000):
            taken.append(item)
            yield item

    results = decode_groups(iter, items(), small)
    next(results)
    assert len(taken) <= 2 * processors * GROUP_ITEMS_MAX
    results.close()
    del taken[:]
    results = decode_groups(iter, items(), lambda _: GROUP_BYTES_MAX)
    next(results)
    assert len(taken) <= 2 * processors


@pytest.mark.parametrize("failing", [0, 7, 8, 300])
@pytest.mark.usefixtures("processors")
def test_errors_come_where_the_result_would_have_come(failing: int) -> None:
    def decode(group: list[int]) -> Iterator[int]:
        for item in group:
            yield 1 // (item - failing) if item == failing else item

    def items() -> Iterator[int]:
        yield from range(failing)
        raise KeyError("from the iterable")

    for results, error in (
        (decode_groups(decode, range(500), small), ZeroDivisionError),
        (decode_groups(decode, items(), small), KeyError),
    ):
        assert [next(results) for _ in range(failing)] == list(range(failing))
        with pytest.raises(error):
            next(results)
        assert list(results) == []


@pytest.mark.usefixtures("processors")
def test_threads_have_ended_when_the_iterator_is_closed() -> None:
    running = []

    def decode(group: list[int]) -> Iterator[int]:
        running.append(group[0])
        yield from group
        running.remove(group[0])

    before = set(threading.enumerate())
    results = decode_groups(decode, range(5000), small)
    next(results)
    results.close()
    assert running == []
    begun = set(threading.enumerate()) - before
    assert not [thread for thread in begun if thread.name.startswith("blobpack-decode")]


@pytest.mark.usefixtures("processors")
def test_a_few_items_are_decoded_without_a_thread() -> None:
    def decode(group: list[int]) -> Iterator[int]:
        yield threading.get_ident()

    assert list(decode_groups(decode, range(1), small)) == [threading.get_ident()]
    before = set(threading.enumerate())
    results = decode_groups(iter, range(8), small)
    next(results)
    begun = set(threading.enumerate()) - before
    assert not [thread for thread in begun if thread.name.startswith("blobpack-decode")]
