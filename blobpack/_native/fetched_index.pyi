"""The stub of _native/fetched_index.pyx."""

from typing_extensions import Buffer

from blobpack._native.results import MemberColumns

def decode_blocks(
    blocks: Buffer,
    positions: Buffer,
    first_row: int,
    row_count: int,
    last_end: int,
    facts: int,
    where: str,
    offset: int,
) -> MemberColumns: ...
def encode_name(name: str) -> bytes | None: ...
def page_number(name: bytes, seed: int, pages: int) -> int: ...
def rows_in_page(page: Buffer, name: bytes, seed: int) -> list[int]: ...
