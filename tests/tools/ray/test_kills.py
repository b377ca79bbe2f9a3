"""Workers that are killed while they write: no byte is lost, nothing is there twice, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import blobpack
from blobpack.integrations.ray import read_blobs, write_blobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3server import S3Server

WRITES = 100
KILLS = 20
# a fast machine may end some writes before they are seen
KILLS_MIN = 5
# a task writes about three blobs, so that workers are killed between blobs, too
PAYLOAD_BYTES = 10_000
MEMBERS = WRITES * 90
SHARD_BYTES = 400_000
DEADLINE_S = 120


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of enough members for 100 writes."""
    folder = tmp_path_factory.mktemp("many") / "in"
    noise = os.urandom(PAYLOAD_BYTES + 1000)
    payloads = ((f"{i:05}.bin", noise[i % 1000 : i % 1000 + PAYLOAD_BYTES]) for i in range(MEMBERS))
    blobpack.pack_shards(payloads, folder, 20 << 20, all_files=True)
    return folder


def children(pid: int) -> set[int]:
    """The processes that a process has started, and those that these have started."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # the command may hold spaces and brackets
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def writing(pid: int) -> bool:
    """Whether a process is a worker of Ray that is in a write task now."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().startswith(b"ray::Write")
    except OSError:
        return False


@contextmanager
def killer(may_kill: Callable[[int], bool], kills: int) -> Iterator[list[int]]:
    """Kill workers while the block runs, as long as they write: at most so many; yield the list of them."""
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        while len(killed) < kills and not ended.is_set():
            for pid in children(os.getpid()):
                if len(killed) < kills and pid not in killed and writing(pid) and may_kill(pid):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def check(report: Any, source: Path, listed: list[str]) -> None:
    """Compare what was written with its source, byte by byte, and with what is in the folder."""
    with blobpack.open(source) as expected, blobpack.open(report.url) as found:
        assert len(found) == len(expected) == MEMBERS
        assert dict(found.items()) == dict(expected.items())
        blobs = [blob.url.rpartition("/")[2] for blob in found.blobs]
    strays = set(listed) - {*blobs, "collection.idx"}
    assert strays == set()
    assert len(listed) == len(blobs) + 1


def holds_unfinished_file(pid: int, folder: Path) -> bool:
    """Whether a process has a file open that will become a blob in a folder."""
    try:
        opened = [os.readlink(entry) for entry in (Path("/proc") / str(pid) / "fd").iterdir()]
    except OSError:
        return False
    return any(name.startswith(f"{folder}/.") and name.endswith(".tmp") for name in opened)


def test_workers_are_killed_in_the_middle_of_100_writes(many: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    dataset = read_blobs(many, override_num_blocks=WRITES)
    with killer(lambda pid: holds_unfinished_file(pid, folder), KILLS) as killed:
        report = write_blobs(dataset, folder, shard_bytes=SHARD_BYTES)
    assert len(killed) >= KILLS_MIN
    check(report, many, sorted(path.name for path in folder.iterdir()))


def test_workers_are_killed_in_the_middle_of_100_writes_to_s3(many: Path, s3_env: S3Server) -> None:
    bucket = s3_env.new_bucket()
    dataset = read_blobs(many, override_num_blocks=WRITES)
    with killer(lambda pid: True, KILLS) as killed:
        report = write_blobs(dataset, f"s3://{bucket}/out", shard_bytes=SHARD_BYTES)
    assert len(killed) >= KILLS_MIN
    check(report, many, [key.removeprefix("out/") for key in s3_env.keys(bucket)])
    assert s3_env.uploads(bucket) == []


def test_uploads_of_killed_workers_are_aborted(many: Path, s3_env: S3Server) -> None:
    """Blobs of several parts: S3 keeps the parts of an upload until it is aborted."""
    bucket = s3_env.new_bucket()
    dataset = read_blobs(many, override_num_blocks=4)
    with killer(lambda pid: bool(s3_env.uploads(bucket)), 4) as killed:
        report = write_blobs(dataset, f"s3://{bucket}/out", shard_bytes=30 << 20)
    assert killed
    check(report, many, [key.removeprefix("out/") for key in s3_env.keys(bucket)])
    assert s3_env.uploads(bucket) == []


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("place", ["local", "s3"])
def test_ctrl_c_leaves_nothing(many: Path, tmp_path: Path, s3_env: S3Server, place: str) -> None:
    bucket = s3_env.new_bucket()
    target = str(tmp_path / "out") if place == "local" else f"s3://{bucket}/out"

    def listed() -> list[str]:
        if place == "s3":
            return s3_env.keys(bucket) + s3_env.uploads(bucket)
        return os.listdir(target) if Path(target).exists() else []

    def interrupt() -> None:
        # when some blobs are whole: the file of the claim, and two more
        wait_until(lambda: len(listed()) > 2)
        os.kill(os.getpid(), signal.SIGINT)

    # a shell's background job ignores it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            write_blobs(
                read_blobs(many, override_num_blocks=WRITES), target, shard_bytes=SHARD_BYTES
            )
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    # tasks that were at work end, and remove what they have written since
    wait_until(lambda: not any(map(writing, children(os.getpid()))) and not listed())
    assert listed() == []
