"""One object in a listing, of S3 or of another cloud."""

from __future__ import annotations

from typing import NamedTuple


class Listed(NamedTuple):
    """An object in a listing.

    Attributes:
        key: Key of the object.
        size: Size in bytes.
        version: ETag; "" if the server sends none.
    """

    key: str
    size: int
    version: str
