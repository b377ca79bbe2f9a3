"""The stub of _native/index_writer.pyx."""

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Self, final

from typing_extensions import Buffer

class LookupFullError(Exception): ...

@final
class NameHashes: ...

@final
class PartHashes: ...

@final
class IndexBuilder:
    def __new__(
        cls,
        open_file: Callable[[], BinaryIO] | None = None,
        *,
        in_memory: int = ...,
        guide_bytes_max: int = ...,
    ) -> Self: ...
    def __len__(self) -> int: ...
    def continue_from(
        self,
        positions: Buffer,
        length: int,
        first_names: list[bytes] | None,
        last_name: bytes | None,
    ) -> None: ...
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
        self, repeated: Callable[[int, int], object] | None = None, *, page_names: int = 400
    ) -> tuple[int, int, Iterable[bytearray]]: ...
    def extended_lookup(
        self,
        pages: int,
        first_new: int,
        read_pages: Callable[[int, int], bytes],
        name_at: Callable[[int], bytes],
        repeated: Callable[[int, int], object] | None = None,
    ) -> Iterator[bytearray]: ...
    def compare_files(self, repeated: Callable[[int, int], object]) -> None: ...
