"""Payload → pixels, decoded by Pillow."""

from __future__ import annotations

import io
from itertools import tee
from typing import TYPE_CHECKING

from blobpack.errors import ImageError
from blobpack.model import check_flag, check_text, names_of
from blobpack.reading.blob import check_reader, reading
from blobpack.threads import map_ahead, processor_count

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from blobpack.model import Member
    from blobpack.reading.reader import Reader

DECODERS_MAX = 16
DECODED_AHEAD = 2  # images a thread
EIGHT_BIT_MODES = frozenset({"L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"})


def read_image(
    blob: Reader | str | os.PathLike[str],
    name: str,
    *,
    mode: str | None = "RGB",
    apply_exif_orientation: bool = True,
) -> NDArray[np.uint8]:
    """Read one image: one ranged read, then Pillow.

    Args:
        blob: An open blob or collection; or a path or URL of a blob, opened for this one image.
        name: The member's name.
        mode: Pillow's mode to convert to: "RGB", "L", "RGBA" …; None leaves the image as it is stored.
        apply_exif_orientation: Turn the image as its EXIF data says it is to be shown.

    Returns:
        (height, width, 3) uint8, RGB, top row first; other modes have other channels, "L" none, and
        mode=None may give other types (16-bit images are uint16). Of an animation, the first frame.

    Raises:
        MemberNotFoundError: there is no member of that name.
        ImageError: it is not an image that Pillow can decode, or convert to that mode.
        TypeError: an argument has another type.
        ValueError: no such mode.
        BlobChangedError: the blob is no longer the one that was opened.
        StorageError: the store failed.
    """
    check_reader("blob", blob)
    check_text("name", name)
    check_mode(mode)
    check_flag("apply_exif_orientation", apply_exif_orientation)
    with reading(blob) as source:
        payload = source.read(name)
        return decode_image(
            payload,
            f"{source.url}: {name}",
            mode=mode,
            apply_exif_orientation=apply_exif_orientation,
        )


def read_images(
    blob: Reader | str | os.PathLike[str],
    names: Iterable[str | Member],
    *,
    mode: str | None = "RGB",
    apply_exif_orientation: bool = True,
) -> Iterator[NDArray[np.uint8]]:
    """Read images, in the order asked.

    Payloads are read as Blob.read_many does, and decoded by a thread a processor, some images ahead.

    Args:
        blob: An open blob or collection; or a path or URL of a blob.
        names: Names, or members, such as an index of some.
        mode: As for read_image.
        apply_exif_orientation: As for read_image.

    Yields:
        Arrays as of read_image.

    Raises:
        BlobpackError: as for read_image, at the image that is reached.
    """
    check_reader("blob", blob)
    wanted = names_of(names)
    check_mode(mode)
    check_flag("apply_exif_orientation", apply_exif_orientation)
    return _images(blob, wanted, mode, apply_exif_orientation)


def _images(
    blob: Reader | str | os.PathLike[str],
    names: Iterator[str],
    mode: str | None,
    apply_exif_orientation: bool,
) -> Iterator[NDArray[np.uint8]]:
    with reading(blob) as source:
        wanted, asked = tee(names)

        def decode(read: tuple[bytes, str]) -> NDArray[np.uint8]:
            payload, name = read
            return decode_image(
                payload,
                f"{source.url}: {name}",
                mode=mode,
                apply_exif_orientation=apply_exif_orientation,
            )

        threads = processor_count(DECODERS_MAX)
        yield from map_ahead(
            decode,
            zip(source.read_many(wanted), asked, strict=False),
            threads=threads,
            most=threads * DECODED_AHEAD,
            name="decode",
        )


def check_mode(mode: str | None) -> None:
    """Check that a mode is one of Pillow's.

    Raises:
        ValueError: there is no such mode.
    """
    from PIL import Image, ImageMode

    if mode is None:
        return
    try:
        ImageMode.getmode(mode)
    except (KeyError, TypeError):
        modes = ", ".join(map(repr, Image.MODES))
        raise ValueError(f"mode must be None or one of Pillow's, {modes}, not {mode!r}") from None


def decode_image(
    payload: bytes, where: str, *, mode: str | None = "RGB", apply_exif_orientation: bool = True
) -> NDArray[np.uint8]:
    """Decode an image's bytes; see read_image.

    Raises:
        ImageError: they are no image that Pillow can decode; `where` is named.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(payload)) as image:
            shown = ImageOps.exif_transpose(image) if apply_exif_orientation else image
            return np.array(_converted(shown, mode))
    except MemoryError:
        raise
    except Exception as exc:  # Pillow's plugins raise whatever a damaged file leads them to
        raise ImageError(f"{where}: not an image that can be decoded: {exc}") from exc


def _converted(image: Image, mode: str | None) -> Image:
    if mode in EIGHT_BIT_MODES and image.mode.startswith("I"):
        return _eight_bit(image).convert(mode)
    return image if mode is None else image.convert(mode)


def _eight_bit(image: Image) -> Image:
    """Keep the upper 8 of 16 bits, where they are used; Pillow would clip all above 255 to white."""
    import numpy as np
    from PIL.Image import fromarray

    values = np.asarray(image).astype(np.int64)
    if values.max(initial=0) > 255:  # "I" is also what holds 8-bit values of other formats
        values >>= 8
    return fromarray(values.clip(0, 255).astype(np.uint8))
