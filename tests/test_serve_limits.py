"""Clients that send too much, or too slowly: a server of real sockets ends their connections, and answers all others."""

import platform
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from gatewayserver import TIMEOUT_S, serving

import blobpack
from blobpack.gateway import connections, server
from blobpack.gateway.app import gateway_app
from blobpack.gateway.routes import endpoint
from blobpack.gateway.s3 import exchange
from blobpack.gateway.s3.face import s3_app
from blobpack.gateway.tokens import Keys

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(200))
GET = b"GET /b/out/cats/1.jpg HTTP/1.1\r\nHost: h\r\n"
POST = b"POST /api/v1/resolve HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
MIB = 1 << 20


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    path = tmp_path_factory.mktemp("blobs") / "out.tar"
    blobpack.pack({"cats/1.jpg": JPEG}, path)
    with blobpack.open(path) as blob:
        yield gateway_app({"out": blob})


@pytest.fixture
def client(app):
    with serving(app) as found:
        yield found


def sent_until_refused(port, first, again):
    """Send bytes again and again until the server hangs up, and return what it sent and how much it took."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        taken = 0
        try:
            connection.sendall(first)
            while taken < 64 * MIB:
                connection.sendall(again)
                taken += len(again)
        except OSError:
            pass
        else:
            connection.shutdown(socket.SHUT_WR)
        return taken


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (GET + b"X: ", b"x" * MIB),
        (GET, b"X: y\r\n" * 100_000),
        (b"GET /", b"x" * MIB),
        (GET + b"\r\n" + GET + b"X: ", b"x" * MIB),
        (POST + b"2\r\n{}\r\n0\r\n", b"X: y\r\n" * 100_000),
        (POST + b"2;x=", b"x" * MIB),
    ],
    ids=["one field", "many fields", "a path", "the second request", "trailers", "an extension"],
)
def test_a_head_without_end_is_refused_while_it_comes(client, first, again):
    # the buffers of two sockets hold some MiB
    assert sent_until_refused(client.port, first, again) < 32 * MIB
    assert client.ask("/b/out/cats/1.jpg").body == JPEG


def test_a_head_that_is_too_large_is_a_431(client):
    # no more than the server reads before it answers: else a reset would take the answer away
    with socket.create_connection(("127.0.0.1", client.port), TIMEOUT_S) as connection:
        connection.sendall(GET)
        # the server has read the first part by then
        client.ask("/healthz")
        connection.sendall(b"X: " + b"x" * connections.HEAD_BYTES_MAX)
        assert connection.recv(64).startswith(b"HTTP/1.1 431 ")


def test_a_large_body_in_small_chunks_is_no_large_head(client):
    body = b'{"refs": ["%s"]}' % (b"x" * 300_000)
    chunks = b"".join(b"3\r\n%s\r\n" % body[at : at + 3] for at in range(0, len(body), 3))
    last = body[len(body) - len(body) % 3 :]
    if last:
        chunks = chunks[: -len(last) - 5] + b"%x\r\n%s\r\n" % (len(last), last)
    found = client.raw(POST[:-2] + b"Connection: close\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 200 ")


def wait_for_end(connection):
    with suppress(ConnectionResetError):
        assert connection.recv(1) == b""


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("sent", [b"", GET])
def test_who_never_completes_a_head_is_hung_up_on(app, monkeypatch, before, sent):
    monkeypatch.setattr(connections, "LOOK_EVERY_S", 0.05)
    if before and not sent:
        # an idle connection
        monkeypatch.setattr(server, "KEEP_ALIVE_S", 1)
    with (
        serving(app) as client,
        socket.create_connection(("127.0.0.1", client.port), TIMEOUT_S) as connection,
    ):
        for _ in range(before):
            connection.sendall(GET + b"\r\n")
            assert connection.recv(1 << 16).endswith(JPEG)
        connection.sendall(sent)
        wait_for_end(connection)


def test_a_head_after_an_answer_is_another_one(app, monkeypatch):
    """Each look meets a client that has begun a head. Answers before the application is asked leave no other trace."""
    # the looks of this test alone
    monkeypatch.setattr(connections, "LOOK_EVERY_S", 3600)
    with (
        serving(app, app.ready_answer) as client,
        socket.create_connection(("127.0.0.1", client.port), TIMEOUT_S) as connection,
    ):
        for _ in range(3):
            connection.sendall(GET)
            # the server has read it by then
            client.ask("/healthz")
            (server,) = client.servers._servers
            looked = threading.Event()
            for protocol in list(server.server_state.connections):
                protocol.loop.call_soon_threadsafe(protocol._look_at_client)
                protocol.loop.call_soon_threadsafe(looked.set)
            assert looked.wait(TIMEOUT_S)
            connection.sendall(b"\r\n")
            assert connection.recv(1 << 16).endswith(JPEG)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator learns")
def test_the_memory_of_small_payloads_is_kept_for_the_next_ones():
    code = """
import resource
from blobpack.gateway.server import run

run([], lambda: None)
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [b"x" * 10240 for _ in range(600)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # 600 blocks have 1,500 pages
    assert int(done.stdout) < 150


def answer_to_a_trickle(port, head):
    """Send a head, and then byte after byte of a body until an answer comes."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(head + b"Host: h\r\nContent-Length: 1000000\r\n\r\n")
        connection.settimeout(0.02)
        found = b""
        for _ in range(TIMEOUT_S * 50):
            with suppress(TimeoutError, ConnectionResetError):
                part = connection.recv(1 << 16)
                found += part
                if not part:
                    return found
                continue
            with suppress(OSError):
                connection.sendall(b"x")
        raise AssertionError(found)


@pytest.mark.parametrize("target", [b"/api/v1/resolve", b"/batch"])
def test_a_body_that_trickles_is_a_408(app, monkeypatch, target):
    monkeypatch.setattr(endpoint, "BODY_S", 0.2)
    with serving(app) as client:
        found = answer_to_a_trickle(client.port, b"POST %s HTTP/1.1\r\n" % target)
        assert found.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in found
        assert b'"A body must arrive within 0.2 seconds."' in found
        assert client.ask("/b/out/cats/1.jpg").body == JPEG


def test_an_upload_that_trickles_is_refused_in_time(app, monkeypatch):
    monkeypatch.setattr(exchange, "DRAINED_S", 0.2)
    face = s3_app(app.services.blobs, Keys({}), unsigned=True)
    with serving(face) as client:
        found = answer_to_a_trickle(client.port, b"PUT /out/a.jpg HTTP/1.1\r\n")
        assert found.startswith(b"HTTP/1.1 405 ")


def test_an_idle_connection_stays_for_the_next_request(app, monkeypatch):
    monkeypatch.setattr(connections, "LOOK_EVERY_S", 0.05)
    with (
        serving(app) as client,
        socket.create_connection(("127.0.0.1", client.port), TIMEOUT_S) as connection,
    ):
        connection.sendall(GET + b"\r\n")
        assert connection.recv(1 << 16).endswith(JPEG)
        # each of these ends at its second look
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", client.port), TIMEOUT_S) as other:
                wait_for_end(other)
        connection.sendall(GET + b"\r\n")
        assert connection.recv(1 << 16).endswith(JPEG)
