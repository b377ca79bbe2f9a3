"""Show a blob or collection in a notebook: what it is, and small images of some of its members.

Strategy: the members lie at equal distances in the index, because neighbours look alike. At most 12 payloads of at most
4 MiB are read, all at once. They are decoded one after the other, because a decoded image takes a hundred times the
memory. A notebook must show something, so a member that can't be read or decoded, or is too large, shows its name alone.
"""

from __future__ import annotations

import io
from base64 import b64encode
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING

from blobpack.errors import BlobpackError
from blobpack.look_ahead import map_ahead
from blobpack.quoting import one_line

if TYPE_CHECKING:
    from blobpack._native.results import FoundRow
    from blobpack.opening.reader import Reader

THUMBNAILS_MAX = 12
PAYLOAD_BYTES_MAX = 4 << 20
# A PNG of a few bytes can hold many pixels. 25 million take 100 MB, and 100 million a second or two.
PIXELS_MAX = 25_000_000
STRIP_PIXELS_MAX = 100_000_000
EXIF_ORIENTATION = 0x0112
TURNED = range(5, 9)  # orientations that swap width and height
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
        payloads = map_ahead(
            lambda row: _read_small(reader, row), found, threads=THUMBNAILS_MAX, name="thumbnails"
        )
        names = [reader.index.names[row.row] for row in found]
        strip = _Strip()
        figures = [strip.figure(*member) for member in zip(names, payloads, strict=True)]
        return f"{head}<div>{''.join(figures)}</div>"
    # a reader that was closed, for example, still says what it is
    except BlobpackError:
        return head


def _spread(count: int) -> list[int]:
    """Return the numbers of at most 12 of so many rows, at equal distances."""
    shown = min(count, THUMBNAILS_MAX)
    return [place * count // shown for place in range(shown)]


def _read_small(reader: Reader, found: FoundRow) -> bytes:
    """Return a payload; an empty one if it is too large, or can't be read."""
    if found.offset_end - found.offset_start > PAYLOAD_BYTES_MAX:
        return b""
    with suppress(BlobpackError):
        return reader.read(found.row)
    return b""


class _Strip:
    """Makes the figures of one strip, with a bound for the pixels that are decoded for all of them."""

    def __init__(self) -> None:
        self.pixels_left = STRIP_PIXELS_MAX

    def figure(self, name: str, payload: bytes) -> str:
        """Return a member in HTML: its image if there is one, and its name."""
        image = ""
        # Pillow's plugins raise anything at a damaged image
        with suppress(Exception):
            image = self._thumbnail(payload)
        short = name if len(name) <= NAME_CHARACTERS_MAX else f"…{name[1 - NAME_CHARACTERS_MAX :]}"
        return FIGURE.format(width=WIDTH_MAX, image=image, name=_escaped(short))

    def _thumbnail(self, payload: bytes) -> str:
        """Return an image in HTML, of at most 120 × 96 pixels; nothing for one with too many pixels."""
        from PIL import Image, ImageOps

        with Image.open(io.BytesIO(payload)) as image:
            if image.width * image.height > PIXELS_MAX:
                return ""
            # a JPEG is decoded at a fraction of its size
            image.draft("RGB", (WIDTH_MAX, WIDTH_MAX))
            pixels = image.width * image.height
            if pixels > self.pixels_left:
                return ""
            self.pixels_left -= pixels
            # not before: a PNG may hold its EXIF behind its pixels, which are then decoded
            is_turned = image.getexif().get(EXIF_ORIENTATION) in TURNED
            box = (HEIGHT_MAX, WIDTH_MAX) if is_turned else (WIDTH_MAX, HEIGHT_MAX)
            # made small first: turning a large image would take its memory a second time
            image.thumbnail(box)
            small = ImageOps.exif_transpose(image).convert("RGB")
        jpeg = io.BytesIO()
        small.save(jpeg, "JPEG")
        return f'<img src="data:image/jpeg;base64,{b64encode(jpeg.getvalue()).decode()}">'


def _escaped(text: str) -> str:
    # a name may hold bytes that are not UTF-8, as surrogates (PEP 383), which no page can hold
    return escape(one_line(text).encode("utf-8", "replace").decode())
