"""The stub of _native/indexfile.pyx."""

from collections.abc import Callable
from typing import Self, final

from typing_extensions import Buffer

_Columns = tuple[
    memoryview,
    memoryview,
    memoryview,
    memoryview,
    memoryview | None,
    memoryview | None,
    memoryview | None,
    memoryview | None,
    memoryview | None,
]

@final
class IndexBuilder:
    def __new__(cls, crc32c: int) -> Self: ...
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
    @property
    def blocks_bytes(self) -> int: ...
    def guide(self) -> list[bytes] | None: ...
    def directory(self, base: int) -> bytes: ...
    def lookup(self, same_name: Callable[[int, int], bool]) -> tuple[int, bytes | bytearray]: ...

@final
class MappedIndex:
    def __new__(
        cls,
        region: Buffer,
        fd: int,
        where: str,
        offset: int,
        crc32c: int,
        *,
        row_count: int,
        block_count: int,
        directory: int,
        lookup: int,
        pages: int,
        seed: int,
        facts: int,
    ) -> Self: ...
    def __len__(self) -> int: ...
    def find(self, name: str) -> int: ...
    def locate(self, name: str) -> tuple[int, int] | None: ...
    def rows(self, first: int, last: int) -> _Columns: ...

def decode_blocks(
    blocks: Buffer,
    positions: Buffer,
    first_row: int,
    row_count: int,
    facts: int,
    crc32c: int,
    where: str,
    offset: int,
) -> _Columns: ...
def page_number(name: bytes, seed: int, pages: int) -> int: ...
def rows_in_page(page: Buffer, name: bytes, seed: int) -> list[int]: ...
