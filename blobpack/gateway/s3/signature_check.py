"""Check the signature of a request: SigV4 in headers and in queries. `signature_v2.py` checks the older form.

The request names an access key. The gateway computes the signature of the request as it arrived, with the secret key of
this access key, and compares the two signatures in constant time. So a request is refused if a signed part was changed.

Sources: AWS, "Create a signed AWS API request" and "Authenticating Requests (AWS Signature Version 4)".
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from blobpack.gateway.s3.errors import S3Error
from blobpack.gateway.s3.request import bytes_of, quoted, text_of
from blobpack.gateway.s3.signature_v2 import check_v2_query, known_secret

if TYPE_CHECKING:
    from blobpack.gateway.s3.request import S3Request
    from blobpack.gateway.s3.signature_v2 import SecretOf

ALGORITHM = "AWS4-HMAC-SHA256"
CLOCK_SKEW_MAX_S = 15 * 60
# a week, S3's own limit
EXPIRES_MAX_S = 7 * 24 * 3600
TIMESTAMP = re.compile(r"([0-9]{8})T[0-9]{6}Z")
SIGNATURE = re.compile(r"[0-9a-f]{64}")
TOKEN = b"x-amz-security-token"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256().hexdigest()


class Claim(NamedTuple):
    """The signature of a request, as the request describes it.

    Attributes:
        access_key: Access key of the pair that signed it.
        scope: `day/region/service/aws4_request`.
        timestamp: Time of signing, as `20260131T235959Z`.
        signed_headers: Names of the headers that are signed.
        payload_sha256: Digest of the body, or a word in its place.
        query: The query as it is signed.
        signature: The signature.
    """

    access_key: str
    scope: str
    timestamp: str
    signed_headers: list[str]
    payload_sha256: str
    query: tuple[tuple[bytes, bytes], ...]
    signature: str


def authenticate(request: S3Request, secret_of: SecretOf, now_s: float | None = None) -> str | None:
    """Check the signature of a request.

    Args:
        request: The request.
        secret_of: Returns the secret key of an access key, or None.
        now_s: Time by the server's clock, in seconds since 1970 UTC; None for the time now.

    Returns:
        The access key that signed the request; None if it is not signed at all.

    Raises:
        S3Error: the signature is wrong, malformed or too old, or its access key is unknown.
    """
    now_s = time.time() if now_s is None else now_s
    # A session token belongs to temporary credentials, which a gateway with fixed keys never issued.
    if request.header(TOKEN) is not None or any(name.lower() == TOKEN for name, _ in request.query):
        raise S3Error("InvalidToken", "The provided token is malformed or otherwise invalid.")
    names = {name for name, _ in request.query}
    header = request.header(b"authorization")
    in_query = bool(names & {b"X-Amz-Algorithm", b"X-Amz-Signature", b"X-Amz-Credential"})
    in_v2_query = bool(names & {b"Signature", b"AWSAccessKeyId"})
    if (header is not None) + in_query + in_v2_query > 1:
        raise S3Error(
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
            "parameter or the Authorization header should be specified",
        )
    if in_v2_query:
        return check_v2_query(request, secret_of, now_s)
    if in_query:
        return _check_claim(request, _claim_in_query(request, now_s), secret_of)
    if header is not None:
        return _check_claim(request, _claim_in_header(request, header, now_s), secret_of)
    return None


def _claim_in_header(request: S3Request, header: bytes, now_s: float) -> Claim:
    fields = _fields_of(header)
    timestamp = text_of(request.header(b"x-amz-date") or b"")
    signed_s = _seconds(timestamp)
    if signed_s is None:
        raise S3Error("AccessDenied", "AWS authentication requires a valid x-amz-date header")
    if abs(signed_s - now_s) > CLOCK_SKEW_MAX_S:
        raise S3Error(
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
            RequestTime=timestamp,
            ServerTime=_iso(now_s),
            MaxAllowedSkewMilliseconds=str(CLOCK_SKEW_MAX_S * 1000),
        )
    payload_sha256 = request.header(b"x-amz-content-sha256")
    if payload_sha256 is None:
        raise S3Error(
            "MissingSecurityHeader",
            "Your request is missing a required header: x-amz-content-sha256",
        )
    access_key, scope = _credential(fields["Credential"], timestamp, "AuthorizationHeaderMalformed")
    return Claim(
        access_key,
        scope,
        timestamp,
        fields["SignedHeaders"].split(";"),
        text_of(payload_sha256),
        request.query,
        fields["Signature"],
    )


def _fields_of(header: bytes) -> dict[str, str]:
    """Split an Authorization header into its fields."""
    algorithm, _, rest = text_of(header).partition(" ")
    if algorithm != ALGORITHM:
        raise S3Error(
            "InvalidRequest",
            f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}.",
        )
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if fields.keys() != {"Credential", "SignedHeaders", "Signature"} or not SIGNATURE.fullmatch(
        fields["Signature"]
    ):
        raise _malformed(
            "it must hold a Credential, SignedHeaders and a Signature of 64 hexadecimal digits"
        )
    return fields


def _claim_in_query(request: S3Request, now_s: float) -> Claim:
    values = [
        request.param(f"X-Amz-{name}") or ""
        for name in ("Algorithm", "Credential", "Date", "Expires")
    ]
    algorithm, credential, timestamp, expires = values
    signed_headers, signature = (
        request.param(f"X-Amz-{name}") or "" for name in ("SignedHeaders", "Signature")
    )
    signed_s = _seconds(timestamp)
    if (
        algorithm != ALGORITHM
        or signed_s is None
        or not re.fullmatch(r"[0-9]{1,9}", expires)
        or not 1 <= int(expires) <= EXPIRES_MAX_S
        or not SIGNATURE.fullmatch(signature)
    ):
        raise S3Error(
            "AuthorizationQueryParametersError",
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters; X-Amz-Expires must be between 1 and "
            f"{EXPIRES_MAX_S} seconds.",
        )
    access_key, scope = _credential(credential, timestamp, "AuthorizationQueryParametersError")
    if signed_s > now_s + CLOCK_SKEW_MAX_S:
        raise S3Error("AccessDenied", "Request is not yet valid", ServerTime=_iso(now_s))
    if now_s > signed_s + int(expires):
        raise S3Error(
            "AccessDenied",
            "Request has expired",
            Expires=_iso(signed_s + int(expires)),
            ServerTime=_iso(now_s),
        )
    return Claim(
        access_key,
        scope,
        timestamp,
        signed_headers.split(";"),
        request.param("X-Amz-Content-Sha256") or UNSIGNED_PAYLOAD,
        tuple(pair for pair in request.query if pair[0] != b"X-Amz-Signature"),
        signature,
    )


def _credential(credential: str, timestamp: str, code: str) -> tuple[str, str]:
    """Split a credential into access key and scope, and check the scope.

    Any region is accepted: a gateway has none, and clients sign for the region that they are configured with.
    """
    access_key, *parts = credential.rsplit("/", 4)
    if len(parts) != 4 or parts[2:] != ["s3", "aws4_request"] or parts[0] != timestamp[:8]:
        raise S3Error(
            code,
            f"The credential must be <access key>/{timestamp[:8]}/<region>/s3/aws4_request, with the day of the "
            "request's date",
        )
    return access_key, "/".join(parts)


def _check_claim(request: S3Request, claim: Claim, secret_of: SecretOf) -> str:
    secret = known_secret(secret_of, claim.access_key)
    _check_signed_headers(request, claim)
    canonical = _canonical_request(request, claim)
    to_sign = "\n".join(
        (ALGORITHM, claim.timestamp, claim.scope, hashlib.sha256(canonical).hexdigest())
    )
    key = f"AWS4{secret}".encode()
    for part in claim.scope.split("/"):
        key = hmac.digest(key, bytes_of(part), "sha256")
    expected = hmac.digest(key, bytes_of(to_sign), "sha256").hex()
    if not hmac.compare_digest(expected, claim.signature):
        raise S3Error(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and "
            "signing method.",
            AWSAccessKeyId=claim.access_key,
            StringToSign=to_sign,
            SignatureProvided=claim.signature,
            CanonicalRequest=canonical.decode("utf-8", "replace"),
        )
    # checked after the signature: before that, the digest may come from anybody
    if request.method in ("GET", "HEAD") and claim.payload_sha256 not in (
        UNSIGNED_PAYLOAD,
        EMPTY_SHA256,
    ):
        raise S3Error(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    return claim.access_key


def _check_signed_headers(request: S3Request, claim: Claim) -> None:
    """Check that all headers that must be signed are signed, and that all signed headers were sent."""
    present = {text_of(name) for name, _ in request.headers}
    signed = set(claim.signed_headers)
    must = {"host"} | {name for name in present if name.startswith("x-amz-")}
    if not must <= signed or not signed <= present:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed, or signed headers which were not present",
            HeadersNotSigned=", ".join(sorted(must - signed)),
        )


def _canonical_request(request: S3Request, claim: Claim) -> bytes:
    """Return the signed text of a request: method, path, query, headers and the digest of the body."""
    # decoded and encoded again, so that it does not matter which characters a client chose to encode
    path = quoted(unquote_to_bytes(request.raw_path))
    query = sorted((quoted(name, ""), quoted(value, "")) for name, value in claim.query)
    lines = [
        request.method.encode(),
        path.encode(),
        "&".join(f"{name}={value}" for name, value in query).encode(),
        *(
            bytes_of(name) + b":" + (request.header(bytes_of(name)) or b"")
            for name in claim.signed_headers
        ),
        b"",
        bytes_of(";".join(claim.signed_headers)),
        bytes_of(claim.payload_sha256),
    ]
    return b"\n".join(lines)


def _seconds(timestamp: str) -> int | None:
    """Return the seconds since 1970 UTC of `20260131T235959Z`; None if it is no time."""
    if not TIMESTAMP.fullmatch(timestamp):
        return None
    try:
        return calendar.timegm(time.strptime(timestamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return None


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _malformed(why: str) -> S3Error:
    return S3Error("AuthorizationHeaderMalformed", f"The authorization header is malformed; {why}.")
