"""The stub of _native/matching.pyx."""

from collections.abc import Callable

from typing_extensions import Buffer

def find_end_if_equal(
    fd: int,
    size: int,
    names: Buffer,
    name_bounds: Buffer,
    offset_start: Buffer,
    offset_end: Buffer,
    crc32c: Buffer,
    *,
    threads: int,
    progress: Callable[[int, int], object] | None = None,
) -> int | None: ...
def copy_if_equal(
    fd: int,
    size: int,
    start: int,
    names: Buffer,
    name_bounds: Buffer,
    offset_start: Buffer,
    offset_end: Buffer,
    to_fd: int,
    to_pos: int,
    *,
    threads: int,
) -> bool: ...
