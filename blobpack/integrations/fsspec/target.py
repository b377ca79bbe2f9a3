"""The blob behind a chained URL: its own URL, and options for its server, as fsspec's users spell them.

Strategy: fsspec splits `blob://cats/1.jpg::s3://bucket/out.tar` into the path of the member, the protocol "s3" and the path
`bucket/out.tar`. They are joined again here, because blobpack reads blobs by its own stores, and not by s3fs. Users have
options for s3fs and for fsspec's HTTP already, so their names are understood, beside those of S3Options.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from blobpack.model import shown
from blobpack.stores.access.remote import RemoteOptions
from blobpack.stores.access.s3_options import S3Options
from blobpack.stores.arguments import is_place

if TYPE_CHECKING:
    from collections.abc import Mapping

# parameters of blobpack.open
OPEN_OPTIONS = (
    "index",
    "stale",
    "duplicates",
    "allow",
    "open_blobs",
    "cache",
    "cache_bytes",
    "hedge",
)
# those of other clouds, whose accounts come from the environment
CLOUD_PROTOCOLS = ("gs", "gcs", "az", "abfs", "abfss")
# names that fsspec has besides those that blobpack knows
SCHEMES = {"s3a": "s3", "gcs": "gs"}
LOCAL_PROTOCOLS = ("file", "local")
# they say how another file system works, and not what it reads
IGNORED = frozenset(
    (
        *("asynchronous", "auto_mkdir", "block_size", "cache_options", "cache_regions"),
        *("cache_type", "default_block_size", "default_cache_type", "default_fill_cache"),
        *("encoded", "listings_expiry_time", "loop", "max_concurrency", "max_paths", "protocol"),
        *("skip_instance_cache", "use_listings_cache", "use_ssl", "version_aware"),
    )
)
# s3fs's names → those of S3Options
S3_NAMES = {"anon": "anonymous", "region_name": "region"}
S3_FIELDS = frozenset(field.name for field in fields(S3Options))
# the keys of a session, as s3fs and boto3 name them
KEYS = (
    ("key", "aws_access_key_id"),
    ("secret", "aws_secret_access_key"),
    ("token", "aws_session_token"),
)


def target_url(fo: object, protocol: str | None) -> str:
    """Return the path or URL of a blob.

    Args:
        fo: Its path or URL; fsspec takes the protocol off the URLs of some file systems.
        protocol: The protocol; None if it is not known.

    Raises:
        TypeError: this is neither a path nor a URL.
    """
    # fsspec keeps file systems by the text of their arguments, and two open blobs may have the same text
    if not isinstance(fo, (str, os.PathLike)):
        raise TypeError(f"fo must be the path or URL of a blob or collection, not {shown(fo)}")
    place = os.fspath(fo)
    scheme, separator, rest = place.partition("://")
    if separator:
        return f"{SCHEMES.get(scheme, scheme)}://{rest}"
    if protocol is None or protocol in LOCAL_PROTOCOLS:
        return place
    return f"{SCHEMES.get(protocol, protocol)}://{place}"


def remote_options(url: str, options: Mapping[str, Any]) -> RemoteOptions:
    """Return the options for a blob's server.

    Args:
        url: Path or URL of the blob.
        options: Options for its file system: the names of S3Options and of RemoteOptions, and those of s3fs and of fsspec's
            HTTP that have a meaning here.

    Raises:
        TypeError: an option has no meaning here, or a wrong type.
        ValueError: a value is not one of its choices, or two options contradict each other.
    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    given = {name: value for name, value in options.items() if name not in IGNORED}
    # s3fs passes these to botocore, and fsspec's HTTP to aiohttp
    nested = given.pop("client_kwargs", None) or {}
    given = {**nested, **{name: value for name, value in given.items() if value is not None}}
    if scheme == "s3":
        return RemoteOptions(s3=_s3_options(given)) if given else RemoteOptions()
    if scheme in CLOUD_PROTOCOLS and given.keys() <= {"anon", "anonymous"}:
        return RemoteOptions(s3=_s3_options(given)) if given else RemoteOptions()
    if scheme == "hf" and "token" in given:
        given["bearer_token"] = given.pop("token")
    unknown = sorted(given.keys() - {"headers", "bearer_token"})
    if unknown:
        raise TypeError(
            f"blobpack has no option {', '.join(unknown)} for {scheme or 'a local'} blob; it has headers and bearer_token"
        )
    return RemoteOptions(headers=given.get("headers"), bearer_token=given.get("bearer_token"))


def _s3_options(given: dict[str, Any]) -> S3Options:
    options = {S3_NAMES.get(name, name): value for name, value in given.items()}
    key, secret, token = (
        next((options.pop(name) for name in names if name in options), None) for names in KEYS
    )
    unknown = sorted(options.keys() - S3_FIELDS)
    if unknown:
        raise TypeError(
            f"blobpack has no option {', '.join(unknown)} for a blob in S3; it has those of S3Options, and anon, key, "
            "secret, token and client_kwargs"
        )
    if (key is None) != (secret is None):
        raise ValueError("key and secret must be given together")
    if key is not None:
        from blobpack.stores.s3.client import session_with_keys

        options["session"] = session_with_keys(key, secret, token, options.get("region"))
    return S3Options(**options)


def check_open_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of a file system that are for blobpack.open.

    Raises:
        TypeError: an option does not exist, or the index is neither a path nor a URL.
    """
    given = {name: value for name, value in options.items() if name not in IGNORED}
    unknown = sorted(given.keys() - set(OPEN_OPTIONS))
    if unknown:
        raise TypeError(
            f"the file system blob has no option {', '.join(unknown)}; it has {', '.join(OPEN_OPTIONS)}, and target_options "
            "for the blob's server"
        )
    # the text of an index, by which fsspec keeps file systems, does not name its members
    index = given.get("index")
    if index is not None and not is_place(index):
        raise TypeError(f"index must be a path or URL here, not {shown(index)}")
    return given
