"""The reader in JavaScript, in Chromium: from another origin without preflights, and over a million members."""

from __future__ import annotations

import json
import re
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from js_reader import Node, PageRunner, chromium, node, put_page
from large_blob import PAYLOAD_BYTES, STEP_BYTES, make_large_blob, name_of, payload_of
from pages import DOCS
from test_js_reader import PAYLOADS
from webserver import WebServer

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser
    from s3server import S3Server

__all__ = ["chromium", "node"]

COUNT = 1_000_000
WRITTEN = [0, 123_456, COUNT - 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small blob, its collection, and blobs of a million members, with and without a guide."""
    folder = tmp_path_factory.mktemp("million")
    blobpack.pack(PAYLOADS[:100], folder / "small.tar")
    blobpack.pack_shards(PAYLOADS[:100], folder / "shards", 100 << 10)
    make_large_blob(folder / "ascending.tar", WRITTEN)
    make_large_blob(folder / "shuffled.tar", WRITTEN, ascending=False)
    return folder


@pytest.fixture(scope="module")
def servers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[WebServer]]:
    pages = tmp_path_factory.mktemp("pages")
    put_page(pages)
    with WebServer(folder) as blobs, WebServer(pages) as page:
        yield [blobs, page]


@pytest.fixture
def web(servers: list[WebServer]) -> WebServer:
    """The server of the blobs, which allows the origin of the page."""
    web, page = servers
    web.forget()
    web.does.cors = page.url.rstrip("/")
    return web


@pytest.fixture(scope="module")
def page(chromium: Browser, servers: list[WebServer]) -> Iterator[PageRunner]:
    """A page of another origin than the blobs."""
    opened = chromium.new_page()
    runner = PageRunner(opened)
    opened.goto(servers[1].url)
    yield runner
    opened.close()


@pytest.fixture(params=["node", "page"])
def runner(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def sent(web: WebServer) -> list[str]:
    return [request.method for request in web.requests]


# Another origin


def test_no_preflight_is_sent_to_another_origin(page: PageRunner, web: WebServer) -> None:
    for name in ("small.tar", "shards/"):
        calls = [
            ["read", 3],
            ["screen", 0, 100],
            ["find", PAYLOADS[7][0]],
            ["select", "*3.png"],
            ["read", "nope"],
        ]
        found = page.run({"url": web.url + name, "calls": calls})["answers"]
        assert bytes.fromhex(found[0]["value"]) == PAYLOADS[3][1]
        assert len(found[1]["value"]) == 100
        assert found[4]["error"] == "MemberNotFoundError"
    assert set(sent(web)) == {"HEAD", "GET"}
    assert {request.headers["origin"] for request in web.requests} == {web.does.cors}


def test_an_origin_that_is_not_allowed_is_told_what_to_do(page: PageRunner, web: WebServer) -> None:
    web.does.cors = None
    found = page.run({"url": f"{web.url}small.tar", "options": {"retries": 0}})
    assert found["error"] == "StorageError"
    assert "CORS rule must allow" in found["message"]
    assert "expose ETag, Content-Length and Content-Range" in found["message"]


@pytest.mark.parametrize("exposed", ["", "ETag", "Content-Range", "ETag, Content-Range"])
def test_headers_that_are_not_exposed(page: PageRunner, web: WebServer, exposed: str) -> None:
    """Content-Length and Last-Modified are always visible, and checksums make up for the others."""
    web.does.exposed = exposed
    found = page.run({"url": f"{web.url}small.tar", "calls": [["read", 3]]})
    assert found["answers"] == [{"value": PAYLOADS[3][1].hex()}]
    assert bool(found["opened"]["etag"]) == ("ETag" in exposed)


def test_a_size_that_can_t_be_seen_names_the_header(page: PageRunner, web: WebServer) -> None:
    web.does.head, web.does.exposed = 405, "ETag"
    found = page.run({"url": f"{web.url}small.tar", "options": {"retries": 0}})
    assert found["error"] == "StorageError"
    assert (
        "does not show the blob's size: expose ETag, Content-Length and Content-Range"
        in found["message"]
    )


def test_a_blob_that_is_replaced_is_noticed_in_a_page(
    page: PageRunner, web: WebServer, folder: Path
) -> None:
    job = {"url": f"{web.url}small.tar", "keep": "replaced", "calls": [["read", 3]]}
    assert page.run(job)["answers"] == [{"value": PAYLOADS[3][1].hex()}]
    (folder / "small.tar").write_bytes((folder / "small.tar").read_bytes())
    assert page.run(job)["answers"][0]["error"] == "BlobChangedError"


# A million members


@pytest.mark.parametrize(
    ("name", "call", "sized", "most"),
    [
        ("ascending.tar", ["read", name_of(123_456)], False, 5),
        ("ascending.tar", ["read", 999_999], False, 5),
        ("shuffled.tar", ["read", 123_456], False, 5),
        # the names have no order, so a page of the lookup comes first
        ("shuffled.tar", ["read", name_of(123_456, ascending=False)], False, 6),
        # as a gallery does, whose page holds the size
        ("shuffled.tar", ["read", name_of(123_456, ascending=False)], True, 5),
        ("ascending.tar", ["read", name_of(123_456)], True, 4),
    ],
)
def test_the_first_image_of_a_million(
    runner: Any, web: WebServer, name: str, call: list[Any], sized: bool, most: int
) -> None:
    options = {"size": (web.folder / name).stat().st_size} if sized else {}
    found = runner.run({"url": web.url + name, "calls": [call], "options": options})
    row = 999_999 if call[1] == 999_999 else 123_456
    assert found["answers"] == [{"value": payload_of(row).hex()}]
    assert len(web.requests) <= most
    assert found["opened"]["length"] == COUNT


def test_bytes_that_were_written_over_the_index_are_noticed_with_a_known_size_too(
    runner: Any, web: WebServer, folder: Path
) -> None:
    """`tar -r` writes over the end of an archive; the file may end where it ended before."""
    path = folder / "written.tar"
    make_large_blob(path, [], count=20_000, ascending=False)
    member = tarfile.TarInfo("more.jpg")
    member.size = 8192
    with path.open("r+b") as file:
        file.seek(20_000 * STEP_BYTES)
        file.write(member.tobuf() + bytes(member.size + 1024))
    for size in (path.stat().st_size, 0):
        found = runner.run({"url": f"{web.url}written.tar", "options": {"size": size}})
        assert found["error"] == "StaleIndexError"


@pytest.mark.parametrize("first", [0, 500_000, 1000, COUNT - 100])
def test_a_screen_of_100_neighbours_takes_two_requests(
    runner: Any, web: WebServer, first: int
) -> None:
    """Also if its rows lie in two blocks; in an archive of more than 4 GiB."""
    job = {"url": f"{web.url}shuffled.tar", "keep": f"screen {first}", "calls": []}
    runner.run(job)
    web.requests.clear()
    (found,) = runner.run(job | {"calls": [["screen", first, first + 100]]})["answers"]
    assert len(web.requests) <= 2
    rows = [member["row"] for member, _ in found["value"]]
    assert rows == list(range(first, first + 100))
    for member, payload in found["value"]:
        row = member["row"]
        assert payload == (payload_of(row) if row in WRITTEN else bytes(PAYLOAD_BYTES)).hex()
        assert member["name"] == name_of(row, ascending=False)
        assert member["offsetEnd"] - member["offsetStart"] == PAYLOAD_BYTES
    assert first < 900_000 or found["value"][0][0]["offsetStart"] > 1 << 32


def test_a_pass_over_a_million_members_takes_few_requests_and_lets_the_page_work(
    page: PageRunner, web: WebServer
) -> None:
    code = """async ([url, glob]) => {
      const blobpack = await import("/blobpack.js");
      const blob = await blobpack.open(url);
      let pauses = 0;
      globalThis.MessageChannel = class extends MessageChannel {
        constructor() { super(); pauses++; }
      };
      let turns = 0;
      const timer = setInterval(() => turns++, 0);
      let found = 0;
      for await (const name of blob.select(glob, { minWidth: 10, mediaType: "image/png" })) found += name.endsWith("7.jpg");
      clearInterval(timer);
      blob.close();
      return [found, turns, pauses];
    }"""
    found, turns, pauses = page.page.evaluate(code, [f"{web.url}shuffled.tar", "*7.jpg"])
    names = (name_of(row, ascending=False) for row in range(1, COUNT, 2) if row % 640 + 1 >= 10)
    assert found == sum(name.endswith("7.jpg") for name in names)
    assert len(web.requests) <= 20
    # it paused often, and timers ran meanwhile
    assert pauses > 10
    assert turns > 0


# A bucket


def test_a_public_bucket(
    runner: Any, s3_env: S3Server, bucket: str, folder: Path, servers: list[WebServer]
) -> None:
    """The blob lies in S3, and the page elsewhere; the bucket's CORS rule is the one of the docs."""
    client = s3_env.client
    with (folder / "small.tar").open("rb") as file:
        client.put_object(Bucket=bucket, Key="small.tar", Body=file, ACL="public-read")
    (rule,) = re.findall(
        r"```json\n(.*?)```", (DOCS / "guides" / "javascript.md").read_text(), re.DOTALL
    )
    rule = rule.replace("https://page.example.com", servers[1].url.rstrip("/"))
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": json.loads(rule)})
    job = {"url": f"{s3_env.endpoint}/{bucket}/small.tar", "calls": [["screen", 0, 100]]}
    found = runner.run(job)
    assert [bytes.fromhex(payload) for _, payload in found["answers"][0]["value"]] == [
        payload for _, payload in PAYLOADS[:100]
    ]
    assert found["opened"]["etag"] == client.head_object(Bucket=bucket, Key="small.tar")["ETag"]


def test_a_bucket_that_is_not_public(
    node: Node, s3_env: S3Server, bucket: str, folder: Path
) -> None:
    s3_env.put(bucket, "small.tar", (folder / "small.tar").read_bytes())
    found = node.run({"url": f"{s3_env.endpoint}/{bucket}/small.tar", "options": {"retries": 0}})
    assert (found["error"], found["status"]) == ("StorageError", 403)
    # a presigned URL is for GET, and HEAD gets 403
    url = s3_env.client.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "small.tar"}
    )
    assert node.run({"url": url, "calls": [["read", 3]]})["answers"] == [
        {"value": PAYLOADS[3][1].hex()}
    ]
