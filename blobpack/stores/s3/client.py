"""The boto3 clients of this process: one for each account, which S3Options names.

boto3 decides on credentials and their refresh, profile, region, endpoint, addressing, retries and certificates. Headers
that all requests of an account have, such as requester pays, are set by a handler of the client. So no caller passes
them on. A forked child makes its own clients: two processes on one connection would read each other's responses.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

import boto3
from botocore import UNSIGNED
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from blobpack.errors import StorageError
from blobpack.stores.access.s3_options import S3Options, account_of, read_key
from blobpack.stores.http.proxy import parse_proxy
from blobpack.stores.s3.refusals import described, harmless
from blobpack.threads import fork_safe_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.awsrequest import AWSPreparedRequest
    from botocore.model import OperationModel
    from botocore.session import Session
    from mypy_boto3_s3 import S3Client

# nothing given: the environment and the configuration files decide
NO_OPTIONS = S3Options()

# Clients that are kept. A program that makes a session for each of its users must not keep a client for each of them.
CLIENTS_MAX = 32
# Beyond this number, a connection is closed after one request. boto3's default is 10 (boto/botocore#619).
BOTO3_CONNECTIONS = 64
# boto3's default for both is 60 s. Five attempts of 20 s, and pauses of up to 15 s between them, end within two minutes.
BOTO3_CONNECT_TIMEOUT_S = 10
BOTO3_READ_TIMEOUT_S = 20


class Client(NamedTuple):
    """A boto3 client, and the certificates that our own connections share with it.

    Attributes:
        s3: The client.
        ca_file: File of the certificates that the client verifies servers with.
    """

    s3: S3Client
    ca_file: str


# By process id and account: a forked child inherits the dict, and must not use its parent's clients. The client that was
# used last stands at the end.
_clients: dict[tuple[int, tuple[Any, ...]], Client] = {}
_clients_lock = fork_safe_lock()
_caught = threading.local()


def client_of(options: S3Options = NO_OPTIONS) -> S3Client:
    """Return the client of an account in this process.

    Raises:
        StorageError: the AWS configuration is wrong.
    """
    return _of_this_process(options).s3


# Each session has a client of its own, so the session for a pair of keys is kept.
@lru_cache(maxsize=CLIENTS_MAX)
def session_with_keys(
    access_key: str, secret_key: str, token: str | None, region: str | None
) -> boto3.Session:
    """Return a boto3 session that has these keys, and looks up no others."""
    return boto3.Session(access_key, secret_key, token, region)


def renew_client(used: S3Client, options: S3Options = NO_OPTIONS) -> None:
    """Make a new client in place of the one that was used, so that credentials are looked up again.

    boto3 refreshes credentials that it knows to expire. It reads those of the environment and of files only once.

    Raises:
        StorageError: the AWS configuration is wrong.
    """
    with _clients_lock:
        client = _clients.get(_key_of(options))
        # Another thread may have made a new client already.
        if client is not None and client.s3 is used:
            del _clients[_key_of(options)]
    client_of(options)


def ca_file(options: S3Options) -> str:
    """Return the file of the certificates that an account's client verifies servers with.

    The file is looked up once, together with the client. A new boto3 session for each signature took 6 ms of processor
    time instead of 0.5 ms, and could find another file than the client has.

    Raises:
        StorageError: the AWS configuration is wrong.
    """
    return _of_this_process(options).ca_file


def secret_key(options: S3Options = NO_OPTIONS) -> str:
    """Return the secret key that an account's client signs with now; "" if it has no credentials."""
    # boto3 has no public way to ask a client for its credentials. Temporary ones are refreshed in this object.
    credentials = client_of(options)._request_signer._credentials  # type: ignore[attr-defined]
    return str(credentials.get_frozen_credentials().secret_key) if credentials else ""


def catch_get(send: Callable[[], object]) -> AWSPreparedRequest | None:
    """Return the GET that boto3 prepares and signs in `send`, without sending it.

    None: a user's hook answered before boto3 would have sent a request.
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
    """Keep a request that this thread wants only signed, and return an empty response to it."""
    if not getattr(_caught, "is_wanted", False):
        return None
    _caught.request = request
    return AWSResponse(request.url, 200, HTTPHeaders(), io.BytesIO())


def _key_of(options: S3Options) -> tuple[int, tuple[Any, ...]]:
    return os.getpid(), account_of(options)


def _of_this_process(options: S3Options) -> Client:
    with _clients_lock:
        client = _clients.pop(_key_of(options), None)
        if client is None:
            try:
                client = _new_client(options)
            # the key for SSE-C can't be read, or the proxy is not a URL
            except StorageError:
                raise
            # ValueError: the endpoint is not a URL. BotoCoreError: the profile does not exist, for example. OSError and
            # EOFError: a program or file that holds credentials is missing, or nobody is there to type an MFA code.
            except (ValueError, BotoCoreError, OSError, EOFError) as exc:
                raise StorageError(
                    f"the AWS configuration is wrong: {described(exc)}"
                ) from harmless(exc)
        _clients[_key_of(options)] = client
        while len(_clients) > CLIENTS_MAX:
            # not closed: another thread may be using it
            del _clients[next(iter(_clients))]
        return client


def _new_client(options: S3Options) -> Client:
    session = _session_of(options)
    core: Session = session._session
    client: S3Client = session.client(
        "s3",
        endpoint_url=options.endpoint_url,
        region_name=options.region,
        config=_config(core, options),
    )
    # URLs of objects, in messages and in what is exported, would hold them
    if "@" in urlsplit(client.meta.endpoint_url).netloc:
        raise StorageError(
            "the AWS configuration is wrong: the endpoint URL must not hold a user or a password"
        )
    # boto3's own message about a proxy that is not a URL may repeat a part of its password
    if proxy := proxy_url(client, client.meta.endpoint_url):
        parse_proxy(proxy)
    events = client.meta.events
    # boto3's type stubs don't know that a handler may return a response.
    catch: Callable[..., Any] = _catch
    events.register_first("before-send.s3.GetObject", catch, unique_id="blobpack")
    if added := _arguments_of(options):

        def add(params: dict[str, Any], model: OperationModel, **_: object) -> dict[str, Any]:
            accepted = model.input_shape.members if model.input_shape else {}
            return {name: value for name, value in added.items() if name in accepted} | params

        add_all: Callable[..., Any] = add
        events.register("provide-client-params.s3", add_all)
    return Client(client, _ca_file(core))


def proxy_url(client: S3Client, url: str) -> str | None:
    """Return the URL of the proxy through which a client reaches a URL; None if there is none."""
    # The client's configuration holds only the proxies that were given to it, not those of the environment.
    proxies = getattr(client.meta.config, "proxies", None) or get_environ_proxies(url)
    # as botocore does: another scheme's proxy, and no_proxy alone, mean nothing
    return cast("str | None", proxies.get(urlsplit(url).scheme))


def _session_of(options: S3Options) -> boto3.Session:
    if options.session is not None:
        return cast("boto3.Session", options.session)
    if options.profile is not None:
        return boto3.Session(profile_name=options.profile)
    # As boto3.client() does: the program may have set up the default session, with a profile for example.
    return boto3.DEFAULT_SESSION or boto3.Session()


def _arguments_of(options: S3Options) -> dict[str, Any]:
    """Return the arguments that all requests have that accept them."""
    arguments: dict[str, Any] = {"RequestPayer": "requester"} if options.requester_pays else {}
    if (key := read_key(options)) is not None:
        # As they are sent: boto3 encodes the key and adds its MD5 for some operations only, ListParts not among them.
        digest = hashlib.md5(key, usedforsecurity=False).digest()
        arguments |= {
            "SSECustomerAlgorithm": "AES256",
            "SSECustomerKey": b64encode(key).decode(),
            "SSECustomerKeyMD5": b64encode(digest).decode(),
        }
        arguments |= {
            f"CopySource{name}": value for name, value in arguments.items() if name[0] == "S"
        }
    return arguments


def _config(session: Session, options: S3Options) -> Config:
    """Return settings for many small reads; retries that the user configured stay as they are."""
    # Not get_config_variable("retry_mode"), which returns botocore's default if nothing is configured.
    configured = (
        session.get_config_variable("max_attempts") is not None
        or "AWS_RETRY_MODE" in os.environ
        or "retry_mode" in session.get_scoped_config()
    )
    return Config(
        signature_version=UNSIGNED if options.anonymous else None,
        connect_timeout=BOTO3_CONNECT_TIMEOUT_S,
        max_pool_connections=BOTO3_CONNECTIONS,
        read_timeout=BOTO3_READ_TIMEOUT_S,
        # Some servers, rclone for example, send the checksum of the whole object with a range. By default boto3 would
        # compare it with the range's bytes, and raise an error (boto/boto3#4512).
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries=None if configured else {"mode": "standard", "total_max_attempts": 5},
    )


def _ca_file(session: Session) -> str:
    """Find the file of certificates as botocore does."""
    # First AWS_CA_BUNDLE or the profile's ca_bundle, then REQUESTS_CA_BUNDLE (botocore/endpoint.py), then the file of
    # certifi, or botocore's own file if certifi is not installed (botocore/httpsession.py).
    configured = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    return str(configured or get_cert_path(True))
