"""`POST /batch`: many members as one tar, in the order asked.

Strategy: a request for each image of 10 KiB costs a client twenty times the time that the bytes take. One request for
many costs a header of 512 bytes for each. All names are looked up before anything is sent, so a missing one is an error
and no broken tar, and the size of the tar is known. A thread reads and joins pieces of a mebibyte; the next one is read
while the client takes the one before. A payload of more than 8 MiB is never in memory as a whole.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from itertools import chain, groupby
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from blobpack.checksum import crc32c
from blobpack.errors import UnsafeNameError
from blobpack.gateway.payloads import check_unchanged, damaged
from blobpack.gateway.routes.api import ApiError, body_of, endpoint, texts_in
from blobpack.gateway.send_payload import SEND_TIMEOUT_S, wait_until_gone
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
    from collections.abc import Generator, Iterator

    from starlette.requests import Request

    from blobpack._native.results import FoundRow
    from blobpack.gateway.answers import Receive, Scope, Send
    from blobpack.gateway.app import GatewayApp
    from blobpack.gateway.blobs import ServedBlob, ServedBlobs, ServedMember
    from blobpack.gateway.payloads import Payloads
    from blobpack.gateway.tokens import Grant
    from blobpack.stores.base import Store

PIECE_BYTES = 1 << 20
# batches that read at the same time; more wait, and hold no bytes
BATCHES_AT_ONCE = 16
# bytes between two payloads that are read with them: a header, or three if the name is long
GAP_BYTES_MAX = 4096
MISSING_SHOWN = 10
LARGE_BYTES = 8 << 20
# From a server, each part is a request of 10 to 50 ms, during which a connection brings some MB.
LARGE_PART_BYTES = 4 << 20
# the piece that is sent and the next one, as they mostly are
HELD_BYTES = 2 * PIECE_BYTES


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
        found = look_up(app.blobs, refs, grant)
        absent = [name for name, wanted in zip(names, found, strict=True) if wanted is None]
        if absent:
            shown = ", ".join(repr(name) for name in absent[:MISSING_SHOWN])
            raise ApiError(404, f"{len(absent)} of {len(names)} members are not here: {shown}")
        wanted = [one for one in found if one is not None]
        try:
            headers = [header_of(*pair) for pair in zip(names, wanted, strict=True)]
        except UnsafeNameError as exc:
            raise ApiError(422, f"{exc}.") from exc
        size = len(END_OF_ARCHIVE) + sum(
            len(header) + -(-one.size // BLOCK) * BLOCK
            for header, one in zip(headers, wanted, strict=True)
        )
        tar = pieces(app.payloads, wanted, headers)
        with ExitStack() as held:
            held.enter_context(app.payloads.hold(HELD_BYTES))
            # read before the answer begins, so that a blob that can't be read is an error
            return TarAnswer(size, await next_of(tar), tar, held.pop_all())

    return Route("/batch", endpoint(app, batch), methods=["POST"])


class Wanted(NamedTuple):
    """A member of a batch.

    Attributes:
        blob: The blob that holds it.
        found: Its row, offsets and checksum.
    """

    blob: ServedBlob
    found: FoundRow

    @property
    def size(self) -> int:
        """Size of its payload in bytes."""
        return self.found.offset_end - self.found.offset_start

    @property
    def is_large(self) -> bool:
        """Whether its payload is read and sent in parts."""
        return self.size > LARGE_BYTES


def look_up(blobs: ServedBlobs, refs: list[str], grant: Grant) -> list[Wanted | None]:
    """Find members by `blob/member`; None where there is none, or the request may not read it."""
    wanted: list[Wanted | None] = [None] * len(refs)
    places: dict[ServedBlob, list[int]] = {}
    names: dict[ServedBlob, list[str]] = {}
    for place, ref in enumerate(refs):
        resolved = blobs.resolve(ref)
        if resolved is not None and grant.covers(resolved[0].name, resolved[1]):
            places.setdefault(resolved[0], []).append(place)
            names.setdefault(resolved[0], []).append(resolved[1])
    # names are looked up together: that takes a fifth of the time of one by one
    for blob, asked in names.items():
        for place, found in zip(places[blob], blob.index._search(asked), strict=True):
            wanted[place] = found and Wanted(blob, found)
    return wanted


def header_of(name: str, wanted: Wanted) -> bytes:
    """Return the header of a member in the tar.

    Raises:
        UnsafeNameError: a tool that extracts the tar would write outside of its folder.
    """
    encoded = encode_name(name)
    check_name(encoded)
    return member_header(encoded, wanted.size)


class TarAnswer(Response):
    """An answer that is a tar of members."""

    def __init__(
        self, size: int, first: bytes | None, rest: Generator[bytes], held: ExitStack
    ) -> None:
        """Make the answer.

        Args:
            size: Size of the tar in bytes.
            first: Its first bytes.
            rest: Reads the others, in a thread.
            held: Is closed when no bytes are held any more.
        """
        super().__init__(media_type="application/x-tar")
        self._first, self._rest, self._held = first, rest, held
        self.headers["content-length"] = str(size)
        self.headers["x-content-type-options"] = "nosniff"
        self.headers["cache-control"] = "no-store"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the tar, a piece at a time, until the client has gone away."""
        gone = asyncio.ensure_future(wait_until_gone(receive))
        with self._held:
            try:
                await self._send(send, gone)
            finally:
                gone.cancel()
                with suppress(asyncio.CancelledError):
                    await gone

    async def _send(self, send: Send, gone: asyncio.Future[None]) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        piece = self._first
        while piece is not None:
            # a thread reads the next piece while this one is sent
            upcoming = asyncio.ensure_future(next_of(self._rest))
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            finally:
                # also of a client that takes nothing: a generator that runs can't be closed
                piece = await upcoming
            if gone.done():
                return
        await send({"type": "http.response.body", "body": b""})


async def next_of(tar: Generator[bytes]) -> bytes | None:
    """Return the next piece, which a thread reads; None behind the last one."""
    pool = shared_pool("gateway-batch", BATCHES_AT_ONCE)
    return await asyncio.get_running_loop().run_in_executor(pool, next, tar, None)


def pieces(payloads: Payloads, members: list[Wanted], headers: list[bytes]) -> Generator[bytes]:
    """Yield the bytes of the tar, about a mebibyte at a time, and at most LARGE_BYTES more.

    Raises:
        BlobpackError: a payload can't be read.
    """
    parts: list[bytes] = []
    size = 0
    waiting = iter(headers)
    for (blob, is_large), group in groupby(members, key=lambda one: (one.blob, one.is_large)):
        several = [wanted.found for wanted in group]
        if is_large:
            for found in several:
                yield b"".join([*parts, next(waiting)])
                yield from parts_of(payloads, blob.at(found.row))
                parts = [padding(found.offset_end - found.offset_start)]
            size = 0
            continue
        for found, payload in zip(several, payloads_of(blob, several), strict=True):
            if found.crc32c is not None and crc32c(payload) != found.crc32c:
                raise damaged(blob.at(found.row))
            parts += (next(waiting), payload, padding(len(payload)))
            size += BLOCK + len(payload)
            if size >= PIECE_BYTES:
                check_unchanged(blob.at(found.row))
                yield b"".join(parts)
                parts, size = [], 0
        check_unchanged(blob.at(several[-1].row))
    yield b"".join([*parts, END_OF_ARCHIVE])


def parts_of(payloads: Payloads, member: ServedMember) -> Iterator[bytes]:
    """Read a large payload part by part; the last part is returned only if the checksum of all is right."""
    checksum = 0
    for first in range(0, member.size, LARGE_PART_BYTES):
        last = min(first + LARGE_PART_BYTES, member.size)
        part = payloads.read(member, first, last)
        checksum = crc32c(part, checksum)
        if last == member.size and member.crc32c not in (None, checksum):
            raise damaged(member)
        yield part


def payloads_of(blob: ServedBlob, several: list[FoundRow]) -> Iterator[bytes]:
    """Return the payloads in their order; those of a remote blob, or of a collection, are read as one batch."""
    store = blob.open_store(several[0].row)
    if store is None or blob.is_remote or len(blob.reader.blobs) != 1:
        return blob.reader.read_rows([found.row for found in several])
    return chain.from_iterable(slices_of(store, run) for run in runs_of(several))


def runs_of(several: list[FoundRow]) -> Iterator[list[FoundRow]]:
    """Divide members into runs of neighbours in the blob, of about a mebibyte at most."""
    run = several[:1]
    for found in several[1:]:
        gap = found.offset_start - run[-1].offset_end
        if not (
            0 <= gap <= GAP_BYTES_MAX and found.offset_end - run[0].offset_start <= PIECE_BYTES
        ):
            yield run
            run = []
        run.append(found)
    yield run


def slices_of(store: Store, run: list[FoundRow]) -> Iterator[bytes]:
    """Read a run by one read, and return its payloads."""
    first = run[0].offset_start
    whole = store.read_range(first, run[-1].offset_end)
    return (whole[found.offset_start - first : found.offset_end - first] for found in run)
