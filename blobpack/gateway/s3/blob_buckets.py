"""Answers for blobs as buckets: ListBuckets, HeadBucket, listings, HeadObject and GetObject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.gateway.payloads import check_unchanged
from blobpack.gateway.s3.buckets import Bucket, buckets_of, changed_at
from blobpack.gateway.s3.errors import S3Error, not_implemented
from blobpack.gateway.s3.list_objects import list_request
from blobpack.gateway.s3.objects import answer_object
from blobpack.gateway.s3.xml import listing_xml, location_xml, versioning_xml

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from blobpack.gateway.payloads import Payloads
    from blobpack.gateway.s3.exchange import Exchange
    from blobpack.gateway.s3.list_objects import Listing, ListRequest
    from blobpack.gateway.served.blob import ServedBlob, ServedMember
    from blobpack.gateway.served.blobs import ServedBlobs

# subresources of a bucket that are not supported here
SUBRESOURCES = frozenset(
    b"accelerate acl analytics cors encryption intelligent-tiering inventory lifecycle logging metrics notification "
    b"object-lock ownershipControls policy policyStatus publicAccessBlock replication requestPayment tagging uploads "
    b"website".split()
)


class BlobBuckets:
    """Blobs as buckets."""

    def __init__(self, blobs: ServedBlobs, payloads: Payloads) -> None:
        self._buckets, self._payloads = buckets_of(blobs), payloads
        blobs.follow(self._replace)

    def _replace(self, blob: ServedBlob) -> None:
        for name, bucket in self._buckets.items():
            if bucket.blob.name == blob.name:
                self._buckets = {**self._buckets, name: Bucket(name, blob, changed_at(blob))}

    def has(self, name: str) -> bool:
        """Return whether a bucket is served."""
        return name in self._buckets

    def names(self) -> list[tuple[str, int]]:
        """Return the names of the buckets, in order, and the times of their last changes."""
        return sorted((name, bucket.changed_s) for name, bucket in self._buckets.items())

    async def answer(self, exchange: Exchange) -> None:
        """Answer a GET or HEAD request for a bucket or an object in it.

        Raises:
            S3Error: there is no such key, or the request asks for something that does not exist here.
            BlobpackError: the payload can't be read.
        """
        bucket, key = self._buckets[exchange.request.bucket], exchange.request.key
        if not key:
            await answer_bucket(exchange, bucket.page)
            return
        member = bucket.find(key)
        if member is None:
            raise S3Error("NoSuchKey", "The specified key does not exist.", Key=key)
        await send_object(exchange, self._payloads, member, bucket.changed_of(member))


async def answer_bucket(
    exchange: Exchange, listing_of: Callable[[ListRequest], Awaitable[Listing]]
) -> None:
    """Answer a GET or HEAD request for a bucket.

    Args:
        exchange: The request.
        listing_of: Returns a page of the bucket's keys.

    Raises:
        S3Error: the request asks for something that does not exist here.
    """
    request = exchange.request
    names = {name for name, _ in request.query}
    if request.method == "HEAD":
        await exchange.answer(200, [(b"x-amz-bucket-region", b"us-east-1")])
    elif unknown := SUBRESOURCES & names:
        raise not_implemented(min(unknown).decode())
    elif b"location" in names:
        await exchange.answer_xml(location_xml())
    elif b"versioning" in names:
        await exchange.answer_xml(versioning_xml())
    else:
        asked = list_request(request)
        await exchange.answer_xml(listing_xml(request.bucket, asked, await listing_of(asked)))


async def send_object(
    exchange: Exchange, payloads: Payloads, member: ServedMember, changed_s: int
) -> None:
    """Answer a request for a member.

    Args:
        exchange: The request.
        payloads: Reads the payload.
        member: The member.
        changed_s: Time of its last change, in seconds since 1970 UTC.

    Raises:
        S3Error: a condition fails, the range lies outside, or a parameter is not supported.
        BlobpackError: the payload can't be read.
    """
    answer, fields = answer_object(
        exchange.request, member, changed_s, is_signed=exchange.is_signed
    )
    if exchange.request.method == "HEAD" or answer.status == 304 or answer.start == answer.end:
        # an answer from the index alone must not describe a blob that was replaced
        check_unchanged(member)
        await exchange.answer(answer.status, fields)
    else:
        await exchange.answer_payload(payloads, member, answer, fields)
