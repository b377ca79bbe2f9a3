"""The public value that holds account, server and properties of uploads for s3:// URLs.

Strategy: a value that callers pass, and not settings of the process. So two accounts or servers can be used at once. It
names credentials, and does not hold them: the process that unpickles a blob looks them up again.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from blobpack.errors import StorageError
from blobpack.model import Checksum, Encryption, check_choice, check_flag, check_text, shown
from blobpack.wording import setting

if TYPE_CHECKING:
    from collections.abc import Callable

SSE_C_KEY_BYTES = 32


class Session(Protocol):
    """A boto3 session. boto3 takes 160 ms to import, so its own type is not named here."""

    @property
    def client(self) -> Callable[..., Any]:
        """Makes clients."""


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """Account and server for s3:// URLs, and the properties of objects that are written.

    Of these options, `anonymous`, `content_type` and `metadata` hold for gs:// and az:// URLs, too.

    Options that are not given come from the environment and the AWS configuration files, as for the AWS CLI. If a blob that
    uses these options is pickled, they are pickled with it, but credentials are not. The process that unpickles the blob looks
    up the credentials again. A `session`, and an `sse_c_key` given as bytes, can't be pickled.

    Attributes:
        anonymous: Send unsigned requests, which public buckets accept. No credentials are looked up.
        profile: Name of a profile in the AWS configuration files.
        endpoint_url: URL of the S3 server.
        region: Region that requests are signed for.
        session: A boto3 session, from which credentials, profile and region are taken.
        requester_pays: Agree to pay for requests to buckets whose owners do not pay for them.
        sse_c_key: Key of 32 bytes, with which S3 encrypts and decrypts the objects (SSE-C). Or the path of a file that
            holds the key, as 32 bytes or in base64.
        content_type: Media type of new blobs. None: application/x-tar, or application/zstd for compressed blobs.
        metadata: Metadata of each object, as names and values in ASCII.
        tags: Tags of each object.
        storage_class: Storage class, such as STANDARD_IA.
        acl: Canned ACL, such as bucket-owner-full-control.
        sse: How S3 encrypts the objects: "AES256" (SSE-S3), "aws:kms" or "aws:kms:dsse".
        sse_kms_key_id: Id, ARN or alias of the KMS key for "aws:kms". None: the bucket's own key.
        checksum: Algorithm of the checksum that S3 verifies and stores: "CRC32", "CRC32C", "SHA1" or "SHA256".

    Raises:
        TypeError: a value has a wrong type.
        ValueError: a choice does not exist; two options contradict each other; or the key does not have 32 bytes.
    """

    anonymous: bool = False
    profile: str | None = None
    endpoint_url: str | None = None
    region: str | None = None
    session: Session | None = None
    requester_pays: bool = False
    # a secret, which must not stand in messages and logs
    sse_c_key: bytes | str | os.PathLike[str] | None = field(default=None, repr=False)
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    storage_class: str | None = None
    acl: str | None = None
    sse: Encryption | None = None
    sse_kms_key_id: str | None = None
    checksum: Checksum | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        check_flag("anonymous", self.anonymous)
        check_flag("requester_pays", self.requester_pays)
        for name in TEXTS:
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        for name in ("metadata", "tags"):
            # a copy: the caller may change the original
            object.__setattr__(self, name, _checked_texts(name, getattr(self, name)))
        for name, choices in (("sse", Encryption), ("checksum", Checksum)):
            if getattr(self, name) is not None:
                check_choice(name, getattr(self, name), choices)
        if self.endpoint_url is not None and "://" not in self.endpoint_url:
            raise ValueError(
                f"endpoint_url must be a URL, such as http://host:9000, not {self.endpoint_url!r}"
            )
        if self.endpoint_url is not None and "@" in self.endpoint_url.split("://")[1].split("/")[0]:
            # requests are signed with the credentials of the account; pickles and messages hold the URL
            raise ValueError("endpoint_url must not hold a user or a password")
        if self.session is not None and not hasattr(self.session, "client"):
            raise TypeError(f"session must be a boto3 session, not {shown(self.session)}")
        if self.session is not None and self.profile is not None:
            raise ValueError("profile can't be combined with session, which has its own profile")
        if self.sse_kms_key_id is not None and not (self.sse or "").startswith("aws:kms"):
            raise ValueError(
                f"sse_kms_key_id needs {setting('sse', 'aws:kms')} or {setting('sse', 'aws:kms:dsse')}"
            )
        self._check_key()

    def _check_key(self) -> None:
        if self.sse_c_key is None:
            return
        if not isinstance(self.sse_c_key, (bytes, str, os.PathLike)):
            raise TypeError("sse_c_key must be bytes, or the path of a file")
        if isinstance(self.sse_c_key, bytes) and len(self.sse_c_key) != SSE_C_KEY_BYTES:
            raise ValueError(f"sse_c_key must have 32 bytes, not {len(self.sse_c_key)}")
        if self.sse is not None:
            raise ValueError("sse can't be combined with sse_c_key: S3 encrypts with one of them")

    def __getstate__(self) -> dict[str, Any]:
        """Return the options for pickle.

        Raises:
            TypeError: a session or a key was given, which are secrets.
        """
        if self.session is not None:
            raise TypeError(
                "S3Options with a session can't be pickled, because the session holds credentials: name a profile instead, or "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in each process"
            )
        if isinstance(self.sse_c_key, bytes):
            raise TypeError(
                "S3Options with an sse_c_key can't be pickled, because the key is a secret: name the file that holds it"
            )
        return {each.name: getattr(self, each.name) for each in fields(self)}


# the options that are plain texts
TEXTS = (
    *("profile", "endpoint_url", "region"),
    *("content_type", "storage_class", "acl", "sse_kms_key_id"),
)


def _checked_texts(name: str, pairs: object) -> dict[str, str]:
    """Return names and values as a dict.

    Raises:
        TypeError: the pairs are no mapping of str to str.
    """
    if not isinstance(pairs, Mapping) or not all(
        isinstance(text, str) for pair in pairs.items() for text in pair
    ):
        raise TypeError(f"{name} must be a mapping of str to str, not {shown(pairs)}")
    return dict(pairs)


def account_of(options: S3Options) -> tuple[Any, ...]:
    """Return what decides on credentials, server and headers of all requests; hashable."""
    rest = (options.anonymous, options.region, options.requester_pays, options.sse_c_key)
    return server_of(options) + rest


def server_of(options: S3Options) -> tuple[Any, ...]:
    """Return what decides which object an s3:// URL means, as far as it is known."""
    return options.endpoint_url, options.profile, options.session


def read_key(options: S3Options) -> bytes | None:
    """Return the key for SSE-C; None if there is none.

    Raises:
        StorageError: the file of the key can't be read, or holds no key.
    """
    place = options.sse_c_key
    if place is None or isinstance(place, bytes):
        return place
    try:
        held = Path(place).read_bytes()
        key = held if len(held) == SSE_C_KEY_BYTES else b64decode(held.strip(), validate=True)
    except OSError as exc:
        raise StorageError(f"{place}: the key for SSE-C can't be read: {exc.strerror}") from exc
    except ValueError:
        key = b""
    if len(key) != SSE_C_KEY_BYTES:
        raise StorageError(
            f"{place}: this is no key for SSE-C, which has 32 bytes, as they are or in base64"
        )
    return key
