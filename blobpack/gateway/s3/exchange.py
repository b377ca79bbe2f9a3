"""One request to the S3 face, and the ways to answer it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.gateway.answers import CORS, NOSNIFF, send_whole
from blobpack.gateway.s3.xml import error_xml
from blobpack.gateway.send_payload import send_payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobpack.gateway.answers import Fields, Receive, Send
    from blobpack.gateway.http_range import Answer
    from blobpack.gateway.payloads import Payloads
    from blobpack.gateway.s3.errors import S3Error
    from blobpack.gateway.s3.request import S3Request
    from blobpack.gateway.served.blob import ServedMember

XML = (b"content-type", b"application/xml")
READING = ("GET", "HEAD")
DRAINED_BYTES_MAX = 1 << 20
DRAINED_S = 30
ALLOW = (b"allow", b"GET, HEAD, OPTIONS")


@dataclass(slots=True)
class Exchange:
    """A request and its answer.

    Attributes:
        request: The request.
        receive: Receives the events of the request.
        send: Sends the answer.
        request_id: Names the request, in the answer and in errors.
        is_signed: Whether its signature was checked.
        status: Status of the answer, once it was sent.
        sent: Bytes of its body.
    """

    request: S3Request
    receive: Receive
    send: Send
    request_id: str
    is_signed: bool = False
    status: int = 0
    sent: int = 0

    def fields(self, more: Sequence[tuple[bytes, bytes]]) -> Fields:
        """Return header fields with those that every answer has."""
        return [*CORS, (b"x-amz-request-id", self.request_id.encode()), *more]

    async def answer(
        self, status: int, more: Sequence[tuple[bytes, bytes]], body: bytes = b""
    ) -> None:
        """Send an answer whose body is in memory."""
        self.status, self.sent = status, len(body)
        await send_whole(self.send, status, self.fields(more), body)

    async def answer_xml(
        self, body: bytes, status: int = 200, more: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Send a document, or only its header fields if the request is HEAD."""
        fields = [XML, NOSNIFF, (b"content-length", b"%d" % len(body)), *more]
        await self.answer(status, fields, b"" if self.request.method == "HEAD" else body)

    async def answer_error(self, error: S3Error) -> None:
        """Send an error."""
        body = error_xml(error, self.request.raw_path.decode("latin-1"), self.request_id)
        more = [ALLOW] if error.status == 405 else []
        if self.request.method not in READING:
            await self._drain()
            more.append((b"connection", b"close"))
        await self.answer_xml(body, error.status, more)

    async def answer_payload(
        self, payloads: Payloads, member: ServedMember, answer: Answer, more: Fields
    ) -> None:
        """Send a payload or a range of it.

        Raises:
            BlobpackError: it can't be read, and nothing was sent.
        """
        fields = self.fields(more)
        await send_payload(payloads, self.receive, self.send, member, answer, lambda _: fields)
        self.status, self.sent = answer.status, answer.end - answer.start

    async def _drain(self) -> None:
        """Receive the body of a refused upload, up to a size and for a time.

        If the server closed the connection without reading the body, the client would see a reset instead of the error. A
        client that expects 100 (Continue) sends no body before it gets this status (RFC 9110, 10.1.1).
        """
        if self.request.header(b"expect") is not None:
            return
        left = DRAINED_BYTES_MAX
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAINED_S):
                while left > 0:
                    event = await self.receive()
                    left -= len(event.get("body", b"")) or 1
                    if not event.get("more_body", False):
                        return
