"""Compare blobpack with other systems that keep many small images, on one set of images, in one run.

    scripts/bench compare [--images N] [--rounds N] [--cpu] [--json FILE] [SYSTEM]...

Prints tables in Markdown: the times and sizes of each system on this machine, and the requests and bytes that it needs
from a server to read one image. Each system is a process of its own (compare_systems.py), in the Python that has it.
The systems take turns in each round, so that noise hits all of them alike. What they read is compared with the
images. Times are medians of the rounds; compare their ratios.

With --cpu, times are processor time of the system's process and its children, which says more on a busy machine. Single
reads are still timed by the clock, and the servers of ratarmount and S3 are not included. Archives are kept in memory if
possible, so that no disk is measured.

A server on loopback counts requests and bytes (compare_server.py). Systems in S3 are measured with a real S3 server,
which scripts/s3-server starts, and with fewer images.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from compare_server import CountingServer
from data import JPEG, SEED
from s3_servers import NO_AWS, UNCHECKED

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PEERS_PYTHON = ROOT / ".venv-compare" / "bin" / "python"
# a file system in memory, on Linux
MEMORY = Path("/dev/shm")
LOCAL = (
    "blobpack",
    "wids",
    "webdataset",
    "ratarmountcore",
    "ratarmount",
    "LMDB",
    "MDS",
    "zip",
    "tar",
    "files",
)
IN_S3 = ("blobpack in S3", "S3 objects")
REMOTE = ("blobpack", "zip, remotezip", "ratarmountcore", "ratarmountcore, no index yet", "wids", "MDS", "LMDB", "webdataset", "tar", "S3 objects")  # fmt: skip
# these need no package that blobpack does not need, and run in its own Python
WITHOUT_PACKAGES = (
    "blobpack",
    "blobpack in S3",
    "zip",
    "tar",
    "files",
    "S3 objects",
)
# webdataset reads a shard from its first image on to find one: thousands of reads would take many minutes
SLOW_READS = {"webdataset": 5}
IMAGE_BYTES = (2_000, 6_000)
APPENDED = 1_000
IN_S3_IMAGES = 2_000
READS = 5_000


@dataclass(frozen=True, slots=True)
class Images:
    """Files in folders, made from a seed.

    Attributes:
        folder: The folder that holds them.
        names: Their paths below it, sorted.
        crcs: CRC-32 of each image.
        bytes: Bytes of all images.
    """

    folder: Path
    names: list[str]
    crcs: list[int]
    bytes: int

    def some(self, count: int, chance: random.Random) -> list[tuple[int, str]]:
        """Choose images at random, and return row and name of each."""
        rows = chance.choices(range(len(self.names)), k=count)
        return [(row, self.names[row]) for row in rows]


def make_images(folder: Path, rows: range) -> Images:
    """Write images, a thousand to a folder."""
    chance = random.Random(SEED + rows.start)
    names, crcs, total = [], [], 0
    for row in rows:
        name = f"set/{row // 1000:04d}/image_{row:012d}.jpg"
        payload = JPEG + chance.randbytes(chance.randint(*IMAGE_BYTES) - len(JPEG))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
        names.append(name)
        crcs.append(zlib.crc32(payload))
        total += len(payload)
    return Images(folder, names, crcs, total)


class PeerError(Exception):
    """A system failed; the message is its own."""


class Worker:
    """A system in its process; use it in a with statement.

    Attributes:
        version: Names and versions.
        can: Names of the optional tasks that it can do.
        import_s: Time of its imports; None if it imports nothing of its own.
    """

    def __init__(self, system: str, folder: Path, env: dict[str, str]) -> None:
        python = Path(sys.executable) if system in WITHOUT_PACKAGES else PEERS_PYTHON
        if not python.exists():
            raise PeerError("not installed; scripts/bench compare installs it into .venv-compare")
        script = Path(__file__).with_name("compare_systems.py")
        self._process = subprocess.Popen(
            [python, script, system, folder],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not os.environ.get("BLOBPACK_BENCH_SHOW") else None,
            text=True,
        )
        hello = self._answer()
        self.version: str = hello["version"]
        self.can: list[str] = hello["can"]
        self.import_s: float | None = hello["import_s"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            # the last line of a traceback names the error
            said = self._process.communicate()[1] or "it ended"
            raise PeerError(said.strip().splitlines()[-1])
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request to the process, and return the answer.

        Raises:
            PeerError: the system failed.
        """
        self._process.stdin.write(json.dumps({"do": do} | request) + "\n")
        self._process.stdin.flush()
        return self._answer()


@dataclass(slots=True)
class Taken:
    """The figures of one system; lists have one item for each round.

    Attributes:
        images: Number of images.
        clock: Which time is kept: "seconds" by the clock, or "cpu_s", processor time. Single reads use the clock.
        version: Names and versions of its packages.
        import_ms: Time to import its modules.
        write_us: Time to write the archive, microseconds an image.
        disk_bytes: Bytes of the blocks of all its files.
        first_ms: Time from opening a new archive until its first image was read.
        again_ms: Time from opening the archive in a second process until an image was read.
        read_us: Median time of random reads.
        p99_us: 99th percentile of the time of random reads.
        all_us: Time to read all images, microseconds an image.
        append_ms: Time to append a thousand images.
        is_tar: GNU tar lists all images.
        can_append: The system can add images to an archive.
        errors: Messages of what failed.
    """

    images: int
    clock: str
    version: str = ""
    import_ms: list[float] = field(default_factory=list)
    write_us: list[float] = field(default_factory=list)
    disk_bytes: list[int] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    again_ms: list[float] = field(default_factory=list)
    read_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    all_us: list[float] = field(default_factory=list)
    append_ms: list[float] = field(default_factory=list)
    is_tar: bool = False
    can_append: bool = False
    errors: dict[str, None] = field(default_factory=dict)


class Asked(NamedTuple):
    """The requests that a system sent to the server, and the bytes it got.

    Attributes:
        system: Name of the system.
        first: Requests and bytes until the first image was read.
        next: Requests and bytes for one more image.
    """

    system: str
    first: tuple[int, int]
    next: tuple[int, int]


def measure(system: str, taken: Taken, images: Images, folder: Path, env: dict[str, str]) -> None:
    """Measure one round of a system: write, open in two processes, read by name, read all."""
    some = images.some(SLOW_READS.get(system, min(READS, len(images.names))), random.Random(SEED))
    with Worker(system, folder, env) as worker:
        taken.version = worker.version
        if worker.import_s is not None:
            taken.import_ms.append(1000 * worker.import_s)
        wrote = worker.ask("write", source=str(images.folder), names=images.names)
        taken.write_us.append(1e6 * wrote[taken.clock] / taken.images)
    # A process of its own for each open: some systems keep in memory what they have written, and some make an index when
    # an archive is opened for the first time.
    with Worker(system, folder, env) as worker:
        taken.first_ms.append(1000 * worker.ask("open", images=some[:1])[taken.clock])
    with Worker(system, folder, env) as worker:
        taken.again_ms.append(1000 * worker.ask("open", images=some[:1])[taken.clock])
        read(worker, taken, images, some)
        taken.can_append = "append" in worker.can
    if system not in IN_S3:
        taken.disk_bytes.append(blocks_of(folder))
        taken.is_tar = listed_by_tar(folder) == taken.images


def append(system: str, taken: Taken, more: Images, folder: Path, env: dict[str, str]) -> None:
    """Append images to the archive after its round, if the system can."""
    if taken.can_append:
        with Worker(system, folder, env) as worker:
            took = worker.ask("append", source=str(more.folder), names=more.names)
        taken.append_ms.append(1000 * took[taken.clock])


def read(worker: Worker, taken: Taken, images: Images, some: list[tuple[int, str]]) -> None:
    """Measure reads of some images, then of all, and check the bytes."""
    # not timed: it fills caches
    worker.ask("read", images=some[: len(some) // 10])
    found = worker.ask("read", images=some)
    if found["crcs"] != [images.crcs[row] for row, _ in some]:
        raise PeerError("it read other bytes")
    ordered = sorted(found["took_ns"])
    taken.read_us.append(statistics.median(ordered) / 1000)
    # of fewer reads, the 99th percentile would be the slowest one
    if len(ordered) >= 100:
        taken.p99_us.append(ordered[len(ordered) * 99 // 100] / 1000)
    everything = worker.ask("read all")
    if (everything["images"], everything["bytes"]) != (len(images.names), images.bytes):
        raise PeerError("it read other images")
    taken.all_us.append(1e6 * everything[taken.clock] / len(images.names))


def blocks_of(folder: Path) -> int:
    """Return the bytes of the blocks of all files below a folder: a sparse file takes less disk than its size."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


def listed_by_tar(folder: Path) -> int:
    """Count the images that GNU tar finds in the tars of a folder."""
    lines = 0
    for path in folder.rglob("*.tar"):
        done = subprocess.run(["tar", "-tf", path], capture_output=True, text=True)
        lines += sum(line.endswith(".jpg") for line in done.stdout.splitlines())
    return lines


def measure_all(
    systems: list[str],
    rounds: int,
    clock: str,
    images: Images,
    more: Images,
    root: Path,
    env: dict[str, str],
) -> Iterator[dict[str, Taken]]:
    """Measure all systems in turns, round by round. A system that fails is not measured again.

    Yields:
        The table after each round, while the archives hold the images and nothing that was appended.
    """
    table = {system: Taken(len(images.names), clock) for system in systems}
    for i in range(rounds):
        for system, taken in table.items():
            if taken.errors:
                continue
            folder = root / system.replace(" ", "-")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            say(f"round {i + 1} of {rounds}: {system}")
            with noting(system, taken):
                measure(system, taken, images, folder, env)
        yield table
        for system, taken in table.items():
            if not taken.errors:
                with noting(system, taken):
                    append(system, taken, more, root / system.replace(" ", "-"), env)


@contextmanager
def noting(system: str, taken: Taken) -> Iterator[None]:
    """Keep the failure of a system, for its row of the table."""
    try:
        yield
    except PeerError as exc:
        say(f"{system}: {exc}")
        taken.errors[str(exc)] = None


def ask_remote(
    made: list[str], images: Images, root: Path, env: dict[str, str]
) -> Iterator[Asked | tuple[str, str]]:
    """Count the requests and bytes that each system needs to read two images; a system that fails yields its message."""
    middle = len(images.names) // 2
    # from the middle, where neither the beginning nor the end of an archive helps
    pair = [(row, images.names[row]) for row in (middle, middle + middle // 2)]
    with CountingServer(root) as server:
        for system in REMOTE:
            made_by = {"S3 objects": "files"}.get(system, system.partition(",")[0])
            if made_by not in made:
                continue
            folder = root / made_by
            try:
                with Worker(system, folder, env) as worker:
                    server.take_counted()
                    first = worker.ask(
                        "open remote", url=f"{server.url}/{made_by}", images=pair[:1]
                    )
                    counted = server.take_counted()
                    second = worker.ask("read", images=pair[1:])
                    again = server.take_counted()
                if first["crcs"] + second["crcs"] != [images.crcs[row] for row, _ in pair]:
                    raise PeerError("it read other bytes")
            except PeerError as exc:
                say(f"{system}: {exc}")
                yield system, str(exc)
            else:
                yield Asked(system, counted, again)


def shown(values: list[float]) -> str:
    """Format the median with three significant digits."""
    if not values:
        return "–"
    number = statistics.median(values)
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def local_table(table: dict[str, Taken], images: Images) -> str:
    """Format the table of what was measured on this machine."""
    lines = [
        "| system | import, ms | write, µs an image | size | first open, ms | open again, ms | read by name, µs (p99) "
        "| read all, µs an image | append 1,000, ms | `tar` lists it | versions |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for system, taken in table.items():
        if taken.errors:
            lines.append(f"| {system} | not measured: {', '.join(taken.errors)} |" + " |" * 9)
            continue
        size = (
            f"{statistics.median(taken.disk_bytes) / images.bytes:.2f}" if taken.disk_bytes else "–"
        )
        p99 = f" ({shown(taken.p99_us)})" if taken.p99_us else ""
        lines.append(
            f"| {system} | {shown(taken.import_ms)} | {shown(taken.write_us)} | {size} | {shown(taken.first_ms)} | {shown(taken.again_ms)} "
            f"| {shown(taken.read_us)}{p99} | {shown(taken.all_us)} | {shown(taken.append_ms)} "
            f"| {'yes' if taken.is_tar else 'no'} | {taken.version} |"
        )
    return "\n".join(lines)


def remote_table(rows: list[Asked | tuple[str, str]]) -> str:
    """Format the table of requests and bytes."""
    lines = [
        "| system | first image: requests | bytes | another image: requests | bytes |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        if isinstance(row, Asked):
            cells = [f"{number:,}" for number in (*row.first, *row.next)]
            lines.append(f"| {row.system} | {' | '.join(cells)} |")
        else:
            lines.append(f"| {row[0]} | not measured: {row[1]} | | | |")
    return "\n".join(lines)


def start_s3(folder: Path, stack: ExitStack) -> dict[str, str] | None:
    """Start the real S3 server, and return the environment variables for boto3; None if it can't be started."""
    script = ROOT / "scripts" / "s3-server"
    said = subprocess.run([script, "start", folder], capture_output=True, text=True)
    if said.returncode:
        say(f"S3 is not measured: {said.stderr.strip()}")
        return None
    stack.callback(subprocess.run, [script, "stop", folder], check=True)
    return dict(line.split("=", 1) for line in said.stdout.splitlines())


def say(text: str) -> None:
    """Print a line to standard error, beside the tables."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="scripts/bench compare", description=__doc__)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=", ".join(LOCAL + IN_S3))
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--cpu", action="store_true", help="processor time, for a machine that is busy"
    )
    parser.add_argument("--json", type=Path, help="keep the figures")
    arguments = parser.parse_args()
    if unknown := set(arguments.systems) - {*LOCAL, *IN_S3}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    clock = "cpu_s" if arguments.cpu else "seconds"
    wanted = arguments.systems or [*LOCAL, *IN_S3]
    base = {
        name: value for name, value in os.environ.items() if not name.startswith("AWS_")
    } | NO_AWS
    parent = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=parent) as folder, ExitStack() as stack:
        root = Path(folder)
        images = make_images(root / "images", range(arguments.images))
        more = make_images(root / "more", range(arguments.images, arguments.images + APPENDED))
        archives = root / "archives"
        archives.mkdir()
        env = base | UNCHECKED
        asked: list[Asked | tuple[str, str]] = []
        local = [system for system in LOCAL if system in wanted]
        table: dict[str, Taken] = {}
        taking = measure_all(local, arguments.rounds, clock, images, more, archives, env)
        for left, table in zip(reversed(range(arguments.rounds)), taking, strict=True):  # noqa: B007
            if not left:
                asked = list(ask_remote(local, images, archives, env))
        in_s3 = [system for system in IN_S3 if system in wanted]
        settings = (
            start_s3(Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
            if in_s3
            else None
        )
        few = make_images(root / "few", range(min(IN_S3_IMAGES, arguments.images)))
        s3_table: dict[str, Taken] = {}
        if settings:
            env = base | settings
            *_, s3_table = measure_all(in_s3, arguments.rounds, clock, few, more, archives, env)
    print(
        f"{arguments.images:,} images, {images.bytes / 1e6:.1f} MB, medians of {arguments.rounds} rounds, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors\n"
    )
    print(local_table(table, images))
    if s3_table:
        print(f"\nIn S3, {len(few.names):,} images:\n\n{local_table(s3_table, few)}")
    if asked:
        print(f"\nBehind a server:\n\n{remote_table(asked)}")
    if arguments.json:
        figures = {"here": table, "in S3": s3_table}
        rows = {
            where: {name: asdict(taken) for name, taken in rows.items()}
            for where, rows in figures.items()
        }
        arguments.json.write_text(json.dumps(rows | {"asked": asked}, indent=1) + "\n")


if __name__ == "__main__":
    main()
