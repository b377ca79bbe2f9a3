"""The stub of _native/decode/jpegs.pyx."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self, disjoint_base

@disjoint_base
class JpegDecoder:
    def __new__(
        cls,
        decode: Callable[..., Any],
        ndarray: type,
        empty: Callable[..., Any],
        dtype: np.dtype[np.uint8],
        *,
        from_colour: int,
        from_grey: int,
        turns: bool,
        height: int = 0,
        width: int = 0,
    ) -> Self: ...
    def decode(
        self,
        payloads: list[bytes],
        outs: list[NDArray[np.uint8]] | None = None,
        *,
        copies: bool = False,
        pixels_max: int = -1,
    ) -> list[NDArray[np.uint8] | None]: ...
