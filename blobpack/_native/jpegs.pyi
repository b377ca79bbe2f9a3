"""The stub of _native/decode/jpegs.pyx."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

class JpegDecoder:
    def __init__(
        self,
        decode: Callable[..., Any],
        ndarray: type,
        empty: Callable[..., Any],
        dtype: type,
        *,
        from_colour: int,
        from_grey: int,
        turns: bool,
        height: int = 0,
        width: int = 0,
    ) -> None: ...
    def decode(
        self,
        payloads: list[bytes],
        outs: list[NDArray[np.uint8]] | None = None,
        *,
        pixels_max: int = -1,
    ) -> list[NDArray[np.uint8] | None]: ...
