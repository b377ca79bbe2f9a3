"""Signed GETs that our own connections send: boto3's, caught before it is sent, or one made after that model.

boto3 prepares and signs a whole GET of the object. Range and If-Match need no signature, so one signed request serves
every range. Source: AWS, "Signature Version 4 for API requests": host and x-amz-* are what must be signed; checked
on Ceph RGW and Swift.

Another object has another path, so it takes another signature, and boto3 needs most of a millisecond of processor
time for each. Signatures asks boto3 for one object of a bucket a minute. For the others it replaces the path in that
request and signs it with the same credentials. It does so only if it can reproduce the signature that boto3 made;
else boto3 signs for each object.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from botocore.utils import get_environ_proxies

from blobpack.stores.http.connection import Origin
from blobpack.stores.http.pool import pool_of
from blobpack.stores.http.ranged import Place, if_match
from blobpack.stores.s3.client import ca_file, catch_get, default_client, secret_key

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

    from blobpack.stores.http.pool import Pool
    from blobpack.stores.s3.bucket import ObjectKey

SIGNED_FOR_S = 60.0  # S3 takes a signature for 15 minutes, less the difference of the clocks

# requests with these must be signed one by one, or answered by another endpoint: boto3 knows how
UNUSUAL_HEADERS = (
    "x-amz-server-side-encryption-customer",
    "x-amz-request-payer",
    "x-amz-s3session",
)
# what each of our requests says by itself, or must not say
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
    r"GET (?P<target>[^ ?]*) HTTP/1\.1\r\n"
    r"(?P<headers>.*\r\nAuthorization: AWS4-HMAC-SHA256 "
    r"Credential=[^\r]*?/(?P<scope>(?P<day>\d{8})/(?P<region>[^/\r]+)/(?P<service>[^/\r]+)/aws4_request), "
    r"SignedHeaders=(?P<signed>[^,\r]+), Signature=)(?P<signature>[0-9a-f]{64})(?P<rest>(?:\r\n.*)?)",
    re.DOTALL,
)
SAFE_IN_KEYS = "-._~/"


class ThinPathError(Exception):
    """Our own connections can't send this request; boto3 may."""


# By boto3


def sign(target: ObjectKey, version: str) -> Place:
    """Have boto3 prepare and sign a GET of an object.

    Args:
        target: The object.
        version: Its ETag, for If-Match.

    Raises:
        ThinPathError: our connections can't send it.
    """
    if os.environ.get("BLOBPACK_S3", "").lower() == "boto3":
        raise ThinPathError("BLOBPACK_S3 says so")
    if target.bucket.name.startswith("arn:"):
        raise ThinPathError("an access point")
    request = catch_get(lambda: target.ask("get_object", what="sign"))
    if request is None:
        raise ThinPathError("boto3 answered by itself")
    # only the client's own proxies are in its configuration: those of the environment are found for each request
    if getattr(default_client().meta.config, "proxies", None) or get_environ_proxies(request.url):
        raise ThinPathError("a proxy")
    return Place(pool_of(_origin_of(request.url)), _head(request, version), f"ETag: {version}")


def _origin_of(url: str) -> Origin:
    parts = urlsplit(url)
    verified_with = ca_file() if parts.scheme == "https" else None
    return Origin(parts.hostname or "", parts.port or (443 if verified_with else 80), verified_with)


def _head(request: AWSPreparedRequest, version: str) -> bytes:
    """Write a signed request as far as the numbers of its Range header."""
    headers = {name: _text(value) for name, value in request.headers.items()}
    if any(name.lower().startswith(UNUSUAL_HEADERS) for name in headers):
        raise ThinPathError("a request with unusual headers")
    host, _, target = request.url.partition("://")[2].partition("/")
    lines = [
        f"GET /{target} HTTP/1.1",
        f"Host: {host}",
        "Accept-Encoding: identity",
        "User-Agent: blobpack",
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
        """Sign for nothing yet; boto3 signs for the first object of each bucket."""
        self._signers: dict[str, Signer] = {}

    def place_of(self, target: ObjectKey, version: str) -> Place:
        """Return the signed request for an object.

        Raises:
            ThinPathError: our connections can't send it.
        """
        signer = self._signers.get(target.bucket.name)
        if signer is not None and time.monotonic() - signer.made_at < SIGNED_FOR_S:
            return signer.place_of(target.key, version) or sign(target, version)
        place = sign(target, version)
        self._signers[target.bucket.name] = Signer(place, target.key, secret_key())
        return place


class Signer:
    """Signs for the objects of one bucket, as boto3 signed for one of them.

    Attributes:
        made_at: When boto3 signed, on the monotonic clock.
    """

    def __init__(self, place: Place, key: str, secret_key: str) -> None:
        """Analyse boto3's request, and check that the same signature can be made here.

        Args:
            place: The request.
            key: The key of its object.
            secret_key: What boto3 signed it with.
        """
        self.made_at = place.made_at
        self._pool: Pool = place.pool
        signed_head = place.head.partition(b"\r\nIf-Match: ")[0].partition(b"\r\nRange: ")[0]
        request = REQUEST.fullmatch(signed_head.decode("latin-1"))
        self._can_sign = bool(
            request
            and request["target"].endswith(quoted(key))
            and self._learn(request, key, secret_key)
            and self._signature(request["target"]) == request["signature"]
        )

    def _learn(self, request: re.Match[str], key: str, secret_key: str) -> bool:
        """Learn what a signature is made of from boto3's request; false if something of it is missing."""
        self._before_key = request["target"].removesuffix(quoted(key))
        self._headers, self._rest = request["headers"], request["rest"]
        lines = (line.split(": ", 1) for line in (self._headers + self._rest).split("\r\n") if line)
        by_name = {name.lower(): " ".join(value.split()) for name, value in lines}
        signed = request["signed"].split(";")
        if not {"x-amz-date", "x-amz-content-sha256", *signed} <= by_name.keys():
            return False
        # the canonical request from behind the path on, and the string to sign before its digest
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
        # S3, unlike other services of AWS, takes the path as it is sent: it is not quoted a second time
        canonical = hashlib.sha256(f"GET\n{target}{self._canonical}".encode("latin-1"))
        to_sign = self._to_sign + canonical.hexdigest()
        return hmac.digest(self._signing_key, to_sign.encode("latin-1"), "sha256").hex()

    def place_of(self, key: str, version: str) -> Place | None:
        """Return the signed request for another object of the bucket; None if only boto3 can sign it."""
        if not self._can_sign:
            return None
        path = self._before_key + quoted(key)
        head = (
            f"GET {path} HTTP/1.1\r\n{self._headers}{self._signature(path)}{self._rest}\r\n"
            f"{if_match(version)}Range: bytes="
        )
        place = Place(self._pool, head.encode("latin-1"), f"ETag: {version}")
        place.made_at = self.made_at
        return place


def quoted(key: str) -> str:
    """Write a key as it stands in a path."""
    return quote(key, safe=SAFE_IN_KEYS)
