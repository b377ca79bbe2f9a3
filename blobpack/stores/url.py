"""Parse URLs of files, of S3 and of web servers, and recognise URLs that lost a slash."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from blobpack.model import redacted

if TYPE_CHECKING:
    from urllib.parse import SplitResult

# "s3:/bucket/key": pathlib makes one slash of two. Schemes have a character or more (RFC 3986, 3.1); one of a single letter
# may be the name of a folder.
LOST_SLASH = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
DEFAULT_PORTS = {"http": 80, "https": 443}
# the server's name stands in a request's Host line
NOT_IN_HOST = re.compile(r"[\x00-\x20\x7f]")

# The bucket of an s3:// URL, and what follows. In AWS's own spelling, the ARN of an access point holds slashes (Amazon S3
# User Guide, "Referencing access points").
ARN = re.compile(r"(arn:[^/]*:(?:outpost/[^/]+/)?accesspoint/[^/]+|[^/]*)/?(.*)", re.DOTALL)
# A version of an object. In a key, "?" is a plain character, so only this ending is a query. An empty version is the
# latest one: so the URL of a key that itself ends like a version ends in `?versionId=`.
VERSION = re.compile(r"\?versionId=([^/?&#]*)\Z")


def split_url(url: str) -> SplitResult:
    """Split an http:// or https:// URL.

    Raises:
        ValueError: this is not such a URL, or names no host, a user or an impossible port.
    """
    shown = redacted(url)
    try:
        parts = urlsplit(url)
        is_plain = parts.scheme in ("http", "https") and not NOT_IN_HOST.search(parts.netloc)
        host = parts.hostname or ""
        # both raise ValueError: the port is read here, and a name with other letters is encoded
        usable = parts.port != 0 and (host if host.isascii() else host.encode("idna"))
    except ValueError as exc:
        # a password that holds "/" ends the host early, so the reason may show a part of it as the port
        reason = "" if "@" in url else f": {exc}"
        raise ValueError(f"{shown!r} is not http(s)://host/path{reason}") from None
    # Requests carry no Authorization header, so a user and password would be ignored without a word.
    if parts.username is not None:
        raise ValueError(
            f"{shown!r} is not http(s)://host/path: leave out the user name, which is not sent"
        )
    if not (is_plain and usable):
        raise ValueError(f"{shown!r} is not http(s)://host/path")
    return parts


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an http:// or https:// URL."""
    parts = split_url(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or DEFAULT_PORTS[parts.scheme]


def split_s3(rest: str) -> tuple[str, str, str]:
    """Split an s3:// URL behind its scheme into bucket, key and version; see Location.

    Not by urlsplit: in a key, "?" and "#" are plain characters.
    """
    version_id = ""
    if "?versionId=" in rest and (found := VERSION.search(rest)):
        version_id, rest = found[1], rest[: found.start()]
    if rest.startswith("arn:"):
        bucket, key = ARN.match(rest).groups()  # type: ignore[union-attr]  # matches any text
    else:
        bucket, _, key = rest.partition("/")
    return bucket, key, version_id


def latest_version(url: str) -> str:
    """Return the s3:// URL of the latest version of an object; `url` is `s3://`, bucket and key."""
    return f"{url}?versionId=" if VERSION.search(url) else url


def object_url(bucket: str, key: str, version_id: str = "") -> str:
    """Return the s3:// URL of one version of an object; version_id "" means the latest version."""
    url = f"s3://{bucket}/{key}"
    return f"{url}?versionId={version_id}" if version_id else latest_version(url)


def parse_file_url(url: str, rest: str) -> str:
    """Return the path of a file:// URL.

    Raises:
        ValueError: the file is on another host, or the URL names no file.

    Source: RFC 8089.
    """
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost"):
        raise ValueError(f"{redacted(url)!r} is on another host")
    if not slash:
        raise ValueError(f"{url!r} names no file")
    # surrogateescape: a file name may hold bytes that are not UTF-8 (PEP 383)
    return unquote(slash + path, errors="surrogateescape")


def parse_lost_slash(text: str) -> str:
    """Return the path of file:/path (RFC 8089, appendix B), or a path that is not a URL at all.

    Raises:
        ValueError: the text is a URL of another kind that has lost a slash.
    """
    lost = LOST_SLASH.match(text)
    if lost is None:
        return text
    if lost["scheme"].lower() == "file":
        return parse_file_url(text, text[lost.end() - 1 :])
    # redacted() finds secrets by their place in a URL, so it gets both slashes
    found = redacted(text.replace(":/", "://", 1)).replace("://", ":/", 1)
    raise ValueError(
        f"{found!r} is a URL that lost a slash, as pathlib does to it: a URL is a str with '://', and a local path "
        f"begins with './'"
    )


def without_nul(path: str, text: str) -> str:
    """Return the path that a text means.

    Raises:
        ValueError: it holds NUL, which ends a path in every system call.
    """
    if "\0" in path:
        raise ValueError(f"{text!r} is no path, because it holds NUL")
    return path
