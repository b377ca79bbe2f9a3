"""Answers for blobs as buckets: ListBuckets, HeadBucket, listings, HeadObject and GetObject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.gateway.s3.errors import S3Error
from blobpack.gateway.s3.list_objects import list_request
from blobpack.gateway.s3.objects import answer_object
from blobpack.gateway.s3.xml import listing_xml, location_xml, versioning_xml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blobpack.gateway.blobs import ServedMember
    from blobpack.gateway.payloads import Payloads
    from blobpack.gateway.s3.buckets import Bucket
    from blobpack.gateway.s3.exchange import Exchange

# what may be asked of a bucket beside its keys, and is not known here
SUBRESOURCES = frozenset(
    b"accelerate acl analytics cors encryption intelligent-tiering inventory lifecycle logging metrics notification "
    b"object-lock ownershipControls policy policyStatus publicAccessBlock replication requestPayment tagging uploads "
    b"website".split()
)


class BlobBuckets:
    """Blobs as buckets."""

    def __init__(self, buckets: Mapping[str, Bucket], payloads: Payloads) -> None:
        self._buckets, self._payloads = buckets, payloads

    def get(self, name: str) -> Bucket | None:
        """Return the bucket of a name; None if there is none."""
        return self._buckets.get(name)

    def names(self) -> list[tuple[str, int]]:
        """Return the names of the buckets, in order, and the times of their last changes."""
        return sorted((name, bucket.changed_s) for name, bucket in self._buckets.items())

    async def answer(self, exchange: Exchange, bucket: Bucket) -> None:
        """Answer a GET or HEAD request for a bucket or an object in it.

        Raises:
            S3Error: there is no such key, or the request asks for something that does not exist here.
            BlobpackError: the payload can't be read.
        """
        request = exchange.request
        if request.key:
            await self._answer_object(exchange, bucket)
        elif request.method == "HEAD":
            await exchange.answer(200, [(b"x-amz-bucket-region", b"us-east-1")])
        else:
            await self._answer_bucket(exchange, bucket)

    async def _answer_bucket(self, exchange: Exchange, bucket: Bucket) -> None:
        names = {name for name, _ in exchange.request.query}
        unknown = SUBRESOURCES & names
        if unknown:
            raise S3Error(
                "NotImplemented",
                "A header or query you provided requested a function that is not implemented.",
                Header=min(unknown).decode(),
            )
        if b"location" in names:
            await exchange.answer_xml(location_xml())
        elif b"versioning" in names:
            await exchange.answer_xml(versioning_xml())
        else:
            asked = list_request(exchange.request)
            listing = await bucket.page(asked)
            await exchange.answer_xml(listing_xml(bucket.name, asked, listing))

    async def _answer_object(self, exchange: Exchange, bucket: Bucket) -> None:
        key = exchange.request.key
        member = bucket.find(key)
        if member is None:
            raise S3Error("NoSuchKey", "The specified key does not exist.", Key=key)
        await send_object(exchange, self._payloads, member, bucket.changed_of(member))


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
        await exchange.answer(answer.status, fields)
    else:
        await exchange.answer_payload(payloads, member, answer, fields)
