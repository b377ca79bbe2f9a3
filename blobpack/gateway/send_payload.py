"""Sending a payload, whole or piece by piece, for the HTTP face and the S3 face."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from blobpack.errors import BlobpackError
from blobpack.gateway.answers import send_whole
from blobpack.gateway.payloads import WHOLE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.gateway.answers import Fields, Receive, Send
    from blobpack.gateway.http_range import Answer
    from blobpack.gateway.payloads import Payloads
    from blobpack.gateway.served.blob import ServedMember

# if a client takes no byte of a large payload for so long, the connection is closed
SEND_TIMEOUT_S = 60.0


class BrokenAnswerError(Exception):
    """A payload could not be read to its end, after its beginning was sent. The server closes the connection."""


async def send_payload(
    payloads: Payloads,
    receive: Receive,
    send: Send,
    member: ServedMember,
    answer: Answer,
    fields_for: Callable[[bytes], Fields],
) -> None:
    """Send a payload or a range of it.

    Args:
        payloads: Reads it.
        receive: Receives the events of the request.
        send: Sends the answer.
        member: The member.
        answer: Status 200 or 206, and the range.
        fields_for: Returns the header fields for the first bytes that are sent.

    Raises:
        BlobpackError: the payload can't be read; nothing was sent.
        BrokenAnswerError: it can't be read to its end, and the client sees that bytes are missing.
    """
    status, start, end = answer
    if end - start <= WHOLE_BYTES_MAX:
        payload = await payloads.aread(member, start, end)
        await send_whole(send, status, fields_for(payload), payload)
        return
    gone = asyncio.ensure_future(wait_until_gone(receive))
    is_begun = False
    try:
        async with aclosing(payloads.pieces(member, start, end)) as pieces:
            async for piece in pieces:
                if gone.done():
                    return
                if not is_begun:
                    fields = fields_for(piece)
                    await send({"type": "http.response.start", "status": status, "headers": fields})
                    is_begun = True
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except TimeoutError:
        # The server closes the connection, and logs one line. A traceback would tell nothing more of a slow client.
        return
    except BlobpackError as exc:
        if not is_begun:
            raise
        raise BrokenAnswerError(str(exc)) from exc
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def wait_until_gone(receive: Receive) -> None:
    """Return when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
