"""An index finds members by name and in order, and its selections are indexes again."""

from __future__ import annotations

import copy
import fnmatch
import pickle
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from tars import DIALECTS, Tar

from blobpack import (
    BlobpackError,
    ByteRange,
    Index,
    Member,
    MemberNotFoundError,
    ScanReport,
)
from blobpack.errors import DuplicateNameError
from blobpack.stores.memory import MemoryStore
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    from collections.abc import Callable

MEMBERS = [
    Member("cats/0001.jpg", 512, 1000),
    Member("cats/0002.png", 1536, 1536),
    Member("dogs/0001.jpg", 2048, 4096),
    Member("dogs/größer.jpg", 5120, 5121),
    Member("dogs/caf\udce9.jpg", 6144, 6400),
    Member("", 6656, 6657),
    Member("readme", 7168, 9000),
]
TWICE = Member("cats/0001.jpg", 9728, 9730)


@pytest.fixture
def index() -> Index:
    return Index(MEMBERS)


def from_scan() -> Index:
    """An index whose columns are native."""
    tar = Tar()
    for i in range(300):
        tar.file(f"folder/{i}.jpg", b"x" * i)
    return scan_store(MemoryStore(bytes(tar.end().blob)))


# By name and in order


def test_every_member_is_found_by_its_name(index: Index) -> None:
    for member in MEMBERS:
        assert member.name in index
        assert index[member.name] == member
        assert index.range_of(member.name) == ByteRange(member.offset_start, member.offset_end)
        assert MEMBERS[index.row_of(member.name)] == member


def test_the_last_of_equal_names_wins_and_in_order_all_are_there() -> None:
    index = Index([*MEMBERS, TWICE])
    assert index[TWICE.name] == TWICE
    assert index.row_of(TWICE.name) == len(MEMBERS)
    assert list(index) == [*MEMBERS, TWICE]
    assert len(index) == len(MEMBERS) + 1


@pytest.mark.parametrize(
    "name", ["cats", "cats/0001.jp", "CATS/0001.JPG", "x", "\ud800", "cats/0001.jpg\0"]
)
def test_a_name_that_is_not_there(name: str, index: Index) -> None:
    assert name not in index
    with pytest.raises(MemberNotFoundError, match="among 7"):
        index[name]
    with pytest.raises(LookupError):
        index.range_of(name)


@pytest.mark.parametrize("thing", [None, 0, b"cats/0001.jpg"])
def test_what_is_no_name_is_not_in_an_index(thing: object, index: Index) -> None:
    assert thing not in index


@pytest.mark.parametrize(
    ("wanted", "suggested"),
    [
        ("0001.jpg", "'cats/0001.jpg', 'dogs/0001.jpg'"),
        ("birds/0002.png", "'cats/0002.png'"),
        ("cats/0003.png", "'cats/0002.png'"),
        ("readmi", "'readme'"),
        ("dogs/gröser.jpg", "'dogs/größer.jpg'"),
    ],
)
def test_names_near_to_it_are_suggested(wanted: str, suggested: str, index: Index) -> None:
    with pytest.raises(MemberNotFoundError, match=re.escape(f"no member {wanted!r}")) as caught:
        index[wanted]
    assert suggested in str(caught.value)


def test_nothing_is_suggested_where_nothing_is_near(index: Index) -> None:
    for missing in ("q", "[", "*", ""):
        with pytest.raises(MemberNotFoundError) as caught:
            (index if missing else Index(MEMBERS[:3]))[missing]
        assert "near" not in str(caught.value)
    with pytest.raises(MemberNotFoundError):
        Index()["a"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape")), max_size=60
    ),
    st.text(max_size=5),
)
def test_any_names_are_found_as_in_a_dict(names: list[str], other: str) -> None:
    index = Index(Member(name, i, i) for i, name in enumerate(names))
    rows = {name: i for i, name in enumerate(names)}
    assert list(index.names) == names
    for name in (*names, other):
        assert (name in index) == (name in rows)
        if name in rows:
            assert index.row_of(name) == rows[name]


def test_names_are_a_sequence(index: Index) -> None:
    names = index.names
    expected = [member.name for member in MEMBERS]
    assert list(names) == expected
    assert len(names) == len(expected)
    assert [names[i] for i in range(-7, 7)] == expected * 2
    assert names[1:4] == expected[1:4]
    assert names[4:1] == []
    assert names[1:5:2] == expected[1:5:2]
    assert names[::-1] == expected[::-1]
    assert list(reversed(names)) == expected[::-1]
    assert names.index("readme") == 6
    assert "readme" in names
    assert "read" not in names
    for row in (7, -8):
        with pytest.raises(IndexError):
            names[row]


@pytest.mark.parametrize(
    "make", [lambda: Index(MEMBERS), from_scan, lambda: Index(MEMBERS).select("*.jpg"), Index]
)
def test_offsets_are_read_only_int64_arrays(make: Callable[[], Index]) -> None:
    index = make()
    for offsets, expected in (
        (index.offset_start, [member.offset_start for member in index]),
        (index.offset_end, [member.offset_end for member in index]),
    ):
        assert offsets.dtype == np.int64
        assert offsets.shape == (len(index),)
        assert offsets.tolist() == expected
        with pytest.raises(ValueError, match="read-only"):
            offsets[:] = 0
    assert index.payload_bytes == sum(member.size for member in index)


def test_an_empty_index() -> None:
    index = Index()
    assert len(index) == 0
    assert list(index) == list(index.names) == []
    assert index.payload_bytes == 0
    assert "a" not in index
    assert len(index.select("*", min_size=1, where=bool)) == 0
    assert len(index[np.zeros(0, np.int64)]) == 0
    assert len(index[0:0]) == len(index.with_basenames()) == len(Index.concatenate([])) == 0
    assert index == Index.concatenate([index, index]) == pickle.loads(pickle.dumps(index))


def test_a_name_no_tar_holds_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        Index([Member("\ud800", 0, 1)])


# Equality, copies, pickles

REPORT = ScanReport(bytes_scanned=10_240, end_marker=2, hard_links=1)


@pytest.mark.parametrize(
    "other",
    [
        Index(MEMBERS[:-1]),
        Index(MEMBERS[::-1]),
        Index([*MEMBERS[:-1], Member("readme", 7168, 9001)]),
        Index([*MEMBERS[:-1], Member("readme", 7167, 9000)]),
        Index([*MEMBERS[:-1], Member("reabme", 7168, 9000)]),
        Index(
            [Member("cats/0001.jp", 512, 1000), Member("gcats/0002.png", 1536, 1536), *MEMBERS[2:]]
        ),
        Index(),
        MEMBERS,
    ],
    ids=range(8),
)
def test_other_names_or_offsets_are_not_equal(other: object, index: Index) -> None:
    assert index != other
    assert index == Index(MEMBERS)


def test_an_index_is_compared_by_value_and_so_has_no_hash(index: Index) -> None:
    with pytest.raises(TypeError):
        hash(index)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Index([*MEMBERS, TWICE], report=REPORT),
        from_scan,
        lambda: from_scan()[100:200],
        lambda: from_scan().select("*1.jpg"),
        lambda: Index.concatenate([from_scan()[3:5], Index(MEMBERS)]),
    ],
)
def test_pickles_and_copies_are_equal(make: Callable[[], Index]) -> None:
    index = make()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(index, protocol))
        assert again == index
        assert again.report == index.report
        assert [again[name] for name in again.names] == [index[name] for name in index.names]
    assert copy.deepcopy(index) == index


def test_a_pickle_holds_only_its_own_rows() -> None:
    whole = from_scan()
    assert len(pickle.dumps(whole[5:6])) < len(pickle.dumps(whole)) / 10


# Parts


@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (0, 1), (0, 7), (2, 5), (6, 7), (7, 7), (3, 100)]
)
def test_a_slice_is_its_rows(first: int, last: int, index: Index) -> None:
    part = index[first:last]
    expected = MEMBERS[first:last]
    assert list(part) == expected
    assert part == Index(expected)
    assert [part[member.name] for member in expected] == expected
    assert all(member.name not in part for member in MEMBERS if member not in expected)


def test_a_slice_of_a_slice(index: Index) -> None:
    part = index[1:6][1:4]
    assert list(part) == MEMBERS[2:5]
    assert list(part.select("dogs/*")) == MEMBERS[2:5]
    assert list(part.with_basenames().names) == ["0001.jpg", "größer.jpg", "caf\udce9.jpg"]
    assert list(part[np.array([2, 0])]) == [MEMBERS[4], MEMBERS[2]]


def test_indexes_are_put_behind_one_another(index: Index) -> None:
    parts = [index[4:7], Index(), index[0:2], index.select("*2*")]
    whole = Index.concatenate(iter(parts))
    assert list(whole) == [*MEMBERS[4:7], *MEMBERS[0:2], MEMBERS[1]]
    assert whole["cats/0002.png"] == MEMBERS[1]


@pytest.mark.parametrize("rows", [[], [0], [6, 0, 3], [2, 2, 2], list(range(7))])
def test_rows_are_taken_in_their_order(rows: list[int], index: Index) -> None:
    assert list(index[np.array(rows, np.int64)]) == [MEMBERS[row] for row in rows]


@pytest.mark.parametrize("row", [7, -8, -9, 1 << 40, -(1 << 63)])
def test_a_row_that_does_not_exist_is_an_index_error(row: int, index: Index) -> None:
    with pytest.raises(IndexError):
        index[np.array([0, row])]


def test_basenames_stand_behind_the_last_slash() -> None:
    names = ["a/b/c.jpg", "d.jpg", "/e", "f/", "//g", "caf\udce9/h", "ü/ï"]
    index = Index(Member(name, i, i + 1) for i, name in enumerate(names))
    assert list(index.with_basenames().names) == ["c.jpg", "d.jpg", "e", "", "g", "h", "ï"]
    assert index.with_basenames().offset_start.tolist() == list(range(7))
    assert list(index.names) == names


@pytest.mark.parametrize(
    "names", [["a/x", "b", "c/x"], ["x", "x"], ["a/", "b/"], ["a/\udce9", "\udce9"]]
)
def test_equal_basenames_are_refused_and_named(names: list[str]) -> None:
    with pytest.raises(DuplicateNameError) as caught:
        Index(Member(name, i, i) for i, name in enumerate(names)).with_basenames()
    assert repr(names[0]) in str(caught.value)
    assert repr(names[-1]) in str(caught.value)


# Select


def chosen(names: list[str], pattern: str) -> list[str]:
    return list(Index(Member(name, 0, 0) for name in names).select(pattern).names)


CHARS = st.one_of(st.sampled_from("ab-]/\\é日💥\n^!.["), st.characters(exclude_categories=["Cs"]))
SETS = st.lists(
    st.sampled_from(
        ["a", "b", "c", "-", "!", "]", "^", "é", "日", "[", "\\", "&&", "~~", "||", "a-c", "c-a"]
    ),
    max_size=5,
)
PATTERNS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "*",
                "?",
                "**",
                "[",
                "]",
                "!",
                "-",
                "[]",
                "[!]",
                "[]]",
                "[!!]",
                "[a-",
                "*[",
                ".*",
                "[^a]",
                "[z-a]",
            ]
        ),
        CHARS,
        SETS.map(lambda chars: f"[{''.join(chars)}]"),
        SETS.map(lambda chars: f"[!{''.join(chars)}]"),
    ),
    max_size=6,
).map("".join)
# fnmatch drops an empty range such as a-A; a "!" behind it then comes first, and negates by mistake
RANGE_THEN_BANG = re.compile(r"(?s)\[.-.*!")
PATTERNS = PATTERNS.filter(lambda pattern: not RANGE_THEN_BANG.search(pattern))
NAME_LISTS = st.lists(st.text(CHARS, max_size=6), max_size=12)


@settings(max_examples=1000, deadline=None)
@given(NAME_LISTS, PATTERNS)
@example(["é", "e", "ÿ"], "[à-ÿ]")
@example(["-", "b", "z", "a"], "[c-a-z]")
@example(["abcabc", "abc", "ab"], "*a*bc")
@example(["", "a"], "")
@example(["a", "]", "!"], "[!]]")
def test_globs_match_as_in_fnmatch(names: list[str], pattern: str) -> None:
    assert chosen(names, pattern) == [name for name in names if fnmatch.fnmatchcase(name, pattern)]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab", max_size=8), max_size=20), st.text("ab*?", max_size=8))
def test_stars_match_as_in_fnmatch(names: list[str], pattern: str) -> None:
    assert chosen(names, pattern) == [name for name in names if fnmatch.fnmatchcase(name, pattern)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.binary(max_size=5).map(lambda raw: raw.decode("utf-8", "surrogateescape")), max_size=8
    ),
    st.one_of(PATTERNS, st.text(st.sampled_from("*?é\udca9\udcff\ud800[]"), max_size=5)),
)
@example(["é", "\udca9"], "*\udca9")
@example(["é", "\udcc3", "\udcc3e"], "\udcc3*")
@example(["a"], "\ud800")
def test_bytes_that_are_not_utf8_match_as_the_surrogates_they_are(
    names: list[str], pattern: str
) -> None:
    assert chosen(names, pattern) == [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def test_many_stars_do_not_take_forever() -> None:
    """Exponential, if every star were tried again."""
    assert chosen(["a" * 300], "*a" * 40 + "b") == []


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"exclude": ["*.jpg"]}, [1, 5, 6]),
        ({"exclude": "*.jpg"}, [1, 5, 6]),
        ({"exclude": ["cats/*", "dogs/*"]}, [5, 6]),
        ({"regex": "0+1"}, [0, 2]),
        ({"regex": re.compile("^DOGS", re.IGNORECASE)}, [2, 3, 4]),
        ({"regex": "\udce9"}, [4]),
        ({"names": ["readme", "cats/0001.jpg", "not there"]}, [0, 6]),
        ({"names": iter(["readme"])}, [6]),
        ({"names": ["readme"]}, [6]),
        ({"names": []}, []),
        ({"min_size": 256}, [0, 2, 4, 6]),
        ({"min_size": 0}, [0, 1, 2, 3, 4, 5, 6]),
        ({"max_size": 1}, [1, 3, 5]),
        ({"max_size": 0}, [1]),
        ({"min_size": 1, "max_size": 256}, [3, 4, 5]),
        ({"where": lambda member: member.offset_start > 5000}, [3, 4, 5, 6]),
        ({"where": lambda member: ""}, []),
    ],
)
def test_conditions(conditions: dict[str, Any], expected: list[int], index: Index) -> None:
    assert list(index.select(**conditions)) == [MEMBERS[row] for row in expected]


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        (["*.jpg"], [0, 2, 3, 4]),
        (["*.JPG"], []),
        (["cats/*", "readme"], [0, 1, 6]),
        (["0001.jpg"], []),
        (["*/0001.jpg"], [0, 2]),
        (["*s*1*"], [0, 2]),
        (["dogs/gr??er.jpg"], [3]),
        (["dogs/caf?.jpg"], [4]),
        (["dogs/caf\udce9.jpg"], [4]),
        ([""], [5]),
        (["*"], [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_globs(globs: list[str], expected: list[int], index: Index) -> None:
    assert list(index.select(*globs)) == [MEMBERS[row] for row in expected]


def test_all_conditions_must_hold_and_the_order_stays(index: Index) -> None:
    asked: list[Member] = []

    def where(member: Member) -> bool:
        asked.append(member)
        return member.name != "dogs/0001.jpg"

    found = index.select(
        "*.jpg",
        "*.png",
        exclude=["cats/*"],
        regex="o",
        names=[m.name for m in MEMBERS[:4]],
        min_size=1,
        where=where,
    )
    assert list(found) == [MEMBERS[3]]
    assert asked == MEMBERS[2:4]


def test_a_selection_is_an_index(index: Index) -> None:
    found = index.select("dogs/*")
    assert found["dogs/größer.jpg"] == MEMBERS[3]
    assert "readme" not in found
    assert found.select("*0001*") == Index([MEMBERS[2]])
    assert found.report is None


def test_equal_names_are_all_selected() -> None:
    index = Index([*MEMBERS, TWICE])
    assert list(index.select(names=[TWICE.name])) == [MEMBERS[0], TWICE]
    assert list(index.select("cats/0001*")) == [MEMBERS[0], TWICE]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_selection_from_any_scan_keeps_names_and_offsets(dialect: str) -> None:
    index = scan_store(MemoryStore(bytes(DIALECTS[dialect]().blob)))
    assert list(index.select("*")) == list(index)
    assert [index[name] for name in index.names] == [
        max((m for m in index if m.name == name), key=list(index).index) for name in index.names
    ]


def test_misuse_is_no_blobpack_error(index: Index) -> None:
    with pytest.raises(ValueError, match=r"regex must be a regular expression, not '\('") as caught:
        index.select(regex="(")
    assert not isinstance(caught.value, BlobpackError)
