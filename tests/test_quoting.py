"""Names with control characters are quoted as GNU ls quotes them, on terminals, in reports and in messages."""

import json
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from click.testing import CliRunner
from hypothesis import given, settings, strategies as st

import blobpack
from blobpack import BlobpackError
from blobpack.cli.main import main
from blobpack.quoting import printable, quoted, url_below

COMMAND = Path(sys.executable).with_name("blobpack")
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HOSTILE = ["\x1b]0;owned\x07", "a\nb.jpg: all is well", "a\rb", "\x9b31m", "\u202egpj.exe", "\x7f"]
# legal in the name of a file
names = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40)
ascii_names = st.text([chr(c) for c in range(1, 127) if chr(c) != "/"], min_size=1, max_size=20)


@given(names)
@settings(max_examples=60)
def test_a_shell_reads_a_quoted_name_back(name):
    shown = quoted(name)
    assert shown.isprintable()
    script = f"printf %s {shown}"
    read = subprocess.run(
        ["bash", "-c", script], capture_output=True, env={"LC_ALL": "C.UTF-8"}, check=True
    )
    assert read.stdout == os.fsencode(name)


@given(st.lists(ascii_names.filter(lambda name: len(name.encode()) < 200), min_size=1, max_size=30))
@settings(max_examples=20)
def test_names_are_quoted_as_gnu_ls_does(tmp_path_factory, some):
    folder = tmp_path_factory.mktemp("names")
    some = {name for name in some if name not in (".", "..")}
    # with an escape and a single quote, GNU ls leaves out a pair of quotes that changes nothing
    some = {name for name in some if "'" not in name or name.isprintable()}
    for name in some:
        (folder / name).touch()
    listed = subprocess.run(
        ["ls", "-A", "-1", "--quoting-style=shell-escape", "--sort=none"],
        capture_output=True,
        cwd=folder,
        env={"LC_ALL": "C.UTF-8"},
        text=True,
        check=True,
    )
    # split at line ends that stand for themselves: there are no others in quoted names
    assert sorted(listed.stdout.splitlines()) == sorted(map(quoted, some))


def test_bytes_that_are_no_text_are_octal():
    assert quoted(os.fsdecode(b"a\xff.jpg")) == "'a'$'\\377''.jpg'"
    assert quoted("") == "''"
    assert quoted("a/ü.jpg") == "a/ü.jpg"


def test_a_text_for_a_terminal_keeps_its_lines_and_escapes_the_rest():
    every = "".join(map(chr, range(0x3000)))
    shown = printable(every)
    assert [each for each in shown if unicodedata.category(each) in ("Cc", "Zl", "Zp")] == [
        "\t",
        "\n",
    ]
    assert not set(BIDI) & set(shown)
    assert printable(shown) == shown


@pytest.fixture
def hostile(tmp_path):
    payloads = [(name, b"\xff\xd8\xff" + bytes(20)) for name in [*HOSTILE, "plain.jpg"]]
    blobpack.pack(payloads, tmp_path / "h.tar")
    return tmp_path


def on_a_terminal(*arguments, cwd):
    """What a command writes to a terminal."""
    ours, terminal = pty.openpty()
    with subprocess.Popen(
        [COMMAND, *arguments], stdin=terminal, stdout=terminal, stderr=terminal, cwd=cwd
    ) as command:
        os.close(terminal)
        came = b""
        # reading fails when nobody has the terminal open any more
        try:
            while data := os.read(ours, 65536):
                came += data
        except OSError:
            pass
        os.close(ours)
    return command.returncode, came.decode("utf-8", "surrogateescape").replace("\r\n", "\n")


def test_ls_quotes_names_on_a_terminal(hostile):
    code, came = on_a_terminal("ls", "h.tar", cwd=hostile)
    assert (code, came.splitlines()) == (0, [*map(quoted, HOSTILE), "plain.jpg"])
    code, came = on_a_terminal("ls", "-l", "h.tar", cwd=hostile)
    lines = came.split("\n")[:-1]
    start = lines[-1].index("plain.jpg")
    assert [line[start:] for line in lines] == [*map(quoted, HOSTILE), "plain.jpg"]
    # for programs: NUL and JSON are unambiguous
    _, came = on_a_terminal("ls", "--json", "h.tar", cwd=hostile)
    assert [json.loads(line)["name"] for line in came.splitlines()] == [*HOSTILE, "plain.jpg"]


def test_ls_writes_names_as_they_are_to_a_pipe(hostile):
    for end, options in (("\n", []), ("\0", ["--null"])):
        done = subprocess.run(
            [COMMAND, "ls", "h.tar", *options], capture_output=True, cwd=hostile, check=True
        )
        assert done.stdout.decode() == "".join(f"{name}{end}" for name in [*HOSTILE, "plain.jpg"])


@pytest.mark.parametrize("name", HOSTILE)
def test_reports_and_messages_hold_no_controls(tmp_path, name, monkeypatch):
    """Each command that names members or files, in its report or in its error, with one that is hostile."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imgs").mkdir()
    picture = b"\xff\xd8\xff" + bytes(20)
    (tmp_path / "imgs" / name).write_bytes(picture)
    (tmp_path / "imgs/note").write_bytes(b"")
    blobpack.pack(tmp_path / "imgs", tmp_path / "a.tar")
    (tmp_path / "imgs" / f"{name}.txt").write_bytes(b"")
    (tmp_path / name).write_bytes(b"note")
    damaged = bytearray((tmp_path / "a.tar").read_bytes())
    position = damaged.index(picture)
    damaged[position + 5] ^= 1
    (tmp_path / "bad.tar").write_bytes(damaged)
    os.symlink("nowhere", tmp_path / "imgs" / f"{name}.jpg")
    blobpack.collect([tmp_path / "a.tar"], tmp_path / "c.idx")
    for code, *arguments in [
        (0, "pack", "imgs", "new.tar"),
        (1, "pack", "imgs", "new.tar", "--follow-symlinks"),
        (1, "pack", "imgs", name),
        (1, "verify", "bad.tar"),
        (1, "merge", "a.tar", "bad.tar", "new.tar"),
        (1, "collect", "a.tar", "bad.tar", "-o", "new.idx"),
        (1, "append", "a.tar", "imgs"),
        (1, "cat", "a.tar", f"{name}.gif"),
        (1, "cat", "bad.tar", name),
        (1, "cat", "c.idx", f"{name}.gif"),
        (2, "extract", "a.tar", name),
        (1, "ls", f"missing {name}"),
        (1, "ls", name),
        (1, "info", f"missing {name}"),
        (1, "index", f"missing {name}"),
        (2, "ls", "a.tar", "--regex", f"({name}"),
        (2, "pack", "imgs", f"{name}.zip"),
        (2, "pack", f"missing {name}", "new.tar"),
        (0, "offsets", "a.tar", "-o", f"new {name}"),
        (0, "index", "a.tar", "-o", f"index {name}"),
    ]:
        ran = CliRunner().invoke(main, arguments)
        assert (ran.exit_code, arguments) == (code, arguments), ran.output
        said = ran.stderr if arguments[0] == "cat" else ran.output
        assert all(each == "\n" or each.isprintable() for each in said), said
        # a usage error repeats what was typed; nothing else begins a line with what a name says
        if code != 2:
            assert "\nb.jpg" not in said


def test_errors_of_the_library_name_members_on_one_line(tmp_path):
    name = "a\nb\x1b"
    blobpack.pack([(name, b"\xff\xd8\xff")], tmp_path / "a.tar")
    with pytest.raises(BlobpackError) as raised:
        blobpack.merge([tmp_path / "a.tar", tmp_path / "a.tar"], tmp_path / "b.tar")
    assert str(raised.value).isprintable()


@given(st.binary(min_size=1, max_size=40))
@settings(max_examples=60)
def test_a_name_of_any_bytes_comes_back_from_its_url(name):
    url = url_below("https://host/b/out/", os.fsdecode(name))
    assert not any(character.isspace() for character in url)
    assert unquote_to_bytes(url.removeprefix("https://host/b/out/")) == name
