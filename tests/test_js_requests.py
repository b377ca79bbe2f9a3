"""The queue of blobpack.js: how many requests run at once, what ends them, and when they are repeated."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from js_reader import MODULE, Node, node, node_path
from test_js_reader import PAYLOADS, PNG
from webserver import Request, WebServer

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["node"]

WAIT_S = 120
# names so long that the index has more than the 128 KiB that are read first
LONG = [(f"{row:05d}{'x' * 150}.png", PNG + b"%d" % row) for row in range(2000)]


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("requests")
    blobpack.pack(LONG, folder / "long.tar")
    # of equal size, with other bytes behind equal names
    blobpack.pack([(name, payload[:-1] + b"!") for name, payload in LONG], folder / "other.tar")
    (folder / "set").mkdir()
    for number in range(9):
        blobpack.pack(PAYLOADS[number * 10 :][:10], folder / "set" / f"{number}.tar")
    blobpack.collect(folder / "set")
    return folder


@pytest.fixture
def web(blobs: Path, tmp_path: Path) -> Iterator[WebServer]:
    for path in blobs.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    with WebServer(tmp_path) as server:
        yield server


def run(node: Node, url: str, code: str) -> Any:
    answer = node.run({"url": url, "code": code})
    return answer.get("value", answer)


def test_the_module_is_one_file_without_dependencies() -> None:
    text = MODULE.read_text()
    done = subprocess.run(
        [node_path(), "--check", "--input-type=module", "-"],
        input=text,
        text=True,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert "\nimport " not in text
    assert "import(" not in text
    # a page may hold it in a script element
    assert "</script" not in text
    assert "export default" not in text
    assert max(map(len, text.splitlines())) <= 120


# The blob is replaced between two requests of one read


@pytest.mark.parametrize("etag", ["strong", "weak", "same", "none"])
@pytest.mark.parametrize("at", ["block", "payload"])
def test_a_blob_that_is_replaced_between_two_requests_of_one_read(
    node: Node, web: WebServer, etag: Any, at: str
) -> None:
    def replace(request: Request) -> None:
        if len(web.requests) == {"block": 4, "payload": 5}[at]:
            shutil.copy(web.folder / "other.tar", web.folder / "long.tar")

    web.does.etag, web.does.modified, web.does.before = etag, False, replace
    url, name = f"{web.url}long.tar", LONG[700][0]
    answer = node.run({"url": url, "calls": [["read", name]], "options": {"retries": 0}})[
        "answers"
    ][0]
    assert len(web.requests) >= 5 or etag == "strong"
    if etag == "strong":
        assert answer["error"] == "BlobChangedError"
    elif at == "payload":
        assert answer["error"] == "ChecksumError"
        assert "or the blob was replaced" in answer["message"]
    else:
        # block and payload are of one state, and their checksums agree
        assert answer.get("error") == "ChecksumError" or bytes.fromhex(answer["value"]).endswith(
            b"!"
        )


def test_a_part_of_the_index_that_is_damaged_on_its_way_is_read_again(
    node: Node, web: WebServer
) -> None:
    web.does.faults = [None, None, "flip"]
    job = {"url": f"{web.url}long.tar", "calls": [["read", LONG[700][0]]]}
    assert node.run(job)["answers"] == [{"value": LONG[700][1].hex()}]
    assert len(web.requests) == 6


# Ends


@pytest.mark.parametrize("end", ["stop.abort(new Error('enough'))", "blob.close()"])
def test_an_aborted_read_ends_at_once(node: Node, web: WebServer, end: str) -> None:
    web.does.faults = [None, None, None, "stall"]

    def hold(request: Request) -> None:
        if request.path == "/stalled":
            assert web.stalled.wait(WAIT_S)

    web.does.before = hold
    code = f"""
      const blob = await blobpack.open(url);
      const stop = new AbortController();
      fetch(new URL("stalled", url)).then(() => {{ {end}; }});
      const failed = await blob.read({LONG[5][0]!r}, {{ signal: stop.signal }}).catch((error) => error.message);
      const later = await blob.read(7).then((bytes) => bytes.length, (error) => error.message);
      return [failed, later];
    """
    failed, later = run(node, f"{web.url}long.tar", code)
    assert failed == ("enough" if "abort" in end else f"{web.url}long.tar: the reader is closed")
    assert later == (len(LONG[7][1]) if "abort" in end else failed)


def test_opening_can_be_aborted(node: Node, web: WebServer) -> None:
    web.does.faults = ["stall"]
    code = """
      const failed = await blobpack.open(url, { signal: AbortSignal.timeout(50) }).catch((error) => error.name);
      const aborted = await blobpack.open(url, { signal: AbortSignal.abort() }).catch((error) => error.name);
      return [failed, aborted];
    """
    assert run(node, f"{web.url}long.tar", code) == ["TimeoutError", "AbortError"]


def test_an_abort_does_not_spoil_the_index_for_others(node: Node, web: WebServer) -> None:
    """Two reads wait for one block; one of them is aborted."""
    web.does.before = lambda request: time.sleep(0.1)
    code = f"""
      const blob = await blobpack.open(url);
      const stop = new AbortController();
      const reads = [blob.find({LONG[5][0]!r}, {{ signal: stop.signal }}), blob.find({LONG[6][0]!r})];
      stop.abort();
      const ended = await Promise.allSettled(reads);
      return [ended[0].status, ended[1].value.row];
    """
    assert run(node, f"{web.url}long.tar", code) == ["rejected", 6]
    assert len(web.requests) == 4


def test_a_search_that_ends_early_stops_reading(node: Node, web: WebServer) -> None:
    code = """
      const blob = await blobpack.open(url);
      for await (const name of blob.select("*")) return name;
    """
    assert run(node, f"{web.url}long.tar", code) == LONG[0][0]
    code = """
      const blob = await blobpack.open(url);
      const stop = new AbortController();
      let names = 0;
      try {
        for await (const name of blob.select("*", { signal: stop.signal })) if (++names === 10) stop.abort();
      } catch (error) {
        return [names, error.name];
      }
    """
    assert run(node, f"{web.url}long.tar", code) == [1024, "AbortError"]


# At once


@pytest.mark.parametrize("most", [1, 3])
def test_requests_wait_for_their_turn(node: Node, web: WebServer, most: int) -> None:
    """Members of nine blobs are read together, and each blob takes requests of its own."""
    changed, now, peak = threading.Condition(), 0, 0

    def busy(request: Request) -> None:
        nonlocal now, peak
        if request.path.endswith(".idx"):
            return
        with changed:
            now += 1
            peak = max(peak, now)
            changed.notify_all()
            # until as many are here as may be, and a moment more, in which no further one may come
            assert changed.wait_for(lambda: peak >= most, WAIT_S)
        time.sleep(0.02)
        with changed:
            now -= 1

    web.does.before = busy
    rows = list(range(0, 90, 5))
    job = {
        "url": f"{web.url}set/",
        "calls": [["readMany", rows]],
        "options": {"requestsAtOnce": most},
    }
    found = node.run(job)["answers"][0]["value"]
    assert [bytes.fromhex(payload) for _, payload in found] == [PAYLOADS[row][1] for row in rows]
    assert peak == most


def test_an_abort_in_the_queue_frees_its_place(node: Node, web: WebServer) -> None:
    web.does.before = lambda request: time.sleep(0.05)
    code = """
      const blob = await blobpack.open(url, { requestsAtOnce: 1 });
      await blob.rows(0, 2000);
      const stop = new AbortController();
      const reads = Array.from({ length: 8 }, (_, row) => blob.read(row * 200, row % 2 ? { signal: stop.signal } : {}));
      // the first one is sent, and the others wait
      await new Promise((resolve) => setTimeout(resolve, 10));
      stop.abort();
      const ended = await Promise.allSettled(reads);
      return [...ended.map(({ status }) => status), (await blob.read(3)).length];
    """
    assert run(node, f"{web.url}long.tar", code) == ["fulfilled", "rejected"] * 4 + [
        len(LONG[3][1])
    ]


def test_pauses_between_attempts_grow_and_heed_the_server(node: Node, web: WebServer) -> None:
    """Not by a clock: the timers that the module asks for."""
    web.does.faults = [None, None, 503, 429, "reset", "cut"]
    code = """
      const real = setTimeout;
      const waits = [];
      globalThis.setTimeout = (done, ms, ...rest) => {
        // the other timers of the module end requests of whose answers nothing comes
        const isOwn = ms < 60_000 && new Error().stack.includes("blobpack.mjs");
        if (isOwn) waits.push(ms);
        return real(done, isOwn ? 0 : ms, ...rest);
      };
      try {
        const blob = await blobpack.open(url);
        await blob.rows(0, 3);
        return waits.filter((ms) => ms > 20);
      } finally {
        globalThis.setTimeout = real;
      }
    """
    web.does.retry_after = 2
    assert all(wait >= 2000 for wait in run(node, f"{web.url}long.tar", code)[:2])
    web.does.retry_after = 0
    web.does.faults = [None, None, 503, 429, "reset", "cut"]
    waits = run(node, f"{web.url}long.tar", code)
    assert len(waits) == 4
    for failed, wait in enumerate(waits):
        assert 125 * 2**failed <= wait <= 375 * 2**failed
