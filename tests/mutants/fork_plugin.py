"""A pytest plugin: it collects the tests once, then forks a process for each mutant, which runs the tests that reach it.

To import the tests takes longer than to run most of them. The switches read anew which mutant is on in each process that is
forked.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

PLAN = os.environ.get("BLOBPACK_MUTANTS_PLAN")  # a JSON file: [[mutant, [test id, …], seconds], …]


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
        for number, tests, allowed_s in json.loads(Path(PLAN).read_text()):
            chosen = [items[test] for test in tests if test in items]
            fate = run_mutant(session, number, chosen, allowed_s) if chosen else "no test"
            fates.write(f"{number} {fate}\n")
            shutil.rmtree(basetemp, ignore_errors=True)
    return True


def start_s3_server(config: pytest.Config) -> None:
    """Start the S3 server that the forked processes share: one that started it itself would be killed with it."""
    from s3server import S3Server

    S3Server(config.stash[sys.modules["conftest"].S3_FOLDER]).close()


def run_mutant(
    session: pytest.Session, number: int, items: list[pytest.Item], allowed_s: float
) -> str:
    """Run tests with a mutant on; return "killed", "timeout" or "survived"."""
    os.environ["BLOBPACK_MUTANT"] = str(number)
    pid = os.fork()
    if not pid:
        run_until_one_fails(session, number, items)
    until = time.monotonic() + allowed_s
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout"


def run_until_one_fails(session: pytest.Session, number: int, items: list[pytest.Item]) -> None:
    """Run tests in a new process, and end it with 1 if one fails."""
    os.setsid()
    output = os.open(f"record/run-{number}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        for item, following in zip(items, [*items[1:], None], strict=True):
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                break
    except BaseException:
        os._exit(1)
    os._exit(session.testsfailed > 0)
