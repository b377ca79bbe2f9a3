"""Stores: each delivers the bytes of one blob."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from blobpack.stores.local import LocalStore

if TYPE_CHECKING:
    from blobpack.stores.base import Store


def open_store(url: str | os.PathLike[str]) -> Store:
    """Open the store for a path, file:// or s3:// URL.

    Raises:
        BlobNotFoundError: there is no such blob.
        StorageError: the store could not be reached, or refused.
        ValueError: a URL of another kind.
    """
    if not isinstance(url, str):
        return LocalStore(url)
    scheme, separator, _ = url.partition("://")
    if not separator:
        return LocalStore(url)
    if scheme == "file":
        return LocalStore(file_path(url))
    if scheme == "s3":
        from blobpack.stores.s3 import S3Store

        return S3Store(url)
    raise ValueError(f"{url!r}: blobs are read from paths, file:// and s3:// URLs, not {scheme}://")


def file_path(url: str) -> str:
    """Turn a file:// URL of this host into a path.

    Source: RFC 8089.
    """
    parts = urlsplit(url, allow_fragments=False)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"{url!r} is on another host")
    return unquote(parts.path, errors="surrogateescape")
