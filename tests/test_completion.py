"""What bash, zsh and fish complete: real shells on a terminal, with the line that the documentation names."""

import os
import pty
import re
import select
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from tars import need_tool

import blobpack
from blobpack.cli.completion.names import glob_of, next_parts

INSTALL = {
    "bash": 'eval "$(_BLOBPACK_COMPLETE=bash_source blobpack)"',
    "zsh": 'eval "$(_BLOBPACK_COMPLETE=zsh_source blobpack)"',
    "fish": "_BLOBPACK_COMPLETE=fish_source blobpack | source",
}
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
# compinit comes with every zsh set-up that completes anything; fish --no-config has no completions of its own
PREPARE = {"bash": "", "zsh": "autoload -Uz compinit; compinit -u -D", "fish": ""}
NAMES = ["cats/1.jpg", "cats/a b, c.jpg", "cats/deep/2.jpg", "cows.jpg", "x:y.jpg"]
# what a shell would take for a part of the command
HOSTILE = [
    "evil';touch hacked;'.png",
    "hive=1/date=2024/x",
    "money$HOME`touch hacked`.png",
    'say "hi".png',
    "tilde/~x",
]
SECONDS_MAX = 60
# prints the words of a command line, as hex, because a terminal wraps and colours
SHOW = """
import os, sys
words = " ".join(os.fsencode(word).hex() or "-" for word in sys.argv[2:])
print(f"WORDS{sys.argv[1]}={words}=ENDS")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    blobpack.pack([(name, b"x") for name in NAMES], folder / "out.tar", all_files=True)
    blobpack.pack([(name, b"x") for name in HOSTILE], folder / "evil.tar", all_files=True)
    blobpack.pack(
        [(name, b"x") for name in NAMES], folder / "zzz.tar", all_files=True, index="none"
    )
    (folder / "show.py").write_text(SHOW)
    return folder


class Shell:
    """A shell on a terminal; `complete` types a line and a tab, and returns the words that the shell makes of it."""

    def __init__(self, name: str, folder: Path, **environment: str) -> None:
        self.name = name
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.chdir(folder)
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            home = {
                "HOME": str(folder),
                "XDG_CONFIG_HOME": str(folder),
                "XDG_DATA_HOME": str(folder),
            }
            changes = {"PATH": path, "TERM": "dumb", "LANG": "C.UTF-8", **home, **environment}
            os.execvpe(START[name][0], START[name], {**os.environ, **changes})
        self.seen = b""
        self.number = 0
        if PREPARE[name]:
            self.run(PREPARE[name])
        self.run(INSTALL[name])

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Read until the output matches, and return the match."""
        ends = time.monotonic() + SECONDS_MAX
        while not (found := re.search(pattern, self.seen.decode(errors="replace"), re.DOTALL)):
            ready, _, _ = select.select([self.fd], [], [], max(0, ends - time.monotonic()))
            assert ready, f"{pattern} does not come: {self.seen!r}"
            self.seen += os.read(self.fd, 1 << 16)
        self.seen = b""
        return found[1]

    def run(self, line: str) -> None:
        self.number += 1
        # in two pieces, so that the echo of what is typed does not match
        self.type(f"{line}; echo DO''NE{self.number}\r")
        self.wait_for(f"(DONE{self.number})")

    def complete(self, line: str) -> list[str]:
        """Type a line and a tab, and return the words that stand there then, the program's name excluded."""
        self.number += 1
        self.type(f"{line}\t")
        # the cursor goes to the start of the line (Ctrl-A), and another program gets the words
        self.type(f"\x01{shlex.quote(sys.executable)} show.py {self.number} \r")
        shown = self.wait_for(rf"WORDS{self.number}=(.*?)=ENDS")
        return [bytes.fromhex(word).decode() for word in shown.split()][1:]

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture(params=START, scope="module")
def shell(request, folder):
    need_tool(request.param)
    shell = Shell(request.param, folder)
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("blobpack cat out.tar ca", ["cat", "out.tar", "cats/"]),
        ("blobpack cat out.tar cow", ["cat", "out.tar", "cows.jpg"]),
        ("blobpack cat out.tar cats/d", ["cat", "out.tar", "cats/deep/"]),
        # blanks and commas
        ("blobpack cat out.tar cats/a", ["cat", "out.tar", "cats/a b, c.jpg"]),
        ("blobpack cat out.tar cows.jpg x", ["cat", "out.tar", "cows.jpg", "x:y.jpg"]),
        ("blobpack cat out.tar x:", ["cat", "out.tar", "x:y.jpg"]),
        ("blobpack cat out.t", ["cat", "out.tar"]),
        ("blobpack verify --index-fi", ["verify", "--index-file"]),
        ("blobpack pack --index side", ["pack", "--index", "sidecar"]),
        # what can't be completed stays as it is
        ("blobpack cat nothing.tar ca", ["cat", "nothing.tar", "ca"]),
        ("blobpack cat out.tar nothing", ["cat", "out.tar", "nothing"]),
    ],
)
def test_a_shell_completes(shell, line, words):
    assert shell.complete(line) == words


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("ev", HOSTILE[0]),
        ("'ev", HOSTILE[0]),
        ('"ev', HOSTILE[0]),
        ("mon", HOSTILE[2]),
        ("'mon", HOSTILE[2]),
        ('"mon', HOSTILE[2]),
        ("sa", HOSTILE[3]),
        ("'sa", HOSTILE[3]),
        ('"sa', HOSTILE[3]),
        ("hive=1/da", "hive=1/date=2024/"),
        ("hive", "hive=1/"),
        ("hive=1/date=2024/", HOSTILE[1]),
        ("tilde/", HOSTILE[4]),
    ],
)
def test_a_name_is_one_word_of_the_line_and_no_command(shell, folder, typed, name):
    words = shell.complete(f"blobpack cat evil.tar {typed}")
    assert words == ["cat", "evil.tar", name]
    assert not (folder / "hacked").exists()


def test_buckets_and_keys_in_s3(folder, bucket):
    """One shell is enough: what is completed comes from blobpack, and a colon is harmless for zsh and fish."""
    for key in ("train/a.tar", "train/b.tar", "other.tar"):
        blobpack.pack([("a", b"x")], f"s3://{bucket}/{key}", all_files=True)
    url = f"s3://{bucket}/"
    shell = Shell("bash", folder)
    try:
        assert shell.complete(f"blobpack ls {url[:-1]}") == ["ls", url]
        assert shell.complete(f"blobpack ls {url}tr") == ["ls", f"{url}train/"]
        assert shell.complete(f"blobpack ls --index-file={url}train/b") == [
            "ls",
            f"--index-file={url}train/b.tar",
        ]
        assert shell.complete(f"blobpack ls {url}nothing") == ["ls", f"{url}nothing"]
    finally:
        shell.close()


def test_names_are_cut_behind_the_next_slash():
    assert next_parts(NAMES, "") == ["cats/", "cows.jpg", "x:y.jpg"]
    assert next_parts(NAMES[:3], "cats/") == ["cats/1.jpg", "cats/a b, c.jpg", "cats/deep/"]


@pytest.mark.parametrize("prefix", ["", "a", "[a", "a*", "?", "]", "[!a]*?"])
def test_a_prefix_as_a_glob(prefix):
    index = blobpack.Index(
        [blobpack.Member(name, 0, 0) for name in (prefix, prefix + "x", "y" + prefix, "y")]
    )
    names = [name for name in index.names if name.startswith(prefix)]
    assert list(index.select(glob_of(prefix)).names) == names


@pytest.mark.parametrize("shell", INSTALL)
def test_the_documentation_names_the_line(shell):
    page = (Path(__file__).parent.parent / "docs" / "cli.md").read_text()
    # a backslash before the "|", as in a table, would be copied, too
    assert f"`{INSTALL[shell]}`" in page
