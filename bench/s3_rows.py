"""The rows that bench_s3.py makes where every server and every client is there.

A row that lacks one is counted as not measured, with the reason. Any other row must have a figure.
"""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from s3_servers import NGINX, NGINX_TLS, RGW
from s3_workers import OURS, PEERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CLIENTS = (OURS, "boto3", *PEERS)
NOT_BY_TLS = ("obstore",)  # takes no certificates of one's own
PLAIN = {NGINX: {NGINX}, NGINX_TLS: {NGINX}, RGW: {RGW}}  # server: what it is made of
FAR = {NGINX: {NGINX}, RGW: {NGINX, RGW}}


class Planned(NamedTuple):
    """A row to be measured.

    Attributes:
        measurement: Its name.
        server: Where.
        needs: The servers and clients without which it can't be.
    """

    measurement: str
    server: str
    needs: frozenset[str]


def planned(
    measurement: str, *, ways: dict[str, tuple[str, ...]], jitters: int, tails: int
) -> Iterator[Planned]:
    """Plan a measurement.

    Args:
        measurement: Its name.
        ways: How each client reads a batch.
        jitters: How many latencies batches and reads in flight are measured at.
        tails: How many latencies second requests are measured at.
    """
    if measurement == "cpu":
        for server, client in product(PLAIN, (*CLIENTS, "socket")):
            if client == "socket" and server != NGINX:
                continue
            if client in NOT_BY_TLS and server == NGINX_TLS:
                continue
            yield row(measurement, server, PLAIN[server], client)
        return
    if measurement == "objects":
        for needs, client in product((PLAIN[RGW], FAR[RGW]), CLIENTS):
            yield row(measurement, RGW, needs, client)
        return
    for server, needs in FAR.items():
        if measurement == "batches":
            for client in CLIENTS:
                for _ in range(len(ways[client]) * jitters * 2):  # neighbours, and random members
                    yield row(measurement, server, needs, client)
        elif measurement == "flight":
            for client in CLIENTS * jitters:
                yield row(measurement, server, needs, client)
        else:  # ours alone, with second requests and without
            for _ in range(2 * (tails if measurement == "hedging" else 1)):
                yield row(measurement, server, needs, OURS)


def row(measurement: str, server: str, needs: set[str], client: str) -> Planned:
    """Make a row; boto3 and the socket are always there, as ours is."""
    return Planned(measurement, server, frozenset(needs | ({client} & set(PEERS))))


def not_measured(rows: Iterable[Planned], missing: dict[str, str]) -> list[dict[str, Any]]:
    """Return the rows that lack a server or a client, with the reason."""
    return [
        {
            "measurement": row.measurement,
            "server": row.server,
            "not measured": "; ".join(missing[name] for name in sorted(row.needs & missing.keys())),
        }
        for row in rows
        if row.needs & missing.keys()
    ]


def without_figure(rows: Iterable[Planned], made: list[dict[str, Any]]) -> list[str]:
    """Name the measurements that made fewer rows than planned, or more; rows that are not measured count as made."""
    wanted = Counter((row.measurement, row.server) for row in rows)
    found = Counter((row["measurement"], row["server"]) for row in made)
    return [
        f"{', '.join(key)}: {found[key]} rows, not {wanted[key]}"
        for key in dict.fromkeys([*wanted, *found])
        if wanted[key] != found[key]
    ]
