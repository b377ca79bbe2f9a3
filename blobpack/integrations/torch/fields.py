"""Values of fields: a payload becomes a tensor, a number, text or what JSON holds, by the last part of its field's name."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from blobpack.errors import FormatError, ImageError
from blobpack.reading.decode import decode_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from blobpack.reading.wanted import Wanted

IMAGES = frozenset(
    [
        "apng",
        "avif",
        "bmp",
        "gif",
        "heic",
        "jfif",
        "jp2",
        "jpe",
        "jpeg",
        "jpg",
        "pbm",
        "pgm",
        "png",
        "pnm",
        "ppm",
        "tif",
        "tiff",
        "webp",
    ]
)
# as WebDataset decodes them. It also unpickles .pkl and .pt; here they stay bytes, because a pickle can run any code.
NUMBERS = frozenset(("cls", "class", "count", "id", "index", "inx"))
TEXTS = frozenset(("text", "transcript", "txt"))
JSON = frozenset(("jsn", "json"))
# Errors of wrong payloads. np.load raises EOFError for no bytes, SyntaxError for some headers, and MemoryError for a header
# that promises too much. PyTorch raises TypeError for arrays of texts, and json RecursionError for many brackets.
WRONG_VALUES = (ValueError, EOFError, SyntaxError, MemoryError, TypeError, RecursionError)


class Decoders:
    """Turns payloads into values.

    Attributes:
        wanted: Mode, orientation and size of images.
        own: Functions of the caller, by field; None in place of a function leaves the bytes as they are.
        to_tensor: Makes what the caller gets of an array.
    """

    def __init__(
        self,
        wanted: Wanted,
        own: Mapping[str, Callable[[bytes], Any] | None],
        to_tensor: Callable[[NDArray[Any]], Any],
    ) -> None:
        self.wanted = wanted
        self.own = dict(own)
        self.to_tensor = to_tensor

    def value(self, field: str, payload: bytes, where: object) -> Any:
        """Decode one payload.

        Args:
            field: Name of its field, such as "jpg" or "seg.png".
            payload: The bytes.
            where: Names the member in messages, by its str().

        Raises:
            ImageError: the bytes are not an image that can be decoded.
            FormatError: the bytes are not a number, text, JSON or an array.
        """
        if field in self.own:
            own = self.own[field]
            try:
                return payload if own is None else own(payload)
            except Exception as exc:
                exc.add_note(f"while decoding {where}")
                raise
        kind = field.rpartition(".")[2]
        if kind in IMAGES:
            return self.to_tensor(channels_first(decode_image(payload, where, self.wanted)))
        try:
            if kind in NUMBERS:
                return int(payload)
            if kind in TEXTS:
                return payload.decode()
            if kind in JSON:
                return json.loads(payload)
            if kind == "npy":
                return self.to_tensor(native(np.load(io.BytesIO(payload), allow_pickle=False)))
        except ImageError:
            raise
        except WRONG_VALUES as exc:
            raise FormatError(f"{where}: not a value of the field {field}: {exc}") from exc
        return payload


def native(array: Any) -> Any:
    """Return an array in the byte order of this machine; PyTorch takes no other."""
    # a .npz file is not an array, and PyTorch says so
    if not isinstance(array, np.ndarray) or array.dtype.isnative:
        return array
    return array.astype(array.dtype.newbyteorder("="))


def channels_first(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return (height, width, channels) or (height, width) as (channels, height, width), without a copy."""
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
