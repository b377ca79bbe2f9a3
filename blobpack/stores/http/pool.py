"""Idle connections to servers, shared by all stores of a process.

Strategy: the stack of idle connections is a list, whose pop and append are atomic, so no lock is needed. The connection
used last is taken first: the server is least likely to have closed it. There is no limit on connections in use, because
each thread uses one at a time.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from blobpack.errors import StorageError
from blobpack.stores.http.connect import CONNECT_TIMEOUT_S
from blobpack.stores.http.connection import Connection
from blobpack.stores.http.hedging import HedgedReceiver, HedgeTiming, OvertakenError
from blobpack.stores.http.retry import Fault, RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stores.http.connect import Origin
    from blobpack.stores.http.response import Response

# Batches have 128 requests in flight at most (opening/batch.py), so this is enough even if each of them is hedged.
IDLE_MAX = 256
# The server may have closed a connection that was idle for longer: it is checked before its next request.
IDLE_TRUSTED_S = 0.5


def with_connect_s(response: Response, connection: Connection) -> Response:
    """Note the time that connecting took in the first response on a connection."""
    connect_s, connection.connect_s = connection.connect_s, 0.0
    return response._replace(connect_s=connect_s)


class Pool:
    """Idle connections to one server, and what is known about the server.

    Attributes:
        origin: The server.
        budget: Budget of retries, shared by all threads.
        hedging: Delay and budget of hedged requests.
    """

    __slots__ = ("_idle", "budget", "hedging", "origin")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.budget = RetryBudget()
        self.hedging = HedgeTiming()
        self._idle: list[Connection] = []

    def take(self, timeout_s: float = CONNECT_TIMEOUT_S, series: bytes | None = None) -> Connection:
        """Remove an idle connection from the pool, or else connect.

        Args:
            timeout_s: Limit for connecting.
            series: Name of a series of requests whose responses show by ETag and Content-Range which request they
                answer. Between two requests of one series a connection is not checked for unrequested bytes, because a
                wrong response would be noticed. None: the request belongs to no series.

        Raises:
            UnreachableFault: the server can't be reached.
        """
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = Connection(self.origin, timeout_s)
                connection.series = series
                return connection
            # By identity: each signed request is a series of its own.
            if (
                series is not None
                and connection.series is series
                and time.monotonic() - connection.idle_since < IDLE_TRUSTED_S
            ) or connection.is_open():
                connection.series = series
                return connection
            connection.close()

    def put_back(self, connection: Connection) -> None:
        """Return a connection after a response; it is closed if no other request can follow on it."""
        if connection.reusable and len(self._idle) < IDLE_MAX:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def get(
        self,
        request: bytes,
        body_bytes: int | None,
        timeout_s: float,
        expected_lines: tuple[bytes, ...] = (),
        series: bytes | None = None,
    ) -> Response:
        """Send a request on one of the connections; see Connection.get, and take for series."""
        connection = self.take(CONNECT_TIMEOUT_S, series)
        try:
            response = connection.get(request, body_bytes, timeout_s, expected_lines)
            return with_connect_s(response, connection) if connection.connect_s else response
        finally:
            self.put_back(connection)

    def get_hedged(
        self,
        request: bytes,
        body_bytes: int | None,
        timeout_s: float,
        expected_lines: tuple[bytes, ...],
        series: bytes | None,
        count_hedged: Callable[[], object],
    ) -> Response:
        """Send a request, and if its response is late, send it again on a second connection.

        Args:
            request: The bytes of the request.
            body_bytes: Expected length of the body; see Connection.get.
            timeout_s: Limit for the first byte, and between bytes.
            expected_lines: Header lines of the right response; see Connection.get.
            series: See take.
            count_hedged: Called when the request is sent a second time.

        Raises:
            Fault: no response came, or its body was cut or stalled.
        """

        def send_again() -> Connection | None:
            second = self._send_second(request, hedge_after_s, series)
            if second:
                count_hedged()
            return second

        hedge_after_s = self.hedging.hedge_after_s
        connection = self.take(CONNECT_TIMEOUT_S, series)
        began = time.perf_counter()
        connection.first_byte_at = 0.0
        try:
            receiver = HedgedReceiver(send_again, hedge_after_s, timeout_s)
            response = connection.get(request, body_bytes, timeout_s, expected_lines, receiver)
            return with_connect_s(response, connection) if connection.connect_s else response
        except OvertakenError as overtaken:
            # Its response may still come: the connection can't serve another request.
            connection.close()
            connection = overtaken.second
            # Else the next response on this connection would carry the time that connecting took now.
            connection.connect_s = 0.0
            connection.set_timeout(timeout_s)
            return connection.read_response(body_bytes, timeout_s, expected_lines)
        finally:
            # Also after a fault: a request that timed out counts as a late response.
            self.hedging.note((connection.first_byte_at or time.perf_counter()) - began)
            self.put_back(connection)

    def _send_second(
        self, request: bytes, timeout_s: float, series: bytes | None
    ) -> Connection | None:
        """Send a request again on a second connection; return None if budget or server do not allow it."""
        if not self.hedging.take_from_budget():
            return None
        # The first request is still under way, and may succeed.
        try:
            second = self.take(timeout_s, series)
        except (Fault, StorageError):
            return None
        try:
            second.send(request, timeout_s)
        except BaseException as exc:
            # A part of the request may have been sent: nobody else can use this connection.
            second.close()
            if isinstance(exc, Fault):
                return None
            raise
        return second

    def close_idle(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def renew_after_fork(self) -> None:
        """Close the connections that a forked child has inherited."""
        self.budget.renew_lock()
        # Closing our copies of the sockets leaves the parent's open. If parent and child shared one connection, each
        # could read the other's response.
        self.close_idle()


_pools: dict[Origin, Pool] = {}


def pool_of(origin: Origin) -> Pool:
    """Return the pool that all stores of this process share for a server."""
    # setdefault is atomic: two threads that meet a new server get one pool
    return _pools.setdefault(origin, Pool(origin))


def _renew_pools() -> None:
    for pool in list(_pools.values()):
        pool.renew_after_fork()


os.register_at_fork(after_in_child=_renew_pools)
