"""Break each call of a command in turn, and check what is left.

Strategy: a command runs once without a fault, which shows its calls. Then it runs once for each call and each fault that
can happen there, always in a fresh copy of its folder. After each run the folder is checked, the same command runs
again without a fault, and the folder is checked again.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import signal
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

from commands import READS, TAKES_ROOM, Call, Commands, Fault, Outcome
from scenarios import Scenario, make_sources
from verdict import (
    Tree,
    has_index,
    hide_hex,
    last_line,
    members_of,
    message_problems,
    output_members,
    read_tree,
    reading_problems,
    state_problems,
)

import blobpack

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(blobpack.__file__).parent
# Errors that a call can report. EINTR stands only by calls that the caller repeats.
ERRORS_OF = {
    "open": (errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.EINTR),
    "close": (errno.EIO,),
    "write": (errno.ENOSPC, errno.EIO, errno.EINTR),
    "pwrite": (errno.ENOSPC, errno.EIO, errno.EINTR),
    "fallocate": (errno.ENOSPC, errno.EOPNOTSUPP),
    "posix_fallocate": (errno.ENOSPC, errno.EIO, errno.EOPNOTSUPP),
    "fsync": (errno.EIO, errno.EINTR),
    "flock": (errno.ENOLCK, errno.EINTR),
    "fchmod": (errno.EPERM,),
    "rename": (errno.EIO, errno.EROFS),
    "unlink": (errno.EIO, errno.EROFS),
}
READ_ERRORS_OF = {
    "open": (errno.EACCES, errno.EMFILE, errno.EINTR),
    "close": (),
    "read": (errno.EIO, errno.EINTR),
    "pread": (errno.EIO, errno.EINTR),
}
# Without an error for these, data could be missing, and nobody would know.
MUST_BE_REPORTED = ("write", "pwrite", "ftruncate", "fsync", "fdatasync", "rename")
PAGE = 4096
SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Threads make calls in any order, so the number of a call differs from run to run.
SHIFT_MAX = 3
NOT_REACHED = "the call was not reached"


@dataclass
class Problem:
    """A promise that was not kept.

    Attributes:
        scenario: Name of the scenario.
        fault: The fault, as text.
        call: The call at which it happened.
        text: What is wrong.
    """

    scenario: str
    fault: str
    call: str
    text: str


class Trial:
    """A scenario that is ready to be broken: its folder before the command, and after it.

    Attributes:
        before: The files before the command.
        after: The files after the command, without a fault.
        calls: The calls of the command, without a fault, with the bytes written.
        inodes: Numbers of the files' inodes in that run.
        problems: What is wrong already without a fault.
    """

    def __init__(self, scenario: Scenario, commands: Commands) -> None:
        self.scenario, self._commands = scenario, commands
        self._later: dict[tuple[bool, bytes], list[str]] = {}
        self._members: dict[tuple[str, ...], dict[str, bytes]] = {}
        folder = commands.folder / "trials" / scenario.name.replace(" ", "-")
        self._template, self.work = folder / "template", folder / "scene"
        self._template.mkdir(parents=True)
        make_sources(self._template)
        for command in scenario.before:
            self._run_well(command, self._template)
        self.before = read_tree(self._template)
        blob = self._template / scenario.in_place
        self._had_index = bool(scenario.in_place) and has_index(blob)
        self.restore()
        self.calls = self._run_well(scenario.command, self.work).calls
        self.after = read_tree(self.work)
        self.inodes = {path: (self.work / path).stat().st_ino for path in self.after}
        self.problems = [
            Problem(scenario.name, "no fault", "", text) for text in reading_problems(self.work)
        ]

    def _run_well(self, command: str, folder: Path) -> Outcome:
        outcome = self._commands.run(command, folder, with_data=True)
        if outcome.code != 0:
            raise AssertionError(f"{command}: exit code {outcome.code}: {outcome.stderr}")
        return outcome

    def restore(self) -> None:
        """Make the folder what it was before the command."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self._template, self.work)

    def faults(self) -> list[Fault]:
        """Return the faults that can happen at the calls of the command."""
        if self.scenario.meanwhile:
            return [Fault(call.number, "before", signal.SIGSTOP) for call in self.calls]
        changes = [call.number for call in self.calls if call.kind != READS]
        return [fault for call in thinned(self.calls) for fault in faults_at(call, changes[-1])]

    def faults_at_import(self) -> list[Fault]:
        """Return the signals that can arrive while the installed program imports its modules."""
        # the first run may write files of bytecode
        for _ in range(2):
            self.restore()
            calls = self._run(at_import=True).calls
        opened = [call.number for call in calls if call.name == "open" and call.result >= 0]
        return [Fault(at, "before", number, at_import=True) for at in opened for number in SIGNALS]

    def _run(
        self, fault: Fault | None = None, *, at_import: bool = False, meanwhile: str = ""
    ) -> Outcome:
        return self._commands.run(
            self.scenario.command,
            self.work,
            fault,
            is_installed=at_import,
            watched=PACKAGE if at_import else None,
            meanwhile=meanwhile,
        )

    def _broken(self, fault: Fault, meanwhile: str = "") -> tuple[Outcome, Call | None]:
        """Run the command with a fault, and return the call at which it happened; None if it was not reached."""
        for _ in range(1 + SHIFT_MAX):
            self.restore()
            outcome = self._run(fault, at_import=fault.at_import, meanwhile=meanwhile)
            hit = next((call for call in outcome.calls if call.is_broken), None)
            # Threads that read ahead may make fewer calls than in the first run: then aim as far from the end as there.
            missing = len(self.calls) - len(outcome.calls)
            if hit is not None or fault.at_import or missing <= 0:
                break
            fault = replace(fault, at=max(1, fault.at - missing))
        return outcome, hit

    def break_at(self, fault: Fault) -> list[Problem]:
        """Run the command with a fault, and check what is left; then run it again, and check that, too."""
        if self.scenario.meanwhile:
            return self._race_at(fault)
        outcome, hit = self._broken(fault)
        where = str(hit) if hit else f"call {fault.at}"
        tree = read_tree(self.work)
        texts = [NOT_REACHED] if hit is None else self._problems(outcome, fault, hit, tree)
        texts += self.problems_later(tree, killed=fault.is_kill)
        if fault.kind == "dropped" and self._runs_on(fault, outcome, tree):
            texts.append("the command runs on")
        return [Problem(self.scenario.name, str(fault), where, text) for text in texts]

    def _runs_on(self, fault: Fault, outcome: Outcome, tree: Tree) -> bool:
        """Return whether a command did all its work after a signal that Python dropped.

        A call behind the dropped signal waits for the command to notice it. So no more may be done than what is
        done if a signal that is not dropped arrives a little later.
        """
        paused = [call.number for call in outcome.calls if call.is_broken][1:]
        if not paused or self._unless_done(tree):
            return False
        self.restore()
        self._run(Fault(paused[0] + SHIFT_MAX, "before", fault.value))
        return bool(self._unless_done(read_tree(self.work)))

    def _race_at(self, fault: Fault) -> list[Problem]:
        """Run the other command while this one is stopped at a call, and check that both did what they say."""
        scenario = self.scenario
        outcome, hit = self._broken(fault, scenario.meanwhile)
        if hit is None:
            return [Problem(scenario.name, str(fault), f"call {fault.at}", NOT_REACHED)]
        problems = reading_problems(self.work)
        done = []
        for command, each in ((scenario.command, outcome), (scenario.meanwhile, outcome.meanwhile)):
            if each.code == 0:
                done.append(command)
            else:
                problems += message_problems(each)
        tree = read_tree(self.work)
        members = output_members(self.work / scenario.output)
        # as if those that succeeded had run one after the other
        if all(members != self._members_after(order) for order in permutations(done)):
            problems.append(f"members after {len(done)} commands: {sorted(members)}")
        problems += [
            f"left behind: {hide_hex(path)}" for path in tree if path.endswith((".tmp", ".void"))
        ]
        return [Problem(scenario.name, str(fault), str(hit), text) for text in problems]

    def _members_after(self, commands: tuple[str, ...]) -> dict[str, bytes]:
        """Return the members after some commands, one after the other."""
        if commands not in self._members:
            folder = self.work.with_name("races")
            shutil.copytree(self._template, folder)
            for command in commands:
                # the second one may refuse what the first one has left
                self._commands.run(command, folder)
            self._members[commands] = output_members(folder / self.scenario.output)
            shutil.rmtree(folder)
        return self._members[commands]

    def _problems(self, outcome: Outcome, fault: Fault, hit: Call, tree: Tree) -> list[str]:
        problems = exit_problems(outcome, fault, hit, self.work)
        if hit.name == "unlink" and fault.kind == "fail" and hit.path.endswith(".tmp"):
            # what can't be removed stays, until the next run removes it
            tree = {path: content for path, content in tree.items() if path != hit.path}
        if outcome.code == 0 and not fault.is_signal and not fault.is_kill:
            return problems + self._unless_done(tree)
        if self._must_restore(fault, tree) and not has_index(self.work / self.scenario.in_place):
            problems.append("the index is not restored")
        return problems + state_problems(
            tree,
            self.before,
            self.after,
            in_place=self.scenario.in_place,
            leftovers=fault.is_kill,
            disk_is_full=fault.kind == "full",
        )

    def _must_restore(self, fault: Fault, tree: Tree) -> bool:
        """Return whether an append must have put the index back, as it promises if it fails but is not killed."""
        blob = self.scenario.in_place
        can_restore = not fault.is_kill and fault.kind != "full"
        return (
            can_restore
            and self.scenario.name.startswith("append")
            and self._had_index
            and members_of(tree[blob]) == members_of(self.before[blob])
        )

    def _unless_done(self, tree: Tree) -> list[str]:
        """Compare the folder with the one after a command without a fault."""
        problems = state_problems(tree, self.after, self.after, in_place=self.scenario.in_place)
        problems += [f"missing: {path}" for path in self.after if path not in tree]
        problems += [
            f"left behind: {path}"
            for path in sorted({*tree} - {*self.after})
            if path.endswith(".void")
        ]
        return [f"after success: {problem}" for problem in problems]

    def problems_later(self, tree: Tree, *, killed: bool) -> list[str]:
        """Read all blobs in the folder; then run the command without a fault, and check the folder again.

        Args:
            tree: What the folder holds now.
            killed: The command could not clean up.
        """
        # many faults leave the same files, and what happens then depends on the files only
        key = (killed, digest(tree))
        if key not in self._later:
            self._later[key] = reading_problems(self.work)
            if self.scenario.repeats:
                self._later[key] += [
                    f"repeated: {text}" for text in self._problems_when_repeated(killed=killed)
                ]
        return self._later[key]

    def _problems_when_repeated(self, *, killed: bool) -> list[str]:
        folder = self.scenario.own_folder
        # shards go to an empty folder only: what a killed pack has left there, its user removes
        if folder and (killed or (self.work / folder / "collection.idx").exists()):
            shutil.rmtree(self.work / folder, ignore_errors=True)
        outcome = self._run()
        if outcome.code != 0:
            return [f"exit code {outcome.code}: {last_line(outcome.stderr)}"]
        return self._unless_done(read_tree(self.work)) + reading_problems(self.work)


def digest(tree: Tree) -> bytes:
    """Return a short key of a tree."""
    return hashlib.sha256(repr(sorted(tree.items())).encode()).digest()


def thinned(calls: list[Call]) -> Iterator[Call]:
    """Leave out reads between other reads of the same file: a fault at one of them is like a fault at the next."""
    around = zip([None, *calls], calls, [*calls[1:], None], strict=False)
    for previous, call, following in around:
        is_read = call.name in ("read", "pread")
        if not (
            is_read and previous and following and str(previous) == str(call) == str(following)
        ):
            yield call


def faults_at(call: Call, last_change: int) -> Iterator[Fault]:
    """Return the faults that can happen at a call.

    A kill behind a call leaves what a kill before the next change leaves, so it is tried only behind the last one.
    """
    for number in SIGNALS:
        yield Fault(call.number, "before", number)
    if call.kind != READS or call.name == "close":
        yield Fault(call.number, "dropped", signal.SIGTERM)
    if call.result < 0:
        return
    if call.kind == READS:
        for error in READ_ERRORS_OF[call.name]:
            yield Fault(call.number, "fail", error)
        if call.name in ("read", "pread"):
            yield Fault(call.number, "short")
        return
    yield Fault(call.number, "before", signal.SIGKILL)
    if call.number == last_change:
        for number in (signal.SIGKILL, *SIGNALS):
            yield Fault(call.number, "after", number)
    for error in ERRORS_OF.get(call.name, (errno.EIO,)):
        yield Fault(call.number, "fail", error)
    if call.is_write:
        yield Fault(call.number, "short")
        # a signal can't end a write inside of a page
        if call.offset // PAGE != (call.offset + call.size - 1) // PAGE:
            yield Fault(call.number, "torn", signal.SIGKILL)
    if call.kind == TAKES_ROOM:
        yield Fault(call.number, "full", errno.ENOSPC)


def exit_problems(outcome: Outcome, fault: Fault, hit: Call, folder: Path) -> list[str]:
    """Check the exit code and the messages of a command that met a fault."""
    code = outcome.code
    if fault.is_kill:
        return [] if code == -signal.SIGKILL else [f"exit code {code} after SIGKILL"]
    if fault.is_signal:
        # a shell reports both as 128 plus the number of the signal
        problems = [] if code in (-fault.value, 128 + fault.value) else [f"exit code {code}"]
        # before blobpack's own code runs, Python prints what it likes
        if not fault.at_import and (
            "Traceback" in outcome.stderr or "Exception ignored" in outcome.stderr
        ):
            problems.append(f"stderr has a traceback: {last_line(outcome.stderr)}")
        return problems
    if fault.kind == "short" or fault.value == errno.EINTR:
        return [] if code == 0 else [f"exit code {code}: {last_line(outcome.stderr)}"]
    if code == 0:
        is_of_folder = hit.name in ("fsync", "fdatasync") and (folder / hit.path).is_dir()
        must = hit.kind != READS and hit.name in MUST_BE_REPORTED and not is_of_folder
        return ["exit code 0, though data may be missing"] if must else []
    return (
        message_problems(outcome)
        if code == 1
        else [f"exit code {code}: {last_line(outcome.stderr)}"]
    )
