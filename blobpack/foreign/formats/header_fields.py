"""Mode, owner and time of members, from their headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobpack.tar.header import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.index.index import Index
    from blobpack.stores.base import Store

# Headers that are at most NEAR_BYTES apart are read together, in ranges of at most READ_BYTES.
READ_BYTES = 4 << 20
NEAR_BYTES = 64 << 10


class HeaderFields(NamedTuple):
    """Numbers in a header; 0 for one that is not octal."""

    mode: int
    uid: int
    gid: int
    mtime: int


def iter_fields(store: Store, index: Index) -> Iterator[HeaderFields]:
    """Yield the fields of the header before each payload, in the order of the index.

    Of a member with a pax header, the fields of its ustar header are taken.
    """
    begin, body = 0, b""
    starts = index.offset_start.tolist()
    for row, start in enumerate(starts):
        header = start - BLOCK
        if not begin <= header <= start <= begin + len(body):
            # The range is extended as long as the next header is near, and ascends.
            end, after = start, row + 1
            while after < len(starts) and end <= starts[after] <= min(
                end + NEAR_BYTES, header + READ_BYTES
            ):
                end, after = starts[after], after + 1
            begin, body = header, store.read_range(header, end)
        block = body[header - begin : start - begin]
        yield HeaderFields(
            *(
                _octal(block[first:last])
                for first, last in ((100, 108), (108, 116), (116, 124), (136, 148))
            )
        )


def _octal(field: bytes) -> int:
    # base-256, which GNU tar writes for large numbers, counts as unknown
    digits = field.strip(b" \0")
    return int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else 0
