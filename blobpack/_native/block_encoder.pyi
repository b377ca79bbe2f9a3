"""The stub of _native/block_encoder.pyx."""

from typing import Self, final

from typing_extensions import Buffer

@final
class BlockEncoder:
    blocks_bytes: int

    def __new__(cls, *, guide_bytes_max: int = ...) -> Self: ...
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
    def guide(self) -> list[bytes] | None: ...
    def directory(self, base: int) -> bytes: ...
