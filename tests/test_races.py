"""Two processes that change one blob end as if they had run one after the other, wherever one overtakes the other."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shlex
import signal
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import blobpack
from blobpack.cli.main import main
from blobpack.index.tables.offsets import offsets_path, void_path

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore::blobpack.MissingIndexWarning")

# Equal sizes: the index of one blob, bound to the other one, would give wrong bytes.
OLD = {"a.svg": b"<svg>a0", "b.svg": b"<svg>b0"}
NEW = {"b.svg": b"<svg>b1", "c.svg": b"<svg>c1", "a.svg": b"<svg>a1"}
MORE = {"z.svg": b"<svg>z2"}

# Calls at which a process may be overtaken, beside flock. Reads and writes between them make no difference.
STOPS = ("open", "rename", "replace", "unlink", "fsync")


def pack(files: dict[str, bytes], place: str = "embed") -> None:
    blobpack.pack(files.items(), "o.tar", index=place)


def pack_sidecar() -> None:
    pack(NEW, "sidecar")


def pack_embed() -> None:
    pack(NEW)


def pack_none() -> None:
    pack(NEW, "none")


def append() -> None:
    blobpack.append("o.tar", MORE.items())


def command(line: str) -> Callable[[], None]:
    def run() -> None:
        sys.argv = ["blobpack", *shlex.split(line)]
        main()

    run.__name__ = line
    return run


index, embed, offsets = (
    command("index o.tar"),
    command("index o.tar --index embed"),
    command("offsets o.tar"),
)


def start(work: Callable[[], None], stop_at: int = 0) -> int:
    """Run work in a child, which stops at its k-th call; its exit code says whether it failed."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        silence = os.open(os.devnull, os.O_RDWR)
        for fd in (1, 2):
            os.dup2(silence, fd)
        if stop_at:
            stop_at_call(stop_at)
        with contextlib.suppress(blobpack.BlobpackError):
            try:
                work()
                code = 0
            except SystemExit as exc:
                code = exc.code or 0
    finally:
        os._exit(code)


def stop_at_call(k: int) -> None:
    """Stop this process at its k-th call."""
    calls = itertools.count(1)

    def stopping(real):
        def call(*arguments, **more):
            if next(calls) == k:
                os.kill(os.getpid(), signal.SIGSTOP)
            return real(*arguments, **more)

        return call

    for name in STOPS:
        setattr(os, name, stopping(getattr(os, name)))
    fcntl.flock = stopping(fcntl.flock)


def has_ended_or_waits(child: int) -> bool:
    """Return whether a child has ended, or waits for a lock."""
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return bool(ended) or any("->" in line and str(child) in line for line in waiting)


def race(first: Callable[[], None], second: Callable[[], None], k: int) -> tuple[bool, set[str]]:
    """Run the second while the first one is stopped at its k-th call.

    Returns:
        Whether the first one got that far, and which of them succeeded.
    """
    child = start(first, k)
    _, status = os.waitpid(child, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        return False, {"first"}
    other = start(second)
    while not has_ended_or_waits(other):
        time.sleep(0.0005)
    os.kill(child, signal.SIGCONT)
    codes = {name: os.waitpid(pid, 0)[1] for name, pid in (("first", child), ("second", other))}
    return True, {name for name, code in codes.items() if code == 0}


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {
            member.name: tar.extractfile(member).read()
            for member in tar
            if member.name.endswith(".svg")
        }


def read_all(path: Path, given: Path | None = None) -> dict[str, bytes]:
    with blobpack.open_blob(path, given) as blob:
        return dict(zip(blob.index.names, blob.read_many(blob.index), strict=True))


def begin(folder: Path, before: str) -> None:
    """Make the folder what it is before the race."""
    for path in folder.iterdir():
        path.unlink()
    if before:
        pack(OLD, before.partition(" ")[0])
    if "offsets" in before:
        blobpack.write_offsets(blobpack.scan("o.tar"), offsets_path("o.tar"))


def check(folder: Path) -> dict[str, bytes]:
    """Read the blob by each index that there is; return its members."""
    blob = folder / "o.tar"
    found = members(blob)
    assert read_all(blob) == found
    for beside in (folder / "o.tar.idx", offsets_path(blob)):
        if beside.exists() and not void_path(blob).exists():
            assert read_all(blob, beside) == found
    assert {path.name for path in folder.iterdir()} <= {
        "o.tar", "o.tar.idx", "o_offsets.pkl", *[void_path(blob).name] * offsets_path(blob).exists()
    }  # fmt: skip
    return found


RACES = [
    ("sidecar", append, pack_sidecar),
    ("sidecar", append, pack_embed),
    ("embed", append, pack_sidecar),
    ("none offsets", append, pack_none),
    ("sidecar", pack_sidecar, append),
    ("sidecar", pack_sidecar, lambda: pack(OLD | MORE, "sidecar")),
    ("", pack_sidecar, lambda: pack(OLD, "sidecar")),
    ("sidecar", embed, pack_sidecar),
    ("none", index, pack_sidecar),
    ("none", index, append),
    ("sidecar", append, index),
    ("none", offsets, pack_none),
    ("none", offsets, append),
    ("none", append, offsets),
]


@pytest.mark.parametrize(
    ("before", "first", "second"),
    RACES,
    ids=[f"{first.__name__}-{second.__name__}-{before}" for before, first, second in RACES],
)
def test_one_overtakes_the_other(before, first, second, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    possible = []
    for order in ([first], [second], [first, second], [second, first]):
        begin(tmp_path, before)
        for work in order:
            os.waitpid(start(work), 0)
        if (tmp_path / "o.tar").exists():
            possible.append(members(tmp_path / "o.tar"))
    for k in itertools.count(1, 2):
        begin(tmp_path, before)
        reached, succeeded = race(first, second, k)
        assert succeeded, k
        assert check(tmp_path) in possible, k
        if not reached:
            break
    assert k > 5
