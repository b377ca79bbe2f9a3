"""Opens sockets to servers: TCP, the tunnel through a proxy, and TLS."""

from __future__ import annotations

import os
import socket
import ssl
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from blobpack.errors import StorageError
from blobpack.stores.http.proxy import open_tunnel
from blobpack.stores.http.retry import UnreachableFault

if TYPE_CHECKING:
    from blobpack.stores.http.proxy import Proxy

CONNECT_TIMEOUT_S = 5.0


class Origin(NamedTuple):
    """A server to connect to.

    Attributes:
        host: Host name or IP address.
        port: TCP port.
        ca_file: File or folder of the certificates that verify the server; "" for the system's; None for no TLS.
        proxy: The proxy that connects to the server; None for none.
    """

    host: str
    port: int
    ca_file: str | None
    proxy: Proxy | None = None


def connect(origin: Origin, timeout_s: float) -> socket.socket:
    """Connect to a server, through its proxy if it has one, and with TLS if it wants it.

    Raises:
        UnreachableFault: the server can't be reached; another attempt may succeed.
        StorageError: no such server exists, or its certificate is not trusted.
    """
    connected = _connect_tcp(*(origin.proxy or origin)[:2], timeout_s)
    try:
        # Nagle's algorithm (RFC 896) would hold back a small request while earlier bytes are not acknowledged.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected if origin.ca_file is None else _with_tls(connected, origin, origin.ca_file)
    # BaseException: Ctrl-C during the handshake must not leave the socket open either.
    except BaseException as exc:
        connected.close()
        if isinstance(exc, OSError) and not isinstance(exc, StorageError):
            raise _handshake_error(origin, exc) from exc
        raise


def _handshake_error(origin: Origin, exc: OSError) -> StorageError | UnreachableFault:
    where = f"{origin.host}:{origin.port}"
    # The next attempt would meet the same certificate.
    if isinstance(exc, ssl.SSLCertVerificationError):
        return StorageError(f"the certificate of {where} is not trusted: {exc}")
    return UnreachableFault(f"the TLS handshake with {where} failed: {exc}")


def _connect_tcp(host: str, port: int, timeout_s: float) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout_s)
    except OSError as exc:
        # EAI_NONAME is final. Other resolver errors, EAI_AGAIN for one, may pass.
        if isinstance(exc, socket.gaierror) and exc.errno == socket.EAI_NONAME:
            raise StorageError(f"there is no server {host}: {exc}") from exc
        raise UnreachableFault(f"can't connect to {host}:{port}: {exc}") from exc
    # The "idna" codec rejects a host name with an empty label or a label longer than 63 letters.
    except UnicodeError as exc:
        raise StorageError(f"there is no server {host}: {exc}") from exc


def _with_tls(connected: socket.socket, origin: Origin, ca_file: str) -> ssl.SSLSocket:
    context = tls_context(ca_file)
    if origin.proxy is not None:
        open_tunnel(connected, origin.proxy, origin.host, origin.port)
    return context.wrap_socket(connected, server_hostname=origin.host)


# Cached, because loading a file of certificates takes about 20 ms.
@cache
def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return the context that verifies servers by a file or folder of certificates; "" for the system's certificates.

    Raises:
        StorageError: the certificates can't be read.
    """
    is_folder = os.path.isdir(ca_file)  # noqa: PTH112 (a str)
    try:
        if is_folder:
            return ssl.create_default_context(capath=ca_file)
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as exc:
        raise StorageError(f"the certificates of {ca_file} can't be read: {exc}") from exc
