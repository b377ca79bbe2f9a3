"""Counters of a server's requests, in the text format that Prometheus reads.

Source: Prometheus, "Exposition formats", text-based format 0.0.4.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.gateway.payloads import Payloads
    from blobpack.gateway.served.blobs import ServedBlobs

# upper bounds in seconds: a read from a disk takes 0.1 to 10 ms, one from S3 10 to 50 ms
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts answers. The event loop's thread alone calls it, so it needs no lock.

    Only answers that wait for a disk or a server are timed. The others take 0.1 ms, and reading the clock would add a
    noticeable part to that.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[str, int], int] = defaultdict(int)
        self._bytes: dict[str, int] = defaultdict(int)
        self._waited = [0] * (len(BOUNDS_S) + 1)
        self._waited_s = 0.0

    def count(self, route: str, status: int, sent: int) -> None:
        """Count an answer.

        Args:
            route: Name of the route.
            status: Its status.
            sent: Bytes of its body.
        """
        self._answers[route, status] += 1
        self._bytes[route] += sent

    def count_wait(self, waited_s: float) -> None:
        """Count a read that an answer waited for, in seconds."""
        self._waited[bisect_left(BOUNDS_S, waited_s)] += 1
        self._waited_s += waited_s

    def text(self, blobs: ServedBlobs, payloads: Payloads) -> str:
        """Return all figures in Prometheus's text format."""
        return "".join(f"{line}\n" for line in self._lines(blobs, payloads))

    def _lines(self, blobs: ServedBlobs, payloads: Payloads) -> Iterator[str]:
        yield from _head("blobpack_answers_total", "counter", "Answers by route and status.")
        for (route, status), count in sorted(self._answers.items()):
            yield f'blobpack_answers_total{{route="{route}",status="{status}"}} {count}'
        yield from _head("blobpack_sent_bytes_total", "counter", "Bytes of bodies by route.")
        for route, sent in sorted(self._bytes.items()):
            yield f'blobpack_sent_bytes_total{{route="{route}"}} {sent}'
        yield from _head(
            "blobpack_read_seconds",
            "histogram",
            "Time that an answer waited for a disk or a server.",
        )
        below = 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self._waited, strict=True):
            below += count
            yield f'blobpack_read_seconds_bucket{{le="{bound}"}} {below}'
        yield f"blobpack_read_seconds_sum {self._waited_s:.6f}"
        yield f"blobpack_read_seconds_count {below}"
        yield from _head("blobpack_thread_reads_total", "counter", "Reads that threads have begun.")
        yield f"blobpack_thread_reads_total {payloads.upstream_reads}"
        yield from _head("blobpack_held_bytes", "gauge", "Bytes of large payloads in memory.")
        yield f"blobpack_held_bytes {payloads.held_bytes}"
        yield from _head("blobpack_store_requests_total", "counter", "Requests to stores by blob.")
        for blob in blobs:
            yield f'blobpack_store_requests_total{{blob="{_label(blob.name)}"}} {blob.reader.stats.requests}'
        yield from _head("blobpack_members", "gauge", "Members by blob.")
        for blob in blobs:
            yield f'blobpack_members{{blob="{_label(blob.name)}"}} {len(blob.index)}'


def _head(name: str, kind: str, help_text: str) -> tuple[str, str]:
    return f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"


def _label(text: str) -> str:
    """Return a value of a label: backslash, quote and newline are escaped, and what is not UTF-8 is replaced."""
    shown = text.encode("utf-8", "replace").decode()
    return shown.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
