"""Second requests for late answers: from a real S3 behind a proxy that stalls, and the race itself by socket pairs."""

from __future__ import annotations

import pickle
import random
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from s3server import close_idle_connections

import blobpack
from blobpack.stores.http import pool, retry
from blobpack.stores.http.connect import Origin
from blobpack.stores.http.connection import Connection
from blobpack.stores.http.hedging import (
    HEDGE_AFTER_MIN_S,
    HEDGE_AFTER_UNKNOWN_S,
    HEDGED_BURST,
    HEDGED_SHARE,
    RESPONSE_TIMES_MAX,
    HedgeTiming,
)
from blobpack.stores.http.pool import Pool
from blobpack.stores.http.response import AS_EXPECTED, Response
from blobpack.stores.http.retry import Fault
from blobpack.stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faultserver import FaultServer
    from s3server import S3Server

    from blobpack.model import Hedge

BODY = b"0123456789"
HEAD = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 10\r\n\r\n"
ANSWER = HEAD + BODY
EXPECTED = (b"\r\nContent-Length: 10\r\n",)


@pytest.fixture(autouse=True)
def no_connections_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without connections and what is known of servers; wait longer than any test takes."""
    close_idle_connections()
    monkeypatch.setattr(pool, "_pools", {})
    monkeypatch.setattr(retry, "TIMEOUT_S", 20.0)
    yield
    close_idle_connections()


@pytest.fixture(scope="module")
def payloads() -> dict[str, bytes]:
    chance = random.Random(7)
    return {f"{i:03}.bin": chance.randbytes(20_000) for i in range(200)}


@pytest.fixture
def url(s3: S3Server, faults: FaultServer, payloads: dict[str, bytes], tmp_path: Path) -> str:
    blobpack.pack(payloads.items(), tmp_path / "a.tar", all_files=True)
    return s3.put(s3.new_bucket(), "a.tar", (tmp_path / "a.tar").read_bytes())


class TestReads:
    def test_a_stalled_answer_in_a_batch_is_asked_for_again(
        self, faults: FaultServer, url: str, payloads: dict[str, bytes]
    ) -> None:
        names = list(payloads)[::10]
        with blobpack.open_blob(url) as blob:
            blob.read(names[0])
            faults.fail_next(None, None, "stall", None, "stall")
            assert list(blob.read_many(names)) == [payloads[name] for name in names]
            assert blob.stats.hedged >= 2
            assert blob.stats.retried == 0

    @pytest.mark.parametrize(
        ("hedge", "hedged", "retried"),
        [("batches", 0, 1), ("never", 0, 1), ("always", 1, 0)],
    )
    def test_a_stalled_single_read_is_when_asked_to(
        self,
        faults: FaultServer,
        url: str,
        payloads: dict[str, bytes],
        monkeypatch: pytest.MonkeyPatch,
        hedge: Hedge,
        hedged: int,
        retried: int,
    ) -> None:
        if retried:
            monkeypatch.setattr(retry, "TIMEOUT_S", 1.0)
        with blobpack.open_blob(url, hedge=hedge) as blob:
            blob.read("000.bin")
            faults.fail_next("stall")
            assert blob.read("001.bin") == payloads["001.bin"]
            assert (blob.stats.hedged, blob.stats.retried) == (hedged, retried)

    def test_a_batch_that_may_not_hedge_retries(
        self,
        faults: FaultServer,
        url: str,
        payloads: dict[str, bytes],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(retry, "TIMEOUT_S", 1.0)
        with blobpack.open_blob(url, hedge="never") as blob:
            blob.read("000.bin")
            faults.fail_next("stall")
            assert list(blob.read_many(["001.bin"])) == [payloads["001.bin"]]
            assert blob.stats.hedged == 0
            assert blob.stats.retried >= 1

    def test_the_second_request_may_fail_too(
        self,
        faults: FaultServer,
        url: str,
        payloads: dict[str, bytes],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(retry, "TIMEOUT_S", 1.0)
        with blobpack.open_blob(url, hedge="always") as blob:
            blob.read("000.bin")
            faults.fail_next("stall", "reset", "stall", "503")
            assert blob.read("001.bin") == payloads["001.bin"]
            assert blob.read("002.bin") == payloads["002.bin"]
            assert blob.stats.hedged == 2
            assert blob.stats.retried >= 1  # a first that is reset may be heard before its second

    def test_over_tls_what_is_not_yet_an_answer_does_not_win(
        self,
        tls_proxy: FaultServer,
        s3: S3Server,
        url: str,
        payloads: dict[str, bytes],
        certificate: tuple[Path, Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A new TLS connection has tickets to read before it has an answer."""
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", tls_proxy.endpoint)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
        with blobpack.open_blob(url, hedge="always") as blob:
            blob.read("000.bin")
            tls_proxy.fail_next("stall")
            assert blob.read("001.bin") == payloads["001.bin"]
            assert (blob.stats.hedged, blob.stats.retried) == (1, 0)

    def test_the_choice_is_checked_and_travels(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"hedge must be one of .*, not 'ever'"):
            blobpack.open_blob(url, hedge="ever")  # type: ignore[arg-type]
        with blobpack.open_blob(url, hedge="never") as blob:
            assert pickle.loads(pickle.dumps(blob)).hedge == "never"

    def test_other_stores_than_those_far_away_take_no_notice(
        self, tmp_path: Path, payloads: dict[str, bytes]
    ) -> None:
        blobpack.pack(payloads.items(), tmp_path / "b.tar", all_files=True)
        with blobpack.open_blob(tmp_path / "b.tar", hedge="always") as blob:
            assert blob.read("001.bin") == payloads["001.bin"]


class TestHedgeTiming:
    def test_nothing_is_known_at_first(self) -> None:
        assert HedgeTiming().hedge_after_s == HEDGE_AFTER_UNKNOWN_S

    def test_patience_is_what_95_in_100_needed(self) -> None:
        timing = HedgeTiming()
        for i in range(RESPONSE_TIMES_MAX):
            timing.note(0.4 if i % 10 == 0 else 0.02)
        assert timing.hedge_after_s == 0.4

    def test_patience_is_twice_the_median_where_all_are_about_as_late(self) -> None:
        timing = HedgeTiming()
        for i in range(RESPONSE_TIMES_MAX):
            timing.note(0.020 + i / 100_000)
        assert timing.hedge_after_s == pytest.approx(2 * 0.02128)

    def test_patience_is_never_shorter_than_the_scheduler_is_late(self) -> None:
        timing = HedgeTiming()
        for _ in range(RESPONSE_TIMES_MAX):
            timing.note(1e-5)
        assert timing.hedge_after_s == HEDGE_AFTER_MIN_S

    def test_what_was_long_ago_is_forgotten(self) -> None:
        timing = HedgeTiming()
        for seconds in [0.3] * RESPONSE_TIMES_MAX + [0.02] * RESPONSE_TIMES_MAX:
            timing.note(seconds)
        assert timing.hedge_after_s == 0.04

    def test_second_requests_are_few(self) -> None:
        timing = HedgeTiming()
        count = 10_000
        hedged = 0
        for _ in range(count):
            timing.note(0.02)
            hedged += timing.take_from_budget()
        assert hedged <= HEDGED_BURST + HEDGED_SHARE * count
        assert hedged >= HEDGED_SHARE * count - 1


class Pairs:
    """A pool whose connections are ends of socket pairs: the other ends are here, in the order they were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.servers: list[socket.socket] = []
        self.made = threading.Semaphore(0)

        def connect(address: object, timeout: float) -> socket.socket:
            ours, theirs = socket.socketpair()
            self.servers.append(theirs)
            ours.settimeout(timeout)
            self.made.release()
            return ours

        monkeypatch.setattr(socket, "create_connection", connect)
        monkeypatch.setattr(Connection, "__init__", without_nodelay(Connection.__init__))
        self.pool = Pool(Origin("pair", 1, None))
        self.pool.hedging.hedge_after_s = 0.05
        self.hedged = 0

    def count(self) -> None:
        self.hedged += 1

    def get(self, timeout_s: float = 10) -> Response:
        return self.pool.get_hedged(
            b"GET /\r\n\r\n", 10, timeout_s, EXPECTED, b"series", self.count
        )

    def when_asked(self, *answer: Callable[[list[socket.socket]], object]) -> threading.Thread:
        """When the n-th connection is made, do the n-th of these."""

        def serve() -> None:
            for act in answer:
                self.made.acquire(timeout=120)
                act(self.servers)

        thread = threading.Thread(target=serve)
        thread.start()
        return thread


def without_nodelay(init: Callable[..., None]) -> Callable[..., None]:
    """Socket pairs are of no protocol that has the option."""

    def patched(self: Connection, *arguments: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "IPPROTO_TCP", socket.SOL_SOCKET)
            patch.setattr(socket, "TCP_NODELAY", socket.SO_KEEPALIVE)
            init(self, *arguments)

    return patched


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pairs]:
    pairs = Pairs(monkeypatch)
    yield pairs
    pairs.pool.close_idle()
    for server in pairs.servers:
        server.close()


class TestHedgedRequest:
    def test_the_second_connection_answers(self, pairs: Pairs) -> None:
        thread = pairs.when_asked(lambda s: None, lambda s: s[1].sendall(ANSWER))
        assert pairs.get()[:3] == (206, AS_EXPECTED, BODY)
        thread.join()
        assert pairs.hedged == 1
        assert pairs.servers[0].recv(99) == pairs.servers[1].recv(99) == b"GET /\r\n\r\n"
        assert pairs.servers[0].recv(99) == b"", "the first connection is closed"
        assert pairs.pool.take().used, "the second is kept"

    def test_the_first_may_yet_answer(self, pairs: Pairs) -> None:
        thread = pairs.when_asked(lambda s: None, lambda s: s[0].sendall(ANSWER))
        assert pairs.get()[:3] == (206, AS_EXPECTED, BODY)
        thread.join()
        assert pairs.servers[1].recv(99) == b"GET /\r\n\r\n"
        assert pairs.servers[1].recv(99) == b"", "the second connection is closed"

    def test_a_first_that_stops_half_way_is_overtaken(self, pairs: Pairs) -> None:
        thread = pairs.when_asked(
            lambda s: s[0].sendall(HEAD + b"01234"), lambda s: s[1].sendall(ANSWER)
        )
        assert pairs.get()[:3] == (206, AS_EXPECTED, BODY)
        thread.join()

    def test_a_first_that_goes_on_half_way_is_heard(self, pairs: Pairs) -> None:
        thread = pairs.when_asked(
            lambda s: s[0].sendall(HEAD + b"01234"), lambda s: s[0].sendall(b"56789")
        )
        assert pairs.get()[:3] == (206, AS_EXPECTED, BODY)
        thread.join()
        assert pairs.hedged == 1

    def test_a_second_that_is_closed_leaves_the_first(self, pairs: Pairs) -> None:
        def close_and_answer(servers: list[socket.socket]) -> None:
            servers[1].close()
            assert servers[0].recv(99) == b"GET /\r\n\r\n"
            threading.Timer(0.1, servers[0].sendall, (ANSWER,)).start()

        thread = pairs.when_asked(lambda s: None, close_and_answer)
        assert pairs.get()[:3] == (206, AS_EXPECTED, BODY)
        thread.join()

    def test_a_second_that_is_cut_is_a_fault(self, pairs: Pairs) -> None:
        def cut(servers: list[socket.socket]) -> None:
            assert servers[1].recv(99) == b"GET /\r\n\r\n"
            servers[1].sendall(HEAD)
            servers[1].close()

        thread = pairs.when_asked(lambda s: None, cut)
        with pytest.raises(Fault, match=r"body was cut|reset"):
            pairs.get()
        thread.join()

    def test_neither_answers(self, pairs: Pairs) -> None:
        with pytest.raises(Fault, match=r"no response within 0\.2 s"):
            pairs.get(timeout_s=0.2)
        assert pairs.hedged == 1
        assert [server.recv(99) for server in pairs.servers] == [b"GET /\r\n\r\n"] * 2
        assert [server.recv(99) for server in pairs.servers] == [b"", b""]

    def test_without_a_budget_the_first_has_all_its_time(self, pairs: Pairs) -> None:
        while pairs.pool.hedging.take_from_budget():
            pass
        timer = threading.Timer(0.2, lambda: pairs.servers[0].sendall(ANSWER))
        timer.start()
        assert pairs.get()[:3] == (206, AS_EXPECTED, BODY)
        assert pairs.hedged == 0
        assert len(pairs.servers) == 1

    def test_patience_longer_than_the_timeout_is_no_race(self, pairs: Pairs) -> None:
        pairs.pool.hedging.hedge_after_s = 1.0
        with pytest.raises(Fault, match=r"no response within 0\.1 s"):
            pairs.get(timeout_s=0.1)
        assert pairs.hedged == 0


def test_requests_outside_batches_are_not_hedged(
    faults: FaultServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "get_hedged", None)  # would be called, and fail
    with open_store(url) as store:
        assert len(store.read_range(0, 100)) == 100
