"""Offsets files: the SDK's bytes and CPython's, read back from any of their versions, and nothing run."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import pickle
import pickletools
import random
import struct
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fuzz.fuzz_offsets import unpickled, without_frames
from hypothesis import given, settings, strategies as st
from tars import walked_rows

from blobpack import (
    BlobNotFoundError,
    DuplicateNameError,
    FormatError,
    Index,
    Member,
    StorageError,
    TruncatedError,
    read_offsets,
    scan,
    write_offsets,
)
from blobpack._native.pickles import OffsetsDecoder
from blobpack.index.tables.offsets import BATCH_ROWS, iter_offsets, offsets_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Row = tuple[str, int, int]

SAMPLES = Path(__file__).parent / "data" / "supervisely"
SDK_FILES = [
    "small_images_offsets.pkl",
    "batch_50/small_images_offsets.pkl",
    "filtered_jpeg/small_images_offsets.pkl",
    "project/ds1/small_images_offsets.pkl",
    "project/ds2/small_images_offsets.pkl",
]


@dataclass
class BlobImageInfo:
    """The SDK's class, as far as its pickles show it."""

    name: str
    offset_start: int
    offset_end: int


@pytest.fixture(scope="module", autouse=True)
def sdk() -> Iterator[None]:
    """Let pickle find the class where the SDK has it."""
    BlobImageInfo.__module__ = "supervisely.api.image_api"
    BlobImageInfo.__qualname__ = "BlobImageInfo"
    modules = {
        name: types.ModuleType(name)
        for name in ("supervisely", "supervisely.api", "supervisely.api.image_api")
    }
    modules["supervisely.api.image_api"].BlobImageInfo = BlobImageInfo  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        yield


def infos(rows: list[Row]) -> list[BlobImageInfo]:
    """Make the objects that the SDK pickles: each name an object of its own, as when read from a tar."""
    return [
        BlobImageInfo(
            name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"), start, end
        )
        for name, start, end in rows
    ]


def index_of(rows: list[Row]) -> Index:
    return Index(Member(*row) for row in rows)


def bytes_of(rows: list[Row]) -> bytes:
    file = io.BytesIO()
    assert write_offsets(index_of(rows), file) == len(rows)
    return file.getvalue()


def decode(data: bytes) -> list[Row]:
    """Read an offsets file that isn't one on disk."""
    columns = OffsetsDecoder(io.BytesIO(data), "offsets").read_batch(1 << 62)
    return (
        [(name, start, start + size) for name, start, size in walked_rows(columns)]
        if columns
        else []
    )


def rows_or_fault(data: bytes) -> list[Row] | FormatError:
    """Decode, and check what holds of all rows and faults."""
    try:
        rows = decode(data)
    except FormatError as exc:
        assert exc.offset is not None
        assert 0 <= exc.offset <= len(data)
        assert str(exc).endswith(f"at byte {exc.offset}")
        return exc
    for _, start, end in rows:
        assert 0 <= start <= end
    return rows


def triples(index: Index) -> list[Row]:
    return [(member.name, member.offset_start, member.offset_end) for member in index]


# The SDK's own files


@pytest.mark.parametrize("sample", SDK_FILES)
def test_the_sdks_files_are_read_as_pickle_reads_them(sample: str) -> None:
    path = SAMPLES / sample
    expected: list[BlobImageInfo] = []
    with path.open("rb") as file:
        while file.peek(1):
            expected += pickle.load(file)
    assert triples(read_offsets(path)) == [(i.name, i.offset_start, i.offset_end) for i in expected]


@pytest.mark.parametrize("sample", [sample for sample in SDK_FILES if "batch_50" not in sample])
def test_the_sdks_rows_give_the_sdks_bytes(sample: str, tmp_path: Path) -> None:
    written = tmp_path / "offsets.pkl"
    write_offsets(read_offsets(SAMPLES / sample), written)
    assert written.read_bytes() == (SAMPLES / sample).read_bytes()


def test_a_scan_of_the_sdks_tar_gives_the_sdks_bytes(tmp_path: Path) -> None:
    index = scan(SAMPLES / "small_images.tar")
    written = offsets_path(tmp_path / "small_images.tar")
    write_offsets(index, written, names="basename")
    assert written.read_bytes() == (SAMPLES / "small_images_offsets.pkl").read_bytes()

    jpegs = index.select("*.jpg", "*.jpeg", "*.JPEG", "*.JPG")
    write_offsets(jpegs, written, names="basename")
    assert written.read_bytes() == (SAMPLES / "filtered_jpeg/small_images_offsets.pkl").read_bytes()


def test_the_offsets_lead_to_the_images() -> None:
    blob = (SAMPLES / "small_images.tar").read_bytes()
    digests = json.loads((SAMPLES / "sha256.json").read_text())
    found = {
        name: hashlib.sha256(blob[start:end]).hexdigest()
        for name, start, end in triples(read_offsets(SAMPLES / "small_images_offsets.pkl"))
    }
    assert found == digests


def test_small_batches_of_the_sdk_are_read() -> None:
    assert read_offsets(SAMPLES / "batch_50/small_images_offsets.pkl") == read_offsets(
        SAMPLES / "small_images_offsets.pkl"
    )


# CPython's bytes


def rows_of_count(count: int) -> list[Row]:
    return [(f"image-{i:07}.jpg", i * 5000 + 512, i * 5000 + 512 + i % 4001) for i in range(count)]


@pytest.mark.parametrize("count", [1, 2, 255, 256, 999, 1000, 1001, 1999, 2000, 2001, 9999, 10_000])
def test_lists_of_any_length_are_pickled_as_cpython_does(count: int) -> None:
    rows = rows_of_count(count)
    assert bytes_of(rows) == pickle.dumps(infos(rows), protocol=4)


def test_more_rows_are_pickles_of_ten_thousand() -> None:
    rows = rows_of_count(2 * BATCH_ROWS + 1)
    batches = [rows[i : i + BATCH_ROWS] for i in range(0, len(rows), BATCH_ROWS)]
    assert bytes_of(rows) == b"".join(pickle.dumps(infos(batch), protocol=4) for batch in batches)


BORDERS = [
    b
    for power in (8, 15, 16, 31, 32, 39, 40, 47, 55, 62)
    for b in range((1 << power) - 2, (1 << power) + 3)
]
BORDERS += [0, 1, (1 << 63) - 1]


def test_numbers_of_any_width_are_pickled_as_cpython_does() -> None:
    rows = [(f"{i}", start, start) for i, start in enumerate(BORDERS)]
    assert bytes_of(rows) == pickle.dumps(infos(rows), protocol=4)
    assert decode(bytes_of(rows)) == rows


NAMES = [
    "", "a", "é", "ÿ", "Ā", "\x00", "\x7f", "\x80", "€", "💥", "\udc80", "\udcff", "a\udce9", "name", "offset_start",
    "offset_end", "BlobImageInfo", "supervisely.api.image_api", "n" * 255, "n" * 256, "n" * 300, "é" * 127,
    "é" * 128, "\udcff" * 85, "\udcff" * 86, "new\nline", "n" * 65_000,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_name_even_repeated_is_pickled_as_cpython_does(name: str) -> None:
    rows = [("first", 0, 1), (name, 1, 2), (name, 2, 3), ("last", 3, 4), (name, 4, 5)]
    assert bytes_of(rows) == pickle.dumps(infos(rows), protocol=4)
    assert decode(bytes_of(rows)) == rows


def test_a_name_ends_where_the_next_one_begins() -> None:
    """The last byte of one and the first of the next would be a letter."""
    rows = [("xx\udcc3", 1, 2), ("\udca9y", 2, 3), ("xxx\udce6\udc97", 3, 4), ("\udca5", 4, 5)]
    assert bytes_of(rows) == pickle.dumps(infos(rows), protocol=4)


@pytest.mark.parametrize("memo", range(248, 266))
def test_a_name_whose_memo_takes_another_opcode_is_pickled_as_cpython_does(memo: int) -> None:
    """CPython has one object of each one-character name: its memo is a byte up to 255, and four behind that."""
    # each row but the first stores three memos; one whose name was stored before stores two
    again = [("b", 0, 1)] * (0, 3, 2)[memo % 3]
    stored_again = (0, 7, 5)[memo % 3]
    longer = [(f"n{i}", i, i) for i in range((memo - 9 - stored_again) // 3)]
    rows = [*longer, *again, ("a", 1, 2), ("other", 2, 3), ("a", 3, 4), ("a", 4, 5)]
    assert bytes_of(rows) == pickle.dumps(infos(rows), protocol=4)
    assert decode(bytes_of(rows)) == rows


@pytest.mark.parametrize("length", [65_535, 65_536, 70_000, 200_000])
def test_names_longer_than_a_frame_are_read_back_by_cpython(length: int) -> None:
    rows = [("a", 0, 1), ("n" * length, 1, 2), ("b", 2, 3)]
    assert pickle.loads(bytes_of(rows)) == infos(rows)
    assert decode(bytes_of(rows)) == rows
    assert decode(pickle.dumps(infos(rows), protocol=4)) == rows


@st.composite
def escaped_names(draw: st.DrawFn) -> str:
    """Draw a name as tars give them: any bytes, those that are not UTF-8 as surrogates."""
    text = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=300)).encode()
    return (text + draw(st.binary(max_size=3))).decode("utf-8", "surrogateescape")


OFFSETS = st.one_of(st.sampled_from(BORDERS), st.integers(0, (1 << 63) - 1))
ROWS = st.lists(
    st.tuples(
        st.one_of(
            escaped_names(),
            st.text(max_size=1).filter(str.isprintable),
            st.sampled_from(NAMES[:20]),
        ),
        OFFSETS,
        OFFSETS,
    ).map(lambda row: (row[0], *sorted(row[1:]))),
    min_size=1,
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_any_rows_are_pickled_as_cpython_does(rows: list[Row]) -> None:
    assert bytes_of(rows) == pickle.dumps(infos(rows), protocol=4)
    assert decode(bytes_of(rows)) == rows


@pytest.mark.parametrize("seed", range(5))
def test_frames_break_where_cpython_breaks_them(seed: int) -> None:
    """A frame ends behind the object that fills it: names of all lengths move that about."""
    rng = random.Random(seed)
    rows = [
        ("n" * rng.randrange(1, rng.choice((10, 300, 5000))), i, i + rng.choice(BORDERS[:40]))
        for i in range(1500)
    ]
    assert bytes_of(rows) == pickle.dumps(infos(rows), protocol=4)


def test_a_frame_may_end_behind_any_object_of_a_row() -> None:
    """Names of one more byte each move the end of the first frame over all that a row is made of."""
    for length in range(5120, 5370):
        rows = [
            ("f" * 60_000, 0, 1),
            ("n" * length, 255, 256),
            ("a", 65_535, 65_536),
            ("é", 1, 1 << 31),
            ("last", 2, 3),
        ]
        assert bytes_of(rows) == pickle.dumps(infos(rows), protocol=4)
        alone = [rows[0], ("n" * (length + 250), 0, 1)]
        assert bytes_of(alone) == pickle.dumps(infos(alone), protocol=4)


# What other writers write


def rest_rows(rows: list[Row]) -> list[dict[str, Any]]:
    """Make the rows of the SDK's REST form."""
    return [
        {"title": name, "teamFileId": None, "sourceBlob": {"offsetStart": start, "offsetEnd": end}}
        for name, start, end in rows
    ]


def with_team_file_id(rows: list[Row], team_file_id: int | None) -> list[BlobImageInfo]:
    made = infos(rows)
    for info in made:
        info.team_file_id = team_file_id  # type: ignore[attr-defined]
    return made


def pickled_by_c(items: list[object], protocol: int) -> bytes:
    return pickle.dumps(items, protocol)


def pickled_by_python(items: list[object], protocol: int) -> bytes:
    file = io.BytesIO()
    pickle._Pickler(file, protocol).dump(items)  # type: ignore[attr-defined]
    return file.getvalue()


def pickled_without_a_memo(items: list[object], protocol: int) -> bytes:
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol)
    pickler.fast = True
    pickler.dump(items)
    return file.getvalue()


def pickled_optimized(items: list[object], protocol: int) -> bytes:
    return pickletools.optimize(pickle.dumps(items, protocol))


FORMS: dict[str, Callable[[list[Row]], list[Any]]] = {
    "instances": infos,
    "REST form": rest_rows,
    "dicts": lambda rows: [vars(info) for info in infos(rows)],
    "with team_file_id": lambda rows: with_team_file_id(rows, 12345678901),
    "with team_file_id None": lambda rows: with_team_file_id(rows, None),
    "mixed": lambda rows: [(infos if i % 3 else rest_rows)([row])[0] for i, row in enumerate(rows)],
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "dumps",
    [pickled_by_c, pickled_by_python, pickled_without_a_memo, pickled_optimized],
    ids=lambda f: f.__name__,
)
def test_any_protocol_pickler_and_form_is_read(
    protocol: int, form: str, dumps: Callable[[list[Any], int], bytes]
) -> None:
    many = [*rows_of_count(1100), *((name, 1, 1 << 40) for name in NAMES)]
    for rows, batch_size in ((many[-50:], 1), (many[-50:], 3), (many, 1001)):
        batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        assert decode(b"".join(dumps(FORMS[form](batch), protocol) for batch in batches)) == rows


def test_lists_without_rows_are_read() -> None:
    some = pickle.dumps(infos([("a", 1, 2)]), 4)
    assert decode(pickle.dumps([], 4)) == []
    assert decode(pickle.dumps([], 4) + some + pickle.dumps([], 4) + some) == [("a", 1, 2)] * 2


# Writing


def test_names_are_paths_unless_basenames_are_asked_for() -> None:
    index = index_of([("dir/a.jpg", 1, 2), ("b.jpg", 2, 3)])
    for names, expected in (("path", ["dir/a.jpg", "b.jpg"]), ("basename", ["a.jpg", "b.jpg"])):
        file = io.BytesIO()
        write_offsets(index, file, names)  # type: ignore[arg-type]
        assert [row[0] for row in decode(file.getvalue())] == expected
    file = io.BytesIO()
    write_offsets(index, file)
    assert [row[0] for row in decode(file.getvalue())] == ["dir/a.jpg", "b.jpg"]


TWICE = [("one/same.jpg", 1, 2), ("between", 2, 3), ("two/same.jpg", 3, 4)]


@pytest.mark.parametrize(
    "index",
    [
        index_of(TWICE),
        [index_of(TWICE)],
        [index_of(TWICE[:2]), index_of(TWICE[2:])],
        [index_of(TWICE[:1]), index_of(rows_of_count(25_000)), index_of(TWICE[1:])],
    ],
    ids=["one index", "a list of one", "in two indexes", "batches apart"],
)
def test_two_members_of_one_basename_are_refused_and_named(index: Any, tmp_path: Path) -> None:
    with pytest.raises(DuplicateNameError, match=r"'one/same\.jpg' and 'two/same\.jpg'"):
        write_offsets(index, tmp_path / "offsets.pkl", names="basename")
    assert list(tmp_path.iterdir()) == []


def test_equal_paths_are_written_as_they_are() -> None:
    rows = [("a", 1, 2), ("a", 2, 3)]
    assert decode(bytes_of(rows)) == rows


@pytest.mark.parametrize("index", [Index(), [], [Index(), Index()]], ids=repr)
@pytest.mark.parametrize("names", ["path", "basename"])
def test_no_rows_make_an_empty_file(index: Any, names: Any, tmp_path: Path) -> None:
    path = tmp_path / "offsets.pkl"
    write_offsets(index_of(rows_of_count(3)), path)
    assert write_offsets(index, path, names) == 0
    assert path.read_bytes() == b""
    assert len(read_offsets(path)) == 0
    assert list(iter_offsets(path)) == []


@pytest.mark.parametrize(
    "sizes", [[3], [10_000], [10_001], [9_999, 2, 9_999], [1] * 30, [0, 25_000, 0, 1], [4_000] * 6]
)
@pytest.mark.parametrize("names", ["path", "basename"])
def test_indexes_one_behind_another_give_the_bytes_of_one(sizes: list[int], names: Any) -> None:
    rows = rows_of_count(sum(sizes))
    indexes, first = [], 0
    for size in sizes:
        indexes.append(index_of(rows[first : first + size]))
        first += size
    file = io.BytesIO()
    assert write_offsets(iter(indexes), file, names) == len(rows)
    assert file.getvalue() == bytes_of(rows)


@pytest.mark.parametrize("format", ["pkl", "csv", "jsonl"])
def test_failing_midway_leaves_the_old_file(format: Any, tmp_path: Path) -> None:
    path = tmp_path / "offsets"
    write_offsets(index_of(rows_of_count(3)), path, format=format)
    old = path.read_bytes()

    def indexes() -> Iterator[Index]:
        yield index_of(rows_of_count(25_000))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_offsets(indexes(), path, format=format)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


FILL_THE_DISK = """
import resource, sys
from blobpack import Index, Member, StorageError, write_offsets
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_offsets(Index(Member(f"image-{i}", i, i) for i in range(5000)), sys.argv[1])
except StorageError as exc:
    print(type(exc).__name__)
"""


def test_a_disk_that_is_full_is_a_storage_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "offsets.pkl"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, path], capture_output=True, text=True, check=False
    )
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert done.stdout == "StorageError\n", done.stderr


def test_where_nothing_can_be_written_or_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_offsets(index_of([("a", 1, 2)]), tmp_path / "no folder" / "offsets.pkl")
    with pytest.raises(StorageError):
        write_offsets(index_of([("a", 1, 2)]), tmp_path)
    with pytest.raises(StorageError):
        read_offsets(tmp_path)
    for read in (read_offsets, lambda path: next(iter_offsets(path))):
        with pytest.raises(BlobNotFoundError):
            read(tmp_path / "none.pkl")


@pytest.mark.parametrize("misuse", [{"names": "stem"}, {"format": "xml"}], ids=str)
def test_an_unknown_choice_is_a_value_error(misuse: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(misuse.values()))):
        write_offsets(Index(), io.BytesIO(), **misuse)


@pytest.mark.parametrize(
    ("blob", "name"),
    [("out.tar", "out_offsets.pkl"), ("a.b.tar", "a.b_offsets.pkl"), ("x.TAR", "x_offsets.pkl")],
)
def test_the_file_is_named_as_the_sdk_names_it(blob: str, name: str) -> None:
    assert offsets_path(Path("dir") / blob) == Path("dir") / name


ODD = [("comma,quote\"", 0, 1), ("new\nline", 1, 2), ("return\rhere", 2, 3), ("\r\n", 3, 4), (" sp ", 4, 5),
       ("", 5, 6), ("ünï/日本", 6, 7), ("caf\udce9", 7, 1 << 60), ("'", 8, 9), ("#", 9, 9)]  # fmt: skip


def test_csv_is_read_back_by_csv(tmp_path: Path) -> None:
    path = tmp_path / "offsets.csv"
    assert write_offsets(index_of(ODD), path, format="csv") == len(ODD)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["name", "offset_start", "offset_end"]
    assert [(name, int(start), int(end)) for name, start, end in rows] == ODD


def test_json_lines_are_read_back_by_json(tmp_path: Path) -> None:
    path = tmp_path / "offsets.jsonl"
    assert write_offsets(index_of(ODD), path, format="jsonl") == len(ODD)
    lines = path.read_text(encoding="ascii").splitlines()
    assert [tuple(json.loads(line).values()) for line in lines] == ODD
    assert list(json.loads(lines[0])) == ["name", "offset_start", "offset_end"]


# Reading piece by piece


@pytest.mark.parametrize("rows_at_least", [1, 50, 60, 199, 200, 201, 10_000])
def test_pieces_follow_one_another_and_are_as_large_as_asked(rows_at_least: int) -> None:
    path = SAMPLES / "batch_50/small_images_offsets.pkl"
    pieces = list(iter_offsets(path, rows_at_least))
    assert Index.concatenate(pieces) == read_offsets(path)
    assert all(len(piece) >= rows_at_least for piece in pieces[:-1])
    assert all(len(piece) < rows_at_least + 50 for piece in pieces)


def test_pieces_of_no_size_are_refused_or_lose_no_rows() -> None:
    path = SAMPLES / "small_images_offsets.pkl"
    for rows_at_least in (0, -1):
        with contextlib.suppress(ValueError):
            assert sum(map(len, iter_offsets(path, rows_at_least))) == 200


def test_rows_before_a_fault_are_given_before_it_is_raised(tmp_path: Path) -> None:
    path = tmp_path / "offsets.pkl"
    good = pickle.dumps(infos(rows_of_count(3)), 4)
    path.write_bytes(good + good + b"junk")
    pieces = iter_offsets(path, 1)
    assert triples(next(pieces)) == triples(next(pieces)) == rows_of_count(3)
    with pytest.raises(FormatError) as caught:
        next(pieces)
    assert caught.value.offset == 2 * len(good)


STREAM = """
import itertools, resource, sys
import numpy as np
from blobpack import Index, write_offsets
from blobpack.columns import Columns
from blobpack.index.tables.offsets import iter_offsets

BATCHES, ROWS, WIDTH = 200, 10_000, 20

def indexes():
    for batch in range(BATCHES):
        starts = np.arange(ROWS) * 5000 + batch * ROWS * 5000
        names = b"".join(b"%020d" % i for i in range(batch * ROWS, (batch + 1) * ROWS))
        bounds = np.arange(ROWS + 1) * WIDTH
        yield Index._from_columns(Columns(memoryview(names), bounds.data, starts.data, (starts + 4000).data))

def peak_bytes():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

for warm in itertools.islice(indexes(), 1):
    write_offsets(warm, sys.argv[1])
before = peak_bytes()
assert write_offsets(indexes(), sys.argv[1]) == BATCHES * ROWS
rows = total = 0
for index in iter_offsets(sys.argv[1]):
    rows += len(index)
    total += int(index.offset_start.sum())
assert rows == BATCHES * ROWS
assert total == sum(range(BATCHES * ROWS)) * 5000
print(peak_bytes() - before)
"""


def test_two_million_rows_stream_through_little_memory(tmp_path: Path) -> None:
    """As an index they would take 88 MB, as a file 100 MB."""
    command = [sys.executable, "-c", STREAM, tmp_path / "offsets.pkl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64_000_000


# Malice


class Touch:
    """Pickles into a call that leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "wrap", [list, lambda item: item, lambda item: {"name": item}], ids=["list", "bare", "dict"]
)
def test_nothing_in_a_file_is_run(
    protocol: int, wrap: Callable[[object], object], tmp_path: Path
) -> None:
    bait = tmp_path / "bait"
    evil = pickle.dumps(wrap([Touch(bait)] if wrap is list else Touch(bait)), protocol)
    pickle.loads(evil)
    assert bait.exists()
    bait.unlink()

    path = tmp_path / "offsets.pkl"
    path.write_bytes(pickle.dumps(infos(rows_of_count(3)), 4) + evil)
    with pytest.raises(FormatError):
        read_offsets(path)
    assert not bait.exists()


HEAD = b"\x80\x04"
NEW_ROW = b"\x8c\x19supervisely.api.image_api\x8c\x0dBlobImageInfo\x93)\x81"
STATE = b"}(\x8c\x04name\x8c\x01a\x8c\x0coffset_startK\x01\x8c\x0aoffset_endK\x02u"
REFUSED = {
    "GLOBAL os.system": b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00truetR.",
    "GLOBAL os.system in protocol 0": b"cos\nsystem\n(S'true'\ntR.",
    "STACK_GLOBAL os.system": HEAD + b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "STACK_GLOBAL of another class there": HEAD + b"]\x8c\x19supervisely.api.image_api\x8c\x0dBlobImageInfX\x93)\x81a.",
    "STACK_GLOBAL of our name elsewhere": HEAD + b"]\x8c\x19supervisely.api.image_apj\x8c\x0dBlobImageInfo\x93)\x81a.",
    "GLOBAL of a class that begins like ours": b"\x80\x02]csupervisely.api.image_api\nBlobImageInfo2\n)\x81a.",
    "REDUCE of our class": HEAD + b"]" + NEW_ROW[:-1] + b"R" + STATE + b"ba.",
    "NEWOBJ with arguments": HEAD + b"]" + NEW_ROW[:-2] + b"K\x01\x85\x81" + STATE + b"ba.",
    "NEWOBJ_EX": HEAD + b"]" + NEW_ROW[:-1] + b"}\x92" + STATE + b"ba.",
    "BUILD on a list": HEAD + b"]}b.",
    "BUILD on a dict": HEAD + b"]}" + STATE + b"ba.",
    "BUILD with slots": HEAD + b"]" + NEW_ROW + b"N" + STATE + b"\x86ba.",
    "an instance without state": HEAD + b"]" + NEW_ROW + b"a.",
    "a class as a row": HEAD + b"]" + NEW_ROW[:-2] + b"a.",
    "PERSID": HEAD + b"Pid\n.",
    "BINPERSID": HEAD + b"K\x01Q.",
    "INST": HEAD + b"(ios\nsystem\n.",
    "OBJ": HEAD + b"(\x8c\x01ao.",
    "EXT1": HEAD + b"\x82\x01.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "BYTEARRAY8": b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b".",
    "a memo never stored": HEAD + b"]h\x00a.",
    "a long memo never stored": HEAD + b"]j\xff\xff\xff\xffa.",
    "a memo far away": HEAD + b"]r\xff\xff\xff\xffK\x01a.",
    "a memo of nothing": HEAD + b"\x94].",
    "a list in a list": HEAD + b"]]a.",
    "a thousand lists": HEAD + b"]" * 1000 + b"a" * 999 + b".",
    "a list in itself": HEAD + b"]\x94h\x00a.",
    "a dict in itself": HEAD + b"]}\x94\x8c\x0asourceBlobh\x01sa.",
    "a number as a row": HEAD + b"]K\x01a.",
    "a text as a row": HEAD + b"]\x8c\x01aa.",
    "None as a row": HEAD + b"]Na.",
    "nothing": HEAD + b".",
    "None": HEAD + b"N.",
    "a dict": HEAD + STATE + b".",
    "a tuple": HEAD + b").",
    "two lists": HEAD + b"]].",
    "a mark left over": HEAD + b"](.",
    "APPENDS without a mark": HEAD + b"]e.",
    "SETITEMS of half a pair": HEAD + b"]}(\x8c\x04nameua.",
    "STOP at once": b".",
    "no PROTO": b"]\x94.",
    "protocol 1": pickle.dumps([1], 1),
    "protocol 6": b"\x80\x06].",
    "PROTO twice": HEAD + HEAD + b"].",
    "text with a length of 2**63": HEAD + b"]\x8d" + struct.pack("<Q", 1 << 63) + b"a.",
    "text with a length of 2**64 - 1": HEAD + b"]\x8d" + b"\xff" * 8 + b"a.",
    "a number of 2**31 bytes": HEAD + b"]\x8b" + struct.pack("<I", 1 << 31) + b"a.",
    "a number of nine bytes": HEAD + b"]" + NEW_ROW + STATE.replace(b"K\x01", b"\x8a\x09" + b"\xff" * 8 + b"\0") + b"ba.",
    "a negative offset": HEAD + b"]" + NEW_ROW + STATE.replace(b"K\x01", b"J\xff\xff\xff\xff") + b"ba.",
    "offsets out of order": HEAD + b"]" + NEW_ROW + STATE.replace(b"K\x01", b"K\x03") + b"ba.",
    "an offset that is a float": HEAD + b"]" + NEW_ROW + STATE.replace(b"K\x01", b"G" + bytes(8)) + b"ba.",
    "an offset that is a bool": HEAD + b"]" + NEW_ROW + STATE.replace(b"K\x01", b"\x88") + b"ba.",
    "an offset that is text": HEAD + b"]" + NEW_ROW + STATE.replace(b"K\x01", b"\x8c\x011") + b"ba.",
    "a name that is a number": HEAD + b"]" + NEW_ROW + STATE.replace(b"\x8c\x01a", b"K\x01") + b"ba.",
    "a name that is None": HEAD + b"]" + NEW_ROW + STATE.replace(b"\x8c\x01a", b"N") + b"ba.",
    "a name that is no text": HEAD + b"]" + NEW_ROW + STATE.replace(b"\x8c\x01a", b"\x8c\x01\xff") + b"ba.",
    "a key that is no text": HEAD + b"]" + NEW_ROW + STATE.replace(b"u", b"\x8c\x01\xffNu") + b"ba.",
    "a value that is no text": HEAD + b"]" + NEW_ROW + STATE.replace(b"u", b"\x8c\x01x\x8c\x02\xc3(u") + b"ba.",
    "a long value that is no text": HEAD + b"]" + NEW_ROW + STATE.replace(b"u", b"\x8c\x01xX\x0d\0\0\0twelveletter\xffu") + b"ba.",
    "a text that ends within a character": HEAD + b"]" + NEW_ROW + STATE.replace(b"u", b"\x8c\x01x\x8c\x02\xed\xa0u") + b"ba.",
    "a name no tar holds": HEAD + b"]" + NEW_ROW + STATE.replace(b"\x8c\x01a", b"\x8c\x03\xed\xa0\x80") + b"ba.",
    "no name": HEAD + b"]" + NEW_ROW + STATE.replace(b"\x8c\x04name", b"\x8c\x04nome") + b"ba.",
    "no end": HEAD + b"]" + NEW_ROW + STATE.replace(b"offset_end", b"offset_eng") + b"ba.",
    "an empty dict": HEAD + b"]}a.",
}  # fmt: skip


@pytest.mark.parametrize("refused", REFUSED)
def test_all_else_is_refused_with_its_offset(refused: str) -> None:
    before = pickle.dumps(infos(rows_of_count(3)), 4)
    fault = rows_or_fault(before + REFUSED[refused])
    assert type(fault) is FormatError
    assert fault.offset is not None
    assert fault.offset >= len(before)


@pytest.mark.parametrize(
    "text", [b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x9f\x92\xa5", b"seven77\xc3\xa9"]
)
def test_values_of_any_str_are_passed_over(text: bytes) -> None:
    value = b"\x8c\x01x\x8c" + bytes([len(text)]) + text
    pickled = HEAD + b"]" + NEW_ROW + STATE.replace(b"u", value + b"u") + b"ba."
    assert rows_or_fault(pickled) == [("a", 1, 2)]


def test_the_offset_of_a_fault_is_that_of_its_opcode() -> None:
    for refused, opcode in (
        ("GLOBAL os.system", 2),
        ("BUILD on a list", 4),
        ("REDUCE of our class", 47),
        ("EXT1", 2),
    ):
        fault = rows_or_fault(REFUSED[refused])
        assert isinstance(fault, FormatError)
        assert fault.offset == opcode, refused


@pytest.mark.parametrize("first", ["offsets", "sourceBlob"])
def test_a_source_blob_without_offsets_gives_none(first: str) -> None:
    """What was never given must not be made up out of memory."""
    offsets = b"\x8c\x0boffsetStartK\x07\x8c\x09offsetEndK\x09"
    source = b"\x8c\x0asourceBlob}"
    fields = offsets + source if first == "offsets" else source + offsets
    dirt = pickle.dumps(rest_rows([(f"{i}", 1111, 2222) for i in range(2000)]), 4)
    found = rows_or_fault(dirt + HEAD + b"]}(\x8c\x05title\x8c\x01a" + fields + b"ua.")
    assert isinstance(found, FormatError) or found[-1] == ("a", 7, 9)


def test_a_text_longer_than_the_file_is_truncated() -> None:
    for opcode, length in (
        (b"\x8c", b"\xff"),
        (b"X", b"\xff" * 4),
        (b"\x8d", struct.pack("<Q", 1 << 32)),
    ):
        assert type(rows_or_fault(HEAD + b"]" + opcode + length + b"abc")) is TruncatedError


MEMO_BOMB = """
import io, resource, sys
from blobpack import FormatError
from blobpack._native.pickles import OffsetsDecoder
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    OffsetsDecoder(io.BytesIO(sys.stdin.buffer.read()), "bomb").read_batch(1 << 62)
except FormatError:
    print("refused")
"""
LONG_NAME = b"X" + struct.pack("<I", 1 << 16) + b"n" * (1 << 16) + b"\x94"
BOMBS = {
    "one row many times": b"](" + NEW_ROW + STATE.replace(b"\x8c\x01a", LONG_NAME[:-1]) + b"b\x94"
    + b"h\x00" * 100_000 + b"e.",
    "one name many times": b"](" + NEW_ROW + STATE.replace(b"\x8c\x01a", LONG_NAME) + b"b"
    + (NEW_ROW + STATE.replace(b"\x8c\x01a", b"h\x00") + b"b") * 100_000 + b"e.",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_does_not_fill_the_memory(bomb: str) -> None:
    """Picklers write what is there twice only once: 6.5 GB of names out of a few bytes each."""
    command = [sys.executable, "-c", MEMO_BOMB]
    done = subprocess.run(command, input=HEAD + BOMBS[bomb], capture_output=True, check=False)
    assert done.stdout == b"refused\n", done.stderr.decode()


# Damage


@pytest.mark.parametrize("protocol", [2, 4])
def test_cut_at_every_byte(protocol: int) -> None:
    rows = rows_of_count(9)
    pickles = [pickle.dumps(infos(rows[i : i + 3]), protocol) for i in (0, 3, 6)]
    whole = b"".join(pickles)
    borders = {sum(map(len, pickles[:i])): rows[: 3 * i] for i in range(4)}
    for length in range(len(whole) + 1):
        found = rows_or_fault(whole[:length])
        if length in borders:
            assert found == borders[length]
        else:
            assert type(found) is TruncatedError
            assert found.offset is not None
            assert max(border for border in borders if border <= length) <= found.offset <= length


@pytest.mark.parametrize("flip", [0xFF, 0x01, 0x80])
def test_any_byte_flipped_gives_rows_or_a_fault(flip: int) -> None:
    whole = (SAMPLES / "filtered_jpeg/small_images_offsets.pkl").read_bytes()
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= flip
        found = rows_or_fault(bytes(data))
        if isinstance(found, list):
            assert found == unpickled(without_frames(bytes(data)))


PICKLES = [
    *(pickle.dumps([{"name": "a", "offset_start": 1, "offset_end": 300}] * count, protocol) for count in (1, 3) for protocol in (2, 4)),
    (SAMPLES / "project/ds2/small_images_offsets.pkl").read_bytes(),
]  # fmt: skip
OPCODES = b"".join(opcode.code.encode("latin-1") for opcode in pickletools.opcodes)
WORDS = [
    NEW_ROW, STATE, b"]", b"}", b"(", b")", b"\x94", b"h\x00", b"h\x01", b"q\x00", b"j\x02\0\0\0", b"K\x05", b"M\x05\x05",
    b"\x8c\x04name", b"\x8c\x05title", b"\x8c\x0asourceBlob", b"\x8c\x0boffsetStart", b"\x8c\x09offsetEnd", b"N",
    b"u", b"b", b"s", b"a", b"e", b".", HEAD, b"\x80\x02", b"\x95" + bytes(8), b"\x8a\x01\xff", b"\x93", b"\x81",
]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(PICKLES),
    st.lists(
        st.tuples(
            st.integers(0, 1 << 16),
            st.integers(0, 2),
            st.one_of(st.binary(max_size=3), st.sampled_from(WORDS)),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_mutations_give_rows_or_a_fault(data: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    for position, removed, inserted in changes:
        position %= len(data) + 1
        data = data[:position] + inserted + data[position + removed :]
    found = rows_or_fault(data)
    if isinstance(found, list):
        assert found == unpickled(without_frames(data))


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(WORDS),
            st.sampled_from(OPCODES).map(lambda code: bytes([code])),
            st.binary(max_size=4),
        ),
        max_size=40,
    )
)
def test_opcodes_in_any_order_give_rows_or_a_fault(words: list[bytes]) -> None:
    data = HEAD + b"".join(words) + b"."
    found = rows_or_fault(data)
    if isinstance(found, list):
        assert found == unpickled(without_frames(data))


NUMBERS = st.one_of(st.integers(-5, 5), OFFSETS)
SCALARS = st.one_of(NUMBERS, st.text(max_size=3), st.none(), st.booleans(), st.floats())
SOURCE_BLOBS = st.dictionaries(st.sampled_from(["offsetStart", "offsetEnd"]), NUMBERS)
DICTS = st.fixed_dictionaries(
    {"title": st.text(st.characters(exclude_categories=["Cs"])), "sourceBlob": SOURCE_BLOBS},
    optional={
        "name": SCALARS,
        "offset_start": SCALARS,
        "offset_end": NUMBERS,
        "teamFileId": SCALARS,
    },
)


def row_of(fields: dict[str, Any]) -> Row | None:
    """Say what a dict means: the later key rules where two say the same; None for what is no row."""
    row: dict[str, Any] = {}
    meanings = {"title": "name", "offsetStart": "offset_start", "offsetEnd": "offset_end"}
    for key, field in fields.items():
        for inner_key, inner in field.items() if isinstance(field, dict) else [(key, field)]:
            meaning = meanings.get(inner_key, inner_key)
            if meaning != "teamFileId":
                row[meaning] = inner
                if type(inner) is not (str if meaning == "name" else int):
                    return None
    if row.keys() < {"name", "offset_start", "offset_end"}:
        return None
    return (
        (row["name"], row["offset_start"], row["offset_end"])
        if 0 <= row["offset_start"] <= row["offset_end"]
        else None
    )


@settings(max_examples=500, deadline=None)
@given(st.lists(DICTS, min_size=1, max_size=4), st.randoms(), st.integers(2, 5))
def test_dicts_of_any_kind_are_rows_or_refused(
    items: list[dict[str, Any]], rng: random.Random, protocol: int
) -> None:
    items = [dict(rng.sample(list(item.items()), len(item))) for item in items]
    found = rows_or_fault(pickle.dumps([*items, items[0]], protocol))
    expected = [row_of(item) for item in (*items, items[0])]
    if None in expected:
        assert type(found) is FormatError
    else:
        assert found == expected
