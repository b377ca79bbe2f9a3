"""Stores: each delivers the bytes of one blob."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from blobpack.stores.local import LocalStore

if TYPE_CHECKING:
    import os

    from blobpack.stores.base import Store


SCHEMES = ("file", "s3")


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


def open_store(url: str | os.PathLike[str]) -> Store:
    """Open the store for a path, file:// or s3:// URL.

    Raises:
        BlobNotFoundError: there is no such blob.
        StorageError: the store could not be reached, or refused.
        ValueError: a URL of another kind.
    """
    scheme = scheme_of(url) if isinstance(url, str) else ""
    if scheme == "s3":
        from blobpack.stores.s3 import S3Store

        return S3Store(str(url))
    return LocalStore(local_name(url))


def open_tar(url: str | os.PathLike[str]) -> Store:
    """Open the store of a blob's tar: of one that is seekable zstd, what it decompresses to.

    Raises:
        FormatError: it is seekable zstd, and the seek table is damaged.
        The same as open_store.
    """
    from blobpack.stores.zstd import open_seekable

    store = open_store(url)
    try:
        return open_seekable(store) or store
    except BaseException:
        store.close()
        raise


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
