"""A server that never answers ends within two minutes; an answer that is damaged, or says "expired", gets one more try."""

from __future__ import annotations

import itertools
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from s3server import close_idle_connections
from test_hedging import ANSWER, BODY, HEAD, Pairs, pairs
from test_http import Clock, answering, clock, publish

import blobpack
from blobpack.errors import ChecksumError, StorageError
from blobpack.opening.find_index import find_index
from blobpack.stores.http import pool as pool_module, retry
from blobpack.stores.http.connect import CONNECT_TIMEOUT_S
from blobpack.stores.http.connection import Connection
from blobpack.stores.http.options import with_options
from blobpack.stores.http.pool import Pool
from blobpack.stores.http.response import AS_EXPECTED
from blobpack.stores.http.retry import (
    Fault,
    Retries,
    RetryBudget,
    SlowFault,
    TimeoutFault,
    UnreachableFault,
)
from blobpack.stores.http.store import REDIRECTS_MAX, HttpStore, split_http
from blobpack.stores.memory import MemoryStore
from blobpack.stores.s3 import client as client_module
from blobpack.stores.s3.bucket import Bucket, ObjectKey
from blobpack.stores.s3.store import S3Store
from blobpack.stores.zstd.format import seek_table_bytes
from blobpack.stores.zstd.store import open_seekable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faultserver import FaultServer
    from s3server import S3Server

    from blobpack.stores.base import Store

__all__ = ["clock", "pairs"]  # fixtures

TWO_MINUTES = 120
RIGHT = (
    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\nContent-Range: bytes 9-9/10\r\n"
    b'ETag: "v"\r\n\r\nx'
)


@pytest.fixture(autouse=True)
def no_connections_left() -> Iterator[None]:
    yield
    close_idle_connections()


# Silence


@contextmanager
def silent(begins: bytes = b"", *, trickle: bytes = b"") -> Iterator[int]:
    """Serve on the port yielded: accept, answer the first connection with `begins`, then send `trickle` byte by byte."""
    done = threading.Event()
    threads = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(connection: socket.socket, first: bytes) -> None:
            with connection, suppress(OSError):
                if first:
                    connection.recv(65536)
                    connection.sendall(first)
                for byte in trickle:
                    if done.wait(0.02):
                        return
                    connection.sendall(bytes([byte]))
                done.wait()

        def serve() -> None:
            first = begins
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=answer, args=(connection, first)))
                threads[-1].start()
                first = b""

        threads.append(threading.Thread(target=serve))
        threads[0].start()
        yield listener.getsockname()[1]
        done.set()
        listener.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


@pytest.fixture
def short_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time for all attempts and the limits of one attempt, all by the same factor."""
    monkeypatch.setattr(retry, "ANSWERED_WITHIN_S", 0.3)
    monkeypatch.setattr(retry, "TRIED_FOR_S", 0.2)
    monkeypatch.setattr(retry, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(retry, "TIMEOUT_MAX_S", 0.1)
    monkeypatch.setattr(pool_module, "CONNECT_TIMEOUT_S", 0.1)


@pytest.mark.usefixtures("short_budget")
@pytest.mark.parametrize("trickle", [b"", b"HTTP/1.1 206 OK\r\nX-Long: " + b"x" * 5000])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_opening_at_a_silent_server_ends(scheme: str, trickle: bytes) -> None:
    with (
        silent(trickle=trickle) as port,
        pytest.raises(StorageError, match=r"no response within|TLS handshake"),
    ):
        HttpStore(f"{scheme}://127.0.0.1:{port}/a.tar")


@pytest.mark.usefixtures("short_budget")
@pytest.mark.parametrize("trickle", [b"", b"HTTP/1.1 206 OK\r\nX-Long: " + b"x" * 5000])
@pytest.mark.parametrize("hedge", [False, True])
def test_reading_from_a_server_that_falls_silent_ends(trickle: bytes, hedge: bool) -> None:
    with silent(RIGHT + b"", trickle=trickle) as port:
        store = HttpStore(f"http://127.0.0.1:{port}/a.tar")
        close_idle_connections()
        store._ranged_get.pool.hedging.hedge_after_s = 0.02
        with pytest.raises(StorageError, match="no response within"):
            with_options(store.read_range, 1, 5, hedge=hedge)


@pytest.mark.parametrize("operation", ["tail", "head", "list", "read", "put"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_silent_s3_server_ends(
    operation: str, scheme: str, no_aws: None, short_budget: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "BOTO3_READ_TIMEOUT_S", 0.1)
    monkeypatch.setattr(client_module, "BOTO3_CONNECT_TIMEOUT_S", 0.1)
    monkeypatch.setattr(client_module, "_clients", {})
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with silent() as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"{scheme}://127.0.0.1:{port}")
        bucket = Bucket("bucket")
        ask: dict[str, Callable[[], object]] = {
            "tail": lambda: S3Store("s3://bucket/a.tar", tail_bytes=10),
            "head": lambda: ObjectKey(bucket, "a.tar").head(what="open"),
            "list": lambda: bucket.ask("list_objects_v2", what="list", Prefix=""),
            "read": lambda: S3Store("s3://bucket/a.tar", size=10, version='"v"').read_range(1, 5),
            "put": lambda: ObjectKey(bucket, "k").ask("put_object", what="put", Body=b"1"),
        }
        with pytest.raises(StorageError, match=r"s3://bucket/"):
            ask[operation]()


@pytest.mark.parametrize("is_patient", [True, False])
@pytest.mark.parametrize("answers_before", [0, 3])
def test_silence_ends_within_two_minutes(
    clock: Clock, is_patient: bool, answers_before: int
) -> None:
    """By the real numbers, on a clock that passes only by sleeping: each attempt connects and times out as late as it may."""
    connect_s = 2 * CONNECT_TIMEOUT_S  # TCP, then TLS
    clock.sleep(connect_s + retry.TIMEOUT_S)  # the first attempt, before anything is retried
    retries = Retries("", RetryBudget(), is_patient=is_patient)
    for _ in range(answers_before):
        assert retries.may_retry(Fault("HTTP status 503", status=503))
    attempts = 1
    while retries.may_retry(TimeoutFault("no response")):
        clock.sleep(connect_s + retries.timeout_s)
        attempts += 1
    assert clock.now <= TWO_MINUTES
    assert attempts >= 4


def test_a_server_that_can_not_be_reached_ends_within_two_minutes(clock: Clock) -> None:
    retries = Retries("", RetryBudget())
    while retries.may_retry(UnreachableFault("timed out")):
        clock.sleep(2 * CONNECT_TIMEOUT_S)
    assert retry.TRIED_FOR_S <= clock.now <= TWO_MINUTES


def test_pauses_that_the_server_asks_for_end_within_two_minutes(clock: Clock) -> None:
    retries = Retries("", RetryBudget())
    while retries.may_retry(Fault("HTTP status 503", status=503, retry_after_s=1000)):
        pass
    assert retry.TRIED_FOR_S <= clock.now <= TWO_MINUTES


def test_a_slow_body_is_not_silence(clock: Clock) -> None:
    """Each attempt takes minutes, because bytes come slowly: the next one gets more time."""
    retries = Retries("", RetryBudget())
    for _ in range(retry.ATTEMPTS - 1):
        clock.sleep(5 * TWO_MINUTES)
        assert retries.may_retry(SlowFault("the body stalled"))
    assert retries.timeout_s == retry.TIMEOUT_MAX_S


def test_boto3_gives_up_within_two_minutes(no_aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_clients", {})
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    config = client_module.client_of().meta.config
    attempts = config.retries["total_max_attempts"]
    assert attempts == 5
    # the longest pauses of botocore's standard mode: 1, 2, 4 and 8 s, drawn with full jitter
    pauses_s = sum(2**number for number in range(attempts - 1))
    assert attempts * config.read_timeout + pauses_s <= TWO_MINUTES
    # TCP, then TLS
    assert attempts * 2 * config.connect_timeout + pauses_s <= TWO_MINUTES


# Damaged on the way


@pytest.fixture
def far(faults: FaultServer, s3_env: S3Server, tmp_path: Path) -> tuple[str, str]:
    """Put a blob of many members, whose index is longer than the tail that an opening brings; its S3 and HTTP URLs."""
    payloads = [(f"{i * 7919 % 10_000:05}/{i:050}.bin", b"%d" % i * 3) for i in range(6000)]
    path = tmp_path / "o.tar"
    blobpack.pack(payloads, path, all_files=True)
    http = publish(s3_env, path.read_bytes(), endpoint=faults.endpoint)
    bucket = http.split("/")[3]
    return f"s3://{bucket}/a b.tar", http


NAME = f"{17 * 7919 % 10_000:05}/{17:050}.bin"
PAYLOAD = b"17" * 3


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_any_one_flipped_answer_is_asked_for_again(
    far: tuple[str, str], faults: FaultServer, scheme: str
) -> None:
    """The opening brings footer and directory; then come a page of the lookup, a block and the payload."""
    url = far[scheme == "http"]
    faults.requests.clear()
    with blobpack.open_blob(url) as blob:
        assert blob.read(NAME) == PAYLOAD
    usual = faults.count("GET")
    assert usual >= 4
    again = 0
    for flipped in range(usual):
        faults.requests.clear()
        faults.fail_next(*[None] * flipped, "flip")
        # a flipped bit in what no checksum covers, as in the archive's last bytes, may make the index seem stale
        with blobpack.open_blob(url) as blob:
            assert blob.read(NAME) == PAYLOAD
        again += faults.count("GET") > usual
    # the bit in the middle of the opening's tail may be one that nobody looks at
    assert again >= usual - 1


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_an_answer_flipped_twice_is_an_error(
    far: tuple[str, str], faults: FaultServer, scheme: str
) -> None:
    with blobpack.open_blob(far[scheme == "http"]) as blob:
        faults.fail_next("flip", "flip")
        with pytest.raises(ChecksumError, match="the index is damaged"):
            blob.read(NAME)
        assert NAME in blob.index
        faults.requests.clear()
        faults.fail_next("flip", "flip")
        with pytest.raises(ChecksumError, match="CRC-32C"):
            blob.read(NAME)
        assert faults.count("GET") == 2


def test_a_flipped_payload_of_a_batch_is_read_again(
    far: tuple[str, str], faults: FaultServer
) -> None:
    with blobpack.open_blob(far[0]) as blob:
        names = list(blob.index.names)[100:120]
        expected = list(blob.read_many(names))
        faults.fail_next("flip")
        assert list(blob.read_many(names)) == expected


def test_a_flipped_payload_is_no_failure_of_verify(
    faults: FaultServer, s3_env: S3Server, tmp_path: Path
) -> None:
    payload = b"x" * 100_000
    blobpack.pack([("a.bin", payload)], tmp_path / "o.tar", all_files=True)
    with blobpack.open_blob(
        publish(s3_env, (tmp_path / "o.tar").read_bytes(), endpoint=faults.endpoint)
    ) as blob:
        faults.fail_always("flip")
        assert [failure.kind for failure in blobpack.verify(blob).failures]
        faults._faults = iter(())
        usual = len(faults.requests)
        assert blobpack.verify(blob).ok
        count = len(faults.requests) - usual
        for flipped in range(count):
            faults.fail_next(*[None] * flipped, "flip")
            assert blobpack.verify(blob).ok
            faults._faults = iter(())


def test_a_flipped_frame_or_seek_table_is_read_again(
    faults: FaultServer, s3_env: S3Server, tmp_path: Path
) -> None:
    payloads = {f"{i}.bin": b"%d" % i * 9999 for i in range(50)}
    blobpack.pack(payloads.items(), tmp_path / "o.tar.zst", all_files=True)
    url = publish(s3_env, (tmp_path / "o.tar.zst").read_bytes(), endpoint=faults.endpoint)
    faults.requests.clear()
    with blobpack.open_blob(url) as blob:
        assert blob.read("7.bin") == payloads["7.bin"]
    for flipped in range(faults.count("GET")):
        faults.fail_next(*[None] * flipped, "flip")
        with blobpack.open_blob(url) as blob:
            assert blob.read("7.bin") == payloads["7.bin"]


class FlippingStore(MemoryStore):
    """A fake of a far store: the first time that a byte is delivered, one of its bits is another one."""

    is_remote = True

    def __init__(self, data: bytes, at: int) -> None:
        super().__init__(data)
        self.at = at

    def fetch(self, start: int, end: int) -> bytes:
        body = bytearray(super().fetch(start, end))
        if start <= self.at < end:
            body[self.at - start] ^= 0x10
            self.at = -1
        return bytes(body)

    def forget(self, start: int, end: int) -> bool:
        super().forget(start, end)
        return start < end


@pytest.mark.parametrize("name", ["o.tar", "o.tar.zst"])
@pytest.mark.filterwarnings("ignore::blobpack.MissingIndexWarning")
def test_one_flipped_bit_anywhere_changes_no_answer(name: str, tmp_path: Path) -> None:
    """If it hides the index, the headers are scanned."""
    payloads = {f"{i}.bin": b"%d" % i * 40 for i in range(12)}
    blobpack.pack(payloads.items(), tmp_path / name, all_files=True)
    data = (tmp_path / name).read_bytes()
    archive = blobpack.scan(tmp_path / "o.tar")._last_end if name == "o.tar" else 0
    # The headers of a tar are not read. A seek table has no checksum of its own: wrong sizes of frames contradict its
    # place in the file, but sizes and checksums of contents, and the number that marks the table, could be anything.
    table = len(data) - (seek_table_bytes(data, len(data)) or 0)
    unmarked = {at for at in range(table + 8, len(data) - 9) if (at - table - 8) % 12 >= 4}
    unmarked |= set(range(len(data) - 4, len(data))) if table < len(data) else set()
    for at in sorted({*range(archive, table, 7), *range(table, len(data))} - unmarked):
        store: Store = FlippingStore(data, at)
        store = open_seekable(store) or store
        index = find_index(store, None, "refuse")
        with blobpack.Blob(store, index) as blob:
            assert {name: blob.read(name) for name in payloads} == payloads


# Expired


@pytest.fixture
def s3_url(faults: FaultServer, s3_env: S3Server) -> str:
    bucket = s3_env.new_bucket()
    s3_env.put(bucket, "a.tar", BODY)
    return f"s3://{bucket}/a.tar"


@pytest.mark.parametrize("fault", ["expired", "403"])
def test_one_answer_that_says_expired_gets_one_more_try(
    s3_url: str, faults: FaultServer, fault: str
) -> None:
    faults.fail_next(fault)  # type: ignore[arg-type]
    with S3Store(s3_url, tail_bytes=5) as store:
        assert store.tail == BODY[-5:]
        faults.fail_next(fault)  # type: ignore[arg-type]
        assert store.read_range(1, 5) == BODY[1:5]
        assert store.stats.retried >= 1
        # through boto3, too
        faults.fail_next(fault, fault)  # type: ignore[arg-type]
        assert store.read_range(2, 5) == BODY[2:5]


@pytest.mark.parametrize("fault", ["expired", "403"])
def test_what_stays_expired_is_an_error(s3_url: str, faults: FaultServer, fault: str) -> None:
    faults.fail_always(fault)  # type: ignore[arg-type]
    said = "ExpiredToken" if fault == "expired" else "RequestTimeTooSkewed"
    with pytest.raises(StorageError, match=said):
        S3Store(s3_url, tail_bytes=5)
    assert faults.count("GET") == 2


def test_credentials_are_looked_up_again_after_an_expired_answer(
    s3_url: str, faults: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program's environment has got new credentials since boto3 read them."""
    import os

    before = client_module.client_of()
    right = os.environ["AWS_ACCESS_KEY_ID"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "gone")
    client_module.renew_client(before)
    faults.before_fault = lambda: None
    store = S3Store(s3_url, size=len(BODY), version="")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", right)
    faults.fail_next("expired")
    # the answer to the old credentials says "expired"; without new ones, the server would refuse the next request
    tail = ObjectKey(Bucket(store.bucket), store.key).ask("get_object", what="read")
    assert tail["Body"].read() == BODY
    assert client_module.client_of() is not before


def expired_then(right: bytes, *, times: int) -> Iterator[bytes]:
    said = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    no = b"HTTP/1.1 403 no\r\nContent-Length: %d\r\n\r\n" % len(said) + said
    return itertools.chain([no] * times, itertools.repeat(right))


@contextmanager
def answering_in_turn(answers: Iterator[bytes]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        if connection.recv(65536):
                            connection.sendall(next(answers))

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.tar"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_presigned_url_that_seems_expired_is_asked_once_more() -> None:
    with answering_in_turn(expired_then(RIGHT, times=1)) as url:
        store = HttpStore(url)
    with answering_in_turn(expired_then(RIGHT, times=1)) as url:
        store._ranged_get.pool = pool_module.pool_of(split_http(url)[0])
        assert store.read_range(9, 10) == b"x"
    for times in (2, 100):
        with (
            answering_in_turn(expired_then(RIGHT, times=times)) as url,
            pytest.raises(StorageError, match="Request has expired"),
        ):
            HttpStore(url)


# Connections


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Connection: Close",
        b"connection:CLOSE",
        b"CONNECTION: keep-alive, close",
        b"Connection:\tclose, TE",
    ],
)
@pytest.mark.parametrize(
    "answer",
    [
        RIGHT,
        b"HTTP/1.1 404 no\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 503 no\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    ],
)
def test_a_connection_that_the_server_closes_is_not_used_again(answer: bytes, line: bytes) -> None:
    with answering(answer.replace(b"\r\n", b"\r\n" + line + b"\r\n", 1)) as url:
        pool = Pool(split_http(url)[0])
        pool.get(b"GET / HTTP/1.1\r\n\r\n", 1, 5, (b"\r\nContent-Length: 1\r\n",))
        assert pool._idle == []


def test_other_options_keep_a_connection() -> None:
    line = b"Connection: keep-alive\r\nX-Connection: close\r\nServer: closer, close\r\n"
    with answering(RIGHT.replace(b"\r\n", b"\r\n" + line, 1)) as url:
        pool = Pool(split_http(url)[0])
        pool.get(b"GET / HTTP/1.1\r\n\r\n", 1, 5)
        assert len(pool._idle) == 1
        pool.close_idle()


def test_a_second_connection_that_can_not_send_is_closed(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Connection.send
    failed: list[Connection] = []

    def send_first_only(self: Connection, request: bytes, timeout_s: float) -> None:
        if len(pairs.servers) == 2:
            failed.append(self)
            raise Fault("no response: broken pipe")
        send(self, request, timeout_s)

    monkeypatch.setattr(Connection, "send", send_first_only)
    waits = threading.Timer(0.2, lambda: pairs.servers[0].sendall(ANSWER))
    waits.start()
    assert pairs.get()[:3] == (206, AS_EXPECTED, BODY)
    waits.join()
    assert failed[0].socket.fileno() == -1
    assert pairs.hedged == 0


def test_a_pause_inside_a_body_is_not_hedged(pairs: Pairs) -> None:
    def answer_with_a_pause(servers: list[socket.socket]) -> None:
        servers[0].sendall(HEAD + b"01234")
        pairs.made.acquire(
            timeout=0.2
        )  # four times the delay, within which no second connection is made
        servers[0].sendall(b"56789")

    thread = pairs.when_asked(answer_with_a_pause)
    assert pairs.get()[:3] == (206, AS_EXPECTED, BODY)
    thread.join()
    assert (pairs.hedged, len(pairs.servers)) == (0, 1)


@pytest.mark.parametrize(
    ("redirects", "works"), [(REDIRECTS_MAX, True), (REDIRECTS_MAX + 1, False)]
)
def test_redirects_are_counted(redirects: int, works: bool) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"
    with answering_in_turn(itertools.chain([moved] * redirects, itertools.repeat(RIGHT))) as url:
        if works:
            assert HttpStore(url).size == 10
            return
        with pytest.raises(StorageError, match="redirects more than 5 times"):
            HttpStore(url)
