"""An object in S3 about which nothing need be asked first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.stores.location import Location
from blobpack.stores.s3.store import S3Store

if TYPE_CHECKING:
    import os

    from mypy_boto3_s3 import S3Client

    from blobpack.stores.http.ranged import Place
    from blobpack.stores.s3.signing import Signatures


class S3Object(S3Store):
    """An object that need not be asked for: a listing told of it, or it is yet to be made."""

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        size: int = 0,
        version: str = "",
        client: S3Client | None = None,
        signatures: Signatures | None = None,
    ) -> None:
        """Take what is known.

        Args:
            url: s3://bucket/key.
            size: Its bytes.
            version: Its ETag.
            client: As of S3Store.
            signatures: Shared by objects that are read once each; None has boto3 sign for this one.
        """
        self.location = Location.parse(url)
        self.url = self.location.text
        self.bucket, self.key = self.location.bucket, self.location.key
        self.use(client)
        self.size, self.version = size, version
        self._signatures = signatures

    def place(self) -> Place:
        """Give the signed request, signed after another object's if the signatures are shared."""
        if self._place is None and self._signatures is not None:
            self._place = self._signatures.place_of(self)
        return super().place()

    def sign(self) -> Place:
        """Have boto3 prepare and sign a GET."""
        return self._sign()

    def secret_key(self) -> str:
        """Find what boto3 signs with; "" if there is nothing."""
        credentials = self.client._request_signer._credentials  # type: ignore[attr-defined]
        return str(credentials.get_frozen_credentials().secret_key) if credentials else ""
