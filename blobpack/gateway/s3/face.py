"""The S3 face as an ASGI application, read-only: blobs are buckets, members are keys.

Path style only: `http://host:port/bucket/key`. Clients that speak S3 need nothing but this endpoint and a key pair.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from blobpack.errors import BlobpackError
from blobpack.gateway.answers import PREFLIGHT, send_whole, status_of
from blobpack.gateway.metrics import Metrics
from blobpack.gateway.payloads import Payloads
from blobpack.gateway.s3.blob_buckets import BlobBuckets
from blobpack.gateway.s3.errors import S3Error
from blobpack.gateway.s3.exchange import ALLOW, READING, Exchange
from blobpack.gateway.s3.request import S3Request
from blobpack.gateway.s3.signature_check import authenticate
from blobpack.gateway.s3.xml import buckets_xml
from blobpack.stores.access.remote import NO_ACCESS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blobpack.gateway.answers import Receive, Scope, Send
    from blobpack.gateway.served.blobs import ServedBlobs
    from blobpack.gateway.served.renewal import Renewal
    from blobpack.gateway.tokens import Keys
    from blobpack.stores.access.s3_options import S3Options

# S3 itself accepts 8 KB, and nginx 32
HEADERS_BYTES_MAX = 32 << 10
# S3's code for each status of a failed read; clients retry after a 503, but not after a 409
CODE_OF = {409: "OperationAborted", 503: "SlowDown"}


def s3_app(
    blobs: ServedBlobs,
    keys: Keys,
    *,
    unsigned: bool = False,
    overlay: Iterable[str] = (),
    options: S3Options = NO_ACCESS.s3,
    payloads: Payloads | None = None,
    metrics: Metrics | None = None,
) -> S3Face:
    """Make the ASGI application that serves blobs as buckets.

    Args:
        blobs: The blobs.
        keys: The key pairs with which requests may be signed.
        unsigned: Also answer requests without a signature. Without keys, no signature is checked at all.
        overlay: Names of real buckets, in which each blob is also a folder of its members. They are read with the
            account of `options`.
        options: Account and server of these buckets.
        payloads: Reads the payloads; shared with other faces.
        metrics: Counts the answers.

    Raises:
        ValueError: there are no keys, and unsigned requests are not to be answered; or a bucket of the overlay has the
            name of a blob's bucket.
    """
    if not keys and not unsigned:
        raise ValueError("the S3 face needs a key pair, or leave to answer unsigned requests")
    payloads = payloads or Payloads()
    blob_buckets = BlobBuckets(blobs, payloads)
    sources: list[Source] = [blob_buckets]
    if overlay := tuple(overlay):
        for name in filter(blob_buckets.has, overlay):
            raise ValueError(
                f"a blob is served as the bucket {name}, so a real bucket of this name can't be: give the blob another name"
            )
        # imported here: it loads boto3, which takes a second
        from blobpack.gateway.s3.overlay import Overlay

        sources.append(Overlay(overlay, payloads, options))
    return S3Face(
        sources,
        keys,
        blobs.renewal,
        unsigned=unsigned,
        metrics=metrics or Metrics(),
    )


class Source(Protocol):
    """A source of buckets: blobs, or real buckets."""

    def has(self, name: str) -> bool:
        """Return whether a bucket is one of these."""

    def names(self) -> list[tuple[str, int]]:
        """Return the names of the buckets, and times of their last changes, in seconds since 1970 UTC."""

    async def answer(self, exchange: Exchange) -> None:
        """Answer a GET or HEAD request for a bucket or an object in it."""


class S3Face:
    """The ASGI application; s3_app makes it."""

    def __init__(
        self,
        sources: Sequence[Source],
        keys: Keys,
        renewal: Renewal,
        *,
        unsigned: bool,
        metrics: Metrics,
    ) -> None:
        self._sources, self._keys, self._renewal = sources, keys, renewal
        self._unsigned, self._metrics = unsigned, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI 3 has it."""
        if scope["type"] != "http":
            # the S3 face has no WebSockets, and nothing to do when the server starts
            raise NotImplementedError(f"the S3 face has no {scope['type']}")
        # A preflight is never signed, and its answer reveals nothing (Fetch standard, "CORS-preflight fetch").
        if scope["method"] == "OPTIONS":
            await send_whole(send, 204, [*PREFLIGHT, ALLOW])
            return
        await self._renewal.look()
        began = self._renewal.count
        request_id = os.urandom(8).hex().upper()
        exchange = Exchange(S3Request.of_scope(scope), receive, send, request_id)
        try:
            await self._answer(exchange)
        except S3Error as exc:
            await exchange.answer_error(exc)
        except BlobpackError as exc:
            if await self._renewal.is_over(exc, began):
                await self(scope, receive, send)
                return
            status, detail = status_of(exc)
            await exchange.answer_error(S3Error(CODE_OF.get(status, "InternalError"), detail))
        self._metrics.count("s3", exchange.status, exchange.sent)

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        if sum(len(name) + len(value) for name, value in request.headers) > HEADERS_BYTES_MAX:
            raise S3Error(
                "RequestHeaderSectionTooLarge",
                "Your request header section exceeds the maximum allowed size.",
                MaxSizeAllowed=str(HEADERS_BYTES_MAX),
            )
        exchange.is_signed = self._is_signed(request)
        if request.method not in READING:
            raise S3Error(
                "MethodNotAllowed",
                "The specified method is not allowed against this resource: this server only reads.",
                Method=request.method,
                ResourceType="OBJECT" if request.key else "BUCKET",
            )
        if not request.bucket:
            names = [found for source in self._sources for found in source.names()]
            await exchange.answer_xml(buckets_xml(sorted(names)))
            return
        for source in self._sources:
            if source.has(request.bucket):
                await source.answer(exchange)
                return
        raise S3Error(
            "NoSuchBucket", "The specified bucket does not exist", BucketName=request.bucket
        )

    def _is_signed(self, request: S3Request) -> bool:
        """Return whether a request has a right signature; False if the server has no keys to check one.

        Raises:
            S3Error: its signature is wrong, or it has none and must have one.
        """
        if self._unsigned and not self._keys:
            return False
        if authenticate(request, self._keys.secret_of) is not None:
            return True
        if not self._unsigned:
            raise S3Error("AccessDenied", "Access Denied")
        return False
