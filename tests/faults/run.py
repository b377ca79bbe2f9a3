"""Break all commands on all processors, and print what does not survive; scripts/faults runs this."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from functools import cache, partial
from typing import TYPE_CHECKING

from commands import Commands, Fault, fast_folder
from power import PowerLoss, cut_power, power_losses
from scenarios import scenarios
from sweep import Problem, Trial

if TYPE_CHECKING:
    from multiprocessing.pool import Pool

CASES_PER_TASK = 30
# for each naming in each epoch; see power.py
POWER_STATES = 40
# Commands import nearly the same modules, and each of these faults takes 0.3 s.
AT_IMPORT = ("merge over nothing",)
EXAMPLES = 3
PROGRESS_S = 5

Case = Fault | PowerLoss
Task = tuple[str, list[Case]]


PARENT = ""


def begin_worker(parent: str) -> None:
    """Prepare a worker, which works in a folder of its own below the given one."""
    global PARENT
    PARENT = parent
    # Ctrl-C reaches all processes of a terminal; the main one prints what was found so far
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@cache
def commands() -> Commands:
    """Return the process that runs the commands of this worker; it ends with the worker."""
    return Commands(PARENT).__enter__()


@cache
def trial(name: str) -> Trial:
    return Trial(scenarios()[name], commands())


def cases_of(name: str, *, any_names: bool) -> tuple[str, list[Problem], list[Case]]:
    """List everything that can happen to a scenario, and the problems that it has without a fault."""
    it = trial(name)
    cases: list[Case] = [*it.faults()]
    # extract does not wait for the disk; what a race leaves is what its commands leave
    if not name.startswith(("extract", "race")):
        cases += power_losses(it, limit=POWER_STATES, any_names=any_names)
    if name in AT_IMPORT:
        cases += it.faults_at_import()
    return name, it.problems, cases


def try_cases(task: Task) -> tuple[str, int, list[Problem]]:
    """Try the cases of a task; return the scenario, their number, and what was found."""
    name, cases = task
    problems = []
    for case in cases:
        if isinstance(case, Fault):
            problems += trial(name).break_at(case)
        else:
            problems += cut_power(trial(name), case)
    return name, len(cases), problems


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", help="starts of their names")
    parser.add_argument("--sample", type=int, help="at most so many faults of each scenario")
    parser.add_argument("--only", choices=["faults", "power"])
    parser.add_argument("--any-names", action="store_true", help="a disk that reorders names")
    parser.add_argument("--list", action="store_true", help="print the names of the scenarios")
    options = parser.parse_args()
    starts = tuple(options.scenarios) or ("",)
    names = [name for name in scenarios() if name.startswith(starts)]
    if options.list:
        print(*names, sep="\n")
        return 0
    if not names:
        parser.error("no scenario begins so; --list prints them")

    # like Ctrl-C: the workers would go on without the main process
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found = Findings()
    with (
        tempfile.TemporaryDirectory(prefix="faults-", dir=fast_folder()) as parent,
        multiprocessing.Pool(initializer=begin_worker, initargs=(parent,)) as pool,
    ):
        try:
            tasks = list_tasks(pool, names, options, found)
            for name, count, problems in pool.imap_unordered(try_cases, tasks):
                found.add(name, count, problems)
        except KeyboardInterrupt:
            print("stopped; so far:", file=sys.stderr)
    found.print()
    return bool(found.problems)


def list_tasks(
    pool: Pool, names: list[str], options: argparse.Namespace, found: Findings
) -> list[Task]:
    """List the cases to try, some for each task."""
    tasks: list[Task] = []
    for name, problems, cases in pool.imap(partial(cases_of, any_names=options.any_names), names):
        found.problems += problems
        if options.only:
            is_power = options.only == "power"
            cases = [case for case in cases if isinstance(case, PowerLoss) is is_power]
        if options.sample and len(cases) > options.sample:
            cases = random.Random(name).sample(cases, options.sample)
        found.to_do[name] = len(cases)
        tasks += (
            (name, cases[i : i + CASES_PER_TASK]) for i in range(0, len(cases), CASES_PER_TASK)
        )
    return tasks


class Findings:
    """What was tried, and what was found.

    Attributes:
        to_do: Scenario → number of cases.
        problems: All that was found.
    """

    def __init__(self) -> None:
        self.to_do: Counter[str] = Counter()
        self.problems: list[Problem] = []
        self._done: Counter[str] = Counter()
        self._began = self._shown = time.monotonic()

    def add(self, name: str, count: int, problems: list[Problem]) -> None:
        """Add the result of some cases, and show the progress."""
        self._done[name] += count
        self.problems += problems
        now = time.monotonic()
        if now - self._shown > PROGRESS_S:
            self._shown = now
            print(
                f"[{now - self._began:3.0f} s] {self._done.total()} of {self.to_do.total()} faults, "
                f"{len(self.problems)} problems; {name}",
                file=sys.stderr,
            )

    def print(self) -> None:
        """Print one line for each scenario, and the problems, equal ones together."""
        failed = Counter(problem.scenario for problem in self.problems)
        width = max(map(len, self.to_do), default=8)
        print(f"{'scenario':{width}}  {'faults':>6}  {'problems':>8}")
        for name in self.to_do:
            print(f"{name:{width}}  {self._done[name]:6}  {failed[name]:8}")
        print(f"{'all':{width}}  {self._done.total():6}  {len(self.problems):8}")
        alike = defaultdict(list)
        for problem in self.problems:
            alike[re.sub(r"\d{3,}", "N", problem.text)].append(problem)
        for text, group in sorted(alike.items(), key=lambda item: -len(item[1])):
            print(f"\n{len(group)} × {text}")
            for problem in group[:EXAMPLES]:
                print(f"    {problem.scenario} | {problem.fault} | {problem.call}")
            if len(group) > EXAMPLES:
                print(f"    … in {', '.join(sorted({problem.scenario for problem in group}))}")


if __name__ == "__main__":
    sys.exit(main())
