"""The application of Pixano 0.6 with images from blobs instead of a folder of media.

Strategy: the pages of Pixano 0.6 ask their own server for each image at `/media/<url>`, and for each small image at
`/thumbnail/<url in base64>`. These requests are answered from blobs before Pixano sees them. Pixano itself opens images as
files in its folder of media, by `urllib`. This folder is empty here, and `urllib` reads blobs instead.
"""

from __future__ import annotations

import io
import urllib.request
from base64 import b64decode
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import quote, unquote
from urllib.response import addinfourl

from blobpack.errors import BlobpackError, PackageMissingError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]
    # returns the payload of `<blob>/<member>`; None if there is none
    Read = Callable[[str], bytes | None]

MEDIA, THUMBNAIL = b"/media/", b"/thumbnail/"
# Pixano's own default
THUMBNAIL_SIDE = 128
# the paths at which Pixano shows its one page
PAGES = ("/", "/{dataset}/dataset", "/{dataset}/dashboard", "/{dataset}/dataset/{item}")


class PixanoApp:
    """The application, as ASGI 3 has it."""

    def __init__(self, library: str, media: str, blobs: Application, read: Read) -> None:
        """Make the application, and let `urllib` read images from blobs in this process.

        Args:
            library: Pixano's library, a folder.
            media: An empty folder, which must exist as long as the application runs.
            blobs: An application that answers `/b/<blob>/<member>` with a payload, and `/t/<side>/<blob>/<member>` with a
                small image.
            read: Returns a payload.

        Raises:
            PackageMissingError: Pixano 0.6 is not installed.
        """
        self._blobs = blobs
        self._pixano = pixano_app(library, media)
        urllib.request.install_opener(urllib.request.build_opener(MediaHandler(media, read)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            target = target_of(scope.get("raw_path") or quote(scope["path"]).encode())
            if target is not None:
                path = unquote(target.decode("latin-1"))
                there = {"path": path, "raw_path": target, "root_path": "", "query_string": b""}
                await self._blobs({**scope, **there}, receive, send)
                return
        await self._pixano(scope, receive, send)


def target_of(path: bytes) -> bytes | None:
    """Return where the blobs have what a page asks for; None if Pixano must answer.

    Args:
        path: The path of the request, percent-encoded.
    """
    if path.startswith(MEDIA):
        return b"/b/" + path[len(MEDIA) :].lstrip(b"/")
    if path.startswith(THUMBNAIL):
        try:
            url = b64decode(unquote(path[len(THUMBNAIL) :].decode("latin-1"))).decode()
        # no base64, or no UTF-8
        except ValueError:
            url = ""
        # URLs of datasets that Pixano built itself are not percent-encoded
        return b"/t/%d/" % THUMBNAIL_SIDE + quote(url.lstrip("/"), safe="/%").encode()
    return None


class MediaHandler(urllib.request.FileHandler):
    """Opens `file://` URLs: those in one folder from blobs, and all others as files."""

    def __init__(self, folder: str, read: Read) -> None:
        super().__init__()
        self._folder = f"{folder.rstrip('/')}/"
        self._read = read

    def file_open(self, req: urllib.request.Request) -> addinfourl:
        """Open a URL.

        Raises:
            URLError: there is no such image, or it can't be read.
        """
        path = unquote(req.selector, errors="surrogateescape")
        if not path.startswith(self._folder):
            return super().file_open(req)
        name = path[len(self._folder) :].lstrip("/")
        try:
            payload = self._read(name)
        except BlobpackError as exc:
            raise URLError(str(exc)) from exc
        if payload is None:
            raise URLError(f"no blob has {name!r}")
        return addinfourl(io.BytesIO(payload), Message(), req.full_url)


def pixano_app(library: str, media: str) -> Any:
    """Return the application of Pixano 0.6 with its pages.

    Args:
        library: Pixano's library, a folder.
        media: An empty folder.

    Raises:
        PackageMissingError: Pixano 0.6 is not installed.
    """
    try:
        import pixano.app
        from pixano.app.main import create_app
        from pixano.app.settings import Settings, get_settings
        from starlette.responses import FileResponse
        from starlette.staticfiles import StaticFiles
    except ImportError as exc:
        raise PackageMissingError(
            f"this needs Pixano 0.6, which can't be imported ({exc}). Pixano 0.7 and later store images in datasets, or read "
            "them by URL from `blobpack serve`, so `pixano server run` is enough"
        ) from exc
    settings = Settings(library_dir=library, media_dir=media)
    app = create_app(settings=settings)
    app.dependency_overrides[get_settings] = lambda: settings
    pages = Path(pixano.app.__file__).parent / "dist"

    # Pixano's own function for this fails with Starlette 1.0
    async def page(_request: Any) -> FileResponse:
        return FileResponse(pages / "index.html")

    for path in PAGES:
        app.add_route(path, page)
    app.mount("/_app", StaticFiles(directory=pages / "_app"))
    return app
