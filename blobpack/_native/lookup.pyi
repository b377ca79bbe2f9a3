"""The stub of _native/lookup.pyx."""

from typing import Self, final

from typing_extensions import Buffer

@final
class NameLookup:
    def __new__(cls, names: Buffer, name_bounds: Buffer) -> Self: ...
    def first_duplicate(self) -> tuple[int, int] | None: ...
    def mark(self, names: Buffer, name_bounds: Buffer) -> bytes: ...
    def last_rows(self) -> bytes: ...
    def find(self, name: str) -> int: ...

@final
class MemberColumnsLocator:
    locator: object
    def __new__(
        cls,
        lookup: NameLookup | None,
        offset_start: Buffer,
        offset_end: Buffer,
        crc32c: Buffer | None = None,
    ) -> Self: ...
