"""A pytest plugin: it collects the tests once, then forks a process for each mutant, which runs the tests that reach it.

To import the tests takes longer than to run most of them. The switches read anew which mutant is on in each process that is
forked.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import sys
import time
from collections import Counter
from itertools import accumulate
from pathlib import Path

import pytest

PLAN = os.environ.get("BLOBPACK_MUTANTS_PLAN")  # a JSON file: [[mutant, {test id: seconds}], …]
# A test hangs if it takes longer than this, and ten times as long as without a mutant.
HANGS_S = 20.0


class Killers:
    """The tests that failed on mutants of this process so far: each is likely to fail on the next one, too."""

    def __init__(self) -> None:
        self.kills: Counter[str] = Counter()
        # place of the test that a forked process runs
        self.running = mmap.mmap(-1, 8)

    def ordered(self, tests: dict[str, float], cap_s: float) -> list[tuple[str, float]]:
        """Return tests and their seconds, the best ones first, up to cap_s seconds in sum, but at least four tests."""
        order = sorted(tests, key=lambda test: tests[test] / (1 + 3 * self.kills[test]))
        ends = accumulate(tests[test] for test in order)
        return [
            (test, tests[test])
            for place, (test, end) in enumerate(zip(order, ends, strict=True))
            if end <= cap_s or place < 4
        ]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the plan in place of all tests, and append a line "mutant fate" to the plan's file of fates for each mutant."""
    if PLAN is None:
        return None
    items = {item.nodeid: item for item in session.items}
    if any("s3" in getattr(item, "fixturenames", ()) for item in session.items):
        start_s3_server(session.config)
    basetemp = Path(session.config.option.basetemp)
    with open(f"{PLAN}.fates", "a", buffering=1) as fates:
        killers = Killers()
        for number, tests in json.loads(Path(PLAN).read_text()):
            chosen = {test: seconds for test, seconds in tests.items() if test in items}
            fate = run_mutant(session, number, items, chosen, killers) if chosen else "no test"
            fates.write(f"{number} {fate}\n")
            shutil.rmtree(basetemp, ignore_errors=True)
    return True


def start_s3_server(config: pytest.Config) -> None:
    """Start the S3 server that the forked processes share: one that started it itself would be killed with it."""
    from s3server import S3Server

    S3Server(config.stash[sys.modules["conftest"].S3_FOLDER]).close()


def run_mutant(
    session: pytest.Session,
    number: int,
    items: dict[str, pytest.Item],
    tests: dict[str, float],
    killers: Killers,
) -> str:
    """Run tests with a mutant on; return "killed", "timeout" or "survived"."""
    os.environ["BLOBPACK_MUTANT"] = str(number)
    ordered = killers.ordered(tests, float(os.environ["BLOBPACK_MUTANTS_CAP"]))
    pid = os.fork()
    if not pid:
        chosen = [items[test] for test, _ in ordered]
        run_until_one_fails(session, number, chosen, killers.running)
    place = -1
    until = 0.0
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            fate = "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
            break
        now = time.monotonic()
        if place != (place := int.from_bytes(killers.running[:], "little")):
            until = now + HANGS_S + 10 * ordered[place][1]
        if now > until:
            fate = "timeout"
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.003)
    if fate != "survived":
        killers.kills[ordered[int.from_bytes(killers.running[:], "little")][0]] += 1
    killers.running[:] = bytes(8)
    return fate


def run_until_one_fails(
    session: pytest.Session, number: int, items: list[pytest.Item], running: mmap.mmap
) -> None:
    """Run tests in a new process, and end it with 1 if one fails."""
    os.setsid()
    output = os.open(f"record/run-{number}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        for place, (item, following) in enumerate(zip(items, [*items[1:], None], strict=True)):
            running[:] = place.to_bytes(8, "little")
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                break
    except BaseException:
        os._exit(1)
    os._exit(session.testsfailed > 0)
