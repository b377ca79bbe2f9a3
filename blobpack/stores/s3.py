"""A blob in S3, read through boto3 by ranged GETs that carry If-Match: the only module that imports boto3.

boto3 decides who we are and where the bucket is: credentials, profile, region and endpoint
(AWS_ENDPOINT_URL_S3 and the like) are its own. It retries requests, but never a body: that is done here.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.base import StoreBase, to_http_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

BODY_ATTEMPTS = 5
BACKOFF_S = 0.1
BACKOFF_MAX_S = 5.0
CONNECTIONS = 64
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30

BODY_FAULTS = (HTTPClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)

# HTTP status or S3 error code → what it means to us; any other is a StorageError
ERRORS: dict[str, type[StorageError]] = {
    "404": BlobNotFoundError,
    "NoSuchBucket": BlobNotFoundError,
    "NoSuchKey": BlobNotFoundError,
    "NoSuchVersion": BlobNotFoundError,
    "412": BlobChangedError,
    "PreconditionFailed": BlobChangedError,
    "416": BlobChangedError,
    "InvalidRange": BlobChangedError,
}

_clients: dict[int, S3Client] = {}
_clients_lock = threading.Lock()


def default_client() -> S3Client:
    """Make, once a process, a client from the environment and the AWS configuration files."""
    with _clients_lock:
        client = _clients.get(os.getpid())
        if client is None:
            try:
                client = boto3.client("s3", config=client_config())
            except ValueError as exc:  # an endpoint that is no URL
                raise StorageError(f"the AWS configuration is wrong: {exc}") from exc
            except BotoCoreError as exc:  # a profile that is not there, no region …
                raise StorageError(f"the AWS configuration is wrong: {exc}") from exc
            _clients[os.getpid()] = client
        return client


def _renew_lock() -> None:
    """Forget, in a forked child, that a thread of the parent may have held the lock."""
    global _clients_lock
    _clients_lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def client_config() -> Config:
    """Settings for many small reads; retries that the user configures stay as they are."""
    session = boto3.Session()._session
    configured = any(map(session.get_config_variable, ("retry_mode", "max_attempts")))
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        max_pool_connections=CONNECTIONS,
        read_timeout=READ_TIMEOUT_S,
        # a server's checksum of the whole object can't match a range
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries=None if configured else {"mode": "standard", "total_max_attempts": 5},
    )


def split_url(url: str) -> tuple[str, str]:
    """Part s3://bucket/key; the key may hold any character.

    Raises:
        ValueError: there is no bucket or no key.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not bucket or not key:
        raise ValueError(f"{url!r} is not s3://bucket/key")
    return bucket, key


class S3Store(StoreBase):
    """A blob that is an object in S3, pinned to the version found when it was opened."""

    def __init__(
        self,
        url: str,
        *,
        client: S3Client | None = None,
        version: str | None = None,
        size: int | None = None,
        tail_bytes: int = 0,
    ) -> None:
        """Ask for the object's size and ETag.

        Args:
            url: s3://bucket/key.
            client: A boto3 client; None for one from the environment. One that is given isn't pickled.
            version: The ETag it must have; None takes what is there.
            size: Its bytes, if they are known together with the version: then nothing is asked, and the first
                read finds out if it has changed.
            tail_bytes: Fetch so many of its last bytes in the same request, and keep them.

        Raises:
            BlobNotFoundError: no such bucket or key.
            BlobChangedError: it has another ETag.
            StorageError: S3 refused or could not be reached.
            ValueError: the URL is not one of S3.
        """
        self.url = url
        self.bucket, self.key = split_url(url)
        self._client = client
        self._pid = os.getpid()
        self.tail = b""
        if size is not None and version is not None:
            self.size, self.version = size, version
            return
        if not tail_bytes or not self._open_with_tail(tail_bytes):
            head = self._call("head_object", what="open")
            self.size = head["ContentLength"]
            self.version = head["ETag"]
        if version is not None and version != self.version:
            raise BlobChangedError(f"{url}: the object's ETag is {self.version}, not {version}")

    @property
    def client(self) -> S3Client:
        """The client of this process.

        Raises:
            StorageError: the store was given a client of its own, and the process has forked since: parent
                and child would read each other's answers.
        """
        if self._client is None:
            return default_client()
        if self._pid != os.getpid():
            raise StorageError(f"{self.url}: a client of your own can't be used after a fork")
        return self._client

    def _open_with_tail(self, tail_bytes: int) -> bool:
        """Learn size and ETag from a GET of the last bytes; false when that needs another way.

        An empty object has no last bytes, a server may ignore such a range, and a body may be cut.
        """
        try:
            answer = self._call("get_object", what="open", Range=f"bytes=-{tail_bytes}")
        except BlobChangedError:  # 416: it is empty
            return False
        size = answer.get("ContentRange", "").rpartition("/")[2]
        if not size.isdecimal():
            answer["Body"].close()
            return False
        body, _, _ = _read_body(answer, min(tail_bytes, int(size)))
        if body is None:
            return False
        self.size, self.version, self.tail = int(size), answer["ETag"], body
        return True

    def fetch(self, start: int, end: int) -> bytes:
        """Read the bytes start to end: one ranged GET, again if its body is cut or stalls."""
        what = f"read bytes {start} to {end}"
        for attempt in range(1, BODY_ATTEMPTS + 1):
            answer = self._call(
                "get_object", what=what, Range=to_http_range(start, end), IfMatch=self.version
            )
            if answer.get("ETag", self.version) != self.version:  # a server that ignores If-Match
                answer["Body"].close()
                raise BlobChangedError(
                    f"{self.url}: can't {what}: the object's ETag is {answer['ETag']}, "
                    f"it was {self.version} when it was opened"
                )
            body, fault, cause = _read_body(answer, end - start)
            if body is not None:
                return body
            log.debug("%s: attempt %d to %s: %s", self.url, attempt, what, fault)
            if attempt < BODY_ATTEMPTS:
                time.sleep(random.uniform(0, min(BACKOFF_S * 2**attempt, BACKOFF_MAX_S)))
        request = request_id(answer)
        raise StorageError(
            f"{self.url}: can't {what}: {fault} (after {BODY_ATTEMPTS} attempts, request {request})"
        ) from cause

    def _call(self, operation: str, *, what: str, **arguments: str) -> dict[str, Any]:
        """Call the client, and translate its errors."""
        with translated(self.url, what):
            answer: dict[str, Any] = getattr(self.client, operation)(
                Bucket=self.bucket, Key=self.key, **arguments
            )
        return answer

    def __reduce__(self) -> tuple[Callable[..., S3Store], tuple[str, str]]:
        if self._client is not None:
            raise TypeError(f"{self.url}: a store with a client of its own can't be pickled")
        return _reopen, (self.url, self.version)


def list_keys(bucket: str, prefix: str) -> Iterator[str]:
    """List the keys that begin with a prefix, in S3's order.

    Raises:
        BlobNotFoundError: no such bucket.
        StorageError: S3 refused or could not be reached.
    """
    with translated(f"s3://{bucket}/{prefix}", "list the keys"):
        pages = default_client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            yield from (found["Key"] for found in page.get("Contents", ()))


def put_object(url: str, file: BinaryIO) -> None:
    """Store a file as an object: it appears whole or not at all, and replaces one that is there.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    bucket, key = split_url(url)
    with translated(url, "store the object"):
        default_client().put_object(Bucket=bucket, Key=key, Body=file)


@contextmanager
def translated(url: str, what: str) -> Iterator[None]:
    """Translate the client's errors."""
    try:
        yield
    except ClientError as exc:
        _raise_translated(exc, url, what)
    except NoCredentialsError as exc:
        raise StorageError(
            f"{url}: can't {what}: no AWS credentials were found; set AWS_ACCESS_KEY_ID and "
            f"AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from exc
    except BotoCoreError as exc:
        raise StorageError(f"{url}: can't {what}: {exc}") from exc


def _raise_translated(exc: ClientError, url: str, what: str) -> NoReturn:
    error = exc.response.get("Error", {})
    code, message = error.get("Code", "?"), error.get("Message", "")
    meta = exc.response.get("ResponseMetadata", {})
    where = f"(HTTP {meta.get('HTTPStatusCode', '?')}, request {meta.get('RequestId') or '?'})"
    kind = ERRORS.get(code, StorageError)
    if kind is BlobNotFoundError:
        raise BlobNotFoundError(f"{url}: no such bucket or key {where}") from exc
    if kind is BlobChangedError:
        raise BlobChangedError(
            f"{url}: can't {what}: the object is no longer the one that was opened {where}"
        ) from exc
    said = f"{code}: {message}" if message else code
    raise StorageError(f"{url}: can't {what}: {said} {where}") from exc


def _read_body(answer: dict[str, Any], wanted: int) -> tuple[bytes | None, str, Exception | None]:
    """Read a body that must have so many bytes; else None, what is wrong with it, and the cause."""
    try:
        if answer["ContentLength"] != wanted:  # a server that ignores Range would send all of it
            return None, f"{answer['ContentLength']} bytes came instead of {wanted}", None
        body: bytes = answer["Body"].read()
    except BODY_FAULTS as exc:
        return None, str(exc), exc
    finally:
        answer["Body"].close()
    if len(body) != wanted:
        return None, f"{len(body)} bytes came instead of {wanted}", None
    return body, "", None


def request_id(answer: dict[str, Any]) -> str:
    """Find the id under which S3 logged a request."""
    return str(answer.get("ResponseMetadata", {}).get("RequestId") or "?")


def _reopen(url: str, version: str) -> S3Store:
    return S3Store(url, version=version)
