"""An index as a sequence and as a mapping: by name, by member, by row, by slice, by mask and by rows."""

from __future__ import annotations

import inspect
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from tars import BLOCK, END, header, pax

import blobpack
from blobpack import Index, Member, MemberNotFoundError
from blobpack.index import rows as rows_module
from blobpack.index.row_numbers import rows_to_read
from blobpack.indexfile.identity import Identity
from blobpack.indexfile.open import read_footer
from blobpack.indexfile.remote import RemoteIndex
from blobpack.stores.memory import MemoryStore
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    from collections.abc import Callable

# two have one name, so that a name means the last one, and the Member any of them
FEW = [
    Member("a.jpg", 512, 1000, "image/jpeg", 640, 480, 1, 10),
    Member("caf\udce9.png", 1536, 2000, "image/png", 32, 64, 2, 20),
    Member("a.jpg", 2560, 2600, "image/jpeg", None, None, 3, 30),
    Member("notes.txt", 3072, 3072, None, None, None, 4, None),
    Member("", 3584, 9000, "image/webp", 4_000_000_000, 1, 0xFFFFFFFF, -5),
]
# three blocks, of which the last one is not full; every third name twice
MANY = [
    Member(f"{row // 3 if row % 3 else row}.jpg", 512 * row, 512 * row + row % 512, crc32c=row)
    for row in range(2500)
]
IDENTITY, OTHER = Identity(1 << 20, 1, 2), Identity(2 << 20, 3, 4)


def remote(path: Path) -> Index:
    store = MemoryStore(path.read_bytes())
    footer = read_footer(store)
    assert footer is not None
    return Index._from_stored(RemoteIndex(store, 0, footer))


def loaded(path: Path) -> Index:
    index = remote(path)
    assert len(index._columns) == len(index)
    return index


OPENINGS: dict[str, Callable[[Path], Index]] = {
    "mapped": Index.load,
    "remote": remote,
    "remote and read": loaded,
}


@pytest.fixture(params=["in memory", *OPENINGS])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[list[Member]], Index]:
    """Make an index of members, wherever it lies."""

    def opens(members: list[Member]) -> Index:
        index = Index(members)
        if request.param == "in memory":
            return index
        index.save(tmp_path / "a.idx")
        return OPENINGS[request.param](tmp_path / "a.idx")

    return opens


@pytest.mark.parametrize("members", [FEW, MANY], ids=["few", "many"])
def test_a_row_is_what_iteration_yields_there(
    members: list[Member], opened: Callable[[list[Member]], Index]
) -> None:
    index = opened(members)
    for row in [*range(-len(members), len(members), 7), len(members) - 1, -1, np.int64(-2)]:
        member = members[row]
        assert index[row] == index[member] == member
        assert index.names[row] == member.name
        assert index._bounds_at(row) == (member.offset_start, member.offset_end)
        assert index.row_of(row) == range(len(members))[row]
        assert tuple(index._bounds_of(row)) == index._bounds_of(member) == index._bounds_at(row)
    assert [*reversed(index)] == members[::-1]


@pytest.mark.parametrize("members", [FEW, MANY], ids=["few", "many"])
def test_a_member_is_itself_even_if_a_later_one_has_its_name(
    members: list[Member], opened: Callable[[list[Member]], Index]
) -> None:
    index = opened(members)
    last = {member.name: row for row, member in enumerate(members)}
    for row in range(0, len(members), 1 + len(members) // 20):
        member = members[row]
        assert member in index
        # facts do not count: a scan without facts makes this member, too
        assert index.row_of(Member(member.name, member.offset_start, member.offset_end)) == row
        assert index.row_of(member.name) == last[member.name]
        assert index[member.name] == members[last[member.name]]
        assert index.range_of(member).start == index.range_of(row).start == member.offset_start


@pytest.mark.parametrize(
    "other",
    [Member("a.jpg", 512, 999), Member("a.jpg", 0, 1000), Member("b.jpg", 512, 1000)],
    ids=repr,
)
def test_a_member_of_another_index_is_not_found(
    other: Member, opened: Callable[[list[Member]], Index]
) -> None:
    index = opened(FEW)
    assert other not in index
    for find in (index.row_of, index.__getitem__, index.range_of, lambda it: index.rows([it])):
        with pytest.raises(
            MemberNotFoundError, match=f"no member {other.name!r} at bytes {other.offset_start} to"
        ) as caught:
            find(other)
    if other.name == "a.jpg":
        assert "the last one of this name is at bytes 2560 to 2600" in str(caught.value)


def test_what_no_member_is(opened: Callable[[list[Member]], Index]) -> None:
    index = opened(FEW)
    for thing in (0, None, b"a.jpg", ["a.jpg"], {}, 1.5):
        assert thing not in index
        assert thing not in index.names
    assert FEW[0] not in index.names


def test_a_miss_looks_for_no_similar_names(
    opened: Callable[[list[Member]], Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would read the whole index, for a message that nobody sees."""
    monkeypatch.setattr(rows_module, "suggest_names", lambda *given: pytest.fail("looked for"))
    index = opened(FEW)
    store = MemoryStore(bytes(9000))
    with blobpack.Blob(store, index) as blob:
        for thing in (index, blob):
            assert thing.get("b.jpg") is thing.get(9) is thing.get(Member("a.jpg", 0, 1)) is None
        assert blob.get("a.jpg") == bytes(40)


def test_few_rows_are_read_alone(tmp_path: Path) -> None:
    Index(MANY).save(tmp_path / "a.idx")
    for name, opens in OPENINGS.items():
        for few in (
            [0, 2400, -1, 0],
            slice(None, None, 1000),
            slice(None, None, -1200),
            [True] + [False] * 2499,
        ):
            index = opens(tmp_path / "a.idx")
            assert index[few] == Index(MANY)[few]
            assert index[few].facts == index.facts
            assert list(index[few]) == list(Index(MANY)[few])
            assert (index._loaded is None) == (name != "remote and read")
        # the whole index is read once, instead of thousands of blocks
        assert len(opens(tmp_path / "a.idx")[::2]) == 1250


def test_few_rows_of_names_that_members_share_are_read() -> None:
    name, file = "n" * 3000, header(b"x", 1) + b"x".ljust(BLOCK, b"\0")
    index = scan_store(MemoryStore(pax({"path": name}, b"g") + file * 3 + END))
    assert list(index[[2, 0]]) == [index[2], index[0]]


def test_names_are_equal_if_each_of_them_is(opened: Callable[[list[Member]], Index]) -> None:
    index = opened(FEW)
    names = [member.name for member in FEW]
    assert index.names == index.names == names == index.names == tuple(names)
    assert index.names == Index(FEW).names
    assert index.names != names[:-1]
    assert index.names != [*names[:-1], "b"]
    assert index.names != "a.jpg"
    with pytest.raises(TypeError, match="unhashable"):
        hash(index.names)


def test_get_returns_the_member_or_the_default(opened: Callable[[list[Member]], Index]) -> None:
    index = opened(FEW)
    assert index.get("a.jpg") == index.get(2) == index.get(FEW[2]) == FEW[2]
    assert index.get("b.jpg") is index.get(5) is index.get(-6) is None
    assert index.get(Member("a.jpg", 0, 1), "nothing") == "nothing"
    assert index.get("b.jpg", FEW[1]) == FEW[1]


def test_rows_of_names_members_and_rows(opened: Callable[[list[Member]], Index]) -> None:
    index = opened(MANY)
    rng = random.Random(3)
    rows = [rng.randrange(len(MANY)) for _ in range(300)]
    last = {member.name: row for row, member in enumerate(MANY)}
    asked = [
        (MANY[row], MANY[row].name, row, row - len(MANY), np.int32(row))[i % 5]
        for i, row in enumerate(rows)
    ]
    expected = [last[MANY[row].name] if i % 5 == 1 else row for i, row in enumerate(rows)]
    found = index.rows(asked)
    assert found.dtype == np.int64
    assert found.tolist() == index.rows(iter(asked)).tolist() == expected
    assert index.rows(index).tolist() == index.rows(range(len(index))).tolist()
    assert index.rows(np.array([-1, 0])).tolist() == [2499, 0]
    assert index.rows(index.offset_start == 1024).tolist() == [2]
    assert index.rows([]).tolist() == []
    for wrong in ([0, 2500], [-2501], np.array([0, 2500]), range(2501)):
        with pytest.raises(IndexError, match=r"no row -?250. among 2500 rows"):
            index.rows(wrong)
    with pytest.raises(MemberNotFoundError, match="no member 'none' among 2,500 members"):
        index.rows([0, MANY[0], "none"])


def test_what_a_read_needs_of_many_rows(opened: Callable[[list[Member]], Index]) -> None:
    index = opened(MANY)
    rows = [2499, -1, 0, 1024, 1023, 7, 7]
    found = index._search_rows(rows)
    assert [tuple(hit) for hit in found] == [
        (row % 2500, MANY[row].offset_start, MANY[row].offset_end, MANY[row].crc32c) for row in rows
    ]
    assert index._search_rows([]) == []
    assert index._search_rows(np.array([3], np.uint8)) == index._search_rows([3])
    with pytest.raises(IndexError, match="no row 2500 among 2500 rows"):
        index._search_rows([0, 2500])
    with pytest.raises(TypeError, match="row must be a whole number"):
        index._search_rows([1.5])
    bare = opened([Member("a", 0, 1)])
    assert bare._search_rows([0]) == [(0, 0, 1, None)]


SLICES = [
    slice(None), slice(1, 3), slice(3, 100), slice(2, 2), slice(4, 1), slice(-2, None), slice(None, -3),
    slice(None, None, -1), slice(None, None, 2), slice(4, 0, -3), slice(-100, 100, 3),
]  # fmt: skip


@pytest.mark.parametrize("part", SLICES, ids=str)
def test_slices_are_those_of_a_list(part: slice, opened: Callable[[list[Member]], Index]) -> None:
    for members in (FEW, MANY):
        index = opened(members)
        assert isinstance(index[part], Index)
        assert list(index[part]) == members[part]
        assert index.names[part] == [member.name for member in members[part]]


def test_head_is_the_first_rows(opened: Callable[[list[Member]], Index]) -> None:
    index = opened(MANY)
    assert list(index.head()) == MANY[:5]
    assert list(index.head(2)) == MANY[:2]
    assert list(index.head(-2498)) == MANY[:2]
    assert list(index.head(9999)) == MANY
    assert len(index.head(0)) == 0


def test_rows_and_masks_make_an_index(opened: Callable[[list[Member]], Index]) -> None:
    index = opened(FEW)
    assert list(index[[4, 0, 0, -1]]) == [FEW[4], FEW[0], FEW[0], FEW[4]]
    assert list(index[index.offset_start > 2000]) == FEW[2:]
    assert list(index[index.rows(["a.jpg", FEW[0]])]) == [FEW[2], FEW[0]]
    assert list(opened(MANY)[[2400, 3, 1500]]) == [MANY[2400], MANY[3], MANY[1500]]


def test_a_part_of_a_stored_index_reads_only_its_rows(tmp_path: Path) -> None:
    Index(MANY).save(tmp_path / "a.idx")
    index = Index.load(tmp_path / "a.idx")
    assert (len(index[5:9]), len(index.head()), index[7], index.names[-1]) != ()
    assert index._loaded is None


def of(members: list[Member], identity: Identity | None) -> Index:
    return Index._from_columns(Index(members)._columns, identity=identity)


def test_plus_joins_rows_of_one_blob() -> None:
    first, second = of(FEW[:2], IDENTITY), of(FEW[2:], IDENTITY)
    assert list(first + second) == FEW
    assert (first + second).identity == IDENTITY
    assert (first + of(FEW[2:], None)).identity is None
    # no rows are rows of any blob
    assert (first + Index()).identity == (Index() + first).identity == IDENTITY
    assert (of([], OTHER) + first).identity == IDENTITY
    assert (Index() + Index()).identity is None
    assert sum([first, second], Index()) == Index(FEW)


def test_rows_of_different_blobs_are_not_joined(tmp_path: Path) -> None:
    for name, payload in (("a", b"1"), ("b", b"22")):
        blobpack.pack([(f"{name}.png", payload)], tmp_path / f"{name}.tar", all_files=True)
    with (
        blobpack.open_blob(tmp_path / "a.tar") as first,
        blobpack.open_blob(tmp_path / "b.tar") as second,
    ):
        assert list((first.index + first.index).names) == ["a.png"] * 2
        for join in (
            lambda: first.index + second.index,
            lambda: Index.concatenate([first.index, second.index]),
        ):
            with pytest.raises(ValueError, match="indexes must belong to one blob"):
                join()


@pytest.mark.parametrize("other", [None, FEW, "a.jpg", 5], ids=type)
def test_only_an_index_is_added(other: Any) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        Index(FEW) + other


def test_rows_of_a_range_are_no_list() -> None:
    """A list of all rows would take seconds and hundreds of megabytes before the first payload is read."""
    rows = range(5, 10**12, 3)
    assert rows_to_read(rows, 10**12) is rows
    assert rows_to_read(range(-2, 2), 4) == [2, 3, 0, 1]
    with pytest.raises(IndexError, match="no row 5 among 5 rows"):
        rows_to_read(rows, 5)


def test_equal_rows_are_one_bool(opened: Callable[[list[Member]], Index]) -> None:
    index = opened(FEW)
    bare = [Member(member.name, member.offset_start, member.offset_end) for member in FEW]
    assert (index == Index(FEW)) is True
    assert (index == Index(bare)) is True
    assert (index == Index(FEW[:4])) is False
    assert (index != Index([*FEW[:4], Member("", 3584, 9001)])) is True
    assert (index == FEW) is False


def test_facts_are_the_names_of_what_is_known(opened: Callable[[list[Member]], Index]) -> None:
    assert opened(FEW).facts == {"media_type", "width", "height", "crc32c", "mtime"}
    assert opened(MANY).facts == {"crc32c"}


def test_rows_of_names_that_members_share() -> None:
    """A pax global header gives many members one long name."""
    name, file = "n" * 3000, header(b"x", 1) + b"x".ljust(BLOCK, b"\0")
    index = scan_store(MemoryStore(pax({"path": name}, b"g") + file * 3 + END))
    members = list(index)
    assert [index[row] for row in range(len(members))] == members
    assert [index.row_of(member) for member in members] == [*range(len(members))]
    assert index.names[-1] == name
    hits = index._search_rows(range(len(members)))
    assert [hit[1:3] for hit in hits] == [(m.offset_start, m.offset_end) for m in members]


# What a user sees


def test_dir_lists_what_the_api_page_documents() -> None:
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
    listed = re.search(
        r"^::: blobpack\.Index\n    options:\n      members:\n((?: {8}- \w+\n)+)", page, re.M
    )
    assert listed
    documented = set(re.findall(r"\w+", listed[1]))
    # the others are in the class's own docstring
    attributes = {"identity", "report"}
    assert attributes <= set(re.findall(r"^    +(\w+): ", Index.__doc__ or "", re.M))
    assert {name for name in dir(Index(FEW)) if not name.startswith("_")} == attributes | {
        name for name in documented if not name.startswith("_")
    }
    for name in documented:
        assert inspect.getdoc(getattr(Index, name)), name


def test_repr_says_how_many_and_what_is_known() -> None:
    assert repr(Index()) == "<Index of 0 members: name, offset_start, offset_end>"
    assert repr(Index(MANY)) == "<Index of 2,500 members: name, offset_start, offset_end, crc32c>"
    assert repr(Index(FEW[:1])).startswith("<Index of 1 member: name,")
    assert repr(Index(FEW).names) == "<5 names>"


def cells(html: str) -> list[list[str]]:
    """The texts of a table's cells; whatever is not well-formed is an error."""
    root = ElementTree.fromstring(html)
    return [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]


def test_a_notebook_shows_the_first_and_last_rows(opened: Callable[[list[Member]], Index]) -> None:
    rows = cells(opened(MANY)._repr_html_())
    assert rows[0] == ["", "name", "offset_start", "offset_end", "crc32c"]
    assert rows[6] == ["…"] * 5
    assert [row[0] for row in rows[1:6] + rows[7:]] == [
        *"01234",
        *(f"2,{row}" for row in range(495, 500)),
    ]
    assert rows[-1] == ["2,499", "2499.jpg", "1,279,488", "1,279,939", "2499"]
    assert len(cells(opened(FEW)._repr_html_())) == 6
    assert cells(opened([])._repr_html_())[1:] == []


def test_names_do_no_harm_in_a_notebook(opened: Callable[[list[Member]], Index]) -> None:
    names = ["<script>alert(1)</script>", "a&b\"'", "caf\udce9.png", "long/" * 9000]
    html = opened([Member(name, 0, 1) for name in names])._repr_html_()
    html.encode()
    assert "<script" not in html
    assert len(html) < 2000
    assert [row[1] for row in cells(html)[1:4]] == [*names[:2], "caf\ufffd.png"]


def test_an_index_is_shown_without_a_heavy_package_and_after_it_was_closed(tmp_path: Path) -> None:
    Index(FEW).save(tmp_path / "a.idx")
    code = (
        "import sys, blobpack\n"
        f"index = blobpack.Index.load({str(tmp_path / 'a.idx')!r})\n"
        "assert 'notes.txt' in index._repr_html_()\n"
        "index.close()\n"
        "assert 'the index is closed' in index._repr_html_()\n"
        "print({'pandas', 'pyarrow', 'numpy', 'PIL', 'IPython'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# DataFrames


def test_pandas_and_back(opened: Callable[[list[Member]], Index]) -> None:
    text = [member for member in FEW if member.name.isascii()]
    frame = opened(text).to_pandas()
    assert list(Index.from_pandas(frame)) == text
    assert list(Index.from_pandas(frame.set_index("name"))) == text
    frame["label"] = [object()] * len(frame)
    chosen = Index.from_pandas(
        frame[frame.offset_start > 600].sort_values("offset_start", ascending=False)
    )
    assert list(chosen) == text[:0:-1]
    assert list(Index.from_pandas(opened(FEW).to_pandas())) == FEW


def test_a_frame_of_something_else_is_refused() -> None:
    frame = Index(FEW[:1]).to_pandas()
    with pytest.raises(
        blobpack.FormatError, match="no columns 'offset_end' among name, offset_start"
    ):
        Index.from_pandas(frame.drop(columns="offset_end"))
    mixed = frame.assign(name=[5]).astype({"name": object})
    with pytest.raises(blobpack.FormatError, match="column name"):
        Index.from_pandas(mixed)
    with pytest.raises(blobpack.FormatError, match="the DataFrame has a column"):
        Index.from_pandas(frame.assign(name=[object()]))
    for wrong, says in (
        (frame.assign(width=[2**70]).astype({"width": object}), "width|large|convert|long"),
        (frame[["name", *frame.columns]], "[Dd]uplicate column names"),
    ):
        for convert in (Index.from_pandas, Index.from_arrow):
            with pytest.raises(blobpack.FormatError, match=says):
                convert(wrong)
    with pytest.raises(TypeError, match=r"frame must be a pandas\.DataFrame"):
        Index.from_pandas(FEW)  # type: ignore[arg-type]
