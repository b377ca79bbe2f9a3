"""Clients in processes of their own, each in the Python that has it, and the list of those that are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from s3_servers import BUCKET, KEY, ROOT, Counts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

    from s3_servers import Place

OURS = "blobpack"
# boto3 is not among them, because blobpack needs it anyway
PEERS = ("obstore", "s3fs")
BATCH = 64


class Times(NamedTuple):
    """The result of one measurement.

    Attributes:
        wall_s: Time by the clock.
        cpu_s: Processor time of the client's process.
        crc: CRC-32 of all bytes that were read, in order.
        counted: Requests and bytes; None if the client does not count them.
    """

    wall_s: float
    cpu_s: float
    crc: int
    counted: Counts | None


class Worker:
    """A client in its process.

    Attributes:
        name: Name of the client.
        version: Name and version of the client.
    """

    def __init__(
        self, name: str, place: Place, stack: ExitStack, processor: int | None = None
    ) -> None:
        """Start the process, which opens the blob at a server.

        Args:
            name: Name of the client.
            place: The server.
            stack: Ends the process.
            processor: The only processor that it may use; None: any.
        """
        self.name = name
        script = Path(__file__).with_name("s3_clients.py")
        self._process = subprocess.Popen(
            [python_of(name), script, name, BUCKET, KEY],
            env=place.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # threads that it starts later inherit this
        if processor is not None:
            os.sched_setaffinity(self._process.pid, {processor})
        stack.callback(self._process.wait)
        stack.callback(self._process.stdin.close)
        self.version = self._answer()["version"]

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended; its messages are above")
        return json.loads(line)

    def measure(
        self, how: str, members: Iterable[tuple[str, tuple[int, int]]], *, in_flight: int = BATCH
    ) -> Times:
        """Send a batch to the process, and return its times."""
        names, ranges = zip(*members, strict=True)
        request = {"how": how, "names": names, "ranges": ranges, "in_flight": in_flight}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        return Times(
            answer["wall_s"],
            answer["cpu_s"],
            answer["crc"],
            Counts(*answer["counted"]) if answer["counted"] else None,
        )


def python_of(client: str) -> Path:
    """Return the Python in which a client is installed."""
    return ROOT / f".venv-{client}" / "bin" / "python" if client in PEERS else Path(sys.executable)


def clients() -> list[str]:
    """Return the clients to measure: blobpack, boto3, and the peers that are installed."""
    return [OURS, "boto3", *(peer for peer in PEERS if has(peer))]


def has(peer: str) -> bool:
    """Return whether a peer is installed."""
    command = [python_of(peer), "-c", f"import {peer}"]
    return python_of(peer).exists() and not subprocess.run(command, capture_output=True).returncode
