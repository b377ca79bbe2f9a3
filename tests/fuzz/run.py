"""Run one fuzzer for some minutes, over all processors: scripts/fuzz TARGET [MINUTES].

Each input is made from its seed, so a failure is repeated with --seed. Inputs are checked in child processes: a crash, a hang
or too much memory is a failure of the input, too, and ends only its process. The input that failed is kept in build/fuzz.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from blobpack import LeftOutWarning

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

TARGETS = ("scan", "offsets", "index", "writer", "collection", "foreign", "zstd", "images")
FOUND = Path(__file__).parents[2] / "build" / "fuzz"
# Inputs have some kilobytes. An input that takes this much is a failure.
MEMORY_BYTES_MAX = 4 << 30
SECONDS_MAX = 30  # of processor time
# A busy machine, on which other programs compute, may take so much longer.
SLOWER_MAX = 20
SEEDS_PER_BATCH = 200
SECONDS_BETWEEN_LINES = 10


class Case(Protocol):
    """An input: its bytes, and what its maker knows about it."""

    data: bytes


class Target(Protocol):
    """A fuzzer: a module with these two functions."""

    def make(self, generator: random.Random) -> Case:
        """Make an input."""

    def check(self, case: Case, folder: Path) -> str:
        """Compare blobpack with an oracle, and return what became of the input, such as "refused".

        Raises:
            AssertionError: they differ.
        """


def target_of(name: str) -> Target:
    """Return the fuzzer of that name."""
    module: Any = importlib.import_module(f"fuzz.fuzz_{name}")
    return module  # type: ignore[no-any-return]


def check_seed(target: Target, seed: int, folder: Path) -> str:
    """Check the input of a seed."""
    with warnings.catch_warnings():
        # damage behind the end of an archive is no concern of the fuzzers
        warnings.simplefilter("ignore", LeftOutWarning)
        return target.check(target.make(random.Random(seed)), folder)


def run_seeds(name: str, seeds: range, folder: Path) -> Counter[str]:
    """Check the inputs of these seeds in this process, and count what became of them.

    Raises:
        AssertionError: an oracle found something else; the message begins with the seed.
    """
    target = target_of(name)
    counts: Counter[str] = Counter()
    for seed in seeds:
        try:
            counts[check_seed(target, seed, folder)] += 1
        except Exception as exc:
            raise AssertionError(f"{name}, seed {seed}: {type(exc).__name__}: {exc}") from exc
    return counts


def work(name: str, seeds: range, pipe: Connection) -> None:
    """Check the inputs of these seeds in a child process, and send each seed before it is checked."""
    target = target_of(name)
    # A sanitizer reserves terabytes of addresses for its own records.
    if "asan" not in os.environ.get("LD_PRELOAD", ""):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            pipe.send(("seed", seed))
            signal.setitimer(signal.ITIMER_PROF, SECONDS_MAX)
            signal.alarm(SECONDS_MAX * SLOWER_MAX)
            try:
                outcome = check_seed(target, seed, Path(folder))
            except Exception:
                pipe.send(("failed", traceback.format_exc()))
            else:
                pipe.send(("done", outcome))
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)
    pipe.send(("end", None))


class Results:
    """What became of inputs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.failures = 0

    def __str__(self) -> str:
        outcomes = ", ".join(
            f"{count:,} {outcome}" for outcome, count in sorted(self.counts.items())
        )
        return f"{self.name}: {outcomes or 'no inputs yet'}, {self.failures:,} failures"

    def fail(self, seed: int, report: str) -> None:
        """Count a failure, print its report, and keep its input in build/fuzz."""
        self.failures += 1
        print(f"{self.name}: seed {seed} failed\n{report[-1500:]}", flush=True)
        FOUND.mkdir(parents=True, exist_ok=True)
        data = target_of(self.name).make(random.Random(seed)).data
        (FOUND / f"{self.name}-{seed}").write_bytes(data)


class Worker:
    """A child process that checks the inputs of some seeds."""

    def __init__(self, name: str, seeds: range) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        # the seeds that are left, from the one on that is being checked
        self.seeds = seeds
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=work, args=(name, seeds, theirs), daemon=True)
        self.process.start()
        # or the pipe would not end with the process
        theirs.close()

    def take_results(self, results: Results) -> bool:
        """Add what the process has found since the last call; return whether it goes on."""
        try:
            while self.pipe.poll(0.01):
                kind, content = self.pipe.recv()
                if kind == "seed":
                    self.seeds = range(content, self.seeds.stop)
                elif kind == "done":
                    results.counts[content] += 1
                elif kind == "failed":
                    results.fail(self.seeds.start, content)
                else:
                    self.process.join()
                    # a sanitizer has found a leak
                    if self.process.exitcode != 0:
                        self._fail(results, "ended")
                    self.seeds = self.seeds[:0]
                    return False
        except EOFError:
            self.process.join()
            self._fail(results, "died")
            self.seeds = self.seeds[1:]
            return False
        return True

    def _fail(self, results: Results, how: str) -> None:
        code = self.process.exitcode
        results.fail(self.seeds.start, f"the process {how} with exit code {code}")


def fuzz(name: str, minutes: float, first: int) -> Results:
    """Check the inputs of the seeds from `first` on until the time is over, and return what became of them."""
    until = time.monotonic() + 60 * minutes
    results = Results(name)
    batches = (
        range(start, start + SEEDS_PER_BATCH)
        for start in range(first, sys.maxsize, SEEDS_PER_BATCH)
    )
    workers: list[Worker] = []
    shown = time.monotonic()
    while workers or time.monotonic() < until:
        while len(workers) < len(os.sched_getaffinity(0)) and time.monotonic() < until:
            workers.append(Worker(name, next(batches)))
        for worker in list(workers):
            if not worker.take_results(results):
                workers.remove(worker)
                # a process that died leaves seeds behind
                if worker.seeds:
                    workers.append(Worker(name, worker.seeds))
        if time.monotonic() - shown > SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            print(results, flush=True)
    return results


def main() -> None:
    """Run a fuzzer, and exit with 1 if an input failed."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("minutes", nargs="?", type=float, default=1.0)
    parser.add_argument(
        "--seed", type=int, metavar="N", help="check only this input, in this process"
    )
    parser.add_argument("--first", type=int, help="first seed; the default depends on the time")
    options = parser.parse_args()
    if options.seed is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(run_seeds(options.target, range(options.seed, options.seed + 1), Path(folder)))
        return
    first = options.first if options.first is not None else int(time.time()) * 1000
    results = fuzz(options.target, options.minutes, first)
    print(f"{results}, from seed {first} on")
    sys.exit(results.failures > 0)


if __name__ == "__main__":
    main()
