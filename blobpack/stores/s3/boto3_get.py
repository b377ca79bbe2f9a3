"""Ranged GETs through boto3: those that our own connections can't send, and the GET that opens a blob with its tail.

boto3 retries a request, but never a response body that was cut (boto/boto3#4111). So this module asks for the body
again. A GET through boto3 takes 20 to 70 times the processor time of one on our own connections.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import (
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from blobpack.errors import BlobChangedError, StorageError
from blobpack.stores.base import to_http_range
from blobpack.stores.http.etag import differ, with_quotes
from blobpack.stores.http.ranged import if_match, last_error
from blobpack.stores.http.response import describe_attempts
from blobpack.stores.http.retry import Fault, Retries, RetryBudget
from blobpack.stores.s3.answers import UNKNOWN_STATUSES
from blobpack.stores.s3.refusals import may_have_expired, request_id

if TYPE_CHECKING:
    from blobpack.stores.s3.bucket import ObjectKey

BODY_FAULTS = (HTTPClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)

# For retries of bodies. The budgets in http/pool.py are for our own connections, one for each server.
_budget = RetryBudget()
os.register_at_fork(after_in_child=_budget.renew_lock)


class Tail(NamedTuple):
    """The last bytes of an object, with the size and version that came in the same response."""

    size: int
    version: str
    content: bytes


def fetch(target: ObjectKey, size: int, version: str, start: int, end: int) -> bytes:
    """Read the bytes start to end of an object of this size and version; retry faults that may pass.

    Raises:
        BlobChangedError: the object is another version now.
        StorageError: S3 refused or could not be reached, or all attempts failed.
    """
    what = f"read bytes {start} to {end}"
    retries = Retries(f"{target.url}: {what}", _budget)
    while True:
        try:
            body = _fetch_once(target, size, version, start, end, what, attempt=retries.failed + 1)
        except Fault as fault:
            if not retries.may_retry(fault):
                raise last_error(target.url, what, fault, retries.failed) from fault.__cause__
            # Bucket counts the requests that boto3 sends again by itself.
            target.bucket.counters.count_retried()
        else:
            _budget.regain()
            return body


def fetch_tail(target: ObjectKey, tail_bytes: int) -> Tail | None:
    """Read the last bytes of an object of unknown size; return None if that does not work.

    It does not work if the object is empty (416), if the server ignores or refuses a suffix range (s3rver, nanio, Azure
    Blob), or if the body is cut. Then the caller asks for the size first.

    Raises:
        BlobNotFoundError: no such bucket or key.
        StorageError: S3 refused or could not be reached.
    """
    body, began = b"", time.perf_counter()
    try:
        response = target.ask("get_object", what="open", Range=f"bytes=-{tail_bytes}")
        size = response.get("ContentRange", "").rpartition("/")[2]
        # The whole object came, or the server does not tell the size.
        if not size.isdecimal():
            response["Body"].close()
            return None
        body = _read_body(response, max(0, int(size) - tail_bytes), int(size))
        return Tail(int(size), with_quotes(response.get("ETag", "")), body)
    except (BlobChangedError, Fault):
        return None
    except StorageError as exc:
        cause = exc.__cause__
        has_expired = isinstance(cause, ClientError) and may_have_expired("get_object", cause)
        if has_expired or exc.status not in UNKNOWN_STATUSES:
            raise
        return None
    finally:
        _count(target, body, began)


def _fetch_once(
    target: ObjectKey, size: int, version: str, start: int, end: int, what: str, *, attempt: int
) -> bytes:
    """Send one GET, read its body, and count it.

    Raises:
        Fault: the body holds other bytes, or was cut.
        BlobChangedError: the object is another version now.
        StorageError: S3 refused or could not be reached.
    """
    body, began = b"", time.perf_counter()
    condition = {"IfMatch": version} if if_match(version) else {}
    try:
        response = target.ask("get_object", what=what, Range=to_http_range(start, end), **condition)
        found = response.get("ETag", "")
        # s3rver, for example, ignores If-Match.
        if differ(found, version):
            response["Body"].close()
            raise BlobChangedError(
                f"{target.url}: can't {what}: the object's ETag is {found}, it was {version} when it was "
                f"opened ({describe_attempts(attempt, request_id(response))})"
            )
        body = _read_body(response, start, end)
        total = response.get("ContentRange", "").rpartition("/")[2]
        # without an ETag, only the size shows a change
        if total.isdecimal() and int(total) != size:
            raise BlobChangedError(
                f"{target.url}: can't {what}: the blob has {total} bytes, it had {size} when it was opened "
                f"({describe_attempts(attempt, request_id(response))})"
            )
        return body
    finally:
        _count(target, body, began)


def _count(target: ObjectKey, body: bytes, began: float) -> None:
    target.bucket.counters.count_request(len(body), len(body), time.perf_counter() - began)


def _read_body(response: dict[str, Any], start: int, end: int) -> bytes:
    """Read a body that must hold the bytes start to end.

    Raises:
        Fault: the body holds other bytes, or was cut.
    """
    request = request_id(response)
    try:
        if wrong := _wrong_range(response, start, end):
            raise Fault(wrong, status=206, request_id=request)
        body: bytes = response["Body"].read()
    except BODY_FAULTS as exc:
        raise Fault(str(exc), status=206, request_id=request) from exc
    finally:
        response["Body"].close()
    if len(body) != end - start:
        raise Fault(
            f"{len(body)} bytes came instead of {end - start}", status=206, request_id=request
        )
    return body


def _wrong_range(response: dict[str, Any], start: int, end: int) -> str:
    """Describe why a response does not hold the bytes asked for; return "" if it does."""
    # A server that ignores Range sends the whole object. A body in chunks has no length; then the bytes are counted.
    length = response.get("ContentLength", end - start)
    if length != end - start:
        return f"{length} bytes came instead of {end - start}"
    came = response.get("ContentRange", "").rpartition("/")[0]
    # Without Content-Range the response is the whole object, which is right if the range starts at byte 0.
    if came != f"bytes {start}-{end - 1}" and (came or start):
        return f"{came or 'an unknown range'} came instead of {start}-{end - 1}"
    return ""
