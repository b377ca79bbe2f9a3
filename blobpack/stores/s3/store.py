"""A blob in S3: boto3 decides who we are and where the bucket is, and ranged GETs take our own connections.

Credentials, their refresh, profile, region, endpoint, addressing and certificates are boto3's: it prepares and
signs a whole GET of the object, which is caught before it is sent, and repeated with each Range and If-Match,
as neither needs to be signed. It is signed anew each minute, and when S3 says 403. A GET through boto3 takes
twenty to seventy times the processor time.

What our connections don't do goes through boto3: a second 403, keys of the customer's (SSE-C), requester pays, access
points, proxies, a client of the caller's; BLOBPACK_S3=boto3 sends all there. After 301, 307 or 400 boto3 reads, too: it
finds the bucket's region, or credentials that have not expired. Then it signs once more, and our connections are
tried again. The only module that imports boto3.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
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
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.base import to_http_range
from blobpack.stores.http.connection import Origin
from blobpack.stores.http.pool import pool_of
from blobpack.stores.http.ranged import Place, RangedStore, if_match
from blobpack.stores.http.response import after
from blobpack.stores.http.retry import Budget, Fault, Trial
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client

    from blobpack.stores.http.response import Answer

log = logging.getLogger(__name__)

CONNECTIONS = 64
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
SIGNED_FOR_S = 60.0  # S3 takes a signature for 15 minutes, less what the clocks differ
MISDIRECTED = (301, 307, 400)  # 400 is an expired token's, too
UNUSUAL_HEADERS = (
    "x-amz-server-side-encryption-customer",
    "x-amz-request-payer",
    "x-amz-s3session",
)
NOT_REPEATED = (
    "range",
    "if-match",
    "user-agent",
    "host",
    "connection",
    "amz-sdk-",
    "accept-encoding",
)

NO_PUTS = ("get_", "head_", "abort_")  # operations that S3 doesn't bill as it does PUT

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

# what an error code says is missing; a HEAD has no code
MISSING = {"NoSuchBucket": "no such bucket", "NoSuchKey": "no such key"}

_caught = threading.local()
_budget = Budget()  # of what boto3 reads

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
            catch_signed: Callable[..., Any] = _catch  # may answer in the server's place
            client.meta.events.register_first(
                "before-send.s3.GetObject", catch_signed, unique_id="blobpack"
            )
            _clients[os.getpid()] = client
        return client


def _renew_lock() -> None:
    """Forget, in a forked child, that a thread of the parent may have held the lock."""
    global _clients_lock
    _clients_lock = threading.Lock()
    _budget.renew_lock()


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


class ThinPathError(Exception):
    """Our own connections don't do this; boto3 may."""


class MisdirectedError(ThinPathError):
    """The request went to a wrong region, say, or with a token that has expired; boto3 may find what is right.

    Attributes:
        place: Where it went.
    """

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


class S3Store(RangedStore):
    """A blob that is an object in S3, pinned to the version found when it was opened."""

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        client: S3Client | None = None,
        version: str | None = None,
        tail_bytes: int = 0,
    ) -> None:
        """Ask for the object's size and ETag.

        Args:
            url: s3://bucket/key.
            client: A boto3 client; None for one from the environment. One that is given isn't pickled.
            version: The ETag it must have; None takes what is there.
            tail_bytes: Fetch so many of its last bytes in the same request, and keep them.

        Raises:
            BlobNotFoundError: no such bucket or key.
            BlobChangedError: it has another ETag.
            StorageError: S3 refused or could not be reached.
            ValueError: the URL is not one of S3.
        """
        self.location = Location.parse(url)
        self.url = self.location.text
        self.bucket, self.key = self.location.bucket, self.location.key
        self.use(client)
        if not tail_bytes or not self._open_with_tail(tail_bytes):
            head = self.ask_object("head_object", what="open")
            self.size = head["ContentLength"]
            self.version = head["ETag"]
        if version is not None and version != self.version:
            raise BlobChangedError(f"{url}: the object's ETag is {self.version}, not {version}")

    def use(self, client: S3Client | None) -> None:
        """Take a client; None for one from the environment."""
        super().__init__()
        self._client = client
        self._pid = os.getpid()
        self._is_thin = True
        self._place: Place | None = None
        self._signed_anew: Place | None = None
        self._signed_after_boto3: Place | None = None

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
        fetched, began = 0, time.perf_counter()
        try:
            answer = self.ask_object("get_object", what="open", Range=f"bytes=-{tail_bytes}")
            size = answer.get("ContentRange", "").rpartition("/")[2]
            if not size.isdecimal():
                answer["Body"].close()
                return False
            end = int(size)
            body = _read_body(answer, max(0, end - tail_bytes), end)
            fetched = len(body)
        except (BlobChangedError, Fault):  # 416: it is empty
            return False
        finally:
            self.counters.count_request(fetched, fetched, time.perf_counter() - began)
        self.size, self.version, self.tail = end, answer["ETag"], body
        return True

    def place(self) -> Place:
        """Give the signed request, signed anew when it is a minute old."""
        place = self._place
        if place is None or time.monotonic() - place.made_at > SIGNED_FOR_S:
            place = self._place = self._sign()
        return place

    def _sign(self) -> Place:
        """Let boto3 prepare and sign a GET of the object, and catch it.

        Raises:
            ThinPathError: our connections can't send it.
        """
        if os.environ.get("BLOBPACK_S3", "").lower() == "boto3":
            raise ThinPathError("BLOBPACK_S3 says so")
        if self._client is not None:
            raise ThinPathError("a client of the caller's")
        if self.bucket.startswith("arn:"):
            raise ThinPathError("an access point")
        client = self.client
        _caught.request = None
        _caught.wanted = True
        try:
            self.ask_object("get_object", what="sign")
        finally:
            _caught.wanted = False
        request: AWSPreparedRequest | None = _caught.request
        if request is None:
            raise ThinPathError("boto3 answered by itself")
        url = urlsplit(request.url)
        if getattr(client.meta.config, "proxies", None) or get_environ_proxies(request.url):
            raise ThinPathError("a proxy")
        headers = {name: _text(value) for name, value in request.headers.items()}
        if any(name.lower().startswith(UNUSUAL_HEADERS) for name in headers):
            raise ThinPathError("a request with unusual headers")
        ca_file = _ca_file() if url.scheme == "https" else None
        origin = Origin(url.hostname or "", url.port or (443 if ca_file else 80), ca_file)
        target = request.url.partition("://")[2].partition("/")[2]
        lines = [
            f"GET /{target} HTTP/1.1",
            f"Host: {url.netloc}",
            "Accept-Encoding: identity",
            "User-Agent: blobpack",
            *(
                f"{name}: {value}"
                for name, value in headers.items()
                if not name.lower().startswith(NOT_REPEATED)
            ),
            f"{if_match(self.version)}Range: bytes=",
        ]
        return Place(pool_of(origin), "\r\n".join(lines).encode("latin-1"), f"ETag: {self.version}")

    def fetch(self, start: int, end: int) -> bytes:
        """Read the bytes start to end: one ranged GET, again if it fails in a way that may pass."""
        if self._is_thin:
            try:
                return super().fetch(start, end)
            except MisdirectedError as exc:
                if exc.place is not self._signed_after_boto3:
                    return self._fetch_misdirected(start, end)
                self._leave_to_boto3(exc)
            except ThinPathError as exc:
                self._leave_to_boto3(exc)
        return self._fetch_by_boto3(start, end)

    def _fetch_misdirected(self, start: int, end: int) -> bytes:
        """Read through boto3, which learns from it, and sign as it does from then on."""
        content = self._fetch_by_boto3(start, end)
        try:
            self._place = self._signed_after_boto3 = self._sign()
        except ThinPathError as exc:
            self._leave_to_boto3(exc)
        return content

    def _leave_to_boto3(self, reason: ThinPathError) -> None:
        self._is_thin = False
        log.debug("%s: reads go through boto3: %s", self.url, reason)

    def handle(
        self, answer: Answer, place: Place, start: int, end: int, attempt: int
    ) -> bytes | None:
        """Sign anew on 403, once; leave to boto3 what it may solve; else raise what the status means."""
        latest = self._place
        if answer.status == 403 and (place is not latest or latest is not self._signed_anew):
            if place is latest:  # else another thread has signed anew
                self._place = self._signed_anew = self._sign()
            self.counters.count_retried()
            return None
        reason = f"HTTP {answer.status}, request {answer.request}"
        if answer.status in MISDIRECTED:
            raise MisdirectedError(reason, place)
        if answer.status == 403:
            raise ThinPathError(reason)
        self.refuse_answer(answer, f"read bytes {start} to {end}", attempt)

    def _fetch_by_boto3(self, start: int, end: int) -> bytes:
        """Do the same through boto3, which retries requests, but never a body."""
        what = f"read bytes {start} to {end}"
        trial = Trial(f"{self.url}: {what}", _budget)
        condition = {"IfMatch": self.version} if if_match(self.version) else {}
        while True:
            fetched, began = 0, time.perf_counter()
            try:
                answer = self.ask_object(
                    "get_object", what=what, Range=to_http_range(start, end), **condition
                )
                # a server may ignore If-Match
                if answer.get("ETag", self.version) != self.version:
                    answer["Body"].close()
                    raise BlobChangedError(
                        f"{self.url}: can't {what}: the object's ETag is {answer['ETag']}, "
                        f"it was {self.version} when it was opened "
                        f"({after(trial.failed + 1, request_id(answer))})"
                    )
                body = _read_body(answer, start, end)
                fetched = len(body)
            except Fault as exc:
                fault = exc
            else:
                _budget.regain()
                return body
            finally:
                self.counters.count_request(fetched, fetched, time.perf_counter() - began)
            if not trial.may_retry(fault):
                raise StorageError(
                    f"{self.url}: can't {what}: {fault} ({after(trial.failed, fault.request)})"
                ) from fault.__cause__
            self.counters.count_retried()

    def ask_object(self, operation: str, *, what: str, **arguments: Any) -> dict[str, Any]:
        """Call the client about the object, and translate its errors."""
        return self.ask(operation, what=what, Key=self.key, **arguments)

    def ask(self, operation: str, *, what: str, **arguments: Any) -> dict[str, Any]:
        """Call the client about the bucket, and translate its errors."""
        began = time.perf_counter()
        try:
            answer: dict[str, Any] = getattr(self.client, operation)(
                Bucket=self.bucket, **arguments
            )
        except ClientError as exc:
            self._count(operation, arguments, exc.response, began)
            self._raise_translated(exc, what)
        except NoCredentialsError as exc:
            raise StorageError(
                f"{self.url}: can't {what}: no AWS credentials were found; set AWS_ACCESS_KEY_ID and "
                f"AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; public objects are read without by their https:// URL"
            ) from exc
        except BotoCoreError as exc:
            self._count(operation, arguments, {}, began)
            raise StorageError(f"{self.url}: can't {what}: {exc}") from exc
        self._count(operation, arguments, answer, began)
        return answer

    def _count(
        self, operation: str, arguments: dict[str, Any], answer: Mapping[str, Any], began: float
    ) -> None:
        """Count a call; a GET is counted by who reads its body, but for what boto3 sent again."""
        is_put = not operation.startswith(NO_PUTS)
        if operation != "get_object":
            sent = len(arguments.get("Body", b""))
            wait_s = time.perf_counter() - began
            self.counters.count_call(is_put=is_put, sent=sent, wait_s=wait_s)
        again = answer.get("ResponseMetadata", {}).get("RetryAttempts", 0)
        self.counters.count_again(again, is_put=is_put)

    def _raise_translated(self, exc: ClientError, what: str) -> NoReturn:
        error = exc.response.get("Error", {})
        code, message = error.get("Code", "?"), error.get("Message", "")
        meta = exc.response.get("ResponseMetadata", {})
        tried = after(meta.get("RetryAttempts", 0) + 1, request_id(exc.response))
        where = f"(HTTP {meta.get('HTTPStatusCode', '?')}, {tried})"
        kind = ERRORS.get(code, StorageError)
        if kind is BlobNotFoundError:
            missing = MISSING.get(code, "no such bucket or key")
            raise BlobNotFoundError(f"{self.url}: {missing} {where}") from exc
        if kind is BlobChangedError:
            raise BlobChangedError(
                f"{self.url}: can't {what}: the object is no longer the one that was opened {where}"
            ) from exc
        said = f"{code}: {message}" if message else code
        refused = StorageError(f"{self.url}: can't {what}: {said} {where}")
        refused.status = meta.get("HTTPStatusCode", 0)
        raise refused from exc

    def __reduce__(self) -> tuple[Callable[..., S3Store], tuple[str, str]]:
        if self._client is not None:
            raise TypeError(f"{self.url}: a store with a client of its own can't be pickled")
        return _reopen, (self.url, self.version)


def _read_body(answer: dict[str, Any], start: int, end: int) -> bytes:
    """Read a body that must be these bytes.

    Raises:
        Fault: it is of other bytes, or was cut.
    """
    wanted = end - start
    came = answer.get("ContentRange", "").rpartition("/")[0]
    request = request_id(answer)
    try:
        if answer["ContentLength"] != wanted:  # a server that ignores Range would send all of it
            message = f"{answer['ContentLength']} bytes came instead of {wanted}"
            raise Fault(message, status=206, request=request)
        if came != f"bytes {start}-{end - 1}" and (came or start):  # else it is all of the object
            message = f"{came or 'an unknown range'} came instead of {start}-{end - 1}"
            raise Fault(message, status=206, request=request)
        body: bytes = answer["Body"].read()
    except BODY_FAULTS as exc:
        raise Fault(str(exc), status=206, request=request) from exc
    finally:
        answer["Body"].close()
    if len(body) != wanted:
        raise Fault(f"{len(body)} bytes came instead of {wanted}", status=206, request=request)
    return body


def _catch(request: AWSPreparedRequest, **more: object) -> AWSResponse | None:
    """Keep a request that this thread wants only signed, and answer in the server's place."""
    if not getattr(_caught, "wanted", False):
        return None
    _caught.request = request
    return AWSResponse(request.url, 200, HTTPHeaders(), io.BytesIO())


def _ca_file() -> str:
    """Find the certificates that boto3 would verify S3's with."""
    configured = boto3.Session()._session.get_config_variable("ca_bundle")
    return str(get_cert_path(configured or True))


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def request_id(answer: Mapping[str, Any]) -> str:
    """Find the id under which S3 logged a request."""
    return str(answer.get("ResponseMetadata", {}).get("RequestId") or "?")


def _reopen(url: str, version: str) -> S3Store:
    return S3Store(url, version=version)
