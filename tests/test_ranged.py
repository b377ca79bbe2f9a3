"""Ranged GETs against a server that gives one scripted answer after another: what is believed, continued and counted."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from s3server import close_idle_connections

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.http import connection, ranged, retry
from blobpack.stores.http.options import with_options
from blobpack.stores.http.pool import Pool
from blobpack.stores.http.ranged import RangedGet, if_match
from blobpack.stores.http.store import HttpStore

if TYPE_CHECKING:
    from collections.abc import Iterator

# long enough that an answer which is cut behind half of it is continued
SIZE = 400_000
DATA = bytes(range(251)) * (SIZE // 251 + 1)
DATA = DATA[:SIZE]


def answer(
    start: int,
    end: int,
    *,
    status: int = 206,
    etag: str = '"1"',
    sent: int | None = None,
    size: int | str = SIZE,
    come: tuple[int, int] | None = None,
    length: int | None = None,
) -> bytes:
    """An answer with a range of DATA; sent: bytes of the body before the connection is closed; come: other bytes."""
    body = DATA[slice(*(come or (start, end)))]
    head = (
        f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {len(body) if length is None else length}\r\n"
        f"ETag: {etag}\r\nx-amz-request-id: me\r\n"
    )
    if status == 206:
        head += f"Content-Range: bytes {start}-{end - 1}/{size}\r\n"
    return head.encode() + b"\r\n" + body[:sent]


BUSY = (
    b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\nx-amz-request-id: me\r\n\r\n"
)
OPENING = answer(SIZE - 1, SIZE)


@contextmanager
def served(*answers: bytes, opening: bytes = OPENING, tail_bytes: int = 0) -> Iterator[HttpStore]:
    """A store that was opened at a server; its reads get these answers, one each, and the last one again and again.

    A connection ends with the first answer that says "Connection: close".
    """
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            script = [opening, *answers]
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    return
                with accepted:
                    came = b"Connection: keep-alive"
                    while b"Connection: close" not in came:
                        request = accepted.recv(65536).decode("latin-1")
                        if not request:
                            break
                        asked.append(request.split("Range: bytes=")[1].split("\r\n")[0])
                        came = script.pop(0) if len(script) > 1 else script[0]
                        accepted.sendall(came)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            port = listener.getsockname()[1]
            with HttpStore(f"http://127.0.0.1:{port}/a.tar", tail_bytes=tail_bytes) as store:
                close_idle_connections()
                asked.clear()
                store.asked = asked
                yield store
        finally:
            close_idle_connections()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_MAX_S", 0.001)
    monkeypatch.setattr(retry, "TRIED_FOR_S", 0)
    monkeypatch.setattr(retry, "ATTEMPTS", 3)


def test_a_long_answer_that_is_cut_is_continued_at_the_cut() -> None:
    with served(answer(10, 300_010, sent=200_000), answer(200_010, 300_010)) as store:
        before = store.stats
        assert store.read_range(10, 300_010) == DATA[10:300_010]
        assert store.asked == ["10-300009", "200010-300009"]
        assert store.stats.bytes_fetched - before.bytes_fetched == 300_000
        assert store.stats.retried - before.retried == 1


@pytest.mark.parametrize("sent", [ranged.CONTINUED_BYTES_MIN - 1, ranged.CONTINUED_BYTES_MIN])
def test_what_is_continued_counts_and_what_is_thrown_away_does_not(sent: int) -> None:
    goes_on = 10 + sent if sent == ranged.CONTINUED_BYTES_MIN else 10
    with served(answer(10, 300_010, sent=sent), answer(goes_on, 300_010)) as store:
        before = store.stats
        assert store.read_range(10, 300_010) == DATA[10:300_010]
        assert store.asked == ["10-300009", f"{goes_on}-300009"]
        assert store.stats.bytes_fetched - before.bytes_fetched == 300_000


@pytest.mark.parametrize(
    ("first", "etag"),
    [
        pytest.param(answer(10, 300_010, sent=1000), '"1"', id="a short part"),
        pytest.param(answer(10, 300_010, sent=200_000, etag='W/"1"'), 'W/"1"', id="a weak ETag"),
        pytest.param(answer(20, 300_020, sent=200_000), '"1"', id="another range"),
        pytest.param(
            answer(10, 300_010, sent=200_000).replace(b"Content-Range", b"X"), '"1"', id="no range"
        ),
    ],
)
def test_other_parts_are_thrown_away_and_the_range_is_read_again(first: bytes, etag: str) -> None:
    opening = answer(SIZE - 1, SIZE, etag=etag)
    with served(first, answer(10, 300_010, etag=etag), opening=opening) as store:
        assert store.read_range(10, 300_010) == DATA[10:300_010]
        assert store.asked == ["10-300009"] * 2


def test_a_part_of_another_version_is_not_continued() -> None:
    with served(answer(10, 300_010, sent=200_000, etag='"2"'), answer(10, 300_010)) as store:
        assert store.read_range(10, 300_010) == DATA[10:300_010]
        assert store.asked == ["10-300009"] * 2


def test_a_part_of_a_blob_of_another_size_is_a_change() -> None:
    cut = answer(10, 300_010, sent=200_000, size=SIZE + 1)
    with served(cut) as store, pytest.raises(BlobChangedError, match=f"has {SIZE + 1} bytes"):
        store.read_range(10, 300_010)


def test_bytes_that_are_thrown_away_do_not_count() -> None:
    with served(answer(10, 300_010, sent=1000), answer(10, 300_010)) as store:
        before = store.stats
        store.read_range(10, 300_010)
        assert store.stats.bytes_fetched - before.bytes_fetched == 300_000
        assert store.stats.bytes_wanted - before.bytes_wanted == 300_000
        assert store.stats.requests - before.requests == 2


def test_the_whole_blob_may_be_answered_without_a_range() -> None:
    """RFC 9110, 14.2."""
    whole = answer(0, SIZE, status=200)
    with served(whole) as store:
        assert store.read_range(0, SIZE) == DATA
        assert len(store.asked) == 1
    changed = whole.replace(b'"1"', b'"2"')
    with (
        served(changed) as store,
        pytest.raises(BlobChangedError, match=r'ETag is "2", .*1 attempt,'),
    ):
        store.read_range(0, SIZE)


@pytest.mark.parametrize(
    ("start", "end", "came"),
    [
        pytest.param(0, SIZE - 1, answer(0, SIZE, status=200), id="all for a part"),
        pytest.param(1, SIZE, answer(0, SIZE, status=200), id="all for the last part"),
        pytest.param(0, SIZE, answer(0, SIZE - 1, status=200), id="a part for all"),
        pytest.param(5, 9, answer(5, 9, status=200), id="a part without its range"),
    ],
)
def test_other_bytes_without_a_range_are_never_believed(start: int, end: int, came: bytes) -> None:
    with served(came) as store:
        with pytest.raises(StorageError, match=r"after 3 attempts"):
            store.read_range(start, end)
        assert len(store.asked) == 3


@pytest.mark.parametrize("busy", [0, 1, 2])
@pytest.mark.parametrize(
    ("came", "error"),
    [
        pytest.param(answer(5, 9, etag='"2"'), 'ETag is "2"', id="version"),
        pytest.param(answer(5, 9, size=SIZE + 1), f"has {SIZE + 1} bytes", id="size"),
        pytest.param(
            b"HTTP/1.1 412 X\r\nContent-Length: 0\r\nx-amz-request-id: me\r\n\r\n",
            "no longer the one that was opened .HTTP 412",
            id="412",
        ),
    ],
)
def test_a_change_is_said_with_the_number_of_the_attempt(
    came: bytes, error: str, busy: int
) -> None:
    attempts = f"after {busy + 1} attempt{'s' if busy else ''}, request me"
    with served(*[BUSY] * busy, came) as store:
        with pytest.raises(BlobChangedError, match=f"{error}.*{attempts}"):
            store.read_range(5, 9)
        assert len(store.asked) == busy + 1


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, BlobNotFoundError, "there is no such blob .HTTP 404"),
        (410, BlobNotFoundError, "there is no such blob .HTTP 410"),
        (416, BlobChangedError, "no longer the one that was opened .HTTP 416"),
        (418, StorageError, "HTTP 418"),
    ],
)
def test_a_status_has_its_error(status: int, error: type[StorageError], message: str) -> None:
    came = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status
    with served(came) as store, pytest.raises(StorageError, match=message) as caught:
        store.read_range(5, 9)
    assert type(caught.value) is error
    if error is StorageError:
        assert caught.value.status == status


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(answer(6, 10), id="later"),
        pytest.param(answer(5, 10, come=(5, 9)), id="a longer range"),
        pytest.param(answer(5, 11, come=(5, 9)), id="a range of two bytes more"),
        pytest.param(answer(4, 9, come=(5, 9)), id="an earlier start"),
        pytest.param(answer(5, 9, come=(5, 10)), id="a longer body"),
        pytest.param(answer(5, 9, come=(5, 8)), id="a shorter body"),
    ],
)
def test_a_wrong_range_is_asked_for_again_over_another_connection(
    wrong: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong answer may be that to an earlier request, and other connections may have the same fault."""
    closed: list[Pool] = []
    close_idle = Pool.close_idle

    def noting(pool: Pool) -> None:
        closed.append(pool)
        close_idle(pool)

    monkeypatch.setattr(Pool, "close_idle", noting)
    with served(wrong, answer(5, 9)) as store:
        closed.clear()
        assert store.read_range(5, 9) == DATA[5:9]
        assert len(closed) == 1
    with served(BUSY, answer(5, 9)) as store:
        closed.clear()
        assert store.read_range(5, 9) == DATA[5:9]
        assert closed == []


def test_an_answer_of_another_length_is_said_with_both() -> None:
    came = answer(5, 9, come=(5, 10))
    with served(came) as store, pytest.raises(StorageError, match="5 bytes came instead of 4"):
        store.read_range(5, 9)


def in_chunks(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """The answer for bytes 5 to 9, in chunks."""
    head, _, _ = (
        answer(5, 9)
        .replace(b"Content-Length: 4", b"Transfer-Encoding: chunked")
        .partition(b"\r\n\r\n")
    )
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return b"".join([head, b"\r\n\r\n", *chunks, end])


@pytest.mark.parametrize(
    "came",
    [
        in_chunks(DATA[5:9]),
        in_chunks(DATA[5:6], DATA[6:9]),
        in_chunks(end=b"4 ;a=b\r\n" + DATA[5:9] + b"\r\n0\r\nX: trailer\r\n\r\n"),
        # up to the end of the connection
        answer(5, 9).replace(b"Content-Length: 4", b"X: 4"),
    ],
)
def test_an_answer_without_a_length_is_read_to_its_end(came: bytes) -> None:
    with served(came, answer(5, 9)) as store:
        assert store.read_range(5, 9) == DATA[5:9]
        assert store.read_range(5, 9) == DATA[5:9]


@pytest.mark.parametrize(
    ("came", "message"),
    [
        (in_chunks(DATA[5:8]), "chunked"),
        (in_chunks(DATA[5:8], end=b""), "3 bytes came instead of 4: the body was cut"),
        (in_chunks(DATA[5:10]), "longer than its 4 bytes"),
        (in_chunks(end=b"-4\r\n"), "malformed"),
        (in_chunks(end=b"\r\n"), "malformed"),
        (in_chunks(end=b"0" * 5000), "malformed"),
    ],
)
def test_wrong_chunks_are_never_bytes(
    came: bytes, message: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(came) as store, pytest.raises(StorageError, match=message):
        store.read_range(5, 9)


def test_the_right_range_by_status_200_is_taken() -> None:
    """As the server of rclone sends it."""
    with served(answer(5, 9).replace(b"206", b"200", 1)) as store:
        assert store.read_range(5, 9) == DATA[5:9]
    with (
        served(answer(4, 8).replace(b"206", b"200", 1)) as store,
        pytest.raises(StorageError, match="bytes 4 to 8 came instead of 5 to 9"),
    ):
        store.read_range(5, 9)


@pytest.mark.parametrize("etag", ['"1"', "1", 'W/"1"'])
def test_etags_are_compared_without_quotes(etag: str) -> None:
    with served(answer(5, 9, etag=etag)) as store:
        assert store.read_range(5, 9) == DATA[5:9]
    other = answer(5, 9, etag=etag.replace("1", "2"))
    with served(other) as store, pytest.raises(BlobChangedError, match="ETag is"):
        store.read_range(5, 9)


def test_a_size_that_the_server_does_not_know_is_no_change() -> None:
    """RFC 9110, 14.4: "*"."""
    with served(answer(5, 9, size="*")) as store:
        assert store.read_range(5, 9) == DATA[5:9]


def test_an_answer_without_a_version_is_believed_if_its_range_is_right() -> None:
    with served(answer(5, 9).replace(b"ETag", b"X")) as store:
        assert store.read_range(5, 9) == DATA[5:9]


def test_a_server_that_can_not_be_reached_was_sent_nothing() -> None:
    with served(answer(5, 9)) as store:
        before = store.stats.requests
        store.read_range(5, 9)
        assert store.stats.requests - before == 1
    with pytest.raises(StorageError, match="can't read bytes 5 to 9"):
        HttpStore.fetch(store, 5, 9)
    assert store.stats.requests - before == 1


def test_a_request_that_failed_counts_without_bytes() -> None:
    with served(BUSY, BUSY, answer(5, 9)) as store:
        before = store.stats
        store.read_range(5, 9)
        assert store.stats.requests - before.requests == 3
        assert store.stats.retried - before.retried == 2
        assert store.stats.bytes_fetched - before.bytes_fetched == 4


def test_what_is_forgotten_is_read_from_the_server_again() -> None:
    opening = answer(SIZE - 100, SIZE)
    with served(answer(SIZE - 4, SIZE), opening=opening, tail_bytes=100) as store:
        assert store.peek(SIZE - 4, SIZE) == DATA[-4:]
        assert store.asked == []
        assert not store.forget(SIZE - 4, SIZE - 4)
        assert store.peek(SIZE - 4, SIZE) == DATA[-4:]
        assert store.asked == []
        assert store.forget(SIZE - 4, SIZE)
        assert store.peek(SIZE - 4, SIZE) == DATA[-4:]
        assert len(store.asked) == 1
        # bytes that were not kept may have been damaged on their way
        assert store.forget(0, 5)


def test_only_a_strong_etag_makes_a_series() -> None:
    """RFC 9110, 8.8.1: others may stay the same when the bytes change, and an answer to another request go unnoticed."""
    head = b"GET /a Range: bytes="
    assert RangedGet(None, head, 'ETag: "1"').series == head
    for line in ('ETag: W/"1"', "Last-Modified: now", "ETag: 1"):
        assert RangedGet(None, head, line).series is None


def test_if_match_asks_for_strong_etags_alone() -> None:
    """RFC 9110, 13.1.1: a weak one would never match."""
    assert if_match('"1"') == 'If-Match: "1"\r\n'
    assert if_match('W/"1"') == if_match("") == ""


def test_a_transient_status_is_said_with_its_request() -> None:
    message = r"HTTP status 503 \(after 3 attempts, request me\)"
    with served(BUSY) as store, pytest.raises(StorageError, match=message):
        store.read_range(5, 9)


def kept(came: bytes) -> bytes:
    """An answer after which the connection stays open, as usual."""
    return came.replace(b"Connection: close\r\n", b"")


def test_the_usual_answer_is_compared_with_what_is_expected_and_not_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with served(kept(answer(5, 9)), kept(answer(9, 300_000))) as store:
        monkeypatch.setattr(connection, "parse_headers", None)  # would be called, and fail
        assert store.read_range(5, 9) == DATA[5:9]
        assert store.read_range(9, 300_000) == DATA[9:300_000]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(answer(6, 10), id="later"),
        pytest.param(answer(5, 10, come=(5, 9)), id="a longer range"),
        pytest.param(answer(5, 11, come=(5, 9)), id="a range of two bytes more"),
        pytest.param(answer(4, 9, come=(5, 9)), id="an earlier start"),
        pytest.param(answer(5, 9, come=(5, 10)), id="a longer body"),
        pytest.param(answer(5, 9, come=(5, 8)), id="a shorter body"),
    ],
)
def test_a_wrong_range_on_a_connection_that_stays_open_is_asked_for_again(wrong: bytes) -> None:
    with served(kept(wrong), kept(answer(5, 9))) as store:
        assert store.read_range(5, 9) == DATA[5:9]
        assert store.asked == ["5-8"] * 2


def test_requests_that_succeed_give_back_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them, a process that runs for weeks would come to the end of its retries."""
    monkeypatch.setattr(retry, "BUDGET_RETRIES", 1)
    good = [answer(5, 9)] * round(1 / retry.BUDGET_REGAINED)
    with served(BUSY, *good, BUSY, answer(5, 9)) as store:
        for _ in range(len(good) + 1):
            assert store.read_range(5, 9) == DATA[5:9]
        assert len(store.asked) == len(good) + 3
    with served(BUSY, answer(5, 9), BUSY) as store:
        store.read_range(5, 9)
        with pytest.raises(StorageError, match="after 1 attempt,"):
            store.read_range(5, 9)


def test_the_speed_is_that_of_answers_without_the_time_to_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Plans of batches weigh a gap against a request on a connection that is open."""
    times = iter((10_000.0, 11_000.0, 20_000.0, 25_000.0))
    clock = SimpleNamespace(perf_counter=times.__next__, monotonic=time.monotonic)
    with served(answer(5, 9), answer(0, 300_000)) as store:
        monkeypatch.setattr(ranged, "time", clock)
        waited_s = store.stats.wait_s
        store.read_range(5, 9)
        assert 0 < store.latency_s < 1000
        store.read_range(0, 300_000)
        assert 300_000 / 5000 < store.bytes_per_s < 300_000 / 3000
        assert store.stats.wait_s - waited_s == pytest.approx(6000)


@pytest.mark.parametrize("hedge", [False, True])
def test_only_a_read_that_asks_for_it_is_hedged(
    hedge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(answer(5, 9)) as store:
        monkeypatch.setattr(
            Pool, "get" if hedge else "get_hedged", None
        )  # would be called, and fail
        assert with_options(store.read_range, 5, 9, hedge=hedge) == DATA[5:9]
