"""Signed GETs that our own connections send.

Strategy: boto3 prepares and signs a GET of the whole object, which is caught before it is sent. Range and If-Match need
no signature, so one signed request serves every range. Source: AWS, "Signature Version 4 for API requests": only host
and x-amz-* must be signed. Tested with Ceph RGW and Swift.

The path is signed, so another object needs another signature, for which boto3 takes most of a millisecond of processor
time. So Signatures asks boto3 for one object of each bucket a minute. For the other objects it replaces the path in
that request, and signs it with the same credentials. It does so only if it can reproduce boto3's signature; otherwise
boto3 signs for each object.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from blobpack.stores.http.connect import Origin
from blobpack.stores.http.pool import pool_of
from blobpack.stores.http.proxy import parse_proxy
from blobpack.stores.http.ranged import RangedGet, if_match
from blobpack.stores.s3.client import ca_file, catch_get, client_of, proxy_url, secret_key
from blobpack.stores.url import DEFAULT_PORTS

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

    from blobpack.stores.access.s3_options import S3Options
    from blobpack.stores.http.pool import Pool
    from blobpack.stores.http.proxy import Proxy
    from blobpack.stores.s3.bucket import ObjectKey

# S3 accepts a signature for 15 minutes, less the difference of the clocks. Temporary credentials may expire sooner.
SIGNED_FOR_S = 60.0

# The header of S3 Express, whose sessions end after five minutes. Requests with it are left to boto3.
SESSION_HEADER = "x-amz-s3session"
# Headers that our request sets itself, or must not send.
NOT_REPEATED = (
    "range",
    "if-match",
    "user-agent",
    "host",
    "connection",
    "amz-sdk-",
    "accept-encoding",
)

REQUEST = re.compile(
    r"GET (?P<server>(?:http://[^/ ]*)?)(?P<target>/[^ ?]*) HTTP/1\.1\r\n"
    r"(?P<headers>.*\r\nAuthorization: AWS4-HMAC-SHA256 "
    r"Credential=[^\r]*?/(?P<scope>(?P<day>\d{8})/(?P<region>[^/\r]+)/(?P<service>[^/\r]+)/aws4_request), "
    r"SignedHeaders=(?P<signed>[^,\r]+), Signature=)(?P<signature>[0-9a-f]{64})(?P<rest>(?:\r\n.*)?)",
    re.DOTALL,
)
# The request of an anonymous caller. The groups that are always empty are those of a signed one.
UNSIGNED_REQUEST = re.compile(
    r"GET (?P<server>(?:http://[^/ ]*)?)(?P<target>/[^ ?]*) HTTP/1\.1\r\n"
    r"(?P<headers>(?:(?!\r\nAuthorization:).)*)(?P<signature>)(?P<rest>)",
    re.DOTALL,
)
# The unreserved characters of RFC 3986, which SigV4 leaves unquoted, and the separator of folders.
SAFE_IN_KEYS = "-._~/"


class NeedsBoto3Error(Exception):
    """Our own connections can't send this request; boto3 may."""


# By boto3


def sign(target: ObjectKey, version: str) -> RangedGet:
    """Have boto3 prepare and sign a GET of an object.

    Args:
        target: The object.
        version: Its ETag, for If-Match.

    Raises:
        NeedsBoto3Error: our connections can't send this request.
    """
    if os.environ.get("BLOBPACK_S3", "").lower() == "boto3":
        raise NeedsBoto3Error("BLOBPACK_S3 is set to boto3")
    if target.bucket.name.startswith("arn:"):
        raise NeedsBoto3Error("an access point")
    request = catch_get(lambda: target.ask("get_object", what="sign"))
    if request is None:
        raise NeedsBoto3Error("boto3 answered by itself")
    return _ranged_get(request, version, target.bucket.options)


def _ranged_get(request: AWSPreparedRequest, version: str, options: S3Options) -> RangedGet:
    parts = urlsplit(request.url)
    verified_with = ca_file(options) if parts.scheme == "https" else None
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    proxy = _proxy_for(request.url, options)
    pool = pool_of(Origin(parts.hostname or "", port, verified_with, proxy))
    # Through a tunnel, which an https:// URL has, the proxy gets no request.
    forwarded_by = proxy if parts.scheme == "http" else None
    return RangedGet(pool, _head(request, version, forwarded_by), f"ETag: {version}")


def _proxy_for(url: str, options: S3Options) -> Proxy | None:
    """Return the proxy that boto3 would use.

    Raises:
        NeedsBoto3Error: our connections can't use this proxy.
        StorageError: this is not a URL.
    """
    client = client_of(options)
    found = proxy_url(client, url)
    if not found:
        return None
    proxy = parse_proxy(found)
    if proxy is None:
        raise NeedsBoto3Error("a proxy that is not http://")
    # certificates for the proxy itself, for example
    if getattr(client.meta.config, "proxies_config", None):
        raise NeedsBoto3Error("a proxy with settings of its own")
    return proxy


def _head(request: AWSPreparedRequest, version: str, forwarded_by: Proxy | None) -> bytes:
    """Write a signed request up to the numbers of its Range header.

    Args:
        request: The request.
        version: ETag of the object.
        forwarded_by: The proxy that gets the request and passes it on; None if it goes to the server.
    """
    headers = {name: _text(value) for name, value in request.headers.items()}
    if any(name.lower().startswith(SESSION_HEADER) for name in headers):
        raise NeedsBoto3Error("S3 Express")
    scheme, _, rest = request.url.partition("://")
    host, _, target = rest.partition("/")
    # boto3 signs the host without its default port, and sends it so
    host = host.removesuffix(f":{DEFAULT_PORTS[scheme]}")
    # for a proxy, the request names its server (RFC 9112, 3.2.2)
    server = f"{scheme}://{host}" if forwarded_by else ""
    authorization = forwarded_by.authorization if forwarded_by else ""
    lines = [
        f"GET {server}/{target} HTTP/1.1",
        f"Host: {host}",
        "Accept-Encoding: identity",
        f"{authorization}User-Agent: blobpack",
        *(
            f"{name}: {value}"
            for name, value in headers.items()
            if not name.lower().startswith(NOT_REPEATED)
        ),
        f"{if_match(version)}Range: bytes=",
    ]
    return "\r\n".join(lines).encode("latin-1")


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


# After boto3's model


class Signatures:
    """Signed requests for objects, of one bucket or several; safe to share between threads."""

    def __init__(self) -> None:
        """Start without signatures; boto3 signs for the first object of each bucket."""
        self._signers: dict[tuple[str, S3Options], Signer] = {}

    def ranged_get_of(self, target: ObjectKey, version: str) -> RangedGet:
        """Return the signed GET of an object.

        Raises:
            NeedsBoto3Error: our connections can't send this request.
        """
        place = target.bucket.name, target.bucket.options
        signer = self._signers.get(place)
        if signer is not None and time.monotonic() - signer.made_at < SIGNED_FOR_S:
            return signer.ranged_get_of(target.key, version) or sign(target, version)
        ranged_get = sign(target, version)
        secret = secret_key(target.bucket.options)
        self._signers[place] = Signer(ranged_get, target.key, secret)
        return ranged_get


class Signer:
    """Signs for the objects of one bucket in the way in which boto3 signed for one of them.

    Attributes:
        made_at: When boto3 signed, on the monotonic clock.
    """

    def __init__(self, ranged_get: RangedGet, key: str, secret_key: str) -> None:
        """Analyse boto3's request, and check that its signature can be reproduced here.

        Args:
            ranged_get: The request that boto3 signed.
            key: Key of the object in that request.
            secret_key: Secret key that boto3 signed with.
        """
        self.made_at = ranged_get.made_at
        self._pool: Pool = ranged_get.pool
        signed_head = ranged_get.head.partition(b"\r\nIf-Match: ")[0].partition(b"\r\nRange: ")[0]
        head = signed_head.decode("latin-1")
        request = REQUEST.fullmatch(head) or UNSIGNED_REQUEST.fullmatch(head)
        self._can_sign = bool(request and request["target"].endswith(quoted(key)))
        if request is None or not self._can_sign:
            return
        self._before_key = request["target"].removesuffix(quoted(key))
        # only in requests that go to a proxy
        self._server = request["server"]
        self._headers, self._rest = request["headers"], request["rest"]
        # empty for an anonymous caller, whose requests have no signature
        self._signing_key = b""
        if request["signature"]:
            self._can_sign = (
                self._learn(request, secret_key)
                and self._signature(request["target"]) == request["signature"]
            )

    def _learn(self, request: re.Match[str], secret_key: str) -> bool:
        """Extract the inputs of a signature from boto3's request; return False if one of them is missing."""
        lines = (line.split(": ", 1) for line in (self._headers + self._rest).split("\r\n") if line)
        by_name = {name.lower(): " ".join(value.split()) for name, value in lines}
        signed = request["signed"].split(";")
        if not {"x-amz-date", "x-amz-content-sha256", *signed} <= by_name.keys():
            return False
        # _canonical is the part of the canonical request behind the path. _to_sign is the part of the string to sign in
        # front of that request's digest. Source: AWS, "Create a signed AWS API request".
        canonical_headers = "".join(f"{name}:{by_name[name]}\n" for name in signed)
        self._canonical = (
            f"\n\n{canonical_headers}\n{request['signed']}\n{by_name['x-amz-content-sha256']}"
        )
        self._to_sign = f"AWS4-HMAC-SHA256\n{by_name['x-amz-date']}\n{request['scope']}\n"
        self._signing_key = f"AWS4{secret_key}".encode()
        for part in (request["day"], request["region"], request["service"], "aws4_request"):
            self._signing_key = hmac.digest(self._signing_key, part.encode(), "sha256")
        return True

    def _signature(self, target: str) -> str:
        if not self._signing_key:
            return ""
        # Unlike other AWS services, S3 signs the path as it is sent: it is not quoted a second time.
        canonical = hashlib.sha256(f"GET\n{target}{self._canonical}".encode("latin-1"))
        to_sign = self._to_sign + canonical.hexdigest()
        return hmac.digest(self._signing_key, to_sign.encode("latin-1"), "sha256").hex()

    def ranged_get_of(self, key: str, version: str) -> RangedGet | None:
        """Return the signed GET of another object of the bucket; None if only boto3 can sign it."""
        if not self._can_sign:
            return None
        path = self._before_key + quoted(key)
        head = (
            f"GET {self._server}{path} HTTP/1.1\r\n{self._headers}{self._signature(path)}{self._rest}\r\n"
            f"{if_match(version)}Range: bytes="
        )
        ranged_get = RangedGet(self._pool, head.encode("latin-1"), f"ETag: {version}")
        ranged_get.made_at = self.made_at
        return ranged_get


def quoted(key: str) -> str:
    """Return a key as it is written in the path of a URL."""
    return quote(key, safe=SAFE_IN_KEYS)
