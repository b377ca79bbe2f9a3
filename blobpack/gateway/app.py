"""The HTTP face as one ASGI application, for `blobpack serve` or to be mounted in another application.

Strategy: plain ASGI callables answer requests for payloads. They get the path as it was sent, because names of members
may hold "/", "..", NUL or bytes that are not UTF-8, and a framework's router would decode or normalise them. Starlette
routes all other requests, which may take a millisecond each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from blobpack.errors import PackageMissingError
from blobpack.gateway.answers import NOT_FOUND, send_problem
from blobpack.gateway.images import Images
from blobpack.gateway.metrics import Metrics
from blobpack.gateway.payloads import Payloads
from blobpack.gateway.routes.iiif import Iiif
from blobpack.gateway.routes.pictures import Pictures
from blobpack.gateway.routes.raw_files import RawFiles
from blobpack.gateway.routes.services import Services
from blobpack.gateway.routes.thumbnails import Thumbnails
from blobpack.gateway.served.blobs import ServedBlobs
from blobpack.gateway.tokens import GRANT, Access, Keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from blobpack.gateway.answers import Receive, Scope, Send
    from blobpack.gateway.served.renewal import Reopen
    from blobpack.gateway.tokens import Grant
    from blobpack.opening.reader import Reader

    # called with the raw path behind the route's prefix, and with the grant of the token in the path
    Face = Callable[[Scope, Receive, Send, bytes, Grant | None], Awaitable[None]]

TOKEN_PREFIX = b"/k/"


def gateway_app(
    blobs: Mapping[str, Reader] | ServedBlobs,
    *,
    keys: Mapping[str, str] | Keys | None = None,
    require_token: bool = False,
    pinned: bool = False,
    reopen: Reopen | None = None,
) -> GatewayApp:
    """Make the ASGI application that serves members of open blobs.

    It can be mounted below any path of another ASGI application, such as one of Starlette or FastAPI. The caller closes
    the blobs.

    Args:
        blobs: Blobs and collections by the names under which they are served.
        keys: Secret keys by access keys; tokens are made and checked with them.
        require_token: Answer requests without a token with 401. Otherwise everybody who can reach the server can read
            everything.
        pinned: The names will never lead to other bytes, so that caches may keep all answers for ever.
        reopen: Called with the name of a blob, in another thread, when its local file has changed; opens the blob again.
            None: from then on, requests for members of a changed blob are answered with 409.

    Raises:
        PackageMissingError: Starlette is not installed.
        ValueError: a name or an access key has a wrong form, or tokens are required and there are no keys.
        BlobpackError: the index of a remote blob can't be read.
    """
    served = (
        blobs
        if isinstance(blobs, ServedBlobs)
        else ServedBlobs(blobs, pinned=pinned, reopen=reopen)
    )
    known = keys if isinstance(keys, Keys) else Keys(keys or {})
    names = frozenset(blob.name for blob in served)
    return GatewayApp(served, Access(known, require_token=require_token, names=names))


class GatewayApp:
    """The ASGI application; gateway_app makes it.

    Attributes:
        access: Who may read what; `access.keys` makes tokens.
        services: What its routes share: the blobs that are served, who may read them, and what reads and counts.
    """

    def __init__(self, blobs: ServedBlobs, access: Access) -> None:
        metrics = Metrics()
        payloads = Payloads(metrics.count_wait)
        raw_files = RawFiles(blobs)
        services = Services(blobs, access, metrics, payloads, raw_files, Pictures(payloads))
        self.access, self.services = access, services
        self._images = Images(blobs, payloads, access, metrics, "image")
        self._faces: dict[bytes, Face] = {
            b"b": self._images,
            b"raw": Images(raw_files, payloads, access, metrics, "raw"),
            b"t": Thumbnails(services),
            b"iiif": Iiif(services),
        }
        self._rest = rest_of(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI 3 has it."""
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        raw = raw_path_of(scope)
        if raw.startswith(b"/b/"):
            await self._images(scope, receive, send, raw[3:], None)
            return
        grant = None
        if raw.startswith(TOKEN_PREFIX):
            token, _, raw = raw[len(TOKEN_PREFIX) :].partition(b"/")
            grant = self.access.grant_of_token(token.decode("latin-1"))
            if grant is None:
                await send_problem(send, 404, NOT_FOUND)
                return
            raw = b"/" + raw
            root = scope.get("root_path", "")
            scope = {**scope, "root_path": f"{root}/k/{token.decode()}", GRANT: grant}
        first, slash, rest = raw[1:].partition(b"/")
        face = self._faces.get(first) if slash else None
        if face is not None:
            await face(scope, receive, send, rest, grant)
        else:
            await self._rest(scope, receive, send)

    def ready_answer(self, target: bytes) -> tuple[bytes, bytes] | None:
        """Return the answer to a plain GET, if it is a payload that waits for nothing.

        A server may ask this before it calls the application: what it answers, the application would answer with the
        status 200 and equal header fields. A plain GET has no condition, range or authorization.

        Args:
            target: The target of the request as it was sent: path and query.

        Returns:
            The encoded header fields and the payload; None if the application must answer.
        """
        # a query, or a path that needs the server's own parser
        if (
            not target.startswith(b"/b/")
            or b"?" in target
            or b"#" in target
            or not target.isascii()
        ):
            return None
        return self._images.ready_answer(target[3:])


def raw_path_of(scope: Scope) -> bytes:
    """Return the path of a request below the place where this application is mounted, as the client sent it."""
    raw: bytes = (
        scope.get("raw_path") or quote(scope["path"], safe="/", errors="surrogateescape").encode()
    )
    root: str = scope.get("root_path", "")
    if not root:
        return raw
    # root_path is decoded, so it may be shorter than its part of the raw path; both have the same number of slashes
    end = 0
    for _ in range(root.count("/")):
        end = raw.find(b"/", end + 1)
        if end < 0:
            return raw
    return raw[end:] if unquote(raw[:end].decode("latin-1")) == root else raw


def rest_of(services: Services) -> Any:
    """Return the Starlette application for everything but payloads.

    Raises:
        PackageMissingError: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
    except ImportError as exc:
        raise PackageMissingError(
            f"serving needs Starlette, which can't be imported ({exc}): pip install 'blobpack[serve]'"
        ) from exc
    from blobpack.gateway.routes import api, pages, tar_stream

    return Starlette(
        routes=[*pages.routes(services), *api.routes(services), tar_stream.route(services)]
    )
