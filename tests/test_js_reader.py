"""The reader in JavaScript, in Node, against a real web server: what it reads, which requests it sends, and what it refuses."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
from js_reader import Node, node
from webserver import WebServer

import blobpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["node"]

PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452") + bytes(17)
COUNT = 3000


def payloads(count: int = COUNT) -> list[tuple[str, bytes]]:
    generator = random.Random(7)
    return [
        (f"cats/{i:05d}.png", PNG + generator.randbytes(generator.randrange(0, 4000)))
        for i in range(count)
    ]


PAYLOADS = payloads()


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with blobs of the same members: with the index inside, beside, in any order, and as a collection."""
    folder = tmp_path_factory.mktemp("blobs")
    shuffled = random.Random(1).sample(PAYLOADS, COUNT)
    blobpack.pack(PAYLOADS, folder / "inside.tar")
    blobpack.pack(PAYLOADS, folder / "beside.tar", index="sidecar")
    blobpack.pack(shuffled, folder / "shuffled.tar")
    blobpack.pack(PAYLOADS[:10], folder / "bare.tar", index="none")
    blobpack.pack(PAYLOADS[:10], folder / "compressed.tar.zst", level=3)
    blobpack.pack_shards(PAYLOADS, folder / "shards", 2 << 20)
    return folder


@pytest.fixture(scope="module")
def server(blobs: Path) -> Iterator[WebServer]:
    with WebServer(blobs) as server:
        yield server


@pytest.fixture
def web(server: WebServer) -> WebServer:
    """The server of the blobs, as new."""
    server.forget()
    return server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[WebServer]:
    """A server of an empty folder."""
    with WebServer(tmp_path) as server:
        yield server


def ask(node: Node, url: str, *calls: list[Any], **options: Any) -> list[Any]:
    """Open a blob, and return the answers to calls: values, or errors as dicts."""
    answer = node.run({"url": url, "calls": calls, "options": {"retries": 2} | options})
    assert "error" not in answer, answer
    return [one.get("value", one) for one in answer["answers"]]


def error(node: Node, url: str, *calls: list[Any], **options: Any) -> tuple[str, str]:
    """Return the name and message of the error of opening a blob, or of the last call."""
    answer = node.run({"url": url, "calls": calls, "options": {"retries": 2} | options})
    failed = answer if "error" in answer else answer["answers"][-1]
    return failed["error"], failed["message"]


# Reading


@pytest.mark.parametrize("name", ["inside.tar", "beside.tar", "shuffled.tar", "shards/"])
def test_members_and_payloads_are_those_that_were_packed(
    node: Node, web: WebServer, blobs: Path, name: str
) -> None:
    wanted = random.Random(2).sample(PAYLOADS, 20)
    with blobpack.open(blobs / name) as opened:
        index = opened.index
        found = ask(
            node,
            web.url + name,
            ["get", "length"],
            *(["find", member] for member, _ in wanted),
            *(["read", member] for member, _ in wanted),
        )
        assert found[0] == COUNT
        for (member, payload), facts, read in zip(wanted, found[1:21], found[21:], strict=True):
            expected = index[member]
            assert bytes.fromhex(read) == payload
            assert (facts["name"], facts["row"]) == (member, index.row_of(member))
            assert facts["offsetStart"] == expected.offset_start
            assert facts["offsetEnd"] == expected.offset_end
            assert facts["size"] == expected.size == len(payload)
            assert facts["mediaType"] == expected.media_type == "image/png"
            assert facts["crc32c"] == expected.crc32c
            assert (facts["width"], facts["mtime"]) == (expected.width, expected.mtime)
            assert facts["blob"].startswith(web.url)


def test_rows_are_cut_as_slices_are(node: Node, web: WebServer) -> None:
    bounds = [
        (0, 3),
        (1022, 1026),
        (-2, None),
        (5, 2),
        (0, 0),
        (2990, 5000),
        (-5000, 1),
        (COUNT, COUNT),
    ]
    found = ask(
        node,
        f"{web.url}inside.tar",
        *(["rows", a, *([b] if b is not None else [])] for a, b in bounds),
    )
    for (a, b), members in zip(bounds, found, strict=True):
        assert [member["name"] for member in members] == [name for name, _ in PAYLOADS[a:b]]


def test_a_member_is_named_by_its_name_its_row_or_itself(node: Node, web: WebServer) -> None:
    url = f"{web.url}inside.tar"
    (member,) = ask(node, url, ["find", "cats/00017.png"])
    assert (
        ask(node, url, ["read", member], ["read", 17], ["read", "cats/00017.png"])
        == [PAYLOADS[17][1].hex()] * 3
    )


def test_of_equal_names_the_last_one_is_found(node: Node, own: WebServer) -> None:
    for number in range(3):
        members = [("label.txt", b"%d" % number), (f"{number}.bin", b"x")]
        blobpack.pack(members, own.folder / f"{number}.tar", all_files=True)
    blobpack.collect(own.folder, duplicates="last")
    assert ask(node, own.url, ["get", "length"], ["read", "label.txt"]) == [6, b"2".hex()]


def test_what_is_not_there(node: Node, web: WebServer) -> None:
    url = f"{web.url}shuffled.tar"
    assert (
        ask(node, url, ["find", "nope"], ["find", ""], ["find", "\udc80"], ["find", "\ud800"])
        == [None] * 4
    )
    assert error(node, url, ["read", "nope"])[0] == "MemberNotFoundError"
    assert error(node, url, ["read", COUNT])[0] == "RangeError"
    assert error(node, url, ["readMany", [-1]])[0] == "RangeError"
    assert error(node, url, ["find", 5])[0] == "TypeError"
    assert error(node, url, ["select", "*", {"mediaType": "image/none"}])[0] == "TypeError"


def test_a_member_of_another_blob_is_refused(node: Node, web: WebServer) -> None:
    (member,) = ask(node, f"{web.url}inside.tar", ["find", "cats/00017.png"])
    name, message = error(node, f"{web.url}shuffled.tar", ["read", member])
    assert name == "MemberNotFoundError"
    assert '"cats/00017.png" is a member of another blob' in message


def test_a_condition_on_a_fact_that_the_index_lacks(node: Node, own: WebServer) -> None:
    blobpack.pack(PAYLOADS[:3], own.folder / "x.tar", facts=False)
    for condition in ({"minWidth": 1}, {"maxHeight": 1}, {"mediaType": "image/png"}):
        assert error(node, f"{own.url}x.tar", ["select", "*", condition])[0] == "FactsMissingError"
    assert len(ask(node, f"{own.url}x.tar", ["select", "*", {"minSize": 1}])[0]) == 3


@pytest.mark.parametrize("name", ["inside.tar", "shards/"])
def test_a_screen_is_its_members_with_their_bytes(node: Node, web: WebServer, name: str) -> None:
    screen, many = ask(
        node, web.url + name, ["screen", 1000, 1100], ["readMany", [2999, 5, 5, 1024]]
    )
    assert [(member["name"], bytes.fromhex(payload)) for member, payload in screen] == PAYLOADS[
        1000:1100
    ]
    assert [(member["name"], bytes.fromhex(payload)) for member, payload in many] == [
        PAYLOADS[row] for row in (2999, 5, 5, 1024)
    ]


def test_select_streams_the_names_that_python_selects(
    node: Node, web: WebServer, blobs: Path
) -> None:
    conditions: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("*", {}, {}),
        ("cats/01*", {}, {}),
        ("cats/0102?.png", {}, {}),
        ("*7.png", {"minSize": 2000}, {"min_size": 2000}),
        ("*", {"maxSize": 100, "exclude": "*1.png"}, {"max_size": 100, "exclude": "*1.png"}),
        ("*", {"mediaType": "image/j*"}, {"media_type": "image/j*"}),
        ("dogs/*", {}, {}),
    ]
    for name in ("inside.tar", "shuffled.tar", "shards/"):
        found = ask(node, web.url + name, *(["select", glob, js] for glob, js, _ in conditions))
        with blobpack.open(blobs / name) as opened:
            for (glob, _, python), names in zip(conditions, found, strict=True):
                assert names == list(opened.index.select(glob, **python).names), glob


def test_a_scan_brings_the_columns_of_all_members(node: Node, web: WebServer, blobs: Path) -> None:
    (found,) = ask(node, f"{web.url}inside.tar", ["scan"])
    with blobpack.open_blob(blobs / "inside.tar") as blob:
        members = list(blob.index)
    assert [block["count"] for block in found] == [1024, 1024, COUNT - 2048]
    for column, attribute in (
        ("names", "name"),
        ("offsetStarts", "offset_start"),
        ("sizes", "size"),
        ("crcs", "crc32c"),
    ):
        assert [value for block in found for value in block[column]] == [
            getattr(m, attribute) for m in members
        ]


# Requests


def kinds(web: WebServer) -> list[str]:
    return [request.method for request in web.requests]


def test_only_head_and_bounded_ranges_are_sent(node: Node, web: WebServer) -> None:
    for name in ("inside.tar", "beside.tar", "shuffled.tar", "shards/"):
        ask(
            node,
            web.url + name,
            ["read", "cats/00001.png"],
            ["screen", 0, 100],
            ["select", "*3.png"],
        )
    for request in web.requests:
        assert request.method == "HEAD" or (request.method == "GET" and request.range), request
        assert (
            not {"if-match", "if-range", "if-none-match", "authorization"} & request.headers.keys()
        )
        assert request.range is None or not request.range.startswith("bytes=-")


@pytest.mark.parametrize("name", ["inside.tar", "shards/"])
@pytest.mark.parametrize("by", [0, -512, 512, 1 << 20, "missing"])
def test_a_known_size_saves_a_request_and_a_wrong_one_does_no_harm(
    node: Node, web: WebServer, blobs: Path, name: str, by: Any
) -> None:
    file = "shards/collection.idx" if name == "shards/" else name
    url = f"{web.url}none.tar" if by == "missing" else web.url + name
    size = (blobs / file).stat().st_size + (0 if by == "missing" else by)
    job = {"url": url, "options": {"size": size}, "calls": [["read", "cats/00017.png"]]}
    found = node.run(job)
    if by == "missing":
        assert found["error"] == "BlobNotFoundError"
        return
    assert found["answers"] == [{"value": PAYLOADS[17][1].hex()}]
    assert kinds(web)[:2] == (["GET", "GET"] if by == 0 else ["GET", "HEAD"])


@pytest.mark.parametrize("size", [-1, 1.5, 2**53, "512", None])
def test_a_size_is_a_number_of_bytes(node: Node, web: WebServer, size: Any) -> None:
    assert error(node, f"{web.url}inside.tar", size=size)[0] == "TypeError"
    assert web.requests == []


def test_a_pass_over_all_members_takes_few_requests_and_the_next_one_none(
    node: Node, web: WebServer
) -> None:
    job = {"url": f"{web.url}shuffled.tar", "keep": "pass", "calls": [["select", "*5.png"]]}
    node.run(job)
    assert len(web.requests) <= 4
    before = len(web.requests)
    node.run(job | {"calls": [["select", "*6.png"], ["find", "cats/00001.png"], ["rows", 0, 100]]})
    # the lookup's page
    assert len(web.requests) <= before + 1


# Blobs that were replaced


@pytest.fixture
def replaced(own: WebServer) -> Callable[[], None]:
    """A blob x.tar whose index is beside it, and a function that replaces it by another one of equal size."""
    new = [(name, payload[:-1] + b"\1") for name, payload in PAYLOADS[:600]]
    blobpack.pack(PAYLOADS[:600], own.folder / "x.tar")
    blobpack.pack(new, own.folder / "new.tar")
    assert (own.folder / "x.tar").stat().st_size == (own.folder / "new.tar").stat().st_size

    def replace() -> None:
        shutil.copy(own.folder / "new.tar", own.folder / "x.tar")

    return replace


@pytest.mark.parametrize("etag", ["strong", "weak", "same", "none"])
@pytest.mark.parametrize("modified", [True, False])
@pytest.mark.parametrize("at", [2, 3])
def test_bytes_of_a_replaced_blob_are_never_shown(
    node: Node, own: WebServer, replaced: Callable[[], None], etag: Any, modified: bool, at: int
) -> None:
    """The blob is replaced after the opening, or between two reads."""
    own.does.etag, own.does.modified = etag, modified
    # a Last-Modified of the same second would hide the change, as on a real server
    own.does.before = lambda _: replaced() if len(own.requests) == at + 1 else None
    answer = node.run(
        {
            "url": f"{own.url}x.tar",
            "calls": [["read", "cats/00500.png"], ["screen", 0, 3]],
            "options": {"retries": 0},
        }
    )
    assert len(own.requests) > at
    for one in answer["answers"]:
        if "error" in one:
            assert one["error"] in ("BlobChangedError", "ChecksumError")
        elif isinstance(one["value"], str):
            assert bytes.fromhex(one["value"]) == PAYLOADS[500][1]
        else:
            for member, payload in one["value"]:
                right = dict(PAYLOADS)[member["name"]].hex()
                assert payload == right or payload["error"] == "ChecksumError"
    if etag == "strong":
        assert answer["answers"][at - 2]["error"] == "BlobChangedError"
        assert "was replaced" in answer["answers"][at - 2]["message"]


def test_without_checksums_a_server_must_name_versions(node: Node, own: WebServer) -> None:
    blobpack.pack(PAYLOADS[:9], own.folder / "x.tar", facts=False)
    for etag, modified, is_right in (
        ("strong", False, True),
        ("none", True, True),
        ("none", False, False),
        ("weak", False, False),
    ):
        own.does.etag, own.does.modified = etag, modified
        answer = node.run({"url": f"{own.url}x.tar", "calls": [["read", 0]]})
        if is_right:
            assert answer["answers"] == [{"value": PAYLOADS[0][1].hex()}]
        else:
            assert answer["error"] == "StorageError"
            assert "expose ETag" in answer["message"]


def test_without_etags_the_time_or_the_size_shows_that_a_blob_was_replaced(
    node: Node, own: WebServer
) -> None:
    """The index has no checksums, so nothing else would show it."""
    path = own.folder / "x.tar"
    for etag, modified in (("none", True), ("weak", True), ("same", False)):
        blobpack.pack(PAYLOADS[:9], path, facts=False)
        own.does.etag, own.does.modified = etag, modified
        job = {"url": f"{own.url}x.tar", "keep": etag, "calls": [["read", 3]]}
        assert node.run(job)["answers"] == [{"value": PAYLOADS[3][1].hex()}]
        if modified:
            os.utime(path, (1_600_000_000, 1_600_000_000))
        else:
            path.write_bytes(path.read_bytes() + bytes(512))
        assert node.run(job)["answers"][0]["error"] == "BlobChangedError"


# Answers that are not what was asked for


@pytest.mark.parametrize("fault", ["reset", "cut", "short", "long", "other", 429, 500, 503, "flip"])
def test_a_failure_that_may_pass_is_repeated(node: Node, web: WebServer, fault: Any) -> None:
    url = f"{web.url}inside.tar"
    web.does.faults = [None, fault]
    assert ask(node, url, ["read", "cats/00500.png"]) == [PAYLOADS[500][1].hex()]
    assert kinds(web) == ["HEAD"] + ["GET"] * 3


@pytest.mark.parametrize("fault", ["reset", "cut", "short", "long", "other", 503])
def test_a_failure_that_stays_is_an_error(node: Node, web: WebServer, fault: Any) -> None:
    web.does.faults = [None] + [fault] * 3
    name, message = error(node, f"{web.url}inside.tar", ["read", "cats/00500.png"])
    assert name == "StorageError"
    assert f"{web.url}inside.tar" in message


def test_payloads_that_stay_damaged_are_named_and_leave_others_alone(
    node: Node, own: WebServer
) -> None:
    blobpack.pack(PAYLOADS[:9], own.folder / "x.tar")
    with blobpack.open_blob(own.folder / "x.tar") as blob:
        start = blob.index["cats/00004.png"].offset_start
    data = bytearray((own.folder / "x.tar").read_bytes())
    data[start + 5] ^= 1
    (own.folder / "x.tar").write_bytes(data)
    name, message = error(node, f"{own.url}x.tar", ["read", 4])
    assert name == "ChecksumError"
    assert f"bytes {start} to" in message
    assert "cats/00004.png" in message
    (screen,) = ask(node, f"{own.url}x.tar", ["screen", 0, 9])
    assert [
        payload["error"] if isinstance(payload, dict) else bytes.fromhex(payload)
        for _, payload in screen
    ] == ["ChecksumError" if row == 4 else payload for row, (_, payload) in enumerate(PAYLOADS[:9])]


def test_a_server_that_ignores_ranges_is_refused_without_reading_its_file(
    node: Node, own: WebServer
) -> None:
    with (own.folder / "x.tar").open("wb") as file:
        file.truncate(1 << 30)
    own.does.ranges = False
    name, message = error(node, f"{own.url}x.tar")
    assert name == "StorageError"
    assert "does not support ranged requests" in message
    assert kinds(own) == ["HEAD", "GET"]
    # the connection was closed, not left to wait
    for _ in range(12_000):
        if own.left:
            break
        time.sleep(0.01)
    assert own.left == 1
    # what the buffers of the sockets take
    assert own.sent_bytes < 64 << 20


def test_a_small_blob_may_come_whole(node: Node, own: WebServer) -> None:
    blobpack.pack(PAYLOADS[:1], own.folder / "x.tar")
    own.does.faults = ["whole"]
    assert ask(node, f"{own.url}x.tar", ["read", 0]) == [PAYLOADS[0][1].hex()]


@pytest.mark.parametrize("status", [403, 405, 501])
def test_without_head_a_ranged_get_finds_the_size(node: Node, web: WebServer, status: int) -> None:
    web.does.head = status
    assert ask(node, f"{web.url}inside.tar", ["read", 0]) == [PAYLOADS[0][1].hex()]
    assert web.requests[1].range == "bytes=0-0"


def test_a_size_of_a_compressed_answer_is_not_believed(node: Node, web: WebServer) -> None:
    web.does.head_is_compressed = True
    assert ask(node, f"{web.url}inside.tar", ["read", 0]) == [PAYLOADS[0][1].hex()]
    assert web.requests[1].range == "bytes=0-0"


def test_a_compressed_answer_is_an_error(node: Node, web: WebServer) -> None:
    web.does.faults = ["gzip"] * 9
    assert error(node, f"{web.url}inside.tar")[0] == "StorageError"


def test_redirects_are_followed(node: Node, web: WebServer) -> None:
    web.does.redirects = {"/there.tar": f"{web.url}inside.tar"}
    assert ask(node, f"{web.url}there.tar", ["read", 0]) == [PAYLOADS[0][1].hex()]


def test_no_server(node: Node) -> None:
    name, message = error(node, "http://127.0.0.1:9/x.tar", retries=0)
    assert name == "StorageError"
    assert "CORS rule must allow" in message


# What is no blob, or none that can be read here


OTHERS = {
    "page.tar": (b"<!DOCTYPE html><html><body>404</body></html>", "FormatError", "an HTML page"),
    "error.tar": (
        b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
        "FormatError",
        "an XML document",
    ),
    "x_offsets.pkl": (b"\x80\x04\x95", "FormatError", "offsets file: open the blob itself"),
    "x.tar.gz": (b"\x1f\x8b\x08" + bytes(600), "FormatError", "compressed by gzip"),
    "empty.tar": (b"", "FormatError", "not a tar"),
    "text.tar": (b"hello " * 200, "FormatError", "not a tar"),
    "zeros.tar": (bytes(1024), "MissingIndexError", "blobpack index"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_named(node: Node, own: WebServer, name: str) -> None:
    content, kind, message = OTHERS[name]
    (own.folder / name).write_bytes(content)
    found = error(node, own.url + name)
    assert found[0] == kind
    assert message in found[1]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("compressed.tar.zst", "FormatError", "compressed by zstd"),
        ("bare.tar", "MissingIndexError", "nor beside it as <name>.idx"),
        ("beside.tar.idx", "FormatError", "this is the index of one blob"),
        ("absent.tar", "BlobNotFoundError", "no such blob"),
        ("", "BlobNotFoundError", "collection.idx: there is no such blob"),
    ],
)
def test_what_can_t_be_read_here_is_named(
    node: Node, web: WebServer, name: str, kind: str, message: str
) -> None:
    found = error(node, web.url + name)
    assert found[0] == kind
    assert message in found[1]


def test_a_missing_index_in_a_bucket_that_lists_nothing(node: Node, web: WebServer) -> None:
    """S3 answers 403 and not 404 for a missing object if the caller may not list the bucket."""
    web.does.missing = 403
    assert error(node, f"{web.url}bare.tar")[0] == "MissingIndexError"


def test_a_compressed_blob_with_an_index_beside_it(node: Node, own: WebServer) -> None:
    blobpack.pack(PAYLOADS[:9], own.folder / "x.tar.zst", level=3, index="sidecar")
    assert (own.folder / "x.tar.zst.idx").exists()
    name, message = error(node, f"{own.url}x.tar.zst")
    assert name == "FormatError"
    assert "compressed by zstd" in message


@pytest.mark.parametrize("url", ["s3://bucket/x.tar", "file:///x.tar", "x.tar"])
def test_other_urls_are_wrong_arguments(node: Node, url: str) -> None:
    assert error(node, url)[0] == "TypeError"


# Collections


def test_a_collection_reads_only_below_its_folder_or_where_it_is_allowed(
    node: Node, own: WebServer
) -> None:
    for folder in ("mine", "outside"):
        (own.folder / folder).mkdir()
    blobpack.pack([("secret", b"x" * 9)], own.folder / "outside" / "b.tar", all_files=True)
    blobpack.collect([f"{own.url}outside/b.tar"], own.folder / "mine" / "c.idx")
    url = f"{own.url}mine/c.idx"
    name, message = error(node, url, ["read", "secret"])
    assert name == "UnsafeNameError"
    assert "outside/b.tar" in message
    for allowed in (own.url, f"{own.url}outside", f"{own.url}outside/b.tar"):
        assert ask(node, url, ["read", "secret"], allow=[allowed]) == [(b"x" * 9).hex()]
    assert error(node, url, allow=["http://["])[0] == "TypeError"
    for allowed in (f"{own.url}out", "http://127.0.0.1:1/", f"{own.url}mine"):
        assert error(node, url, ["read", "secret"], allow=[allowed])[0] == "UnsafeNameError"


def test_a_blob_of_a_collection_that_was_replaced(node: Node, own: WebServer) -> None:
    blobpack.pack_shards(PAYLOADS[:200], own.folder / "local", 100 << 10)
    blobpack.pack(PAYLOADS[300:400], own.folder / "local" / "00001.tar")
    found = error(node, f"{own.url}local/", ["read", 0], ["read", 199], ["read", 60])
    assert found[0] == "StaleIndexError"
    (own.folder / "far").mkdir()
    blobpack.pack(PAYLOADS[:9], own.folder / "far" / "a.tar")
    blobpack.collect([f"{own.url}far/a.tar"], own.folder / "far" / "collection.idx")
    assert ask(node, f"{own.url}far/", ["read", 3]) == [PAYLOADS[3][1].hex()]
    blobpack.pack(PAYLOADS[:9], own.folder / "far" / "a.tar")
    assert error(node, f"{own.url}far/", ["read", 3])[0] == "BlobChangedError"


def test_a_compressed_blob_of_a_collection(node: Node, own: WebServer) -> None:
    blobpack.pack_shards(PAYLOADS[:20], own.folder / "c", 100 << 10, level=1)
    found = error(node, f"{own.url}c/", ["rows", 0, 20], ["read", 3])
    assert found[0] == "FormatError"
    assert "compressed by zstd" in found[1]


def test_hash_of_payloads_is_what_python_reads(node: Node, web: WebServer, blobs: Path) -> None:
    with blobpack.open(blobs / "shards") as opened:
        wanted = [hashlib.sha256(opened.read(row)).hexdigest() for row in range(0, COUNT, 300)]
    found = ask(node, f"{web.url}shards/", ["readMany", list(range(0, COUNT, 300))])[0]
    assert [hashlib.sha256(bytes.fromhex(payload)).hexdigest() for _, payload in found] == wanted
