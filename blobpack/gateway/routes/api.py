"""The JSON API below `/api/v1/`: blobs, pages of their members, single members, and many references at once.

Strategy: a page of members begins at a row, and its cursor is the next row. So late pages cost no more than the first.
Native code compares a condition with 65,536 rows at a time, in a thread. A page ends after four million rows, even if it
is empty, so that no request takes long.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.routing import Route

from blobpack.errors import FactsMissingError
from blobpack.gateway.answers import AnswerError
from blobpack.gateway.routes.endpoint import body_of, endpoint, json_answer, texts_in
from blobpack.index.select import make_conditions
from blobpack.quoting import quoted_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from blobpack.gateway.routes.services import Services
    from blobpack.gateway.served.blob import ServedBlob, ServedMember
    from blobpack.gateway.tokens import Grant
    from blobpack.index.select import Conditions

LIMIT = 100
LIMIT_MAX = 1000
# the first step is small, because it fills most pages
FIRST_ROWS, ROWS_AT_ONCE = 4096, 1 << 16
ROWS_LOOKED_AT_MAX = 1 << 22
# a member's id and a cursor: the version of the blob and a row
ID = re.compile(r"([0-9a-f]{12})-([0-9]{1,18})")
BOUNDS = ("min_size", "max_size", "min_width", "max_width", "min_height", "max_height")
PARAMETERS = frozenset(("prefix", "glob", "media_type", "cursor", "limit", *BOUNDS))


def routes(services: Services) -> list[Route]:
    """Return the routes of the API."""
    api = Api(services)
    return [
        Route("/api/v1/blobs", endpoint(services, api.blobs)),
        Route("/api/v1/blobs/{name:path}/members", endpoint(services, api.members)),
        Route("/api/v1/blobs/{name:path}", endpoint(services, api.blob)),
        Route("/api/v1/members/{id}", endpoint(services, api.member)),
        Route("/api/v1/resolve", endpoint(services, api.resolve), methods=["POST"]),
    ]


class Api:
    """Answers requests to the API."""

    def __init__(self, services: Services) -> None:
        """Answer from the blobs of a server."""
        self._services = services

    async def blobs(self, request: Request, grant: Grant) -> Response:
        """List the blobs that the token covers."""
        check_parameters(request, frozenset())
        shown = [
            about(request, blob) for blob in self._services.blobs if grant.covers_all(blob.name)
        ]
        return json_answer({"blobs": shown})

    async def blob(self, request: Request, grant: Grant) -> Response:
        """Describe one blob."""
        check_parameters(request, frozenset())
        found = self._services.blobs.get(request.path_params["name"])
        if found is None or not grant.covers_all(found.name):
            raise not_found("blob")
        return json_answer(about(request, found))

    async def members(self, request: Request, grant: Grant) -> Response:
        """List a page of the members of a blob."""
        check_parameters(request, PARAMETERS)
        found = self._services.blobs.get(request.path_params["name"])
        prefix = request.query_params.get("prefix", "")
        # a token for a prefix lists what begins with it
        if found is None or not grant.covers_all(found.name, prefix):
            raise not_found("blob")
        first, limit = start_of(request, found), whole(request, "limit", LIMIT, 1, LIMIT_MAX)
        conditions = conditions_of(request)
        rows, after = await asyncio.to_thread(page, found, conditions, first, limit)
        shown = [about_member(request, found.at(row)) for row in rows]
        cursor = f"{found.version}-{after}" if after < len(found.index) else None
        return json_answer({"members": shown, "next_cursor": cursor})

    async def member(self, request: Request, grant: Grant) -> Response:
        """Describe one member."""
        check_parameters(request, frozenset())
        found = by_id(self._services, request.path_params["id"])
        if found is None or not grant.covers(found.blob.name, found.name):
            raise not_found("member")
        return json_answer(about_member(request, found))

    async def resolve(self, request: Request, grant: Grant) -> Response:
        """Describe the members that references name; null where there is none."""
        check_parameters(request, frozenset())
        refs = texts_in(await body_of(request), "refs")
        found = [self._services.blobs.find(ref) for ref in refs]
        shown = [
            about_member(request, one) if one and grant.covers(one.blob.name, one.name) else None
            for one in found
        ]
        return json_answer({"members": shown})


# What is asked


def not_found(what: str) -> AnswerError:
    """Return the error for a blob or member that does not exist, or that the token does not cover."""
    return AnswerError(404, f"There is no such {what} here, or the token does not cover it.")


def check_parameters(request: Request, known: frozenset[str]) -> None:
    """Check that a query has no unknown parameter: a misspelled condition would select everything."""
    for name in request.query_params:
        if name not in known:
            raise AnswerError(422, f"There is no parameter {name!r:.80} here.")


def whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    """Return a parameter that is a whole number."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
        raise AnswerError(422, f"{name} must be a whole number from {least} to {most}.")
    return int(text)


def start_of(request: Request, blob: ServedBlob) -> int:
    """Return the row where a page begins."""
    cursor = request.query_params.get("cursor")
    if cursor is None:
        return 0
    parts = ID.fullmatch(cursor)
    if parts is None:
        raise AnswerError(422, "cursor must be the next_cursor of an earlier page.")
    if parts[1] != blob.version:
        raise AnswerError(
            409, "The blob has changed since that page: begin again without a cursor."
        )
    return int(parts[2])


def conditions_of(request: Request) -> list[Conditions]:
    """Return the conditions of a query; all of them must hold."""
    query = request.query_params
    bounds = {name: whole(request, name, 0, 0, 1 << 59) for name in BOUNDS if name in query}
    prefix = query.get("prefix")
    # one of the globs must match, and the prefix must match, too
    globs_of_all = [tuple(query.getlist("glob")), (prefix_glob(prefix),) if prefix else ()]
    try:
        return [
            make_conditions(
                globs=globs,
                exclude=(),
                regex=None,
                names=None,
                media_type=query.getlist("media_type") or None,
                where=None,
                **bounds,
            )
            for globs in globs_of_all
            if globs or query.getlist("media_type") or bounds
        ]
    # a media type that does not exist
    except ValueError as exc:
        raise AnswerError(422, f"{exc}.") from exc


def prefix_glob(prefix: str) -> str:
    """Return the glob that matches every name with a prefix."""
    return re.sub(r"([*?[])", r"[\1]", prefix) + "*"


# What is answered


def page(
    blob: ServedBlob, conditions: Sequence[Conditions], first: int, limit: int
) -> tuple[Sequence[int], int]:
    """Return the rows of the members that meet all conditions, from a row on, and where the next page begins.

    Raises:
        AnswerError: the index lacks the facts that a condition needs.
    """
    count = len(blob.index)
    if not conditions:
        last = min(first + limit, count)
        return range(first, last), last
    rows: list[int] = []
    step, looked_at = FIRST_ROWS, 0
    while first < count and looked_at < ROWS_LOOKED_AT_MAX:
        part = blob.index._columns_of(first, min(first + step, count))
        try:
            passed = conditions[0].mask(part)
            for other in conditions[1:]:
                passed &= other.mask(part)
        except FactsMissingError as exc:
            raise AnswerError(422, f"{exc}.") from exc
        found = passed.nonzero()[0]
        room = limit - len(rows)
        rows += (found[:room] + first).tolist()
        if len(rows) == limit:
            return rows, rows[-1] + 1
        first += len(part)
        looked_at += len(part)
        step = ROWS_AT_ONCE
    return rows, min(first, count)


def by_id(services: Services, text: str) -> ServedMember | None:
    """Return the member with an id; None if there is none. Blobs with one version have the same members."""
    parts = ID.fullmatch(text)
    if parts is None:
        return None
    for blob in services.blobs:
        if blob.version == parts[1] and int(parts[2]) < len(blob.index):
            return blob.at(int(parts[2]))
    return None


def about(request: Request, blob: ServedBlob) -> dict[str, object]:
    """Return the JSON of a blob."""
    return {
        "name": blob.name,
        "version": blob.version,
        "members": len(blob.index),
        "payload_bytes": blob.index.payload_bytes,
        "facts": sorted(blob.index.facts),
        "blobs": len(blob.reader.blobs),
        "url": f"{root_of(request)}/b/{quoted_path(blob.name)}/",
        "pinned_url": f"{root_of(request)}/b/{quoted_path(blob.name)}@{blob.version}/",
    }


def about_member(request: Request, member: ServedMember) -> dict[str, object]:
    """Return the JSON of a member."""
    blob = member.blob
    return {
        "id": f"{blob.version}-{member.row}",
        "blob": blob.name,
        "member": member.name,
        "offset_start": member.start,
        "offset_end": member.end,
        "size": member.size,
        "media_type": member.media_type,
        "width": member.width,
        "height": member.height,
        "crc32c": None if member.crc32c is None else f"{member.crc32c:08x}",
        "mtime": member.mtime,
        "etag": member.etag.decode(),
        "url": f"{root_of(request)}/b/{quoted_path(blob.url_name)}/{quoted_path(member.name)}",
    }


def root_of(request: Request) -> str:
    """Return the path where the application is mounted, with the token that the request's path has."""
    return quote(request.scope.get("root_path", ""))
