"""Ranged GETs through boto3: what our own connections don't do, and the GET that opens a blob with its tail.

boto3 retries a request, but never the body of its answer (boto/boto3#4111), so a body that was cut is asked for again
here. A GET through boto3 takes 20 to 70 times the processor time of one on our own connections.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import (
    HTTPClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from blobpack.errors import BlobChangedError, StorageError
from blobpack.stores.base import to_http_range
from blobpack.stores.http.ranged import if_match
from blobpack.stores.http.response import after
from blobpack.stores.http.retry import Budget, Fault, Trial
from blobpack.stores.s3.bucket import request_id

if TYPE_CHECKING:
    from blobpack.stores.s3.bucket import ObjectKey

BODY_FAULTS = (HTTPClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)

_budget = Budget()  # of retries of bodies; a server's own budget is for our connections to it
os.register_at_fork(after_in_child=_budget.renew_lock)


class Tail(NamedTuple):
    """The last bytes of an object, and what their answer says about the object."""

    size: int
    version: str
    content: bytes


def fetch(target: ObjectKey, version: str, start: int, end: int) -> bytes:
    """Read the bytes start to end of a version of an object, again if it fails in a way that may pass.

    Raises:
        BlobChangedError: the object is another version now.
        StorageError: S3 refused or could not be reached, or all attempts failed.
    """
    what = f"read bytes {start} to {end}"
    trial = Trial(f"{target.url}: {what}", _budget)
    while True:
        try:
            body = _fetch_once(target, version, start, end, what, attempt=trial.failed + 1)
        except Fault as fault:
            if not trial.may_retry(fault):
                raise StorageError(
                    f"{target.url}: can't {what}: {fault} ({after(trial.failed, fault.request)})"
                ) from fault.__cause__
            target.bucket.counters.count_retried()  # requests that boto3 repeats are counted by Bucket
        else:
            _budget.regain()
            return body


def fetch_tail(target: ObjectKey, tail_bytes: int) -> Tail | None:
    """Read the last bytes of an object of unknown size; None if that needs another way.

    An empty object has no last bytes (416), a server may ignore or refuse such a range, and a body may be cut.

    Raises:
        BlobNotFoundError: no such bucket or key.
        StorageError: S3 refused or could not be reached.
    """
    body, began = b"", time.perf_counter()
    try:
        answer = target.ask("get_object", what="open", Range=f"bytes=-{tail_bytes}")
        size = answer.get("ContentRange", "").rpartition("/")[2]
        if not size.isdecimal():  # the whole object came, or the size is not told
            answer["Body"].close()
            return None
        body = _read_body(answer, max(0, int(size) - tail_bytes), int(size))
        return Tail(int(size), answer["ETag"], body)
    except (BlobChangedError, Fault):
        return None
    finally:
        _count(target, body, began)


def _fetch_once(
    target: ObjectKey, version: str, start: int, end: int, what: str, *, attempt: int
) -> bytes:
    """Send one GET, read its body, and count it.

    Raises:
        Fault: the body is of other bytes, or was cut.
        BlobChangedError: the object is another version now.
        StorageError: S3 refused or could not be reached.
    """
    body, began = b"", time.perf_counter()
    condition = {"IfMatch": version} if if_match(version) else {}
    try:
        answer = target.ask("get_object", what=what, Range=to_http_range(start, end), **condition)
        found = answer.get("ETag", version)
        if found != version:  # s3rver, for one, ignores If-Match
            answer["Body"].close()
            raise BlobChangedError(
                f"{target.url}: can't {what}: the object's ETag is {found}, it was {version} when it was "
                f"opened ({after(attempt, request_id(answer))})"
            )
        body = _read_body(answer, start, end)
        return body
    finally:
        _count(target, body, began)


def _count(target: ObjectKey, body: bytes, began: float) -> None:
    target.bucket.counters.count_request(len(body), len(body), time.perf_counter() - began)


def _read_body(answer: dict[str, Any], start: int, end: int) -> bytes:
    """Read a body that must be these bytes.

    Raises:
        Fault: it is of other bytes, or was cut.
    """
    request = request_id(answer)
    try:
        if wrong := _wrong_range(answer, start, end):
            raise Fault(wrong, status=206, request=request)
        body: bytes = answer["Body"].read()
    except BODY_FAULTS as exc:
        raise Fault(str(exc), status=206, request=request) from exc
    finally:
        answer["Body"].close()
    if len(body) != end - start:
        raise Fault(f"{len(body)} bytes came instead of {end - start}", status=206, request=request)
    return body


def _wrong_range(answer: dict[str, Any], start: int, end: int) -> str:
    """Describe how an answer is not of the bytes asked for; "" if it is."""
    if answer["ContentLength"] != end - start:  # a server that ignores Range sends all of it
        return f"{answer['ContentLength']} bytes came instead of {end - start}"
    came = answer.get("ContentRange", "").rpartition("/")[0]
    # without a Content-Range it is all of the object: right if the range began at byte 0
    if came != f"bytes {start}-{end - 1}" and (came or start):
        return f"{came or 'an unknown range'} came instead of {start}-{end - 1}"
    return ""
