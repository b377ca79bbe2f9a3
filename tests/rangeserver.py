"""The answer to one ranged GET, for handlers of http.server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler


def send_range(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Send the bytes that the Range field asks for; all versions of the content have one ETag."""
    first, last = handler.headers["Range"].removeprefix("bytes=").split("-")
    start = int(first or max(0, len(content) - int(last)))
    end = int(last) + 1 if first else len(content)
    handler.send_response(206)
    handler.send_header("ETag", '"1"')
    handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
    handler.send_header("Content-Length", str(end - start))
    handler.end_headers()
    handler.wfile.write(content[start:end])
