"""The tools that break commands see what they must see: the shim breaks calls, and no check passes by itself."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import READS, Call, Commands, build_shim, read_log
from power import PAGE, Disk
from scenarios import scenarios
from sweep import Trial
from verdict import reading_problems, state_problems

import blobpack

PROGRAM = """
import os, sys
try:
    fd = os.open("new", os.O_WRONLY | os.O_CREAT)
    print(os.write(fd, bytes(10_000)))
    os.fsync(fd)
    os.rename("new", "there")
    os.unlink("there")
except OSError as exc:
    print(exc.errno)
"""
NAMES = ["open new", "write new", "fsync new", "rename new to there", "unlink there", "close"]


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def run(shim, tmp_path):
    """Run a small program under the shim, and return its exit code, what it printed, and its calls."""
    folder, log = tmp_path / "folder", tmp_path / "log"
    folder.mkdir()

    def run_with(program=PROGRAM, **settings):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            env={
                **os.environ,
                "LD_PRELOAD": os.fspath(shim),
                "FAULTS_AT_ONCE": "1",
                "FAULTS_FOLDER": os.fspath(folder),
                "FAULTS_LOG": os.fspath(log),
                **settings,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout.split(), list(read_log(log.read_bytes(), folder))

    return run_with


def test_the_shim_logs_calls_in_the_folder_and_their_bytes(run):
    code, printed, calls = run(FAULTS_DATA="1")
    assert (code, printed) == (0, ["10000"])
    changes = [call for call in calls if call.kind != READS]
    assert list(map(str, changes)) == NAMES[:5]
    assert (changes[1].data, changes[1].offset) == (bytes(10_000), 0)


@pytest.mark.parametrize("at", range(1, 6))
def test_the_shim_fails_any_call(run, at):
    code, printed, calls = run(FAULTS_AT=str(at), FAULTS_DO=f"fail {errno.EIO}")
    assert (code, printed[-1]) == (0, str(errno.EIO))
    assert [str(call) for call in calls if call.is_broken] == [NAMES[at - 1]]


def test_the_shim_cuts_a_write_short(run):
    assert run(FAULTS_AT="2", FAULTS_DO="short")[1] == ["5000"]


def test_a_full_disk_stays_full(run):
    _, printed, calls = run(FAULTS_AT="2", FAULTS_DO=f"full {errno.ENOSPC}")
    assert printed == [str(errno.ENOSPC)]
    assert calls[1].result < 0


@pytest.mark.parametrize(("when", "exists"), [("before", False), ("after", True)])
def test_the_shim_kills_before_and_after_a_call(run, tmp_path, when, exists):
    code, _, _ = run(FAULTS_AT="1", FAULTS_DO=f"{when} {signal.SIGKILL}")
    assert code == -signal.SIGKILL
    assert (tmp_path / "folder/new").exists() is exists


def test_a_torn_write_ends_between_two_pages(run, tmp_path):
    code, _, _ = run(FAULTS_AT="2", FAULTS_DO=f"torn {signal.SIGKILL}")
    assert code == -signal.SIGKILL
    assert (tmp_path / "folder/new").stat().st_size == PAGE


PAUSING = """
import ctypes, os, signal, threading
fd = os.open("new", os.O_WRONLY | os.O_CREAT)
ctypes.CDLL(None).faults_pause()
thread = threading.Thread(target=os.mkdir, args=["of a thread"])
thread.start()
thread.join()
os.close(fd)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.01)
os.mkdir("of the main thread")
os.mkdir("later")
"""


def test_the_shim_pauses_where_a_handler_can_end_the_command(run):
    _, _, calls = run(PAUSING)
    assert [str(call) for call in calls if call.is_broken] == ["mkdir of the main thread"]
    assert len(calls) == 5


# The model of the disk

NUMBER = itertools.count(1)


def call(name, path, *, other="", size=0, offset=0, data=b""):
    return Call(next(NUMBER), name, 2, False, 0, size, offset, path, other, data)


def states_after(tree, *calls, any_names=False):
    disk = Disk(tree, any_names=any_names)
    for each in calls:
        disk.replay(each)
    return list(disk.states(1000, random.Random(1)))


def test_pages_that_are_not_synced_are_there_or_not():
    old, new = bytes(2 * PAGE), b"n" * 2 * PAGE
    write = call("pwrite", "f", data=new)
    assert {tree["f"] for tree in states_after({"f": old}, write)} == {
        first + second for first in (old[:PAGE], new[:PAGE]) for second in (old[:PAGE], new[:PAGE])
    }
    assert states_after({"f": old}, write, call("fsync", "f")) == [{"f": new}]


def test_a_file_may_be_longer_than_what_is_written_of_it():
    trees = states_after({"f": b"a"}, call("pwrite", "f", offset=1, data=b"b"))
    assert {tree["f"] for tree in trees} == {b"a", b"ab", b"a\0"}


def test_bytes_behind_a_cut_do_not_come_back():
    calls = [call("ftruncate", "f", offset=1), call("fsync", "f"), call("ftruncate", "f", offset=3)]
    assert states_after({"f": b"abc"}, *calls, call("fsync", "f")) == [{"f": b"a\0\0"}]


def test_names_change_in_order():
    calls = [call("unlink", "a"), call("rename", "b", other="c")]
    tree = {"a": b"1", "b": b"2", "c": b"3"}
    expected = [tree, {"b": b"2", "c": b"3"}, {"c": b"2"}]
    assert states_after(tree, *calls) == expected
    assert len(states_after(tree, *calls, any_names=True)) == 4
    assert states_after(tree, *calls, call("fsync", ".")) == expected[2:]


def test_a_rename_of_what_is_not_synced_may_give_an_empty_file():
    calls = [
        call("open", "t", offset=1),
        call("write", "t", data=b"new"),
        call("rename", "t", other="f"),
    ]
    assert b"" in {tree["f"] for tree in states_after({"f": b"old"}, *calls)}


# The checks

OLD, NEW = {"a": b"old", "b.idx": b"i"}, {"a": b"new", "b.idx": b"j"}


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ({"a": b"ne", "b.idx": b"i"}, "neither old nor new: a"),
        ({"b.idx": b"i"}, "lost: a"),
        ({**OLD, ".a.tmp": b""}, "left behind: .a.tmp"),
        ({"a": b"old", "b.idx": b"?"}, "neither old nor new: b.idx"),
    ],
)
def test_wrong_files_are_seen(tree, problem):
    assert state_problems(tree, OLD, NEW) == [problem]


@pytest.mark.parametrize("tree", [OLD, NEW, {"a": b"new", "b.idx": b"i"}, {"a": b"old"}])
def test_old_and_new_files_are_right(tree):
    assert state_problems(tree, OLD, NEW) == []


@pytest.fixture
def blob(tmp_path):
    payloads = [("a", b"1" * 700), ("b", b"2" * 700)]
    blobpack.pack(payloads, tmp_path / "out.tar", index="sidecar", all_files=True)
    return tmp_path / "out.tar"


def test_a_good_blob_has_no_problem(blob):
    assert reading_problems(blob.parent) == []


def test_a_wrong_byte_is_seen_though_the_index_does_not_see_it(blob, monkeypatch):
    monkeypatch.setattr("verdict.members_of", lambda content: {"a": b"1" * 700, "b": b"!" * 700})
    assert "out.tar: wrong bytes of b" in reading_problems(blob.parent)


def test_a_refused_blob_is_seen(blob):
    other = blob.parent / "other"
    other.mkdir()
    blobpack.pack([("c", b"3")], other / "out.tar", index="none", all_files=True)
    os.replace(other / "out.tar", blob)
    (found,) = reading_problems(blob.parent)
    assert found.startswith("refused: out.tar: StaleIndexError")


def test_a_missing_member_is_seen(blob):
    blobpack.scan(blob).select("a").save(blob.parent / "part.idx")
    blobpack.write_offsets(blobpack.scan(blob).select("a"), blob.parent / "out_offsets.pkl")
    (blob.parent / "out.tar.idx").unlink()
    assert reading_problems(blob.parent) == ["out.tar: missing ['b'], too many []"]


# Bugs, put into a copy of blobpack

REPEATED = "        signal.setitimer(signal.ITIMER_REAL, REPEAT_S, REPEAT_S)\n"
NOTED = "        self.arrived = number\n"
SILENCED = "if not isinstance(dropped.exc_value, SignalledError):"


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({REPEATED: ""}, ["the command runs on"]),
        ({REPEATED: "", NOTED: ""}, ["exit code 0", "the command runs on"]),
        ({SILENCED: "if dropped:"}, ["stderr has a traceback: blobpack.cli.signals.SignalledError: 143"]),
    ],
    ids=["not repeated", "not noted", "printed"],
)  # fmt: skip
def test_a_handler_that_fails_in_finalizers_is_seen(changes, problems, tmp_path, monkeypatch):
    package = tmp_path / "blobpack"
    shutil.copytree(Path(blobpack.__file__).parent, package)
    text = (package / "cli/signals.py").read_text()
    for right, wrong in changes.items():
        assert right in text
        text = text.replace(right, wrong)
    (package / "cli/signals.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    with Commands() as commands:
        it = Trial(scenarios()["merge over nothing"], commands)
        fault = next(fault for fault in it.faults() if fault.kind == "dropped")
        assert [problem.text for problem in it.break_at(fault)] == problems
