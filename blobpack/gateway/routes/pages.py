"""The pages of the server itself: the gallery, its health, its metrics, and the description of its routes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from blobpack.gateway.answers import AnswerError
from blobpack.gateway.gallery import MEDIA_TYPE, ShownBlob, page
from blobpack.gateway.metrics import CONTENT_TYPE
from blobpack.gateway.routes.endpoint import endpoint
from blobpack.quoting import quoted_path

if TYPE_CHECKING:
    from starlette.requests import Request

    from blobpack.gateway.routes.services import Services
    from blobpack.gateway.tokens import Grant

OPENAPI = Path(__file__).parents[1] / "static" / "openapi.json"


def routes(services: Services) -> list[Route]:
    """Return the routes."""

    async def gallery(request: Request, grant: Grant) -> Response:
        shown = [
            ShownBlob(file.name, f"raw/{quoted_path(path)}", size=file.at(0).end).located(place)
            for path, file, place in services.raw_files.shown()
            if grant.covers_all(file.name)
        ]
        # the page reads blobs only through this server; no page of another site may show it in a frame
        headers = {
            "x-content-type-options": "nosniff",
            "cache-control": "no-cache",
            "x-frame-options": "SAMEORIGIN",
            "referrer-policy": "no-referrer",
        }
        return Response(page(shown), 200, headers, MEDIA_TYPE)

    async def metrics(request: Request, grant: Grant) -> Response:
        # metrics name the blobs
        if not (grant.is_prefix and not grant.path):
            raise AnswerError(404, "The token does not cover the metrics.")
        return Response(
            services.metrics.text(services.blobs, services.payloads), media_type=CONTENT_TYPE
        )

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers={"cache-control": "no-store"})

    async def openapi(request: Request) -> Response:
        described = {**description(), "servers": [{"url": request.scope.get("root_path") or "/"}]}
        return JSONResponse(described, headers={"access-control-allow-origin": "*"})

    async def robots(request: Request) -> Response:
        return PlainTextResponse("User-agent: *\nDisallow: /\n")

    return [
        Route("/", endpoint(services, gallery)),
        Route("/metrics", endpoint(services, metrics)),
        Route("/healthz", healthz),
        Route("/openapi.json", openapi),
        Route("/robots.txt", robots),
    ]


@cache
def description() -> dict[str, Any]:
    """Return the OpenAPI document of the routes."""
    found: dict[str, Any] = json.loads(OPENAPI.read_text())
    return found
