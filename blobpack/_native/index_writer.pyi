"""The stub of _native/index_writer.pyx."""

from collections.abc import Callable, Iterable
from typing import BinaryIO, Self, final

from typing_extensions import Buffer

@final
class IndexBuilder:
    def __new__(
        cls, open_file: Callable[[], BinaryIO] | None = None, *, in_memory: int = ...
    ) -> Self: ...
    def __len__(self) -> int: ...
    def add(
        self,
        names: Buffer,
        name_bounds: Buffer,
        offset_start: Buffer,
        offset_end: Buffer,
        media_type: Buffer | None = None,
        width: Buffer | None = None,
        height: Buffer | None = None,
        crc32c: Buffer | None = None,
        mtime: Buffer | None = None,
    ) -> bytes: ...
    def note_files(self, names: Buffer, name_bounds: Buffer) -> None: ...
    @property
    def blocks_bytes(self) -> int: ...
    def guide(self) -> list[bytes] | None: ...
    def directory(self, base: int) -> bytes: ...
    def lookup(
        self, repeated: Callable[[int, int], object] | None = None
    ) -> tuple[int, int, Iterable[bytearray]]: ...
    def compare_files(self, repeated: Callable[[int, int], object]) -> None: ...
