"""The options that all public functions with URLs share, and the value that travels with a Location."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from blobpack.errors import StorageError
from blobpack.model import shown
from blobpack.stores.access.s3_options import S3Options, server_of
from blobpack.stores.access.signature import with_options

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., object]")


class RemoteOptions(TypedDict, total=False):
    """Options that all functions with URLs share: how remote blobs are reached.

    Attributes:
        s3: Account, server and properties of uploads, for s3:// URLs; see S3Options. None: the account of the environment
            and of the AWS configuration files.
        headers: Headers of each request for http(s):// URLs. They are sent to the server of the URL, and to no other one
            that it redirects to. They can't be pickled, as they may hold secrets.
        bearer_token: Token that is sent to that server as `Authorization: Bearer …`; or the path, as a Path, of a file
            that holds it. Only a path can be pickled. For hf:// URLs, the token of the Hugging Face login is used.
    """

    s3: S3Options | None
    headers: Mapping[str, str] | None
    bearer_token: str | os.PathLike[str] | None


class CopyOptions(RemoteOptions, total=False):
    """Options that functions with sources and a target share: how both are reached. They include RemoteOptions.

    Attributes:
        source_s3: Account and server of s3:// URLs among the sources. None: those of the target, `s3`. An open blob
            keeps the options that it was opened with.
    """

    source_s3: S3Options | None


REMOTE_DEFAULTS = RemoteOptions(s3=None, headers=None, bearer_token=None)
COPY_DEFAULTS = CopyOptions(**REMOTE_DEFAULTS, source_s3=None)

# a token (RFC 9110, 5.6.2), and what a value may hold (5.5)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
BEARER_TOKEN = re.compile(r"[\x21-\x7e]+")
# blobpack sets them itself, or reads answers as if they were not sent
OWN_HEADERS = (
    *("host", "range", "accept-encoding", "user-agent", "connection", "content-length"),
    *("transfer-encoding", "te", "upgrade", "expect", "proxy-authorization"),
)


# Compared by server alone: locations of one object must be equal, whatever the properties of uploads are, or a blob would
# be packed into itself.
@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """The options with which remote blobs are reached, after their check.

    Attributes:
        s3: Account, server and properties of uploads, for s3:// URLs.
        headers: Headers of requests for http(s):// URLs.
        bearer_token: Token for these requests, or the path of its file.
    """

    s3: S3Options = S3Options()  # noqa: RUF009 (frozen)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    bearer_token: str | os.PathLike[str] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, function: str, options: RemoteOptions) -> Access:
        """Check the options that a caller gave.

        Args:
            function: Name of the public function that was called, for messages.
            options: The options.

        Raises:
            TypeError: an option does not exist, or its value has a wrong type.
        """
        # the usual case
        if not options:
            return NO_ACCESS
        _check_names(function, options, REMOTE_DEFAULTS)
        given: dict[str, Any] = {
            name: value for name, value in options.items() if value is not None
        }
        if not given:
            return NO_ACCESS
        s3 = given.get("s3", NO_ACCESS.s3)
        if not isinstance(s3, S3Options):
            raise TypeError(f"s3 must be S3Options, not {shown(s3)}")
        headers = _checked_headers(given.get("headers", {}))
        token = given.get("bearer_token")
        _check_token(token)
        if token is not None and any(name.lower() == "authorization" for name, _ in headers):
            raise ValueError("bearer_token can't be combined with the header Authorization")
        return cls(s3, headers, token)

    def headers_now(self) -> dict[str, str]:
        """Return the headers of requests for http(s):// URLs, with the token as its file holds it now.

        Raises:
            StorageError: the file of the token can't be read, or holds no token.
        """
        headers, token = dict(self.headers), self.bearer_token
        if isinstance(token, os.PathLike):
            token = _read_token(token)
        return headers if token is None else headers | {"Authorization": f"Bearer {token}"}

    def __reduce__(self) -> tuple[Callable[..., Access], tuple[Any, ...]]:
        """Return what pickle keeps.

        Raises:
            TypeError: there are headers, or a token, which are secrets.
        """
        if self.headers:
            raise TypeError(
                "headers can't be pickled, as they may hold secrets: open the blob again in the other process"
            )
        if isinstance(self.bearer_token, str):
            raise TypeError(
                "a bearer_token can't be pickled, as it is a secret: give the Path of a file that holds it"
            )
        return Access, (self.s3, self.headers, self.bearer_token)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Access) and server_of(self.s3) == server_of(other.s3)

    def __hash__(self) -> int:
        return hash(server_of(self.s3))


# nothing given: the environment and the configuration files decide
NO_ACCESS = Access()


def accesses_of(function: str, options: CopyOptions) -> tuple[Access, Access]:
    """Check the options that a caller gave, and return how the sources and the target are reached.

    Args:
        function: Name of the public function that was called, for messages.
        options: The options.

    Raises:
        TypeError: an option does not exist, or its value has a wrong type.
    """
    if not options:
        return NO_ACCESS, NO_ACCESS
    _check_names(function, options, COPY_DEFAULTS)
    source_s3 = options.get("source_s3")
    shared: RemoteOptions = {
        "headers": options.get("headers"),
        "bearer_token": options.get("bearer_token"),
    }
    target = Access.of(function, {**shared, "s3": options.get("s3")})
    if source_s3 is None:
        return target, target
    if not isinstance(source_s3, S3Options):
        raise TypeError(f"source_s3 must be S3Options, not {shown(source_s3)}")
    return Access.of(function, {**shared, "s3": source_s3}), target


def _check_names(function: str, options: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Raise TypeError for an option that does not exist."""
    # Python itself accepts any keyword for **options, so a misspelt option would be ignored
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        raise TypeError(
            f"{function}() got an unexpected keyword argument {unknown!r}; **remote accepts only {', '.join(known)}"
        )


def with_copy_options(function: F) -> F:
    """Add the options of CopyOptions to the signature and the help of a function that takes them as **remote."""
    return with_options(COPY_DEFAULTS, CopyOptions, RemoteOptions)(function)


def with_remote_options(function: F) -> F:
    """Add the options of RemoteOptions to the signature and the help of a function that takes them as **remote."""
    return with_options(REMOTE_DEFAULTS, RemoteOptions)(function)


def _checked_headers(headers: object) -> tuple[tuple[str, str], ...]:
    """Return headers as pairs.

    Raises:
        TypeError: they are no mapping of str to str.
        ValueError: a name or value can't be sent, or blobpack sets this header itself.
    """
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a mapping of str to str, not {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("headers must be a mapping of str to str")
        # a line end would begin another header, or another request
        if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            raise ValueError(f"headers: {name!r}, or its value, can't be sent in a header")
        if name.lower() in OWN_HEADERS or name.lower().startswith("if-"):
            raise ValueError(f"headers: blobpack itself sets {name}, or can't do with it")
    return tuple(headers.items())


def _check_token(token: object) -> None:
    if token is None or isinstance(token, os.PathLike):
        return
    if not isinstance(token, str):
        raise TypeError(
            f"bearer_token must be a str, or the Path of a file, not {type(token).__name__}"
        )
    if not BEARER_TOKEN.fullmatch(token):
        raise ValueError("bearer_token must have visible ASCII characters only, and at least one")


def _read_token(path: os.PathLike[str]) -> str:
    try:
        token = Path(path).read_text().strip()
    except (OSError, ValueError) as exc:
        raise StorageError(f"{path}: the bearer token can't be read: {exc}") from exc
    if not BEARER_TOKEN.fullmatch(token):
        raise StorageError(f"{path}: this file holds no bearer token")
    return token
