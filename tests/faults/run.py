"""Break all commands on all processors, and print what does not survive; scripts/faults runs this."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import sys
import time
from collections import Counter, defaultdict
from functools import cache
from multiprocessing.util import Finalize

from commands import Commands, Fault
from power import PowerLoss, cut_power, power_losses
from scenarios import scenarios
from sweep import Problem, Trial

CASES_PER_TASK = 30
# for each naming in each epoch; see power.py
POWER_STATES = 40
# Commands import nearly the same modules, and each of these faults takes 0.3 s.
AT_IMPORT = ("merge over nothing",)
EXAMPLES = 3

Case = Fault | PowerLoss


@cache
def commands() -> Commands:
    """Return the process that runs the commands of this worker."""
    started = Commands().__enter__()
    # a worker of a pool ends without Python's clean-up, except for this
    Finalize(None, started.__exit__, exitpriority=1)
    return started


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


def try_cases(name: str, cases: list[Case]) -> tuple[str, int, list[Problem]]:
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

    began = time.monotonic()
    problems: list[Problem] = []
    counts: Counter[str] = Counter()
    with multiprocessing.Pool(len(os.sched_getaffinity(0))) as pool:
        tasks = []
        listed = [
            pool.apply_async(cases_of, (name,), {"any_names": options.any_names}) for name in names
        ]
        for name, found, cases in (task.get() for task in listed):
            problems += found
            if options.only:
                is_power = options.only == "power"
                cases = [case for case in cases if isinstance(case, PowerLoss) is is_power]
            if options.sample and len(cases) > options.sample:
                cases = random.Random(name).sample(cases, options.sample)
            counts[name] = len(cases)
            tasks += [
                (name, cases[i : i + CASES_PER_TASK]) for i in range(0, len(cases), CASES_PER_TASK)
            ]
        done = 0
        for name, count, found in (
            task.get() for task in [pool.apply_async(try_cases, t) for t in tasks]
        ):
            done += count
            problems += found
            show(
                f"{done} of {counts.total()} faults, {len(problems)} problems, {time.monotonic() - began:.0f} s: {name}"
            )
        pool.close()
        pool.join()
    print(file=sys.stderr)
    print_summary(counts, problems)
    return bool(problems)


def show(text: str) -> None:
    """Show progress in one line on a terminal, and in one line each time otherwise."""
    if sys.stderr.isatty():
        text = f"\r\x1b[K{text}"
    print(text, end="" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


def print_summary(counts: Counter[str], problems: list[Problem]) -> None:
    """Print one line for each scenario, and the problems, equal ones together."""
    failed = Counter(problem.scenario for problem in problems)
    width = max(map(len, counts))
    print(f"{'scenario':{width}}  {'faults':>6}  {'problems':>8}")
    for name, count in counts.items():
        print(f"{name:{width}}  {count:6}  {failed[name]:8}")
    print(f"{'all':{width}}  {counts.total():6}  {len(problems):8}")
    alike = defaultdict(list)
    for problem in problems:
        alike[re.sub(r"\d{3,}", "N", problem.text)].append(problem)
    for text, group in sorted(alike.items(), key=lambda item: -len(item[1])):
        print(f"\n{len(group)} × {text}")
        for problem in group[:EXAMPLES]:
            print(f"    {problem.scenario} | {problem.fault} | {problem.call}")
        if len(group) > EXAMPLES:
            print(f"    … in {', '.join(sorted({problem.scenario for problem in group}))}")


if __name__ == "__main__":
    sys.exit(main())
