"""Blobs behind public HTTP URLs: Ceph RGW serves public objects, with ranges; Python's own server none."""

from __future__ import annotations

import functools
import http.server as http_server
import os
import re
import socket
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from faultserver import FaultServer
from s3server import close_idle_connections
from test_stores import DATA, FORKS, StoreContract, in_fork

import blobpack
from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.cache import Cache, CachingStore
from blobpack.stores.http import (
    body,
    connect,
    connection as connection_module,
    pool,
    ranged,
    retry,
    store as http,
)
from blobpack.stores.http.connect import CONNECT_TIMEOUT_S, Origin
from blobpack.stores.http.connection import Connection
from blobpack.stores.http.ranged import fault_of
from blobpack.stores.http.retry import Fault, Retries, RetryBudget, TimeoutFault, backoff_s
from blobpack.stores.http.store import RELOCATED_S, HttpStore, split_http
from blobpack.stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from s3server import S3Server

    from blobpack.stores.base import Store


@pytest.fixture(autouse=True)
def no_connections_left() -> Iterator[None]:
    yield
    close_idle_connections()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(retry, "BACKOFF_MAX_S", 0.001)
    monkeypatch.setattr(retry, "TRIED_FOR_S", 0)


def publish(s3: S3Server, data: bytes, *, endpoint: str | None = None) -> str:
    """Store an object that anyone may read; return its http:// URL."""
    bucket = s3.new_bucket()
    s3.put(bucket, "a b.tar", data)
    s3.client.put_object_acl(Bucket=bucket, Key="a b.tar", ACL="public-read")
    return f"{endpoint or s3.endpoint}/{bucket}/a b.tar"


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that says one thing to all, and then closes; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if not connection.recv(65536):
                        continue
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.tar"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


class TestHttpStore(StoreContract):
    @pytest.fixture
    def make_store(self, s3_env: S3Server) -> Callable[[bytes], Store]:
        return lambda data: open_store(publish(s3_env, data))

    def test_tail_comes_with_the_opening(self, s3_env: S3Server) -> None:
        with HttpStore(publish(s3_env, DATA), tail_bytes=1000) as store:
            assert store.peek(len(DATA) - 1000, len(DATA)) == DATA[-1000:]
            assert store.stats.requests == 1

    def test_overwritten_blob_is_changed(self, store: HttpStore, s3: S3Server) -> None:
        bucket = store.url.split("/")[3]
        s3.put(bucket, "a b.tar", b"x" * len(DATA))
        s3.client.put_object_acl(Bucket=bucket, Key="a b.tar", ACL="public-read")
        with pytest.raises(BlobChangedError, match="HTTP 412"):
            store.read_range(0, 10)

    def test_missing_blob_is_not_found(self, s3_env: S3Server) -> None:
        with pytest.raises(BlobNotFoundError, match="HTTP 404"):
            HttpStore(f"{s3_env.endpoint}/none/none.tar")

    def test_private_blob_is_storage_error_with_the_code(self, s3_env: S3Server) -> None:
        bucket = s3_env.new_bucket()
        s3_env.put(bucket, "a.tar", DATA)
        with pytest.raises(
            StorageError, match=r"AccessDenied.*HTTP 403, after 1 attempt, request tx"
        ):
            HttpStore(f"{s3_env.endpoint}/{bucket}/a.tar")

    def test_version_asked_for_must_be_there(self, store: HttpStore) -> None:
        with pytest.raises(BlobChangedError, match="not other"):
            HttpStore(store.url, version="other")


def test_images_are_read_by_http_url(
    s3_env: S3Server, tmp_path: Path, small_images: dict[str, bytes]
) -> None:
    path = tmp_path / "out.tar"
    blobpack.pack(small_images.items(), path)
    with blobpack.open_blob(publish(s3_env, path.read_bytes())) as blob:
        assert {name: blob.read(name) for name in small_images} == small_images


def test_server_without_ranges_is_storage_error(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(DATA)

    class Quiet(http_server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=tmp_path)
    with http_server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with pytest.raises(StorageError, match="does not support ranged requests"):
            open_store(f"http://127.0.0.1:{server.server_port}/a.tar")
        server.shutdown()
        thread.join()


RIGHT = b'HTTP/1.1 206 OK\r\nContent-Length: 1\r\nContent-Range: bytes 9-9/10\r\nETag: "1"\r\n\r\n9'


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(RIGHT.replace(b" 9-9/", b" 4-4/"), "bytes 4 to 5 came", id="another range"),
        pytest.param(RIGHT.replace(b" 9-9/", b" 3-4/"), "bytes 3 to 5 came", id="too long a range"),
        pytest.param(RIGHT.replace(b"Content-Range", b"X"), "which range", id="no range"),
        pytest.param(RIGHT.replace(b"/10", b"/11"), "has 11 bytes, it had 10", id="another size"),
        pytest.param(RIGHT.replace(b'"1"', b'"2"'), 'ETag is "2"', id="another version"),
        pytest.param(RIGHT.replace(b"Length: 1", b"Length: 2"), "2 bytes came", id="longer"),
        pytest.param(RIGHT + b"x", "longer than its 1 bytes", id="more than it says"),
        pytest.param(b"HTTP/1.1 2\r\n\r\n", "not an HTTP response", id="not HTTP"),
        pytest.param(b"SSH-2.0-x\r\n\r\n", "not an HTTP response", id="not HTTP at all"),
        pytest.param(
            b"HTTP/1.1 206 " + b"x" * 40_000,
            "headers of the response are longer",
            id="endless head",
        ),
        pytest.param(b"", "closed before a response", id="nothing"),
        pytest.param(b"HTTP/1.1 404 no\r\nContent-Length: 0\r\n\r\n", "HTTP 404", id="404"),
    ],
)
def test_wrong_answer_is_never_bytes(
    answer: bytes, message: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    with answering(RIGHT) as url:
        store = HttpStore(url)
        assert (store.size, store.version) == (10, '"1"')
        assert store.read_range(9, 10) == b"9"
    with answering(answer) as url:
        origin, _ = split_http(url)
        store._ranged_get.pool = pool.pool_of(origin)
        with pytest.raises(StorageError, match=message):
            store.read_range(9, 10)


@pytest.mark.parametrize("came", [b"0-3/10", b"5-8/10", b"6-9/11", b"7-9/10"])
def test_a_tail_that_is_none_is_not_believed(came: bytes) -> None:
    """Some servers answer bytes=-4 with other bytes."""
    answer = RIGHT.replace(b"9-9/10", came).replace(b"Length: 1", b"Length: 4") + b"678"
    with answering(answer) as url:
        assert HttpStore(url, tail_bytes=4).tail == b""
    with answering(answer.replace(came, b"6-9/10")) as url:
        assert HttpStore(url, tail_bytes=4).tail == b"9678"


@pytest.mark.parametrize(
    ("said", "is_kept"), [(b'ETag: "1"', True), (b"Last-Modified: now", True), (b"X: y", False)]
)
def test_a_cache_keeps_nothing_of_what_may_change_unseen(
    tmp_path: Path, said: bytes, is_kept: bool
) -> None:
    with answering(RIGHT.replace(b'ETag: "1"', said)) as url:
        store = open_store(url, cache=Cache(tmp_path))
        assert isinstance(store, CachingStore) == is_kept
        assert store.read_range(9, 10) == b"9"


def test_header_names_may_be_in_lower_case() -> None:
    answer = RIGHT.replace(b"Content-", b"content-").replace(b"ETag: ", b"etag:")
    with answering(answer) as url, HttpStore(url) as store:
        assert store.read_range(9, 10) == b"9"
        assert store.version == '"1"'


def test_redirect_is_followed_and_loops_end(s3_env: S3Server) -> None:
    target = publish(s3_env, DATA).replace(" ", "%20").encode()
    moved = b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n"
    with answering(moved % target) as url, HttpStore(url) as store:
        assert store.read_range(5, 50) == DATA[5:50]
    with (
        answering(moved % b"/again") as url,
        pytest.raises(StorageError, match="more than 5 times"),
    ):
        HttpStore(url)


CHUNKED = (
    b"HTTP/1.1 503 busy\r\nTransfer-Encoding: chunked\r\nx-amz-request-id: me\r\n\r\n"
    b"2e\r\n<Error><Code>SlowDown</Code><Message>less</Message>\r\n8\r\n</Error>\r\n0\r\n\r\n"
)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("cut", [0, 5, 20])
def test_error_in_chunks_is_told(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    with answering(RIGHT) as url:
        store = HttpStore(url)
    with answering(CHUNKED[: len(CHUNKED) - cut]) as url:
        origin, _ = split_http(url)
        store._ranged_get.pool = pool.pool_of(origin)
        with pytest.raises(StorageError, match=r"SlowDown: less \(after 2 attempts, request me"):
            store.read_range(9, 10)
        connection = Connection(origin)
        connection.get(b"GET / HTTP/1.1\r\n\r\n", 1, 1)
        assert connection.reusable == (not cut)
        connection.close()


def test_redirect_that_expires_is_followed_anew_by_many_threads() -> None:
    """As of a signed address."""

    class Server(http_server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        target = "/one"
        barrier = threading.Barrier(4, timeout=120)

        def do_GET(self) -> None:
            if self.path == "/a.tar":
                self.send_response(302)
                self.send_header("Location", self.target)
                self.send_header("Content-Length", "0")
            elif self.path != self.target:
                if self.barrier.wait():  # all have asked, and one is refused before the others
                    time.sleep(0.3)
                self.send_response(403)
                self.send_header("Content-Length", "0")
            else:
                self.send_response_only(206)
                self.send_header("Content-Length", "1")
                self.send_header("Content-Range", "bytes 9-9/10")
                self.send_header("ETag", '"1"')
            self.end_headers()
            if self.path == self.target:
                self.wfile.write(b"9")

        def log_message(self, *args: object) -> None:
            pass

    with http_server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        store = HttpStore(f"http://127.0.0.1:{server.server_port}/a.tar")
        store._ranged_get.made_at -= RELOCATED_S
        Server.target = "/two"
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(store.read_range, [9] * 4, [10] * 4)) == [b"9"] * 4
        close_idle_connections()
        server.shutdown()
        thread.join()


def test_server_that_is_not_there_is_storage_error(
    impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    before = blobpack.stats()
    with pytest.raises(StorageError, match=f"connect to 127.0.0.1:{port}.*after 2 attempts"):
        HttpStore(f"http://127.0.0.1:{port}/a.tar")
    assert blobpack.stats().requests == before.requests  # nothing was sent


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_name_that_no_server_has_is_storage_error(host: str) -> None:
    with pytest.raises(StorageError, match="there is no server a"):
        HttpStore(f"http://{host}/a.tar")


@pytest.mark.parametrize(
    "url", ["http://", "http:///a", "https://me:secret@host/a", "gopher://h/a"]
)
def test_url_that_is_none_is_value_error(url: str) -> None:
    with pytest.raises(ValueError, match="is not http"):
        split_http(url)


class TestConnections:
    def test_connection_is_kept_and_one_that_was_closed_is_found_out(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            kept = pool.Pool(Origin("127.0.0.1", listener.getsockname()[1], None))

            def answer_once() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(RIGHT)

            for _ in range(2):
                thread = threading.Thread(target=answer_once)
                thread.start()
                assert kept.get(b"GET / HTTP/1.1\r\n\r\n", 1, 5).body == b"9"
                thread.join()
            kept.close_idle()

    @pytest.mark.parametrize("etag", ["", 'W/"1"', '"1"'])
    @pytest.mark.parametrize("size", [5, 100_000])
    def test_an_answer_that_comes_twice_is_not_the_next_ones(self, etag: str, size: int) -> None:
        """Two blobs that are alike but for their bytes, on a server that answers twice, for one of them."""
        listener = socket.create_server(("127.0.0.1", 0))

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                while request := connection.recv(65536):
                    asked = re.search(
                        rb"GET /(.) .*\r\nRange: bytes=(\d*)-(\d+)", request, re.DOTALL
                    )
                    assert asked
                    start = int(asked[2] or 2 * size - 1)
                    end = 2 * size if not asked[2] else int(asked[3]) + 1
                    head = f"HTTP/1.1 206 x\r\nContent-Length: {end - start}\r\n"
                    head += f"Content-Range: bytes {start}-{end - 1}/{2 * size}\r\n"
                    head += f"ETag: {etag}\r\n\r\n" if etag else "\r\n"
                    connection.sendall(head.encode() + asked[1] * (end - start))
                    if asked[1] == b"a" and asked[2]:
                        time.sleep(0.1)  # the body has been taken
                        connection.sendall(head.encode() + asked[1] * (end - start))
                        has_come_twice.set()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    one = listener.accept()[:1]
                    threads.append(threading.Thread(target=serve, args=one, daemon=True))
                    threads[-1].start()

        has_come_twice = threading.Event()
        threads = [threading.Thread(target=accept, daemon=True)]
        threads[0].start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        stores = [HttpStore(url + name) for name in "ab"]
        try:
            for start in (0, size):
                has_come_twice.clear()
                for store, byte in zip(stores, (b"a", b"b"), strict=True):
                    assert store.read_range(start, start + size) == byte * size
                    assert has_come_twice.wait(120)
        finally:
            close_idle_connections()
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in threads:
            thread.join(120)

    def test_closed_connection_that_was_trusted_is_retried_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits: list[float] = []
        monkeypatch.setattr(retry.time, "sleep", waits.append)
        with answering(RIGHT) as url, HttpStore(url) as store:
            for _ in range(5):
                assert store.read_range(9, 10) == b"9"
        assert not waits

    @FORKS
    def test_fork_has_its_own_connections(self, s3_env: S3Server) -> None:
        with FaultServer(s3_env.endpoint) as proxy:
            store = HttpStore(publish(s3_env, DATA, endpoint=proxy.endpoint))
            before = {request.client_port for request in proxy.requests}
            proxy.requests.clear()
            assert in_fork(lambda: store.read_range(10, 20)) == DATA[10:20]
            assert before.isdisjoint(request.client_port for request in proxy.requests)

    def test_threads_keep_no_more_connections_than_there_are_threads(
        self, s3_env: S3Server
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with FaultServer(s3_env.endpoint) as proxy:
            store = HttpStore(publish(s3_env, DATA, endpoint=proxy.endpoint))
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(lambda at: store.read_range(at, at + 9), range(200)))
            assert len({request.client_port for request in proxy.requests}) <= 9


class TestTls:
    def test_s3_is_read_with_the_certificates_that_boto3_is_given(
        self,
        tls_proxy: FaultServer,
        s3_env: S3Server,
        certificate: tuple[Path, Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", tls_proxy.endpoint)
        monkeypatch.setenv("AWS_CA_BUNDLE", os.fspath(certificate[0]))
        with open_store(s3_env.put(s3_env.new_bucket(), "a.tar", DATA)) as store:
            assert store.read_range(0, len(DATA)) == DATA
            assert store.read_range(7, 4000) == DATA[7:4000]
        assert [r.user_agent for r in tls_proxy.requests[1:]] == ["blobpack"] * 2

    def test_certificate_that_is_not_trusted_is_refused_at_once(
        self, tls_proxy: FaultServer
    ) -> None:
        with pytest.raises(StorageError, match="is not trusted"):
            HttpStore(f"{tls_proxy.endpoint}/a.tar")
        assert not tls_proxy.requests


class Clock:
    """A time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    return clock


def test_connecting_is_no_latency(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.create_connection

    def connect_slowly(*args: Any) -> socket.socket:
        clock.sleep(5)
        return connect(*args)

    for module in connection_module, pool, http, ranged:
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(socket, "create_connection", connect_slowly)
    with answering(RIGHT) as url, HttpStore(url) as store:
        close_idle_connections()
        store.read_range(9, 10)
        assert store.stats.wait_s == 10
        assert store.latency_s == 0


class TestRetries:
    def test_jitter_is_full_and_bounded(self) -> None:
        waits = [backoff_s(3) for _ in range(1000)]
        most = 4 * retry.BACKOFF_S
        assert 0 <= min(waits) < most / 10
        assert most * 0.9 < max(waits) <= most
        assert max(backoff_s(50) for _ in range(100)) <= retry.BACKOFF_MAX_S

    def test_slow_down_waits_longer(self) -> None:
        assert max(backoff_s(1, slow_down=True) for _ in range(1000)) > retry.BACKOFF_S * 3

    def test_budget_ends_retries_and_is_regained(
        self, impatient: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retry, "BUDGET_RETRIES", 2)
        budget = RetryBudget()
        fault = Fault("x")
        assert [Retries("", budget).may_retry(fault) for _ in range(3)] == [True, True, False]
        for _ in range(4):
            budget.regain()
        assert Retries("", budget).may_retry(fault)
        assert not Retries("", budget).may_retry(fault)

    def test_an_outage_of_a_minute_is_outlasted_by_many_threads(self, clock: Clock) -> None:
        budget = RetryBudget()
        for _ in range(128):
            clock.now = 0.0
            retries = Retries("", budget)
            while clock.now < retry.TRIED_FOR_S:
                assert retries.may_retry(Fault("HTTP status 503", status=503))
            assert retries.failed > retry.ATTEMPTS

    def test_trying_ends_by_the_clock(self, clock: Clock) -> None:
        retries = Retries("", RetryBudget())
        while retries.may_retry(Fault("reset")):
            pass
        assert retries.failed >= retry.ATTEMPTS
        assert 0 <= clock.now - retry.TRIED_FOR_S <= retry.BACKOFF_MAX_S

    @pytest.mark.parametrize("status", [200, 206])
    def test_wrong_answers_end_by_their_count(self, clock: Clock, status: int) -> None:
        retries = Retries("", RetryBudget())
        while retries.may_retry(Fault("other bytes", status=status)):
            pass
        assert retries.failed == retry.ATTEMPTS
        assert clock.now < retry.TRIED_FOR_S

    @pytest.mark.parametrize(("asked_s", "waited_s"), [(20, 20), (10**30, retry.RETRY_AFTER_MAX_S)])
    def test_retry_after_is_waited_for(self, clock: Clock, asked_s: float, waited_s: float) -> None:
        fault = Fault("busy", status=503, retry_after_s=asked_s)
        assert Retries("", RetryBudget()).may_retry(fault)
        assert waited_s <= clock.now <= waited_s + retry.SLOW_DOWN_BACKOFF_S

    def test_what_is_not_wanted_any_more_is_not_waited_for(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retry, "is_wanted", lambda: clock.now < 3)
        fault = Fault("busy", status=503, retry_after_s=20)
        assert not Retries("", RetryBudget()).may_retry(fault)
        assert 3 <= clock.now < 4

    @pytest.mark.parametrize(
        ("said", "seconds"),
        [(b"20", 20), (b" 7 ", 7), (b"Wed, 21 Oct 2026 07:28:00 GMT", 0), (b"-1", 0), (b"", 0)],
    )
    def test_retry_after_is_read_in_seconds(self, said: bytes, seconds: float) -> None:
        busy = b"HTTP/1.1 503 no\r\nContent-Length: 0\r\nRetry-After: %s\r\n\r\n" % said
        with answering(busy) as url:
            origin, _ = split_http(url)
            answer = pool.pool_of(origin).get(b"GET / HTTP/1.1\r\n\r\n", 1, 5)
        assert fault_of(answer).retry_after_s == seconds

    def test_timeouts_grow_by_what_was_late_and_by_no_other_fault(self, impatient: None) -> None:
        retries = Retries("", RetryBudget())
        first = retries.timeout_s
        assert retries.may_retry(Fault("503"))
        assert retries.timeout_s == first
        assert retries.may_retry(TimeoutFault("late"))
        assert retries.timeout_s == 2 * first
        for _ in range(7):
            assert retries.may_retry(TimeoutFault("late"))
        assert retries.timeout_s == min(first * 2**8, retry.TIMEOUT_MAX_S)


@contextmanager
def trickling(size: int, piece: bytes, *, pause_s: float = 0.02) -> Iterator[Connection]:
    """A connection to a server that answers with so many bytes, a piece of them after each pause."""
    answer = RIGHT.replace(b"Length: 1", b"Length: %d" % size)[:-1]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                for _ in range(size // len(piece)):
                    if done.wait(pause_s):
                        return
                    connection.sendall(piece)

        thread = threading.Thread(target=trickle)
        thread.start()
        connection = Connection(Origin("127.0.0.1", listener.getsockname()[1], None))
        yield connection
        done.set()
        thread.join()
        connection.close()


def test_long_body_takes_its_size_of_memory_once() -> None:
    size = 32 << 20
    with trickling(size, bytes(size // 2), pause_s=0) as connection:
        tracemalloc.start()
        try:
            body = connection.get(b"GET / HTTP/1.1\r\n\r\n", size, 5).body
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert type(body) is bytes
    assert body == bytes(size)
    assert peak < 1.1 * size


def test_body_that_trickles_is_given_up() -> None:
    """Each byte comes within the timeout, the whole would never; the time that it took is told."""
    timeout_s = 0.5
    told = r"stalled: \d+ of 9999 bytes came in (\S+) s"
    with trickling(9999, b"x") as connection, pytest.raises(Fault, match=told) as caught:
        connection.get(b"GET / HTTP/1.1\r\n\r\n", 9999, timeout_s)
    took = re.search(told, str(caught.value))
    assert took
    assert float(took[1]) > 2 * timeout_s - 0.1
    assert timeout_s < CONNECT_TIMEOUT_S


def test_an_interrupted_handshake_leaves_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is a fake: it can't be timed into a handshake."""
    opened: list[socket.socket] = []

    def connect_tcp(*_: Any) -> socket.socket:
        opened.extend(socket.socketpair())
        return opened[0]

    def interrupt(ca_file: str) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(connect, "_connect_tcp", connect_tcp)
    monkeypatch.setattr(connect, "tls_context", interrupt)
    # TCP_NODELAY is not for a pair of sockets
    monkeypatch.setattr(socket.socket, "setsockopt", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        connect.connect(Origin("server", 443, ""), 1)
    assert opened[0].fileno() == -1
    opened[1].close()


def test_body_over_a_slow_link_is_given_more_time_at_each_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body, "SLOWEST_BYTES", 1000)
    with trickling(4000, bytes(100)) as slow, pytest.raises(Fault, match="stalled"):
        slow.get(b"GET / HTTP/1.1\r\n\r\n", 4000, 0.1)
    with trickling(4000, bytes(100)) as connection:
        assert len(connection.get(b"GET / HTTP/1.1\r\n\r\n", 4000, 1).body) == 4000
