"""Progress: what a caller's function is told, with totals wherever they can be known, and what a terminal shows of it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

import blobpack

PROGRAM = str(Path(sys.executable).with_name("blobpack"))
COUNT = 2500
PAYLOAD = b"x" * 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("progress")
    (folder / "files").mkdir()
    for number in range(COUNT):
        (folder / "files" / f"{number:04}").write_bytes(PAYLOAD)
    blobpack.pack(folder / "files", folder / "out.tar", all_files=True)
    blobpack.pack_shards(folder / "files", folder / "shards", 1 << 20, all_files=True)
    return folder


CALLS = {
    "pack": lambda f, t, told: blobpack.pack(
        f / "files", t / "o.tar", all_files=True, progress=told
    ),
    "pack compressed": lambda f, t, told: blobpack.pack(
        f / "files", t / "o.tar.zst", all_files=True, progress=told
    ),
    "pack_shards": lambda f, t, told: blobpack.pack_shards(
        f / "files", t / "shards", 1 << 20, all_files=True, progress=told
    ),
    "append": lambda f, t, told: blobpack.append(
        t / "more.tar", f / "files", all_files=True, progress=told
    ),
    "merge": lambda f, t, told: blobpack.merge([f / "out.tar"], t / "o.tar", progress=told),
    "subset": lambda f, t, told: blobpack.subset(
        f / "out.tar", t / "o.tar", blobpack.open(f / "out.tar").index, progress=told
    ),
    "extract": lambda f, t, told: blobpack.extract(f / "out.tar", t / "into", progress=told),
    "verify": lambda f, t, told: blobpack.verify(f / "out.tar", progress=told),
    "verify a collection": lambda f, t, told: blobpack.verify(f / "shards", progress=told),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_total_is_told_from_the_first_call_on(name, folder, tmp_path):
    blobpack.pack([("first", b"1")], tmp_path / "more.tar", all_files=True)
    told = []
    CALLS[name](folder, tmp_path, told.append)
    assert all(isinstance(each, blobpack.Progress) for each in told)
    assert {each.total for each in told} == {COUNT}
    assert told == sorted(told, key=lambda each: (each.done, each.done_bytes))
    assert told[-1].done == COUNT
    assert told[-1].done_bytes >= COUNT * len(PAYLOAD)
    if name.startswith(("extract", "verify")):
        assert {each.total_bytes for each in told} == {COUNT * len(PAYLOAD)}
        assert told[-1].done_bytes == told[-1].total_bytes


def test_collect_counts_blobs(folder, tmp_path):
    blobs = sorted((folder / "shards").glob("*.tar"))
    told = []
    blobpack.collect(blobs, tmp_path / "c.idx", progress=told.append)
    sizes = [blob.stat().st_size for blob in blobs]
    assert len(blobs) > 1
    assert told[-1] == (len(blobs), sum(sizes), len(blobs), None)
    assert [each.done for each in told] == list(range(1, len(blobs) + 1))


def test_no_total_is_made_up(tmp_path):
    """Payloads may come from an iterator, and the members of a stream are not counted before they come."""
    payloads = [(f"{number}", b"x") for number in range(3000)]
    told = []
    blobpack.pack(iter(payloads), tmp_path / "o.tar", all_files=True, progress=told.append)
    assert told
    assert {(each.total, each.total_bytes) for each in told} == {(None, None)}
    told = []
    blobpack.repack(tmp_path / "o.tar", tmp_path / "p.tar", all_files=True, progress=told.append)
    assert told
    assert {(each.total, each.total_bytes) for each in told} == {(None, None)}


@pytest.mark.parametrize(
    "command", ["extract out.tar TO", "verify out.tar", "pack files TO.tar --all"]
)
def test_a_terminal_shows_the_total_the_rate_and_the_time_left(folder, tmp_path, command):
    upper, lower = pty.openpty()
    # a new terminal has no size, and so no room for a bar
    fcntl.ioctl(lower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    running = subprocess.Popen(
        [PROGRAM, *command.replace("TO", str(tmp_path / "new")).split()],
        cwd=folder,
        # every call draws
        env={**os.environ, "TQDM_MININTERVAL": "0"},
        stdout=subprocess.DEVNULL,
        stderr=lower,
    )
    os.close(lower)
    shown = b""
    # EIO: the command has ended, and all was read
    with suppress(OSError):
        while piece := os.read(upper, 1 << 16):
            shown += piece
    os.close(upper)
    assert running.wait() == 0
    assert re.search(rb"[0-9]+%.*/2\.5[0k].*\[[0-9:]+<[0-9:]+, .*/s", shown), shown[-400:]
