"""`POST /batch`: many members as one tar, in the order asked.

Strategy: a request for each image of 10 KiB costs a client twenty times the time that the bytes take. One request for
many costs a header of 512 bytes for each. All names are looked up before anything is sent, so a missing one is an error
and no broken tar, and the size of the tar is known. A thread reads and joins pieces of a mebibyte; the next one is read
when the client has taken the one before.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from blobpack.checksum import crc32c
from blobpack.errors import UnsafeNameError
from blobpack.gateway.payloads import check_unchanged, damaged
from blobpack.gateway.routes.api import ApiError, body_of, endpoint, texts_in
from blobpack.tar.header import (
    BLOCK,
    END_OF_ARCHIVE,
    check_name,
    encode_name,
    member_header,
    padding,
)
from blobpack.threads import shared_pool

if TYPE_CHECKING:
    from collections.abc import Generator

    from starlette.requests import Request

    from blobpack.gateway.answers import Receive, Scope, Send
    from blobpack.gateway.app import GatewayApp
    from blobpack.gateway.blobs import ServedMember
    from blobpack.gateway.tokens import Grant

PIECE_BYTES = 1 << 20
# batches that read at the same time; more wait, and hold no bytes
BATCHES_AT_ONCE = 16
MISSING_SHOWN = 10


def route(app: GatewayApp) -> Route:
    """Return the route."""

    async def batch(request: Request, grant: Grant) -> Response:
        body = await body_of(request)
        names = texts_in(body, "members")
        refs = names
        if "blob" in body:
            if not isinstance(body["blob"], str):
                raise ApiError(422, "blob must be a text.")
            refs = [f"{body['blob']}/{name}" for name in names]
        members = [app.blobs.find(ref) for ref in refs]
        found = [
            member for member in members if member and grant.covers(member.blob.name, member.name)
        ]
        if len(found) < len(refs):
            raise missing(names, members, grant)
        try:
            headers = [header_of(*pair) for pair in zip(names, found, strict=True)]
        except UnsafeNameError as exc:
            raise ApiError(422, f"{exc}.") from exc
        size = len(END_OF_ARCHIVE) + sum(
            len(header) + -(-member.size // BLOCK) * BLOCK
            for header, member in zip(headers, found, strict=True)
        )
        tar = pieces(found, headers)
        # read before the answer begins, so that a blob that can't be read is an error
        return TarAnswer(size, await next_of(tar), tar)

    return Route("/batch", endpoint(app, batch), methods=["POST"])


def missing(names: list[str], members: list[ServedMember | None], grant: Grant) -> ApiError:
    """Return the error for members that do not exist, or that the token does not cover."""
    absent = [
        name
        for name, member in zip(names, members, strict=True)
        if not (member and grant.covers(member.blob.name, member.name))
    ]
    shown = ", ".join(repr(name) for name in absent[:MISSING_SHOWN])
    return ApiError(404, f"{len(absent)} of {len(names)} members are not here: {shown}")


def header_of(name: str, member: ServedMember) -> bytes:
    """Return the header of a member in the tar.

    Raises:
        UnsafeNameError: a tool that extracts the tar would write outside of its folder.
    """
    encoded = encode_name(name)
    check_name(encoded)
    return member_header(encoded, member.size)


class TarAnswer(Response):
    """An answer that is a tar of members."""

    def __init__(self, size: int, first: bytes | None, rest: Generator[bytes]) -> None:
        """Make the answer.

        Args:
            size: Size of the tar in bytes.
            first: Its first bytes.
            rest: Reads the others, in a thread.
        """
        super().__init__(media_type="application/x-tar")
        self._first, self._rest = first, rest
        self.headers["content-length"] = str(size)
        self.headers["x-content-type-options"] = "nosniff"
        self.headers["cache-control"] = "no-store"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the tar, a piece at a time."""
        piece = self._first
        with closing(self._rest):
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            while piece is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await next_of(self._rest)
        await send({"type": "http.response.body", "body": b""})


async def next_of(tar: Generator[bytes]) -> bytes | None:
    """Return the next piece, which a thread reads; None behind the last one."""
    pool = shared_pool("gateway-batch", BATCHES_AT_ONCE)
    return await asyncio.get_running_loop().run_in_executor(pool, next, tar, None)


def pieces(members: list[ServedMember], headers: list[bytes]) -> Generator[bytes]:
    """Yield the bytes of the tar, about a mebibyte at a time; a larger payload is not cut.

    Raises:
        BlobpackError: a payload can't be read.
    """
    parts: list[bytes] = []
    size = 0
    waiting = iter(headers)
    for blob, group in groupby(members, key=lambda member: member.blob):
        several = list(group)
        payloads = blob.reader.read_rows([member.row for member in several])
        for member, payload in zip(several, payloads, strict=True):
            if member.crc32c is not None and crc32c(payload) != member.crc32c:
                raise damaged(member)
            parts += (next(waiting), payload, padding(member.size))
            size += BLOCK + member.size
            if size >= PIECE_BYTES:
                check_unchanged(member)
                yield b"".join(parts)
                parts, size = [], 0
        check_unchanged(several[-1])
    yield b"".join([*parts, END_OF_ARCHIVE])
