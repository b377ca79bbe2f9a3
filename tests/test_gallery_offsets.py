"""The offsets file that the gallery writes in JavaScript is, byte for byte, blobpack's; and its quoting is the shell's and Python's."""

from __future__ import annotations

import ast
import base64
import json
import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from js_reader import MODULE, node_path

import blobpack
from blobpack import Index, Member

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import { offsetsFile } from "./gallery_offsets.mjs";
import * as snippets from "./gallery_snippets.mjs";
let text = "";
for await (const piece of process.stdin) text += piece;
const { files = [], calls = [] } = JSON.parse(text);
const base64 = (parts) => Buffer.concat(parts).toString("base64");
const members = (rows) => rows.map(([name, offsetStart, offsetEnd]) => ({ name, offsetStart, offsetEnd }));
process.stdout.write(JSON.stringify({
  files: files.map((rows) => base64(offsetsFile(members(rows)))),
  values: calls.map(([name, ...args]) => snippets[name](...args)),
}));
"""
NAMES = [
    "",
    "a",
    "é",
    "ÿ",
    "Ā",
    "\udcff",
    "a\udc80b",
    "🦊",
    "n" * 255,
    "n" * 256,
    "é" * 200,
    "\n",
    "x/y.jpg",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("node")
    for name in ("gallery_offsets", "gallery_snippets"):
        shutil.copy(MODULE.with_name(f"{name}.js"), path / f"{name}.mjs")
    (path / "run.mjs").write_text(SCRIPT)
    return path


def run(folder: Path, **job: Any) -> dict[str, Any]:
    done = subprocess.run(
        [node_path(), "run.mjs"],
        input=json.dumps(job),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows_of(count: int, seed: int) -> list[tuple[str, int, int]]:
    """Rows of names that are odd, long, equal or of one character, and of offsets of every width."""
    generator = random.Random(seed)
    rows = []
    for i in range(count):
        start = generator.randrange(1 << generator.randrange(1, 52))
        name = generator.choice([*NAMES, f"{i:07}.png", chr(generator.randrange(32, 400))])
        rows.append((name, start, start + generator.randrange(1 << 20)))
    return rows


def test_offsets_files_are_those_of_blobpack(folder, tmp_path):
    counts = (0, 1, 2, 13, 999, 1000, 1001, 2500, 10_000, 20_001)
    files = [rows_of(count, seed) for seed, count in enumerate(counts)]
    files.append(
        [
            ("a", 255, 256),
            ("b", 65535, 65536),
            ("c", (1 << 31) - 1, 1 << 31),
            ("d", (1 << 39) - 1, 1 << 39),
        ]
    )
    written = run(folder, files=files)["files"]
    for rows, found in zip(files, written, strict=True):
        path = tmp_path / "expected.pkl"
        blobpack.write_offsets(Index([Member(*row) for row in rows]), path)
        assert base64.b64decode(found) == path.read_bytes(), len(rows)
        (tmp_path / "found.pkl").write_bytes(base64.b64decode(found))
        assert len(blobpack.read_offsets(tmp_path / "found.pkl")) == len(rows)


ODD = [
    *NAMES[1:],
    "'",
    '"',
    "it's",
    "$(x) `y` \\ !",
    "-rf",
    "=ls",
    "a b",
    "*?[x]",
    "\x1b[31m",
    "tab\t",
    "\u202e",
    "\\x41",
    "\\n",
]


def test_shell_words_and_python_literals_are_quoted_right(folder):
    calls = [*(("shellQuoted", name) for name in ODD), *(("pythonQuoted", name) for name in ODD)]
    values = run(folder, calls=calls)["values"]
    words, literals = values[: len(ODD)], values[len(ODD) :]
    for name, word, literal in zip(ODD, words, literals, strict=True):
        done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
        assert done.stdout == os.fsencode(name), word
        # as the first character of a word, zsh replaces it; no other test needs zsh
        assert not word.startswith("=")
        assert ast.literal_eval(literal) == name
        # what is copied has no hidden characters
        assert all(char.isprintable() for char in word + literal)


@pytest.mark.parametrize("name", ["--ca-bundle=a b", "-x", "cats/-o 'x'", "=ls"])
def test_a_name_is_no_option_of_a_command(folder, name):
    member = {"name": name, "offsetStart": 512, "offsetEnd": 600}
    blob = {"url": "https://photos.s3.amazonaws.com/out.tar", "s3": "", "endpoint": ""}
    (found,) = run(folder, calls=[("snippetsOf", member, blob)])["values"]
    # the words that a shell makes of the command, in place of running it
    code = dict(found)["S3"].replace("aws s3api", "printf '%s\\0'", 1)
    done = subprocess.run(["bash", "-c", code], capture_output=True, check=True, text=True)
    *_, file, _ = done.stdout.split("\0")
    assert (
        file == ("./" if name.rpartition("/")[2].startswith("-") else "") + name.rpartition("/")[2]
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "https://photos.s3.eu-west-1.amazonaws.com/a%20b/out.tar",
            "--bucket photos --key 'a b/out.tar'",
        ),
        ("https://my.photos.s3.amazonaws.com/out.tar", "--bucket my.photos --key out.tar"),
        ("https://s3.us-east-2.amazonaws.com/photos/a/out.tar", "--bucket photos --key a/out.tar"),
        ("https://photos.s3.amazonaws.com/%23.tar", "--bucket photos --key '#.tar'"),
        ("https://example.org/out.tar", None),
        ("https://s3.amazonaws.com.example.org/photos/out.tar", None),
    ],
)
def test_a_url_of_aws_tells_bucket_and_key(folder, url, expected):
    member = {"name": "a.jpg", "offsetStart": 512, "offsetEnd": 600}
    (found,) = run(folder, calls=[("snippetsOf", member, {"url": url, "s3": "", "endpoint": ""})])[
        "values"
    ]
    code = dict(found).get("S3")
    assert (code is None) == (expected is None)
    assert expected is None or expected in code


def test_names_stand_in_the_command_or_in_a_file(folder):
    blob = {"url": "https://example.org/out.tar", "s3": "", "endpoint": ""}
    calls = [("subsetOfNames", names, blob) for names in (["a.jpg", "b c.jpg"], [])]
    few, many = run(folder, calls=calls)["values"]
    command = "blobpack subset https://example.org/out.tar subset.tar \\\n  --names-from"
    assert few == f"printf '%s\\n' a.jpg 'b c.jpg' |\n  {command} -"
    assert many == f"{command} names.txt"
