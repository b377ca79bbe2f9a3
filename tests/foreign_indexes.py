"""Samples of indexes that other programs wrote, and indexes of the same shapes with chosen numbers."""

from __future__ import annotations

import json
import sqlite3
import struct
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data" / "foreign"
TAR = FOLDER / "samples.tar"
# format → the file that its program wrote about TAR; tests/data/README.md names the programs
SAMPLES = {
    "dali": FOLDER / "dali.idx",
    "energon": FOLDER / "samples.tar.idx",
    "energon-sqlite": FOLDER / ".nv-meta" / "index.sqlite",
    "hfutils": FOLDER / "hfutils.json",
    "ratarmount": FOLDER / "ratarmount.sqlite",
    "wids": FOLDER / "wids.json",
}
FORMATS = [*SAMPLES, "kerchunk", "supervisely"]

Row = tuple[str, Any, Any]


def rows_of(tar: Path) -> dict[str, tuple[int, int]]:
    """Return name → start and end of each file in a tar, as tarfile finds them."""
    with tarfile.open(tar) as file:
        return {
            each.name: (each.offset_data, each.offset_data + each.size)
            for each in file
            if each.isreg()
        }


def dali(rows: list[Row], version: str = "v1.2") -> bytes:
    lines = []
    for name, start, size in rows:
        words = [name.rpartition(".")[2], start, size, *([name] if version == "v1.2" else [])]
        lines.append(" ".join(map(str, words)))
    return "\n".join([f"{version} {len(lines)}", *lines, ""]).encode()


def hfutils(rows: list[Row], filesize: object = None) -> bytes:
    size = TAR.stat().st_size if filesize is None else filesize
    files = {name: {"offset": start, "size": size} for name, start, size in rows}
    return json.dumps({"filesize": size, "files": files}).encode()


def kerchunk(rows: list[Row], url: str = "samples.tar") -> bytes:
    refs = {name: [url, start, size] for name, start, size in rows}
    return json.dumps({"version": 1, "refs": refs}).encode()


def energon(offsets: list[int]) -> bytes:
    return struct.pack(f"<{len(offsets)}Q", *offsets)


def database(*statements: str, **tables: list[tuple[Any, ...]]) -> bytes:
    """Return a SQLite file made by statements, with rows in tables."""
    with closing(sqlite3.connect(":memory:")) as made:
        for statement in statements:
            made.execute(statement)
        for table, rows in tables.items():
            for row in rows:
                made.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        made.commit()
        return made.serialize()


FILES = "CREATE TABLE files (path, name, offset, size, mode, linkname, issparse)"
METADATA = "CREATE TABLE metadata (key, value)"


def ratarmount(rows: list[Row], tar_bytes: object = None) -> bytes:
    files = [
        (f"/{name}".rpartition("/")[0], name.rpartition("/")[2], start, size, 0o100644, "", 0)
        for name, start, size in rows
    ]
    stats = [] if tar_bytes is None else [("tarstats", json.dumps({"st_size": tar_bytes}))]
    return database(FILES, METADATA, files=files, metadata=stats)


def energon_database(rows: list[Row]) -> bytes:
    samples = "CREATE TABLE samples (tar_file_id, sample_key, sample_index, byte_offset, byte_size)"
    parts = (
        "CREATE TABLE sample_parts (tar_file_id, sample_index, part_name, content_byte_offset, "
        "content_byte_size)"
    )
    stems = [(0, name.partition(".")[0], place, 0, 512) for place, (name, _, _) in enumerate(rows)]
    return database(
        samples,
        parts,
        samples=stems,
        sample_parts=[
            (0, place, name.partition(".")[2], start, size)
            for place, (name, start, size) in enumerate(rows)
        ],
    )


# formats with a name, an offset and a size for each member → makes one of rows
WITH_ROWS = {
    "dali": dali,
    "energon-sqlite": energon_database,
    "hfutils": hfutils,
    "kerchunk": kerchunk,
    "ratarmount": ratarmount,
}
