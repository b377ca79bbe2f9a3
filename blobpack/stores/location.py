"""Parsed paths and URLs.

Strategy: public functions and the command line parse a path or URL once, and pass it on as a `Location`. No other
module parses URLs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from blobpack.model import redacted
from blobpack.stores.access.hugging_face import hub_url
from blobpack.stores.access.remote import NO_ACCESS, Access
from blobpack.stores.clouds.schemes import check_cloud, is_cloud, split_cloud
from blobpack.stores.url import (
    VERSION,
    latest_version,
    object_url,
    parse_file_url,
    parse_lost_slash,
    split_s3,
    split_url,
    without_nul,
)

Kind = Literal["local", "http", "s3", "cloud"]

KINDS: dict[str, Kind] = {"http": "http", "https": "http", "s3": "s3"}


@dataclass(frozen=True, slots=True)
class Location:
    """A local path, an http(s):// URL, or the URL of an object or prefix in S3 or in another cloud.

    A local location can be passed to `open`, `os.stat` or `Path` like a path. A remote location raises ValueError there.

    A URL may hold secrets: a presigned URL is a password for its object. So `str` and `repr` of a location, and `text`,
    leave out query and user. Only code that sends requests, or stores the URL for later requests, uses `whole`.

    Attributes:
        whole: The path or URL as it was given; the path, if a file:// URL was given.
        kind: "local", "http", "s3", or "cloud" for what obstore and fsspec reach.
        access: How remote blobs are reached. A local location has it, too: a local collection may name blobs in S3.
    """

    whole: str
    kind: Kind
    access: Access = NO_ACCESS

    @classmethod
    def parse(
        cls, place: str | os.PathLike[str], *, prefix: bool = False, access: Access = NO_ACCESS
    ) -> Location:
        """Parse a path or URL. A Location is returned unchanged.

        Args:
            place: A path, or a URL: file://, http(s)://, hf://, s3://, gs://, az:// or another one that fsspec knows.
            prefix: Also accept a bucket without a key.
            access: How remote blobs are reached.

        Raises:
            ValueError: the URL has an unsupported scheme, lost a slash, names no object, or is no URL; or a path holds NUL.
        """
        if isinstance(place, Location):
            return place
        text = place if isinstance(place, str) else os.fspath(place)
        # every path ends at a NUL in system calls, and only a URL holds ":/" where a scheme can stand before it
        if ":/" not in text:
            return cls(without_nul(text, text), "local", access)
        scheme, separator, rest = text.partition("://")
        if not separator:
            return cls(without_nul(parse_lost_slash(text), text), "local", access)
        scheme = scheme.lower()
        if scheme == "hf":
            return cls(hub_url(rest), "http", access)
        if scheme == "file":
            return cls(without_nul(parse_file_url(text, rest), text), "local", access)
        kind = KINDS.get(scheme)
        if kind is None and is_cloud(scheme):
            check_cloud(scheme, rest, prefix=prefix)
            return cls(f"{scheme}://{rest}", "cloud", access)
        if kind is None:
            raise ValueError(
                f"{redacted(text)!r}: blobs are read from paths, file://, s3://, gs://, az://, http(s):// and hf:// URLs, "
                f"and from others that fsspec knows, not {scheme}://"
            )
        if kind == "s3":
            bucket, key, version_id = split_s3(rest)
            if not (bucket and (key or prefix)):
                raise ValueError(f"{text!r} is not s3://bucket/key")
            if not version_id and "?versionId=" in rest:
                rest = latest_version(VERSION.sub("", rest))
        else:
            split_url(text)
        # The scheme is written in one way: two locations of one object must be equal, or a blob that is given as S3://…
        # would be packed into itself (RFC 3986, 3.1: schemes are case-insensitive).
        return cls(f"{scheme}://{rest}", kind, access)

    @classmethod
    def in_s3(cls, bucket: str, key: str, access: Access = NO_ACCESS) -> Location:
        """Return the location of an object in S3."""
        return cls(object_url(bucket, key), "s3", access)

    def at_key(self, key: str) -> Location:
        """Return the location of another object in the bucket of this one."""
        bucket = self.bucket
        whole = f"{self.scheme}://{bucket}/{key}" if bucket else f"{self.scheme}://{key}"
        return self._moved(latest_version(whole) if self.is_s3 else whole)

    @property
    def text(self) -> str:
        """The path or URL for messages, without its secrets; see redacted."""
        return redacted(self.whole) if self.kind == "http" else self.whole

    @property
    def address(self) -> str:
        """The path or URL without the query."""
        return self._address_and_query()[0]

    def _address_and_query(self) -> tuple[str, str]:
        # other objects have other versions, so what lies beside an object does not get its query
        if self.kind != "http":
            return (VERSION.sub("", self.whole) if self.kind == "s3" else self.whole), ""
        address = self.whole.partition("#")[0].partition("?")[0]
        return address, self.whole[len(address) :]

    @property
    def is_local(self) -> bool:
        """True for a path."""
        return self.kind == "local"

    @property
    def is_s3(self) -> bool:
        """True for an object or prefix in S3."""
        return self.kind == "s3"

    @property
    def has_key(self) -> bool:
        """True for an object or prefix, in S3 or in another cloud."""
        return self.kind in ("s3", "cloud")

    @property
    def scheme(self) -> str:
        """The scheme of a URL, in lower case."""
        return self.whole.partition("://")[0]

    @property
    def path(self) -> str:
        """The local path.

        Raises:
            ValueError: the location is remote.
        """
        if self.kind != "local":
            raise ValueError(f"{self.text!r} is not a local path")
        return self.whole

    @property
    def path_or_name(self) -> str:
        """The local path, or the last part of a remote name, as a path in the current folder.

        The command line uses it for files that belong to a blob.
        """
        # decoded first: %2F in the last part of a URL would lead into other folders
        return self.whole if self.kind == "local" else self.remote_name.rpartition("/")[2]

    @property
    def bucket(self) -> str:
        """Name of the bucket, container or host.

        Raises:
            ValueError: the location has no key.
        """
        return self._cloud_parts()[0] if self.kind == "cloud" else self.s3_parts()[0]

    @property
    def key(self) -> str:
        """Key or prefix, which may contain any character.

        Raises:
            ValueError: the location has no key.
        """
        return self._cloud_parts()[1] if self.kind == "cloud" else self.s3_parts()[1]

    def _cloud_parts(self) -> tuple[str, str]:
        scheme, _, rest = self.whole.partition("://")
        return split_cloud(scheme, rest)

    @property
    def version_id(self) -> str:
        """The version of the object in S3, from `?versionId=…` at the end of the URL; "" for the latest one.

        Raises:
            ValueError: the location is not in S3.
        """
        return self.s3_parts()[2]

    def s3_parts(self) -> tuple[str, str, str]:
        """Return bucket, key and version_id together.

        Raises:
            ValueError: the location is not in S3.
        """
        if self.kind != "s3":
            raise ValueError(f"{self.text!r} is not s3://bucket/key")
        return split_s3(self.whole.partition("://")[2])

    @property
    def remote_name(self) -> str:
        """The key, or the decoded path of an http(s):// URL without its leading "/".

        Raises:
            ValueError: the location is local.
        """
        if self.kind == "http":
            return unquote(urlsplit(self.whole).path, errors="surrogateescape").lstrip("/")
        return self.key

    @property
    def folder(self) -> Location:
        """The absolute folder or prefix of a file or object, with "/" at its end; a query stays, as in below."""
        if self.kind == "local":
            parent = os.path.dirname(os.path.abspath(self.whole))  # noqa: PTH100, PTH120 (keeps links)
            return self._moved(os.path.join(parent, ""))  # noqa: PTH118 (keeps the "/")
        address, query = self._address_and_query()
        return self._moved(address[: address.rindex("/") + 1] + query)

    @property
    def as_folder(self) -> Location:
        """This folder or prefix, with one "/" at its end."""
        address, query = self._address_and_query()
        return self._moved(f"{address.rstrip('/')}/{query}")

    def below(self, name: str) -> Location:
        """Return the location of a file in this folder, whose address must be empty or end with "/".

        The query stays: it may be a token for all files below the folder.
        """
        address, query = self._address_and_query()
        return self._moved(address + name + query)

    def beside(self, suffix: str) -> Location:
        """Return the location of the file or object that has this name and a suffix."""
        address, query = self._address_and_query()
        return self._moved(
            (latest_version(address + suffix) if self.is_s3 else address + suffix) + query
        )

    def _moved(self, whole: str) -> Location:
        return Location(whole, self.kind, self.access)

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Location({self.text!r}, {self.kind!r})"


def is_absolute(name: str) -> bool:
    """Return whether a name is a URL or an absolute path, and not relative to a folder."""
    return name.startswith("/") or "://" in name
