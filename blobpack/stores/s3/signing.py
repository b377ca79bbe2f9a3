"""Signatures for many objects of a bucket, each as boto3 would make it, after the one that it made for one of them.

Another object is another path, and another signature: boto3 takes most of a millisecond of processor time to prepare
and sign a request. So it does that for one object a minute. For the others the path in its request is replaced,
and signed with the same credentials. That is done only where it makes, of boto3's own request, the signature that
boto3 made; else boto3 signs for each object.

Source: AWS, "Signature Version 4 for API requests"; S3 takes the path as it is sent.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from blobpack.stores.http.ranged import Place, if_match

if TYPE_CHECKING:
    from blobpack.stores.http.pool import Pool

REQUEST = re.compile(
    r"GET (?P<target>[^ ?]*) HTTP/1\.1\r\n"
    r"(?P<headers>.*\r\nAuthorization: AWS4-HMAC-SHA256 "
    r"Credential=[^\r]*?/(?P<scope>(?P<day>\d{8})/(?P<region>[^/\r]+)/(?P<service>[^/\r]+)/aws4_request), "
    r"SignedHeaders=(?P<signed>[^,\r]+), Signature=)(?P<signature>[0-9a-f]{64})(?P<rest>(?:\r\n.*)?)",
    re.DOTALL,
)
SAFE_IN_KEYS = "-._~/"
VALID_S = 60.0


class Signed(Protocol):
    """An object in S3 for which boto3 can sign."""

    bucket: str
    key: str
    version: str

    def sign(self) -> Place:
        """Have boto3 prepare and sign a GET."""

    def secret_key(self) -> str:
        """Find what boto3 signs with; "" if there is nothing."""


class Signatures:
    """Signed requests for objects, of one bucket or several; safe to share between threads."""

    def __init__(self) -> None:
        """Begin; boto3 signs for the first object of each bucket."""
        self._signers: dict[str, Signer] = {}

    def place_of(self, target: Signed) -> Place:
        """Give the signed request for an object.

        Raises:
            ThinPathError: our connections can't send it.
        """
        signer = self._signers.get(target.bucket)
        if signer is not None and time.monotonic() - signer.made_at < VALID_S:
            return signer.place_of(target) or target.sign()
        place = target.sign()
        self._signers[target.bucket] = Signer(place, target.key, target.secret_key())
        return place


class Signer:
    """Signs for the objects of one bucket, as boto3 signed for one of them.

    Attributes:
        made_at: When that was, on the monotonic clock.
    """

    def __init__(self, place: Place, key: str, secret_key: str) -> None:
        """Take boto3's request apart, and see whether it can be made here.

        Args:
            place: The request.
            key: Of its object.
            secret_key: What it was signed with.
        """
        self.made_at = place.made_at
        self._pool: Pool = place.pool
        signed_head = place.head.partition(b"\r\nIf-Match: ")[0].partition(b"\r\nRange: ")[0]
        request = REQUEST.fullmatch(signed_head.decode("latin-1"))
        self._can = False
        if request is None or not request["target"].endswith(quoted(key)):
            return
        self._before_key = request["target"].removesuffix(quoted(key))
        self._headers, self._rest = request["headers"], request["rest"]
        values = dict(
            line.split(": ", 1) for line in (self._headers + self._rest).split("\r\n") if line
        )
        by_name = {name.lower(): " ".join(value.split()) for name, value in values.items()}
        signed = request["signed"].split(";")
        if not {"x-amz-date", "x-amz-content-sha256", *signed} <= by_name.keys():
            return
        lines = [f"{name}:{by_name[name]}\n" for name in signed]
        self._canonical = (
            f"\n\n{''.join(lines)}\n{request['signed']}\n{by_name['x-amz-content-sha256']}"
        )
        self._to_sign = f"AWS4-HMAC-SHA256\n{by_name['x-amz-date']}\n{request['scope']}\n"
        self._signing_key = f"AWS4{secret_key}".encode()
        for part in (request["day"], request["region"], request["service"], "aws4_request"):
            self._signing_key = hmac.digest(self._signing_key, part.encode(), "sha256")
        self._can = self._signature(request["target"]) == request["signature"]

    def _signature(self, target: str) -> str:
        canonical = hashlib.sha256(f"GET\n{target}{self._canonical}".encode("latin-1"))
        to_sign = self._to_sign + canonical.hexdigest()
        return hmac.digest(self._signing_key, to_sign.encode("latin-1"), "sha256").hex()

    def place_of(self, target: Signed) -> Place | None:
        """Give the signed request for another object of the bucket; None if that takes boto3."""
        if not self._can:
            return None
        path = self._before_key + quoted(target.key)
        head = (
            f"GET {path} HTTP/1.1\r\n{self._headers}{self._signature(path)}{self._rest}\r\n"
            f"{if_match(target.version)}Range: bytes="
        )
        place = Place(self._pool, head.encode("latin-1"), f"ETag: {target.version}")
        place.made_at = self.made_at
        return place


def quoted(key: str) -> str:
    """Write a key as it stands in a path."""
    return quote(key, safe=SAFE_IN_KEYS)
