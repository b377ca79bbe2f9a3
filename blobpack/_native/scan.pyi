"""The stub of _native/scan.pyx."""

from collections.abc import Callable
from typing import Self, final

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
