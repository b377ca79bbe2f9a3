"""The index file of (b), a million members: write it, open it, look up names, and read an image in a new process."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from data import SEED, Sizes

import blobpack
from blobpack import Index

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Figure
    from data import DataSets

LOOKUPS = 100_000
OPENS = 100
ROUNDS = 15
# images in the blob that the new process opens
IMAGES = Sizes(1_000_000, 1_000_000, 1_000)

FIRST_IMAGE = """
import sys
import blobpack
blobpack.read_image(sys.argv[1], sys.argv[2])
"""
FIRST_PIXELS = """
import sys
import numpy
from PIL import Image
numpy.array(Image.open(sys.argv[1]).convert("RGB"))
"""


@pytest.fixture(scope="module")
def index(data: DataSets) -> Index:
    """Scan (b)."""
    return blobpack.scan(data.tar("b_gnu").path)


@pytest.fixture(scope="module")
def path(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save the index to a file."""
    path = tmp_path_factory.mktemp("stored") / "b.idx"
    index.save(path)
    return path


@pytest.fixture(scope="module")
def names(index: Index) -> list[str]:
    """Choose names to look up, as new strings: a dict finds the very object that is its key faster than an equal one."""
    return [str(name) for name in random.Random(SEED).choices(index.names, k=LOOKUPS)]


@pytest.fixture(scope="module")
def database(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save names and offsets to a table of SQLite."""
    path = tmp_path_factory.mktemp("sqlite") / "b.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE member (name TEXT PRIMARY KEY, start INT, end INT) WITHOUT ROWID"
        )
        connection.executemany(
            "INSERT OR REPLACE INTO member VALUES (?, ?, ?)",
            ((member.name, member.offset_start, member.offset_end) for member in index),
        )
    connection.close()
    return path


def bench_save(figure: Figure, index: Index, tmp_path: Path) -> None:
    """Write an index file."""
    figure.of("write an index file (b)", items=len(index), unit="member")
    figure.take(lambda: index.save(tmp_path / "o.idx"), rounds=5)


def bench_open(figure: Figure, path: Path) -> None:
    """Open an index file."""

    def open_often() -> None:
        for _ in range(OPENS):
            Index.load(path)

    figure.of("open an index (b)", items=OPENS, unit="open", to_reach=200)
    figure.take(open_often, rounds=ROUNDS)


def bench_open_sqlite(figure: Figure, database: Path) -> None:
    """Open the table in SQLite, and run one statement, because SQLite reads the file only then."""

    def open_often() -> None:
        for _ in range(OPENS):
            connection = sqlite3.connect(database)
            connection.execute("SELECT start, end FROM member WHERE name = ''").fetchone()
            connection.close()

    figure.of("open an index (b)", "SQLite", items=OPENS, unit="open")
    figure.take(open_often, rounds=ROUNDS)


def bench_lookup(figure: Figure, path: Path, names: list[str]) -> None:
    """Look up offsets by name in the mapped file."""
    # the function that bounds_of calls, so that no Python code of ours is in the figure
    locate = Index.load(path)._stored.locate

    def look_up_all() -> None:
        for name in names:
            locate(name)

    figure.of("look up a name in an index file (b)", items=LOOKUPS, unit="lookup", to_reach=0.3)
    figure.take(look_up_all, rounds=ROUNDS)


def bench_lookup_many(figure: Figure, path: Path, names: list[str]) -> None:
    """Look up all names with one call."""
    stored = Index.load(path)._stored
    figure.of("look up many names at once (b)", items=LOOKUPS, unit="lookup", to_reach=0.3)
    figure.take(lambda: stored.search(names), rounds=ROUNDS)


def bench_lookup_many_in_dict(figure: Figure, index: Index, names: list[str]) -> None:
    """Look up all names in a dict, with one map."""
    ranges = {member.name: (member.offset_start, member.offset_end) for member in index}
    figure.of("look up many names at once (b)", "dict", items=LOOKUPS, unit="lookup")
    figure.take(lambda: list(map(ranges.__getitem__, names)), rounds=ROUNDS)


def bench_lookup_in_dict(figure: Figure, index: Index, names: list[str]) -> None:
    """Look up names one by one in a dict, which took a second and 200 MB to make."""
    ranges = {member.name: (member.offset_start, member.offset_end) for member in index}
    get = ranges.__getitem__

    def look_up_all() -> None:
        for name in names:
            get(name)

    figure.of("look up a name in an index file (b)", "dict", items=LOOKUPS, unit="lookup")
    figure.take(look_up_all, rounds=ROUNDS)


def bench_lookup_in_sqlite(figure: Figure, database: Path, names: list[str]) -> None:
    """Look up names one by one in SQLite."""
    connection = sqlite3.connect(database)
    execute = connection.execute
    # ten thousand take a tenth of a second already
    few = names[:10_000]

    def look_up_all() -> None:
        for name in few:
            execute("SELECT start, end FROM member WHERE name = ?", (name,)).fetchone()

    figure.of("look up a name in an index file (b)", "SQLite", items=len(few), unit="lookup")
    figure.take(look_up_all, rounds=ROUNDS)
    connection.close()


@pytest.fixture(scope="module")
def blob(data: DataSets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack a blob of small images with its index inside, and write one of them to a file."""
    from io import BytesIO

    from PIL import Image

    image = BytesIO()
    Image.new("RGB", (64, 48), (9, 99, 199)).save(image, "JPEG")
    folder = tmp_path_factory.mktemp("first")
    (folder / "one.jpg").write_bytes(image.getvalue())
    payloads = ((f"train/{i:07d}.jpg", image.getvalue()) for i in range(data.count(IMAGES)))
    blobpack.pack(payloads, folder / "out.tar")
    return folder / "out.tar"


def bench_first_image(figure: Figure, data: DataSets, blob: Path) -> None:
    """Start Python, open the blob, and read one image from its middle."""
    name = f"train/{data.count(IMAGES) // 2:07d}.jpg"
    command = [sys.executable, "-c", FIRST_IMAGE, blob, name]
    figure.of("first image of a process", items=1, unit="process", to_reach=250_000)
    figure.take(lambda: subprocess.run(command, check=True), rounds=ROUNDS)


def bench_first_image_of_a_file(figure: Figure, blob: Path) -> None:
    """Start Python, and read that image from a file of its own with Pillow and NumPy."""
    command = [sys.executable, "-c", FIRST_PIXELS, blob.with_name("one.jpg")]
    figure.of("first image of a process", "Pillow, a file", items=1, unit="process")
    figure.take(lambda: subprocess.run(command, check=True), rounds=ROUNDS)
