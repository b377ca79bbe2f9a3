"""Stores: each delivers the bytes of one blob."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from blobpack.stores.local import LocalStore

if TYPE_CHECKING:
    import os

    from blobpack.stores.base import Store


SCHEMES = ("file", "s3")
TAIL_BYTES = 128 << 10  # holds the footer, the guide and the directory of a million members


def scheme_of(url: str) -> str:
    """Tell which kind of place a blob lies in: "" for a path, "file" or "s3".

    Raises:
        ValueError: a URL of another kind, or one that names no object.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        return ""
    if scheme not in SCHEMES:
        raise ValueError(
            f"{url!r}: blobs are read from paths, file:// and s3:// URLs, not {scheme}://"
        )
    bucket, _, key = rest.partition("/")
    if scheme == "s3" and not (bucket and key):
        raise ValueError(f"{url!r} is not s3://bucket/key")
    return scheme


def is_local(url: str | os.PathLike[str]) -> bool:
    """Tell whether a URL is a path, or a file:// URL."""
    return not isinstance(url, str) or scheme_of(url) in ("", "file")


def open_store(url: str | os.PathLike[str], *, tail: bool = False) -> Store:
    """Open the store for a path, file:// or s3:// URL.

    Args:
        url: Where the blob lies.
        tail: Of a blob far away, fetch the last bytes in the request that opens it: an index may be there.

    Raises:
        BlobNotFoundError: there is no such blob.
        StorageError: the store could not be reached, or refused.
        ValueError: a URL of another kind.
    """
    scheme = scheme_of(url) if isinstance(url, str) else ""
    if scheme == "s3":
        from blobpack.stores.s3 import S3Store

        return S3Store(str(url), tail_bytes=TAIL_BYTES if tail else 0)
    return LocalStore(local_name(url))


def local_name(url: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Turn a file:// URL of this host into its path, any other into its last part; a path stays.

    Source: RFC 8089.
    """
    scheme = scheme_of(url) if isinstance(url, str) else ""
    if not scheme:
        return url
    if scheme == "s3":
        return str(url).rpartition("/")[2]
    host, slash, path = str(url).partition("://")[2].partition("/")
    if host not in ("", "localhost"):
        raise ValueError(f"{url!r} is on another host")
    return unquote(slash + path, errors="surrogateescape")
