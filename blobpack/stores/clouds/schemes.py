"""The URLs of other clouds than S3: which schemes there are, and how such a URL is split into bucket and key."""

from __future__ import annotations

import sys

from blobpack.model import redacted

# scheme → the cloud, which obstore reaches
OBSTORE_SCHEMES: dict[str, str] = {
    "gs": "gcs",
    "az": "azure",
    "azure": "azure",
    "adl": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
# Schemes of servers that fsspec reads, itself or with another package. It isn't imported to find out: that takes 30 ms.
FSSPEC_SCHEMES = frozenset(
    (
        *("memory", "ftp", "sftp", "ssh", "smb", "webdav", "webdavs"),
        *("hdfs", "webhdfs", "dbfs", "oss", "oci", "cos", "tos", "lakefs"),
        *("box", "dropbox", "gdrive", "jupyter"),
    )
)
# There is one such file system in a process, and no host or bucket in it.
MEMORY = "memory"


def is_cloud(scheme: str) -> bool:
    """Return whether URLs of a scheme, in lower case, are read through obstore or fsspec."""
    return scheme in OBSTORE_SCHEMES or scheme in FSSPEC_SCHEMES or _is_registered(scheme)


def _is_registered(scheme: str) -> bool:
    """Return whether the program itself has registered a file system of its own with fsspec."""
    fsspec = sys.modules.get("fsspec")
    return fsspec is not None and scheme != "blob" and scheme in fsspec.registry


def split_cloud(scheme: str, rest: str) -> tuple[str, str]:
    """Split a URL behind its scheme into bucket and key.

    The bucket is what can't be left by a path: a bucket, a container, `container@account.dfs.core.windows.net`, or a host.
    """
    if scheme == MEMORY:
        return "", rest.lstrip("/")
    bucket, _, key = rest.partition("/")
    return bucket, key


def check_cloud(scheme: str, rest: str, *, prefix: bool) -> None:
    """Check that a URL names an object, and no password.

    Raises:
        ValueError: it does not.
    """
    url = f"{scheme}://{rest}"
    bucket, key = split_cloud(scheme, rest)
    if ":" in bucket.rpartition("@")[0]:
        raise ValueError(
            f"{redacted(url)!r} holds a password, which would be seen in messages: leave it out, and set it in the "
            f"configuration of fsspec, as FSSPEC_{scheme.upper()}_PASSWORD for example"
        )
    if not ((bucket or scheme == MEMORY) and (key or prefix)):
        shape = f"{scheme}://bucket/key" if scheme in OBSTORE_SCHEMES else f"{scheme}://host/path"
        raise ValueError(f"{redacted(url)!r} is not {shape}")
