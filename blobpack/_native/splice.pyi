"""The stub of _native/splice.pyx."""

from typing_extensions import Buffer

def find_groups(
    fd: int,
    length: int,
    blob: str,
    from_start: Buffer,
    offset_start: Buffer,
    offset_end: Buffer,
    names: Buffer,
    name_bounds: Buffer,
) -> memoryview: ...
def encode_headers(
    names: Buffer, name_bounds: Buffer, sizes: Buffer, mtimes: Buffer
) -> tuple[memoryview, memoryview]: ...
