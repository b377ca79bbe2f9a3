"""A cache on disk: what was read once makes no request, whoever asks, and what is damaged is fetched anew."""

from __future__ import annotations

import errno
import http.server
import io
import multiprocessing
import os
import pickle
import random
import re
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from click.testing import CliRunner
from test_stores import FORKS, StoreContract, in_fork

import blobpack
from blobpack.cli.main import main
from blobpack.errors import BlobChangedError, ChecksumError, FormatError
from blobpack.stores import cache as cache_module
from blobpack.stores.cache import (
    CACHE_BLOCK_BYTES,
    RECORD_HEADER,
    Cache,
    CachingStore,
    covering_records,
    list_cache_files,
)
from blobpack.stores.location import Location
from blobpack.stores.memory import MemoryStore
from blobpack.stores.open import open_pinned, open_store
from blobpack.stores.stats import Counters
from blobpack.stores.zstd.store import open_seekable
from blobpack.writing.compress import FrameWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from faultserver import FaultServer
    from s3server import S3Server

    from blobpack.stores.base import Store

MIB = 1 << 20
LARGE = random.Random(5).randbytes(3 * MIB + 12_345)


class CountingStore(MemoryStore):
    """A store that remembers what it was asked."""

    def __init__(self, data: bytes, url: str = "memory:") -> None:
        super().__init__(data, url)
        self.asked: list[tuple[int, int]] = []

    def fetch(self, start: int, end: int) -> bytes:
        self.asked.append((start, end))
        return super().fetch(start, end)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def base() -> CountingStore:
    return CountingStore(LARGE)


@pytest.fixture
def store(base: CountingStore, cache: Cache) -> CachingStore:
    return CachingStore(base, cache)


def block_files(cache: Cache) -> list[Path]:
    return [Path(path) for _, _, path in list_cache_files(Path(cache.folder))]


class TestContractEmpty(StoreContract):
    """Every promise of a store, where nothing is here yet."""

    @pytest.fixture
    def make_store(self, cache: Cache) -> Callable[[bytes], Store]:
        return lambda data: CachingStore(MemoryStore(data), cache)


class TestContractFilled(StoreContract):
    """And where all is."""

    @pytest.fixture
    def make_store(self, cache: Cache) -> Callable[[bytes], Store]:
        def make(data: bytes) -> Store:
            CachingStore(MemoryStore(data), cache).read_range(0, len(data))
            return CachingStore(MemoryStore(data), cache)

        return make


class TestContractS3(StoreContract):
    """And over S3, as it is used."""

    @pytest.fixture
    def make_store(self, s3_env: S3Server, cache: Cache) -> Callable[[bytes], Store]:
        def make(data: bytes) -> Store:
            return open_store(s3_env.put(s3_env.new_bucket(), "a.tar", data), cache=cache)

        return make


class TestKeeping:
    def test_a_range_is_fetched_once_and_exactly(
        self, store: CachingStore, base: CountingStore
    ) -> None:
        for _ in range(3):
            assert store.read_range(100_000, 104_096) == LARGE[100_000:104_096]
        assert base.asked == [(100_000, 104_096)]

    def test_any_part_or_join_of_what_was_read_is_here(
        self, store: CachingStore, base: CountingStore
    ) -> None:
        for start in range(200_000, 600_000, 10_000):
            store.read_range(start, start + 10_000)
        asked = len(base.asked)
        for start, end in ((200_000, 600_000), (205_000, 205_001), (255_000, 270_001)):
            assert store.read_range(start, end) == LARGE[start:end]
        assert len(base.asked) == asked

    def test_only_what_is_missing_is_fetched(
        self, store: CachingStore, base: CountingStore
    ) -> None:
        store.read_range(300_000, 900_000)
        assert store.read_range(200_000, 1_000_000) == LARGE[200_000:1_000_000]
        assert base.asked[1:] == [(200_000, 300_000), (900_000, 1_000_000)]

    def test_a_short_stretch_that_is_here_is_read_over(
        self, store: CachingStore, base: CountingStore
    ) -> None:
        store.read_range(310_000, 320_000)
        assert store.read_range(300_000, 330_000) == LARGE[300_000:330_000]
        assert base.asked[1:] == [(300_000, 330_000)]

    @pytest.mark.parametrize("seed", range(10))
    def test_reads_at_random_are_right(self, cache: Cache, seed: int) -> None:
        chance = random.Random(seed)
        store = CachingStore(CountingStore(LARGE), cache)
        known = bytearray(len(LARGE))
        for _ in range(150):
            start = chance.randrange(len(LARGE))
            end = min(len(LARGE), start + int(2 ** chance.uniform(0, 20)))
            asked = len(store.base.asked)
            assert store.read_range(start, end) == LARGE[start:end]
            if all(known[start:end]):
                assert len(store.base.asked) == asked
            known[start:end] = b"\1" * (end - start)

    def test_another_version_or_blob_never_meets_it(self, cache: Cache) -> None:
        stores = [CountingStore(LARGE), CountingStore(LARGE[:-1]), CountingStore(LARGE, "memory:2")]
        stores[1].version, stores[2].version = stores[0].version, stores[0].version
        other = CountingStore(bytes(len(LARGE)))
        other.version = "other"
        for base in (*stores, other):
            store = CachingStore(base, cache)
            assert store.read_range(5, 50) == base._data[5:50]
            assert len(base.asked) == 1

    def test_two_stores_share_a_folder(self, cache: Cache, base: CountingStore) -> None:
        one, two = CachingStore(base, cache), CachingStore(base, cache)
        for start in range(0, MIB, 50_000):
            assert one.read_range(start, start + 50_000) == two.read_range(start, start + 50_000)
        assert len(base.asked) == MIB // 50_000 + 1

    def test_threads_and_processes_share_a_folder(self, cache: Cache) -> None:
        with ThreadPoolExecutor(8) as pool:
            store = CachingStore(MemoryStore(LARGE), cache)
            assert all(pool.map(lambda seed: read_randomly(store, seed), range(8)))
        context = multiprocessing.get_context("spawn")
        with context.Pool(4) as processes:
            done = processes.starmap(
                read_randomly, [(CachingStore(MemoryStore(LARGE), cache), i) for i in range(4)]
            )
        assert all(done)

    @FORKS
    def test_a_fork_reads_what_its_parent_kept(
        self, store: CachingStore, base: CountingStore
    ) -> None:
        store.read_range(0, 1000)

        def read() -> int:
            store.read_range(0, 1000)
            store.read_range(1000, 2000)
            return len(base.asked)

        assert in_fork(read) == 2
        store.read_range(500, 1500)
        assert len(base.asked) == 1

    def test_pickled_it_has_the_same_folder(
        self, store: CachingStore, base: CountingStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.read_range(0, 1000)
        again = pickle.loads(pickle.dumps(store))
        assert again.cache == store.cache
        assert again.read_range(0, 1000) == LARGE[:1000]
        assert again.base.asked == base.asked

    def test_the_tail_that_came_at_the_opening_is_kept(self, cache: Cache) -> None:
        base = CountingStore(LARGE)
        base.tail = LARGE[-100_000:]
        CachingStore(base, cache)
        other = CachingStore(CountingStore(LARGE), cache)
        assert other.peek(len(LARGE) - 100_000, len(LARGE)) == LARGE[-100_000:]
        assert other.base.asked == []


def read_randomly(store: CachingStore, seed: int) -> bool:
    """Read the same ranges as others do, in another order."""
    starts = list(range(0, len(LARGE) - 20_000, 15_000))
    random.Random(seed).shuffle(starts)
    return all(store.read_range(at, at + 20_000) == LARGE[at : at + 20_000] for at in starts)


class TestDamage:
    @pytest.fixture
    def kept(self, store: CachingStore, base: CountingStore, cache: Cache) -> Path:
        """The file of a block of which three ranges are here."""
        for start in (1000, 9000, 5000):
            store.read_range(start, start + 3000)
        base.asked.clear()
        (path,) = block_files(cache)
        return path

    def check(self, cache: Cache, store: CachingStore, base: CountingStore) -> None:
        """What is read is right, by the store that knew the file and by one that did not; then it is here again."""
        for reader in (store, CachingStore(base, cache)):
            for start in (1000, 5000, 9000):
                assert reader.read_range(start, start + 3000) == LARGE[start : start + 3000]
        base.asked.clear()
        assert store.read_range(1000, 4000) == LARGE[1000:4000]
        assert base.asked == []

    def test_cut_anywhere(
        self, kept: Path, cache: Cache, store: CachingStore, base: CountingStore
    ) -> None:
        whole = kept.read_bytes()
        for length in (*range(60), len(whole) // 2, *range(len(whole) - 40, len(whole))):
            kept.write_bytes(whole[:length])
            self.check(cache, store, base)

    def test_flipped_anywhere(
        self, kept: Path, cache: Cache, store: CachingStore, base: CountingStore
    ) -> None:
        whole = kept.read_bytes()
        record = RECORD_HEADER.size + 3000
        for at in (
            *range(RECORD_HEADER.size),
            500,
            *range(record, record + RECORD_HEADER.size),
            len(whole) - 1,
        ):
            kept.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
            self.check(cache, store, base)

    def test_stray_bytes_appended(
        self, kept: Path, cache: Cache, store: CachingStore, base: CountingStore
    ) -> None:
        for stray in (b"x", bytes(100), kept.read_bytes()[:-7]):
            with kept.open("ab") as file:
                file.write(stray)
            self.check(cache, store, base)

    def test_another_blocks_file(
        self, kept: Path, cache: Cache, store: CachingStore, base: CountingStore
    ) -> None:
        store.read_range(CACHE_BLOCK_BYTES + 1000, CACHE_BLOCK_BYTES + 4000)
        (other,) = set(block_files(cache)) - {kept}
        kept.write_bytes(other.read_bytes())
        self.check(cache, store, base)

    def test_folder_removed_meanwhile(
        self, kept: Path, cache: Cache, store: CachingStore, base: CountingStore
    ) -> None:
        kept.unlink()
        kept.parent.rmdir()
        self.check(cache, store, base)


class TestForget:
    """What was read wrong once, and kept, is read again after forget."""

    def test_only_the_blocks_of_the_range_are_dropped(
        self, store: CachingStore, base: CountingStore, cache: Cache
    ) -> None:
        store.read_range(0, 3 * MIB)
        base.asked.clear()
        assert store.forget(CACHE_BLOCK_BYTES + 1, 3 * CACHE_BLOCK_BYTES)
        assert not store.holds(CACHE_BLOCK_BYTES + 1, 3 * CACHE_BLOCK_BYTES)
        assert store.read_range(0, 3 * MIB) == LARGE[: 3 * MIB]
        assert base.asked == [(CACHE_BLOCK_BYTES, 3 * CACHE_BLOCK_BYTES)]

    def test_a_faulty_read_does_not_stay(self, cache: Cache) -> None:
        faulty = bytearray(LARGE)
        faulty[5000] ^= 1
        first = CachingStore(CountingStore(bytes(faulty)), cache)
        assert first.read_range(4000, 6000) != LARGE[4000:6000]
        later = CachingStore(CountingStore(LARGE), cache)
        assert later.read_range(4000, 6000) != LARGE[4000:6000]  # it was kept
        assert later.forget(4000, 6000)
        assert later.read_range(4000, 6000) == LARGE[4000:6000]

    def test_the_tail_is_dropped_where_it_is_wrong(self, cache: Cache) -> None:
        base = CountingStore(LARGE)
        base.tail = b"wrong"
        store = CachingStore(base, cache)
        size = len(LARGE)
        assert not store.forget(0, CACHE_BLOCK_BYTES)
        assert store.peek(size - 5, size) == b"wrong"
        assert store.forget(size - 6, size - 4)
        assert store.peek(size - 5, size) == LARGE[-5:]

    def test_nothing_is_forgotten_where_nothing_is_kept(self, store: CachingStore) -> None:
        assert not store.forget(0, len(LARGE))
        assert not MemoryStore(LARGE).forget(0, len(LARGE))

    def test_damaged_frames_are_read_again(self, cache: Cache) -> None:
        file = io.BytesIO()
        with FrameWriter(file) as writer:
            for at in range(0, len(LARGE), MIB):
                writer.write_frame(LARGE[at : at + MIB])
            writer.finish(b"index")
        data = file.getvalue()
        faulty = bytearray(data)
        faulty[MIB // 2] ^= 1
        kept = CachingStore(CountingStore(bytes(faulty)), cache)
        kept.read_range(0, MIB)
        base = CountingStore(data)
        store = open_seekable(CachingStore(base, cache))
        assert store.read_range(10, 2 * MIB) == LARGE[10 : 2 * MIB]
        base.asked.clear()
        assert store.forget(MIB + 1, MIB + 2)
        assert base.asked == []
        assert store.read_range(MIB + 1, MIB + 2) == LARGE[MIB + 1 : MIB + 2]
        assert base.asked

    def test_frames_damaged_where_they_lie_are_told(self, cache: Cache) -> None:
        file = io.BytesIO()
        with FrameWriter(file) as writer:
            writer.write_frame(LARGE)
            writer.finish(b"")
        faulty = bytearray(file.getvalue())
        faulty[MIB // 2] ^= 1
        base = CountingStore(bytes(faulty))
        store = open_seekable(CachingStore(base, cache))
        base.asked.clear()
        with pytest.raises(FormatError, match="zstd frame 0"):
            store.read_range(0, 10)
        assert len(base.asked) == 2


class TestFaults:
    def test_a_disk_that_refuses_does_not_matter(
        self, cache: Cache, base: CountingStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = CachingStore(base, cache)

        def full(fd: int, content: bytes) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(cache_module.os, "write", full)
            for _ in range(2):
                assert store.read_range(0, 5000) == LARGE[:5000]
        assert len(base.asked) == 2
        store.read_range(0, 5000)
        store.read_range(0, 5000)
        assert len(base.asked) == 3

    def test_a_short_write_is_dropped(
        self, store: CachingStore, base: CountingStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = os.write
        with monkeypatch.context() as patch:
            patch.setattr(cache_module.os, "write", lambda fd, content: write(fd, content[:50]))
            store.read_range(0, 5000)
        assert store.read_range(0, 5000) == LARGE[:5000]
        assert len(base.asked) == 2

    @pytest.mark.parametrize("folder", ["file", "file/below", "/proc/blobpack", "link"])
    def test_a_folder_that_cannot_be_made_does_not_matter(
        self, tmp_path: Path, base: CountingStore, folder: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_bytes(b"own")
        (tmp_path / "link").symlink_to(tmp_path / "link")
        base.tail = LARGE[-5:]
        store = CachingStore(base, Cache(tmp_path / folder))
        for _ in range(2):
            assert store.read_range(0, 5000) == LARGE[:5000]
        assert not store.holds(0, 5000)
        assert not store.forget(0, 5000)
        assert store.peek(len(LARGE) - 5, len(LARGE)) == LARGE[-5:]
        assert base.asked == [(0, 5000), (0, 5000)]
        assert (tmp_path / "file").read_bytes() == b"own"
        warnings = [record for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1  # one for each folder, not for each read
        assert str(tmp_path / folder) in warnings[0].getMessage()

    @FORKS
    def test_a_folder_without_rights_does_not_matter(
        self, tmp_path: Path, base: CountingStore
    ) -> None:
        (tmp_path / "locked").mkdir(mode=0o500)

        def read() -> bytes:
            if os.geteuid() == 0:  # root may write anywhere
                os.setuid(65_534)
            return CachingStore(base, Cache(tmp_path / "locked")).read_range(0, 5000)

        assert in_fork(read) == LARGE[:5000]
        assert list((tmp_path / "locked").iterdir()) == []

    @pytest.mark.parametrize("refused", ["open", "mkdir", "write", "fstat", "unlink"])
    @pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
    def test_each_call_may_be_refused(
        self,
        cache: Cache,
        base: CountingStore,
        monkeypatch: pytest.MonkeyPatch,
        refused: str,
        reason: int,
    ) -> None:
        """A fake disk: a real one is full or read-only only where the tests may mount one."""

        def refuse(*_: object, **__: object) -> NoReturn:
            raise OSError(reason, os.strerror(reason))

        base.tail = LARGE[-5:]
        with monkeypatch.context() as patch:
            patch.setattr(os, refused, refuse)
            store = CachingStore(base, cache)
            reads = [store.read_range(0, 5000), store.read_range(10, 6000)]
            store.forget(0, 5000)
            reads.append(store.read_range(0, 5000))
        assert reads == [LARGE[:5000], LARGE[10:6000], LARGE[:5000]]

    def test_too_few_bytes_are_refused(self, tmp_path: Path, base: CountingStore) -> None:
        with pytest.raises(ValueError, match="at least 1048576 bytes, not 1000"):
            CachingStore(base, Cache(tmp_path, 1000))

    def test_a_fault_below_is_not_kept(self, cache: Cache) -> None:
        class Failing(CountingStore):
            def fetch(self, start: int, end: int) -> bytes:
                super().fetch(start, end)
                raise BlobChangedError("changed")

        store = CachingStore(Failing(LARGE), cache)
        for _ in range(2):
            with pytest.raises(BlobChangedError):
                store.read_range(0, 10)
        assert block_files(cache) == []


class TestBounds:
    def test_it_never_takes_more_than_it_may(self, tmp_path: Path) -> None:
        data = random.Random(6).randbytes(24 * MIB)
        cache = Cache(tmp_path / "cache", 4 * MIB)
        store = CachingStore(CountingStore(data), cache)
        most = 0
        for start in range(0, len(data), 30_000):
            store.read_range(start, min(start + 30_000, len(data)))
            if start % 10 == 0:
                most = max(most, sum(size for _, size, _ in list_cache_files(Path(cache.folder))))
        assert 2 * MIB < most <= 4 * MIB
        folders = [path for path in Path(cache.folder).rglob("*") if path.is_dir()]
        assert len(folders) < 6  # those emptied are gone

    def test_what_was_not_used_for_longest_goes_first(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path / "cache", 4 * MIB)
        base = CountingStore(random.Random(6).randbytes(12 * MIB))
        store = CachingStore(base, cache)
        for block in range(8):
            for start in range(block * CACHE_BLOCK_BYTES, (block + 1) * CACHE_BLOCK_BYTES, 1 << 16):
                store.read_range(start, start + (1 << 16))
        for at, path in enumerate(sorted(block_files(cache))):
            os.utime(path, (1000 + at, 1000 + at))
        store.read_range(0, 10)  # used again, the oldest is the youngest
        assert time.time() - sorted(block_files(cache))[0].stat().st_mtime < 60
        for start in range(8 * CACHE_BLOCK_BYTES, 16 * CACHE_BLOCK_BYTES, 1 << 16):
            store.read_range(start, start + (1 << 16))
        base.asked.clear()
        store.read_range(0, 10)
        assert base.asked == []
        store.read_range(CACHE_BLOCK_BYTES, CACHE_BLOCK_BYTES + 10)
        assert len(base.asked) == 1

    def test_a_read_of_a_large_part_is_not_kept(self, tmp_path: Path) -> None:
        store = CachingStore(CountingStore(LARGE), Cache(tmp_path / "cache", MIB))
        store.read_range(0, MIB)
        assert block_files(store.cache) == []

    def test_files_that_are_not_its_own_stay(self, tmp_path: Path) -> None:
        precious = tmp_path / "precious.jpg"
        precious.write_bytes(bytes(3 * MIB))
        os.utime(precious, (0, 0))
        store = CachingStore(CountingStore(LARGE), Cache(tmp_path, MIB))
        for start in range(0, 2 * MIB, 30_000):
            store.read_range(start, start + 30_000)
        assert precious.stat().st_size == 3 * MIB

    def test_a_file_does_not_grow_without_end(self, store: CachingStore, cache: Cache) -> None:
        for _ in range(30):  # as if so many processes had read the same at once
            store._write(0, LARGE[: CACHE_BLOCK_BYTES - 1])
        assert all(path.stat().st_size < 6 * CACHE_BLOCK_BYTES for path in block_files(cache))
        assert store.read_range(0, 1000) == LARGE[:1000]


@pytest.mark.parametrize(
    ("records", "start", "end", "chosen"),
    [
        ([(0, 10), (10, 20)], 0, 20, [(0, 10), (10, 20)]),
        ([(0, 10), (5, 20)], 0, 20, [(0, 10), (5, 20)]),
        ([(0, 5), (0, 20), (2, 9)], 3, 15, [(0, 20)]),
        ([(0, 5), (8, 12)], 0, 20, [(0, 5), (8, 12)]),
        ([(0, 5), (4, 6), (4, 9), (20, 30)], 0, 20, [(0, 5), (4, 9)]),
        ([(5, 5), (0, 3)], 4, 8, []),
    ],
)
def test_covering_takes_few_records(
    records: list[tuple[int, int]], start: int, end: int, chosen: list[tuple[int, int]]
) -> None:
    rows = tuple(sorted((begin, stop, 0) for begin, stop in records))
    assert [(begin, stop) for begin, stop, _ in covering_records(rows, start, end)] == chosen


class TestOpenBlob:
    @pytest.fixture
    def url(self, s3_env: S3Server, tmp_path: Path, small_images: dict[str, bytes]) -> str:
        path = tmp_path / "out.tar"
        blobpack.pack(small_images.items(), path)
        return s3_env.put(s3_env.new_bucket(), "out.tar", path.read_bytes())

    @pytest.mark.parametrize("place", ["embed", "sidecar"])
    @pytest.mark.parametrize("suffix", [".tar", ".tar.zst"])
    def test_a_second_epoch_makes_no_request(
        self,
        s3_env: S3Server,
        faults: FaultServer,
        tmp_path: Path,
        place: str,
        suffix: str,
    ) -> None:
        images = {
            f"{i:04d}.jpg": b"\xff\xd8\xff\xe0" + random.Random(i).randbytes(3000)
            for i in range(300)
        }
        path = tmp_path / f"out{suffix}"
        blobpack.pack(images.items(), path, index=place)
        bucket = s3_env.new_bucket()
        url = s3_env.put(bucket, path.name, path.read_bytes())
        if place == "sidecar":
            s3_env.put(bucket, f"{path.name}.idx", (tmp_path / f"{path.name}.idx").read_bytes())
        with blobpack.open_blob(url, cache=tmp_path / "cache") as blob:
            assert dict(zip(images, blob.read_many(images), strict=True)) == images
            seen = len(faults.requests)
            names = random.Random(1).sample(list(images), len(images))
            assert list(blob.read_many(names)) == [images[name] for name in names]
            assert len(faults.requests) == seen
        with blobpack.open_blob(url, cache=tmp_path / "cache") as blob:
            opening = len(faults.requests) - seen
            assert list(blob.read_many(names)) == [images[name] for name in names]
        assert len(faults.requests) - seen == opening <= 3

    def test_the_second_opening_is_one_request(
        self, url: str, faults: FaultServer, tmp_path: Path, small_images: dict[str, bytes]
    ) -> None:
        for _ in range(2):
            faults.requests.clear()
            with blobpack.open_blob(url, cache=tmp_path / "cache") as blob:
                assert [blob.read(name) for name in small_images] == [*small_images.values()]
        assert len(faults.requests) == 1

    def test_an_overwritten_blob_is_read_as_it_is_now(
        self, url: str, s3_env: S3Server, tmp_path: Path, small_images: dict[str, bytes]
    ) -> None:
        bucket, key = url.removeprefix("s3://").split("/")
        for salt in (b"", b"more"):
            path = tmp_path / "new.tar"
            images = {name: payload + salt for name, payload in small_images.items()}
            blobpack.pack(images.items(), path)
            s3_env.put(bucket, key, path.read_bytes())
            with blobpack.open_blob(url, cache=tmp_path / "cache") as blob:
                assert {name: blob.read(name) for name in images} == images

    def test_it_is_read_as_far_away_as_it_is(
        self, url: str, faults: FaultServer, tmp_path: Path, small_images: dict[str, bytes]
    ) -> None:
        """In batches, and counted."""
        index = blobpack.Index(list(blobpack.scan(url)))
        with blobpack.open_blob(url, index=index, cache=tmp_path / "cache", hedge="never") as blob:
            seen, before = len(faults.requests), blob.stats.requests
            for _ in range(2):
                assert list(blob.read_members(index)) == [*small_images.values()]
            assert len(faults.requests) - seen == blob.stats.requests - before == 1

    def test_a_single_read_is_compared_with_its_checksum(
        self, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with blobpack.open_blob(url, cache=tmp_path / "cache") as blob:
            monkeypatch.setattr(type(blob.store), "fetch", lambda self, a, b: bytes(b - a))
            with pytest.raises(ChecksumError, match=r"cats/0001\.jpg"):
                blob.read("cats/0001.jpg")

    def test_a_blob_pickled_for_a_worker_has_its_cache(
        self, url: str, faults: FaultServer, tmp_path: Path, small_images: dict[str, bytes]
    ) -> None:
        with blobpack.open_blob(url, cache=tmp_path / "cache") as blob:
            expected = [blob.read(name) for name in small_images]
            worker = pickle.loads(pickle.dumps(blob))
        opening = len(faults.requests)
        assert [worker.read(name) for name in small_images] == expected
        assert len(faults.requests) == opening

    def test_a_local_blob_goes_without(
        self, tmp_path: Path, small_images: dict[str, bytes]
    ) -> None:
        path = tmp_path / "out.tar"
        blobpack.pack(small_images.items(), path)
        with blobpack.open_blob(path, cache=tmp_path / "cache") as blob:
            assert blob.read("cats/0001.jpg") == small_images["cats/0001.jpg"]
        assert not (tmp_path / "cache").exists()

    def test_commands_use_it(
        self, url: str, faults: FaultServer, tmp_path: Path, small_images: dict[str, bytes]
    ) -> None:
        cache = ["--cache", str(tmp_path / "cache"), "--cache-bytes", "50M"]
        done = CliRunner().invoke(main, ["extract", url, str(tmp_path / "out"), *cache])
        assert done.exit_code == 0, done.output
        faults.requests.clear()
        done = CliRunner().invoke(main, ["cat", url, "cats/0001.jpg", *cache])
        assert done.stdout_bytes == small_images["cats/0001.jpg"]
        assert len(faults.requests) == 1
        done = CliRunner().invoke(main, ["cat", url, "x", *cache[:3], "5k"])
        assert done.exit_code == 2
        assert "at least 1Mi" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_still_read(
    store: CachingStore, cache: Cache, base: CountingStore
) -> None:
    store.read_range(0, 1000)
    for path in Path(cache.folder).rglob("*"):
        path.chmod(path.stat().st_mode & ~stat.S_IWUSR)
    assert store.read_range(0, 2000) == LARGE[:2000]
    assert base.asked == [(0, 1000), (1000, 2000)]


class NoVersions(http.server.BaseHTTPRequestHandler):
    """Serves ranges of a blob, with neither ETag nor Last-Modified."""

    blob = b""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d*)-(\d+)", self.headers.get("Range", ""))
        start, end = 0, len(self.blob)
        if asked and asked[1]:
            start, end = int(asked[1]), int(asked[2]) + 1
        elif asked:
            start = end - int(asked[2])
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(self.blob)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.blob[start:end])

    def log_message(self, *args: object) -> None:
        pass


def test_a_blob_whose_server_names_no_version_is_not_cached(tmp_path: Path) -> None:
    """A collection opens its blobs by open_pinned: a changed blob of the same size must not be read as it was."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NoVersions) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        location = Location.parse(f"http://127.0.0.1:{server.server_port}/a.tar")
        cache = Cache(tmp_path / "cache")
        for letter in (b"A", b"B"):
            NoVersions.blob = letter * 1000
            pinned = open_pinned(location, 1000, "1000 bytes", counters=Counters(), cache=cache)
            with pinned, open_store(location, cache=cache) as store:
                assert store.read_range(0, 4) == pinned.read_range(0, 4) == letter * 4
        server.shutdown()
