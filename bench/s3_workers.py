"""Clients in processes of their own, each in the Python that has it, and who of them is there."""

from __future__ import annotations

import json
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
PEERS = ("obstore", "s3fs")  # beside boto3, which ours needs anyway
BATCH = 64


class Times(NamedTuple):
    """The result of one measurement.

    Attributes:
        wall_s: By the clock.
        cpu_s: Of the client's process.
        crc: Of all that was read, in order.
        counted: Requests and bytes, if the client counts them.
    """

    wall_s: float
    cpu_s: float
    crc: int
    counted: Counts | None


class Worker:
    """A client in its process.

    Attributes:
        name: The client's.
        version: Its name and version.
    """

    def __init__(self, name: str, place: Place, stack: ExitStack) -> None:
        """Start it, and have it open the blob at a place."""
        self.name = name
        script = Path(__file__).with_name("s3_clients.py")
        self._process = subprocess.Popen(
            [python_of(name), script, name, BUCKET, KEY],
            env=place.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(self._process.wait)
        stack.callback(self._process.stdin.close)
        self.version = self._answer()["version"]

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended; what it said stands above")
        return json.loads(line)

    def measure(
        self, how: str, members: Iterable[tuple[str, tuple[int, int]]], *, in_flight: int = BATCH
    ) -> Times:
        """Send the process a batch to read, and return what it took."""
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
    """Find the Python that has a client."""
    return ROOT / f".venv-{client}" / "bin" / "python" if client in PEERS else Path(sys.executable)


def clients() -> list[str]:
    """Return the clients to measure: ours, boto3, and the peers that are installed."""
    return [OURS, "boto3", *(peer for peer in PEERS if has(peer))]


def has(peer: str) -> bool:
    """Return whether a peer is installed."""
    command = [python_of(peer), "-c", f"import {peer}"]
    return python_of(peer).exists() and not subprocess.run(command, capture_output=True).returncode
