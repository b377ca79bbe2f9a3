"""Follows a redirect, unless it leads to where a server must not send its readers.

A server on the internet may redirect to http://169.254.169.254/, where clouds hand out credentials, or into the network
of the reader. So a redirect may lead to another host only if that host is at least as public as the one before.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urljoin, urlsplit

from blobpack.errors import StorageError
from blobpack.model import redacted

# from the least public addresses to the most public ones
LINK_LOCAL, LOOPBACK, PRIVATE, PUBLIC = range(4)


def redirect_target(url: str, location: str) -> str:
    """Return the URL that a redirect leads to.

    Args:
        url: The URL that was asked for.
        location: The value of the response's Location header.

    Raises:
        StorageError: the redirect gives up TLS, leads to a host that is less public, or to no http(s):// URL.
    """
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        # parsed only when it is asked for
        _ = parts.port
    # not a port, or half an IPv6 address
    except ValueError as exc:
        raise _refused(url, location, f"is no URL: {exc}") from exc
    # Whoever wrote https:// expects that nobody on the way can read or change the bytes.
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise _refused(url, target, "is not encrypted by TLS")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise _refused(url, target, "is not http(s)://host/path, without a user")
    before = urlsplit(url).hostname or ""
    if parts.hostname != before and _reach(parts.hostname) < _reach(before):
        raise _refused(url, target, "is in a network that this server must not send its readers to")
    return target


def _refused(url: str, target: str, reason: str) -> StorageError:
    return StorageError(f"{redacted(url)}: it redirects to {redacted(target)}, which {reason}")


def _reach(host: str) -> int:
    """Return how public a host is: the least public of its addresses counts."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    # connecting to it will fail, and say why
    except (OSError, UnicodeError):
        return PUBLIC
    # an IPv6 address may end with "%" and the name of an interface
    return min(reach_of(str(address[0]).partition("%")[0]) for *_, address in found)


def reach_of(text: str) -> int:
    """Return how public an address is."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_link_local:
        return LINK_LOCAL
    if address.is_loopback or address.is_unspecified:
        return LOOPBACK
    return PUBLIC if address.is_global else PRIVATE
