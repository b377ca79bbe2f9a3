"""The stub of _native/scan.pyx."""

from collections.abc import Callable
from typing import Self, final

from typing_extensions import Buffer

from blobpack._native.results import Walk

@final
class Supply:
    def __new__(cls, read: Callable[[int, int, int], bytes | memoryview] | None) -> Self: ...

def walk_headers(
    fd: int,
    length: int,
    blob: str,
    read: Callable[[int, int, int], bytes | memoryview] | None = None,
    *,
    concatenated: bool = False,
    with_mtime: bool = False,
    threads: int = 1,
) -> Walk: ...
def index_header(size: int) -> bytes: ...
def index_size_in(block: Buffer) -> int | None: ...
