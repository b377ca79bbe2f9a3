"""The facts of an image that Pixano stores, besides its URL or its bytes: size, format and preview."""

from __future__ import annotations

import io
from itertools import tee
from typing import TYPE_CHECKING, NamedTuple

from blobpack._native.facts import facts_of
from blobpack.columns import media_type_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.integrations.pixano.blob_folder import FolderRecord
    from blobpack.model import Member
    from blobpack.opening.reader import Reader

# Pillow's names of formats, which Pixano stores, where they are not the end of the media type in capitals
FORMATS = {
    "image/jp2": "JPEG2000",
    "image/svg+xml": "SVG",
    "image/vnd.adobe.photoshop": "PSD",
    "image/vnd.radiance": "HDR",
    "image/x-portable-anymap": "PPM",
}
NEEDED = frozenset(("media_type", "width", "height"))
PREVIEW_SIDE = 128
PREVIEW_QUALITY = 85
# a file of a few bytes can hold many pixels
PREVIEW_PIXELS_MAX = 50_000_000


class ImageFacts(NamedTuple):
    """Facts of an image.

    Attributes:
        width: Width as shown, in pixels; 0 if it is not known.
        height: Height as shown.
        format: Pillow's name of its format; empty if it is not known.
    """

    width: int
    height: int
    format: str


def has_facts(reader: Reader) -> bool:
    """Return whether the index knows what Pixano stores of images."""
    return reader.index.facts >= NEEDED


def facts_in_index(member: Member) -> ImageFacts:
    """Return the facts that the index has of an image."""
    return ImageFacts(member.width or 0, member.height or 0, format_of(member.media_type))


def facts_in_payload(name: str, payload: bytes) -> ImageFacts:
    """Return the facts in an image's header."""
    facts = facts_of(payload, name.encode("utf-8", "surrogateescape"))
    return ImageFacts(facts.width, facts.height, format_of(media_type_of(facts.media_type)))


def format_of(media_type: str | None) -> str:
    """Return Pillow's name of a format; an empty text for an unknown one."""
    if media_type is None:
        return ""
    end = media_type.rpartition("/")[2].removeprefix("x-")
    return FORMATS.get(media_type, end.upper())


def preview_of(payload: bytes) -> bytes:
    """Return a small JPEG of an image, turned as its EXIF demands; empty if it can't be decoded, or is too large."""
    from PIL import Image, ImageOps

    # Pillow's plugins raise anything at a damaged image, and an image without a preview is still imported
    try:
        with Image.open(io.BytesIO(payload)) as image:
            if image.width * image.height > PREVIEW_PIXELS_MAX:
                return b""
            # a JPEG is decoded at a fraction of its size
            image.draft("RGB", (2 * PREVIEW_SIDE, 2 * PREVIEW_SIDE))
            image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), reducing_gap=2.0)
            small = ImageOps.exif_transpose(image).convert("RGB")
        jpeg = io.BytesIO()
        small.save(jpeg, "JPEG", quality=PREVIEW_QUALITY)
        return jpeg.getvalue()
    except Exception:
        return b""


def with_payloads(
    reader: Reader, records: Iterable[FolderRecord]
) -> Iterator[tuple[FolderRecord, dict[str, bytes]]]:
    """Yield records, each with the payloads of its views. Images are read ahead, neighbours by one request."""
    wanted, asked = tee(records)
    payloads = reader.read_many(member for record in wanted for member in record.images.values())
    for record in asked:
        yield record, {view: next(payloads) for view in record.images}
