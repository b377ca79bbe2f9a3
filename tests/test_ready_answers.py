"""Plain GETs that `blobpack serve` answers without a call of the application."""

import os
import socket

import pytest
from gatewayserver import serving

import blobpack
from blobpack._native.cached_read import read_cached
from blobpack._native.results import FoundRow
from blobpack._native.tar_piece import join_members
from blobpack.checksum import crc32c
from blobpack.gateway.app import gateway_app
from blobpack.tar.header import member_header

FILES = {f"cats/{i}.jpg": b"\xff\xd8\xff\xe0" + b"%d" % i * (100 + i) for i in range(20)}
PLAIN = b"GET /b/out/cats/1.jpg HTTP/1.1\r\nHost: x\r\n"


class Served:
    """An application behind its ready answers, which are counted."""

    def __init__(self, blob, **options):
        self.app = gateway_app({"out": blob}, **options)
        self.called = self.answered = 0

    def ready_answer(self, target):
        ready = self.app.ready_answer(target)
        self.answered += ready is not None
        return ready

    async def __call__(self, scope, receive, send):
        self.called += 1
        await self.app(scope, receive, send)


@pytest.fixture
def blob(tmp_path):
    blobpack.pack(FILES, tmp_path / "out.tar")
    with blobpack.open(tmp_path / "out.tar") as blob:
        # the page cache must hold it, and a file system that can say so
        if blob.store.read_if_ready(0, 512) is None:
            pytest.skip("this file system can't read without waiting")
        yield blob


def on_one_connection(port: int, *requests: bytes) -> list[bytes]:
    """The answers to requests, each sent when the one before was answered."""
    found = []
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        for request in requests:
            connection.sendall(request)
            found.append(b"")
            while b"\r\n\r\n" not in found[-1]:
                found[-1] += connection.recv(1 << 16)
            head, _, body = found[-1].partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            while len(body) < size:
                body += connection.recv(1 << 16)
            found[-1] = head + b"\r\n\r\n" + body
    return found


def test_the_short_way_answers_as_the_application_does(blob):
    served = Served(blob)
    with serving(served, served.ready_answer) as client, serving(served.app) as alone:
        for name, payload in FILES.items():
            ready, asked = client.ask(f"/b/out/{name}"), alone.ask(f"/b/out/{name}")
            assert ready.body == payload
            for answer in (ready, asked):
                answer.headers.pop("date")
            assert ready == asked
        assert (served.answered, served.called) == (len(FILES), 0)
        counted = client.ask("/metrics").body.decode()
    assert f'blobpack_answers_total{{route="image",status="200"}} {2 * len(FILES)}' in counted


def test_a_connection_stays_open_for_both_ways(blob):
    served = Served(blob)
    conditional = PLAIN + b'If-None-Match: "x"\r\n\r\n'
    with serving(served, served.ready_answer) as client:
        plain = PLAIN + b"\r\n"
        found = on_one_connection(client.port, plain, conditional, plain, plain, conditional)
    assert all(one.endswith(FILES["cats/1.jpg"]) for one in found)
    assert (served.answered, served.called) == (3, 2)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (PLAIN.replace(b"GET", b"HEAD") + b"Connection: close\r\n\r\n", b"200"),
        (PLAIN + b"Connection: close\r\n\r\n", b"200"),
        (PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", b"200"),
        (PLAIN + b"Range: bytes=0-1\r\nConnection: close\r\n\r\n", b"206"),
        (PLAIN + b"Content-Length: 2\r\nConnection: close\r\n\r\nxx", b"200"),
        (PLAIN + b"Authorization: Bearer x\r\nConnection: close\r\n\r\n", b"401"),
        (PLAIN.replace(b".jpg", b".jpg?x") + b"Connection: close\r\n\r\n", b"200"),
        (PLAIN.replace(b"1.jpg", b"none") + b"Connection: close\r\n\r\n", b"404"),
    ],
)
def test_every_other_request_goes_to_the_application(blob, request_bytes, status):
    served = Served(blob)
    with serving(served, served.ready_answer) as client:
        answer = client.raw(request_bytes)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert (served.answered, served.called) == (0, 1)


def test_of_requests_that_arrive_together_one_is_answered_at_once(blob):
    served = Served(blob)
    requests = [b"GET /b/out/%b HTTP/1.1\r\nHost: x\r\n\r\n" % name.encode() for name in FILES]
    requests[-1] = requests[-1].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with serving(served, served.ready_answer) as client:
        answers = client.raw(b"".join(requests))
    places = [answers.index(b"\r\n\r\n" + payload) for payload in FILES.values()]
    assert places == sorted(places)
    assert answers.count(b"HTTP/1.1 200 OK") == len(FILES)
    assert served.called >= 1
    assert served.answered + served.called == len(FILES)


def test_a_replaced_or_damaged_blob_is_never_answered_at_once(blob):
    app = gateway_app({"out": blob})
    assert app.ready_answer(b"/b/out/cats/1.jpg") is not None
    start = blob.index["cats/1.jpg"].offset_start
    with open(blob.url, "r+b") as file:
        file.seek(start)
        file.write(b"XXXX")
    assert app.ready_answer(b"/b/out/cats/1.jpg") is None
    with serving(app, app.ready_answer) as client:
        assert client.ask("/b/out/cats/1.jpg").status == 409


def test_without_a_token_nothing_is_answered_at_once(blob):
    app = gateway_app({"out": blob}, keys={"key": "secret"}, require_token=True)
    assert app.ready_answer(b"/b/out/cats/1.jpg") is None


# the native parts


def test_a_cached_read_is_whole_or_none(blob):
    with open(blob.url, "rb") as file:
        whole = file.read()
        for start, end in ((0, 512), (513, 600), (0, 0), (7, len(whole))):
            assert read_cached(file.fileno(), start, end - start) == whole[start:end]
        assert read_cached(file.fileno(), len(whole) - 5, 6) is None
    assert read_cached(-1, 0, 5) is None


def test_members_are_joined_and_checked():
    payloads = [os.urandom(size) for size in (0, 1, 511, 512, 513)]
    part, rows = b"", []
    for payload in payloads:
        start = 1000 + len(part)
        rows.append(FoundRow(len(rows), start, start + len(payload), crc32c(payload)))
        part += payload
    headers = [member_header(b"%d" % i, len(one)) for i, one in enumerate(payloads)]
    expected = b"".join(
        header + payload + bytes(-len(payload) % 512)
        for header, payload in zip(headers, payloads, strict=True)
    )
    assert join_members(part, 1000, rows, headers) == (expected, -1)
    unknown = [row._replace(crc32c=None) for row in rows]
    assert join_members(part, 1000, unknown, headers) == (expected, -1)
    assert join_members(part[:-1] + b"?", 1000, rows, headers)[1] == 4 or part[-1:] == b"?"
    assert join_members(b"", 0, [], []) == (b"", -1)
    with pytest.raises(ValueError, match="part at 1001"):
        join_members(part, 1001, rows, headers)
    with pytest.raises(ValueError, match="part at 1000"):
        join_members(part[:-1], 1000, rows, headers)
    with pytest.raises(ValueError, match="4 headers"):
        join_members(part, 1000, rows, headers[1:])
