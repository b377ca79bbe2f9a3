"""Cut the power while a command runs, and check what the disk may hold then.

Strategy: the log of a command without a fault is replayed on a model of a disk. Each fsync ends an epoch. The power may
fail at any moment of an epoch; just before the fsync, the disk may hold every state that it may hold earlier in the
epoch, so the states at that moment suffice. The model:

- A write is cut into pages of 4 KiB. Of each page that was written since the last fsync of its file, the disk holds the
  page as it was then, or any version of it since. Pages are independent of each other. A page is written whole.
- The size of a file is independent of its pages. A page that the disk lacks below that size holds zeros.
- Names are made, replaced and removed in order, as in the journals of ext4, XFS and btrfs: the disk holds a beginning of
  the list of these changes. An fsync of any file or folder makes all earlier ones durable.

This is harsher than ext4 with data=ordered in the first two points. With `any_names`, it is harsher than any journal in
the third one, too: only an fsync of a folder makes the changes of its names durable, and the disk holds any of the
others.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sweep import PAGE, Problem, Trial, digest
from verdict import Tree, state_problems

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from commands import Call

# Calls that change nothing on the disk in this model.
HARMLESS = ("close", "flock", "fchmod", "fchmodat", "futimens", "utimensat")


@dataclass
class File:
    """A file of the model.

    Attributes:
        pages: Number of a page → its versions since the last fsync, the one at that moment first.
        sizes: Sizes since the last fsync, likewise.
    """

    pages: dict[int, list[bytes]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=lambda: [0])

    @classmethod
    def of(cls, content: bytes) -> File:
        file = cls()
        file.write(0, content)
        file.sync()
        return file

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        for number in range(offset // PAGE, -(-end // PAGE)):
            start = number * PAGE
            versions = self.pages.setdefault(number, [bytes(PAGE)])
            page = bytearray(versions[-1])
            first, last = max(offset, start), min(end, start + PAGE)
            page[first - start : last - start] = data[first - offset : last - offset]
            versions.append(bytes(page))
        if end > self.sizes[-1]:
            self.sizes.append(end)

    def cut(self, size: int) -> None:
        # what lies behind the new size is zero, should the file grow again
        for number, versions in self.pages.items():
            kept = max(0, min(size - number * PAGE, PAGE))
            if versions[-1][kept:].strip(b"\0"):
                versions.append(versions[-1][:kept].ljust(PAGE, b"\0"))
        self.sizes.append(size)

    def allocate(self, size: int) -> None:
        if size > self.sizes[-1]:
            self.sizes.append(size)

    def sync(self) -> None:
        self.sizes = self.sizes[-1:]
        self.pages = {number: versions[-1:] for number, versions in self.pages.items()}

    def choices(self) -> list[tuple[object, int]]:
        """Return what is undecided: a page, or "size", and the number of its versions."""
        pages = [(number, len(versions)) for number, versions in self.pages.items()]
        return [(key, count) for key, count in [*pages, ("size", len(self.sizes))] if count > 1]

    def content(self, chosen: dict[object, int]) -> bytes:
        """Return what the disk holds, by the number of the version of each page and of the size."""
        size = self.sizes[chosen.get("size", 0)]
        pages = (
            self.pages.get(number, [bytes(PAGE)])[chosen.get(number, 0)]
            for number in range(-(-size // PAGE))
        )
        return b"".join(pages)[:size]


class Disk:
    """A model of a disk, on which a log of calls is replayed."""

    def __init__(self, tree: Tree, *, any_names: bool) -> None:
        self._any_names = any_names
        # None stands for a folder
        self._now: dict[str, File | None] = {
            path: None if content is None else File.of(content) for path, content in tree.items()
        }
        self._durable = dict(self._now)
        # changes of names since they were durable last: path → new file; two of them are one change in a rename
        self._changes: list[dict[str, File | str | None]] = []

    def replay(self, call: Call) -> None:
        """Do what a call did."""
        if call.result < 0 or call.path.endswith("(deleted)"):
            return
        if call.name == "open":
            if call.offset == 1:
                self._name({call.path: File()})
            elif call.size & os.O_TRUNC:
                self._now[call.path].cut(0)
        elif call.is_write:
            self._now[call.path].write(call.offset, call.data)
        elif call.name in ("ftruncate", "truncate"):
            self._now[call.path].cut(call.offset)
        elif call.name == "posix_fallocate":
            self._now[call.path].allocate(call.offset + call.size)
        elif call.name in ("fsync", "fdatasync"):
            self._sync(call.path)
        elif call.name == "rename":
            self._name({call.other: self._now[call.path], call.path: "gone"})
        elif call.name == "link":
            self._name({call.other: self._now[call.path]})
        elif call.name == "mkdir":
            self._name({call.path: None})
        elif call.name in ("unlink", "rmdir"):
            self._name({call.path: "gone"})
        elif call.name not in HARMLESS:
            raise NotImplementedError(f"the model has no {call.name}")

    def _name(self, change: dict[str, File | str | None]) -> None:
        self._changes.append(change)
        apply(change, self._now)

    def _sync(self, path: str) -> None:
        file = None if path == "." else self._now[path]
        if file:
            file.sync()
        kept = []
        for change in self._changes:
            is_in_folder = any(os.path.dirname(name) == path.removeprefix(".") for name in change)
            if not self._any_names or (file is None and is_in_folder):
                apply(change, self._durable)
            else:
                kept.append(change)
        self._changes = kept

    def states(self, limit: int, rng: random.Random) -> Iterator[Tree]:
        """Return the trees that the disk may hold now: all of them, or at most about `limit`, chosen at random."""
        for names in self._namings(rng):
            files = {id(file): file for file in names.values() if file is not None}
            choices = [
                (key, what, count) for key, file in files.items() for what, count in file.choices()
            ]
            for picked in picks([count for _, _, count in choices], limit, rng):
                chosen: dict[int, dict[object, int]] = {key: {} for key in files}
                for (key, what, _), version in zip(choices, picked, strict=True):
                    chosen[key][what] = version
                yield {
                    path: None if file is None else file.content(chosen[id(file)])
                    for path, file in names.items()
                }

    def _namings(self, rng: random.Random) -> Iterator[dict[str, File | None]]:
        """Return the names that the disk may hold now."""
        count = len(self._changes)
        kept = (
            picks([2] * count, 8, rng)
            if self._any_names
            else ([1] * length + [0] * (count - length) for length in range(count + 1))
        )
        for flags in kept:
            names = dict(self._durable)
            for change, flag in zip(self._changes, flags, strict=True):
                if flag:
                    apply(change, names)
            yield names


def apply(change: dict[str, File | str | None], names: dict[str, File | None]) -> None:
    """Apply one change of names."""
    for path, file in change.items():
        if file == "gone":
            names.pop(path, None)
        else:
            names[path] = file


def picks(counts: list[int], limit: int, rng: random.Random) -> Iterator[tuple[int, ...]]:
    """Return all ways to pick a version of each thing, or nothing, everything and random ones if there are too many."""
    ways = 1
    for count in counts:
        ways *= count
    if ways <= limit:
        yield from itertools.product(*map(range, counts))
        return
    yield tuple(0 for _ in counts)
    yield tuple(count - 1 for count in counts)
    for _ in range(limit - 2):
        yield tuple(rng.randrange(count) for count in counts)


@dataclass(frozen=True)
class PowerLoss:
    """A state of the disk after a power failure.

    Attributes:
        where: The call before which the power failed.
        tree: What the disk holds.
    """

    where: str
    tree: Tree

    def __str__(self) -> str:
        return "power"


def power_losses(trial: Trial, *, limit: int, any_names: bool = False) -> list[PowerLoss]:
    """Return what the disk may hold after a power failure at each moment of a command, each state once.

    Args:
        trial: The command.
        limit: About the most states for each naming in each epoch.
        any_names: The harsher model.
    """
    rng = random.Random(trial.scenario.name)
    disk = Disk(trial.before, any_names=any_names)
    found: dict[bytes, PowerLoss] = {}
    for call in trial.calls:
        if call.name in ("fsync", "fdatasync"):
            for tree in disk.states(limit, rng):
                found.setdefault(digest(tree), PowerLoss(str(call), tree))
        if call.kind or call.name == "open":
            disk.replay(call)
    for tree in disk.states(limit, rng):
        found.setdefault(digest(tree), PowerLoss("the end", tree))
    return list(found.values())


def cut_power(trial: Trial, loss: PowerLoss) -> list[Problem]:
    """Check a state of the disk; then run the command again, and check the folder."""
    write_tree(loss.tree, trial.work, trial.inodes)
    texts = state_problems(
        loss.tree, trial.before, trial.after, in_place=trial.scenario.in_place, leftovers=True
    )
    texts += trial.problems_later(loss.tree, killed=True)
    return [Problem(trial.scenario.name, str(loss), loss.where, text) for text in texts]


def write_tree(tree: Tree, folder: Path, inodes: dict[str, int]) -> None:
    """Make a folder hold a tree and nothing else.

    Args:
        tree: The files.
        folder: The folder.
        inodes: Numbers of the inodes of files, before they were written here.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path, content in tree.items():
        if content is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    # the copy of an index, which an append keeps for its readers, has the inode of the blob in its name
    for path, inode in inodes.items():
        old = folder / path
        old = old.with_name(f".{old.name}.{inode:012x}.tmp")
        if old.exists():
            now = (folder / path).stat().st_ino
            old.rename(old.with_name(old.name.replace(f"{inode:012x}", f"{now:012x}")))
