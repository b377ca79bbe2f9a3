"""`POST /batch`: many members as one tar, in the order asked.

Strategy: a request for each image of 10 KiB costs a client twenty times the time that the bytes take. One request for
many costs a header of 512 bytes for each. All names are looked up before anything is sent, so a missing one is an error
and no broken tar, and the size of the tar is known. Pieces of half a mebibyte are read and joined; the next one is read
while the client takes the one before. What the page cache holds is read on the event loop in 0.1 ms a piece, because
handing it to a thread and back takes as long on a busy machine; the rest is read by threads. A payload of more than 8 MiB is never in memory as a whole.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from blobpack._native.tar_piece import join_members
from blobpack.checksum import crc32c
from blobpack.errors import UnsafeNameError
from blobpack.gateway.answers import AnswerError
from blobpack.gateway.payloads import check_unchanged, damaged
from blobpack.gateway.routes.endpoint import body_of, endpoint, texts_in
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
    from blobpack.gateway.payloads import Payloads
    from blobpack.gateway.routes.services import Services
    from blobpack.gateway.served.blob import ServedBlob, ServedMember
    from blobpack.gateway.served.blobs import ServedBlobs
    from blobpack.gateway.tokens import Grant

    Wanted = tuple[ServedBlob, FoundRow]

# Larger ones are new pages for malloc() each time: a batch takes twice as long so.
PIECE_BYTES = 512 << 10
# as a piece: the next one waits for a disk or a server
MUST_WAIT = b""
# number of batches that read at the same time; others wait, and hold no bytes
BATCHES_AT_ONCE = 16
# largest gap between two payloads in one read: a header, or three headers if the name is long
GAP_BYTES_MAX = 4096
MISSING_SHOWN = 10
LARGE_BYTES = 8 << 20
# From a server, each part is a request of 10 to 50 ms, during which a connection brings some MB.
LARGE_PART_BYTES = 4 << 20
# the piece that is sent and the next one, as they mostly are
HELD_BYTES = 2 * PIECE_BYTES


def route(services: Services) -> Route:
    """Return the route."""

    async def batch(request: Request, grant: Grant) -> Response:
        body = await body_of(request)
        names = texts_in(body, "members")
        if "blob" not in body:
            found = look_up(services.blobs, names, grant)
        elif not isinstance(body["blob"], str):
            raise AnswerError(422, "blob must be a text.")
        elif (blob := services.blobs.get(body["blob"])) is not None:
            found = look_up_in(blob, names, grant)
        else:
            # a blob and the beginning of its members' names
            found = look_up(services.blobs, [f"{body['blob']}/{name}" for name in names], grant)
        absent = [name for name, wanted in zip(names, found, strict=True) if wanted is None]
        if absent:
            shown = ", ".join(repr(name) for name in absent[:MISSING_SHOWN])
            raise AnswerError(404, f"{len(absent)} of {len(names)} members are not here: {shown}")
        wanted = [one for one in found if one is not None]
        try:
            headers = [header_of(*pair) for pair in zip(names, wanted, strict=True)]
        except UnsafeNameError as exc:
            raise AnswerError(422, f"{exc}.") from exc
        size = len(END_OF_ARCHIVE) + sum(
            len(header) + -(-size_of(one) // BLOCK) * BLOCK
            for header, (_, one) in zip(headers, wanted, strict=True)
        )
        tar = pieces(services.payloads, wanted, headers)
        with ExitStack() as held:
            held.enter_context(services.payloads.hold(HELD_BYTES))
            # read before the answer begins, so that a blob that can't be read is an error
            return TarAnswer(size, await next_of(tar), tar, held.pop_all())

    return Route("/batch", endpoint(services, batch), methods=["POST"])


def size_of(found: FoundRow) -> int:
    """Return the size of a payload in bytes."""
    return found.offset_end - found.offset_start


def is_large(found: FoundRow) -> bool:
    """Return whether a payload is read and sent in parts."""
    return found.offset_end - found.offset_start > LARGE_BYTES


def look_up_in(blob: ServedBlob, names: list[str], grant: Grant) -> list[Wanted | None]:
    """Find members of one blob; None where there is none, or the request may not read it."""
    # names are looked up together: that takes a fifth of the time of one by one
    found = blob.index._search(names)
    if not grant.covers_all(blob.name):
        found = [
            one if grant.covers(blob.name, name) else None
            for name, one in zip(names, found, strict=True)
        ]
    return [one and (blob, one) for one in found]


def look_up(blobs: ServedBlobs, refs: list[str], grant: Grant) -> list[Wanted | None]:
    """Find members by `blob/member`; None for a member that does not exist, or that the request may not read."""
    wanted: list[Wanted | None] = [None] * len(refs)
    places: dict[ServedBlob, list[int]] = {}
    names: dict[ServedBlob, list[str]] = {}
    for place, ref in enumerate(refs):
        resolved = blobs.resolve(ref)
        if resolved is not None:
            places.setdefault(resolved[0], []).append(place)
            names.setdefault(resolved[0], []).append(resolved[1])
    for blob, asked in names.items():
        for place, one in zip(places[blob], look_up_in(blob, asked, grant), strict=True):
            wanted[place] = one
    return wanted


def header_of(name: str, wanted: Wanted) -> bytes:
    """Return the header of a member in the tar.

    Raises:
        UnsafeNameError: a tool that extracts the tar would write outside of its folder.
    """
    encoded = encode_name(name)
    check_name(encoded)
    return member_header(encoded, size_of(wanted[1]))


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
                # the server closes the connection of a client that takes nothing
                with suppress(TimeoutError):
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
            # the next piece is read while this one is sent
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
    """Return the next piece; a thread reads it if it must be waited for. None behind the last one."""
    piece = next(tar, None)
    if piece == MUST_WAIT:
        pool = shared_pool("gateway-batch", BATCHES_AT_ONCE)
        piece = await asyncio.get_running_loop().run_in_executor(pool, waited_for, tar)
    return piece


def waited_for(tar: Generator[bytes]) -> bytes | None:
    """Return the next piece, however long that takes; None behind the last one."""
    return next((piece for piece in tar if piece != MUST_WAIT), None)


def pieces(payloads: Payloads, members: list[Wanted], headers: list[bytes]) -> Generator[bytes]:
    """Yield the bytes of the tar, about half a mebibyte at a time, and at most LARGE_BYTES more.

    Before a read that waits for a disk or a server, MUST_WAIT is yielded, so that a thread can go on.

    Raises:
        BlobpackError: a payload can't be read.
    """
    waiting = iter(headers)
    parts: list[bytes] = []
    for blob, group in groupby(members, key=itemgetter(0)):
        for large, several in groupby([found for _, found in group], key=is_large):
            if large:
                for found in several:
                    yield b"".join([*parts, next(waiting)])
                    yield from parts_of(payloads, blob.at(found.row))
                    parts = [padding(size_of(found))]
            else:
                parts = yield from joined(blob, list(several), waiting, parts)
    yield b"".join([*parts, END_OF_ARCHIVE])


def joined(
    blob: ServedBlob, several: list[FoundRow], headers: Iterator[bytes], parts: list[bytes]
) -> Generator[bytes, None, list[bytes]]:
    """Yield members that are not large, about half a mebibyte at a time, and MUST_WAIT; see pieces.

    Args:
        blob: The blob that holds them.
        several: The members.
        headers: Their headers, of which so many are taken.
        parts: Bytes before them that were not yielded yet.

    Returns:
        Bytes that were not yielded yet.
    """
    size = sum(map(len, parts))
    for read, run in runs_read(blob, several):
        if read is None:
            yield MUST_WAIT
            continue
        piece, wrong = join_members(read, run[0].offset_start, run, list(islice(headers, len(run))))
        if wrong >= 0:
            raise damaged(blob.at(run[wrong].row))
        parts.append(piece)
        size += len(piece)
        # a run may be almost as large as a piece
        if size >= PIECE_BYTES // 2:
            check_unchanged(blob.at(run[-1].row))
            yield b"".join(parts)
            parts, size = [], 0
    check_unchanged(blob.at(several[-1].row))
    return parts


def parts_of(payloads: Payloads, member: ServedMember) -> Iterator[bytes]:
    """Read a large payload part by part, and yield MUST_WAIT before each; the last part is returned only if the checksum of all is right."""
    checksum = 0
    for first in range(0, member.size, LARGE_PART_BYTES):
        last = min(first + LARGE_PART_BYTES, member.size)
        yield MUST_WAIT
        part = payloads.read(member, first, last)
        checksum = crc32c(part, checksum)
        if last == member.size and member.crc32c not in (None, checksum):
            raise damaged(member)
        yield part


def runs_read(
    blob: ServedBlob, several: list[FoundRow]
) -> Iterator[tuple[bytes | None, list[FoundRow]]]:
    """Read members in their order; those of a remote blob, or of a collection, are read as one batch.

    Returns:
        Bytes of the blob, and the members whose payloads lie in them; the first payload begins where the bytes begin. None
        as the bytes: the read that follows waits.
    """
    store = blob.open_store(several[0].row)
    if store is None or blob.is_remote or len(blob.reader.blobs) != 1:
        yield None, []
        for payload, found in zip(
            blob.reader.read_rows([found.row for found in several]), several, strict=True
        ):
            yield payload, [found]
            yield None, []
        return
    for run in runs_of(several):
        start, end = run[0].offset_start, run[-1].offset_end
        read = store.read_if_ready(start, end)
        if read is None:
            yield None, []
            read = store.read_range(start, end)
        yield read, run


def runs_of(several: list[FoundRow]) -> Iterator[list[FoundRow]]:
    """Divide members into runs of neighbours in the blob, of half a mebibyte at most."""
    run: list[FoundRow] = []
    first = last = 0
    for found in several:
        _, start, end, _ = found
        if run and not (0 <= start - last <= GAP_BYTES_MAX and end - first <= PIECE_BYTES):
            yield run
            run = []
        if not run:
            first = start
        run.append(found)
        last = end
    yield run
