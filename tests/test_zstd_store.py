"""The store of a seekable zstd file: how it reads the store below, and what it keeps."""

from __future__ import annotations

import io
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from blobpack.errors import BlobChangedError, FormatError, StorageError
from blobpack.stores.base import OPENING_TAIL_BYTES
from blobpack.stores.cache import Cache, CachingStore
from blobpack.stores.local import LocalStore
from blobpack.stores.memory import MemoryStore
from blobpack.stores.open import open_tar
from blobpack.stores.zstd import store as zstd
from blobpack.stores.zstd.store import FRAME_CACHE_BYTES, SeekableStore, open_seekable
from blobpack.writing.compress import FrameWriter

if TYPE_CHECKING:
    from pathlib import Path

FRAME_BYTES = 1000
DATA = random.Random(3).randbytes(40 * FRAME_BYTES)


class RecordingStore(MemoryStore):
    """Remembers what was read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def fetch(self, start: int, end: int) -> bytes:
        self.reads.append((start, end))
        return super().fetch(start, end)


def seekable(data: bytes = DATA, frame_bytes: int = FRAME_BYTES, region: bytes = b"index") -> bytes:
    file = io.BytesIO()
    with FrameWriter(file) as writer:
        for at in range(0, len(data), frame_bytes):
            writer.write_frame(data[at : at + frame_bytes])
        writer.finish(region)
    return file.getvalue()


@pytest.fixture
def base() -> RecordingStore:
    return RecordingStore(seekable())


@pytest.fixture
def store(base: RecordingStore) -> SeekableStore:
    store = open_seekable(base)
    base.reads.clear()
    return store


def test_opening_reads_the_tail_only():
    base = RecordingStore(seekable(DATA * 10))
    open_seekable(base)
    assert base.reads == [(base.size - OPENING_TAIL_BYTES, base.size)]


def test_a_table_longer_than_the_tail_is_read_in_two_with_what_is_before_it():
    base = RecordingStore(seekable(DATA[:20_000], 1))
    store = open_seekable(base)
    table_bytes = 8 + 12 * 20_001 + 9
    tail_start = base.size - OPENING_TAIL_BYTES
    before = max(0, base.size - table_bytes - OPENING_TAIL_BYTES)
    assert base.reads == [(tail_start, base.size), (before, tail_start)]
    assert store.read_range(5, 500) == DATA[5:500]


def test_of_a_file_only_the_table_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reads = []
    fetch = LocalStore.fetch
    monkeypatch.setattr(
        LocalStore,
        "fetch",
        lambda store, start, end: reads.append(end - start) or fetch(store, start, end),
    )
    (tmp_path / "a.tar").write_bytes(DATA)
    open_tar(tmp_path / "a.tar").close()
    assert reads == [17]
    (tmp_path / "b").write_bytes(seekable())
    with open_tar(tmp_path / "b") as store:
        assert store.read_range(0, 9) == DATA[:9]
    assert sum(reads[1:-1]) < 17 + 8 + 12 * 41 + 9 + 17


def test_what_is_behind_the_tar_is_peeked_at_where_it_is_at_hand(base: RecordingStore):
    store = open_seekable(base)
    base.tail = base.read_range(base.size - 1000, base.size)
    base.reads.clear()
    assert store.peek(store.size - 5, store.size) == b"index"
    assert base.reads == []
    assert store.read_range(store.size - 5, store.size) == b"index"
    assert len(base.reads) == 1
    assert store.peek(len(DATA) - 3, len(DATA) + 2) == DATA[-3:] + b"in"


def test_a_range_is_one_read_of_the_frames_that_cover_it(
    base: RecordingStore, store: SeekableStore
):
    bounds = store.table.frame_bounds
    assert store.read_range(2500, 7001) == DATA[2500:7001]
    assert base.reads == [(bounds[2], bounds[8])]


def test_a_range_of_whole_frames_reads_no_other(base: RecordingStore, store: SeekableStore):
    bounds = store.table.frame_bounds
    assert store.read_range(3000, 5000) == DATA[3000:5000]
    assert base.reads == [(bounds[3], bounds[5])]


def test_index_behind_the_tar_lies_uncompressed_in_the_file(store: SeekableStore):
    file, offset = store.uncompressed(len(DATA))
    assert file is store.base
    assert (
        file.read_range(offset, offset + 5) == b"index" == store.read_range(len(DATA), store.size)
    )


def test_its_cache_is_that_of_the_store_below(tmp_path: Path):
    cached = CachingStore(MemoryStore(seekable()), Cache(tmp_path))
    assert open_seekable(cached).cache == cached.cache == Cache(tmp_path)
    assert open_seekable(MemoryStore(seekable())).cache is None


def test_no_index_begins_within_the_compressed_tar(store: SeekableStore):
    with pytest.raises(FormatError, match="within the tar") as refused:
        store.uncompressed(len(DATA) - 1)
    assert refused.value.offset == len(DATA) - 1


def test_frames_that_were_read_are_kept(base: RecordingStore, store: SeekableStore):
    store.read_range(1200, 1300)
    store.read_range(1900, 2000)
    store.read_range(1000, 2000)
    assert len(base.reads) == 1
    store.read_range(1000, 2001)  # the second frame alone is missing
    assert base.reads[1:] == [tuple(store.table.frame_bounds[2:4])]


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(
    base: RecordingStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(zstd, "FRAME_CACHE_BYTES", 3 * FRAME_BYTES)
    store = SeekableStore(base, open_seekable(base).table)
    for frame in (0, 1, 2, 0, 3):  # 1 was used longest ago
        store.read_range(frame * FRAME_BYTES, frame * FRAME_BYTES + 1)
    base.reads.clear()
    for frame in (0, 2, 3):
        store.read_range(frame * FRAME_BYTES, frame * FRAME_BYTES + 1)
    assert base.reads == []
    store.read_range(FRAME_BYTES, FRAME_BYTES + 1)
    assert len(base.reads) == 1


def test_the_last_frame_is_kept_though_it_is_larger(
    base: RecordingStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(zstd, "FRAME_CACHE_BYTES", 1)
    store = SeekableStore(base, open_seekable(base).table)
    base.reads.clear()
    for start in range(0, FRAME_BYTES, 100):
        store.read_range(start, start + 100)
    assert len(base.reads) == 1


def test_frames_without_content_between_others_are_passed_over():
    """As a writer makes that ends a frame twice."""
    file = io.BytesIO()
    pieces = [b"", b"one", b"", b"", b"two", b""]
    with FrameWriter(file) as writer:
        for piece in pieces:
            writer.write_frame(piece)
        writer.finish()
    store = open_seekable(MemoryStore(file.getvalue()))
    for start in range(6):
        for end in range(start, 7):
            assert store.read_range(start, end) == b"onetwo"[start:end]


def test_pickled_it_reads_neither_table_nor_frames_anew(base: RecordingStore, store: SeekableStore):
    store.read_range(0, 5)
    again = pickle.loads(pickle.dumps(store))
    assert len(again.base.reads) == len(base.reads)
    assert again.read_range(0, 5) == DATA[:5]
    assert again.table == store.table


def test_many_threads_with_a_small_cache_read_what_each_asked(
    base: RecordingStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(zstd, "FRAME_CACHE_BYTES", 2 * FRAME_BYTES)
    store = SeekableStore(base, open_seekable(base).table)
    chance = random.Random(5)
    ranges = [(start, start + 1500) for start in chance.choices(range(len(DATA) - 1500), k=2000)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda where: store.read_range(*where), ranges))
    assert answers == [DATA[start:end] for start, end in ranges]
    assert FRAME_CACHE_BYTES > 2 * FRAME_BYTES


def test_closing_closes_the_store_below(base: RecordingStore, store: SeekableStore):
    store.close()
    with pytest.raises(StorageError, match="closed"):
        base.read_range(0, 1)


def test_a_file_cut_meanwhile_is_changed(tmp_path: Path):
    path = tmp_path / "a.tar.zst"
    path.write_bytes(seekable())
    with open_tar(path) as store:
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(BlobChangedError, match="cut to 5000"):
            store.read_range(10_000, 10_001)


def test_a_plain_tar_is_opened_as_it_is(tmp_path: Path):
    path = tmp_path / "a.tar"
    path.write_bytes(DATA)
    with open_tar(path) as store:
        assert not isinstance(store, SeekableStore)
        assert store.size == len(DATA)
