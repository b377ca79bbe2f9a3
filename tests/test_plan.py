"""Plans: every range within its fetch, no fetch too large, nothing twice."""

import pytest
from hypothesis import given, strategies as st

from blobpack.plan import (
    GAP_BYTES_MAX,
    GAP_BYTES_MIN,
    SMALL_ANSWER_BYTES,
    SMOOTHING,
    TYPICAL_BYTES_PER_S,
    TYPICAL_LATENCY_S,
    SpeedEstimate,
    gap_bytes,
    merged_ranges,
    plan_fetches,
)

RANGES = st.lists(
    st.tuples(st.integers(0, 500), st.integers(1, 90)).map(lambda r: (r[0], r[0] + r[1])),
    max_size=30,
)


@given(RANGES, st.integers(0, 60), st.integers(1, 200))
def test_every_range_is_in_its_fetch_and_no_fetch_grows_too_large(ranges, gap, most):
    fetches = plan_fetches(ranges, max_gap_bytes=gap, max_bytes=most)
    places = [place for fetch in fetches for place in fetch.places]
    assert sorted(places) == list(range(len(ranges)))
    for fetch in fetches:
        wanted = [ranges[place] for place in fetch.places]
        assert fetch.start == min(start for start, _ in wanted)
        assert fetch.end == max(end for _, end in wanted)
        assert fetch.end - fetch.start <= max(most, *(end - start for start, end in wanted))
        covered = sorted(wanted)
        reached = covered[0][1]
        for start, end in covered[1:]:
            assert start - reached <= gap
            reached = max(reached, end)
    assert [fetch.places[0] for fetch in fetches] == sorted(fetch.places[0] for fetch in fetches)


def test_equal_ranges_are_fetched_once():
    assert merged_ranges([(5, 9)] * 3, max_gap_bytes=0, max_bytes=1) == [(5, 9)]


def test_range_within_one_too_large_to_grow_is_not_fetched_again():
    assert merged_ranges([(0, 100), (20, 30)], max_gap_bytes=0, max_bytes=10) == [(0, 100)]


def test_neighbours_are_one_fetch_and_far_ones_two():
    ranges = [(0, 10), (12, 20), (1000, 1010)]
    assert merged_ranges(ranges, max_gap_bytes=2, max_bytes=100) == [(0, 20), (1000, 1010)]
    assert merged_ranges(ranges, max_gap_bytes=1, max_bytes=100) == ranges


def test_a_fetch_may_be_as_large_as_the_largest_and_no_larger():
    assert merged_ranges([(5, 10), (10, 25)], max_gap_bytes=0, max_bytes=20) == [(5, 25)]
    assert merged_ranges([(5, 10), (10, 26)], max_gap_bytes=0, max_bytes=20) == [(5, 10), (10, 26)]


def test_long_gap_is_read_only_beside_as_much_that_is_wanted():
    def fetches(*ranges):
        planned = plan_fetches(ranges, max_gap_bytes=1000, max_bytes=10_000, free_gap_bytes=50)
        return [(fetch.start, fetch.end) for fetch in planned]

    assert fetches((0, 10), (60, 70)) == [(0, 70)]
    assert fetches((0, 10), (61, 71)) == [(0, 10), (61, 71)]
    assert fetches((0, 100), (300, 400)) == [(0, 400)]
    assert fetches((0, 100), (301, 400)) == [(0, 100), (301, 400)]


@given(RANGES, st.integers(0, 60), st.integers(0, 60), st.integers(1, 1 << 40))
def test_a_plan_does_not_depend_on_where_the_ranges_lie(ranges, gap, free, away):
    def fetches(offset):
        moved = [(start + offset, end + offset) for start, end in ranges]
        planned = plan_fetches(moved, max_gap_bytes=gap, max_bytes=300, free_gap_bytes=free)
        return [(fetch.start - offset, fetch.end - offset, fetch.places) for fetch in planned]

    assert fetches(away) == fetches(0)


def test_only_bytes_that_are_asked_for_pay_for_a_long_gap():
    def fetches(*ranges):
        planned = plan_fetches(ranges, max_gap_bytes=1000, max_bytes=10_000, free_gap_bytes=50)
        return [(fetch.start, fetch.end) for fetch in planned]

    # the gap of 100 in the first fetch was not asked for: 120 bytes were, and 20 are beyond the gap
    near, far = ((5000, 5060), (5160, 5220)), (5220 + 140, 5220 + 160)
    assert fetches(*near, far) == [(5000, 5360 + 20)]
    assert fetches(*near, (far[0] + 1, far[1] + 1)) == [(5000, 5220), (5361, 5381)]
    # bytes that are asked for twice pay once
    twice = ((5000, 5060), (5000, 5060), (5020, 5060))
    assert fetches(*twice, (5060 + 81, 5060 + 101)) == [(5000, 5060), (5141, 5161)]
    assert fetches(*twice, (5060 + 80, 5060 + 100)) == [(5000, 5160)]
    # so do bytes of a range that reaches over the end of the fetch
    over = ((5000, 5060), (5040, 5100))
    assert fetches(*over, (5100 + 120, 5240)) == [(5000, 5240)]
    assert fetches(*over, (5100 + 121, 5241)) == [(5000, 5100), (5221, 5241)]


def test_gap_is_latency_times_bandwidth_within_bounds():
    assert gap_bytes(0.001, 100e6) == 100_000
    assert gap_bytes(0.0001, 1e6) == GAP_BYTES_MIN
    assert gap_bytes(1, 1e9) == GAP_BYTES_MAX
    assert gap_bytes(0, 0) == min(int(TYPICAL_LATENCY_S * TYPICAL_BYTES_PER_S), GAP_BYTES_MAX)
    assert gap_bytes(0.001, 1e6, least=1 << 16, most=1 << 20) == 1 << 16
    assert gap_bytes(1, 1e9, least=1 << 16, most=1 << 20) == 1 << 20


def test_speed_is_learned_from_answers():
    speed = SpeedEstimate()
    assert (speed.latency_s, speed.bytes_per_s) == (0, 0)
    speed.note(SMALL_ANSWER_BYTES, 0.02)
    assert (speed.latency_s, speed.bytes_per_s) == (0.02, 0)
    speed.note(4_000_000, 0.02 + 0.1)  # what is not latency is the body
    assert speed.latency_s == 0.02
    assert speed.bytes_per_s == pytest.approx(40e6)
    speed.note(100, 0.03)
    assert speed.latency_s == pytest.approx(0.02 + SMOOTHING * 0.01)
    for _ in range(100):
        speed.note(100, 0.005)
        speed.note(10_000_000, 0.005 + 0.1)
    assert speed.latency_s == pytest.approx(0.005, rel=0.01)
    assert speed.bytes_per_s == pytest.approx(100e6, rel=0.01)


def test_an_answer_that_came_sooner_than_any_before_does_no_harm():
    speed = SpeedEstimate()
    speed.note(1, 1.0)
    speed.note(1_000_000, 0.5)
    assert speed.bytes_per_s > 0
