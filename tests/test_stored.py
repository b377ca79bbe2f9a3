"""An index where it lies: what it costs to open and ask, in requests, bytes and memory; and that it is right."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import blobpack
from blobpack import Index, Member
from blobpack.columns import Columns
from blobpack.indexfile.open import read_footer
from blobpack.indexfile.remote import RemoteIndex
from blobpack.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from faultserver import FaultServer
    from s3server import S3Server

PAYLOAD = b"\xff\xd8\xff" + bytes(97)


class CountingStore(MemoryStore):
    """A store that keeps what it was asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.fetches: list[tuple[int, int]] = []

    def fetch(self, start: int, end: int) -> bytes:
        self.fetches.append((start, end))
        return super().fetch(start, end)


def synthetic(count: int, first: int = 0, *, shuffled: bool = False) -> Columns:
    """Members of 27-byte names and about 4.5 KB, without a tar."""
    numbers = np.arange(first, first + count)
    if shuffled:
        numbers = np.random.default_rng(1).permutation(numbers)
    names = b"".join(b"train/part/img_%08d.jpg" % i for i in numbers.tolist())
    bounds = np.arange(count + 1) * (len(names) // max(count, 1))
    starts = np.arange(first, first + count) * 5120 + 512
    return Columns(memoryview(names), bounds.data, starts.data, (starts + 4000 + starts % 997).data)


def stored(columns: Columns, tmp_path: Path) -> tuple[RemoteIndex, CountingStore]:
    Index._from_columns(columns).save(tmp_path / "i.idx")
    store = CountingStore((tmp_path / "i.idx").read_bytes())
    footer = read_footer(store)
    assert footer is not None
    remote = RemoteIndex(store, 0, footer)
    store.fetches.clear()
    return remote, store


@pytest.fixture(params=["local", "remote"])
def opened(request, tmp_path):
    """Open an index both ways."""

    def opens(index: Index) -> Index:
        index.save(tmp_path / "o.idx")
        if request.param == "local":
            return Index.load(tmp_path / "o.idx")
        store = MemoryStore((tmp_path / "o.idx").read_bytes())
        return Index._from_stored(RemoteIndex(store, 0, read_footer(store)))

    return opens


MEMBERS = [
    Member("b.jpg", 512, 700, "image/jpeg", 10, 20, 0xFFFFFFFF, -5),
    Member("", 1024, 1024, None, None, None, 0, 1 << 40),
    Member("caf\udce9.png", 3072, 1 << 40, "image/png", 70_000, 1, 1, 1),
    Member("b.jpg", 1 << 41, (1 << 41) + 3, "image/webp", 1, 1, 2, 7),
]


def test_members_are_as_they_were(opened):
    index = opened(Index(MEMBERS))
    assert list(index) == MEMBERS
    assert index["b.jpg"] == MEMBERS[3]
    assert index[""] == MEMBERS[1]
    assert index["caf\udce9.png"] == MEMBERS[2]
    assert "\ud800" not in index
    assert "none" not in index
    assert index._search(["b.jpg", "none", "", "caf\udce9.png", "\ud800"]) == [
        (3, 1 << 41, (1 << 41) + 3, 2),
        None,
        (1, 1024, 1024, 0),
        (2, 3072, 1 << 40, 1),
        None,
    ]
    assert index.payload_bytes == sum(member.size for member in MEMBERS)
    assert index._last_end == (1 << 41) + 3
    assert [index._name_at(row) for row in range(4)] == [member.name for member in MEMBERS]


@pytest.mark.parametrize("shuffled", [False, True], ids=["ascending", "shuffled"])
def test_every_name_is_found_in_thousands(opened, shuffled):
    columns = synthetic(5000, shuffled=shuffled)
    index = opened(Index._from_columns(columns))
    for row in range(5000):
        assert index._bounds_of(columns.name_at(row)) == (
            columns.offset_start[row],
            columns.offset_end[row],
        )
    rows = range(0, 5000, 7)
    names = [columns.name_at(row) for row in rows]
    found = [(row, *index._bounds_of(columns.name_at(row)), None) for row in rows]
    assert index._search(names) == found  # no checksums were taken
    with pytest.raises(blobpack.MemberNotFoundError, match=r"nope.*among 5,000 members"):
        index._bounds_of("nope")
    assert index.select("*1.jpg") == Index._from_columns(columns).select("*1.jpg")


def test_of_a_thousand_equal_names_the_last_one_wins(opened):
    index = opened(Index(Member(f"{i % 3}", 512 * i, 512 * i + 1) for i in range(3000)))
    for i in range(3):
        assert index[str(i)].offset_start == 512 * (2997 + i)
    assert len(index) == 3000


def test_an_index_pickles_as_the_place_where_it_is(tmp_path):
    Index._from_columns(synthetic(50_000)).save(tmp_path / "i.idx")
    pickled = pickle.dumps(Index.load(tmp_path / "i.idx"))
    assert len(pickled) < 2000
    assert pickle.loads(pickled)._bounds_of("train/part/img_00000007.jpg")[0] == 7 * 5120 + 512


def test_a_selection_knows_its_blob(tmp_path):
    blobpack.pack(((f"{i}.jpg", PAYLOAD) for i in range(10)), tmp_path / "o.tar")
    with blobpack.open_blob(tmp_path / "o.tar") as blob:
        blob.index.select("[0-4].jpg").save(tmp_path / "few.idx")
    assert len(blobpack.open_blob(tmp_path / "o.tar", index=tmp_path / "few.idx").index) == 5
    blobpack.pack(((f"{i}.jpg", PAYLOAD) for i in range(11)), tmp_path / "o.tar")
    with pytest.raises(blobpack.StaleIndexError):
        blobpack.open_blob(tmp_path / "o.tar", index=tmp_path / "few.idx")


class TestRequests:
    def test_a_lookup_by_the_guide_is_one_block(self, tmp_path):
        remote, store = stored(synthetic(100_000), tmp_path)
        remote.locate("train/part/img_00000000.jpg")
        store.fetches.clear()  # of the guide and the directory, which came with the footer from afar
        remote.locate("train/part/img_00070000.jpg")
        assert len(store.fetches) == 1
        assert store.fetches[0][1] - store.fetches[0][0] < 64 << 10
        remote.locate("train/part/img_00070001.jpg")
        assert len(store.fetches) == 1

    def test_a_lookup_without_a_guide_is_a_page_and_a_block(self, tmp_path):
        columns = synthetic(100_000, shuffled=True)
        remote, store = stored(columns, tmp_path)
        remote.locate(columns.name_at(0))
        store.fetches.clear()
        remote.locate(columns.name_at(70_000))
        assert store.fetches[0][1] - store.fetches[0][0] == 4096
        assert len(store.fetches) == 2

    def test_many_lookups_are_fetched_together(self, tmp_path):
        """500 names of 98 blocks: one by one they would be a thousand requests."""
        columns = synthetic(100_000, shuffled=True)
        remote, store = stored(columns, tmp_path)
        rows = range(0, 100_000, 200)
        found = remote.search([columns.name_at(row) for row in rows])
        assert found == [(row, *columns.payload_at(row)) for row in rows]
        assert len(store.fetches) <= 10

    def test_names_stream_by_windows(self, tmp_path):
        remote, store = stored(synthetic(300_000), tmp_path)
        assert sum(map(len, remote.parts())) == 300_000
        windows = [end - start for start, end in store.fetches if end - start > 4096]
        assert len(windows) <= 5
        assert max(windows) <= 4 << 20

    def test_a_cold_image_of_a_million_is_four_requests_and_a_warm_one_is_one(
        self, faults: FaultServer, s3_env: S3Server, tmp_path
    ):
        """The server's own count, through a proxy; the blob is 1,000,000 images and 1.1 GB."""
        count = 1_000_000
        path = tmp_path / "m.tar"
        blobpack.pack(((f"train/{i:07d}.jpg", PAYLOAD) for i in range(count)), path)
        url = f"s3://{s3_env.new_bucket()}/m.tar"
        bucket, _, key = url.removeprefix("s3://").partition("/")
        s3_env.client.upload_file(str(path), bucket, key)
        path.unlink()
        faults.requests.clear()
        with blobpack.open_blob(url) as blob:
            assert blob.read("train/0654321.jpg") == PAYLOAD
            cold = list(faults.requests)
            assert blob.read("train/0654321.jpg") == PAYLOAD
            assert len(faults.requests) == len(cold) + 1
        assert len(cold) <= 4
        assert sum(map(bytes_asked, cold)) < 600_000


def bytes_asked(request) -> int:
    first, _, last = request.range.removeprefix("bytes=").partition("-")
    return int(last) - int(first) + 1 if first else int(last)


LARGE = """
import re, resource, sys
from pathlib import Path
from blobpack import Index
from test_stored import synthetic

PARTS, ROWS = 20, 1_000_000

class Made:
    footer = type("Footer", (), {"report": None, "identity": None})
    def __len__(self):
        return PARTS * ROWS
    def parts(self):
        for part in range(PARTS):
            yield synthetic(ROWS, part * ROWS)
    def name_at(self, row):
        return synthetic(1, row).name_at(0)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def private():
    return int(re.search(r"RssAnon:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

what, path = sys.argv[1:]
before, private_before = peak(), private()
if what == "build":
    Index._from_stored(Made()).save(path)
    print(peak() - before)
else:
    index = Index.load(path)
    assert len(index) == PARTS * ROWS
    for i in range(0, PARTS * ROWS, 19_999):
        assert index._bounds_of(f"train/part/img_{i:08d}.jpg")[0] == i * 5120 + 512
    assert "train/part/img_20000000.jpg" not in index
    assert len(index.select("*999999.jpg")) == 20
    print(private() - private_before)
"""


def test_twenty_million_members_in_bounded_memory(tmp_path: Path) -> None:
    """As columns they would take 1,020 MB. Built: 160 MB of hashes, 203 of lookup, a part; asked: a part."""

    def peak_of(what: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", LARGE, what, tmp_path / "large.idx"],
            capture_output=True,
            text=True,
            check=False,
            cwd=__file__.rpartition("/")[0],
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    try:
        assert peak_of("build") < 800 << 20
        assert peak_of("ask") < 64 << 20
    finally:
        (tmp_path / "large.idx").unlink(missing_ok=True)


def test_rows_that_were_read_whole_are_not_asked_for_again(tmp_path: Path) -> None:
    remote, store = stored(synthetic(5_000, shuffled=True), tmp_path)
    index = Index._from_stored(remote)
    assert index._is_remote
    names = list(index.names)[:3]
    rows, bounds = index._search(names), [index._bounds_of(name) for name in names]
    assert index._columns  # reads the whole index
    assert not index._is_remote
    store.fetches.clear()
    assert index._search(names) == rows
    assert [index._bounds_of(name) for name in names] == bounds
    assert names[0] in index
    assert "no such name" not in index
    assert store.fetches == []


def test_the_blocks_of_many_rows_are_fetched_together(tmp_path: Path) -> None:
    columns = synthetic(5_000)
    remote, store = stored(columns, tmp_path)
    rows = [4999, 0, 1500, 3000, -1]
    assert [hit[1:3] for hit in remote.search_rows(rows)] == [
        columns.bounds_at(row % 5000) for row in rows
    ]
    # a page of the directory, then all blocks
    assert len(store.fetches) <= 2
    store.fetches.clear()
    # of a block that is kept, no row takes a request
    assert remote.bounds_at(7) == columns.bounds_at(7)
    assert remote.member_at(-2) == columns.member_at(4998)
    assert remote.name_at(1501) == columns.name_at(1501)
    assert store.fetches == []
