"""CRC-32C for Python code. Native code calls the same C library directly."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def crc32c(payload: bytes, crc: int = 0) -> int:
    """Return the CRC-32C of bytes; `crc` is the checksum of the bytes before them, if there are any."""
    return _extend()(crc, payload)


# an import statement in crc32c would take as long as the checksum of 5 kB
@cache
def _extend() -> Callable[[int, bytes], int]:
    # imported at the first checksum: `import blobpack` and a selection, say, do not need the library
    from google_crc32c import extend

    found: Callable[[int, bytes], int] = extend
    return found
