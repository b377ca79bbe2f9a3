"""Tokens: capabilities to read what a path covers, for URLs and for programs.

A token is `v1.<key id>.<scope>.<signature>`, of letters, digits, "-", "_" and dots. It stands in the path of a URL,
`/k/<token>/b/…`, because many tools find the format of an image by the suffix of its URL, and drop or change queries. A
program can send the token as `Authorization: Bearer <token>` instead.

Strategy: a token is a pure function of key, scope and day of expiry. So the URLs in two exports are equal, and caches and
annotation tools recognise them. Nothing is stored. To revoke a token, its key is removed from the server's keys, which
revokes all tokens of this key.
"""

from __future__ import annotations

import hmac
import os
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import datetime
    from collections.abc import Container, Mapping

ACCESS_KEY_VARIABLE = "BLOBPACK_SERVE_ACCESS_KEY"
SECRET_KEY_VARIABLE = "BLOBPACK_SERVE_SECRET_KEY"  # noqa: S105 (the variable's name)
# part of every token, and of the credentials in a request to S3, where a "/" follows it
ACCESS_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
VERSION = "v1"
# so that no signature of a token is also one of AWS's kind, made with the same secret
PURPOSE = b"blobpack serve: token v1"
SIGNATURE_BYTES = 16
DAY_S = 86400
BEARER = b"bearer "
# key in the ASGI scope of the grant of the token in the path
GRANT = "blobpack.grant"


class Grant(NamedTuple):
    """The members that a request may read.

    Attributes:
        path: `blob/member`, or a prefix of such paths.
        is_prefix: Whether everything that begins with the path may be read.
        blob: The only blob of which something may be read; "" if the path names none. A blob's name may begin as a
            member of another blob does.
    """

    path: str
    is_prefix: bool
    blob: str = ""

    def among(self, names: Container[str]) -> Grant:
        """Return this grant, limited to the blob that its path names: that of the longest name, as in URLs.

        Args:
            names: Names of all served blobs.
        """
        end = self.path.rfind("/")
        while end >= 0 and self.path[:end] not in names:
            end = self.path.rfind("/", 0, end)
        return self._replace(blob=self.path[: max(end, 0)])

    def covers(self, blob: str, member: str) -> bool:
        """Return whether a member may be read."""
        path = f"{blob}/{member}"
        is_covered = path.startswith(self.path) if self.is_prefix else path == self.path
        return is_covered and self.blob in ("", blob)

    def covers_all(self, blob: str, prefix: str = "") -> bool:
        """Return whether all members of a blob whose names begin with a prefix may be read."""
        return self.is_prefix and self.covers(blob, prefix)


EVERYTHING = Grant("", is_prefix=True)


class Keys:
    """The key pairs of a server. Tokens are made with the first pair; tokens of all pairs are accepted."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """Use these secret keys by their access keys.

        Raises:
            ValueError: an access key has other characters than letters, digits, "-" and "_", or a secret is empty.
        """
        for access_key, secret in secrets.items():
            if not ACCESS_KEY.fullmatch(access_key):
                raise ValueError(
                    f"an access key has 1 to 128 letters, digits, '-' and '_', unlike {access_key!r}"
                )
            if not secret:
                raise ValueError(f"the secret key of {access_key!r} is empty")
        self._secrets = dict(secrets)
        self._signing = {
            access_key: hmac.digest(secret.encode(), PURPOSE, "sha256")
            for access_key, secret in secrets.items()
        }

    def __len__(self) -> int:
        return len(self._secrets)

    def secret_of(self, access_key: str) -> str | None:
        """Return the secret key of an access key; None if there is no such key."""
        return self._secrets.get(access_key)

    def token(self, scope: str, *, expires: datetime.date | None = None) -> str:
        """Make a token.

        Args:
            scope: What it covers: `blob` or `blob/` for a whole blob; `blob/prefix/` or `blob/prefix*` for the members
                whose names begin with the prefix; `blob/member` for one member; `*` for everything.
            expires: Last day, in UTC, on which it is valid; None: until its key is removed.

        Raises:
            ValueError: there are no keys.
        """
        if not self._signing:
            raise ValueError("there are no keys to make a token with")
        path, is_prefix = parsed_scope(scope)
        # Days and not seconds, so that all exports of one day make equal URLs.
        day = "" if expires is None else str(expires.toordinal() - EPOCH_DAY)
        packed = f"{day}{'*' if is_prefix else '='}{path}".encode("utf-8", "surrogateescape")
        return self._signed(next(iter(self._signing)), base64url(packed))

    def _signed(self, access_key: str, scope: str) -> str:
        text = f"{VERSION}.{access_key}.{scope}"
        signature = hmac.digest(self._signing[access_key], text.encode(), "sha256")
        return f"{text}.{base64url(signature[:SIGNATURE_BYTES])}"

    def grant_of(self, token: str) -> Grant | None:
        """Return what a token covers; None if it is not valid, or not any more."""
        parts = token.split(".")
        if len(parts) != 4 or parts[1] not in self._signing or not token.isascii():
            return None
        # The whole text is compared, because base64 has unused bits: otherwise one token would have several spellings.
        if not hmac.compare_digest(self._signed(parts[1], parts[2]), token):
            return None
        # this server has signed it, so it has this form
        packed = urlsafe_b64decode(parts[2] + "=" * (-len(parts[2]) % 4))
        text = packed.decode("utf-8", "surrogateescape")
        mark = re.search("[*=]", text)
        if mark is None:
            return None
        day = text[: mark.start()]
        if day and time.time() >= (int(day) + 1) * DAY_S:
            return None
        return Grant(text[mark.end() :], mark[0] == "*")


class Access:
    """Decides what a request may read.

    Attributes:
        keys: The server's keys.
        is_token_required: Whether a request without a token may read nothing.
    """

    def __init__(
        self, keys: Keys, *, require_token: bool, names: Container[str] = frozenset()
    ) -> None:
        """Use keys.

        Args:
            keys: The server's keys.
            require_token: A request without a token may read nothing.
            names: Names of all served blobs.

        Raises:
            ValueError: tokens are required, and there are no keys.
        """
        if require_token and not keys:
            raise ValueError("tokens can't be required without keys")
        self.keys, self.is_token_required = keys, require_token
        self._without_token = None if require_token else EVERYTHING
        self._names = names

    def grant_of_token(self, token: str) -> Grant | None:
        """Return what a token covers; None if it is not valid, or not any more."""
        grant = self.keys.grant_of(token)
        return None if grant is None else grant.among(self._names)

    def grant_of(self, authorization: bytes | None) -> Grant | None:
        """Return the grant of a request without a token in its path.

        Args:
            authorization: The value of its header Authorization; None if it has none.

        Returns:
            None if the request must be answered with 401.
        """
        if authorization is None or authorization[: len(BEARER)].lower() != BEARER:
            return self._without_token
        return self.grant_of_token(authorization[len(BEARER) :].strip().decode("latin-1"))


def parsed_scope(scope: str) -> tuple[str, bool]:
    """Return the path of a scope as the user writes it, and whether the path is a prefix; see Keys.token."""
    if scope.endswith("*"):
        return scope[:-1], True
    # a scope without "/" names a whole blob
    if "/" not in scope:
        return f"{scope}/", True
    return scope, scope.endswith("/")


def base64url(data: bytes) -> str:
    """Return bytes as base64url without padding (RFC 4648, 5)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def keys_in_environment() -> Keys:
    """Return the key pair of the environment, if there is one.

    Raises:
        ValueError: only one of the two variables is set, or the access key has a wrong form.
    """
    access_key = os.environ.get(ACCESS_KEY_VARIABLE, "")
    secret = os.environ.get(SECRET_KEY_VARIABLE, "")
    if bool(access_key) != bool(secret):
        raise ValueError(f"set both {ACCESS_KEY_VARIABLE} and {SECRET_KEY_VARIABLE}, or none")
    return Keys({access_key: secret} if access_key else {})


def read_keys(text: str) -> Keys:
    """Return the key pairs in a file's text: `ACCESS_KEY:SECRET_KEY`, one pair a line; "#" begins a comment.

    Raises:
        ValueError: a line is not such a pair, or there are no pairs. No message holds a secret.
    """
    secrets: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        access_key, colon, secret = line.strip().partition(":")
        if not (colon and secret and ACCESS_KEY.fullmatch(access_key)):
            raise ValueError(f"line {number} is not ACCESS_KEY:SECRET_KEY")
        secrets[access_key] = secret
    if not secrets:
        raise ValueError("there is no line ACCESS_KEY:SECRET_KEY")
    return Keys(secrets)


# of 1970-01-01, as datetime.date counts days
EPOCH_DAY = 719163
