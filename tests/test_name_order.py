"""The order of an index by its names is that of Python's sorted(), for indexes of every kind."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest
from hypothesis import given, strategies as st

import blobpack
from blobpack.index.name_order import NameOrder

NAMES = st.lists(
    # letters of one to four bytes, a byte that is not UTF-8, and names that begin with other names
    st.text(st.sampled_from("a/b.é\uffff\U0001f600\udcff"), min_size=1, max_size=6),
    max_size=30,
)


def index_of(names):
    return blobpack.Index(
        blobpack.Member(name, 512 * i, 512 * i + i) for i, name in enumerate(names)
    )


def encoded(name):
    return name.encode("utf-8", "surrogateescape")


@given(NAMES)
def test_it_is_sorted_and_the_last_of_a_name_counts(names):
    order = NameOrder(index_of(names))
    assert list(order) == sorted({encoded(name) for name in names})
    last = {encoded(name): row for row, name in enumerate(names)}
    assert [order.row_at(place) for place in range(len(order))] == [last[name] for name in order]


@given(NAMES, st.text(st.sampled_from("a/b\udcff"), max_size=4), st.integers(0, 10))
def test_a_place_is_found_from_anywhere_before_it(names, wanted, low):
    order = NameOrder(index_of(names))
    place = bisect_left(list(order), encoded(wanted))
    assert order.first_from(encoded(wanted), min(low, place)) == place


def test_rows_are_not_kept_where_they_are_in_order_already():
    ascending = [f"{number:05}" for number in range(5000)]
    assert NameOrder(index_of(ascending))._rows is None
    for names in [[*ascending, "00001"], [*ascending, ascending[-1]], ["9", *ascending]]:
        order = NameOrder(index_of(names))
        assert order._rows is not None
        assert list(order) == sorted({*map(str.encode, names)})


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_mapped_index_and_one_behind_requests(shuffled, s3_env, bucket, tmp_path):
    names = [f"{number:04}/y{'x' * (number % 7)}" for number in range(3000)]
    if shuffled:
        random.Random(1).shuffle(names)
    blobpack.pack(((name, b"") for name in names), tmp_path / "out.tar", all_files=True)
    url = s3_env.put(bucket, "out.tar", (tmp_path / "out.tar").read_bytes())
    for place in (tmp_path / "out.tar", url):
        with blobpack.open(place) as blob:
            order = NameOrder(blob.index)
            assert (order._rows is None) is not shuffled
            assert order[:] == sorted(map(str.encode, names))
            assert blob.index.names[order.row_at(2)] == order[2].decode()
