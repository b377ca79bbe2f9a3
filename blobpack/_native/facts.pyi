"""The stub of _native/facts.pyx."""

from collections.abc import Callable
from typing import Final

from typing_extensions import Buffer

from blobpack._native.results import FactColumns, Facts

READ_ENDED: Final[int]

def take_facts(
    fd: int,
    size: int,
    names: Buffer,
    name_bounds: Buffer,
    offset_start: Buffer,
    offset_end: Buffer,
    *,
    images: bool,
    threads: int,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[FactColumns, list[tuple[int, int]]]: ...
def take_facts_within(
    window: Buffer,
    window_start: int,
    names: Buffer,
    name_bounds: Buffer,
    offset_start: Buffer,
    offset_end: Buffer,
    *,
    images: bool,
) -> FactColumns: ...
def orientation_of(payload: Buffer) -> int: ...
def facts_of(
    payload: Buffer,
    name: bytes,
    *,
    size: int = -1,
    read: Callable[[int, int], Buffer] | None = None,
) -> Facts: ...
