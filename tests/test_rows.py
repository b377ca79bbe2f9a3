"""Rows, masks, names and ranges that a caller gives: used as they are meant, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from blobpack import ByteRange, Index, Member

NAMES = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
INDEX = Index(Member(name, 512 * i, 512 * i + i) for i, name in enumerate(NAMES))
MASK = [False, True, False, True]


@pytest.mark.parametrize(
    "mask",
    [
        MASK,
        tuple(MASK),
        np.array(MASK),
        np.array([*MASK, *MASK])[:4],
        np.array([[False, True]] * 2)[:, :].reshape(-1),
        np.repeat(MASK, 2)[::2],
        pd.Series(MASK),
        pd.Series(MASK, dtype="boolean"),
        pa.array(MASK),
        pa.chunked_array([MASK[:1], MASK[1:]]),
    ],
    ids=lambda mask: type(mask).__name__,
)
def test_a_mask_takes_the_rows_that_it_marks(mask: Any) -> None:
    assert list(INDEX[mask].names) == ["b.jpg", "d.jpg"]


def test_a_mask_takes_what_a_list_of_its_rows_takes() -> None:
    rng = np.random.default_rng(9)
    index = Index(Member(f"{i:03}", i, i + 1) for i in range(200))
    for _ in range(50):
        mask = rng.random(200) < rng.random()
        assert index[mask] == index[np.flatnonzero(mask)]
        assert index[mask] == index[np.flatnonzero(mask).tolist()]
    assert len(index[np.zeros(200, bool)]) == 0
    assert index[np.ones(200, bool)] == index


@pytest.mark.parametrize("length", [0, 1, 3, 5, 8])
def test_a_mask_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(IndexError, match=f"a mask of {length} rows for 4 rows"):
        INDEX[np.ones(length, bool)]


@pytest.mark.parametrize(
    "rows",
    [
        *([2, 0], (2, 0), range(2, -1, -2), np.array([2, 0], np.uint8), pd.Series([2, 0])),
        *(pa.array([2, 0]), np.array([2, 9, 0, 9], np.int32)[::2], np.array([2, 0], ">i8")),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_lists_and_arrays_of_whole_numbers_are_rows(rows: Any) -> None:
    assert list(INDEX[rows].names) == ["c.jpg", "a.jpg"]


@pytest.mark.parametrize("none", [[], (), np.zeros(0, np.int64), np.zeros(0), range(0)], ids=repr)
def test_no_rows_are_taken(none: Any) -> None:
    assert len(INDEX[none]) == 0


@pytest.mark.parametrize(
    "rows",
    [
        *(None, 1.0, b"\1", ["b.jpg"], {1}, {1: 2}, [1.0], np.True_),
        *(
            [True, 2],
            [1, False],
            (np.True_, 2),
            [None],
            [[1]],
            [[True] * 4],
            [[1], [2, 3]],
            [2**70],
        ),
        *(np.array([[1]]), np.array([1.0]), np.array([MASK])),
        *(np.array(["1"]), np.array([1, None]), np.array(["2026-01-01"], "M8[D]")),
        *(pd.Series([True, None, True, False]), pa.array([True, None, True, False])),
        *(iter([1]), INDEX, INDEX.names),
    ],
    ids=lambda rows: f"{type(rows).__name__} {str(rows).partition(chr(32) + 'at')[0]:.30}",
)
def test_everything_else_is_a_type_error(rows: Any) -> None:
    with pytest.raises(TypeError, match="rows must be a list or array of whole numbers, or a mask"):
        INDEX[rows]


@pytest.mark.parametrize(
    "rows", [4, -5, np.int64(4), [4], [-5], [0, 1 << 40], np.array([1 << 63], np.uint64)], ids=repr
)
def test_rows_that_there_are_not_are_index_errors(rows: Any) -> None:
    with pytest.raises(IndexError):
        INDEX[rows]


@pytest.mark.parametrize("row", [True, 1.0, "1", None, np.array(MASK), [1]], ids=repr)
def test_a_single_row_is_a_whole_number(row: Any) -> None:
    for use in (INDEX._name_at, INDEX._member_at, INDEX._bounds_at, INDEX.names.__getitem__):
        with pytest.raises(TypeError, match="row must be a whole number"):
            use(row)


def test_rows_of_names_count_from_the_end_as_those_of_a_list() -> None:
    for row in [*range(-4, 4), np.int64(-2), np.uint8(3)]:
        assert INDEX.names[row] == NAMES[row]


def test_one_name_is_not_several() -> None:
    with pytest.raises(TypeError, match="names must be several names or members, not one"):
        INDEX.select(names="a.jpg")
    assert list(INDEX.select(names=["a.jpg"]).names) == ["a.jpg"]


@pytest.mark.parametrize("bounds", [(5, 1), (-1, 1), (-2, -1), (1, 0)])
def test_nothing_ends_before_it_starts(bounds: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError, match=r"'a' has offsets .*, expected 0 ≤ offset_start ≤ offset_end"
    ):
        Member("a", *bounds)
    with pytest.raises(ValueError, match=r"expected 0 ≤ start ≤ end, not "):
        ByteRange(*bounds)


@pytest.mark.parametrize("bounds", [("0", 1), (0, 1.0), (None, 1), (0, "1")])
def test_bounds_are_whole_numbers(bounds: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError):
        Member("a", *bounds)
    with pytest.raises(TypeError, match="must be a whole number"):
        ByteRange(*bounds)
