"""Rows, masks, names and ranges that a caller gives: used as they are meant, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import blobpack
from blobpack import ByteRange, Index, Member

if TYPE_CHECKING:
    from pathlib import Path

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


MISSING = [None, True, False, True]


@pytest.mark.parametrize(
    "mask",
    [
        pd.Series(MISSING, dtype="boolean"),
        pd.array(MISSING, dtype="boolean"),
        pd.Series(MISSING, dtype="bool[pyarrow]"),
    ],
    ids=lambda mask: type(mask).__name__,
)
def test_a_missing_value_in_a_mask_counts_as_false(mask: Any) -> None:
    assert list(INDEX[mask].names) == ["b.jpg", "d.jpg"]
    assert INDEX.rows(mask).tolist() == [1, 3]


@pytest.mark.parametrize(
    "mask",
    [
        MASK,
        tuple(MASK),
        np.array(MASK),
        pd.Series(MASK),
        pd.Series(MASK, dtype="boolean"),
        pa.array(MASK),
    ],
    ids=lambda mask: type(mask).__name__,
)
def test_rows_takes_a_mask_as_indexing_does(mask: Any) -> None:
    assert INDEX.rows(mask).tolist() == [1, 3]
    with pytest.raises(IndexError, match="the mask has 4 values, but there are 3 rows"):
        INDEX[:3].rows(mask)


@pytest.mark.parametrize(
    "make", [pd.Series, np.array, list, pd.Index], ids=lambda make: make.__name__
)
def test_rows_takes_columns_of_names(make: Any) -> None:
    assert INDEX.rows(make(["b.jpg", "a.jpg"])).tolist() == [1, 0]


@pytest.mark.parametrize("one", ["a.jpg", INDEX[0], 0, np.int64(0)], ids=repr)
def test_one_member_is_not_several(one: Any, tmp_path: Path) -> None:
    blobpack.pack([("a.jpg", b"1")], tmp_path / "a.tar", all_files=True)
    with blobpack.open_blob(tmp_path / "a.tar") as blob:
        with pytest.raises(TypeError, match=r"several must be several .*; read\(…\) reads one"):
            blob.read_many(one)
        with pytest.raises(TypeError, match=r"several must be several .*; aread\(…\) reads one"):
            blob.aread_many(one)
        with pytest.raises(
            TypeError, match=r"several must be several .*; read_image\(…\) reads one"
        ):
            blobpack.read_images(blob, one)


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
    with pytest.raises(IndexError, match=f"the mask has {length} values, but there are 4 rows"):
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
        ),
        *(np.array([[1]]), np.array([1.0]), np.array([MASK])),
        *(np.array(["1"]), np.array([1, None]), np.array(["2026-01-01"], "M8[D]")),
        *(pd.Series([True, None, True, False]), pa.array([True, None, True, False])),
        *(iter([1]), INDEX, INDEX.names),
    ],
    ids=lambda rows: f"{type(rows).__name__} {str(rows).partition(chr(32) + 'at')[0]:.30}",
)
def test_everything_else_is_a_type_error(rows: Any) -> None:
    with pytest.raises(
        TypeError, match="an index takes a name, a Member, a row, a slice, rows or a mask"
    ):
        INDEX[rows]


@pytest.mark.parametrize("names", [["b.jpg"], ("a.jpg", 1), [INDEX[0]]], ids=repr)
def test_for_several_names_the_error_says_what_finds_them(names: Any) -> None:
    with pytest.raises(TypeError, match=r"for several names: index\.select\(names=…\)"):
        INDEX[names]


@pytest.mark.parametrize(
    ("rows", "first"),
    [
        *((4, 4), (-5, -5), (np.int64(4), 4), ([4], 4), ([-5], -5), ([0, 1 << 40], 1 << 40)),
        *(([2**63 - 1], 2**63 - 1), ([2**63], 2**63), ([2**64 - 1], 2**64 - 1), ([2**70], 2**70)),
        *(([-(2**63) - 1], -(2**63) - 1), ([-1, 2**63], 2**63), ([0, 2**64], 2**64)),
        *((np.array([row], np.uint64), row) for row in (2**63, 2**64 - 1)),
        *((range(3, 6), 4), (range(-6, 2), -6), (range(2**64, 2**64 + 2), 2**64)),
    ],
    ids=repr,
)
def test_rows_that_there_are_not_are_index_errors(rows: Any, first: int) -> None:
    with pytest.raises(IndexError, match=f"no row {first} among 4 rows"):
        INDEX[rows]
    with pytest.raises(IndexError, match=f"no row {first} among 4 rows"):
        INDEX.rows(rows if isinstance(rows, (list, np.ndarray, range)) else [rows])


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
