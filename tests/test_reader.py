"""What a Blob and a Collection share: members by name, as Members and by row; a dict of payloads; repr and notebooks."""

from __future__ import annotations

import asyncio
import html
import inspect
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import blobpack
from blobpack import (
    Blob,
    ChecksumError,
    Collection,
    Index,
    Member,
    MemberNotFoundError,
    StorageError,
)
from blobpack.index import rows as rows_module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3server import S3Server

    Reader = Blob | Collection

# The first blob was appended to, so that it has three members named "again".
FIRST = [("a", b"1"), ("again", b"22"), ("b", b"333"), ("again", b"4444"), ("again", b"55555")]
SECOND = [("c", b"666666"), ("d", b""), ("e", b"7777777")]
KINDS = ["blob", "far blob", "collection", "joined", "far collection"]


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, payload in members:
            header = tarfile.TarInfo(name)
            header.size = len(payload)
            tar.addfile(header, io.BytesIO(payload))
    blobpack.scan(path, facts=True).save(f"{path}.idx")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    write_tar(folder / "0.tar", FIRST)
    write_tar(folder / "1.tar", SECOND)
    return folder


@pytest.fixture(params=KINDS)
def reader(request: pytest.FixtureRequest, folder: Path) -> Iterator[Reader]:
    kind: str = request.param
    place = str(folder)
    if kind.startswith("far"):
        s3: S3Server = request.getfixturevalue("s3_env")
        bucket: str = request.getfixturevalue("bucket")
        for path in folder.iterdir():
            s3.put(bucket, f"set/{path.name}", path.read_bytes())
        place = f"s3://{bucket}/set/"
    if kind.endswith("collection"):
        blobpack.collect(place)
    if kind.endswith("blob"):
        place = os.path.join(place, "0.tar")
    with blobpack.open(place) as opened:
        yield opened


def members_of(reader: Reader) -> list[tuple[str, bytes]]:
    return FIRST if isinstance(reader, Blob) else FIRST + SECOND


# Members


def test_a_name_means_the_last_member_of_that_name(reader: Reader) -> None:
    assert reader.read("again") == reader["again"] == b"55555"
    assert list(reader.read_many(["again", "a", "again"])) == [b"55555", b"1", b"55555"]


def test_a_member_means_itself(reader: Reader) -> None:
    payloads = [payload for _, payload in members_of(reader)]
    assert [reader.read(member) for member in reader.index] == payloads
    assert list(reader.read_many(reader.index)) == payloads
    assert list(reader.read_members(reader.index)) == payloads
    assert [reader[member] for member in reader.index] == payloads
    # facts do not count
    bare = [Member(member.name, member.offset_start, member.offset_end) for member in reader.index]
    assert list(reader.read_many(bare)) == payloads
    assert all(member in reader for member in bare)


def test_many_members_of_one_name_are_found_by_one_pass(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payloads = [b"%d" % number for number in range(5000)]
    path = write_tar(folder / "many.tar", [("name", payload) for payload in payloads])
    made = []
    honest = rows_module.hidden_rows
    monkeypatch.setattr(
        rows_module, "hidden_rows", lambda index: made.append(index) or honest(index)
    )
    with blobpack.open(path) as blob:
        assert list(blob.read_many(blob.index)) == payloads
        assert [blob.read(member) for member in blob.index[:9]] == payloads[:9]
        assert len(made) == 1


def test_a_member_of_another_blob_is_not_found(reader: Reader) -> None:
    last = reader.index["again"]
    stranger = Member("again", 1, 3)
    says = f"no member 'again' at bytes 1 to 3 among .* at bytes {last.offset_start} to {last.offset_end}"
    assert stranger not in reader
    with pytest.raises(MemberNotFoundError, match=re.escape(reader.url) + ": " + says):
        reader.read(stranger)
    found = reader.read_many([0, stranger])
    assert next(found) == b"1"
    with pytest.raises(MemberNotFoundError, match=re.escape(reader.url) + ": " + says):
        next(found)
    with pytest.raises(MemberNotFoundError, match="no member 'none' at bytes 1 to 3"):
        reader.read(Member("none", 1, 3))


def test_a_row_means_its_member(reader: Reader) -> None:
    payloads = [payload for _, payload in members_of(reader)]
    count = len(payloads)
    assert [reader.read(row) for row in range(count)] == payloads
    assert [reader.read(row - count) for row in range(count)] == payloads
    assert reader[np.int64(1)] == b"22"
    assert list(reader.read_many(range(count))) == payloads
    for rows in ([3, -1, 0, 3], np.array([3, -1, 0, 3], np.int32), (3, -1, 0, 3)):
        expected = [payloads[row] for row in (3, -1, 0, 3)]
        assert list(reader.read_rows(rows)) == list(reader.read_many(rows)) == expected
    mask = np.array([len(payload) % 2 == 1 for payload in payloads])
    assert list(reader.read_rows(mask)) == [payload for payload in payloads if len(payload) % 2]
    assert list(reader.read_rows(range(count)[::-2])) == payloads[::-2]
    assert list(reader.read_rows([])) == []


def test_a_row_there_is_not(reader: Reader) -> None:
    count = len(reader)
    for row in (count, -count - 1, 1 << 70):
        with pytest.raises(
            IndexError, match=f"{re.escape(reader.url)}: no row {row} among {count}"
        ):
            reader.read(row)
        found = reader.read_many([0, row])
        assert next(found) == b"1"
        with pytest.raises(IndexError, match=f"no row {row} among {count}"):
            next(found)
    # checked when it is called, before anything is read
    with pytest.raises(IndexError, match=f"no row {count} among {count}"):
        reader.read_rows([0, count])
    with pytest.raises(IndexError, match=f"the mask has 1 values, but there are {count} rows"):
        reader.read_rows(np.array([True]))


def test_names_members_and_rows_may_be_mixed(reader: Reader) -> None:
    mixed = ["a", reader.index[1], 2, "again", -1, reader.index[3], np.uint8(0)]
    last = members_of(reader)[-1][1]
    expected = [b"1", b"22", b"333", b"55555", last, b"4444", b"1"]
    assert list(reader.read_many(mixed)) == list(reader.read_many(iter(mixed))) == expected
    assert list(map(reader.read, mixed)) == expected


def test_without_blocking_the_event_loop(reader: Reader) -> None:
    async def read() -> list[bytes]:
        async with reader as same:
            assert same is reader
            return [
                await reader.aread(-1),
                await reader.aread(reader.index[1]),
                *[payload async for payload in reader.aread_many(["again", 1, reader.index[3]])],
            ]

    last = members_of(reader)[-1][1]
    assert asyncio.run(read()) == [last, b"22", b"55555", b"22", b"4444"]
    with pytest.raises(StorageError, match="closed"):
        reader.read("a")


# Payloads of a remote blob are compared with their checksums, however the member is named


def test_damage_in_s3_is_found_by_row_and_as_a_member(
    folder: Path, bucket: str, s3_env: S3Server
) -> None:
    path = folder / "0.tar"
    index = Index.load(f"{path}.idx")
    damaged = bytearray(path.read_bytes())
    damaged[index[1].offset_start] ^= 1
    url = s3_env.put(bucket, "0.tar", bytes(damaged))
    with blobpack.open(url, index) as blob:
        for which in (1, index[1]):
            for read in (
                lambda which: blob.read(which),
                lambda which: list(blob.read_many([0, which])),
            ):
                with pytest.raises(ChecksumError, match=r"0\.tar: again: bytes 1536 to 1538"):
                    read(which)
        with pytest.raises(ChecksumError, match="again: bytes"):
            list(blob.read_rows([0, 1]))
        with pytest.raises(ChecksumError, match="again: bytes"):
            list(blob.items())


def test_rows_of_a_blob_in_s3_are_fetched_together(
    folder: Path, bucket: str, s3_env: S3Server
) -> None:
    url = s3_env.put(bucket, "0.tar", (folder / "0.tar").read_bytes())
    with blobpack.open(url, folder / "0.tar.idx") as blob:
        before = blob.stats.requests
        assert list(blob.read_rows(range(5))) == [payload for _, payload in FIRST]
        assert list(blob.read_many(blob.index)) == [payload for _, payload in FIRST]
        assert blob.stats.requests == before + 2


# A dict of payloads


def test_it_is_like_a_dict(reader: Reader) -> None:
    members = members_of(reader)
    assert len(reader) == len(members)
    assert list(reader) == list(reader.keys()) == [name for name, _ in members]
    assert list(reader.items()) == members
    assert list(reader.values()) == [payload for _, payload in members]
    assert dict(reader) == dict(members)
    assert dict(reader.items()) == dict(members)
    assert "a" in reader
    assert "none" not in reader
    assert 5.5 not in reader
    assert reader.get("a") == b"1"
    assert reader.get("none") is reader.get(99) is None
    assert reader.get(Member("a", 0, 1), b"default") == b"default"
    with pytest.raises(
        KeyError, match=r"^\S+: no member 'agaim' among \d members; near it: 'again'$"
    ):
        reader["agaim"]
    with pytest.raises(TypeError, match=r"which must be a name, a Member or a row, not slice"):
        reader[1:2]  # type: ignore[index]


def test_an_error_for_a_member_is_a_key_error_with_a_plain_message(reader: Reader) -> None:
    with pytest.raises(LookupError) as caught:
        reader.read("none")
    error = caught.value
    assert isinstance(error, KeyError)
    assert (
        str(error) == error.args[0] == f"{reader.url}: no member 'none' among {len(reader)} members"
    )
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_the_table_of_blobs(reader: Reader, folder: Path) -> None:
    sizes = [(folder / name).stat().st_size for name in ("0.tar", "1.tar")]
    found = [(Path(blob.url).name, blob.first_row, blob.rows, blob.bytes) for blob in reader.blobs]
    expected = [("0.tar", 0, 5, sizes[0]), ("1.tar", 5, 3, sizes[1])]
    assert found == expected[: 1 if isinstance(reader, Blob) else 2]
    assert reader.blobs[-1] == reader.blobs[len(reader.blobs) - 1] == list(reader.blobs)[-1]
    assert reader.blobs[:1] == [reader.blobs[0]]
    assert reader.blobs == reader.blobs == list(reader.blobs)
    assert reader.blobs != []
    with pytest.raises(IndexError):
        reader.blobs[2]
    for blob in reader.blobs:
        with blobpack.open(blob.url) as one:
            rows = range(blob.first_row, blob.first_row + blob.rows)
            assert list(one.values()) == list(reader.read_rows(rows))
    if isinstance(reader, Collection):
        assert reader.url_of(-1) == reader.url_of("e") == reader.blobs[1].url
        assert reader.url_of(reader.index[1]) == reader.blobs[0].url
        assert pickle.loads(pickle.dumps(reader.blobs))[1] == reader.blobs[1]


def test_the_table_of_blobs_shows_no_secret() -> None:
    from blobpack.opening.blob_rows import BlobRows

    assert "SECRET" not in repr(BlobRows("https://host/x.tar?sig=SECRET", 0, 1, 2))


# How it shows itself


def test_repr_says_what_it_is(reader: Reader, folder: Path) -> None:
    if isinstance(reader, Blob):
        assert repr(reader) == f"<Blob {reader.url}: 5 members, index in {reader.url}.idx>"
    else:
        assert repr(reader) == f"<Collection {reader.url}: 8 members of 2 blobs>"
    reader.close()
    assert reader.url in repr(reader)


def test_repr_says_which_index(tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    blobpack.pack([("a.bin", b"1")], path, all_files=True)
    index = blobpack.scan(path)
    for given, says in (
        (None, "index inside"),
        (index, "index of a scan"),
        (index.select("*"), "index in memory"),
    ):
        with blobpack.open(path, given) as blob:
            assert repr(blob) == f"<Blob {path}: 1 member, {says}>"
    blobpack.collect(tmp_path)
    with blobpack.open(tmp_path) as collection:
        assert repr(collection) == f"<Collection {tmp_path}/collection.idx: 1 member of 1 blob>"
    assert repr(blobpack.open_blob(path, index=None)).endswith("index inside>")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a blob of 40 images, a text, a cut image, a large payload and odd names."""
    images = []
    for number in range(40):
        file = io.BytesIO()
        Image.new("RGB", (400, 300), (number * 6, 0, 0)).save(file, "PNG")
        images.append((f"{number:02d}.png", file.getvalue()))
    images[0] = ("00 <b>&.png", images[0][1])
    images[1] = ("01-\udcff\x1b.png", images[1][1])
    images[2] = ("02.txt", b"no image")
    images[3] = ("03.png", images[3][1][:100])
    (tmp_path / "photos").mkdir()
    blobpack.pack(images, tmp_path / "photos" / "0.tar", all_files=True)
    large = [("large.png", images[5][1] + bytes(5 << 20))]
    blobpack.pack([*images[:4], *large], tmp_path / "few.tar", all_files=True)
    return tmp_path / "photos"


def thumbnails(page: str) -> list[Image.Image]:
    found = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(b64decode(data))) for data in found]


def test_a_notebook_shows_at_most_12_thumbnails(photos: Path) -> None:
    for place in (photos / "0.tar", photos):
        with blobpack.open(place) as reader:
            page = reader._repr_html_()
            assert html.escape(repr(reader)) in page
            # at equal distances: 0, 3, 6, 10 …; the second one is cut
            images = thumbnails(page)
            assert len(images) == 11
            assert {image.size for image in images} == {(120, 90)}
            assert page.count("<figure") == 12
            assert "00 &lt;b&gt;&amp;.png" in page
            assert "03.png" in page
            assert len(page) < 100_000


def test_a_notebook_shows_the_name_of_what_it_can_not_decode(photos: Path) -> None:
    with blobpack.open(photos.with_name("few.tar")) as blob:
        page = blob._repr_html_()
        assert len(thumbnails(page)) == 2
        for name in ("02.txt", "03.png", "large.png", "01-?\\x1b.png"):
            assert f">{name}</figcaption>" in page
        page.encode()


def test_a_notebook_reads_no_large_payload(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    # native code reads without a call of fetch
    monkeypatch.setattr("blobpack.stores.local.LocalFile", lambda *_: None)
    with blobpack.open(photos.with_name("few.tar")) as blob:
        honest = type(blob.store).fetch

        def fetch(store: object, start: int, end: int) -> bytes:
            read.append(end - start)
            return honest(store, start, end)

        monkeypatch.setattr(type(blob.store), "fetch", fetch)
        blob._repr_html_()
    assert len(read) == 4
    assert max(read) < 1 << 20


def test_a_notebook_decodes_few_pixels_at_a_time(tmp_path: Path) -> None:
    large, too_large = io.BytesIO(), io.BytesIO()
    Image.new("L", (4000, 4000)).save(large, "PNG", compress_level=1)
    Image.new("L", (5001, 5000)).save(too_large, "PNG", compress_level=1)
    images = [("big.png", too_large.getvalue())]
    images += [(f"{number}.png", large.getvalue()) for number in range(11)]
    blobpack.pack(images, tmp_path / "out.tar")
    code = (
        "import re, resource, sys, blobpack, PIL.Image\n"
        "blob = blobpack.open(sys.argv[1])\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "page = blob._repr_html_()\n"
        "print(peak() - before, page.count('<img'), page.count('<figure'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out.tar"], check=True, capture_output=True
    )
    grown_kib, shown, members = map(int, done.stdout.split())
    # one image takes 16 MB; 100 million pixels are 6 images
    assert (shown, members) == (6, 12)
    assert grown_kib < 100 << 10


def test_a_notebook_shows_a_photo_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    photos = []
    for kind in ("JPEG", "PNG"):
        file = io.BytesIO()
        Image.new("RGB", (1600, 1200), "red").save(file, kind, exif=turned)
        photos.append((f"a.{kind.lower()}", file.getvalue()))
    blobpack.pack(photos, tmp_path / "out.tar")
    with blobpack.open(tmp_path / "out.tar") as blob:
        assert [image.size for image in thumbnails(blob._repr_html_())] == [(72, 96), (72, 96)]


def test_a_notebook_shows_a_closed_or_empty_reader(photos: Path, tmp_path: Path) -> None:
    blobpack.pack([], tmp_path / "empty.tar", allow_empty=True)
    with blobpack.open(tmp_path / "empty.tar") as blob:
        assert "0 members" in blob._repr_html_()
        assert "<figure" not in blob._repr_html_()
    reader = blobpack.open(photos)
    reader.close()
    assert reader._repr_html_() == f"<div><code>{html.escape(repr(reader))}</code></div>"


# Documentation


@pytest.mark.parametrize("kind", [Blob, Collection])
def test_the_page_documents_all_that_completion_shows(kind: type) -> None:
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
    section = page.split(f"::: blobpack.{kind.__name__}\n")[1].split("\n:::")[0]
    documented = set(re.search(r"members: \[([^]]*)\]", section)[1].split(", "))  # type: ignore[index]
    assert documented == {name for name in dir(kind) if not name.startswith("_")}


def test_what_is_taken_as_several() -> None:
    """The arguments of several are named alike."""
    for function in (blobpack.read_images, Blob.read_many, Blob.aread_many, Collection.read_many):
        assert "several" in inspect.signature(function).parameters
