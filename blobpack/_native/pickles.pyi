"""The stub of _native/pickles.pyx."""

from typing import BinaryIO, Self, final

from typing_extensions import Buffer

from blobpack._native.results import MemberColumns

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
    def __new__(cls, file: BinaryIO, path: str) -> Self: ...
    def read_batch(self, rows: int) -> MemberColumns | None: ...
