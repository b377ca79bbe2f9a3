"""Running ASGI applications in one process, until a signal ends them.

Strategy: all applications listen before the first one answers. So if a port is taken, that is an error, and no part of the
server runs. A signal closes the listening sockets; the process ends when the requests that have begun are answered.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from blobpack.errors import PackageMissingError, StorageError
from blobpack.gateway.connections import protocol_class

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blobpack.gateway.connections import ReadyAnswer

BACKLOG = 2048
# load balancers keep idle connections for 60 s (AWS, nginx); this is longer, so that they close them before the server
KEEP_ALIVE_S = 75
# answers that take longer than this are cut off
DRAIN_S = 30
# free memory that the process keeps for the next payloads
KEPT_BYTES = 16 << 20
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Listener:
    """An ASGI application, and where it listens.

    Attributes:
        app: The application.
        host: Name or address.
        port: Port; 0 chooses a free port, and is replaced by it.
        ready_answer: Answers plain GETs that wait for nothing, before the application is asked; see connections.py.
        listening: Its socket, once it is open.
    """

    app: Any
    host: str
    port: int
    ready_answer: ReadyAnswer | None = None
    listening: socket.socket | None = field(default=None, repr=False)

    def listen(self) -> socket.socket:
        """Open the socket.

        Raises:
            StorageError: the port is taken, or this machine has no such address.
        """
        is_ipv6 = ":" in self.host
        family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        try:
            self.listening = socket.create_server(
                (self.host, self.port),
                family=family,
                backlog=BACKLOG,
                dualstack_ipv6=self.host == "::" and socket.has_dualstack_ipv6(),
            )
        except (OSError, OverflowError) as exc:
            raise StorageError(f"can't listen on {self.host} port {self.port}: {exc}") from exc
        self.port = self.listening.getsockname()[1]
        return self.listening

    @property
    def url(self) -> str:
        """URL of the application's root."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine can reach an address; False for all names except localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(listeners: Sequence[Listener], ready: Callable[[], object]) -> None:
    """Serve until SIGTERM or SIGINT; then finish the answers that have begun.

    Args:
        listeners: The applications.
        ready: Called when all of them listen.

    Raises:
        PackageMissingError: uvicorn is not installed.
        StorageError: a port is taken.
    """
    servers = Servers(listeners)
    # The index and all modules live as long as the process, so the garbage collector need not check them again.
    gc.collect()
    gc.freeze()
    # glibc gives free memory back to the system above twice the size of the largest block that was freed so far, and takes
    # it again, page by page, for the next payload: a third of the time of a batch. This block's pages are never touched.
    bytes(KEPT_BYTES // 2)
    servers.run(ready)


class Servers:
    """The servers of some applications, in one event loop."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        try:
            import uvicorn
        except ImportError as exc:
            raise PackageMissingError(
                f"serving needs uvicorn, which can't be imported ({exc}): pip install 'blobpack[serve]'"
            ) from exc

        class Server(uvicorn.Server):
            # uvicorn's own handlers know one server only, and send the signal again after it
            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield

        self._listeners = listeners
        self._servers = [
            Server(
                uvicorn.Config(
                    listener.app,
                    http=protocol_class(listener.ready_answer),
                    lifespan="off",
                    ws="none",
                    log_level="warning",
                    # a line for each request would take as long as the answer; /metrics counts them
                    access_log=False,
                    server_header=False,
                    timeout_keep_alive=KEEP_ALIVE_S,
                    timeout_graceful_shutdown=DRAIN_S,
                    backlog=BACKLOG,
                )
            )
            for listener in listeners
        ]

    def run(self, ready: Callable[[], object]) -> None:
        """Serve until a signal arrives or stop is called; see `run`."""
        with ExitStack() as sockets:
            for listener in self._listeners:
                sockets.enter_context(listener.listen())
            raise_file_limit()
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._serve(ready))

    def stop(self) -> None:
        """Stop accepting connections, and end when all answers that have begun are sent. A second call cuts them off."""
        for server in self._servers:
            server.force_exit = server.should_exit
            server.should_exit = True

    async def _serve(self, ready: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                loop.add_signal_handler(number, self.stop)
        ready()
        await asyncio.gather(
            *(
                server.serve(sockets=[listener.listening])
                for server, listener in zip(self._servers, self._listeners, strict=True)
                if listener.listening
            )
        )


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the function that makes the event loop: uvloop's, which answers twice as many requests, or Python's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def raise_file_limit() -> None:
    """Let this process open as many files as the system allows: each connection is one, and the default is 1,024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS refuses its own "unlimited"
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
