"""Run the mutants: record which tests reach each one, run these tests against it, and list the mutants that survive.

Strategy: the tree is copied, and all mutants of the chosen modules are put into the copy, each behind a switch. One run of
all tests records which mutants each test reaches. Then a few processes import the tests, and fork a process for each mutant
(`fork_plugin`), which runs the tests that reach the mutant, the fastest first, until one fails. A mutant that no test fails
on survives: a test is missing, or the mutant changes nothing that can be seen. Then it belongs into equivalent.txt.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tests.mutants.native_code import mutate_native
from tests.mutants.python_code import mutate_python

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
COPY = ROOT / "build" / "mutants"
EQUIVALENT = HERE / "equivalent.txt"
# The modules that decide about bytes: which bytes are read, and whether they are trusted.
BYTES = (
    "blobpack/indexfile/identity.py",
    "blobpack/indexfile/footer.py",
    "blobpack/indexfile/pages.py",
    "blobpack/foreign/fit.py",
    "blobpack/foreign/guard.py",
    "blobpack/foreign/headers.py",
    "blobpack/opening/find_index.py",
    "blobpack/opening/freshness.py",
    "blobpack/writing/embed.py",
    "blobpack/plan.py",
    "blobpack/stores/http/ranged.py",
    "blobpack/stores/zstd/format.py",
    "blobpack/tar/header.py",
    "blobpack/tar/check.py",
    "_native/tar",
    "_native/index",
    "_native/offsets",
)
# These tests read the source, build a wheel, or measure. A mutated tree fails them whatever the mutant does.
LEFT_OUT = ("layers", "docs", "readme", "scripts", "wheel", "bench", "signatures")
# Imported once and inherited by each process: they take more time than most tests.
PRELOADED = ("numpy", "boto3", "botocore.session", "PIL.Image", "pytest")


class Mutant(NamedTuple):
    """One change of the code."""

    file: str
    line: int
    change: str
    code: str  # the line before the change


# number of a mutant; its tests, and the seconds that each takes without a mutant
Planned: TypeAlias = tuple[int, dict[str, float]]


def files_of(modules: list[str]) -> list[Path]:
    """Return the source files of modules, which are named as paths of files or folders."""
    files: list[Path] = []
    for module in modules:
        path = ROOT / module
        found = sorted(path.rglob("*.p*")) if path.is_dir() else [path]
        found = [file for file in found if file.suffix in {".py", ".pyx", ".pxd"}]
        if not found or not all(file.exists() for file in found):
            sys.exit(f"mutants: no such module: {module}")
        files += [file for file in found if file.stat().st_size]
    return list(dict.fromkeys(files))


def copy_tree() -> None:
    """Copy the files of the working tree that git knows, and the compiled modules."""
    shutil.rmtree(COPY, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = [
        name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()
    ]
    built = [*(ROOT / "blobpack/_native").glob("*.so"), *(ROOT / "build/_native").rglob("*.c")]
    names += [str(file.relative_to(ROOT)) for file in built]
    for name in names:
        target = COPY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)


def adapt_build() -> None:
    """Let the copy compile faster, and with the setuptools of .venv; pip would fetch another one for each build."""
    setup = COPY / "setup.py"
    # Cython knows which modules a changed header belongs to; setuptools would compile all of them
    text = setup.read_text().replace("depends=[*HEADERS, *sources]", "depends=[*sources]")
    setup.write_text(text.replace('"-O3"', '"-O1"'))
    # setuptools before 77 refuses these fields
    path = COPY / "pyproject.toml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("license")))


def mutate(files: list[Path]) -> list[Mutant]:
    """Put the mutants of files into the copy, and return them; a mutant's number is its place."""
    mutants: list[Mutant] = []
    refused: set[tuple[str, int]] = set()
    native = [file for file in files if file.suffix != ".py"]
    for file in files:
        if file.suffix == ".py":
            write_mutants(file, mutants, refused)
    shutil.copy(HERE / "mutant_switch.py", COPY / "blobpack" / "mutant_switch.py")
    python_mutants = len(mutants)
    # A few forms do not compile, so the build is tried again without the lines that the compilers name.
    for _ in range(12 if native else 0):
        del mutants[python_mutants:]
        for file in native:
            write_mutants(file, mutants, refused)
        faults = build()
        if not faults:
            break
        refused |= faults
        for name, line in sorted(faults):
            print(f"  without mutants, which do not compile: {name}:{line}", flush=True)
    else:
        if native:
            sys.exit("mutants: the mutated native code does not compile")
    return mutants


def write_mutants(file: Path, mutants: list[Mutant], refused: set[tuple[str, int]]) -> None:
    """Put the mutants of one file into the copy.

    Args:
        file: The original.
        mutants: Gets the mutants of the file.
        refused: Lines of native files whose mutants do not compile.
    """
    name = str(file.relative_to(ROOT))

    def add(line: int, change: str) -> int | None:
        if (name, line) in refused:
            return None
        mutants.append(Mutant(name, line, " ".join(change.split()), lines[line - 1].strip()))
        return len(mutants) - 1

    source = file.read_text()
    lines = source.splitlines()
    is_python = file.suffix == ".py"
    mutated = mutate_python(source, add) if is_python else mutate_native(source, add)  # type: ignore[arg-type]
    # what stays as it is is not compiled again
    if (COPY / name).read_text() != mutated:
        (COPY / name).write_text(mutated)


def read_equivalent() -> set[tuple[str, str, str]]:
    """Read which mutants change nothing that can be seen.

    Returns:
        File, line of code, and change, or "*" for all changes of that line.
    """
    entries: set[tuple[str, str, str]] = set()
    file = ""
    for text in EQUIVALENT.read_text().splitlines():
        indent = len(text) - len(text.lstrip())
        if text.startswith("#") or not text:
            continue
        if indent == 0:
            file = text.rstrip(":")
        elif indent == 2:
            code, _, change = text.strip().rpartition(" :: ")
            entries.add((file, code, change))
        # deeper: the reason
    return entries


def without_equivalent(chosen: list[int], mutants: list[Mutant]) -> list[int]:
    """Leave out the mutants that equivalent.txt names; exit if it names some that are not there."""
    entries = read_equivalent()
    kept: list[int] = []
    left_out: Counter[str] = Counter()
    for number in chosen:
        file, _, change, code = mutants[number]
        if entries & {(file, code, change), (file, code, "*")}:
            left_out[file] += 1
        else:
            kept.append(number)
    known = {(file, code, change) for file, _, change, code in mutants}
    known |= {(file, code, "*") for file, code, _ in known}
    files = {mutant.file for mutant in mutants}
    if gone := sorted(entry for entry in entries - known if entry[0] in files):
        lines = "\n".join(f"  {file}: {code} :: {change}" for file, code, change in gone)
        sys.exit(f"mutants: equivalent.txt names mutants that are not there:\n{lines}")
    for file, count in left_out.items():
        print(f"  {file}: {count} equivalent mutants are left out", flush=True)
    return kept


def build() -> set[tuple[str, int]]:
    """Compile the native modules of the copy.

    Returns:
        File and line of each error, in the original; empty if the build succeeded.
    """
    env = os.environ | {"CFLAGS": f"-O1 -g0 -w -fwrapv -I{HERE}", "PYTHONPATH": str(COPY)}
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=COPY,
        env=env,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return set()
    faults = set()
    declared = 2  # lines of the declaration of the switch, which stand before the code
    for name, line in re.findall(
        r"(_native/\w+/\w+\.p[yx][xd]):(\d+):\d+", done.stdout + done.stderr
    ):
        faults.add((name, int(line) - declared))
    # gcc names the line of the generated C; the comment above it names the line of the source
    for generated, line in re.findall(r"(build/\S+\.c):(\d+):\d+: error", done.stderr):
        lines = (COPY / generated).read_text(errors="replace").splitlines()[: int(line)]
        for text in reversed(lines):
            if found := re.match(r'\s*/\* "([^"]+)":(\d+)$', text):
                name = found[1] if found[1].startswith("_native") else f"_native/{found[1]}"
                faults.add((name, int(found[2]) - declared))
                break
    if not faults:
        print(done.stdout[-3000:], done.stderr[-6000:])
        sys.exit("mutants: the build failed, and names no line")
    return faults


def record_tests(mutants: list[Mutant], tests: list[str]) -> dict[str, tuple[float, set[int]]]:
    """Run the tests without any mutant, and return how long each took, and the mutants that it reached."""
    folder = COPY / "record"
    folder.mkdir()
    env = os.environ | {
        "PYTHONPATH": str(COPY),
        "BLOBPACK_MUTANTS_RECORD": f"{folder}:{len(mutants)}",
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    workers = str(len(os.sched_getaffinity(0)) + 1)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.mutants.record_plugin",
        "-n",
        workers,
    ]
    subprocess.run(
        [*command, "--dist", "worksteal", "--tb=line", *tests], cwd=COPY, env=env, stdout=sys.stderr
    )
    results: dict[str, tuple[float, set[int]]] = {}
    for report in folder.glob("*.jsonl"):
        for text in report.read_text().splitlines():
            line = json.loads(text)
            if line["failed"]:
                print(f"  left out, because it fails without a mutant: {line['test']}", flush=True)
            else:
                results[line["test"]] = (line["seconds"], set(line["reached"]))
    return results


def start(name: str, plan: list[Planned], cap_s: float, *, imports_mutant: bool) -> int:
    """Start a process that runs a plan, and return its id.

    Args:
        name: Name of the plan.
        plan: The mutants that the process runs.
        cap_s: The tests that run on a mutant take no longer than this in sum.
        imports_mutant: The only mutant is on from the start, because it is reached by the import.
    """
    path = COPY / "record" / f"plan-{name}"
    path.write_text(json.dumps(plan))
    if pid := os.fork():
        return pid
    os.chdir(COPY)
    os.environ["BLOBPACK_MUTANT"] = str(plan[0][0]) if imports_mutant else "-1"
    os.environ["BLOBPACK_MUTANTS_PLAN"] = str(path)
    os.environ["BLOBPACK_MUTANTS_CAP"] = str(cap_s)
    os.environ["PYTHONPATH"] = str(COPY)
    sys.path.insert(0, str(COPY))
    # `tests` is a package of this process, imported from the original tree
    for module in [name for name in sys.modules if name.split(".")[0] in {"tests", "blobpack"}]:
        del sys.modules[module]
    output = os.open(f"{path}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import pytest

    paths = sorted({test.split("::")[0] for _, tests in plan for test in tests})
    arguments = ["-q", "-s", "--tb=short", "-p", "no:xdist", "-p", "tests.mutants.fork_plugin"]
    os._exit(pytest.main([*arguments, f"--basetemp={path}.tmp", *paths]))


def run_mutants(
    chosen: list[int],
    mutants: list[Mutant],
    recorded: dict[str, tuple[float, set[int]]],
    cap_s: float,
) -> dict[int, str]:
    """Run the tests of each chosen mutant, up to cap_s seconds of them.

    Returns:
        For each mutant "killed", "timeout", "survived" or "unreached".
    """
    reaching: dict[int, list[str]] = defaultdict(list)
    by_file: dict[str, set[str]] = defaultdict(set)
    for test, (_, reached) in recorded.items():
        for number in reached:
            reaching[number].append(test)
            by_file[mutants[number].file].add(test)
    fates: dict[int, str] = {}
    reached_later: list[Planned] = []
    # one plan for each: the import that reaches such a mutant happens once in a process
    reached_by_import: list[Planned] = []
    for number in chosen:
        plan = reached_later
        tests = reaching[number]
        if mutants[number].file.endswith(".py") and is_at_module_level(mutants[number]):
            plan, tests = reached_by_import, list(by_file[mutants[number].file])
        if not tests:
            fates[number] = "unreached"
            continue
        plan.append((number, {test: recorded[test][0] for test in tests}))
    workers = len(os.sched_getaffinity(0))
    # more plans than workers: some take longer than others
    parts = 4 * workers
    plans = [(f"import-{one[0]}", [one], True) for one in reached_by_import]
    plans += [(f"{i}", reached_later[i::parts], False) for i in range(parts)]
    waiting = [plan for plan in plans if plan[1]]
    running: dict[int, str] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            name, plan, imports_mutant = waiting.pop()
            running[start(name, plan, cap_s, imports_mutant=imports_mutant)] = name
        pid, _ = os.waitpid(-1, os.WNOHANG)
        for name in running.values():
            read_fates(name, fates, mutants, len(chosen))
        if pid:
            name = running.pop(pid)
            plan = json.loads((COPY / "record" / f"plan-{name}").read_text())
            if name.startswith("import-"):
                # the module can't be imported, so the process has not come to its plan
                fates.setdefault(plan[0][0], "killed")
            elif missing := [number for number, *_ in plan if number not in fates]:
                print((COPY / "record" / f"plan-{name}.log").read_text()[-3000:])
                sys.exit(f"mutants: a process ended early, at mutant {missing[0]}")
        time.sleep(0.2)
    return fates


def read_fates(name: str, fates: dict[int, str], mutants: list[Mutant], total: int) -> None:
    """Add the fates that a running plan has written, and print the mutants that survived."""
    path = COPY / "record" / f"plan-{name}.fates"
    for line in path.read_text().splitlines() if path.exists() else ():
        number, _, fate = line.partition(" ")
        if int(number) not in fates:
            fates[int(number)] = fate
            if int(number) < len(mutants):
                show(len(fates), total, int(number), mutants[int(number)], fate)


def check_control(number: int, recorded: dict[str, tuple[float, set[int]]]) -> None:
    """Exit if the fastest tests of each file fail with no mutant on: then every mutant would seem to be killed."""
    by_file: dict[str, list[str]] = defaultdict(list)
    for test in sorted(recorded, key=lambda test: recorded[test][0]):
        by_file[test.split("::")[0]].append(test)
    tests = [test for found in by_file.values() for test in found[:5]]
    plan = [(number, {test: recorded[test][0] for test in tests})]
    os.waitpid(start("control", plan, math.inf, imports_mutant=False), 0)
    fates: dict[int, str] = {}
    read_fates("control", fates, [], 1)
    if fates != {number: "survived"}:
        for name in ("plan-control.log", f"run-{number}.log"):
            log = COPY / "record" / name
            print(log.read_text()[-3000:] if log.exists() else f"no {name}")
        sys.exit("mutants: tests fail with no mutant on")


def is_at_module_level(mutant: Mutant) -> bool:
    """Return whether a mutant stands outside functions, or in their default arguments."""
    import ast

    tree = ast.parse((ROOT / mutant.file).read_text())
    bodies = [
        (node.body[0].lineno, node.end_lineno or 0)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    return not any(first <= mutant.line <= last for first, last in bodies)


def show(done: int, total: int, number: int, mutant: Mutant, fate: str) -> None:
    """Print a mutant that survived, and the progress now and then."""
    if fate == "survived":
        print(
            f"  survived: {mutant.file}:{mutant.line}: {mutant.change}  (mutant {number})",
            flush=True,
        )
    if done % 50 == 0:
        print(f"  {done} of {total}", flush=True)


def main() -> None:
    """Run the mutants of modules, and exit with 1 if fewer than --least percent are killed."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__.split("\n")[0])
    parser.add_argument(
        "modules",
        nargs="*",
        metavar="MODULE",
        help="files or folders; the default are the modules that decide about bytes",
    )
    parser.add_argument(
        "--sample", type=int, metavar="N", help="run N mutants of each file, picked at random"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--lines", metavar="A-B", help="only mutants of these lines")
    parser.add_argument(
        "--tests", nargs="*", default=["tests"], help="tests to run; the default is all"
    )
    parser.add_argument(
        "--again", metavar="OUTPUT", help="only mutants that are alive in this output of a run"
    )
    parser.add_argument(
        "--cap",
        type=float,
        default=math.inf,
        metavar="SECONDS",
        help="run only so many seconds of tests on a mutant, the fastest ones; the share of the killed is then a lower bound",
    )
    parser.add_argument("--least", type=float, default=0.0, metavar="PERCENT")
    parser.add_argument("--list", action="store_true", help="list the mutants and run nothing")
    options = parser.parse_args()

    print("copying the tree, and putting mutants into it", flush=True)
    copy_tree()
    adapt_build()
    mutants = mutate(files_of(options.modules or list(BYTES)))
    chosen = without_equivalent(list(range(len(mutants))), mutants)
    if options.again:
        chosen = alive_in(options.again, chosen, mutants)
    chosen = pick(chosen, mutants, options.sample, options.seed, options.lines)
    print(f"{len(mutants)} mutants, of which {len(chosen)} are run", flush=True)
    if options.list:
        for number in chosen:
            print(
                f"  {number} {mutants[number].file}:{mutants[number].line}: {mutants[number].change}"
            )
        return
    ignored = [f"--ignore=tests/test_{name}.py" for name in LEFT_OUT]
    print("running the tests once, to see which mutants each test reaches", flush=True)
    recorded = record_tests(mutants, [*options.tests, *ignored])
    for name in PRELOADED:
        __import__(name)
    print(f"running the mutants; {len(recorded)} tests were recorded", flush=True)
    check_control(len(mutants), recorded)
    fates = run_mutants(chosen, mutants, recorded, options.cap)
    share = summarise(fates, mutants)
    sys.exit(share < options.least)


def alive_in(output: str, chosen: list[int], mutants: list[Mutant]) -> list[int]:
    """Choose the mutants that the output of an earlier run lists: those that survived or were not reached."""
    listed = re.findall(
        r"(?m)^  (?:survived|unreached): (\S+?):\d+: (.*)  \(", Path(output).read_text()
    )
    return [n for n in chosen if (mutants[n].file, mutants[n].change) in set(listed)]


def pick(
    candidates: list[int], mutants: list[Mutant], sample: int | None, seed: int, lines: str | None
) -> list[int]:
    """Return the numbers of the mutants to run."""
    by_file: dict[str, list[int]] = defaultdict(list)
    for number in candidates:
        mutant = mutants[number]
        if lines:
            first, _, last = lines.partition("-")
            if not int(first) <= mutant.line <= int(last or first):
                continue
        by_file[mutant.file].append(number)
    generator = random.Random(seed)
    chosen: list[int] = []
    for numbers in by_file.values():
        chosen += sorted(generator.sample(numbers, min(sample or len(numbers), len(numbers))))
    return chosen


def summarise(fates: dict[int, str], mutants: list[Mutant]) -> float:
    """Print a line for each file, and return the share of mutants that were killed, in percent."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for number, fate in fates.items():
        counts[mutants[number].file][fate] += 1
        if fate == "unreached":
            print(
                f"  unreached: {mutants[number].file}:{mutants[number].line}: {mutants[number].change}  (mutant {number})"
            )
    print(f"{'file':44} {'run':>5} {'killed':>7} {'survived':>9} {'unreached':>10}")
    for file, count in counts.items():
        killed = count["killed"] + count["timeout"]
        print(
            f"{file:44} {count.total():5} {100 * killed / count.total():6.1f}% {count['survived']:9} {count['unreached']:10}"
        )
    total = sum((count for count in counts.values()), Counter())
    killed = total["killed"] + total["timeout"]
    share = 100 * killed / max(1, total.total())
    print(f"{killed} of {total.total()} mutants were killed: {share:.1f} %")
    return share


if __name__ == "__main__":
    main()
