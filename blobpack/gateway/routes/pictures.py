"""Decoded images: Pillow makes them in threads, from payloads that may be hostile. They stay in memory up to a limit.

Strategy: a file of a few bytes can hold many pixels, so the number of pixels is checked before any pixel is decoded. If a
fraction of a JPEG's size is enough, it is decoded at this fraction. Only formats that can't contain programs are opened:
Pillow would pass an EPS file to Ghostscript. There are few threads, because each uses one processor and holds all pixels
of its image.
"""

from __future__ import annotations

import io
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from blobpack.gateway.answers import AnswerError
from blobpack.gateway.payloads import WHOLE_BYTES_MAX, check_unchanged
from blobpack.gateway.shared_work import SharedWork
from blobpack.recently_used import RecentlyUsed
from blobpack.threads import processor_count, shared_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from PIL.Image import Image

    from blobpack.gateway.payloads import Payloads
    from blobpack.gateway.served.blob import ServedMember

# 50 million pixels take 150 to 200 MB while they are decoded, in each of up to 4 threads
PIXELS_MAX = 50_000_000
PAYLOAD_BYTES_MAX = 64 << 20
THREADS_MAX = 4
CACHE_BYTES = 64 << 20
# Pillow decodes some formats in Python, at a million pixels a second, and holds up all other threads
SLOW_PIXELS_MAX = 4_000_000
# An AVIF's container may say 90 × 90, and its frames have 16,384 × 16,384 pixels: libavif decodes them, and makes the image
# smaller. That takes up to 0.8 GB, so only one thread does it at a time.
AVIF_TURN = Lock()
# TIFF 6.0, section 15
TILE_WIDTH, TILE_LENGTH = 322, 323
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI")
QUALITY = 85


class Picture(NamedTuple):
    """An encoded image.

    Attributes:
        media_type: Its media type.
        data: Its bytes.
    """

    media_type: bytes
    data: bytes


class Pictures:
    """Makes pictures of members, each once for all clients that want it, and keeps recent ones.

    Attributes:
        made: Pictures that are being made.
    """

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads
        self._kept: RecentlyUsed[tuple[bytes, str], Picture] = RecentlyUsed(CACHE_BYTES)
        self.made: SharedWork[Picture] = SharedWork()

    async def get(
        self, member: ServedMember, kind: str, make: Callable[[bytes], Picture]
    ) -> Picture:
        """Return a picture of a member.

        Args:
            member: The member.
            kind: Which picture of it.
            make: Makes the picture of the payload, in a thread.

        Raises:
            AnswerError: the member is no image that can be shown.
            BlobpackError: the payload can't be read.
        """
        check_unchanged(member)
        key = (member.etag, kind)
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        if member.size > PAYLOAD_BYTES_MAX:
            raise AnswerError(422, "The member is too large for an image.")
        # A large payload is read by the thread that decodes it: else each request that waits for a thread would hold one.
        payload = None
        if member.size <= WHOLE_BYTES_MAX:
            payload = await self._payloads.aread(member, 0, member.size)
        pool = shared_pool("gateway-pictures", processor_count(THREADS_MAX))

        def make_and_keep() -> Picture:
            read = self._payloads.read(member, 0, member.size) if payload is None else payload
            made = make(read)
            # here, and not when the event loop goes on: a client in between would make it again
            return self._kept.put(key, made, len(made.data))

        return await self.made.run(key, pool, make_and_keep)


def opened(payload: bytes) -> Image:
    """Open an image; no pixel is decoded yet.

    Raises:
        AnswerError: it is not an image, or its format is not opened here.
    """
    from PIL import Image

    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    # for a damaged image, Pillow's plugins raise errors of any type; for one of many pixels, a warning
    try:
        return Image.open(io.BytesIO(payload), formats=known)
    except Exception as exc:
        raise AnswerError(422, "The member is not an image that can be shown.") from exc


@contextmanager
def decoding(image: Image) -> Iterator[None]:
    """Check that an image may be decoded, and wait for its turn.

    Raises:
        AnswerError: it has too many pixels.
    """
    check_pixels(image)
    with AVIF_TURN if image.format == "AVIF" else nullcontext():
        yield


def check_pixels(image: Image) -> None:
    """Check that an image may be decoded.

    Raises:
        AnswerError: it has too many pixels.
    """
    is_slow = any(tile[0] in slow_decoders() for tile in getattr(image, "tile", ()))
    most = SLOW_PIXELS_MAX if is_slow else PIXELS_MAX
    if max(image.width * image.height, tile_pixels(image)) > most:
        raise AnswerError(422, f"The image has more than {most // 1_000_000} million pixels.")


def slow_decoders() -> Container[str]:
    """Return the names of Pillow's decoders that are written in Python."""
    from PIL import Image

    return Image.DECODERS


def tile_pixels(image: Image) -> int:
    """Return the pixels of a TIFF's tile, of which all are decoded, even if the image is smaller; 0 if there is none.

    Raises:
        AnswerError: the tags are malformed.
    """
    tags = getattr(image, "tag_v2", {})
    # Pillow warns of, or raises anything at, a tag of a wrong form
    try:
        return int(tags.get(TILE_WIDTH, 0)) * int(tags.get(TILE_LENGTH, 0))
    except Exception as exc:
        raise AnswerError(422, "The image is damaged.") from exc


def encoded(image: Image) -> Picture:
    """Encode an image as JPEG; what is transparent becomes white."""
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layers = image.convert("RGBA")
        image = Image.new("RGB", layers.size, "white")
        image.paste(layers, mask=layers.getchannel("A"))
    elif image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=QUALITY)
    return Picture(b"image/jpeg", jpeg.getvalue())
