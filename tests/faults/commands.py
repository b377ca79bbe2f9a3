"""Commands of blobpack, run under the shim: with a fault at one of their calls, or with none."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
READS, CHANGES, TAKES_ROOM = range(3)
WRITES = ("write", "pwrite")


@dataclass(frozen=True)
class Fault:
    """A fault at one call.

    Attributes:
        at: Number of the call.
        kind: "fail", "full", "short", "torn", "before", "after" or "dropped"; shim.c describes them.
        value: An errno or the number of a signal; 0 for "short".
        at_import: The program is started anew, and the call is one that imports its modules.
    """

    at: int
    kind: str
    value: int = 0
    at_import: bool = False

    @property
    def is_kill(self) -> bool:
        return self.value == signal.SIGKILL and self.kind in ("torn", "before", "after")

    @property
    def is_signal(self) -> bool:
        return self.kind in ("before", "after", "dropped") and not self.is_kill

    def __str__(self) -> str:
        if self.kind == "short":
            return "short"
        if self.kind in ("fail", "full"):
            return f"{self.kind} {errno.errorcode[self.value]}"
        return f"{self.kind} {signal.Signals(self.value).name}"


@dataclass(frozen=True)
class Call:
    """A call that a command made, as the shim logged it.

    Attributes:
        number: Counted from 1.
        name: Name of the system call, without variants: "open", "pwrite", "rename", …
        kind: READS, CHANGES or TAKES_ROOM.
        is_broken: A fault was injected here.
        result: What the call returned; negative if it failed.
        size: Bytes that were asked for; of an open, its flags.
        offset: Position in the file; -1 if there is none. Of an open, 1 if it made the file.
        path: The file, relative to the command's folder.
        other: The second file of a rename or link.
        data: Bytes written.
    """

    number: int
    name: str
    kind: int
    is_broken: bool
    result: int
    size: int
    offset: int
    path: str
    other: str
    data: bytes

    @property
    def is_write(self) -> bool:
        return self.name in WRITES

    def __str__(self) -> str:
        # a temporary name is different in each run
        path = re.sub(r"\.[0-9a-f]{8,}\b", ".HEX", self.path)
        return f"{self.name} {path}" + (f" to {self.other}" if self.other else "")


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: Its exit code; the negative number of the signal that killed it.
        stderr: What it printed there.
        calls: Its calls, up to its end.
        meanwhile: How the other command ended that ran while this one was stopped, if one did.
    """

    code: int
    stderr: str
    calls: list[Call]
    meanwhile: Outcome | None = None


def build_shim(folder: Path) -> Path:
    """Compile the shim."""
    shim = folder / "shim.so"
    compiler = os.environ.get("CC", "gcc")
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run([compiler, *flags, "-o", shim, HERE / "shim.c"], check=True)
    return shim


def fast_folder() -> str | None:
    """Return a folder in memory, where fsync costs nothing; None if the system has none."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Commands:
    """A process that runs commands, one after the other. A context manager."""

    def __init__(self, parent: str | None = None) -> None:
        """Choose where the folder of the commands goes; by default where fsync costs nothing."""
        self._parent = parent or fast_folder()

    def __enter__(self) -> Commands:
        self._folder = tempfile.TemporaryDirectory(prefix="faults-", dir=self._parent)
        self.folder = Path(self._folder.name).resolve()
        (self.folder / "cwd").mkdir()
        settings = {
            **os.environ,
            "LD_PRELOAD": os.fspath(build_shim(self.folder)),
            # threads of a library would be lost in a fork
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, HERE / "launcher.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=settings,
            cwd=self.folder / "cwd",
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()
        self._folder.cleanup()

    def run(
        self,
        command: str,
        folder: Path,
        fault: Fault | None = None,
        *,
        with_data: bool = False,
        is_installed: bool = False,
        watched: Path | None = None,
        meanwhile: str = "",
    ) -> Outcome:
        """Run a command in a folder, and wait until it ends.

        Args:
            command: Arguments, as typed behind `blobpack`.
            folder: Current folder of the command.
            fault: What happens at one call.
            with_data: The calls have the bytes written.
            is_installed: Start the installed program, which takes ten times as long.
            watched: Folder of the files whose calls are counted; by default the current folder.
            meanwhile: Another command, which runs while this one is stopped, where the fault is SIGSTOP.
        """
        log = self.folder / "log"
        log.unlink(missing_ok=True)
        watched = watched or folder
        settings = {"FAULTS_FOLDER": os.fspath(watched), "FAULTS_LOG": os.fspath(log)}
        if fault:
            settings |= {"FAULTS_AT": str(fault.at), "FAULTS_DO": f"{fault.kind} {fault.value}"}
        if with_data:
            settings["FAULTS_DATA"] = "1"
        order = {
            **self._order("command", command, folder),
            "settings": settings,
            "is_installed": is_installed,
            "meanwhile": self._order("meanwhile", meanwhile, folder),
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        codes = json.loads(self._process.stdout.readline())
        calls = list(read_log(log.read_bytes(), watched)) if log.exists() else []
        other = self._outcome("meanwhile", codes[1], []) if len(codes) > 1 else None
        return self._outcome("command", codes[0], calls, other)

    def _order(self, name: str, command: str, folder: Path) -> dict[str, object]:
        return {
            "arguments": shlex.split(command),
            "folder": os.fspath(folder),
            "stdout": os.fspath(self.folder / f"{name}.stdout"),
            "stderr": os.fspath(self.folder / f"{name}.stderr"),
            "settings": {},
            "is_installed": False,
        }

    def _outcome(
        self, name: str, code: int, calls: list[Call], meanwhile: Outcome | None = None
    ) -> Outcome:
        stderr = (self.folder / f"{name}.stderr").read_text(errors="surrogateescape")
        return Outcome(code, stderr, calls, meanwhile)


def read_log(log: bytes, folder: Path) -> Iterator[Call]:
    """Parse the log of the shim."""
    prefix, pos = os.fspath(folder), 0
    while pos < len(log):
        end = log.index(b"\n", pos)
        number, name, kind, action, result, _, size, offset, data_bytes, path, other = (
            log[pos:end].decode("utf-8", "surrogateescape").split("\t")
        )
        data = log[end + 1 : end + 1 + int(data_bytes)]
        pos = end + 1 + len(data) + 1
        path, other = (
            os.path.normpath(text.removeprefix(prefix).lstrip("/")) if text else ""
            for text in (path, other)
        )
        yield Call(
            int(number), name, int(kind), action != "0", int(result), int(size), int(offset), path, other, data
        )  # fmt: skip
