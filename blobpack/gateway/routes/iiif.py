"""`/iiif/…`: the IIIF Image API, level 1, with a few features of level 2. An identifier is `blob%2Fmember`.

Each image is first turned as its EXIF demands; then the region is cut.

Source: IIIF Image API 3.0, https://iiif.io/api/image/3.0/, and its page "Compliance".
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from blobpack.gateway.answers import CORS, NOSNIFF, AnswerError, send_whole
from blobpack.gateway.images import cache_control
from blobpack.gateway.routes.picture_face import PictureFace, send_picture
from blobpack.gateway.routes.pictures import Picture, decoding, encoded, opened

if TYPE_CHECKING:
    from blobpack.gateway.answers import Scope, Send
    from blobpack.gateway.served.blob import ServedMember
    from blobpack.gateway.tokens import Grant

CONTEXT = "http://iiif.io/api/image/3/context.json"
PROFILE = (b"link", b'<http://iiif.io/api/image/3/level1.json>;rel="profile"')
EXTRA_FEATURES = ["regionByPct", "sizeByPct", "sizeByConfinedWh", "profileLinkHeader"]
NUMBER = r"[0-9]{1,9}"
DECIMAL = rf"{NUMBER}(?:\.[0-9]{{1,10}})?"
REGION = re.compile(
    rf"full|square|({NUMBER}),({NUMBER}),({NUMBER}),({NUMBER})|pct:({DECIMAL}),({DECIMAL}),({DECIMAL}),({DECIMAL})"
)
SIZE = re.compile(rf"(\^?)(?:max|pct:({DECIMAL})|(!?)({NUMBER})?,({NUMBER})?)")
ROTATION = re.compile(rf"!?{DECIMAL}")
QUALITIES = ("default", "color", "gray", "bitonal")
FORMATS = ("jpg", "tif", "png", "gif", "jp2", "pdf", "webp")
INFO = b"/info.json"


class Asked(NamedTuple):
    """The parameters of an image request, as texts whose form was checked."""

    region: str
    size: str


class Iiif(PictureFace):
    """Answers GET and HEAD for the Image API."""

    route = "iiif"

    async def answer(self, scope: Scope, send: Send, raw: bytes, grant: Grant) -> int:
        """Answer a request; see PictureFace."""
        if raw.endswith(INFO):
            return await self._info(scope, send, raw[: -len(INFO)], grant)
        parts = raw.rsplit(b"/", 4)
        # the identifier alone; it may also have slashes that are not encoded
        if len(parts) < 5 or not (ROTATION.fullmatch(parts[3].decode("latin-1"))):
            return await self._redirect(scope, send, raw, grant)
        asked = parsed(*(part.decode("latin-1") for part in parts[1:]))
        member = self.member_at(parts[0], grant)
        kind = "i" + quote("/".join(asked), safe="")
        picture = await self.services.pictures.get(member, kind, partial(cut, asked=asked))
        return await send_picture(scope, send, member, picture, kind)

    async def _redirect(self, scope: Scope, send: Send, raw: bytes, grant: Grant) -> int:
        """Lead from the base URI of an image to its description (section 2)."""
        member = self.member_at(raw, grant)
        where = f"{base_of(scope, member)}/info.json".encode()
        await send_whole(send, 303, [*CORS, (b"location", where), (b"content-length", b"0")])
        return 303

    async def _info(self, scope: Scope, send: Send, raw: bytes, grant: Grant) -> int:
        """Describe an image (section 5)."""
        member = self.member_at(raw, grant)
        width, height = await self._dimensions(member)
        described = {
            "@context": CONTEXT,
            "id": base_of(scope, member),
            "type": "ImageService3",
            "protocol": "http://iiif.io/api/image",
            "profile": "level1",
            "width": width,
            "height": height,
            "extraFeatures": EXTRA_FEATURES,
        }
        body = json.dumps(described).encode()
        accepted = b",".join(value for name, value in scope["headers"] if name == b"accept")
        is_linked = b"application/ld+json" in accepted
        is_private = any(name == b"authorization" for name, _ in scope["headers"])
        media_type = f'application/ld+json;profile="{CONTEXT}"' if is_linked else "application/json"
        await send_whole(
            send,
            200,
            [
                *CORS,
                NOSNIFF,
                PROFILE,
                (b"content-type", media_type.encode()),
                (b"content-length", b"%d" % len(body)),
                (b"vary", b"Accept"),
                (b"cache-control", cache_control(pinned=member.blob.is_pinned, private=is_private)),
            ],
            body,
        )
        return 200

    async def _dimensions(self, member: ServedMember) -> tuple[int, int]:
        """Return width and height as shown: from the index, or from the payload."""
        if member.width is not None and member.height is not None:
            return member.width, member.height
        picture = await self.services.pictures.get(member, "size", measured)
        width, height = picture.data.split()
        return int(width), int(height)


def parsed(region: str, size: str, rotation: str, quality_and_format: str) -> Asked:
    """Check the parameters of an image request.

    Raises:
        AnswerError: 400 for a parameter of a wrong form, 501 for one that is not supported (sections 4.7 and 7).
    """
    quality, dot, suffix = quality_and_format.rpartition(".")
    region_found, size_found = REGION.fullmatch(region), SIZE.fullmatch(size)
    if not (
        region_found
        and size_found
        and ROTATION.fullmatch(rotation)
        and dot
        and quality in QUALITIES
        and suffix in FORMATS
    ):
        raise AnswerError(400, "This is not {region}/{size}/{rotation}/{quality}.{format}.")
    is_confined, width, height = size_found[3], size_found[4], size_found[5]
    if ("," in size and not (width or height)) or (is_confined and not (width and height)):
        raise AnswerError(400, "A size needs a width or a height.")
    if size_found[1] or float(rotation.strip("!")) or rotation[0] == "!":
        raise AnswerError(501, "Images are neither made larger nor turned nor mirrored here.")
    if quality != "default" or suffix != "jpg":
        raise AnswerError(501, "Only default.jpg is made here.")
    return Asked(region, size)


def cut(payload: bytes, asked: Asked) -> Picture:
    """Return the region of an image, in the size that was asked for.

    Raises:
        AnswerError: the region lies outside of the image, the size is larger than the region, or this is no image.
    """
    from PIL import Image, ImageOps

    with opened(payload) as image, decoding(image):
        try:
            shown = ImageOps.exif_transpose(image)
            shown.load()
        except Exception as exc:
            raise AnswerError(422, "The image is damaged.") from exc
    box = region_in(asked.region, shown.width, shown.height)
    width, height = size_of(asked.size, box[2] - box[0], box[3] - box[1])
    if "transparency" in shown.info or shown.mode not in ("RGB", "L", "RGBA"):
        shown = shown.convert("RGBA" if "transparency" in shown.info else "RGB")
    return encoded(shown.resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=2.0))


def region_in(region: str, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, upper, right and lower of a region, cut at the image's edges (section 4.1).

    Raises:
        AnswerError: it is empty, or outside of the image.
    """
    if region == "full":
        return 0, 0, width, height
    if region == "square":
        side = min(width, height)
        left, upper = (width - side) // 2, (height - side) // 2
        return left, upper, left + side, upper + side
    numbers = [float(number) for number in region.removeprefix("pct:").split(",")]
    if region.startswith("pct:"):
        numbers = [
            round(number * of / 100)
            for number, of in zip(numbers, (width, height) * 2, strict=True)
        ]
    left, upper, wide, high = map(int, numbers)
    right, lower = min(left + wide, width), min(upper + high, height)
    if left >= right or upper >= lower:
        raise AnswerError(400, "The region is empty, or lies outside of the image.")
    return left, upper, right, lower


def size_of(size: str, width: int, height: int) -> tuple[int, int]:
    """Return the width and height that a size means for a region (section 4.2).

    Raises:
        AnswerError: it is empty, or larger than the region.
    """
    if size == "max":
        return width, height
    if size.startswith("pct:"):
        share = float(size[4:]) / 100
        found = round(width * share), round(height * share)
    else:
        wide, _, high = size.lstrip("!").partition(",")
        if size[0] == "!":
            share = min(int(wide) / width, int(high) / height)
            found = max(1, round(width * share)), max(1, round(height * share))
        elif not high:
            found = int(wide), max(1, round(height * int(wide) / width))
        elif not wide:
            found = max(1, round(width * int(high) / height)), int(high)
        else:
            found = int(wide), int(high)
    if not (0 < found[0] <= width and 0 < found[1] <= height):
        raise AnswerError(400, "The size is empty, or larger than the region.")
    return found


def measured(payload: bytes) -> Picture:
    """Return the width and height of an image as shown, as a text.

    Raises:
        AnswerError: it is no image that can be shown.
    """
    with opened(payload) as image:
        width, height = image.size
        # 5 to 8 swap the sides (EXIF 2.3, "Orientation")
        if image.getexif().get(0x0112, 1) >= 5:
            width, height = height, width
    return Picture(b"", f"{width} {height}".encode())


def base_of(scope: Scope, member: ServedMember) -> str:
    """Return the URI of an image, as the client sees this server."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    host = hosts[0].decode("latin-1") if hosts else "localhost"
    identifier = quote(
        f"{member.blob.url_name}/{member.name}".encode("utf-8", "surrogateescape"), safe=""
    )
    return f"{scope.get('scheme', 'http')}://{host}{quote(scope.get('root_path', ''))}/iiif/{identifier}"
