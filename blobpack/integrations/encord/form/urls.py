"""URLs in the form that Encord accepts: of members below a gateway, of whole objects, and through a multi-region access point.

Strategy: Encord compares URLs as texts to find out what is registered already. So a URL is a pure function of the base and of
the member's name, and a signed URL, which differs in each run, is refused where URLs are compared.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from blobpack.integrations.encord.form.kinds import URL_BYTES_MAX
from blobpack.integrations.urls import without_token
from blobpack.model import check_text, redacted, shown
from blobpack.stores.location import Location

SCHEMES = ("http", "https", "s3")
WHITE_SPACE = re.compile(r"[\s\x00-\x1f\x7f]")
# AWS, "Multi-Region Access Point ARNs"; it has no region
ACCESS_POINT = re.compile(r"arn:aws[a-z-]*:s3::[0-9]{12}:accesspoint/[A-Za-z0-9.-]+\.mrap")
# parameters of signatures: AWS (SigV4 and SigV2, CloudFront), Google, Azure
SIGNED = {"x-amz-signature", "signature", "x-goog-signature", "sig"}


def check_base_url(base_url: object) -> str:
    """Return the URL of a blob at a gateway, below which its members have URLs.

    Raises:
        TypeError: the value is not a str.
        ValueError: it is no http(s):// URL, holds white space or other than ASCII, or has a query or a fragment.
    """
    check_text("base_url", base_url)
    assert isinstance(base_url, str)  # noqa: S101 (check_text has found it)
    is_web = base_url.startswith(("http://", "https://"))
    fault = fault_of_url(base_url) if is_web else ""
    if fault or not is_web:
        raise ValueError(
            f"base_url must be an http(s):// URL, such as https://host/b/out, not {shown(without_token(base_url))}"
            + (f": it {fault}" if fault else "")
        )
    if not base_url.isascii() or "?" in base_url or "#" in base_url:
        raise ValueError(
            f"base_url must be percent-encoded, and have no query and no fragment, unlike {shown(without_token(base_url))}: a token "
            "stands in its path, /k/<token>/b/…"
        )
    return base_url.rstrip("/")


def fault_of_url(url: object) -> str:
    """Return what Encord would not accept in the URL or ARN of an object; "" if nothing."""
    if not isinstance(url, str):
        return f"is no text, but {shown(url)}"
    if WHITE_SPACE.search(url):
        return "holds white space, which has to be percent-encoded"
    size = len(url.encode("utf-8", "surrogatepass"))
    if size > URL_BYTES_MAX:
        return f"has {size:,} bytes, and Encord accepts 16 KB"
    if url.startswith("arn:"):
        return _fault_of_arn(url)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        return "is neither an http(s):// or s3:// URL nor the ARN of an access point"
    host, _, key = rest.partition("/")
    if not host or (scheme == "s3" and not key):
        return "names no object"
    return ""


def _fault_of_arn(url: str) -> str:
    match = ACCESS_POINT.match(url)
    if match is None:
        return "is not the ARN of a multi-region access point, arn:aws:s3::<account>:accesspoint/<alias>.mrap"
    if not url[match.end() :].startswith("/") or match.end() + 1 == len(url):
        return 'names no object: "/" and the key follow the ARN'
    return ""


def check_object_url(name: str, url: object) -> str:
    """Return the URL or ARN of a whole object.

    Args:
        name: Name of the argument, for messages.
        url: Its value.

    Raises:
        TypeError: the value is not a str.
        ValueError: Encord would not accept it.
    """
    check_text(name, url)
    # a key may hold white space; it is percent-encoded when the URL is registered
    fault = "" if _is_key(url) else fault_of_url(url)
    if fault:
        raise ValueError(f"{name} {shown(url)} {fault}")
    return str(url)


def _is_key(url: object) -> bool:
    """Return whether a URL is s3://bucket/key."""
    try:
        return Location.parse(str(url)).is_s3
    except ValueError:
        return False


def is_signed(url: str) -> bool:
    """Return whether a URL holds a signature, so that the same object has another URL in each run."""
    if "?" not in url:
        return False
    return any(name.lower() in SIGNED for name, _ in parse_qsl(urlsplit(url).query))


def check_access_point(access_point: object) -> str:
    """Return the ARN of a multi-region access point.

    Raises:
        TypeError: the value is not a str.
        ValueError: it is another text.
    """
    check_text("access_point", access_point)
    arn = str(access_point).rstrip("/")
    if not ACCESS_POINT.fullmatch(arn):
        raise ValueError(
            "access_point must be the ARN of a multi-region access point, such as "
            f"arn:aws:s3::123456789012:accesspoint/alias.mrap, not {shown(access_point)}"
        )
    return arn


def registered_url(url: str, access_point: str | None = None) -> str:
    """Return the URL by which Encord gets an object in S3; any other URL unchanged.

    Args:
        url: Its URL. An s3:// URL becomes the https:// URL of its bucket, or the ARN of the access point with its key.
        access_point: ARN of a multi-region access point of its bucket; None if there is none.

    Raises:
        StorageError: the https:// URL of a bucket can't be found: there are no credentials, say.
        ValueError: the ARN and the key together hold white space, or are too long.
    """
    if not url.startswith("s3://"):
        return url
    place = Location.parse(url)
    # an s3:// URL may name an access point in place of a bucket
    arn = place.bucket if place.bucket.startswith("arn:") else access_point
    if arn is not None:
        return check_object_url("url", f"{arn}/{place.key}")
    from blobpack.stores.s3.bucket import Bucket, ObjectKey

    return check_object_url("url", ObjectKey(Bucket.at(place), place.key).web_url())


def shown_url(url: str) -> str:
    """Return a URL for a message, without what may be a secret."""
    return redacted(url)
