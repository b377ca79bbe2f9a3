"""URLs below which tools find members: those of a gateway, or prefixes in S3."""

from __future__ import annotations

import re

from blobpack.model import check_text, redacted
from blobpack.quoting import url_below

S3 = "s3"
WEB = ("http", "https")
NOT_IN_URLS = re.compile(r"\s")
# the token of `blobpack serve` in a URL
TOKEN = re.compile(r"(?<=/k/)[^/]+")


def check_base(name: str, url: object, schemes: tuple[str, ...] = WEB) -> str:
    """Check that an argument is a URL that names of members can be added to, and return it.

    Args:
        name: Name of the argument, for messages.
        url: Its value.
        schemes: The schemes that it may have.

    Raises:
        TypeError: the value is no str.
        ValueError: the URL has another scheme, no host, white space, a query or a fragment.
    """
    check_text(name, url)
    base = str(url)
    scheme, separator, rest = base.partition("://")
    if not separator or scheme.lower() not in schemes or rest[:1] in ("", "/"):
        begins = " or ".join(f"{each}://" for each in schemes)
        raise ValueError(
            f"{name} must begin with {begins}, and name a host, not {without_token(base)!r}"
        )
    if NOT_IN_URLS.search(base):
        raise ValueError(f"{name} {without_token(base)!r} has white space: percent-encode it")
    # the name of a member would become a part of the query; in a key of S3, "?" and "#" are plain characters
    if scheme.lower() != S3 and ("?" in base or "#" in base):
        raise ValueError(
            f"{name} {without_token(base)!r} must end with a path, without a query or a fragment"
        )
    return base


def url_of(base: str, name: str) -> str:
    """Return the URL of a member or object below the URL of its blob or prefix.

    In an http(s):// URL the name is percent-encoded. In an s3:// URL it is part of a key, as it is.
    """
    if base.lower().startswith(f"{S3}://"):
        return f"{base.rstrip('/')}/{name}"
    return url_below(base, name)


def without_token(url: str) -> str:
    """Return a URL for messages and reports: without the token of a gateway, its user and its query."""
    return redacted(TOKEN.sub("…", url, count=1))
