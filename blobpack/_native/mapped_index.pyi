"""The stub of _native/mapped_index.pyx."""

from collections.abc import Callable
from typing import Self, SupportsIndex, final

from typing_extensions import Buffer

from blobpack._native.members import Member
from blobpack._native.results import (
    NO_SUCH_NAME as NO_SUCH_NAME,
    OTHER_MEMBER as OTHER_MEMBER,
    FoundRow,
    MemberColumns,
)

@final
class MappedIndex:
    def __new__(
        cls,
        file: int,
        where: str,
        offset: int,
        region_bytes: int,
        footer: bytes,
        owner: Callable[[], object | None],
        *,
        row_count: int,
        last_end: int,
        block_count: int,
        directory: int,
        lookup: int,
        pages: int,
        seed: int,
        facts: int,
        media_types: tuple[str, ...],
    ) -> Self: ...
    locator: object
    def __len__(self) -> int: ...
    def close(self) -> None: ...
    def forget_pages(self) -> None: ...
    def find(self, name: str) -> int: ...
    def locate(self, name: str) -> tuple[int, int] | None: ...
    def find_member(self, member: Member) -> int: ...
    def search(self, names: list[str]) -> list[FoundRow | None]: ...
    def bounds_at(self, row: SupportsIndex) -> tuple[int, int]: ...
    def name_at(self, row: SupportsIndex) -> str: ...
    def member_at(self, row: SupportsIndex) -> Member: ...
    def search_rows(self, rows: list[SupportsIndex]) -> list[FoundRow]: ...
    def rows(self, first: int, last: int) -> MemberColumns: ...
    def take(self, rows: Buffer) -> MemberColumns: ...
