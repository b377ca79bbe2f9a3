"""The boto3 client of this process, made once from the environment and the AWS configuration files.

Credentials, their refresh, profile, region, endpoint, addressing, retries and certificates are boto3's to decide. A
forked child makes a client of its own: two processes on one connection would read each other's answers.
"""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path

from blobpack.errors import StorageError
from blobpack.threads import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.awsrequest import AWSPreparedRequest
    from botocore.session import Session
    from mypy_boto3_s3 import S3Client

CONNECTIONS = 64  # boto3's 10 would make threads wait for one another (boto/botocore#619)
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30


class Client(NamedTuple):
    """A boto3 client, and what our own connections need to know of it.

    Attributes:
        s3: The client.
        ca_file: The certificates that it verifies servers with.
    """

    s3: S3Client
    ca_file: str


_clients: dict[int, Client] = {}  # by process id
_clients_lock = ForkSafeLock()
_caught = threading.local()


def default_client() -> S3Client:
    """Return the client of this process.

    Raises:
        StorageError: the AWS configuration is wrong.
    """
    return _of_this_process().s3


def ca_file() -> str:
    """Return the certificates that this process's client verifies servers with.

    They are looked up once, with the client: a boto3 session for each signature took 6 ms of processor time instead
    of 0.5 ms, and could have found another file than the client has.

    Raises:
        StorageError: the AWS configuration is wrong.
    """
    return _of_this_process().ca_file


def secret_key() -> str:
    """Return the secret key that the client signs with now; "" without credentials."""
    credentials = default_client()._request_signer._credentials  # type: ignore[attr-defined]
    return str(credentials.get_frozen_credentials().secret_key) if credentials else ""


def catch_get(send: Callable[[], object]) -> AWSPreparedRequest | None:
    """Return the GET that boto3 prepares and signs while this thread sends it, instead of sending it.

    None: boto3 answered without a request, from a cache or a user's hook.
    """
    _caught.request = None
    _caught.is_wanted = True
    try:
        send()
    finally:
        _caught.is_wanted = False
    caught: AWSPreparedRequest | None = _caught.request
    return caught


def _catch(request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
    """Keep a request that this thread wants only signed, and answer it in the server's place."""
    if not getattr(_caught, "is_wanted", False):
        return None
    _caught.request = request
    return AWSResponse(request.url, 200, HTTPHeaders(), io.BytesIO())


def _of_this_process() -> Client:
    with _clients_lock:
        client = _clients.get(os.getpid())
        if client is None:
            try:
                client = _clients[os.getpid()] = _new_client()
            # ValueError: an endpoint that is no URL; BotoCoreError: a profile that is not there, no region, …
            except (ValueError, BotoCoreError) as exc:
                raise StorageError(f"the AWS configuration is wrong: {exc}") from exc
        return client


def _new_client() -> Client:
    # as boto3.client() does: a program may have set up the default session with a profile of its choice
    session = boto3.DEFAULT_SESSION or boto3.Session()
    core: Session = session._session
    client: S3Client = session.client("s3", config=_config(core))
    catch: Callable[..., Any] = _catch  # boto3's stubs don't know that a handler may answer
    client.meta.events.register_first("before-send.s3.GetObject", catch, unique_id="blobpack")
    return Client(client, _ca_file(core))


def _config(session: Session) -> Config:
    """Choose settings for many small reads; retries that the user configures stay as they are."""
    configured = any(map(session.get_config_variable, ("retry_mode", "max_attempts")))
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        max_pool_connections=CONNECTIONS,
        read_timeout=READ_TIMEOUT_S,
        # rclone, for one, sends the checksum of the whole object with a range: boto3 would refuse the range
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries=None if configured else {"mode": "standard", "total_max_attempts": 5},
    )


def _ca_file(session: Session) -> str:
    """Find the certificates as botocore's endpoint.py does: AWS_CA_BUNDLE or the profile, REQUESTS_CA_BUNDLE, its own."""
    configured = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    return str(configured or get_cert_path(True))
