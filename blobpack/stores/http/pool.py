"""Connections to servers that wait for their next request, shared by all stores of a process."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from blobpack.errors import StorageError
from blobpack.stores.http.connection import CONNECT_TIMEOUT_S, Connection
from blobpack.stores.http.hedging import OvertakenError, Pace, Race
from blobpack.stores.http.retry import Budget, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stores.http.connection import Origin
    from blobpack.stores.http.response import Answer

IDLE_MAX = 256  # connections kept
IDLE_TRUSTED_S = 0.5  # one idle for longer may have been closed by the server: look first


def with_connect_s(answer: Answer, connection: Connection) -> Answer:
    """Note with a connection's first answer how long connecting took."""
    connect_s, connection.connect_s = connection.connect_s, 0.0
    return answer._replace(connect_s=connect_s)


class Pool:
    """Connections to one server that wait for their next request; as many as there are threads that ask."""

    __slots__ = ("_idle", "budget", "origin", "pace")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.budget = Budget()
        self.pace = Pace()
        self._idle: list[Connection] = []

    def take(self, timeout_s: float = CONNECT_TIMEOUT_S, series: bytes | None = None) -> Connection:
        """Take one that waits, else connect within so long.

        Args:
            timeout_s: To connect.
            series: Names requests whose answers tell which of them they answer: a connection that was just used
                for another of them need not be looked at. None for a request that is no such.

        Raises:
            UnreachableFault: the server can't be reached.
        """
        while True:
            try:
                connection = self._idle.pop()  # the one used last; atomic
            except IndexError:
                connection = Connection(self.origin, timeout_s)
                connection.series = series
                return connection
            if (
                series is not None
                and connection.series is series
                and time.monotonic() - connection.idle_since < IDLE_TRUSTED_S
            ) or connection.is_open():
                connection.series = series
                return connection
            connection.close()

    def give(self, connection: Connection) -> None:
        """Give one back, after an answer; it is closed if no other can follow."""
        if connection.reusable and len(self._idle) < IDLE_MAX:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def get(
        self,
        request: bytes,
        wanted: int | None,
        timeout_s: float,
        expected: tuple[bytes, ...] = (),
        series: bytes | None = None,
    ) -> Answer:
        """Send a request by one of the connections; see Connection.get, and take for its series."""
        connection = self.take(CONNECT_TIMEOUT_S, series)
        try:
            answer = connection.get(request, wanted, timeout_s, expected)
            return with_connect_s(answer, connection) if connection.connect_s else answer
        finally:
            self.give(connection)

    def get_hedged(
        self,
        request: bytes,
        wanted: int | None,
        timeout_s: float,
        expected: tuple[bytes, ...],
        series: bytes | None,
        count_hedged: Callable[[], object],
    ) -> Answer:
        """Do the same, and send the request by a second connection if the answer is late.

        Args:
            request: As of Connection.get, like the next three.
            wanted: How long the body must be.
            timeout_s: For the first byte, and between bytes.
            expected: Lines of a right answer's head.
            series: As of take.
            count_hedged: Called when it is sent a second time.

        Raises:
            Fault: no answer came from the one that was heard, or it was cut, or stalled.
        """

        def begin_rival() -> Connection | None:
            rival = self._second(request, patience_s, series)
            if rival:
                count_hedged()
            return rival

        patience_s = self.pace.patience_s
        connection = self.take(CONNECT_TIMEOUT_S, series)
        began = time.perf_counter()
        connection.answered_at = 0.0
        try:
            race = Race(begin_rival, patience_s, timeout_s)
            answer = connection.get(request, wanted, timeout_s, expected, race)
            return with_connect_s(answer, connection) if connection.connect_s else answer
        except OvertakenError as overtaken:
            connection.close()
            connection = overtaken.rival
            connection.connect_s = 0.0
            connection.be_patient(timeout_s)
            return connection.answer(wanted, timeout_s, expected)
        finally:
            self.pace.note((connection.answered_at or time.perf_counter()) - began)
            self.give(connection)

    def _second(self, request: bytes, timeout_s: float, series: bytes | None) -> Connection | None:
        """Send a request that was sent before by another connection; None if there is none to be had."""
        if not self.pace.take():
            return None
        try:
            rival = self.take(timeout_s, series)
            rival.send(request, timeout_s)
        except (Fault, StorageError):
            return None
        return rival

    def forget(self) -> None:
        """Close those that wait."""
        while self._idle:
            self._idle.pop().close()

    def renew(self) -> None:
        """Leave the parent's connections to the parent, in a forked child; only our ends are closed."""
        self.budget.renew_lock()
        self.forget()


_pools: dict[Origin, Pool] = {}


def pool_of(origin: Origin) -> Pool:
    """Find the pool that all stores of this process share for a server."""
    return _pools.setdefault(origin, Pool(origin))


def _renew_pools() -> None:
    for pool in list(_pools.values()):
        pool.renew()


os.register_at_fork(after_in_child=_renew_pools)
