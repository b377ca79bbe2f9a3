"""Batches from a real S3: the right bytes in the order asked, few requests, and errors where they are reached."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import random
import re
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from test_stores import FORKS, in_fork

import blobpack
from blobpack import threads
from blobpack.cli.groups import all_commands
from blobpack.cli.main import main
from blobpack.errors import (
    BlobChangedError,
    ChecksumError,
    ImageError,
    MemberNotFoundError,
    StorageError,
)
from blobpack.opening import batch as fetch_module
from blobpack.plan import Fetch
from blobpack.stores.http import retry
from blobpack.stores.http.ranged import RangedStore
from blobpack.stores.open import open_store
from blobpack.stores.s3.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faultserver import Fault, FaultServer
    from s3server import S3Server

COUNT = 3000
FAULT_RATES: dict[Fault, float] = {"503": 0.05, "reset": 0.05, "cut": 0.05, "stall": 0.01}


@pytest.fixture(scope="module")
def payloads() -> dict[str, bytes]:
    chance = random.Random(4)
    return {f"{i:05}.bin": chance.randbytes(chance.randrange(3000)) for i in range(COUNT)}


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory, payloads: dict[str, bytes]) -> Path:
    path = tmp_path_factory.mktemp("fetch") / "many.tar"
    blobpack.pack(payloads.items(), path, all_files=True)
    return path


@pytest.fixture
def blob(faults: FaultServer, s3: S3Server, tar: Path) -> Iterator[blobpack.Blob]:
    """The blob in S3, through the fault proxy, with the index inside it; opened, and nothing read yet.

    Its batches are not hedged: then the machine's load does not change how many requests there are.
    """
    url = s3.put(s3.new_bucket(), "many.tar", tar.read_bytes())
    with blobpack.open_blob(url, hedge="never") as blob:
        yield blob


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(retry, "BACKOFF_MAX_S", 0.01)
    monkeypatch.setattr(retry, "TRIED_FOR_S", 0)


def one_by_one(ranges: list[tuple[int, int]], **bounds: object) -> list[Fetch]:
    """Plan a fetch for each range, as if they lay far apart."""
    return [Fetch(*bounds, (place,)) for place, bounds in enumerate(ranges)]


def shuffled(payloads: dict[str, bytes], count: int, *, seed: int = 1) -> list[str]:
    return random.Random(seed).choices(list(payloads), k=count)


class TestReadMany:
    @pytest.mark.parametrize("count", [0, 1, 64, 1000])
    def test_answers_come_in_the_order_asked_duplicates_included(
        self, blob: blobpack.Blob, payloads: dict[str, bytes], count: int
    ) -> None:
        names = shuffled(payloads, count)
        assert list(blob.read_many(names)) == [payloads[name] for name in names]

    def test_members_may_be_given_too(
        self, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        members = blob.index.select("0000*")
        assert list(blob.read_many(members)) == [payloads[m.name] for m in members]

    def test_neighbours_come_by_one_request(
        self, faults: FaultServer, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        names = list(payloads)[1000:1064]
        blob.read_many(names[:1]).__next__()  # the index's blocks are at hand
        before = blob.stats
        assert list(blob.read_many(names)) == [payloads[name] for name in names]
        after = blob.stats
        assert after.requests - before.requests <= 2
        assert after.merged - before.merged == 63

    def test_duplicates_are_fetched_once(
        self, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        name = max(payloads, key=lambda name: len(payloads[name]))
        blob.read(name)
        before = blob.stats
        assert list(blob.read_many([name] * 50)) == [payloads[name]] * 50
        assert blob.stats.requests - before.requests == 1
        assert blob.stats.bytes_fetched - before.bytes_fetched == len(payloads[name])

    def test_small_answers_do_not_keep_a_large_buffer(
        self, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        assert all(type(payload) is bytes for payload in blob.read_many(list(payloads)[:10]))

    def test_no_more_than_some_windows_wait(
        self, blob: blobpack.Blob, payloads: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetch_module, "BATCH_WINDOW_BYTES", 10_000)
        answers = blob.read_many(list(payloads))
        next(answers)
        time.sleep(0.3)
        assert blob.stats.bytes_fetched < 400_000  # index blocks included; the blob has 4.5 MB
        assert sum(map(len, answers)) == sum(map(len, payloads.values())) - len(
            payloads["00000.bin"]
        )

    def test_unknown_name_is_raised_where_it_is_reached(
        self, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        answers = blob.read_many(["00007.bin", "00008.bin", "none.bin", "00009.bin"])
        assert [next(answers), next(answers)] == [payloads["00007.bin"], payloads["00008.bin"]]
        with pytest.raises(MemberNotFoundError, match=r"s3://.*none\.bin"):
            next(answers)

    def test_blob_changed_in_the_middle_is_changed(
        self,
        blob: blobpack.Blob,
        payloads: dict[str, bytes],
        s3: S3Server,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(fetch_module, "BATCH_WINDOW_BYTES", 10_000)
        answers = blob.read_many(list(payloads))
        assert next(answers) == payloads["00000.bin"]
        s3.put(blob.store.bucket, blob.store.key, b"x" * blob.store.size)
        right = 0
        with pytest.raises(BlobChangedError):
            for payload, name in zip(answers, list(payloads)[1:], strict=True):
                assert payload == payloads[name]
                right += 1
        assert right < COUNT - 1

    def test_wrong_bytes_are_checksum_error_with_name_and_offsets(
        self, faults: FaultServer, s3: S3Server, tar: Path, payloads: dict[str, bytes]
    ) -> None:
        """A payload damaged before it was stored."""
        index = blobpack.scan(tar, facts=True)
        member = index["01234.bin"]
        data = bytearray(tar.read_bytes())
        data[member.offset_start] ^= 1
        url = s3.put(s3.new_bucket(), "damaged.tar", bytes(data))
        where = f"01234.bin: bytes {member.offset_start} to {member.offset_end}"
        with blobpack.open_blob(url, index=index) as blob:
            with pytest.raises(ChecksumError, match=where) as caught:
                list(blob.read_many(["01233.bin", "01234.bin"]))
            assert caught.value.offset == member.offset_start
            with pytest.raises(ChecksumError, match=where):
                blob.read("01234.bin")
            assert blob.read("01233.bin") == payloads["01233.bin"]

    def test_abandoned_batch_asks_for_no_more(
        self, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        answers = blob.read_many(list(payloads))
        next(answers)
        answers.close()
        time.sleep(0.3)
        before = blob.stats.requests
        time.sleep(0.2)
        assert blob.stats.requests == before

    def test_of_an_abandoned_window_the_rest_is_not_asked_for(
        self, blob: blobpack.Blob, payloads: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = list(payloads)[:100]
        blob.read(names[0])
        monkeypatch.setattr(fetch_module, "plan_fetches", one_by_one)
        monkeypatch.setitem(threads._shared_pools, "batches", ThreadPoolExecutor(2))
        before = blob.stats.requests
        answers = blob.read_many(names)
        next(answers)
        answers.close()
        threads.shared_pool("batches", 1).shutdown()
        assert blob.stats.requests - before < len(names) / 2

    def test_of_an_abandoned_batch_nothing_is_sent_again(
        self, blob: blobpack.Blob, faults: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After Ctrl-C, say: the process ends when its threads do."""
        monkeypatch.setattr(retry, "TIMEOUT_S", 0.5)
        monkeypatch.setitem(threads._shared_pools, "batches", ThreadPoolExecutor(2))
        blob.read("00000.bin")
        faults.requests.clear()
        faults.fail_always("stall")
        batch = blob._batch(iter(["00003.bin"]))
        assert batch.fill()
        while not faults.requests:
            time.sleep(0.01)
        batch.cancel()
        threads.shared_pool("batches", 1).shutdown()
        assert len(faults.requests) == 1

    @FORKS
    def test_fork_reads_batches(self, blob: blobpack.Blob, payloads: dict[str, bytes]) -> None:
        names = shuffled(payloads, 100)
        list(blob.read_many(names))
        assert in_fork(lambda: list(blob.read_many(names))) == [payloads[n] for n in names]

    def test_compressed_blob_is_read_in_batches(
        self, s3_env: S3Server, tmp_path: Path, payloads: dict[str, bytes]
    ) -> None:
        path = tmp_path / "many.tar.zst"
        blobpack.pack(payloads.items(), path, all_files=True)
        names = shuffled(payloads, 300)
        url = s3_env.put(s3_env.new_bucket(), "many.tar.zst", path.read_bytes())
        with blobpack.open_blob(url) as blob:
            for _ in range(2):
                assert list(blob.read_many(names)) == [payloads[name] for name in names]
            assert blob.stats.requests > 0
            assert 0 < blob.stats.bytes_wanted <= blob.stats.bytes_fetched


class TestAsync:
    def test_many_come_in_order_and_the_loop_runs_on(
        self, faults: FaultServer, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        names = shuffled(payloads, 500)
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.001)
                turns += 1

        async def read() -> list[bytes]:
            counter = asyncio.create_task(count_turns())
            answers = [payload async for payload in blob.aread_many(names)]
            counter.cancel()
            return answers

        assert asyncio.run(read()) == [payloads[name] for name in names]
        assert turns > 3

    def test_one_is_read_beside_others(
        self, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        names = shuffled(payloads, 40)

        async def read() -> list[bytes]:
            return await asyncio.gather(*map(blob.aread, names))

        assert asyncio.run(read()) == [payloads[name] for name in names]

    def test_errors_arrive(self, blob: blobpack.Blob) -> None:
        async def read() -> None:
            await blob.aread("none.bin")

        with pytest.raises(MemberNotFoundError):
            asyncio.run(read())

    def test_a_failure_is_raised_once_and_not_logged(
        self,
        faults: FaultServer,
        blob: blobpack.Blob,
        caplog: pytest.LogCaptureFixture,
        impatient: None,
    ) -> None:
        async def read() -> None:
            async for _ in blob.aread_many(["00001.bin"]):
                pass

        blob.read("00000.bin")
        faults.fail_next("stall", *["400"] * 2)  # of ours, and of boto3
        with pytest.raises(StorageError):
            asyncio.run(read())
        gc.collect()
        assert not [record for record in caplog.records if record.name == "asyncio"]

    def test_one_alone_does_not_wait_for_batches(
        self,
        blob: blobpack.Blob,
        payloads: dict[str, bytes],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        gate = threading.Event()
        with ThreadPoolExecutor(1) as busy:
            busy.submit(gate.wait, 60)
            monkeypatch.setitem(threads._shared_pools, "batches", busy)
            try:
                assert asyncio.run(blob.aread("00001.bin")) == payloads["00001.bin"]
                assert not gate.is_set()
            finally:
                gate.set()

    def test_names_may_come_from_another_batch(
        self, blob: blobpack.Blob, payloads: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They are taken by a thread: none of those that fetch."""
        monkeypatch.setitem(threads._shared_pools, "batches", ThreadPoolExecutor(1))
        names = list(payloads)[:3]

        async def read() -> list[bytes]:
            found = (name for name, _ in zip(names, blob.read_many(names), strict=True))
            return [payload async for payload in blob.aread_many(found)]

        async def read_in_time() -> list[bytes]:
            return await asyncio.wait_for(read(), 10)

        assert asyncio.run(read_in_time()) == [payloads[name] for name in names]

    def test_cancelled_it_asks_for_no_more(
        self, blob: blobpack.Blob, payloads: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also while a thread plans its next windows."""
        planning, cancelled = threading.Event(), threading.Event()
        plan = fetch_module.plan_fetches

        def plan_slowly(ranges: list[tuple[int, int]], **bounds: int) -> list[Fetch]:
            planning.set()
            assert cancelled.wait(120)
            return plan(ranges, **bounds)

        async def read() -> None:
            async for _ in blob.aread_many(payloads):
                pass

        async def cancel() -> None:
            task = asyncio.create_task(read())
            await asyncio.to_thread(planning.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cancelled.set()

        blob.read("00000.bin")
        monkeypatch.setattr(fetch_module, "plan_fetches", plan_slowly)
        before = blob.stats.requests
        asyncio.run(cancel())  # ends when the thread does
        threads.shared_pool("batches", 1).submit(int).result()
        assert blob.stats.requests == before

    def test_local_blob_is_read_too(self, tar: Path, payloads: dict[str, bytes]) -> None:
        names = shuffled(payloads, 100)

        async def read(blob: blobpack.Blob) -> list[bytes]:
            return [payload async for payload in blob.aread_many(names)]

        with blobpack.open_blob(tar) as blob:
            assert asyncio.run(read(blob)) == [payloads[name] for name in names]


class TestImages:
    def test_failure_comes_where_it_is_reached(
        self, s3_env: S3Server, tmp_path: Path, small_images: dict[str, bytes]
    ) -> None:
        path = tmp_path / "out.tar"
        blobpack.pack([*small_images.items(), ("cats/0003.jpg", b"no image")], path, all_files=True)
        names = ["cats/0001.jpg", "cats/0002.jpg", "cats/0003.jpg", "cats/0001.jpg"]
        url = s3_env.put(s3_env.new_bucket(), "out.tar", path.read_bytes())
        for place in (url, path):
            images = blobpack.read_images(place, names)
            with blobpack.open_blob(path) as local:
                for name in names[:2]:
                    np.testing.assert_array_equal(next(images), blobpack.read_image(local, name))
            with pytest.raises(ImageError, match=r"cats/0003\.jpg"):
                next(images)

    def test_images_left_untaken_stop_their_threads(
        self, tmp_path: Path, small_images: dict[str, bytes]
    ) -> None:
        path = tmp_path / "out.tar"
        blobpack.pack(small_images.items(), path)
        images = blobpack.read_images(path, list(small_images) * 50)
        next(images)
        images.close()
        assert not any("decode" in thread.name for thread in threading.enumerate())


class TestStats:
    def test_counts_are_those_of_the_server(
        self,
        faults: FaultServer,
        blob: blobpack.Blob,
        payloads: dict[str, bytes],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(retry, "TIMEOUT_S", 30.0)  # what is given up is seen too late
        faults.requests.clear()
        before, all_before = blob.stats, blobpack.stats()
        names = shuffled(payloads, 200)
        list(blob.read_many(names))
        after, all_after = blob.stats, blobpack.stats()
        asked = after.requests - before.requests
        assert asked == faults.count("GET") == all_after.requests - all_before.requests
        fetched = after.bytes_fetched - before.bytes_fetched
        ranges = [r.range.removeprefix("bytes=").split("-") for r in faults.requests]
        assert fetched == sum(int(last) - int(first) + 1 for first, last in ranges)
        assert after.bytes_wanted - before.bytes_wanted <= fetched
        assert after.wait_s > before.wait_s
        assert after.cost_usd(1.0) == after.requests / 1000

    def test_bytes_wanted_are_those_of_the_members(
        self, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        """Not the headers between them; and a member that is asked for twice counts once."""
        names = [*list(payloads)[300:360:2], *list(payloads)[2000:2010], list(payloads)[300]]
        list(blob.read_many(names))  # the index's blocks are at hand
        before = blob.stats
        assert list(blob.read_many(names)) == [payloads[name] for name in names]
        after = blob.stats
        wanted = sum(len(payloads[name]) for name in set(names))
        assert after.bytes_wanted - before.bytes_wanted == wanted
        assert after.bytes_fetched - before.bytes_fetched > wanted
        before = blob.stats
        blob.read(names[0])
        assert blob.stats.bytes_wanted - before.bytes_wanted == len(payloads[names[0]])

    def test_retries_are_counted_and_logged(
        self,
        faults: FaultServer,
        blob: blobpack.Blob,
        impatient: None,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG, logger="blobpack")
        blob.read("00001.bin")
        before = blob.stats
        faults.fail_next("503", "cut")
        blob.read("00001.bin")
        assert blob.stats.retried - before.retried == 2
        assert blob.stats.requests - before.requests == 3
        assert [r.message for r in caplog.records if "attempt 1: SlowDown" in r.message]

    def test_command_prints_them_to_stderr(
        self, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        ran = CliRunner().invoke(main, ["cat", blob.url, "00001.bin", "--stats"])
        assert ran.exit_code == 0
        assert ran.stdout_bytes == payloads["00001.bin"]
        assert re.search(r"stats: [\d,]+ requests, .* about \$0\.00", ran.stderr)

    def test_what_boto3_sends_again_counts(
        self, faults: FaultServer, blob: blobpack.Blob, impatient: None
    ) -> None:
        faults.requests.clear()
        faults.fail_next("500")
        with S3Store(blob.url, tail_bytes=1000) as store:
            assert (store.stats.requests, store.stats.retried) == (2, 1)
            assert store.stats.bytes_fetched == 1000
        assert len(faults.requests) == 2

    @pytest.mark.parametrize("by", ["option", "environment"])
    def test_prices_are_settable(self, faults: FaultServer, blob: blobpack.Blob, by: str) -> None:
        faults.requests.clear()
        arguments, env = ["cat", blob.url, "00001.bin", "--stats"], {}
        if by == "option":
            arguments += ["--prices", "1000,5"]
        else:
            env["BLOBPACK_PRICES"] = "1000,5"
        before = blobpack.stats().requests
        ran = CliRunner(env=env).invoke(main, arguments)
        after = blobpack.stats()
        assert after.requests - before == len(faults.requests)  # the one that opens it included
        assert f"about ${after.requests - after.puts + after.puts * 0.005:.6f}" in ran.stderr

    @pytest.mark.parametrize("prices", ["1", "1,2,3", "a,b", "-1,2", "nan,1", "inf,1"])
    def test_what_is_no_prices_is_usage(self, prices: str) -> None:
        ran = CliRunner().invoke(main, ["ls", "x.tar", "--prices", prices])
        assert ran.exit_code == 2
        assert "is not two prices" in ran.stderr

    def test_every_command_tells_them(self) -> None:
        for name, command in all_commands(main).items():
            assert {"stats", "prices"} <= {param.name for param in command.params}, name

    @pytest.mark.parametrize("data", [b"", b"x" * 1000])
    @pytest.mark.parametrize("tail", [False, True])
    def test_opening_counts(
        self, faults: FaultServer, s3: S3Server, data: bytes, tail: bool
    ) -> None:
        url = s3.put(s3.new_bucket(), "x", data)
        with open_store(url, tail=tail) as store:
            assert store.stats.requests == len(faults.requests)
            assert store.stats.bytes_fetched == len(data) * tail

    def test_local_blob_costs_nothing(self, tar: Path) -> None:
        with blobpack.open_blob(tar) as blob:
            blob.read("00001.bin")
            assert blob.stats == blobpack.Stats()

    @FORKS
    def test_fork_begins_at_nothing(self, blob: blobpack.Blob) -> None:
        blob.read("00001.bin")
        assert blobpack.stats().requests > 0
        assert in_fork(lambda: blobpack.stats().requests) == 0


class TestFaultRun:
    def test_thousands_of_reads_are_right_and_none_is_lost(
        self,
        faults: FaultServer,
        blob: blobpack.Blob,
        payloads: dict[str, bytes],
        impatient: None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """`scripts/bench s3 faults` runs the twenty thousand."""
        monkeypatch.setattr(fetch_module, "gap_bytes", lambda *measured: 0)
        faults.fail_at_rates(FAULT_RATES)
        names = shuffled(payloads, 2000)
        before = blob.stats
        for payload, name in zip(blob.read_many(names), names, strict=True):
            assert payload == payloads[name]
        assert blob.stats.requests - before.requests > 1000
        assert blob.stats.retried - before.retried > 100

    def test_server_that_always_fails_is_storage_error_that_says_all(
        self, faults: FaultServer, blob: blobpack.Blob, impatient: None
    ) -> None:
        blob.read("00001.bin")
        faults.fail_always("503")
        where = rf"{blob.url}: can't read bytes \d+ to \d+: SlowDown: .* \(after 10 attempts, request injected\)"
        with pytest.raises(StorageError, match=where):
            list(blob.read_many(["00001.bin", "00002.bin"]))


class TestReadMembers:
    def test_each_is_read_as_itself(self, s3_env: S3Server, tmp_path: Path) -> None:
        """Of two members of one name, read by name, the last is meant; as members, each is there."""
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            for payload in (b"first", b"last"):
                member = tarfile.TarInfo("same.bin")
                member.size = len(payload)
                tar.addfile(member, io.BytesIO(payload))
        index = blobpack.scan(tmp_path / "a.tar")
        url = s3_env.put(s3_env.new_bucket(), "a.tar", (tmp_path / "a.tar").read_bytes())
        for where in (tmp_path / "a.tar", url):
            with blobpack.open_blob(where, index=index) as blob:
                assert list(blob.read_members(index)) == [b"first", b"last"]
                assert list(blob.read_many(index)) == [b"first", b"last"]
                assert list(blob.read_many(index.names)) == [b"last", b"last"]

    def test_no_name_is_looked_up(
        self, faults: FaultServer, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        members = list(blob.index)
        faults.requests.clear()
        assert list(blob.read_members(members[500:564])) == list(payloads.values())[500:564]
        assert len(faults.requests) == 1

    def test_checksums_are_compared(
        self, faults: FaultServer, blob: blobpack.Blob, payloads: dict[str, bytes]
    ) -> None:
        one = blob.index["00007.bin"]
        wrong = blobpack.Member("x", one.offset_start, one.offset_end, crc32c=1)
        read = blob.read_members([one, wrong])
        assert next(read) == payloads["00007.bin"]
        with pytest.raises(ChecksumError, match=r"x: bytes \d+ to \d+ are not"):
            next(read)

    def test_a_member_of_another_blob_is_refused(
        self, faults: FaultServer, blob: blobpack.Blob, tar: Path
    ) -> None:
        size = tar.stat().st_size
        with blobpack.open_blob(tar) as local:
            for opened in (blob, local):
                with pytest.raises(ValueError, match=rf"not within its {size}"):
                    list(opened.read_members([blobpack.Member("x", size - 1, size + 1)]))


class TestWrongBytesInACache:
    @pytest.mark.parametrize("alone", [True, False])
    def test_what_came_wrong_is_not_kept(
        self,
        faults: FaultServer,
        s3: S3Server,
        tar: Path,
        payloads: dict[str, bytes],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        alone: bool,
    ) -> None:
        """A bit that flips on the way costs a second request, and not each later process its read."""
        url = s3.put(s3.new_bucket(), "many.tar", tar.read_bytes())
        with blobpack.open_blob(url, cache=tmp_path / "cache") as blob:
            blob.index["00007.bin"]
            fetch, flipped = RangedStore.fetch, []

            def flip_once(store: RangedStore, start: int, end: int) -> bytes:
                body = fetch(store, start, end)
                if flipped:
                    return body
                flipped.append(start)
                return bytes([body[0] ^ 1]) + body[1:]

            monkeypatch.setattr(RangedStore, "fetch", flip_once)
            read = blob.read("00007.bin") if alone else next(blob.read_many(["00007.bin"]))
            assert flipped
            assert read == payloads["00007.bin"]
        faults.requests.clear()
        with blobpack.open_blob(url, cache=tmp_path / "cache") as blob:
            assert blob.read("00007.bin") == payloads["00007.bin"]
            assert len(faults.requests) == 1  # that opens it
