"""The stub of _native/members.pyx."""

from collections.abc import Iterator
from dataclasses import Field
from typing import Any, ClassVar, Self, final

from typing_extensions import Buffer, disjoint_base

FIELDS: dict[str, Field[Any]]

@final
class Member:
    __match_args__: ClassVar[tuple[str, ...]]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    def __init__(
        self,
        name: str,
        offset_start: int,
        offset_end: int,
        media_type: str | None = None,
        width: int | None = None,
        height: int | None = None,
        crc32c: int | None = None,
        mtime: int | None = None,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def offset_start(self) -> int: ...
    @property
    def offset_end(self) -> int: ...
    @property
    def media_type(self) -> str | None: ...
    @property
    def width(self) -> int | None: ...
    @property
    def height(self) -> int | None: ...
    @property
    def crc32c(self) -> int | None: ...
    @property
    def mtime(self) -> int | None: ...
    @property
    def size(self) -> int: ...
    def __setattr__(self, name: str, value: Any, /) -> None: ...
    def __delattr__(self, name: str, /) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __replace__(self, **changes: Any) -> Self: ...

@disjoint_base
class PackedNames:
    def __new__(
        cls, names: Buffer, name_bounds: Buffer, *columns: Any, mask: Buffer | None = None
    ) -> Self: ...
    @property
    def row(self) -> int: ...

@final
class NameIterator(PackedNames, Iterator[str]):
    def __new__(cls, names: Buffer, name_bounds: Buffer, *, mask: Buffer | None = None) -> Self: ...
    def __next__(self) -> str: ...

@final
class MemberIterator(PackedNames, Iterator[Member]):
    def __new__(
        cls,
        names: Buffer,
        name_bounds: Buffer,
        offset_start: Buffer,
        offset_end: Buffer,
        media_type: Buffer | None,
        width: Buffer | None,
        height: Buffer | None,
        crc32c: Buffer | None,
        mtime: Buffer | None,
        media_types: tuple[str, ...],
        *,
        mask: Buffer | None = None,
        reuse: bool = False,
    ) -> Self: ...
    def __next__(self) -> Member: ...
