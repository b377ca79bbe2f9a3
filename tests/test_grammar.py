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
from blobpack.cli.groups import all_commands
from blobpack.cli.main import main

PROGRAM = str(Path(sys.executable).with_name("blobpack"))
COMMANDS = all_commands(main)
MANY = "takes blobs of any number, each with its own index"
NO_INDEX = "reads no index"
NO_BAR = "prints what it finds while it works"
NO_FILE = "writes no file"
NO_BLOB = "writes no blob"
NO_COLLECTION = "reads no collection"
# option → the commands without it, and why it makes no sense there; every other command has it
WITHOUT = {
    "--quiet": {},
    "--stats": {},
    "--json": {"cat": "its output is the payloads"},
    "--force": {
        "append": "changes a blob, and refuses every other file",
        "cat": NO_FILE,
        "cors": "keeps the rules of others",
        "encord export": "writes a new folder only",
        "encord register": NO_FILE,
        "extract": "replaces files of the members' names, of any kind",
        "info": NO_FILE,
        "ls": NO_FILE,
        "supervisely build": "writes a new folder only",
        "supervisely check": NO_FILE,
        "supervisely download": "replaces what an earlier download wrote, only",
        "supervisely upload": NO_FILE,
        "uploads": NO_FILE,
        "verify": NO_FILE,
        "serve": NO_FILE,
        "token": NO_FILE,
        "pixano serve": NO_FILE,
    },
    "--no-progress": {
        "cat": NO_BAR,
        "cors": NO_FILE,
        "export": "reads an index only",
        "gallery": "writes a small file",
        "info": "reads an index only",
        "ls": NO_BAR,
        "offsets": "reads an index only",
        "supervisely check": NO_BAR,
        "uploads": NO_BAR,
        "serve": "runs until it is ended",
        "token": "prints a line",
        "pixano serve": "runs until it is ended",
    },
    "--index-file": {
        "append": "changes the index where it is",
        "collect": MANY,
        "cors": NO_INDEX,
        "encord register": NO_INDEX,
        "gallery": "names the index that browsers find",
        "index": "makes the index",
        "merge": MANY,
        "pack": NO_INDEX,
        "repack": NO_INDEX,
        "supervisely check": "reads offsets files",
        "supervisely download": NO_INDEX,
        "supervisely upload": "reads offsets files",
        "uploads": NO_INDEX,
        "serve": MANY,
        "token": NO_INDEX,
        "pixano serve": MANY,
    },
    "--allow": {
        "append": "reads the blobs of a collection only by its index",
        "collect": "takes the blobs that are named",
        "cors": NO_COLLECTION,
        "encord register": NO_COLLECTION,
        "gallery": "reads no blob; browsers read only what lies beside the collection",
        "pack": NO_COLLECTION,
        "repack": NO_COLLECTION,
        "supervisely check": NO_COLLECTION,
        "supervisely download": NO_COLLECTION,
        "supervisely upload": NO_COLLECTION,
        "uploads": NO_COLLECTION,
        "token": NO_COLLECTION,
    },
    "--threads": {
        "cat": "fetches a batch, as many requests at a time as the store bears",
        "collect": "opens 16 blobs at a time, whose servers it waits for",
        "cors": "sends a request or two",
        "encord export": "reads an index only",
        "encord register": "sends one file after the other",
        "export": "reads an index only",
        "extract": "fetches batches, as many requests at a time as the store bears",
        "gallery": "reads an index only",
        "info": "reads an index only",
        "ls": "reads an index only",
        "merge": "copies ranges in the order of the new blob",
        "offsets": "reads an index only",
        "repack": "reads a stream",
        "subset": "copies ranges in the order of the new blob",
        "supervisely build": "writes small files",
        "supervisely check": "reads small files",
        "uploads": "lists a bucket page by page",
        "serve": "answers requests one by one",
        "token": "reads no blob",
        "pixano serve": "answers requests one by one",
    },
    # where the index of a new blob goes
    "--index": {
        "append": "leaves the index where it was",
        "cat": NO_FILE,
        "collect": NO_BLOB,
        "cors": NO_FILE,
        "encord export": NO_BLOB,
        "encord register": NO_FILE,
        "export": NO_BLOB,
        "extract": NO_BLOB,
        "gallery": NO_BLOB,
        "info": NO_FILE,
        "ls": NO_FILE,
        "offsets": NO_BLOB,
        "repack": "embeds the index",
        "supervisely build": NO_BLOB,
        "supervisely check": NO_FILE,
        "supervisely download": NO_BLOB,
        "supervisely upload": NO_FILE,
        "uploads": NO_FILE,
        "verify": NO_FILE,
        "serve": NO_FILE,
        "token": NO_FILE,
        "pixano serve": NO_FILE,
    },
}


def options(name: str) -> dict[str, click.Option]:
    return {
        flag: parameter
        for parameter in COMMANDS[name].params
        if isinstance(parameter, click.Option)
        for flag in parameter.opts
    }


def with_option(flag: str) -> set[str]:
    return {name for name in COMMANDS if flag in options(name)}


@pytest.mark.parametrize("flag", WITHOUT)
def test_a_command_has_an_option_or_a_reason(flag):
    assert with_option(flag) == set(COMMANDS) - set(WITHOUT[flag])


def test_index_is_where_the_index_is_written():
    for name in with_option("--index"):
        assert isinstance(options(name)["--index"].type, click.Choice)
        assert {"embed", "sidecar"} <= set(options(name)["--index"].type.choices)


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
        ("gallery out.tar", ""),
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


@pytest.mark.parametrize("name", COMMANDS)
def test_help_speaks_of_numbers_as_people_do(name):
    text = COMMANDS[name].get_help(click.Context(COMMANDS[name], info_name=name))
    assert "<=" not in text
    assert ">=" not in text
    assert "INTEGER" not in text
    assert str(2**63 - 1) not in text


def test_sizes_take_units_everywhere(folder):
    run(folder, "repack", "out.tar", "new.tar", "--max-member", "1Ki")
    _, err = run(folder, "repack", "out.tar", "other2.tar", "--max-member", "10", code=1)
    assert "--max-member 68 allows it" in err
    for name in ("--shard-size", "--max-member", "--min-size", "--max-size", "--cache-bytes"):
        kinds = {options(command)[name].type.name for command in with_option(name)}
        assert kinds == {"bytes"}
