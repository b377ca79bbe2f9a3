"""Conditions on any column narrow one mask; what Python is asked, it is asked for what is left."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import tracemalloc
from array import array
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from blobpack import Index, Member
from blobpack.cli.params import ByteSize
from blobpack.columns import MEDIA_TYPES, Columns
from blobpack.errors import FactsMissingError
from blobpack.index.select import ROWS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMBERS = [
    Member("a.jpg", 512, 1000, "image/jpeg", 640, 480, 1, 10),
    Member("b.png", 1536, 2000, "image/png", 32, 64, 2, 20),
    Member("broken.jpg", 2560, 2600, "image/jpeg", None, None, 3, 30),
    Member("notes.txt", 3072, 3080, None, None, None, 4, 40),
    Member("d.webp", 3584, 9000, "image/webp", 4_000_000_000, 1, 0xFFFFFFFF, -5),
]


class Parts:
    """A stored index, as select sees it: columns that come part by part."""

    footer = SimpleNamespace(report=None, identity=None)
    is_remote = False

    def __init__(self, columns: Columns, rows: int) -> None:
        self.columns, self.rows_a_part = columns, rows

    def __len__(self) -> int:
        return len(self.columns)

    def find(self, name: str) -> int:
        return Index._from_columns(self.columns)._find(name)

    def name_at(self, row: int) -> str:
        return self.columns.name_at(row)

    def member_at(self, row: int) -> Member:
        return self.columns.member_at(row)

    def rows(self, first: int, last: int) -> Columns:
        return self.columns.slice(first, last)

    def parts(self) -> Iterator[Columns]:
        for first in range(0, len(self), self.rows_a_part):
            yield self.rows(first, min(first + self.rows_a_part, len(self)))


def make_index(rows: int) -> Index:
    """An index of many rows, quickly."""
    names = b"".join(b"folder/%08d.%s" % (row, (b"jpg", b"png")[row % 2]) for row in range(rows))
    bounds = np.arange(rows + 1, dtype=np.int64) * 19
    starts = np.arange(rows, dtype=np.int64) * 1024 + 512
    columns = [memoryview(column).toreadonly() for column in (bounds, starts, starts + 7)]
    return Index._from_columns(Columns(memoryview(names), *columns))


@pytest.fixture(params=["in memory", "part by part", "mapped"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Index:
    whole = Index(MEMBERS)
    if request.param == "part by part":
        return Index._from_stored(Parts(whole._columns, 2))
    if request.param == "mapped":
        whole.save(tmp_path / "a.idx")
        return Index.load(tmp_path / "a.idx")
    return whole


# Conditions on facts


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"media_type": "image/jpeg"}, [0, 2]),
        ({"media_type": ["image/jpeg", "image/png"]}, [0, 1, 2]),
        ({"media_type": "image/*"}, [0, 1, 2, 4]),
        ({"media_type": "*"}, [0, 1, 2, 4]),
        ({"media_type": ("*/[jp]*",)}, [0, 1, 2]),
        ({"media_type": []}, []),
        ({"media_type": "image/gif"}, []),
        ({"min_width": 33}, [0, 4]),
        ({"min_width": 0}, [0, 1, 4]),
        ({"max_width": 640}, [0, 1]),
        ({"max_width": 0}, []),
        ({"min_width": 32, "max_width": 32}, [1]),
        ({"min_height": 64}, [0, 1]),
        ({"max_height": 64}, [1, 4]),
        ({"min_width": 1 << 70}, []),
        ({"max_width": 1 << 70}, [0, 1, 4]),
        ({"max_width": -1}, []),
        ({"media_type": "image/jpeg", "min_height": 1}, [0]),
        ({"where": lambda member: member.crc32c == 0xFFFFFFFF}, [4]),
        ({"where": lambda member: member.mtime in (20, 40)}, [1, 3]),
        ({"where": lambda member: member.media_type is None}, [3]),
        ({"where": lambda member: member.width is None and member.height is None}, [2, 3]),
        ({"media_type": "image/*", "max_size": 488, "names": ["a.jpg", "d.webp"]}, [0]),
    ],
)
def test_conditions_on_facts(conditions: dict[str, Any], expected: list[int], index: Index) -> None:
    found = index.select(**conditions)
    assert list(found) == [MEMBERS[row] for row in expected]
    if expected:
        assert dict(found._columns.facts()).keys() == dict(index._columns.facts()).keys()


@pytest.mark.parametrize(
    ("condition", "fact"),
    [
        ({"media_type": "image/png"}, "media type"),
        ({"min_width": 1}, "width"),
        ({"max_width": 1}, "width"),
        ({"min_height": 1}, "height"),
        ({"max_height": 1}, "height"),
    ],
)
def test_a_fact_that_is_not_there_is_an_error_that_says_how_to_get_it(
    condition: dict[str, Any], fact: str
) -> None:
    bare = Index([Member("a.jpg", 0, 1)])
    with pytest.raises(FactsMissingError, match=f"no {fact} .*index --facts") as caught:
        bare.select("*", **condition)
    assert isinstance(caught.value, ValueError)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
    assert len(bare.select("b*").select(**condition)) == 0  # of no members, nothing is missing


@pytest.mark.parametrize("media_type", ["image/jpg", "IMAGE/PNG", "video/*", ""])
def test_a_media_type_there_is_not_is_misuse(media_type: str, index: Index) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(media_type))):
        index.select(media_type=media_type)


def test_a_media_type_of_a_later_version_is_unknown() -> None:
    columns = dataclasses.replace(
        Index(MEMBERS)._columns, media_type=memoryview(bytes([1, 255, len(MEDIA_TYPES), 0, 2]))
    )
    index = Index._from_columns(columns)
    kinds = ["image/jpeg", None, None, None, "image/png"]
    assert [member.media_type for member in index] == kinds
    assert [index._member_at(row).media_type for row in range(5)] == kinds
    assert list(index.select(media_type="*").names) == ["a.jpg", "d.webp"]


FACTS = st.builds(
    Member,
    name=st.binary(max_size=4).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    offset_start=st.integers(0, 3),
    offset_end=st.integers(3, 9),
    media_type=st.sampled_from(MEDIA_TYPES[:4]).map(lambda name: name or None),
    width=st.integers(0, 4).map(lambda width: width or None),
    height=st.integers(0, 4).map(lambda height: height or None),
    crc32c=st.integers(0, 5),
    mtime=st.integers(-2, 2).map(lambda time: time or None),
)
LIMITS = st.one_of(st.none(), st.integers(0, 7))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(FACTS, max_size=30),
    st.integers(1, 8),
    st.fixed_dictionaries(
        {f"{limit}_{of}": LIMITS for limit in ("min", "max") for of in ("size", "width", "height")}
        | {
            "media_type": st.one_of(st.none(), st.sampled_from(["image/jpeg", "image/*g"])),
            "names": st.one_of(st.none(), st.lists(st.text("ab\udce9", max_size=2))),
            "where": st.sampled_from([None, lambda member: member.crc32c % 2]),
        }
    ),
)
def test_any_conditions_keep_what_a_plain_loop_keeps(
    members: list[Member], rows: int, conditions: dict[str, Any]
) -> None:
    def within(value: int | None, of: str) -> bool:
        least, most = conditions[f"min_{of}"], conditions[f"max_{of}"]
        if least is None and most is None:
            return True
        return value is not None and (least or 0) <= value <= (most if most is not None else value)

    members.append(Member("z", 1, 2, "image/gif", 3, 3, 1, 7))  # so that no fact is missing
    kinds = {None: None, "image/jpeg": ("image/jpeg",), "image/*g": ("image/jpeg", "image/png")}
    wanted = kinds[conditions["media_type"]]
    expected = [
        member
        for member in members
        if within(member.size, "size")
        and within(member.width, "width")
        and within(member.height, "height")
        and (wanted is None or member.media_type in wanted)
        and (conditions["names"] is None or member.name in conditions["names"])
        and (conditions["where"] is None or conditions["where"](member))
    ]
    index = Index(members)
    stored = Index._from_stored(Parts(index._columns, rows))
    assert list(index.select(**conditions)) == list(stored.select(**conditions)) == expected


# Names


def test_names_of_another_index(index: Index) -> None:
    other = Index([Member("d.webp", 0, 0), Member("not there", 0, 0), Member("a.jpg", 5, 5)])
    assert list(index.select(names=other).names) == ["a.jpg", "d.webp"]
    assert list(index.select(names=index.select("*.jpg")).names) == ["a.jpg", "broken.jpg"]
    assert len(index.select(names=Index())) == 0
    assert list(index.select(names=[MEMBERS[1], "a.jpg"]).names) == ["a.jpg", "b.png"]


def test_many_names_of_another_index() -> None:
    index = make_index(5003)
    other = index.select(regex="[37].png")
    assert 0 < len(other) < 5003
    for wanted in (other, list(other.names), other[7:99], index):
        expected = set(wanted.names if isinstance(wanted, Index) else wanted)
        found = list(index.select(names=wanted).names)
        assert found == [name for name in index.names if name in expected]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.binary(max_size=3).map(lambda raw: raw.decode("utf-8", "surrogateescape")), max_size=40
    ),
    st.lists(st.one_of(st.binary(max_size=3).map(lambda raw: raw.decode("latin-1")), st.text())),
)
def test_names_are_found_as_in_a_set(names: list[str], wanted: list[str]) -> None:
    index = Index(Member(name, 0, 0) for name in names)
    wanted += names[::3]
    expected = [name for name in names if name in set(wanted)]
    assert list(index.select(names=wanted).names) == expected
    assert list(index.select(names=[*wanted, "\ud800"]).names) == expected


# What Python is asked


def test_where_is_asked_in_windows_as_of_all_rows_at_once() -> None:
    index = make_index(2 * ROWS_AT_ONCE + 3)
    ends = ("0.jpg", "7.png")
    expected = [name for name in index.names if name.endswith(ends)]
    assert list(index.select(where=lambda m: m.name.endswith(ends)).names) == expected
    assert list(index.select(regex=r"(0\.jpg|7\.png)$").names) == expected
    assert list(index.select("*7.png", where=lambda m: True).names) == expected[1::2]
    assert len(index.select(where=lambda m: False)) == 0
    assert index.select(where=lambda m: True) == index
    last = index.names[-1]
    assert list(index.select(where=lambda m: m.name == last).names) == [last]


def test_where_is_called_once_for_each_row_that_passed_the_rest() -> None:
    index = make_index(2 * ROWS_AT_ONCE + 3)
    called: list[str] = []
    index.select(where=lambda m: called.append(m.name))
    assert called == list(index.names)
    called.clear()
    index.select("*7.png", where=lambda m: called.append(m.name) or m.size % 2)
    assert called == [name for name in index.names if name.endswith("7.png")]


def test_members_that_where_keeps_do_not_change() -> None:
    index = make_index(1000)
    kept: list[Member] = []
    assert len(index.select(where=kept.append)) == 0
    assert kept == list(index)
    some: list[Member] = []
    index.select(where=lambda m: some.append(m) if m.offset_start % 3 else None)
    assert some == [member for member in index if member.offset_start % 3]


def test_an_error_of_where_comes_through(index: Index) -> None:
    def refuse(member: Member) -> bool:
        raise KeyError(member.name)

    with pytest.raises(KeyError, match=r"a\.jpg"):
        index.select(where=refuse)


def test_slices_read_only_their_rows(index: Index) -> None:
    assert list(index[1:3]) == MEMBERS[1:3]
    assert list(index[3:100]) == MEMBERS[3:]
    assert list(index[2:2]) == list(index[4:1]) == []
    assert index.names[1:4] == [member.name for member in MEMBERS[1:4]]
    assert index.names[3:1] == []
    assert index.names[::-2] == [member.name for member in MEMBERS[::-2]]
    assert (index._loaded is None) == (index._stored is not None)


def test_a_stored_index_is_selected_in_bounded_memory(tmp_path: Path) -> None:
    make_index(200_000).save(tmp_path / "a.idx")
    index = Index.load(tmp_path / "a.idx")
    found = index.select("*", names=["folder/00000001.png"])
    tracemalloc.start()
    found = index.select(
        "*1.png", regex="1.png", where=lambda m: m.name.endswith("00001.png"), max_size=7
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(found.names) == ["folder/00000001.png", "folder/00100001.png"]
    assert peak < 1 << 20  # a mask and the rows of one part; all of them take 8 MB


# Members, natively


def test_a_member_has_the_face_of_a_dataclass() -> None:
    member = MEMBERS[1]
    assert repr(Member("a", 1, 2)) == (
        "Member(name='a', offset_start=1, offset_end=2, media_type=None, width=None, "
        "height=None, crc32c=None, mtime=None)"
    )
    assert [field.name for field in dataclasses.fields(member)] == list(Member.__match_args__)
    assert Member(**dataclasses.asdict(member)) == member
    assert dataclasses.replace(member, width=None).width is None
    assert member.__replace__(name="c") == dataclasses.replace(member, name="c")
    match member:
        case Member("b.png", start, end, width=32):
            assert (start, end) == (1536, 2000)
        case _:
            pytest.fail("a member matches its own values")
    for name in ("name", "offset_start", "width", "size", "unheard_of"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(member, name, 1)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(member, name)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_members_are_copied_and_pickled_by_value(member: Member) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(member, protocol)) == member
    assert b"blobpack.model" in pickle.dumps(member)
    assert copy.deepcopy(member) == copy.copy(member) == member
    assert len({member, copy.copy(member), dataclasses.replace(member, mtime=99)}) == 2
    assert member != dataclasses.asdict(member)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a",),
        ("a", 1),
        (None, 1, 2),
        (b"a", 1, 2),
        ("a", "1", 2),
        ("a", 1, 2, 3),
        ("a", 1.5, 2),
    ],
)
def test_what_makes_no_member(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        Member(*arguments)


def test_a_number_no_blob_has_is_refused() -> None:
    with pytest.raises(OverflowError):
        Member("a", 0, 1 << 63)


def test_a_member_without_values_is_harmless() -> None:
    with pytest.raises(AttributeError):
        repr(Member.__new__(Member))


def test_a_mask_must_fit() -> None:
    columns = Index(MEMBERS)._columns
    for mask in (b"", bytes(4), bytes(6)):
        with pytest.raises(ValueError, match="rows"):
            columns.iter_members(mask)
        with pytest.raises(ValueError, match="rows"):
            columns.iter_names(mask)
    members = columns.iter_members(bytes([0, 1, 0, 0, 1]))
    assert members.row == -1
    assert [(members.row, member) for member in members] == [(1, MEMBERS[1]), (4, MEMBERS[4])]
    assert next(members, None) is None
    assert list(columns.iter_names(bytes(5))) == []


def test_reused_members_differ_while_anyone_holds_them() -> None:
    columns = Index(MEMBERS)._columns
    held = [*columns.iter_members(reuse=True)]
    assert held == MEMBERS
    members = columns.iter_members(reuse=True)
    first, second = next(members), next(members)
    pair = (first.name, second.name)
    assert list(members) == MEMBERS[2:]
    assert (first, second) == (MEMBERS[0], MEMBERS[1])
    assert pair == ("a.jpg", "b.png")


def test_iterating_makes_members_that_outlive_their_index() -> None:
    names = bytearray(b"ab")
    bounds, starts = array("q", [0, 1, 2]), array("q", [0, 512])
    columns = Columns(memoryview(names), *map(memoryview, (bounds, starts, starts)))
    members = list(Index._from_columns(columns))
    del columns
    names[:] = b"xy"
    assert members == [Member("a", 0, 0), Member("b", 512, 512)]


# Sizes as they are written


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("0", 0), ("500", 500), ("4k", 4000), ("4K", 4000), ("4kB", 4000), ("4Ki", 4096), ("4 KiB", 4096),
        ("1.5M", 1_500_000), ("1.5Mi", 1_572_864), ("2G", 2 * 10**9), ("2gi", 2 << 30), ("0.5Ki", 512),
    ],
)  # fmt: skip
def test_sizes(written: str, size: int) -> None:
    assert ByteSize()(written) == size


@pytest.mark.parametrize(
    "written", ["", "k", "-1", "1.5", "1.0001k", "4T", "1e3", "4 k k", "٤", ".5k"]
)
def test_what_is_no_size(written: str) -> None:
    with pytest.raises(click.BadParameter):
        ByteSize()(written)
