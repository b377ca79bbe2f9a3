"""ETags: names of versions, which servers write with quotes, without them, or weak.

Source: RFC 9110, 8.8.3. Servers of S3 leave out the quotes in listings (rclone serve s3) or everywhere. Proxies and CDNs
make ETags weak: they put W/ in front of the ETag that the server behind them sent.
"""

from __future__ import annotations

import logging

from blobpack.errors import BlobChangedError

log = logging.getLogger(__name__)

WEAK = "W/"


def with_quotes(etag: str) -> str:
    """Return an ETag in quotes, as blobpack keeps and compares it; "" if there is none."""
    return f'"{etag}"' if etag and not etag.endswith('"') else etag


def bare(etag: str) -> str:
    """Return the text of an ETag, without W/ and quotes."""
    return etag.removeprefix(WEAK).strip('"')


def is_strong(etag: str) -> bool:
    """Return whether an ETag changes with every byte, and may stand in If-Match (RFC 9110, 13.1.1)."""
    return bool(etag) and not etag.startswith(WEAK)


def differ(one: str, other: str) -> bool:
    """Return whether two ETags name different versions; False if one of them is missing."""
    return bool(one and other) and bare(one) != bare(other)


def check_opened(url: str, found: str, wanted: str | None) -> None:
    """Compare the version of a blob that was just opened with the wanted one, and warn if the server sends none.

    Args:
        url: URL of the blob.
        found: Its version; "" if the server sends none.
        wanted: Version that it must have; None accepts any.

    Raises:
        BlobChangedError: it has another version.
    """
    if not found:
        log.warning(
            "%s: the server sends no ETag or version, so changes of the blob can't be noticed", url
        )
    if wanted is not None and differ(wanted, found):
        raise BlobChangedError(f"{url}: its version is {found}, not {wanted}")
