"""The stub of _native/index_writer.pyx."""

from collections.abc import Callable
from typing import Self, final

from typing_extensions import Buffer

@final
class IndexBuilder:
    def __new__(cls) -> Self: ...
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
    def lookup(self, same_name: Callable[[int, int], bool]) -> tuple[int, bytes | bytearray]: ...
    def compare_files(self, same_file: Callable[[int, int], bool]) -> None: ...
