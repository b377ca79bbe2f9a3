"""S3 and HTTP on loopback: processor time a ranged GET, batches counted in round trips, and a run through faults.

    PYTHONPATH=. python bench/bench_s3.py cpu|batches|faults [--reads N] [--json FILE]

nginx with Lua (Debian: nginx-light, libnginx-mod-http-lua) serves the ceiling, the latency and the faults; Ceph RGW,
which scripts/s3-server starts, is the real S3. Times are medians; only ratios of one run say something.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import blobpack
from blobpack.stores import connections, open_store
from blobpack.stores import s3 as s3_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]
MODULES = "/usr/lib/nginx/modules"
NAME = "blobs/big.tar"  # of the object: bucket/key, and the file that nginx serves
MEMBERS = 1000
MEMBER_BYTES = (50_000, 150_000)
SEED = 5
RANGE_BYTES = 4096
ROUNDS = 7
DELAY_MS = 20
OPENSSL = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
    "-addext subjectAltName=IP:127.0.0.1"
)
FAULTS = {"p503": 0.05, "preset": 0.05, "pcut": 0.05, "pstall": 0.01}


class Ground:
    """The servers, and the blob that both have.

    Attributes:
        folder: Where their files are.
        ports: Of nginx: files, TLS, files with faults, S3 with faults.
        payloads: What is in the blob.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Start them; the stack stops them."""
        self.folder = folder
        chance = random.Random(SEED)
        self.payloads = {
            f"{i:05}.bin": chance.randbytes(chance.randrange(*MEMBER_BYTES)) for i in range(MEMBERS)
        }
        path = folder / "files" / NAME
        path.parent.mkdir(parents=True)
        blobpack.pack(self.payloads.items(), path, all_files=True)
        self.s3 = self._start_s3(stack)
        self.ports = self._start_nginx(stack)
        os.environ.update(self.s3, AWS_CA_BUNDLE=str(folder / "cert.pem"))
        client = s3_module.default_client()
        client.create_bucket(Bucket=NAME.partition("/")[0])
        client.put_object(Bucket="blobs", Key="big.tar", Body=path.read_bytes())

    def _start_s3(self, stack: ExitStack) -> dict[str, str]:
        script, where = ROOT / "scripts" / "s3-server", self.folder / "s3"
        said = subprocess.run([script, "start", where], check=True, capture_output=True, text=True)
        stack.callback(subprocess.run, [script, "stop", where], check=True)
        return dict(line.split("=", 1) for line in said.stdout.splitlines())

    def _start_nginx(self, stack: ExitStack) -> list[int]:
        subprocess.run(
            [*OPENSSL.split(), "-keyout", "key.pem", "-out", "cert.pem"],
            cwd=self.folder,
            check=True,
            capture_output=True,
        )
        ports = [free_port() for _ in range(4)]
        config = (ROOT / "bench" / "nginx.conf").read_text()
        names = ("@PORT@", "@TLS_PORT@", "@FAULTS_PORT@", "@S3_PORT@")
        upstream = self.s3["AWS_ENDPOINT_URL_S3"].removeprefix("http://")
        filled = {"@FOLDER@": str(self.folder), "@MODULES@": MODULES, "@UPSTREAM@": upstream}
        for name, value in [*filled.items(), *zip(names, map(str, ports), strict=True)]:
            config = config.replace(name, value)
        if os.geteuid() == 0:
            config = "user root;\n" + config
        path = self.folder / "nginx.conf"
        path.write_text(config)
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        server = subprocess.Popen([nginx, "-p", self.folder, "-c", path])
        stack.callback(server.wait)
        stack.callback(server.terminate)
        for port in ports:
            await_port(port)
        return ports

    def faults(self, port: int, **values: float) -> dict[str, float]:
        """Set what is injected at a port; return how often each was."""
        query = "&".join(f"{name}={value}" for name, value in values.items())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_faults?{query}") as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in map(str.split, lines)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def await_port(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nothing listens at {port}")


@contextmanager
def endpoint(url: str, *, boto3: bool = False) -> Iterator[None]:
    """Lead blobpack to an S3 server, by our connections or boto3's."""
    os.environ["AWS_ENDPOINT_URL_S3"] = url
    os.environ["BLOBPACK_S3"] = "boto3" if boto3 else ""
    s3_module._clients.clear()
    yield
    connections.forget_pools()


def random_ranges(size: int, count: int) -> list[tuple[int, int]]:
    chance = random.Random(SEED)
    starts = [chance.randrange(size - RANGE_BYTES) for _ in range(count)]
    return [(start, start + RANGE_BYTES) for start in starts]


def cpu(ground: Ground, reads: int) -> Iterator[dict[str, object]]:
    """Processor time of this process a 4 KB range, one thread, thin beside boto3 and beside bare sockets."""
    places = {
        "nginx": f"http://127.0.0.1:{ground.ports[0]}",
        "nginx, TLS": f"https://127.0.0.1:{ground.ports[1]}",
        "Ceph RGW": ground.s3["AWS_ENDPOINT_URL_S3"],
    }
    reads = reads or 2000
    for place, url in places.items():
        times: dict[str, list[float]] = {"thin": [], "boto3": [], "bare socket": []}
        stores = {}
        for client in ("thin", "boto3"):
            with endpoint(url, boto3=client == "boto3"):
                stores[client] = open_store(f"s3://{NAME}")
                stores[client].read_range(0, 9)
        ranges = random_ranges(stores["thin"].size, reads)
        for _ in range(ROUNDS):
            for client, store in stores.items():
                few = ranges if client == "thin" else ranges[: reads // 10]
                times[client].append(seconds_each(store.read_range, few))
            if place == "nginx":
                times["bare socket"].append(seconds_each(bare_get(ground.ports[0]), ranges))
        for client, seconds in times.items():
            if seconds:
                yield {
                    "server": place,
                    "client": client,
                    "cpu_us": round(1e6 * statistics.median(seconds), 1),
                    "boto3/this": round(
                        statistics.median(times["boto3"]) / statistics.median(seconds), 1
                    ),
                }


def seconds_each(read: Callable[[int, int], object], ranges: list[tuple[int, int]]) -> float:
    began = time.process_time()
    for start, end in ranges:
        read(start, end)
    return (time.process_time() - began) / len(ranges)


def bare_get(port: int) -> Callable[[int, int], object]:
    """Send and receive, and look at nothing: the floor."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(1 << 16)
    begin = f"GET /{NAME} HTTP/1.1\r\nHost: a\r\nRange: bytes=".encode()

    def get(start: int, end: int) -> None:
        sock.sendall(begin + b"%d-%d\r\n\r\n" % (start, end - 1))
        sock.recv_into(buffer)

    return get


def batches(ground: Ground, reads: int) -> Iterator[dict[str, object]]:
    """Batches 20 ms away, counted in round trips."""
    reads = reads or 5000
    for place, port in (("nginx", ground.ports[2]), ("Ceph RGW", ground.ports[3])):
        for jitter_ms in (0, 5):
            ground.faults(port, delay_ms=DELAY_MS, jitter_ms=jitter_ms)
            with endpoint(f"http://127.0.0.1:{port}"):
                yield from batches_at(ground, place, jitter_ms, reads)
            ground.faults(port, delay_ms=0, jitter_ms=0)


def batches_at(
    ground: Ground, place: str, jitter_ms: int, reads: int
) -> Iterator[dict[str, object]]:
    names = sorted(ground.payloads)
    chance = random.Random(SEED)
    with blobpack.open_blob(f"s3://{NAME}") as blob:
        list(blob.read_many(names[:200]))  # connections and the index's blocks are at hand
        list(blob.read_many(chance.sample(names, 128)))

        async def all_async(wanted: list[str]) -> None:
            async for _ in blob.aread_many(wanted):
                pass

        for what, choose in (
            ("64 neighbours", lambda: names[(at := chance.randrange(900)) : at + 64]),
            ("64 random", lambda: chance.sample(names, 64)),
        ):
            for how in ("read_many", "aread_many"):
                took, asked, fetched, wanted_bytes = [], [], 0, 0
                for _ in range(ROUNDS * 3):
                    wanted = choose()
                    before, began = blob.stats, time.perf_counter()
                    if how == "read_many":
                        answers = list(blob.read_many(wanted))
                    else:
                        asyncio.run(all_async(wanted))
                    took.append(time.perf_counter() - began)
                    after = blob.stats
                    asked.append(after.requests - before.requests)
                    fetched += after.bytes_fetched - before.bytes_fetched
                    wanted_bytes += after.bytes_wanted - before.bytes_wanted
                    if how == "read_many":
                        assert answers == [ground.payloads[name] for name in wanted]
                yield {
                    "server": place,
                    "away": f"{DELAY_MS} ms + Exp({jitter_ms} ms)",
                    "batch": f"{what}, {how}",
                    "round trips": round(statistics.median(took) * 1000 / DELAY_MS, 2),
                    "requests": statistics.median(asked),
                    "fetched/wanted": round(fetched / wanted_bytes, 2),
                }
        ranges = random_ranges(blob.store.size, reads)
        with ThreadPoolExecutor(128) as pool:
            list(pool.map(lambda where: blob.store.read_range(*where), ranges[:500]))
            began, began_cpu = time.perf_counter(), time.process_time()
            list(pool.map(lambda where: blob.store.read_range(*where), ranges))
            took_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        yield {
            "server": place,
            "away": f"{DELAY_MS} ms + Exp({jitter_ms} ms)",
            "batch": f"{reads} random 4 KB, 128 in flight",
            "reads/s": round(reads / took_s),
            "cpu_us": round(1e6 * cpu_s / reads),
        }


def faults(ground: Ground, reads: int) -> Iterator[dict[str, object]]:
    """Reads by name through faults, each compared with what was packed."""
    for place, port in (("nginx", ground.ports[2]), ("Ceph RGW", ground.ports[3])):
        url = f"http://127.0.0.1:{port}"
        with endpoint(url), blobpack.open_blob(f"s3://{NAME}") as blob:
            blob.read("00000.bin")
            ground.faults(port, **FAULTS)
            row = faults_at(ground, blob, reads or 20_000)
        hits = ground.faults(port, **dict.fromkeys(FAULTS, 0))
        counted = {name[4:]: int(n) for name, n in sorted(hits.items()) if name[:4] == "hit_"}
        ground.faults(port, **{f"hit_{name}": 0 for name in counted})
        yield {"server": place} | row | counted


def faults_at(ground: Ground, blob: blobpack.Blob, reads: int) -> dict[str, object]:
    names = random.Random(SEED).choices(list(ground.payloads), k=reads)
    took: list[float] = []

    def is_right(name: str) -> bool | None:
        began = time.perf_counter()
        try:
            payload = blob.read(name)
        except blobpack.StorageError as exc:
            print(exc, file=sys.stderr)
            return None
        finally:
            took.append(time.perf_counter() - began)
        return payload == ground.payloads[name]

    before, began, began_cpu = blob.stats, time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(32) as pool:
        results = list(pool.map(is_right, names))
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    took.sort()
    return {
        "reads": reads,
        "right": results.count(True),
        "wrong": results.count(False),
        "lost": results.count(None),
        "requests": blob.stats.requests - before.requests,
        "retried": blob.stats.retried - before.retried,
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu_s, 1),
        "p50_ms": round(1000 * took[reads // 2], 1),
        "p99_ms": round(1000 * took[reads * 99 // 100], 1),
        "most_ms": round(1000 * took[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["cpu", "batches", "faults"])
    parser.add_argument("--reads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ground = Ground(Path(folder), stack)
        for row in globals()[arguments.what](ground, arguments.reads):
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            rows.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
