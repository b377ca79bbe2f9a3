"""Routes that answer with pictures of members, such as thumbnails: what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from blobpack.errors import BlobpackError
from blobpack.gateway.answers import (
    CHALLENGE,
    CORS,
    NOSNIFF,
    NOT_FOUND,
    UNAUTHORIZED,
    AnswerError,
    problem,
    send_error,
    send_problem,
    send_whole,
)
from blobpack.gateway.http_range import answer_to, conditions_in
from blobpack.gateway.images import cache_control, decoded, send_other_method

if TYPE_CHECKING:
    from blobpack.gateway.answers import Fields, Receive, Scope, Send
    from blobpack.gateway.routes.pictures import Picture
    from blobpack.gateway.routes.services import Services
    from blobpack.gateway.served.blob import ServedMember
    from blobpack.gateway.tokens import Grant


class PictureFace(ABC):
    """A route that answers with pictures of members: a plain ASGI callable, as `Images` is."""

    route: str

    def __init__(self, services: Services) -> None:
        self.services = services

    @abstractmethod
    async def answer(self, scope: Scope, send: Send, raw: bytes, grant: Grant) -> int:
        """Answer a request, and return the status.

        Args:
            scope: The ASGI scope of the request.
            send: Sends the answer.
            raw: The part of the path behind the route's prefix, percent-encoded.
            grant: What the request may read.

        Raises:
            AnswerError: there is no such picture.
            BlobpackError: the payload can't be read.
        """

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, raw: bytes, grant: Grant | None
    ) -> None:
        """Answer a request."""
        status = await self._answer(scope, send, raw, grant)
        self.services.metrics.count(self.route, status, 0)

    async def _answer(self, scope: Scope, send: Send, raw: bytes, grant: Grant | None) -> int:
        renewal = self.services.blobs.renewal
        await renewal.look()
        began = renewal.count
        if scope["method"] not in ("GET", "HEAD"):
            return await send_other_method(send, scope["method"])
        if grant is None:
            sent = [value for name, value in scope["headers"] if name == b"authorization"]
            grant = self.services.access.grant_of(sent[0] if sent else None)
        if grant is None:
            await send_problem(send, 401, UNAUTHORIZED, (CHALLENGE,))
            return 401
        try:
            return await self.answer(scope, send, raw, grant)
        except AnswerError as exc:
            body = NOT_FOUND if exc.status == 404 else problem(exc.status, exc.detail)
            await send_problem(send, exc.status, body)
            return exc.status
        except BlobpackError as exc:
            if await renewal.is_over(exc, began):
                return await self._answer(scope, send, raw, grant)
            return await send_error(send, exc, decoded(raw))

    def member_at(self, path: bytes, grant: Grant) -> ServedMember:
        """Return the member that a raw path names.

        Raises:
            AnswerError: there is none, or the request may not read it.
        """
        found = self.services.blobs.find(decoded(path))
        if found is None or not grant.covers(found.blob.name, found.name):
            raise AnswerError(404, "")
        return found


async def send_picture(
    scope: Scope, send: Send, member: ServedMember, picture: Picture, kind: str
) -> int:
    """Send a picture, or a 304 or 412; return the status."""
    etag = b'%s-%s"' % (member.etag[:-1], kind.encode())
    conditions = conditions_in(scope["headers"])
    conditions.pop(b"range", None)
    status, _, size = answer_to(conditions, len(picture.data), etag, None)
    is_private = any(name == b"authorization" for name, _ in scope["headers"])
    fields: Fields = [
        *CORS,
        NOSNIFF,
        (b"etag", etag),
        (b"cache-control", cache_control(pinned=member.blob.is_pinned, private=is_private)),
    ]
    if status == 412:
        await send_problem(send, 412, problem(412, "The picture is not the one that was named."))
    elif status == 304:
        await send_whole(send, 304, fields)
    else:
        fields += [
            (b"content-type", picture.media_type),
            (b"content-length", b"%d" % size),
        ]
        await send_whole(send, 200, fields, picture.data)
    return status
