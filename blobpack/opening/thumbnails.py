"""Show a blob or collection in a notebook: what it is, and small images of some of its members.

Strategy: the members lie at equal distances in the index, because neighbours look alike. At most 12 payloads of at most
4 MiB are read, all at once. A notebook must show something, so a member that can't be read or decoded, or is too large,
shows its name alone.
"""

from __future__ import annotations

import io
from base64 import b64encode
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING

from blobpack.errors import BlobpackError
from blobpack.quoting import one_line
from blobpack.threads import map_ahead

if TYPE_CHECKING:
    from blobpack._native.results import FoundRow
    from blobpack.opening.reader import Reader

THUMBNAILS_MAX = 12
PAYLOAD_BYTES_MAX = 4 << 20
# A JPEG or PNG of a few bytes can hold many pixels, which would take as long to decode.
PIXELS_MAX = 50_000_000
WIDTH_MAX, HEIGHT_MAX = 120, 96
NAME_CHARACTERS_MAX = 40

FIGURE = (
    '<figure style="display: inline-block; margin: 0 8px 8px 0; width: {width}px; vertical-align: top">{image}'
    '<figcaption style="font-size: 75%; overflow-wrap: anywhere">{name}</figcaption></figure>'
)


def to_html(reader: Reader) -> str:
    """Return the HTML of a reader: its repr, and a strip of at most 12 thumbnails."""
    head = f"<div><code>{_escaped(repr(reader))}</code></div>"
    try:
        found = reader.index._search_rows(_spread(len(reader)))
        figures = map_ahead(
            lambda row: _figure(reader, row), found, threads=THUMBNAILS_MAX, name="thumbnails"
        )
        return f"{head}<div>{''.join(figures)}</div>"
    # a reader that was closed, for example, still says what it is
    except BlobpackError:
        return head


def _spread(count: int) -> list[int]:
    """Return the numbers of at most 12 of so many rows, at equal distances."""
    shown = min(count, THUMBNAILS_MAX)
    return [place * count // shown for place in range(shown)]


def _figure(reader: Reader, found: FoundRow) -> str:
    name = reader.index.names[found.row]
    image = ""
    if found.offset_end - found.offset_start <= PAYLOAD_BYTES_MAX:
        # Pillow's plugins raise anything at a damaged image
        with suppress(Exception):
            image = _thumbnail(reader.read(found.row))
    short = name if len(name) <= NAME_CHARACTERS_MAX else f"…{name[1 - NAME_CHARACTERS_MAX :]}"
    return FIGURE.format(width=WIDTH_MAX, image=image, name=_escaped(short))


def _thumbnail(payload: bytes) -> str:
    """Return an image in HTML, of at most 120 × 96 pixels."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(payload)) as image:
        if image.width * image.height > PIXELS_MAX:
            return ""
        image.draft("RGB", (WIDTH_MAX, HEIGHT_MAX))
        small = ImageOps.exif_transpose(image)
        small.thumbnail((WIDTH_MAX, HEIGHT_MAX))
        jpeg = io.BytesIO()
        small.convert("RGB").save(jpeg, "JPEG")
    return f'<img src="data:image/jpeg;base64,{b64encode(jpeg.getvalue()).decode()}">'


def _escaped(text: str) -> str:
    # a name may hold bytes that are not UTF-8, as surrogates (PEP 383), which no page can hold
    return escape(one_line(text).encode("utf-8", "replace").decode())
