"""Indexes of very many members: .venv/bin/python bench/billion.py [STEP...] [--members N] [--blobs N] [--folder DIR]

Steps, by default all of them; each runs in a process of its own, and prints its time, its processor time, and its peak of memory:

- `write` writes the file of a collection with generated members, names and all. The blobs do not exist.
- `open` opens it, and looks names up; `remote` does so over HTTP, and counts requests; `select` selects by a glob.
- `add` collects one more blob into it, which copies it.
- `scan` collects a tar of a million members that is hard-linked as often as --members needs, and scanned each time.
- `commands` runs info, offsets, subset, merge and append on a tar of --members empty members, or on two halves of it.

The files take 34 bytes a member for `write`, and 20 more in TMPDIR while it runs; 2 GB in all and 34 bytes a member for `scan`; and
1,700 bytes a member for `commands`, and 90 more in TMPDIR. They stay in the folder for later steps; --clean removes them in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np

import blobpack
from blobpack.columns import Columns
from blobpack.indexfile.identity import COLLECTION_IDENTITY, Identity
from blobpack.indexfile.shard_table import Shard, encode_shards
from blobpack.indexfile.writer import write_sections
from blobpack.stores.sink import FileSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 512
STRIDE = 5120  # of generated members: an image of 4.6 KB
LOOKUPS = 1000
SCANNED_MEMBERS = 1_000_000
TAR_ROWS = 50_000


# Generated members


def digits(numbers: np.ndarray, count: int) -> np.ndarray:
    """Return decimal digits of numbers, as ASCII: (n, count) uint8."""
    powers = 10 ** np.arange(count - 1, -1, -1)
    return (numbers[:, None] // powers % 10 + ord("0")).astype(np.uint8)


def name_of(blob: int, member: int) -> str:
    return f"{blob:05}/{member:07}.jpg"


def generated(blob: int, first: int, last: int) -> Columns:
    """Return the members first:last of a blob."""
    numbers = np.arange(first, last)
    names = np.empty((len(numbers), len(name_of(0, 0))), np.uint8)
    names[:] = np.frombuffer(name_of(blob, 0).encode(), np.uint8)
    names[:, 6:13] = digits(numbers, 7)
    starts = numbers * STRIDE + BLOCK
    bounds = np.arange(len(numbers) + 1) * names.shape[1]
    # sizes differ, so that each member has one of its own
    ends = starts + 4000 + numbers * 7919 % 600
    return Columns(memoryview(names.tobytes()), *(column.data for column in (bounds, starts, ends)))


def write(at: argparse.Namespace) -> dict[str, Any]:
    shards: list[Shard] = []
    rows_of_each = at.members // at.blobs

    def parts() -> Iterator[Columns]:
        for blob in range(at.blobs):
            for first in range(0, rows_of_each, 1 << 16):
                yield generated(blob, first, min(first + (1 << 16), rows_of_each))
            size = rows_of_each * STRIDE
            identity = Identity(size, blob, blob, f'"{blob:032x}"')
            rows = rows_of_each * blob
            shards.append(
                Shard(f"{blob:05}.tar", rows, rows + rows_of_each, size, size, False, identity)
            )

    with at.collection.open("w+b") as file:
        sink = FileSink(file)
        footer = write_sections(
            sink, parts(), None, identity=COLLECTION_IDENTITY, blobs=lambda: encode_shards(shards)
        )
        sink.write(footer.encode())
        size = sink.tell()
    rows = footer.row_count
    return {"members": rows, "bytes": size, "bytes_a_member": round(size / rows, 2)}


def random_names(at: argparse.Namespace) -> list[str]:
    rng = np.random.default_rng(1)
    blobs = rng.integers(0, at.blobs, LOOKUPS).tolist()
    members = rng.integers(0, at.members // at.blobs, LOOKUPS).tolist()
    return [name_of(*pair) for pair in zip(blobs, members, strict=True)]


def look_up(at: argparse.Namespace) -> dict[str, Any]:
    began = time.perf_counter()
    collection = blobpack.open_collection(at.collection)
    opened = time.perf_counter() - began
    peak = memory_mb("VmHWM")
    names = random_names(at)
    began = time.perf_counter()
    for name in names:
        assert collection.index[name].name == name
    each = (time.perf_counter() - began) / LOOKUPS
    # besides pages of the file, which the system can free
    own = memory_mb("RssAnon")
    return {
        "members": len(collection),
        "open_s": round(opened, 4),
        "open_peak_mb": peak,
        "lookup_us": round(each * 1e6, 1),
        "own_mb": own,
    }


class RangeHandler(BaseHTTPRequestHandler):
    """Answers HEAD, and GET with a Range, of one file."""

    protocol_version = "HTTP/1.1"
    path_served: Path
    requests = 0

    def do_HEAD(self) -> None:
        type(self).requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(self.path_served.stat().st_size))
        self.send_header("ETag", '"1"')
        self.end_headers()

    def do_GET(self) -> None:
        type(self).requests += 1
        size = self.path_served.stat().st_size
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        start, end = (int(first), int(last) + 1) if first else (size - int(last), size)
        with self.path_served.open("rb") as file:
            file.seek(start)
            body = file.read(min(end, size) - start)
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{size}")
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def remote(at: argparse.Namespace) -> dict[str, Any]:
    RangeHandler.path_served = at.collection
    with ThreadingHTTPServer(("127.0.0.1", 0), RangeHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/collection.idx"
        began = time.perf_counter()
        opened, most, fetched = [], 0, 0
        for name in random_names(at)[:20]:
            RangeHandler.requests = 0
            # opened again each time: nothing of the index is in memory
            with blobpack.open_collection(url) as collection:
                opened.append(RangeHandler.requests)
                before = collection.stats.bytes_fetched
                assert collection.index[name].name == name
                fetched = max(fetched, collection.stats.bytes_fetched - before)
            most = max(most, RangeHandler.requests - opened[-1])
        each = (time.perf_counter() - began) / 20
        server.shutdown()
    return {
        "requests_to_open": max(opened),
        "requests_of_a_name": most,
        "bytes_of_a_name": fetched,
        "open_and_find_ms": round(each * 1e3, 1),
    }


def add(at: argparse.Namespace) -> dict[str, Any]:
    """Collect a blob of a thousand images into a copy of the collection."""
    copy = at.folder / "added.idx"
    copy.unlink(missing_ok=True)
    os.link(at.collection, copy)
    tar = at.folder / "added.tar"
    blobpack.pack(
        ((f"added/{number}", b"image") for number in range(1000)), tar, all_files=True, facts=False
    )
    report = blobpack.collect([tar], copy, add=True)
    copy.unlink()
    return {"members": report.members, "seconds": round(report.seconds, 2)}


def select(at: argparse.Namespace) -> dict[str, Any]:
    with blobpack.open_collection(at.collection) as collection:
        began = time.process_time()
        chosen = collection.index.select("*/00001*")
        rate = len(collection) / (time.process_time() - began)
        return {"selected": len(chosen), "million_members_a_cpu_second": round(rate / 1e6, 1)}


# Tars


def make_tar(path: Path, members: int, payload_bytes: int, number: int = 0) -> None:
    """Write a tar of members with payloads of zeros, named by numbers from `number` on; the headers are those of GNU tar."""
    import tarfile

    info = tarfile.TarInfo("0000000000.jpg")
    info.size = payload_bytes
    head = np.frombuffer(info.tobuf(tarfile.USTAR_FORMAT), np.uint8)
    block = np.zeros((TAR_ROWS, BLOCK + -(-payload_bytes // BLOCK) * BLOCK), np.uint8)
    block[:, :BLOCK] = head
    block[:, BLOCK:] = 0
    plain = int(head.sum()) - int(head[148:156].sum()) + 8 * 32 - 10 * ord("0")
    with path.open("wb") as file:
        for first in range(0, members, TAR_ROWS):
            count = min(TAR_ROWS, members - first)
            name = digits(np.arange(number + first, number + first + count), 10)
            block[:count, :10] = name
            sums = plain + name.sum(1, dtype=np.int64)
            octal = sums[:, None] // 8 ** np.arange(5, -1, -1) % 8 + ord("0")
            block[:count, 148:154] = octal
            block[:count, 154:156] = (0, 32)
            file.write(block[:count].data)
        file.write(bytes(2 * BLOCK))


def scan(at: argparse.Namespace) -> dict[str, Any]:
    folder = at.folder / "linked"
    folder.mkdir(exist_ok=True)
    tar = folder / "00000.tar"
    if not tar.exists():
        make_tar(tar, SCANNED_MEMBERS, 512)
    for number in range(1, at.members // SCANNED_MEMBERS):
        link = folder / f"{number:05}.tar"
        if not link.exists():
            os.link(tar, link)
    before = time.process_time()
    report = blobpack.collect(folder, scan=True, duplicates="last")
    cpu = time.process_time() - before
    return {
        "members": report.members,
        "bytes": report.collection_bytes,
        "seconds": round(report.seconds, 1),
        "cpu_us_a_member": round(1e6 * cpu / report.members, 3),
    }


def commands(at: argparse.Namespace) -> dict[str, Any]:
    half = at.members // 2
    tar, one, other, out = (at.folder / f"{stem}.tar" for stem in ("many", "one", "other", "out"))
    for path, members, number in ((tar, at.members, 0), (one, half, 0), (other, half, at.members)):
        if not path.exists():
            make_tar(path, members, 0, number)
            subprocess.run(
                [*blobpack_command(), "index", path], check=True, stdout=subprocess.DEVNULL
            )
    names, pickle, new = at.folder / "names.txt", at.folder / "many.pkl", at.folder / "new.png"
    new.write_bytes(b"new")
    with names.open("wb") as file:
        for first in range(0, at.members, TAR_ROWS):
            count = min(TAR_ROWS, at.members - first)
            line = np.empty((count, 15), np.uint8)
            line[:] = np.frombuffer(b"0000000000.jpg\n", np.uint8)
            line[:, :10] = digits(np.arange(first, first + count), 10)
            file.write(line.data)
    peaks = {}
    for command in (
        ["info", tar],
        ["offsets", tar, "-o", pickle, "--force"],
        ["offsets", tar, "-o", pickle, "--force", "--filter", "*"],
        ["offsets", tar, "-o", pickle, "--force", "--filter", "*7.jpg"],
        ["offsets", tar, "-o", pickle, "--force", "--names", "basename"],
        ["subset", tar, out],
        ["subset", tar, out, "--filter", "*"],
        ["subset", tar, out, "--filter", "*7.jpg"],
        ["subset", tar, out, "--names-from", names],
        ["merge", one, other, out],
        ["append", one, new, "--all"],
    ):
        label = " ".join(str(word) for word in command if not isinstance(word, Path))
        peaks[label] = measured_command(command)
    return peaks


def blobpack_command() -> list[str]:
    return [sys.executable, "-c", "from blobpack.cli.program import run; run()"]


def measured_command(command: list[str | Path]) -> str:
    """Run a command; return its peak of memory, that of its own pages alone, and its processor time."""
    code = (
        "import sys; from blobpack.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print([line for line in open('/proc/self/status') if 'VmHWM' in line][0].split()[1], file=sys.stderr)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-c", code, *map(str, command)]
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        own = 0
        while child.poll() is None:
            with suppress(OSError, StopIteration):
                own = max(own, memory_mb("RssAnon", child.pid))
            time.sleep(0.005)
        shown = child.stderr.read() if child.stderr else ""
    if child.returncode:
        raise SystemExit(f"{command}: {shown}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # the rest are pages of mapped files, which the system can free
    return f"{int(shown.split()[-1]) // 1000} MB, {own} MB its own, {cpu:.1f} s of processor time"


STEPS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "write": write,
    "open": look_up,
    "remote": remote,
    "add": add,
    "select": select,
    "scan": scan,
    "commands": commands,
}


def memory_mb(field: str, process: int | str = "self") -> int:
    """Return a figure of a process's memory: its peak VmHWM, its own pages RssAnon."""
    status = Path(f"/proc/{process}/status").read_text()
    return (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) // 1000
    )


@contextmanager
def measured(figures: dict[str, Any]) -> Iterator[None]:
    """Add the times and the peak of memory of this process."""
    began, cpu = time.perf_counter(), time.process_time()
    yield
    figures["wall_s"] = round(time.perf_counter() - began, 2)
    figures["cpu_s"] = round(time.process_time() - cpu, 2)
    figures["peak_mb"] = memory_mb("VmHWM")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", choices=[*STEPS, []])
    parser.add_argument("--members", type=lambda text: int(float(text)), default=10_000_000)
    parser.add_argument("--blobs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path("build/billion"))
    parser.add_argument("--clean", action="store_true")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    at = parser.parse_args()
    at.folder.mkdir(parents=True, exist_ok=True)
    at.collection = at.folder / "collection.idx"
    if at.in_process:
        figures: dict[str, Any] = {}
        with measured(figures):
            found = STEPS[at.steps[0]](at)
        print(json.dumps(found | figures))
        return
    for step in at.steps or STEPS:
        arguments = [
            step,
            f"--members={at.members}",
            f"--blobs={at.blobs}",
            f"--folder={at.folder}",
        ]
        done = subprocess.run(
            [sys.executable, __file__, *arguments, "--in-process"],
            check=True,
            capture_output=True,
            text=True,
        )
        print(f"{step}: {done.stdout.strip()}", flush=True)
    if at.clean:
        shutil.rmtree(at.folder)


if __name__ == "__main__":
    main()
