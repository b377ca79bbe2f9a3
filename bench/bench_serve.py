"""Measure `blobpack serve` under load, beside an empty ASGI answer of the same server and nginx serving files.

    scripts/bench serve [--seconds N] [--rounds N] [--json FILE]

One worker, a warm local blob of small images, wrk with 32 connections and keep-alive; medians of all rounds. The rates
of the three servers are measured in turn, so that another program on the machine disturbs all of them. wrk and nginx are
Debian packages; what is missing is said to be missing.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES, IMAGE_BYTES = 20_000, 5_000
LARGE_BYTES = 10 << 10  # of the members of a batch
CONNECTIONS = 32
IDLE, AT_ONCE = 1_000, 2_000
EMPTY = """
import sys, blobpack.gateway.server as server
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
listener = server.Listener(app, "127.0.0.1", 0)
server.run([listener], lambda: print('{"url": "%s"}' % listener.url, flush=True))
"""
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; types {{ image/jpeg jpg; }}
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""
LUA = """
local n = {seed}
request = function()
  n = n + 1
  return wrk.format("GET", string.format("/b/out/img/%06d.jpg", (n * 7919) % {images}))
end
"""


@dataclass
class Load:
    """What wrk measured: answers a second, milliseconds within which 99 of 100 came, and the server's CPU time."""

    per_s: float
    p99_ms: float
    cpu_us: float


class Server:
    """A server process."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        found = re.search(
            r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text()
        )
        return int(found[1]) / 1000 if found else 0.0


@contextmanager
def started(*command: str) -> Iterator[Server]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        ready = json.loads(process.stdout.readline())
        yield Server(process, int(ready["url"].rstrip("/").rpartition(":")[2]))
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def nginx_of(folder: Path) -> Iterator[Server | None]:
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    os.chmod(folder, 0o755)
    process = subprocess.Popen(
        [program, "-c", folder / "nginx.conf", "-p", folder], stderr=subprocess.DEVNULL
    )
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.05)
    worker = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    )
    server = Server(process, port)
    server.cpu_s = Server(argparse.Namespace(pid=int(worker.stdout)), port).cpu_s  # type: ignore[method-assign]
    try:
        yield server
    finally:
        process.terminate()
        process.wait()


def load(server: Server, folder: Path, seconds: int) -> Load:
    script = folder / "wrk.lua"
    script.write_text(LUA.format(images=IMAGES, seed=random.randrange(IMAGES)))
    began_s = server.cpu_s()
    done = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{seconds}",
            "--latency",
            "-s",
            script,
            f"http://127.0.0.1:{server.port}/",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    cpu_s = server.cpu_s() - began_s
    assert "Non-2xx" not in done, done
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", done).groups()
    answers = int(re.search(r"(\d+) requests in", done)[1])
    per_s = float(re.search(r"Requests/sec:\s+([\d.]+)", done)[1])
    return Load(
        per_s, float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit], 1e6 * cpu_s / answers
    )


def measure_rates(
    servers: dict[str, Server | None], folder: Path, rounds: int, seconds: int
) -> dict[str, Load]:
    found: dict[str, list[Load]] = {name: [] for name, server in servers.items() if server}
    for server in filter(None, servers.values()):
        load(server, folder, 1)
    for _ in range(rounds):
        for name in found:
            found[name].append(load(servers[name], folder, seconds))
    return {
        name: Load(
            *(
                median(getattr(one, field) for one in loads)
                for field in ("per_s", "p99_ms", "cpu_us")
            )
        )
        for name, loads in found.items()
    }


def measure_batch(server: Server, names: list[str]) -> tuple[float, float]:
    """Members a second from one client: by single GETs on one connection, and by one batch."""
    client = http.client.HTTPConnection("127.0.0.1", server.port)

    def singles() -> None:
        for name in names:
            client.request("GET", f"/b/large/{name}")
            client.getresponse().read()

    def batch() -> None:
        client.request("POST", "/batch", json.dumps({"blob": "large", "members": names}))
        response = client.getresponse()
        while response.read(1 << 20):
            pass

    def rate(work) -> float:
        began = time.perf_counter()
        work()
        return len(names) / (time.perf_counter() - began)

    singles(), batch()
    pairs = [(rate(singles), rate(batch)) for _ in range(5)]
    return median(one for one, _ in pairs), median(other for _, other in pairs)


def open_idle(server: Server, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]


@contextmanager
def slow_readers(server: Server, count: int) -> Iterator[None]:
    """Clients that ask for a large member again and again, and take nothing."""
    readers = open_idle(server, count)
    for reader in readers:
        reader.sendall(b"GET /raw/out HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.5)
    yield
    for reader in readers:
        reader.close()


def measure_memory(server: Server) -> tuple[float, float, int]:
    """RSS before, and the largest one while 2,000 clients ask at once; how many were answered with 200."""
    before, peak, over = server.rss_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], server.rss_mb())

    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"GET /b/large/%05d.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            % (number % 2000)
        )
        body = await reader.read()
        writer.close()
        return body.startswith(b"HTTP/1.1 200") and len(body) > LARGE_BYTES

    async def all_at_once() -> int:
        return sum(await asyncio.gather(*map(one, range(AT_ONCE))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    answered = asyncio.run(all_at_once())
    over.set()
    watcher.join()
    return before, peak[0], answered


def make_blobs(folder: Path) -> None:
    rng = random.Random(1)
    image = [
        (f"img/{i:06}.jpg", b"\xff\xd8\xff\xe0" + rng.randbytes(IMAGE_BYTES)) for i in range(IMAGES)
    ]
    blobpack.pack(image, folder / "out.tar")
    large = [(f"{i:05}.bin", rng.randbytes(LARGE_BYTES)) for i in range(2000)]
    blobpack.pack(large, folder / "large.tar", all_files=True)
    # the files that nginx serves, at the same URLs
    (folder / "b" / "out" / "img").mkdir(parents=True)
    for name, payload in image:
        (folder / "b" / "out" / name).write_bytes(payload)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench serve")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="blobpack-serve-")))
        make_blobs(folder)
        program = Path(sys.executable).with_name("blobpack")
        blobs = [str(folder / "out.tar"), str(folder / "large.tar")]
        ours = stack.enter_context(started(str(program), "serve", *blobs, "--port", "0", "--json"))
        servers = {
            "an empty ASGI answer": stack.enter_context(started(sys.executable, "-c", EMPTY)),
            "images of a local blob": ours,
            "nginx serving files": stack.enter_context(nginx_of(folder)),
        }
        if servers["nginx serving files"] is None:
            print("nginx is missing: apt-get install nginx-light")
        rates = measure_rates(servers, folder, asked.rounds, asked.seconds)
        rss = ours.rss_mb()
        idle = open_idle(ours, IDLE)
        with_idle, idle_rss = load(ours, folder, asked.seconds), ours.rss_mb()
        for connection in idle:
            connection.close()
        with slow_readers(ours, 20):
            with_slow = load(ours, folder, asked.seconds)
        alone = load(ours, folder, asked.seconds)
        single, batch = measure_batch(ours, [f"{i:05}.bin" for i in range(2000)])
        before, peak, answered = measure_memory(ours)
    empty = rates["an empty ASGI answer"]
    print(f"{'':32}{'answers/s':>10}{'of empty':>10}{'p99 ms':>9}{'CPU us':>8}")
    for name, found in rates.items():
        print(
            f"{name:32}{found.per_s:10,.0f}{found.per_s / empty.per_s:10.2f}{found.p99_ms:9.1f}{found.cpu_us:8.1f}"
        )
    for name, found in (
        (f"… with {IDLE:,} idle connections", with_idle),
        ("… with 20 slow readers", with_slow),
        ("… alone again", alone),
    ):
        print(f"{name:32}{found.per_s:10,.0f}{'':10}{found.p99_ms:9.1f}{found.cpu_us:8.1f}")
    print(f"{IDLE:,} idle connections take {idle_rss - rss:.1f} MB of {idle_rss:.0f} MB")
    print(
        f"one client, 10 KiB members: {single:,.0f}/s by single GETs, {batch:,.0f}/s by /batch: {batch / single:.1f} times"
    )
    print(
        f"{AT_ONCE:,} clients at once: {answered:,} answered, {before:.0f} MB before, at most {peak:.0f} MB"
    )
    if asked.json:
        rows = {name: vars(found) for name, found in rates.items()}
        asked.json.write_text(json.dumps({"rates": rows, "batch": batch / single, "peak_mb": peak}))


if __name__ == "__main__":
    main()
