"""One grammar of the command line: the same option for the same thing in every command."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import click
import pytest
from PIL import Image

import blobpack
from blobpack.cli.main import main

PROGRAM = str(Path(sys.executable).with_name("blobpack"))
COMMANDS = dict(main.commands)
READ = {"cat", "extract", "ls", "subset", "verify"}  # members, by the index of a blob
WRITE_BLOB = {"merge", "pack", "subset"}
WRITE = WRITE_BLOB | {"collect", "index", "offsets", "repack"}
WORK = WRITE | {"append", "extract", "verify"} - {"offsets"}


def options(name: str) -> dict[str, click.Option]:
    return {
        flag: parameter
        for parameter in COMMANDS[name].params
        if isinstance(parameter, click.Option)
        for flag in parameter.opts
    }


def with_option(flag: str) -> set[str]:
    return {name for name in COMMANDS if flag in options(name)}


def test_every_command_can_be_quiet_and_count_its_requests():
    assert with_option("--quiet") == with_option("--stats") == set(COMMANDS)


def test_index_is_where_the_index_is_written_and_index_file_where_it_is_read():
    assert with_option("--index") == WRITE_BLOB | {"index"}
    assert with_option("--index-file") >= READ
    for name in with_option("--index"):
        assert isinstance(options(name)["--index"].type, click.Choice)
        assert {"embed", "sidecar"} <= set(options(name)["--index"].type.choices)


def test_what_writes_takes_force_and_what_works_has_progress():
    assert with_option("--force") >= WRITE
    assert with_option("--no-progress") >= WORK - {"offsets"}
    assert with_option("--json") == set(COMMANDS) - {"cat"}


@pytest.mark.parametrize("name", ["merge", "pack", "repack", "subset"])
def test_the_output_is_the_last_argument(name):
    arguments = [p for p in COMMANDS[name].params if isinstance(p, click.Argument)]
    assert [argument.name for argument in arguments][-1] == "out"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "imgs").mkdir()
    image = io.BytesIO()
    Image.new("RGB", (2, 2)).save(image, "png")
    for name in "ab":
        (tmp_path / "imgs" / f"{name}.png").write_bytes(image.getvalue())
    blobpack.pack([("o.png", image.getvalue())], tmp_path / "other.tar")
    blobpack.pack(tmp_path / "imgs", tmp_path / "out.tar")
    blobpack.pack(tmp_path / "imgs", tmp_path / "bare.tar", index="none")
    return tmp_path


def run(folder, *arguments, code=0):
    done = subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("command", "stdout"),
    [
        ("pack imgs new.tar", ""),
        ("append out.tar imgs --duplicates last", ""),
        ("merge out.tar other.tar new.tar", ""),
        ("subset out.tar new.tar --filter a*", ""),
        ("extract out.tar into", ""),
        ("index bare.tar", ""),
        ("offsets out.tar", ""),
        ("verify out.tar", ""),
        ("collect .", ""),
        ("repack out.tar new.tar", ""),
        ("ls bare.tar", "a.png\nb.png\n"),
    ],
)
def test_quiet_prints_only_what_was_asked_for(folder, command, stdout):
    if command.startswith("collect"):
        (folder / "bare.tar").unlink()
        (folder / "other.tar").rename(folder / "imgs" / "other.tar")
        (folder / "out.tar").unlink()
    loud = run(folder, *command.split())
    assert "".join(loud) != stdout
    for path in folder.glob("new.tar*"):
        path.unlink()
    assert run(folder, *command.split(), "--quiet") == (stdout, "")


def test_quiet_prints_errors_and_failures_and_json(folder):
    _, err = run(folder, "cat", "out.tar", "none.png", "--quiet", code=1)
    assert "no member 'none.png'" in err
    out, err = run(folder, "pack", "imgs", "new.tar", "--quiet", "--json")
    assert '"members": 2' in out
    assert err == ""
    data = bytearray((folder / "out.tar").read_bytes())
    data[520] ^= 1
    (folder / "out.tar").write_bytes(data)
    out, _ = run(folder, "verify", "out.tar", "--quiet", code=1)
    assert "a.png" in out
    # the changed archive, and its member, but no line of report
    assert [line.split(":")[0] for line in out.splitlines()] == ["the archive", "a.png"]


@pytest.mark.parametrize("option", [None, "--no-progress", "--quiet"])
def test_a_bar_is_shown_on_a_terminal_only_and_can_be_turned_off(folder, option):
    upper, lower = pty.openpty()
    # a new terminal has no size, and so no room for a bar
    fcntl.ioctl(lower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    done = subprocess.run(
        [PROGRAM, "extract", "out.tar", "into"] + ([option] if option else []),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=lower,
        check=True,
    )
    os.set_blocking(upper, False)
    try:
        shown = os.read(upper, 4096)
    except BlockingIOError:
        shown = b""
    os.close(lower)
    os.close(upper)
    assert (b"files" in shown) == (option is None)
    assert (b"extracted 2" in done.stdout) == (option != "--quiet")
