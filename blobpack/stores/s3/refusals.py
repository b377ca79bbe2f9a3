"""Translate what boto3 raises to our errors: what S3 refused, and what prevented a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.http.response import NO_ID, describe_attempts, says_expired
from blobpack.stores.s3.answers import attempts_in, is_web_page, missing_key, missing_right
from blobpack.wording import setting

if TYPE_CHECKING:
    from collections.abc import Mapping

# HTTP status or S3 error code → our error. Every other one is a StorageError.
ERRORS: dict[str, type[StorageError]] = {
    "404": BlobNotFoundError,
    "NoSuchBucket": BlobNotFoundError,
    "NoSuchKey": BlobNotFoundError,
    "NoSuchVersion": BlobNotFoundError,
    "412": BlobChangedError,
    "PreconditionFailed": BlobChangedError,
    # The range was inside the object when the object was opened.
    "416": BlobChangedError,
    "InvalidRange": BlobChangedError,
}

# What is missing, by error code. The response to a HEAD has no body, and so no code.
MISSING = {"NoSuchBucket": "no such bucket", "NoSuchKey": "no such key"}

# User and password in the URL of a server or proxy. boto3 hides them only in some of its messages.
USER = re.compile(r"(?<=//)[^\s\"'`]*@")


def described(exc: BaseException) -> str:
    """Return what an exception of boto3 says, without passwords; its name if it says nothing."""
    return USER.sub("…@", str(exc)).strip() or type(exc).__name__


def harmless(exc: BaseException) -> BaseException | None:
    """Return an exception of boto3 as the cause of ours; None if its text, which a traceback shows, holds a password."""
    return None if USER.search(str(exc)) else exc


def was_sent_again(exc: StorageError) -> bool:
    """Return whether boto3 sent a refused request more than once: if an earlier answer was lost, S3 may have done it."""
    cause = exc.__cause__
    return isinstance(cause, ClientError) and attempts_in(cause.response) > 1


def request_id(response: Mapping[str, Any]) -> str:
    """Return the id under which S3 logged a request; NO_ID if there is none."""
    return str(response.get("ResponseMetadata", {}).get("RequestId") or NO_ID)


def may_have_expired(operation: str, exc: ClientError) -> bool:
    """Return whether S3 may have refused a request because its credentials or signature have expired."""
    details = exc.response.get("Error", {})
    # boto3 gives None for an empty message.
    code, message = details.get("Code") or "", details.get("Message") or ""
    # The response to a HEAD has no body. S3 answers an expired token with status 400.
    return says_expired(code, message) or (operation.startswith("head_") and code == "400")


def no_credentials(url: str, what: str) -> StorageError:
    """Return the error for a request that was not sent, because boto3 found no credentials."""
    return StorageError(
        f"{url}: can't {what}: no AWS credentials were found; set AWS_ACCESS_KEY_ID and "
        f"AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; public objects are read without credentials with "
        f"{setting('anonymous', True)}"
    )


def translated(exc: ClientError, url: str, what: str, operation: str) -> StorageError:
    """Return our error for an error response of S3."""
    details = exc.response.get("Error", {})
    meta = exc.response.get("ResponseMetadata", {})
    status = meta.get("HTTPStatusCode", 0)
    code, message = details.get("Code") or str(status), details.get("Message") or ""
    tried = describe_attempts(attempts_in(exc.response), request_id(exc.response))
    where = f"(HTTP {status or '?'}, {tried})"
    kind = ERRORS.get(code, StorageError)
    said = f"{code}: {message}" if message else code
    text = f"{url}: can't {what}: {said} {where}"
    if kind is BlobNotFoundError:
        text = f"{url}: {MISSING.get(code, 'no such bucket or key')} {where}"
    elif kind is BlobChangedError:
        text = f"{url}: can't {what}: the object is no longer the one that was opened {where}"
    # boto3 finds no code in a web page; a proxy may have sent it
    elif not details.get("Code") and is_web_page(exc.response):
        text = f"{url}: can't {what}: a web page came instead of an answer of S3 {where}"
    else:
        text += missing_right(operation, code) or missing_key(operation, code)
    error = kind(text)
    error.status = status
    return error
