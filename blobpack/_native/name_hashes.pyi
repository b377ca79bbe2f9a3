"""The stub of _native/name_hashes.pyx."""

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Self, final

from typing_extensions import Buffer

class LookupFullError(Exception): ...

@final
class NameHashes:
    def __new__(
        cls,
        open_file: Callable[[], BinaryIO] | None = None,
        *,
        in_memory: int = ...,
        first_row: int = 0,
    ) -> Self: ...
    def copy(self) -> NameHashes: ...
    def add(self, names: Buffer, name_bounds: Buffer) -> None: ...
    def make_lookup(
        self, repeated: Callable[[int, int], object] | None = None, *, page_names: int = 400
    ) -> tuple[int, int, Iterable[bytearray]]: ...
    def extend_lookup(
        self,
        pages: int,
        first_new: int,
        read_pages: Callable[[int, int], bytes],
        name_at: Callable[[int], bytes],
        repeated: Callable[[int, int], object] | None = None,
    ) -> Iterator[bytearray]: ...
