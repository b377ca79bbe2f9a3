"""Check the older signature in queries, which boto3 still uses by default for presigned URLs.

Source: AWS, "Signing and authenticating REST requests", "Query string request authentication alternative".
"""

from __future__ import annotations

import base64
import hmac
import re
import time
from typing import TYPE_CHECKING

from blobpack.gateway.s3.errors import S3Error
from blobpack.gateway.s3.request import bytes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.gateway.s3.request import S3Request

    SecretOf = Callable[[str], str | None]

# The query parameters that are part of the signed resource. Other parameters are not signed.
SIGNED_PARAMS = frozenset(
    b"accelerate acl analytics cors defaultObjectAcl delete inventory lifecycle location logging metrics notification "
    b"object-lock partNumber policy replication requestPayment response-cache-control response-content-disposition "
    b"response-content-encoding response-content-language response-content-type response-expires restore select "
    b"select-type storageClass tagging torrent uploadId uploads versionId versioning versions website".split()
)
EXPIRES_DIGITS_MAX = 12


def known_secret(secret_of: SecretOf, access_key: str) -> str:
    """Return the secret key of an access key.

    Raises:
        S3Error: the access key is unknown.
    """
    secret = secret_of(access_key)
    if secret is None:
        raise S3Error(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            AWSAccessKeyId=access_key,
        )
    return secret


def check_v2_query(request: S3Request, secret_of: SecretOf, now_s: float) -> str:
    """Check the parameters AWSAccessKeyId, Expires and Signature of a request.

    Args:
        request: The request.
        secret_of: Returns the secret key of an access key, or None.
        now_s: Time now, in seconds since 1970 UTC.

    Returns:
        The access key.

    Raises:
        S3Error: a parameter is missing, the request has expired, or the signature is wrong.
    """
    access_key, expires, signature = map(request.param, ("AWSAccessKeyId", "Expires", "Signature"))
    if (
        not access_key
        or not signature
        or not re.fullmatch(rf"[0-9]{{1,{EXPIRES_DIGITS_MAX}}}", expires or "")
    ):
        raise S3Error(
            "AccessDenied",
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
        )
    secret = known_secret(secret_of, access_key)
    given = bytes_of(signature)
    # botocore signs the path of a bucket with a "/" at its end, and sends it without
    paths = [request.raw_path] if request.key else [request.raw_path, request.raw_path + b"/"]
    signed = [_string_to_sign(request, path, expires or "") for path in paths]
    matches = [hmac.compare_digest(_signature(secret, to_sign), given) for to_sign in signed]
    if not any(matches):
        raise S3Error(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and "
            "signing method.",
            AWSAccessKeyId=access_key,
            StringToSign=signed[0].decode("utf-8", "replace"),
            SignatureProvided=signature,
        )
    # checked after the signature, so that nobody learns anything from a request without a right signature
    if now_s > int(expires or ""):
        raise S3Error(
            "AccessDenied",
            "Request has expired",
            Expires=time.strftime(
                "%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(int(expires or ""), 1 << 37))
            ),
        )
    return access_key


def _signature(secret: str, to_sign: bytes) -> bytes:
    return base64.b64encode(hmac.digest(secret.encode(), to_sign, "sha1"))


def _string_to_sign(request: S3Request, path: bytes, expires: str) -> bytes:
    # boto3 moves the headers that it signs into the query, so that users of the URL need not send them
    in_query = {name.lower(): value for name, value in request.query}

    def signed(name: bytes) -> bytes:
        value = request.header(name)
        return in_query.get(name, b"") if value is None else value

    names = {name for name, _ in request.headers} | in_query.keys()
    amz = sorted(name for name in names if name.startswith(b"x-amz-"))
    lines = [
        request.method.encode(),
        signed(b"content-md5"),
        signed(b"content-type"),
        expires.encode(),
        *(name + b":" + signed(name) for name in amz),
        _resource(request, path),
    ]
    return b"\n".join(lines)


def _resource(request: S3Request, path: bytes) -> bytes:
    """Return the signed resource: the path as it was sent, and the parameters that change the answer."""
    params = sorted(pair for pair in request.query if pair[0] in SIGNED_PARAMS)
    if not params:
        return path
    # "?acl" and "?acl=" are one parameter without a value
    return path + b"?" + b"&".join(name + b"=" + value if value else name for name, value in params)
