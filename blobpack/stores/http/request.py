"""The beginnings of requests for http(s):// URLs: server, proxy, certificates, and the caller's own headers.

A caller's headers and tokens are secrets of one server. So they are sent to the server of the caller's URL, and to no
other one that it redirects to.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from blobpack.stores.access.hugging_face import hub_token
from blobpack.stores.http.connect import Origin
from blobpack.stores.http.proxy import proxy_for
from blobpack.stores.url import DEFAULT_PORTS, origin_of, split_url

if TYPE_CHECKING:
    from blobpack.stores.location import Location

# Characters of a URL that are sent as they are. "%" is one of them, because the URL may be quoted already.
SAFE_IN_TARGETS = "/?&=%:@!$'()*+,;~[]-._"


def split_http(url: str, location: Location | None = None) -> tuple[Origin, str]:
    """Split a URL into the server and the beginning of a request for it, without the method.

    Args:
        url: The URL that is asked for.
        location: The blob, whose headers are sent if the URL is on its server; None: no such headers.

    Raises:
        ValueError: this is not an http:// or https:// URL with a host and without a user.
        StorageError: a proxy or a token of the environment can't be used.
    """
    parts = split_url(url)
    scheme, host = parts.scheme, parts.hostname or ""
    host = host if host.isascii() else host.encode("idna").decode()
    port = parts.port or DEFAULT_PORTS[scheme]
    target = quote(parts.path or "/", SAFE_IN_TARGETS)
    if parts.query:
        target += "?" + quote(parts.query, SAFE_IN_TARGETS)
    # An IPv6 address stands in brackets (RFC 3986, 3.2.2).
    host_header = f"[{host}]" if ":" in host else host
    if parts.port:
        host_header += f":{parts.port}"
    proxy = proxy_for(scheme, host, port)
    more = _headers_for(url, location)
    if proxy and scheme == "http":
        target, more = f"http://{host_header}{target}", more + proxy.authorization
    # identity: the offsets are those of the stored bytes, not of a compressed form that the server might make
    begin = (
        f"{target} HTTP/1.1\r\nHost: {host_header}\r\nAccept-Encoding: identity\r\n"
        f"User-Agent: blobpack\r\n{more}"
    )
    return Origin(host, port, ca_bundle() if scheme == "https" else None, proxy), begin


def ca_bundle() -> str:
    """Return the certificates that the environment names; "" for the system's, which OpenSSL finds by SSL_CERT_FILE."""
    return os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or ""


def _headers_for(url: str, location: Location | None) -> str:
    """Return the header lines of the caller, each with its line end."""
    headers: dict[str, str] = {}
    if location is not None and origin_of(url) == origin_of(location.whole):
        headers = location.access.headers_now()
    if not any(name.lower() == "authorization" for name in headers) and (token := hub_token(url)):
        headers["Authorization"] = f"Bearer {token}"
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
