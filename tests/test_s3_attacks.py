"""Whatever is sent to the S3 face, the answer is a proper one: never a traceback, never what was not asked for."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from gatewayserver import Client, serving
from hypothesis import given, strategies as st

import blobpack
from blobpack.gateway.s3.errors import STATUS_OF
from blobpack.gateway.s3.face import s3_app
from blobpack.gateway.served.blobs import ServedBlobs
from blobpack.gateway.tokens import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBERS = {"a/1.jpg": b"one", "a/2.jpg": b"two", "b.svg": b"<svg/>", "..x": b"dots"}
KEYS = Keys({"reader": "a secret of this test"})


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedBlobs]:
    path = tmp_path_factory.mktemp("blob") / "blob.tar"
    blobpack.pack(MEMBERS.items(), path, all_files=True)
    with blobpack.open(path) as blob:
        yield ServedBlobs({"blob": blob})


def answer(
    app: Any, method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]]
) -> tuple[int, dict, bytes]:
    """Answer one request, without a server between that would refuse most of them."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": headers,
    }
    asyncio.run(app(scope, receive, send))
    fields = sent[0]["headers"]
    assert all(
        isinstance(value, bytes) and not re.search(rb"[\x00-\x08\n\r]", value)
        for _, value in fields
    )
    return sent[0]["status"], dict(fields), b"".join(message["body"] for message in sent[1:])


PARAMS = st.sampled_from(
    b"list-type prefix delimiter marker start-after continuation-token max-keys encoding-type fetch-owner versions "
    b"key-marker location versioning acl uploads versionId partNumber response-content-type response-expires "
    b"AWSAccessKeyId Signature Expires X-Amz-Algorithm X-Amz-Credential X-Amz-Date X-Amz-Expires X-Amz-SignedHeaders "
    b"X-Amz-Signature x-amz-security-token".split()
)
VALUES = st.one_of(
    st.sampled_from(
        [
            b"",
            b"2",
            b"1",
            b"url",
            b"a/",
            b"/",
            b"reader",
            b"AWS4-HMAC-SHA256",
            b"20260101T000000Z",
            b"600",
            b"%",
            b"%zz",
            b"+",
            b"reader/20260101/us-east-1/s3/aws4_request",
            b"0" * 64,
            b"host",
            b"%00",
            b"%ff",
            b"%0d%0ax: y",
            b"YWZ0ZXI6",
        ]
    ),
    st.binary(max_size=8),
)
QUERIES = st.lists(st.tuples(PARAMS, VALUES), max_size=8).map(
    lambda pairs: b"&".join(b"=".join(pair) for pair in pairs)
)
PATHS = st.one_of(
    st.lists(
        st.sampled_from(
            [
                b"/",
                b"blob",
                b"a",
                b"1.jpg",
                b"..",
                b".",
                b"%2e%2e",
                b"%2F",
                b"%00",
                b"%ff",
                b"b.svg",
            ]
        ),
        max_size=6,
    ).map(lambda parts: b"/" + b"".join(parts)),
    st.binary(max_size=12).map(lambda path: b"/" + path),
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            b"host authorization x-amz-date x-amz-content-sha256 range if-match if-none-match if-modified-since if-range "
            b"x-amz-checksum-mode content-length expect".split()
        ),
        VALUES
        | st.sampled_from(
            [
                b"bytes=0-1",
                b"bytes=9-",
                b'"x"',
                b"AWS4-HMAC-SHA256 Credential=reader/1/2/s3/aws4_request",
            ]
        ),
    ),
    max_size=5,
)


class TestAnyRequest:
    @given(
        st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "X"]),
        PATHS,
        QUERIES,
        HEADERS,
    )
    def test_unsigned(self, blobs, method, path, query, headers):
        status, fields, body = answer(
            s3_app(blobs, Keys({}), unsigned=True), method, path, query, headers
        )
        assert status in {200, 204, 206, 304, *STATUS_OF.values()}
        assert status != 500
        if method == "HEAD":
            assert body == b""
        elif fields.get(b"content-type") == b"application/xml":
            check_xml(status, body)
        elif status in (200, 206):
            assert any(body in payload for payload in MEMBERS.values())

    @given(st.sampled_from(["GET", "HEAD", "PUT"]), PATHS, QUERIES, HEADERS)
    def test_without_a_right_signature_nothing_is_read(self, blobs, method, path, query, headers):
        status, _, body = answer(s3_app(blobs, KEYS), method, path, query, headers)
        assert status in (400, 403)
        if method != "HEAD":
            check_xml(status, body)


def check_xml(status: int, body: bytes) -> None:
    # references to control characters are what S3 itself writes, and XML 1.0 has none
    root = ET.fromstring(re.sub(rb"&#x([0-8BCEF]|1[0-9A-F]|FFF[EF]);", b"?", body))
    if status >= 300:
        assert root.tag == "Error"
        assert STATUS_OF[root.findtext("Code")] == status


@pytest.fixture(scope="module")
def client(blobs: ServedBlobs) -> Iterator[Client]:
    with serving(s3_app(blobs, Keys({}), unsigned=True)) as found:
        yield found


class TestRealServer:
    @pytest.mark.parametrize(
        "target",
        [
            "/blob/../blob/a/1.jpg",
            "/blob/%2e%2e/etc/passwd",
            "/blob//a/1.jpg",
            "/blob/a/./1.jpg",
            "/blob/a/1.jpg/",
            "/blob/a",
            "/blob/%00",
        ],
    )
    def test_names_are_taken_as_they_are(self, client, target):
        found = client.ask(target)
        assert found.status == 404
        assert b"<Code>NoSuchKey</Code>" in found.body

    def test_a_name_that_begins_with_dots(self, client):
        assert client.ask("/blob/..x").body == b"dots"

    def test_a_script_does_not_run_in_this_origin(self, client):
        headers = client.ask("/blob/b.svg").headers
        assert "sandbox" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"

    def test_huge_headers(self, client):
        found = client.ask("/blob/a/1.jpg", x="x" * 40_000)
        assert (found.status, b"RequestHeaderSectionTooLarge" in found.body) == (400, True)
        assert client.ask("/blob/a/1.jpg", x="x" * 20_000).body == b"one"

    @pytest.mark.parametrize(
        "request_",
        [
            b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /blob HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x00\x00",
            b"GET /blob HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        ],
        ids=["huge path", "version", "TLS", "length"],
    )
    def test_what_is_no_request(self, client, request_):
        assert re.match(rb"HTTP/1\.1 4\d\d ", client.raw(request_)) or not client.raw(request_)
        assert client.ask("/blob/a/1.jpg").body == b"one"
