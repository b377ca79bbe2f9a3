"""Walks of blobs far away: the same rows as from a file, few bytes where headers lie far apart, many at once where not."""

from __future__ import annotations

import io
import itertools
import json
import random
import re
import tarfile
import threading
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from tars import DIALECTS, Tar, rows_of

from blobpack.cli.main import main
from blobpack.errors import BlobChangedError, StorageError
from blobpack.index.index import Index
from blobpack.stores.http import retry
from blobpack.stores.memory import MemoryStore
from blobpack.stores.open import open_store
from blobpack.tar import readahead
from blobpack.tar.readahead import AHEAD_BYTES_MAX, WINDOWS_AT_ONCE, Readahead
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    from pathlib import Path

    from faultserver import FaultServer, Request
    from s3server import S3Server


class SlowStore(MemoryStore):
    """A store that takes its time, and remembers what it was asked."""

    def __init__(self, data: bytes, *, latency_s: float = 0.0, faults: int = 0) -> None:
        super().__init__(data)
        self.delay_s = latency_s
        self.faults = faults  # so many reads fail, after the first
        self.asked: list[tuple[int, int]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.joined = 0  # reads that began while another one was under way
        self._lock = threading.Lock()

    def fetch(self, start: int, end: int) -> bytes:
        with self._lock:
            self.asked.append((start, end))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.joined += self.at_once > 1
            fault = len(self.asked) > 1 and self.faults > 0
            self.faults -= fault
        time.sleep(self.delay_s)
        with self._lock:
            self.at_once -= 1
        if fault:
            raise StorageError("injected")
        return super().fetch(start, end)

    def bytes_asked(self) -> int:
        return sum(end - start for start, end in self.asked)


def tar_of(sizes: list[int]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for row, size in enumerate(sizes):
            member = tarfile.TarInfo(f"{row:07d}.jpg")
            member.size = size
            tar.addfile(member, io.BytesIO(bytes([row % 251 + 1]) * size))
    return file.getvalue()


SMALL = tar_of([4096] * 3000)
LARGE = tar_of([5_000_000] * 20)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly wait between attempts."""
    monkeypatch.setattr(retry, "BACKOFF_MAX_S", 0.001)


@pytest.fixture
def impatient(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly wait between attempts, and make no more than ten."""
    monkeypatch.setattr(retry, "TRIED_FOR_S", 0)


@pytest.mark.parametrize("name", DIALECTS)
def test_any_dialect_has_the_same_rows_by_small_windows_and_by_hops(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows so small that groups lie across their borders, and a gap that makes most steps hops."""
    tar: Tar = DIALECTS[name]()
    for window, gap in ((512, 1 << 20), (1536, 1 << 20), (512, 0), (700, 600)):
        monkeypatch.setattr(readahead, "WINDOW_BYTES_MIN", window)
        monkeypatch.setattr(readahead, "WINDOW_BYTES_MAX", 4 * window)
        for limit in ("HOP_GAP_BYTES", "HOP_GAP_BYTES_MIN", "HOP_GAP_BYTES_MAX"):
            monkeypatch.setattr(readahead, limit, gap)
        index = scan_store(MemoryStore(bytes(tar.blob)), concatenated=tar.concatenated)
        assert rows_of(index) == tar.rows


@pytest.mark.parametrize("seed", range(20))
def test_sizes_of_all_kinds_have_the_rows_of_tarfile(seed: int) -> None:
    chance = random.Random(seed)
    sizes = [int(2 ** chance.uniform(0, 21)) - 1 for _ in range(chance.randrange(1, 120))]
    blob = tar_of(sizes)
    with tarfile.open(fileobj=io.BytesIO(blob)) as judge:
        expected = [(member.name, member.offset_data, member.size) for member in judge]
    assert rows_of(scan_store(MemoryStore(blob))) == expected


def test_small_members_are_fetched_once_each_byte_and_many_at_once() -> None:
    store = SlowStore(SMALL, latency_s=0.01)
    assert len(scan_store(store)) == 3000
    assert store.bytes_asked() <= len(SMALL)
    assert store.most_at_once >= 4
    ordered = sorted(store.asked)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ordered))


def test_latency_is_hidden() -> None:
    """Most requests begin while others are waited for."""
    store = SlowStore(SMALL, latency_s=0.05)
    scan_store(store)
    assert store.joined > 0.5 * len(store.asked)


def test_large_members_are_hopped_over() -> None:
    store = SlowStore(LARGE)
    reader = Readahead(store)
    assert len(scan_store(store, reader=reader)) == 20
    assert reader.requests == len(store.asked) <= 22
    assert reader.bytes_read == store.bytes_asked() < 0.01 * len(LARGE)


def test_small_members_after_large_ones_are_streamed_again() -> None:
    blob = tar_of([5_000_000] * 5 + [4096] * 3000)
    store = SlowStore(blob, latency_s=0.002)
    assert len(scan_store(store)) == 3005
    assert len(store.asked) < 100
    assert store.bytes_asked() < 14_000_000 + 1_000_000


def test_large_members_after_small_ones_are_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is fetched in vain than the run's length allows, nor than is ever held."""
    # on a busy machine, the store seems so slow that the first large member is worth streaming
    monkeypatch.setattr(Readahead, "gap_bytes", lambda self: readahead.HOP_GAP_BYTES)
    blob = tar_of([4096] * 400 + [5_000_000] * 20)
    store = SlowStore(blob, latency_s=0.002)
    assert len(scan_store(store)) == 420
    assert store.bytes_asked() < 400 * 4608 * (1 + readahead.AHEAD_RATIO) + 20 * (1 << 17)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk never has more than a fixed number of bytes fetched before it needs them."""
    blob = bytes(300 << 20)

    class EmptyStore(SlowStore):
        def fetch(self, start: int, end: int) -> bytes:
            super().fetch(0, 0)
            furthest.append(end)
            return bytes(end - start)

    furthest = [0]
    store = EmptyStore(blob)
    with Readahead(store) as reader:
        position = 0
        while position < len(blob):
            position += len(reader.read(position, position + 512, 4096))
            assert max(furthest) - position <= AHEAD_BYTES_MAX
            assert len(reader._windows) <= WINDOWS_AT_ONCE + 1
    assert max(furthest) == len(blob)


def test_a_read_across_windows_has_all_its_bytes() -> None:
    data = random.Random(3).randbytes(6_000_000)
    with Readahead(MemoryStore(data)) as reader:
        for start, end in ((0, 512), (65_000, 66_000), (65_100, 3_000_000), (3_000_000, 3_000_512)):
            assert bytes(reader.read(start, end, 0))[: end - start] == data[start:end]


def test_a_fault_that_the_store_did_not_outlast_says_how_far_the_walk_came() -> None:
    """The store retries; the walk does not begin that anew."""
    store = SlowStore(SMALL, latency_s=0.01, faults=10_000)
    with pytest.raises(StorageError, match=rf"injected; the scan came to byte \d+ of {len(SMALL)}"):
        scan_store(store)
    assert len(store.asked) == len(set(store.asked)) <= 1 + WINDOWS_AT_ONCE


def test_a_store_that_refuses_at_once_is_not_asked_again() -> None:
    class Refusing(SlowStore):
        def fetch(self, start: int, end: int) -> bytes:
            super().fetch(start, end)
            raise StorageError("refused")

    store = Refusing(SMALL)
    with pytest.raises(StorageError, match="refused; the scan came to byte 0 "):
        scan_store(store)
    assert len(store.asked) == 1


def test_a_blob_that_changes_is_not_read_again() -> None:
    class Changing(SlowStore):
        def fetch(self, start: int, end: int) -> bytes:
            if self.asked:
                self.asked.append((start, end))
                raise BlobChangedError("changed")
            return super().fetch(start, end)

    with pytest.raises(BlobChangedError, match="changed; the scan came to byte"):
        scan_store(Changing(SMALL))


def test_threads_are_gone_when_the_walk_ends_early() -> None:
    blob = bytearray(SMALL)
    blob[1_000 * 4608 : 1_000 * 4608 + 512] = b"x" * 512
    with pytest.raises(ValueError, match="no tar header here"):
        scan_store(SlowStore(bytes(blob), latency_s=0.005))
    assert not [t for t in threading.enumerate() if t.name.startswith("blobpack-readahead")]


def range_bytes(requests: list[Request]) -> int:
    spans = [
        re.fullmatch(r"bytes=(\d+)-(\d+)", request.range) for request in requests if request.range
    ]
    return sum(int(span[2]) - int(span[1]) + 1 for span in spans if span)


class TestS3:
    @pytest.fixture
    def small(self, s3_env: S3Server) -> str:
        return s3_env.put(s3_env.new_bucket(), "foreign.tar", SMALL)

    @pytest.fixture
    def large(self, s3_env: S3Server) -> str:
        return s3_env.put(s3_env.new_bucket(), "foreign.tar", LARGE)

    def test_small_members_cost_the_blobs_bytes(self, small: str, faults: FaultServer) -> None:
        reader = Readahead(store := open_store(small))
        index = scan_store(store, reader=reader)
        assert rows_of(index) == rows_of(scan_store(MemoryStore(SMALL)))
        assert range_bytes(faults.requests) == reader.bytes_read <= len(SMALL)
        assert faults.count("GET") == reader.requests < 50

    def test_large_members_cost_under_two_percent(self, large: str, faults: FaultServer) -> None:
        assert len(scan_store(open_store(large))) == 20
        assert range_bytes(faults.requests) < 0.02 * len(LARGE)
        assert faults.count("GET") <= 22

    @pytest.mark.usefixtures("quick")
    def test_a_storm_of_faults_is_walked_through(self, small: str, faults: FaultServer) -> None:
        with open_store(small) as store:
            reader = Readahead(store)
            reader.read(0, 512, 0)
            faults.fail_next("503", "cut", "reset", "500", times=8)
            index = scan_store(store, reader=reader)
        assert rows_of(index) == rows_of(scan_store(MemoryStore(SMALL)))
        assert range_bytes(faults.requests) < 10 * len(SMALL)

    @pytest.mark.usefixtures("quick")
    def test_as_many_faults_as_three_trials_are_outlasted(
        self, small: str, faults: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One read meets all of them: it goes on for a minute, however many they are."""
        monkeypatch.setattr(readahead, "WINDOWS_AT_ONCE", 1)
        with open_store(small) as store:
            reader = Readahead(store)
            reader.read(0, 512, 0)
            faults.fail_next("reset", times=3 * retry.ATTEMPTS)
            index = scan_store(store, reader=reader)
        assert len(index) == 3000
        assert store.stats.retried == 3 * retry.ATTEMPTS
        assert reader.bytes_read <= len(SMALL) + readahead.WINDOW_BYTES_MIN

    @pytest.mark.usefixtures("impatient")
    def test_more_faults_than_the_store_outlasts_end_the_walk(
        self, small: str, faults: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readahead, "WINDOWS_AT_ONCE", 1)
        with open_store(small) as store:
            reader = Readahead(store)
            reader.read(0, 512, 0)
            faults.fail_next("reset", times=2 * retry.ATTEMPTS)
            with pytest.raises(StorageError, match=r"the scan came to byte \d+ of"):
                scan_store(store, reader=reader)
        assert retry.ATTEMPTS - 1 <= store.stats.retried < 2 * retry.ATTEMPTS

    @pytest.mark.usefixtures("quick")
    def test_the_command_tells_how_many_requests_were_sent_again(
        self, large: str, faults: FaultServer, tmp_path: Path
    ) -> None:
        original = Readahead.read

        def read(reader: Readahead, start: int, end: int, stride: int) -> bytes | memoryview:
            if start == 0:
                faults.fail_next("503", times=3)
            return original(reader, start, end, stride)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Readahead, "read", read)
            done = CliRunner().invoke(
                main, ["index", large, "-o", str(tmp_path / "x.idx"), "--json"]
            )
        assert json.loads(done.stdout)["retried"] == 3

    def test_a_blob_overwritten_meanwhile_is_changed(self, small: str, s3: S3Server) -> None:
        bucket, key = small.removeprefix("s3://").split("/")
        with open_store(small) as store:
            s3.put(bucket, key, SMALL + bytes(512))
            with pytest.raises(BlobChangedError, match="came to byte 0 of"):
                scan_store(store)

    def test_the_command_tells_bytes_and_requests(
        self, large: str, faults: FaultServer, tmp_path: Path
    ) -> None:
        target = tmp_path / "foreign.idx"
        done = CliRunner().invoke(main, ["index", large, "-o", str(target), "--json"])
        assert done.exit_code == 0, done.output
        said = json.loads(done.stdout)
        assert said["members"] == 20
        assert said["blob_bytes"] == len(LARGE)
        assert said["bytes_read"] < 0.01 * len(LARGE)
        assert said["requests"] <= 22
        assert len(Index.load(target)) == 20
        done = CliRunner().invoke(main, ["index", large, "-o", str(target)])
        assert re.search(r"scanned with \d+ requests for [\d,]+ bytes", done.stderr)

    @pytest.mark.usefixtures("impatient")
    def test_the_command_says_how_far_it_came(
        self, small: str, faults: FaultServer, tmp_path: Path
    ) -> None:
        original = Readahead.read

        def read(reader: Readahead, start: int, end: int, stride: int) -> bytes | memoryview:
            if start > 1_000_000:
                faults.fail_always("500")
            return original(reader, start, end, stride)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Readahead, "read", read)
            done = CliRunner().invoke(main, ["index", small, "-o", str(tmp_path / "x.idx")])
        assert done.exit_code == 1
        assert re.search(r"the scan came to byte [1-9]\d{6,} of", done.stderr)
        assert not (tmp_path / "x.idx").exists()
