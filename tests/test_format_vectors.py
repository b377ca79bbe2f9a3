"""The vectors of tests/data/format/, which three readers must answer alike: blobpack, the plain reader, and blobpack.js."""

from __future__ import annotations

import filecmp
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import format_vectors
import plain_reader
import pytest
from format_vectors import FOLDER, LISTED_ROWS_MAX
from js_reader import PageRunner, Runner, chromium, node, put_page
from plain_reader import DamagedError, PlainIndex
from webserver import WebServer

import blobpack
from blobpack.columns import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

__all__ = ["chromium", "node"]

VECTORS = json.loads((FOLDER / "vectors.json").read_text())["vectors"]
SOUND = [vector for vector in VECTORS if "error" not in vector]
WRONG = [vector for vector in VECTORS if "error" in vector]
# what a reader raises that finds the index alone, without looking for other files
INDEX_ERRORS = ("ChecksumError", "FormatError")


def by_file(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", vectors, ids=[vector["file"] for vector in vectors])


def line(name: bytes, *fields: object) -> bytes:
    return (
        "\t".join(
            [name.hex(), *("-" if value is None else str(value) for value in fields)]
        ).encode()
        + b"\n"
    )


def test_the_folder_is_what_the_script_makes(tmp_path: Path) -> None:
    """If the writer changes on purpose: python tests/format_vectors.py makes the folder again."""
    format_vectors.make(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    kept = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*") if path.is_file())
    assert kept == sorted([*made, Path("README.md")])
    assert [
        path for path in made if not filecmp.cmp(tmp_path / path, FOLDER / path, shallow=False)
    ] == []


def test_the_readme_names_each_field() -> None:
    text = (FOLDER / "README.md").read_text()
    for name in {name for vector in VECTORS for name in vector}:
        assert f"`{name}`" in text


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("vectors")
    put_page(folder)
    (folder / "format").symlink_to(FOLDER)
    with WebServer(folder) as server:
        yield server


# blobpack


@by_file(SOUND)
def test_blobpack_reads_what_is_sound(vector: dict[str, Any]) -> None:
    with blobpack.open(FOLDER / vector["file"]) as opened:
        index = opened.index
        assert (len(index), sorted(index.facts)) == (vector["members"], vector["facts"])
        assert format_vectors.rows_hash(index) == vector["rows_sha256"]
        assert [index.row_of(name) for name in vector["found"]] == list(vector["found"].values())
        assert not any(name in index for name in vector["absent"])
        if "payloads_sha256" in vector:
            assert format_vectors.payload_hashes(opened) == vector["payloads_sha256"]


@pytest.mark.parametrize("place", ["local", "http"])
@by_file(WRONG)
def test_blobpack_refuses_what_is_wrong(vector: dict[str, Any], place: str, web: WebServer) -> None:
    # blobpack does not look at the guide of a local index, and compares local payloads only in `verify`
    if place == "local" and vector["file"] in ("damaged/guide.tar", "damaged/payload.tar"):
        return
    url = f"{web.url}format/{vector['file']}" if place == "http" else str(FOLDER / vector["file"])
    if "needs" in vector:
        with blobpack.open(url) as opened:
            assert list(opened.index)
        return
    with pytest.raises(getattr(blobpack, vector["error"])), blobpack.open(url) as opened:
        list(opened.index)
        for name in opened.index.names:
            opened.index.row_of(name)
        list(opened.read_many(opened.index))


# The plain reader


@by_file(SOUND)
def test_the_plain_reader_reads_what_is_sound(vector: dict[str, Any]) -> None:
    path = FOLDER / vector["file"]
    content = path.read_bytes()
    index = PlainIndex(
        content if content.endswith(plain_reader.MAGIC) else Path(f"{path}.idx").read_bytes()
    )
    lines = hashlib.sha256()
    for member in index.members():
        facts = {fact: member.facts.get(fact) for fact in plain_reader.FACTS}
        kind = MEDIA_TYPES[facts["media_type"] or 0] or None
        sizes = (facts["width"] or None, facts["height"] or None)
        lines.update(
            line(member.name, *member[1:3], kind, *sizes, facts["crc32c"], facts["mtime"] or None)
        )
    assert lines.hexdigest() == vector["rows_sha256"]
    finds = [index.find_by_lookup] + [index.find_by_guide] * bool(index.guide_bytes)
    for find in finds:
        for name, row in vector["found"].items():
            assert find(name.encode("utf-8", "surrogateescape")) == row
        for name in vector["absent"]:
            assert find(name.encode("utf-8", "surrogateescape")) is None
    if "payloads_sha256" in vector:
        hashes = [
            hashlib.sha256(plain_payload(path, content, index, row)).hexdigest()
            for row in range(index.row_count)
        ]
        assert hashes == vector["payloads_sha256"]


def plain_payload(path: Path, content: bytes, index: PlainIndex, row: int) -> bytes:
    member = index.block(row // 1024)[row % 1024]
    if index.blobs_bytes:
        name = index.blob_columns()["name"][index.blob_of(row)]
        assert isinstance(name, bytes)
        content = path.with_name(name.decode()).read_bytes()
    payload = content[member.offset_start : member.offset_end]
    assert len(payload) == member.offset_end - member.offset_start
    assert plain_reader.crc32c(payload) == member.facts.get("crc32c", plain_reader.crc32c(payload))
    return payload


@by_file([vector for vector in WRONG if vector["error"] in INDEX_ERRORS and "needs" not in vector])
def test_the_plain_reader_refuses_what_is_wrong(vector: dict[str, Any]) -> None:
    content = (FOLDER / vector["file"]).read_bytes()
    if not content.endswith(plain_reader.MAGIC):
        with pytest.raises((DamagedError, IndexError, plain_reader.struct.error)):
            PlainIndex(content)
        return
    # it reads the index of one blob as well as a collection
    if vector["file"] == "damaged/index.idx":
        assert not PlainIndex(content).blobs_bytes
        return
    with pytest.raises((DamagedError, AssertionError, ValueError)):
        index = PlainIndex(content)
        for member in index.members():
            plain_reader.expect(member.offset_end <= index.last_end, "last_end")
            assert index.find_by_lookup(member.name) is not None
        if index.blobs_bytes:
            index.blob_columns()
        for row in range(index.row_count):
            plain_payload(FOLDER / vector["file"], content, index, row)


# blobpack.js


@pytest.fixture(scope="module")
def page(chromium: Browser, web: WebServer) -> Iterator[PageRunner]:
    opened = chromium.new_page()
    runner = PageRunner(opened)
    opened.goto(web.url)
    yield runner
    opened.close()


@pytest.fixture(params=["node", "page"])
def runner(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@by_file(SOUND)
def test_blobpack_js_reads_what_is_sound(
    runner: Runner, web: WebServer, vector: dict[str, Any]
) -> None:
    count, globs = vector["members"], vector["globs"]
    calls: list[list[Any]] = [["rows", 0, count]]
    calls += [["find", name] for name in (*vector["found"], *vector["absent"])]
    calls += [["select", glob] for glob in globs]
    calls += [["readMany", list(range(count))]] if "payloads_sha256" in vector else []
    answer = runner.run({"url": f"{web.url}format/{vector['file']}", "calls": calls})
    assert "error" not in answer, answer
    snake = {"mediaType": "media_type"}
    assert sorted(snake.get(fact, fact) for fact in answer["opened"]["facts"]) == vector["facts"]
    values = iter([one["value"] for one in answer["answers"]])
    rows = next(values)
    lines = hashlib.sha256()
    for row, member in enumerate(rows):
        assert member["row"] == row
        assert member["size"] == member["offsetEnd"] - member["offsetStart"]
        fields = ("offsetStart", "offsetEnd", "mediaType", "width", "height", "crc32c", "mtime")
        name = member["name"].encode("utf-8", "surrogateescape")
        lines.update(line(name, *(member[field] for field in fields)))
    assert lines.hexdigest() == vector["rows_sha256"]
    for row in vector["found"].values():
        assert next(values) == rows[row]
    assert [next(values) for _ in vector["absent"]] == [None] * len(vector["absent"])
    for total, first in globs.values():
        names = next(values)
        assert (len(names), names[:LISTED_ROWS_MAX]) == (
            total,
            [rows[row]["name"] for row in first],
        )
    if "payloads_sha256" in vector:
        payloads = [bytes.fromhex(payload) for _, payload in next(values)]
        assert [hashlib.sha256(payload).hexdigest() for payload in payloads] == vector[
            "payloads_sha256"
        ]


@by_file(WRONG)
def test_blobpack_js_refuses_what_is_wrong(
    runner: Runner, web: WebServer, vector: dict[str, Any]
) -> None:
    url = f"{web.url}format/{vector['file']}"
    calls: list[list[Any]] = [
        ["rows", 0],
        ["find", "cats/0001.png"],
        ["find", "0341"],
        ["read", 0],
        ["read", -1],
    ]
    answer = runner.run({"url": url, "calls": calls, "options": {"retries": 0}})
    opened = answer.get("opened")
    # before any memory is taken for rows that are not there
    assert not (opened and vector["file"] in ("damaged/row_count.tar", "damaged/outside.tar"))
    if opened and opened["length"]:
        calls[4:] = [["read", row] for row in range(min(3, opened["length"]))]
        answer = runner.run({"url": url, "calls": calls, "options": {"retries": 0}})
    errors = [answer] if "error" in answer else [one for one in answer["answers"] if "error" in one]
    assert errors, answer
    assert errors[0]["error"] == vector["error"], errors
    assert errors[0]["message"].startswith(f"{web.url}format/damaged/")
