"""The stub of _native/pickles.pyx."""

from typing import BinaryIO, final

from typing_extensions import Buffer

def encode_batch(
    names: Buffer,
    name_starts: Buffer,
    name_ends: Buffer,
    offset_start: Buffer,
    offset_end: Buffer,
    first: int,
    last: int,
) -> bytes: ...

@final
class OffsetsDecoder:
    def __init__(self, file: BinaryIO, path: str) -> None: ...
    def read_batch(
        self, rows: int
    ) -> tuple[memoryview, memoryview, memoryview, memoryview] | None: ...
