"""The stub of _native/scan.pyx."""

from collections.abc import Callable
from typing import Self, final

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
) -> tuple[
    memoryview,
    memoryview,
    memoryview,
    memoryview,
    int,
    int,
    int,
    tuple[int, int, int, int, int, int, int],
    memoryview | None,
]: ...
