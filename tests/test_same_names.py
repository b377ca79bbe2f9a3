"""Members of one name and equal offsets, in several blobs: each is read, copied and extracted as itself."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

import blobpack
from blobpack import Blob, Collection, Index, Member, MemberNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from s3server import S3Server

LABELS = [b"AAA", b"BBB", b"CCC"]


@pytest.fixture(params=[True, False], ids=["checksums", "bare"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for number, label in enumerate(LABELS):
        members = [("label.txt", label), (f"{number}.bin", b"x")]
        path = tmp_path / "set" / f"{number}.tar"
        path.parent.mkdir(exist_ok=True)
        blobpack.pack(members, path, all_files=True, facts=request.param)
    return tmp_path / "set"


@pytest.fixture
def collection(folder: Path) -> Iterator[Collection]:
    with blobpack.open(folder, duplicates="last") as opened:
        assert isinstance(opened, Collection)
        yield opened


READS: dict[str, Callable[[Collection, Index], list[bytes]]] = {
    "read_many": lambda reader, index: list(reader.read_many(index)),
    "read_members": lambda reader, index: list(reader.read_members(index)),
    "rows": lambda reader, index: list(reader.read_rows(reader.index.rows(index))),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_an_index_that_was_cut_is_read_as_itself(
    collection: Collection, read: Callable[[Collection, Index], list[bytes]]
) -> None:
    index = collection.index
    assert read(collection, index) == [b"AAA", b"x", b"BBB", b"x", b"CCC", b"x"]
    for cut in (
        index[::2],
        index[[0, 2, 4]],
        index.select("label.txt"),
        index[:3].select("label.txt") + index[4:5],
        index[::-1][[1, 3, 5]][::-1],
    ):
        assert read(collection, cut) == LABELS


def test_an_index_that_was_cut_is_copied_and_extracted_as_itself(
    collection: Collection, tmp_path: Path
) -> None:
    for number, label in enumerate(LABELS):
        cut = collection.index[2 * number : 2 * number + 1]
        target = tmp_path / f"{number}.tar"
        blobpack.subset(collection, target, cut)
        assert blobpack.open_blob(target)["label.txt"] == label
        blobpack.extract(collection, tmp_path / "out", cut)
        assert (tmp_path / "out" / "label.txt").read_bytes() == label


def test_a_member_is_found_by_its_checksum(collection: Collection, tmp_path: Path) -> None:
    if "crc32c" not in collection.index.facts:
        pytest.skip("without checksums, a Member means the last one of its name and offsets")
    members = [collection.index[row] for row in (0, 2, 4)]
    assert list(map(collection.read, members)) == LABELS
    assert list(collection.read_many(members)) == list(collection.read_members(members)) == LABELS
    assert collection.index.rows(members).tolist() == [0, 2, 4]
    assert [collection.index.row_of(member) for member in members] == [0, 2, 4]
    again = pickle.loads(pickle.dumps(collection.index[:1]))
    assert list(collection.read_many(again)) == [b"AAA"]
    first = members[0]
    bare = Member(first.name, first.offset_start, first.offset_end)
    assert collection[bare] == b"CCC"
    stranger = Member(first.name, first.offset_start, first.offset_end, crc32c=5)
    assert stranger not in collection
    with pytest.raises(MemberNotFoundError, match="with the checksum 00000005 among 6 members"):
        collection.read(stranger)


def test_images_are_read_as_themselves(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for number in range(2):
        file = io.BytesIO()
        Image.new("L", (4, 3), number).save(file, "PNG")
        pair = [("a.png", file.getvalue())]
        blobpack.pack(pair, tmp_path / "set" / f"{number}.tar", facts=False)
    with blobpack.open(tmp_path / "set", duplicates="last") as reader:
        images = list(blobpack.read_images(reader, reader.index))
        assert [int(image.max()) for image in images] == [0, 1]


# Members of another blob


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "0.tar", tmp_path / "1.tar"
    for number, path in enumerate(paths):
        members = [(f"{number}/{i}.bin", b"%d%d" % (number, i)) for i in range(3)]
        blobpack.pack(members, path, all_files=True)
    return paths


def test_members_of_another_blob_are_not_extracted(two: tuple[Path, Path], tmp_path: Path) -> None:
    others = blobpack.open_blob(two[1]).index
    for members in (others, list(others)):
        with pytest.raises(MemberNotFoundError, match=r"0\.tar: no member '1/0\.bin' at bytes"):
            blobpack.extract(two[0], tmp_path / "out", members)
    assert not (tmp_path / "out").exists()


def test_an_index_of_another_blob_is_not_read(
    two: tuple[Path, Path], bucket: str, s3_env: S3Server
) -> None:
    others = blobpack.open_blob(two[1]).index
    url = s3_env.put(bucket, "0.tar", two[0].read_bytes())
    for place in (two[0], url):
        with blobpack.open_blob(place) as blob:
            with pytest.raises(MemberNotFoundError, match=r"no member '1/0\.bin' at bytes"):
                list(blob.read_members(others))
            # of a copy of this blob
            index = blobpack.open_blob(two[0]).index
            assert list(blob.read_members(index)) == [b"00", b"01", b"02"]


def test_an_index_from_before_an_append_is_still_read(two: tuple[Path, Path]) -> None:
    before = blobpack.open_blob(two[0]).index[:]
    blobpack.append(two[0], [("new.bin", b"new")], all_files=True)
    with blobpack.open_blob(two[0]) as blob:
        assert list(blob.read_members(before)) == [b"00", b"01", b"02"]


CHOICES: dict[str, Callable[[Blob], Any]] = {
    "names": lambda blob: ["0/0.bin", "0/2.bin"],
    "rows": lambda blob: [0, -1],
    "mixed": lambda blob: iter([blob.index[0], 2]),
    "mask": lambda blob: blob.index.offset_start != blob.index[1].offset_start,
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_names_and_rows_are_extracted(
    two: tuple[Path, Path], tmp_path: Path, choice: Callable[[Blob], Any]
) -> None:
    with blobpack.open_blob(two[0]) as blob:
        assert blobpack.extract(blob, tmp_path / "out", choice(blob)).members == 2
    written = {path.name: path.read_bytes() for path in (tmp_path / "out" / "0").iterdir()}
    assert written == {"0.bin": b"00", "2.bin": b"02"}
    for wrong, error in (
        (["none"], MemberNotFoundError),
        ([3], IndexError),
        ("0/0.bin", TypeError),
    ):
        with pytest.raises(error):
            blobpack.extract(two[0], tmp_path / "wrong", wrong)
    assert not (tmp_path / "wrong").exists()


# Indexes that are joined


def test_indexes_of_different_collections_are_not_joined(tmp_path: Path) -> None:
    indexes = []
    for name in "ab":
        (tmp_path / name).mkdir()
        blobpack.pack([(f"{name}.bin", b"1")], tmp_path / name / "0.tar", all_files=True)
        indexes.append(blobpack.open(tmp_path / name).index)
    with pytest.raises(ValueError, match="cut from the index of one open collection"):
        indexes[0] + indexes[1]
    with pytest.raises(ValueError, match="cut from the index of one open collection"):
        indexes[0][:1] + indexes[1][:1]
    assert indexes[0][:0] + indexes[1] == indexes[1]
    assert indexes[0] + indexes[0][:] == indexes[0][[0, 0]]


def test_parts_of_a_collection_are_joined_after_it_is_gone(tmp_path: Path) -> None:
    blobpack.pack([("a", b"1"), ("b", b"2")], tmp_path / "0.tar", all_files=True)
    first, last = (lambda index: (index[:1], index[1:]))(blobpack.open(f"{tmp_path}/").index)
    assert list((first + last).names) == ["a", "b"]
