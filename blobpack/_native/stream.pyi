"""The stub of _native/stream.pyx."""

from collections.abc import Callable
from typing import Self, final

from blobpack._native.results import StreamMember

@final
class TarStream:
    def __new__(
        cls,
        readinto: Callable[[memoryview], int | None],
        blob: str,
        *,
        concatenated: bool = False,
    ) -> Self: ...
    @property
    def behind(self) -> int: ...
    @property
    def block_behind(self) -> bytes: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> StreamMember: ...
    def head(self, size: int) -> bytes: ...
    def payload(self) -> bytes: ...
