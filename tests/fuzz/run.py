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
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

TARGETS = ("scan", "offsets", "index", "collection", "zstd")
FOUND = Path(__file__).parents[2] / "build" / "fuzz"
# Inputs have some kilobytes. An input that takes this much is a failure.
MEMORY_BYTES_MAX = 4 << 30
SECONDS_MAX = 30
SEEDS_PER_BATCH = 200


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


def run_seeds(name: str, seeds: range, folder: Path) -> Counter[str]:
    """Check the inputs of these seeds in this process, and count what became of them.

    Raises:
        AssertionError: an oracle found something else; the message begins with the seed.
    """
    target = target_of(name)
    counts: Counter[str] = Counter()
    for seed in seeds:
        try:
            counts[target.check(target.make(random.Random(seed)), folder)] += 1
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
            signal.alarm(SECONDS_MAX)
            try:
                outcome = target.check(target.make(random.Random(seed)), Path(folder))
            except Exception:
                pipe.send(("failed", traceback.format_exc()))
            else:
                pipe.send(("done", outcome))
    pipe.send(("end", None))


def fuzz(name: str, minutes: float, first: int) -> tuple[Counter[str], int]:
    """Check inputs until the time is over.

    Returns:
        What became of the inputs, and the number of failures.
    """
    until = time.monotonic() + 60 * minutes
    counts: Counter[str] = Counter()
    failures = 0
    batches = iter(range(first, sys.maxsize, SEEDS_PER_BATCH))
    context = multiprocessing.get_context("spawn")
    running: list[tuple[Any, Connection, list[int]]] = []

    def start(seeds: range) -> None:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(name, seeds, theirs), daemon=True)
        process.start()
        theirs.close()
        running.append((process, ours, [seeds.start, seeds.stop]))

    shown = time.monotonic()
    workers = len(os.sched_getaffinity(0))
    while running or time.monotonic() < until:
        while len(running) < workers and time.monotonic() < until:
            batch = next(batches)
            start(range(batch, batch + SEEDS_PER_BATCH))
        for place, (process, pipe, at) in reversed(list(enumerate(running))):
            ended = False
            try:
                while not ended and pipe.poll(0.01):
                    kind, content = pipe.recv()
                    if kind == "seed":
                        at[0] = content
                    elif kind == "done":
                        counts[content] += 1
                    elif kind == "failed":
                        failures += 1
                        keep(name, at[0], content)
                    ended = kind == "end"
            except EOFError:
                process.join()
                failures += 1
                keep(name, at[0], f"the process died with exit code {process.exitcode}")
                running.pop(place)
                if at[0] + 1 < at[1]:
                    start(range(at[0] + 1, at[1]))
                continue
            if ended:
                process.join()
                running.pop(place)
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(
                f"{name}: {counts.total():,} inputs, {dict(counts)}, {failures} failures",
                flush=True,
            )
    return counts, failures


def keep(name: str, seed: int, report: str) -> None:
    """Print a failure, and write its input into build/fuzz."""
    FOUND.mkdir(parents=True, exist_ok=True)
    path = FOUND / f"{name}-{seed}"
    path.write_bytes(target_of(name).make(random.Random(seed)).data)
    print(
        f"{name}: seed {seed} failed; its input is build/fuzz/{path.name}\n{report[-1500:]}",
        flush=True,
    )


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
    counts, failures = fuzz(options.target, options.minutes, first)
    print(
        f"{options.target}: {counts.total():,} inputs from seed {first}, {dict(counts)}, {failures} failures"
    )
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
