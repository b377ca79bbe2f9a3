"""Proxies for http(s):// URLs, as the environment names them.

Strategy: http_proxy, https_proxy, all_proxy and no_proxy, read as Python's urllib does. A request for an http:// URL names
its server in its first line. For an https:// URL the proxy opens a tunnel (CONNECT), so it sees neither request nor answer.
Source: RFC 9110, 9.3.6; RFC 9112, 3.2.2.
"""

from __future__ import annotations

import os
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from blobpack.errors import StorageError
from blobpack.stores.http.retry import UnreachableFault

if TYPE_CHECKING:
    import socket

HEAD_BYTES_MAX = 32 << 10
DEFAULT_PORT = 8080


class Proxy(NamedTuple):
    """A proxy to send requests through.

    Attributes:
        host: Host name or IP address.
        port: TCP port.
        authorization: Header line with the user and the password, with its line end; "" without a user.
    """

    host: str
    port: int
    authorization: str


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """Return the proxy for a server, from the environment; None if there is none.

    Raises:
        StorageError: the proxy is of a kind that is not supported, or not a URL.
    """
    # urllib.request takes 15 ms to import, and most processes have no proxy
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or proxy_bypass_environment(f"{host}:{port}", proxies):
        return None
    proxy = parse_proxy(url)
    if proxy is None:
        kind = url.partition("://")[0]
        raise StorageError(
            f"the proxy for {scheme}:// of the environment is {kind}://: only http:// proxies are supported"
        )
    return proxy


def parse_proxy(url: str) -> Proxy | None:
    """Parse the URL of a proxy, which may lack its http://; return None if the proxy is of another kind.

    Raises:
        StorageError: this is not a URL.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    # without the text of the error, which may repeat a password
    except ValueError:
        host = None
    if not host:
        raise StorageError(
            "the proxy of the environment is not a URL like http://host:3128"
        ) from None
    if parts.scheme != "http":
        return None
    authorization = ""
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Proxy-Authorization: Basic {b64encode(user.encode()).decode()}\r\n"
    return Proxy(host, port, authorization)


def open_tunnel(connected: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Have a proxy connect to a server; after that, the socket leads to the server.

    Raises:
        StorageError: the proxy wants another user or password.
        UnreachableFault: the proxy could not connect.
        OSError: the connection to the proxy failed.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{proxy.authorization}\r\n"
    connected.sendall(request.encode("latin-1"))
    head = b""
    # byte by byte, because the first bytes behind the head may be the server's
    while not head.endswith(b"\r\n\r\n"):
        came = connected.recv(1)
        if not came or len(head) > HEAD_BYTES_MAX:
            raise UnreachableFault(f"the proxy {proxy.host}:{proxy.port} closed the connection")
        head += came
    status = head[9:12]
    if status[:1] == b"2":
        return
    said = head.partition(b"\r\n")[0].decode("latin-1")
    if status == b"407":
        raise StorageError(f"the proxy {proxy.host}:{proxy.port} refused: {said}")
    raise UnreachableFault(f"the proxy {proxy.host}:{proxy.port} can't connect to {where}: {said}")
