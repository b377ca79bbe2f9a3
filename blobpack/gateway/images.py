"""GET and HEAD of members' payloads: a plain ASGI callable, the path that every image takes.

Strategy: this code runs up to 10,000 times a second, so it uses no framework, no routing and no request object. It looks
through the header fields once, finds the member in a mapped index, and sends a list of fields, most of which were made
before. HEAD, 304, 412 and 416 are answered from the index alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from blobpack._native.facts import facts_of
from blobpack.columns import MEDIA_TYPES
from blobpack.errors import BlobpackError
from blobpack.gateway.answers import (
    CHALLENGE,
    CORS,
    NOT_FOUND,
    PREFLIGHT,
    UNAUTHORIZED,
    disposition_of,
    media_type_of,
    problem,
    send_error,
    send_problem,
    send_whole,
    type_fields,
)
from blobpack.gateway.http_range import (
    CONDITIONAL,
    Answer,
    answer_to,
    conditions_in,
    content_range,
    http_date,
)
from blobpack.gateway.payloads import check_unchanged
from blobpack.gateway.send_payload import send_payload

if TYPE_CHECKING:
    from blobpack.gateway.answers import Fields, Receive, Scope, Send
    from blobpack.gateway.metrics import Metrics
    from blobpack.gateway.payloads import Payloads
    from blobpack.gateway.routes.raw_files import RawFiles
    from blobpack.gateway.served.blob import ServedMember
    from blobpack.gateway.served.blobs import ServedBlobs
    from blobpack.gateway.tokens import Access, Grant

PINNED_S = 31536000  # a year, which stands for ever (RFC 9111, 5.2.2.1 has no upper bound)
ENCODED_MAX = 256
ALLOWED = ((b"allow", b"GET, HEAD, OPTIONS"),)
NOT_ALLOWED = problem(405, "Payloads are read with GET or HEAD.")
NOT_SATISFIABLE = problem(416, "No byte of this member lies in the range that was asked for.")
PRECONDITION_FAILED = problem(412, "The member is not the one that the request names.")

date_of = lru_cache(maxsize=4096)(http_date)


def decoded(raw: bytes) -> str:
    """Return the text of a part of a raw path: percent-encoding is undone once, and bytes that are not UTF-8 stay."""
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    return raw.decode("utf-8", "surrogateescape")


class Images:
    """Answers GET and HEAD for payloads."""

    def __init__(
        self,
        blobs: ServedBlobs | RawFiles,
        payloads: Payloads,
        access: Access,
        metrics: Metrics,
        route: str,
    ) -> None:
        """Make the callable.

        Args:
            blobs: Finds a blob and the name of a member by a path.
            payloads: Reads the payloads.
            access: Says what a request may read.
            metrics: Counts the answers.
            route: Name of the route in metrics.
        """
        self._blobs, self._payloads, self._access, self._metrics = blobs, payloads, access, metrics
        self._renewal = blobs.renewal
        self._count, self._route = metrics.count, route
        # by is_pinned and by whether only this client may keep the answer
        self._fields: dict[tuple[bool, bool], Fields] = {
            (pinned, private): [
                *CORS,
                # a page of another origin may measure how long its images take
                (b"timing-allow-origin", b"*"),
                (b"accept-ranges", b"bytes"),
                (b"cache-control", cache_control(pinned=pinned, private=private)),
            ]
            for pinned in (False, True)
            for private in (False, True)
        }
        # by is_pinned and media type
        self._encoded: dict[tuple[bool, str], bytes] = {}

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, raw: bytes, grant: Grant | None
    ) -> None:
        """Answer a request.

        Args:
            scope: The ASGI scope of the request.
            receive: Receives its events.
            send: Sends the answer.
            raw: The part of the path behind `/b/`, percent-encoded.
            grant: What the token in the path covers; None if the path has no token.
        """
        method = scope["method"]
        if method not in ("GET", "HEAD"):
            self._count(self._route, await send_other_method(send, method), 0)
            return
        authorization = None
        is_conditional = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name in CONDITIONAL:
                is_conditional = True
        granted = self._access.grant_of(authorization) if grant is None else grant
        if granted is None:
            await send_problem(send, 401, UNAUTHORIZED, (CHALLENGE,))
            self._count(self._route, 401, len(UNAUTHORIZED))
            return
        await self._renewal.look()
        began = self._renewal.count
        try:
            member = self._find(raw, granted)
            if member is None:
                await send_problem(send, 404, NOT_FOUND)
                self._count(self._route, 404, len(NOT_FOUND))
                return
            is_private = grant is None and authorization is not None
            fields = self._fields[member.blob.is_pinned, is_private]
            conditions = conditions_in(scope["headers"]) if is_conditional else {}
            await self._answer(method, receive, send, member, conditions, fields)
        except BlobpackError as exc:
            if await self._renewal.is_over(exc, began):
                await self(scope, receive, send, raw, grant)
                return
            self._count(self._route, await send_error(send, exc, decoded(raw)), 0)

    def _find(self, raw: bytes, grant: Grant) -> ServedMember | None:
        """Return the member of a path; None if there is none, or the grant does not cover it."""
        found = self._blobs.resolve(decoded(raw))
        if found is None or not grant.covers(found[0].name, found[1]):
            return None
        return found[0].find(found[1])

    async def _answer(
        self,
        method: str,
        receive: Receive,
        send: Send,
        member: ServedMember,
        conditions: dict[bytes, bytes],
        fields: Fields,
    ) -> None:
        """Answer a request for a member that exists."""
        if method == "HEAD":
            # a range is defined for GET alone (RFC 9110, 14.2)
            conditions.pop(b"range", None)
        answer = answer_to(conditions, member.size, member.etag, member.mtime)
        status, start, end = answer
        if method == "HEAD" or status not in (200, 206):
            check_unchanged(member)
            await send_from_index(send, member, answer, fields)
            self._count(self._route, status, 0)
            return
        payload = self._payloads.read_if_ready(member, start, end)
        if payload is None:

            def fields_for(payload: bytes) -> Fields:
                return fields_of(member, answer, fields, payload)

            await send_payload(self._payloads, receive, send, member, answer, fields_for)
        else:
            headers = fields_of(member, answer, fields, payload)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": payload})
        self._count(self._route, status, end - start)

    def ready_answer(self, raw: bytes) -> tuple[bytes, bytes] | None:
        """Return the encoded header fields of a 200 and the payload, if reading it waits for nothing.

        Args:
            raw: What stands behind `/b/` in the path of a plain GET, percent-encoded.

        Returns:
            None if the answer has another status or must be waited for, or the payload can't be read.
        """
        grant = self._access.grant_of(None)
        if grant is None:
            return None
        try:
            member = self._find(raw, grant)
            if member is None:
                return None
            payload = self._payloads.read_if_ready(member, 0, member.size)
        except BlobpackError:
            # the application meets the error again, and sends it
            return None
        if payload is None:
            return None
        answer = Answer(200, 0, len(payload))
        media_type = member.media_type or sniffed(member, answer, payload)
        kept = self._encoded.get((member.blob.is_pinned, media_type))
        if kept is None:
            kept = self._encode(member.blob.is_pinned, media_type)
        self._count(self._route, 200, len(payload))
        return kept + encoded(own_fields(member, answer)), payload

    def _encode(self, pinned: bool, media_type: str) -> bytes:
        """Return the encoded fields that all payloads of a media type have, and keep them."""
        kept = encoded([*self._fields[pinned, False], *type_fields(media_type)])
        # an index may hold any text as a media type
        if len(self._encoded) < ENCODED_MAX:
            self._encoded[pinned, media_type] = kept
        return kept


def encoded(fields: Fields) -> bytes:
    """Return header fields as HTTP/1.1 sends them."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


async def send_other_method(send: Send, method: str) -> int:
    """Answer an unknown method, or OPTIONS, which browsers send before a request with unusual header fields."""
    if method == "OPTIONS":
        await send_whole(send, 204, [*PREFLIGHT, *ALLOWED])
        return 204
    await send_problem(send, 405, NOT_ALLOWED, ALLOWED)
    return 405


def cache_control(*, pinned: bool, private: bool) -> bytes:
    """Return the value of Cache-Control.

    Args:
        pinned: No other bytes will ever be served at this URL.
        private: A header field of the request gave access, so a cache must not send the answer to other clients.
    """
    whose = "private" if private else "public"
    return (f"{whose}, max-age={PINNED_S}, immutable" if pinned else f"{whose}, no-cache").encode()


def fields_of(
    member: ServedMember, answer: Answer, fields: Fields, payload: bytes | None
) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a 200 or 206.

    Args:
        member: The member.
        answer: Status and range.
        fields: Fields that all payloads of the blob have.
        payload: The first bytes that are sent; None for a HEAD request.
    """
    media_type = member.media_type or sniffed(member, answer, payload)
    return [*fields, *type_fields(media_type), *own_fields(member, answer)]


def own_fields(member: ServedMember, answer: Answer) -> list[tuple[bytes, bytes]]:
    """Return those header fields of a 200 or 206 that other members of the media type do not share."""
    found = [
        (b"content-length", b"%d" % (answer.end - answer.start)),
        (b"etag", member.etag),
        (b"content-disposition", disposition_of(member.name)),
    ]
    if member.mtime is not None:
        found.append((b"last-modified", date_of(member.mtime)))
    if answer.status == 206:
        found.append((b"content-range", content_range(answer.start, answer.end, member.size)))
    return found


def sniffed(member: ServedMember, answer: Answer, payload: bytes | None) -> str:
    """Return the media type of a member whose index has none: by its first bytes, or else by its name."""
    if payload is not None and answer.start == 0 and not member.blob.has_media_types:
        name = member.name.encode("utf-8", "surrogateescape")
        code = facts_of(payload, name, size=member.size).media_type
        if code:
            return MEDIA_TYPES[code]
    return media_type_of(member.name)


async def send_from_index(send: Send, member: ServedMember, answer: Answer, fields: Fields) -> None:
    """Answer what needs no payload: HEAD, 304, 412 and 416."""
    if answer.status == 304:
        # those fields of a 200 that a cache updates (RFC 9110, 15.4.5)
        more = () if member.mtime is None else ((b"last-modified", date_of(member.mtime)),)
        await send_whole(send, 304, [*fields, (b"etag", member.etag), *more])
    elif answer.status == 412:
        await send_problem(send, 412, PRECONDITION_FAILED)
    elif answer.status == 416:
        behind = (b"content-range", b"bytes */%d" % member.size)
        await send_problem(send, 416, NOT_SATISFIABLE, (behind,))
    else:
        await send_whole(send, 200, fields_of(member, answer, fields, None))
