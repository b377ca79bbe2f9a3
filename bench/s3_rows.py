"""The rows that bench_s3.py makes if every server and every client is installed.

A row whose server or client is missing is reported as not measured, with the reason. Every other row must have a
figure: else a measurement could drop out without anybody noticing.
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
# obstore accepts no certificate that a user has made
NOT_BY_TLS = ("obstore",)
# server → the programs that it needs; in FAR, nginx stands before the real S3 and delays it
PLAIN = {NGINX: {NGINX}, NGINX_TLS: {NGINX}, RGW: {RGW}}
FAR = {NGINX: {NGINX}, RGW: {NGINX, RGW}}


class Planned(NamedTuple):
    """A row to be measured.

    Attributes:
        measurement: Name of the measurement.
        server: Name of the server.
        needs: Servers and clients without which the row can't be measured.
    """

    measurement: str
    server: str
    needs: frozenset[str]


def planned(
    measurement: str, *, ways: dict[str, tuple[str, ...]], jitters: int, tails: int
) -> Iterator[Planned]:
    """Plan the rows of a measurement.

    Args:
        measurement: Name of the measurement.
        ways: Client → the ways in which it reads a batch.
        jitters: Number of latencies at which batches and reads in flight are measured.
        tails: Number of latencies at which second requests are measured.
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
    """Make a row. boto3 and the socket need nothing that blobpack does not need, so they are never missing."""
    return Planned(measurement, server, frozenset(needs | ({client} & set(PEERS))))


def not_measured(rows: Iterable[Planned], missing: dict[str, str]) -> list[dict[str, Any]]:
    """Return the rows whose server or client is missing, with the reason."""
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
    """Return a text for each measurement that made fewer or more rows than planned.

    Rows that are not measured, with a reason, count as made.
    """
    wanted = Counter((row.measurement, row.server) for row in rows)
    found = Counter((row["measurement"], row["server"]) for row in made)
    return [
        f"{', '.join(key)}: {found[key]} rows, not {wanted[key]}"
        for key in dict.fromkeys([*wanted, *found])
        if wanted[key] != found[key]
    ]
