"""`/t/{size}/{blob}/{member}`: a small JPEG of an image, turned as its EXIF demands."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from blobpack.gateway.answers import AnswerError
from blobpack.gateway.routes.picture_face import PictureFace, send_picture
from blobpack.gateway.routes.pictures import Picture, decoding, encoded, opened

if TYPE_CHECKING:
    from blobpack.gateway.answers import Scope, Send
    from blobpack.gateway.tokens import Grant

# few sizes, so that caches hit, and nobody can fill the caches with all possible sizes
SIZES = (64, 128, 256, 512)


class Thumbnails(PictureFace):
    """Answers GET and HEAD for thumbnails."""

    route = "thumbnail"

    async def answer(self, scope: Scope, send: Send, raw: bytes, grant: Grant) -> int:
        """Answer a request; see PictureFace."""
        size, _, path = raw.partition(b"/")
        if size not in [str(one).encode() for one in SIZES]:
            raise AnswerError(404, "")
        member = self.member_at(path, grant)
        kind = f"t{size.decode()}"
        picture = await self.services.pictures.get(member, kind, partial(thumbnail, side=int(size)))
        return await send_picture(scope, send, member, picture, kind)


def thumbnail(payload: bytes, side: int) -> Picture:
    """Return an image, made smaller to fit into a square with sides of so many pixels; it is never enlarged.

    Raises:
        AnswerError: it is no image that can be shown.
    """
    from PIL import ImageOps

    with opened(payload) as image:
        # a JPEG is decoded at a fraction of its size, at twice the thumbnail's or more
        image.draft("RGB", (side * 2, side * 2))
        with decoding(image):
            try:
                # made smaller before it is turned: turning a large image would need the memory of a second one
                image.thumbnail((side, side), reducing_gap=2.0)
                return encoded(ImageOps.exif_transpose(image))
            except Exception as exc:
                raise AnswerError(422, "The image is damaged.") from exc
