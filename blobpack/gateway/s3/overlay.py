"""Real buckets in which blobs are also folders: `s3://bucket/out.tar/cats/1.jpg` is a member of the object `out.tar`.

Everything else is read from the real bucket, with the credentials that this process finds for it. Clients sign with a key
pair of this server. So they can read whatever this process can read, but only from the buckets that it was told to serve.
"""

from __future__ import annotations

import asyncio
import datetime
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from blobpack.errors import BlobChangedError, StorageError
from blobpack.gateway.answers import OCTETS, type_fields
from blobpack.gateway.http_range import conditions_in, seconds_of
from blobpack.gateway.s3.blob_buckets import answer_bucket, send_object
from blobpack.gateway.s3.errors import STATUS_OF, S3Error, not_implemented
from blobpack.gateway.s3.list_objects import ListedKey, Listing
from blobpack.gateway.s3.objects import check_params, overrides_in
from blobpack.gateway.s3.overlay_blobs import OverlayBlobs, blobs_in
from blobpack.gateway.s3.request import bytes_of, text_of
from blobpack.gateway.send_payload import SEND_TIMEOUT_S, BrokenAnswerError, wait_until_gone
from blobpack.stores.s3.relay import relay
from blobpack.threads import shared_pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blobpack.gateway.answers import Fields
    from blobpack.gateway.payloads import Payloads
    from blobpack.gateway.s3.buckets import Bucket
    from blobpack.gateway.s3.exchange import Exchange
    from blobpack.gateway.s3.list_objects import ListRequest
    from blobpack.gateway.s3.overlay_blobs import Place
    from blobpack.gateway.s3.request import S3Request
    from blobpack.stores.access.s3_options import S3Options
    from blobpack.stores.s3.relay import Relayed

RELAYED_AT_ONCE = 32
KEY_BYTES_MAX = 1024
# header field of a request → argument of boto3
CONDITIONS = {
    b"range": "Range",
    b"if-match": "IfMatch",
    b"if-none-match": "IfNoneMatch",
    b"if-modified-since": "IfModifiedSince",
    b"if-unmodified-since": "IfUnmodifiedSince",
}
# fields of S3's answers that are passed on, beside the media type
REPEATED = (
    "accept-ranges",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "etag",
    "expires",
    "last-modified",
    "x-amz-version-id",
)
# codes for errors of HEAD requests, which have no body and so no code
CODE_OF = {
    400: "InvalidRequest",
    403: "AccessDenied",
    404: "NoSuchKey",
    412: "PreconditionFailed",
    416: "InvalidRange",
    503: "SlowDown",
}


class Overlay:
    """Real buckets in which blobs are also folders."""

    def __init__(self, buckets: Iterable[str], payloads: Payloads, options: S3Options) -> None:
        self._buckets, self._payloads = sorted(set(buckets)), payloads
        self._blobs = OverlayBlobs(options)
        self._options = options

    def has(self, name: str) -> bool:
        """Return whether a bucket is served."""
        return name in self._buckets

    def names(self) -> list[tuple[str, int]]:
        """Return the names of the buckets, without times: S3 is not asked for these."""
        return [(name, 0) for name in self._buckets]

    async def answer(self, exchange: Exchange) -> None:
        """Answer a GET or HEAD request for a bucket or an object in it.

        Raises:
            S3Error: S3 refused the request, or there is no such key.
            BlobpackError: the payload can't be read, or S3 could not be reached.
        """
        request = exchange.request
        if request.key:
            await self._answer_object(exchange)
        else:
            await answer_bucket(exchange, partial(self._listing, request.bucket))

    # members of blobs

    async def _answer_object(self, exchange: Exchange) -> None:
        request = exchange.request
        for place, name in blobs_in(request.bucket, request.key):
            if await self._answer_member(exchange, place, name):
                return
        await self._pass_through(exchange)

    async def _answer_member(self, exchange: Exchange, place: Place, name: str) -> bool:
        """Answer a request for a member; return False if there is no blob at the place, or no member of this name."""
        for is_last in (False, True):
            bucket = await self._blobs.get(place)
            member = bucket.find(name) if bucket is not None else None
            if bucket is None or member is None:
                return False
            try:
                await send_object(exchange, self._payloads, member, bucket.changed_of(member))
            except BlobChangedError:
                # the blob was replaced since it was opened, and nothing was sent yet
                self._blobs.forget(place)
                if is_last:
                    raise
            else:
                return True
        return False

    async def _listing(self, name: str, asked: ListRequest) -> Listing:
        prefix = text_of(asked.prefix)
        for place, _ in blobs_in(name, prefix):
            bucket: Bucket | None = await self._blobs.get(place)
            if bucket is not None:
                return await bucket.page(asked, bytes_of(f"{place.key}/"))
        return await self._real_listing(name, asked)

    # the real buckets

    async def _real_listing(self, name: str, asked: ListRequest) -> Listing:
        if asked.api == "versions":
            raise not_implemented("versions")
        arguments: dict[str, Any] = {"Bucket": name, "MaxKeys": asked.max_keys}
        for argument, value in (("Prefix", asked.prefix), ("Delimiter", asked.delimiter)):
            if value:
                arguments[argument] = value.decode("utf-8", "replace")
        marker = asked.marker.decode("utf-8", "replace")
        if asked.api == "1":
            found = await ask(self._options, "list_objects", **arguments, Marker=marker)
        elif asked.token is None:
            found = await ask(self._options, "list_objects_v2", **arguments, StartAfter=marker)
        else:
            found = await ask(
                self._options, "list_objects_v2", **arguments, ContinuationToken=asked.token
            )
        keys = [
            ListedKey(
                one["Key"].encode("utf-8", "surrogatepass"),
                one["ETag"],
                one["Size"],
                int(one["LastModified"].timestamp()),
            )
            for one in found.get("Contents", [])
        ]
        prefixes = [one["Prefix"].encode() for one in found.get("CommonPrefixes", [])]
        follow = found.get("NextContinuationToken" if asked.api == "2" else "NextMarker", "")
        return Listing(keys, prefixes, follow.encode(), is_truncated=found["IsTruncated"])

    async def _pass_through(self, exchange: Exchange) -> None:
        request = exchange.request
        check_params(request)
        overrides = overrides_in(request, is_signed=exchange.is_signed)
        if not can_be_key(request.key):
            raise S3Error("NoSuchKey", "The specified key does not exist.", Key=request.key)
        operation = "get_object" if request.method == "GET" else "head_object"
        arguments = {"Bucket": request.bucket, "Key": request.key, **conditions_of(request)}
        found = await asked(self._options, operation, **arguments)
        fields = fields_of(found, overrides)
        if found.status == 304 or (found.status < 300 and request.method == "HEAD"):
            await exchange.answer(found.status, fields)
        elif found.status < 300:
            await send_relayed(exchange, found, fields)
        else:
            raise error_of(found, request.key)


def can_be_key(key: str) -> bool:
    """Return whether S3 can have a key: UTF-8, without NUL, of 1,024 bytes at most; boto3 and servers fail at others."""
    encoded = bytes_of(key)
    is_text = not any("\ud800" <= char <= "\udfff" for char in key)
    return is_text and b"\0" not in encoded and len(encoded) <= KEY_BYTES_MAX


async def asked(options: S3Options, operation: str, **arguments: Any) -> Relayed:
    """Send a request to S3 in a thread."""
    pool = shared_pool("gateway-relay", RELAYED_AT_ONCE)
    send = partial(relay, options, operation, **arguments)
    return await asyncio.get_running_loop().run_in_executor(pool, send)


async def ask(options: S3Options, operation: str, **arguments: Any) -> dict[str, Any]:
    """Send a request to S3, and return its answer as boto3 parsed it.

    Raises:
        S3Error: S3 refused the request.
    """
    found = await asked(options, operation, **arguments)
    if found.status >= 300:
        raise error_of(found, "")
    return found.found


def error_of(found: Relayed, key: str) -> S3Error:
    """Return the error that S3 answered."""
    code = found.code if found.code in STATUS_OF else CODE_OF.get(found.status, "InternalError")
    details = {"Key": key} if key and code == "NoSuchKey" else {}
    return S3Error(code, found.message, **details)


def conditions_of(request: S3Request) -> dict[str, Any]:
    """Return the conditions and the range of a request as boto3's arguments."""
    found: dict[str, Any] = {}
    for name, value in conditions_in(request.headers).items():
        argument = CONDITIONS.get(name)
        if argument is None:
            continue
        if not name.endswith(b"-since"):
            found[argument] = value.decode("latin-1")
        elif (seconds := seconds_of(value)) is not None:
            found[argument] = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return found


def fields_of(found: Relayed, overrides: dict[bytes, bytes]) -> Fields:
    """Return the header fields of an answer of S3, with those that the request sets in their place."""
    fields = {
        name.encode(): found.fields[name].encode() for name in REPEATED if name in found.fields
    }
    fields |= {
        name.encode(): value.encode()
        for name, value in found.fields.items()
        if name.startswith("x-amz-meta-")
    }
    fields |= overrides
    media_type = fields.pop(b"content-type", b"").decode() or found.fields.get(
        "content-type", OCTETS
    )
    return [*fields.items(), *type_fields(media_type)]


async def send_relayed(exchange: Exchange, found: Relayed, fields: Fields) -> None:
    """Send the body of an object of a real bucket as it comes.

    Raises:
        BrokenAnswerError: S3's answer was cut; the client sees that bytes are missing.
    """
    pool = shared_pool("gateway-relay", RELAYED_AT_ONCE)
    loop = asyncio.get_running_loop()
    gone = asyncio.ensure_future(wait_until_gone(exchange.receive))
    exchange.status = found.status
    start = {"status": found.status, "headers": exchange.fields(fields)}
    await exchange.send({"type": "http.response.start", **start})
    pieces = found.pieces()
    try:
        while piece := await loop.run_in_executor(pool, next, pieces, b""):
            if gone.done():
                return
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await exchange.send(
                    {"type": "http.response.body", "body": piece, "more_body": True}
                )
            exchange.sent += len(piece)
        await exchange.send({"type": "http.response.body", "body": b""})
    except StorageError as exc:
        raise BrokenAnswerError(str(exc)) from exc
    finally:
        await loop.run_in_executor(pool, pieces.close)  # type: ignore[attr-defined]  # a generator
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone
