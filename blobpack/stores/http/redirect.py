"""Follow a redirect, unless it leads from https to http or to a less public host.

A server on the internet may redirect to http://169.254.169.254/, where clouds hand out credentials, or into the network
of the reader. So a redirect may lead to another host only if that host is at least as public as the one before.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urljoin

from blobpack.errors import StorageError
from blobpack.model import redacted
from blobpack.stores.url import split_url

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
        parts = split_url(target)
    # without the text of the error, which may repeat a password
    except ValueError:
        raise _refused(url, location, "is not http(s)://host/path, without a user") from None
    before = split_url(url)
    # Whoever wrote https:// expects that nobody on the way can read or change the bytes.
    if before.scheme == "https" and parts.scheme == "http":
        raise _refused(url, target, "is not encrypted by TLS")
    host, host_before = parts.hostname or "", before.hostname or ""
    if host != host_before and _reach(host) < _reach(host_before):
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
