"""A path or URL: what kind of place it names."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    import os

SCHEMES = ("file", "http", "https", "s3")


def scheme_of(url: str) -> str:
    """Tell which kind of place a blob lies in: "" for a path, "file", "http", "https" or "s3".

    Raises:
        ValueError: a URL of another kind, or one that names no object.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        return ""
    if scheme not in SCHEMES:
        raise ValueError(
            f"{url!r}: blobs are read from paths, file://, s3:// and http(s):// URLs, not {scheme}://"
        )
    bucket, _, key = rest.partition("/")
    if scheme == "s3" and not (bucket and key):
        raise ValueError(f"{url!r} is not s3://bucket/key")
    return scheme


def is_local(url: str | os.PathLike[str]) -> bool:
    """Tell whether a URL is a path, or a file:// URL."""
    return not isinstance(url, str) or scheme_of(url) in ("", "file")


def local_name(url: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Turn a file:// URL of this host into its path, any other into its last part; a path stays.

    Source: RFC 8089.
    """
    scheme = scheme_of(url) if isinstance(url, str) else ""
    if not scheme:
        return url
    if scheme != "file":
        return str(url).rpartition("/")[2]
    host, slash, path = str(url).partition("://")[2].partition("/")
    if host not in ("", "localhost"):
        raise ValueError(f"{url!r} is on another host")
    return unquote(slash + path, errors="surrogateescape")


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


def is_s3(url: str | os.PathLike[str]) -> bool:
    """Tell whether a URL is one of S3, be it an object's or a prefix."""
    return isinstance(url, str) and url[:5].lower() == "s3://"
