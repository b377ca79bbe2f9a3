"""Measure reads from S3 beside boto3, s3fs and obstore: processor time, batches, reads in flight, objects, second
requests, faults.

    scripts/bench s3 [cpu|batches|flight|objects|hedging|faults]... [--quick|--tiny] [--reads N] [--json FILE]

Each client is a process of its own; the peers run in .venv-s3fs and .venv-obstore. The clients take turns in each
round, so that noise hits all of them alike. What they read is compared with the blob. Times are medians; compare only
ratios within one run.

Other files hold the servers (s3_servers.py), the processes (s3_workers.py), the clients that run in them
(s3_clients.py), and the plan of the rows (s3_rows.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from s3_rows import NOT_BY_TLS, not_measured, planned, without_figure
from s3_servers import BUCKET, KEY, PROCESSOR, RGW, SEED, Ground, say
from s3_workers import BATCH, OURS, PEERS, Worker, clients
from table import laid_out

import blobpack
from blobpack.stores.http import pool
from blobpack.stores.s3 import client as s3_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s3_servers import Counts, Place
    from s3_workers import Times

    from blobpack.model import Hedge

    Row = dict[str, Any]

RANGE_BYTES = 4096
# These make one read in ten: a read by boto3 takes 10 to 70 times the processor time of one by blobpack.
SLOW = ("boto3", "s3fs")
DELAY_MS = 20
JITTERS_MS = (0, 5)
IN_FLIGHT = 128
# The ways in which each client reads a batch, and many ranges: the fastest by its documentation or by trial.
BATCH_WAYS = {
    OURS: ("read_many", "aread_many"),
    "obstore": ("get_ranges", "get_range_async"),
    "s3fs": ("cat_ranges",),
    "boto3": ("threads",),
}
FLIGHT_WAYS = {OURS: "threads", "obstore": "threads", "s3fs": "cat_ranges", "boto3": "threads"}
# how late answers are: all about alike; some late; few very late
TAILS = {
    "20 ms + Exp(5 ms)": {"delay_ms": DELAY_MS, "jitter_ms": 5},
    "20 ms + Exp(20 ms)": {"delay_ms": DELAY_MS, "jitter_ms": 20},
    "20 ms + Exp(5 ms), 1 % stalled": {"delay_ms": DELAY_MS, "jitter_ms": 5, "pstall": 0.01},
}
ROUNDS = {"full": 7, "quick": 3, "tiny": 1}
TINY_READS = 50
FAULTS = {"p503": 0.05, "preset": 0.05, "pcut": 0.05, "pstall": 0.01}


class Run:
    """The settings of a run.

    Attributes:
        ground: The servers.
        clients: Names of the clients that are measured.
        missing: Servers and clients that are missing here, and why.
        rounds: Rounds of each measurement.
    """

    def __init__(self, ground: Ground, *, size: str, reads: int) -> None:
        self.ground = ground
        self.clients = clients()
        self.missing = ground.missing | {
            peer: f"{peer} is not in .venv-{peer}; scripts/bench s3 installs it"
            for peer in PEERS
            if peer not in self.clients
        }
        self.rounds = ROUNDS[size]
        self._reads = reads or (TINY_READS if size == "tiny" else 0)
        self._blob = ground.path.read_bytes()

    def reads(self, count: int) -> int:
        """Return the number of reads of a measurement: `count`, unless the run sets another."""
        return self._reads or count

    def crc_of(self, members: Iterable[tuple[str, tuple[int, int]]]) -> int:
        """Compute the CRC-32 of what a client must have read."""
        crc = 0
        for _, (start, end) in members:
            crc = zlib.crc32(self._blob[start:end], crc)
        return crc

    def random_ranges(self, count: int) -> list[tuple[str, tuple[int, int]]]:
        """Choose ranges of 4 KB at random, which are no members."""
        chance = random.Random(SEED)
        starts = [chance.randrange(len(self._blob) - RANGE_BYTES) for _ in range(count)]
        return [("", (start, start + RANGE_BYTES)) for start in starts]

    def check(self, worker: Worker, times: Times, crc: int) -> None:
        """Raise RuntimeError if a client read other bytes than it should."""
        # the socket does not keep what it receives
        if times.crc != crc and worker.name != "socket":
            raise RuntimeError(f"{worker.version} read other bytes")


def cpu(run: Run) -> Iterator[Row]:
    """Measure the client's processor time for a 4 KB range, with one thread.

    Clients and nginx share one processor. On two, each wait also costs the wake-up of another processor, up to three
    times the time of the request itself, and the scheduler chooses anew for each client whether it does.
    """
    reads = run.reads(2000)
    ranges = run.random_ranges(reads)
    for place in run.ground.plain:
        names = list(run.clients)
        if place.name == "nginx":
            names.append("socket")
        if "TLS" in place.name:
            names = [name for name in names if name not in NOT_BY_TLS]
        with ExitStack() as stack:
            workers = [Worker(name, place, stack, PROCESSOR) for name in names]
            taken: dict[str, list[Times]] = {}
            # the first round, which is short and not kept, opens connections
            for i in range(run.rounds + 1):
                for worker in workers:
                    few = ranges[: reads // 10 if worker.name in SLOW or not i else reads]
                    times = worker.measure("one by one", few)
                    run.check(worker, times, run.crc_of(few))
                    if i:
                        each = times._replace(
                            wall_s=times.wall_s / len(few), cpu_s=times.cpu_s / len(few)
                        )
                        taken.setdefault(worker.version, []).append(each)
        yield from cpu_rows(place.name, taken)


def cpu_rows(place: str, taken: dict[str, list[Times]]) -> Iterator[Row]:
    """Make the rows of all clients at one server."""
    cpu_us = {name: 1e6 * statistics.median(t.cpu_s for t in all_) for name, all_ in taken.items()}
    boto3 = next(value for name, value in cpu_us.items() if name.startswith("boto3"))
    floor = cpu_us.get("a bare socket")
    for name, all_ in taken.items():
        yield {
            "server": place,
            "client": name,
            "cpu_us": round(cpu_us[name], 1),
            "boto3's by its": round(boto3 / cpu_us[name], 1),
            "its by the socket's": round(cpu_us[name] / floor, 2) if floor else "",
            "reads/s": round(1 / statistics.median(t.wall_s for t in all_)),
        }


def far_away(run: Run) -> Iterator[tuple[Place, str, list[Worker]]]:
    """Yield each server with a delay of 20 ms, without jitter and with it, and workers that use it."""
    for place in run.ground.far:
        for jitter_ms in JITTERS_MS:
            place.inject(delay_ms=DELAY_MS, jitter_ms=jitter_ms)
            with ExitStack() as stack:
                workers = [Worker(name, place, stack) for name in run.clients]
                yield place, f"{DELAY_MS} ms + Exp({jitter_ms} ms)", workers
            place.inject(delay_ms=0, jitter_ms=0)


def batches(run: Run) -> Iterator[Row]:
    """Measure batches of members from a server 20 ms away: time in round trips, requests and bytes."""
    members = run.ground.members
    for place, away, workers in far_away(run):
        chance = random.Random(SEED)
        ways = [(worker, way) for worker in workers for way in BATCH_WAYS[worker.name]]
        # not kept: this opens connections, and fetches the blocks of the index
        for worker, way in ways:
            worker.measure(way, members[:200])
            worker.measure(way, chance.sample(members, 128), in_flight=IN_FLIGHT)
        for what in ("neighbours", "random"):
            taken: dict[tuple[str, str], list[tuple[Times, Counts]]] = {}
            wanted = 0
            for _ in range(run.rounds * 3):
                start = chance.randrange(len(members) - BATCH)
                near = members[start : start + BATCH]
                batch = near if what == "neighbours" else chance.sample(members, BATCH)
                wanted += sum(end - start for _, (start, end) in batch)
                for worker, way in ways:
                    place.counts()
                    times = worker.measure(way, batch)
                    counts = place.counts()
                    run.check(worker, times, run.crc_of(batch))
                    taken.setdefault((worker.version, way), []).append((times, counts))
            for (client, way), all_ in taken.items():
                yield {
                    "server": place.name,
                    "away": away,
                    "batch": f"{BATCH} {what}",
                    "client": f"{client}, {way}",
                    "round trips": round(
                        statistics.median(t.wall_s for t, _ in all_) * 1000 / DELAY_MS, 2
                    ),
                    "cpu_ms": round(1000 * statistics.median(t.cpu_s for t, _ in all_), 2),
                    "requests": statistics.median(counts.requests for _, counts in all_),
                    "fetched/wanted": round(sum(counts.bytes for _, counts in all_) / wanted, 2),
                    **own_counts(all_),
                }


def own_counts(all_: list[tuple[Times, Counts]]) -> Row:
    """Return whether the counts of a client agree with those of the server, if it counts."""
    if all_[0][0].counted is None:
        return {}
    return {"counts agree": all(times.counted == counts for times, counts in all_)}


def flight(run: Run) -> Iterator[Row]:
    """Measure random reads of 4 KB from a server 20 ms away, with 128 in flight."""
    ranges = run.random_ranges(run.reads(5000))
    crc = run.crc_of(ranges)
    for place, away, workers in far_away(run):
        for worker in workers:
            worker.measure(FLIGHT_WAYS[worker.name], ranges[:500], in_flight=IN_FLIGHT)
        taken: dict[str, list[Times]] = {}
        for _ in range(max(1, run.rounds // 2)):
            for worker in workers:
                times = worker.measure(FLIGHT_WAYS[worker.name], ranges, in_flight=IN_FLIGHT)
                run.check(worker, times, crc)
                taken.setdefault(worker.version, []).append(times)
        for client, all_ in taken.items():
            yield {
                "server": place.name,
                "away": away,
                "reads": f"{len(ranges)} of 4 KB, {IN_FLIGHT} in flight",
                "client": client,
                "reads/s": round(len(ranges) / statistics.median(t.wall_s for t in all_)),
                "cpu_us": round(1e6 * statistics.median(t.cpu_s for t in all_) / len(ranges)),
            }


def objects(run: Run) -> Iterator[Row]:
    """Measure many small objects, with 64 in flight: blobpack lists and packs them, the others only fetch them."""
    put = run.ground.put_objects(run.reads(3000))
    members = [(key, (0, len(body))) for key, body in put]
    crc = zlib.crc32(b"".join(body for _, body in put))
    for place in run.ground.plain + run.ground.far if put else ():
        if place.name != RGW:
            continue
        is_far = place in run.ground.far
        if is_far:
            place.inject(delay_ms=DELAY_MS, jitter_ms=0)
        taken: dict[str, list[Times]] = {}
        with ExitStack() as stack:
            workers = [Worker(name, place, stack) for name in run.clients]
            for _ in range(max(1, run.rounds // 2)):
                for worker in workers:
                    times = worker.measure("objects", members)
                    run.check(worker, times, crc)
                    taken.setdefault(worker.version, []).append(times)
        for client, all_ in taken.items():
            yield {
                "server": place.name,
                "away": f"{DELAY_MS} ms" if is_far else "",
                "client": client,
                "objects/s": round(len(put) / statistics.median(t.wall_s for t in all_)),
                "cpu_us": round(1e6 * statistics.median(t.cpu_s for t in all_) / len(put)),
            }


def hedging(run: Run) -> Iterator[Row]:
    """Measure batches of 64 random members with blobpack, with second requests and without, in turns."""
    chance = random.Random(SEED)
    members = run.ground.members
    for place in run.ground.far:
        for away, injected in TAILS.items():
            place.inject(**injected)
            taken: dict[str, list[float]] = {"never": [], "batches": []}
            with here(place), ExitStack() as stack:
                blobs = {hedge: stack.enter_context(opened(hedge)) for hedge in taken}
                # not kept: this opens connections, and a blob learns how late answers are
                for blob in blobs.values():
                    list(blob.read_many(name for name, _ in members[:300]))
                before = {hedge: blob.stats for hedge, blob in blobs.items()}
                for _ in range(run.rounds * 10):
                    batch = chance.sample(members, BATCH)
                    for hedge, blob in blobs.items():
                        began = time.perf_counter()
                        payloads = list(blob.read_many(name for name, _ in batch))
                        taken[hedge].append(1000 * (time.perf_counter() - began))
                        if zlib.crc32(b"".join(payloads)) != run.crc_of(batch):
                            raise RuntimeError("other bytes were read")
                for hedge, blob in blobs.items():
                    yield {
                        "server": place.name,
                        "away": away,
                        "hedge": hedge,
                        **spread(taken[hedge]),
                        "requests": blob.stats.requests - before[hedge].requests,
                        "hedged": blob.stats.hedged - before[hedge].hedged,
                        "retried": blob.stats.retried - before[hedge].retried,
                    }
            place.inject(**dict.fromkeys(injected, 0))


def spread(took_ms: list[float]) -> Row:
    """Return the median and higher percentiles."""
    ordered = sorted(took_ms)
    at = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "most_ms": 100}
    last = len(ordered) - 1
    return {name: round(ordered[last * percent // 100], 1) for name, percent in at.items()}


def opened(hedge: Hedge) -> blobpack.Blob:
    """Open the blob."""
    return blobpack.open_blob(f"s3://{BUCKET}/{KEY}", hedge=hedge)


def faults(run: Run) -> Iterator[Row]:
    """Measure reads by name with blobpack through faults; each payload is compared with what was packed."""
    hedges: tuple[Hedge, ...] = ("never", "always")
    for place, hedge in product(run.ground.far, hedges):
        with here(place), opened(hedge) as blob:
            blob.read("00000.bin")
            place.inject(**{f"hit_{name[1:]}": 0 for name in FAULTS})
            place.inject(**FAULTS)
            row = faults_at(run.ground, blob, run.reads(20_000))
        hits = place.inject(**dict.fromkeys(FAULTS, 0))
        counted = {name[4:]: int(n) for name, n in sorted(hits.items()) if name[:4] == "hit_"}
        yield {"server": place.name, "hedge": hedge} | row | counted


@contextmanager
def here(place: Place) -> Iterator[None]:
    """Make this process use a server, until the block ends."""
    with patch.dict(os.environ, place.env):
        s3_module._clients.clear()
        yield
        for connections in list(pool._pools.values()):
            connections.close_idle()


def faults_at(ground: Ground, blob: blobpack.Blob, reads: int) -> Row:
    """Read with 32 threads, and count right, wrong and lost payloads."""
    names = random.Random(SEED).choices(list(ground.payloads), k=reads)
    took: list[float] = []

    def is_right(name: str) -> bool | None:
        began = time.perf_counter()
        try:
            payload = blob.read(name)
        except blobpack.StorageError as exc:
            say(str(exc))
            return None
        finally:
            took.append(1000 * (time.perf_counter() - began))
        return payload == ground.payloads[name]

    before, began, began_cpu = blob.stats, time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(32) as pool:
        results = list(pool.map(is_right, names))
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    return {
        "reads": reads,
        "right": results.count(True),
        "wrong": results.count(False),
        "lost": results.count(None),
        "requests": blob.stats.requests - before.requests,
        "retried": blob.stats.retried - before.retried,
        "hedged": blob.stats.hedged - before.hedged,
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu_s, 1),
        **spread(took),
    }


MEASUREMENTS = {
    "cpu": cpu,
    "batches": batches,
    "flight": flight,
    "objects": objects,
    "hedging": hedging,
    "faults": faults,
}


def tables(rows: list[Row]) -> str:
    """Format a table for each measurement."""
    texts = []
    measured = [row for row in rows if "not measured" not in row]
    for what in dict.fromkeys(row["measurement"] for row in measured):
        mine = [row for row in measured if row["measurement"] == what]
        names = list(dict.fromkeys(name for row in mine for name in row))[1:]
        lines = [tuple(str(row.get(name, "")) for name in names) for row in mine]
        words = {i for i, name in enumerate(names) if isinstance(mine[0].get(name), str)}
        texts.append(f"{what}\n{laid_out([tuple(names), *lines], words)}")
    return "\n\n".join(texts)


def main() -> None:
    """Run the measurements that are named, or all; print tables, and write the rows to a file if one is named."""
    parser = argparse.ArgumentParser(prog="scripts/bench s3", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="|".join(MEASUREMENTS))
    sizes = {"dest": "size", "action": "store_const"}
    parser.add_argument("--quick", **sizes, const="quick", default="full", help="fewer rounds")
    parser.add_argument("--tiny", **sizes, const="tiny", help="show that each row works")
    parser.add_argument("--reads", type=int, default=0, help="of each measurement that has reads")
    parser.add_argument("--json", type=Path, help="keep the rows")
    arguments = parser.parse_args()
    if unknown := set(arguments.what) - set(MEASUREMENTS):
        parser.error(f"there is no {', '.join(unknown)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ground = Ground(Path(folder), stack, tiny=arguments.size == "tiny")
        run = Run(ground, size=arguments.size, reads=arguments.reads)
        measurements = arguments.what or list(MEASUREMENTS)
        plan = [
            row
            for what in measurements
            for row in planned(what, ways=BATCH_WAYS, jitters=len(JITTERS_MS), tails=len(TAILS))
        ]
        for what in measurements:
            for row in MEASUREMENTS[what](run):
                say("  ".join(f"{name} {value}" for name, value in row.items()))
                rows.append({"measurement": what, **row})
    measured = len(rows)
    print(tables(rows))
    rows += not_measured(plan, run.missing)
    for reason, count in Counter(row.get("not measured") for row in rows).items():
        if reason:
            say(f"{count} rows are not measured: {reason}")
    say(f"{measured} of {len(plan)} rows are measured")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if wrong := without_figure(plan, rows):
        sys.exit("\n".join(wrong))
    if not measured:
        sys.exit("nothing could be measured; the lines above say what is missing")


if __name__ == "__main__":
    main()
