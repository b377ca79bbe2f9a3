"""The functions of routes in Starlette: grants, errors as answers, and JSON that was sent or is answered."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from blobpack.errors import BlobpackError
from blobpack.gateway.answers import NOSNIFF, PROBLEM_JSON, AnswerError, problem, status_of
from blobpack.gateway.tokens import GRANT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from blobpack.gateway.routes.services import Services
    from blobpack.gateway.tokens import Grant

REFS_MAX = 10_000
BODY_BYTES_MAX = 8 << 20
# a slow client is no reason for more: a body is a list of names
BODY_S = 60


def json_answer(content: object, status: int = 200) -> Response:
    """Return an answer in JSON. In names, bytes that are not UTF-8 are escaped as surrogates, as in Python."""
    body = json.dumps(content, separators=(",", ":")).encode()
    headers = {"x-content-type-options": "nosniff", "cache-control": "no-cache"}
    return Response(body, status, headers, "application/json")


def error_answer(status: int, detail: str) -> Response:
    """Return an error in the form of the routes of payloads."""
    headers = {NOSNIFF[0].decode(): NOSNIFF[1].decode(), "cache-control": "no-store"}
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="blobpack"'
    if status == 503:
        headers["retry-after"] = "1"
    if status == 408:
        # the rest of the body is not awaited
        headers["connection"] = "close"
    return Response(problem(status, detail), status, headers, PROBLEM_JSON.decode())


def endpoint(
    services: Services, answer: Callable[[Request, Grant], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """Return the function of a route: it finds the request's grant, and turns errors into answers."""
    renewal = services.blobs.renewal

    async def ask(request: Request) -> Response:
        await renewal.look()
        try:
            grant = request.scope.get(GRANT)
            if grant is None:
                sent = request.headers.get("authorization")
                grant = services.access.grant_of(None if sent is None else sent.encode("latin-1"))
            if grant is None:
                raise AnswerError(401, "This server asks for a token.")
            found = await answer(request, grant)
        except AnswerError as exc:
            found = error_answer(exc.status, exc.detail)
        except BlobpackError as exc:
            found = error_answer(*status_of(exc))
        except ClientDisconnect:
            # nobody sees this answer; without it, each such client would leave a traceback in the log
            found = error_answer(400, "The request ended before its body.")
        services.metrics.count("api", found.status_code, len(found.body))
        return found

    return ask


async def body_of(request: Request) -> Any:
    """Return the JSON of a request's body, which must arrive in time, however slowly its client sends."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > BODY_BYTES_MAX:
                    raise AnswerError(413, f"A body has at most {BODY_BYTES_MAX >> 20} MiB here.")
    except TimeoutError as exc:
        raise AnswerError(408, f"A body must arrive within {BODY_S} seconds.") from exc
    try:
        return json.loads(body)
    # RecursionError: too many nested brackets
    except (ValueError, RecursionError) as exc:
        raise AnswerError(400, "The body is not JSON.") from exc


def texts_in(body: Any, name: str) -> list[str]:
    """Return the list of texts that a body has under a name."""
    texts = body.get(name) if isinstance(body, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise AnswerError(422, f'The body must be {{"{name}": ["…", …]}}.')
    if len(texts) > REFS_MAX:
        raise AnswerError(422, f"{name} may have {REFS_MAX} texts at most.")
    return texts
