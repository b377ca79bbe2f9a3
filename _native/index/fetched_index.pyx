"""Decode what was fetched of an index: blocks, and pages of its lookup.

docs/format.md has the layout.
"""

from libc.stdint cimport int64_t, uint64_t

from index.blocks cimport BLOCK_ROWS, block_is_whole, block_view, open_block
from common.crc32c cimport crc32c_function, find_crc32c
from index.faults cimport FAULT_CHECKSUM, FAULT_LAYOUT, FAULT_NONE, failure, fault
from index.rows cimport (
    row_columns,
    row_columns_free,
    row_columns_init,
    take_block,
    to_python,
)
from common.hash cimport encoded_name, hash_name
from index.pages cimport (
    FREE_ROW,
    LINE_SLOTS,
    LINES,
    PAGE_BYTES,
    page_of,
    print_of,
    seeded,
    slot,
    slot_at,
)

from blobpack._native.results import MemberColumns


cdef fault decode_block(
    row_columns* out,
    const unsigned char* block,
    int64_t size,
    int64_t first_row,
    int64_t rows,
    int64_t last_end,
    crc32c_function crc32c,
) noexcept nogil:
    """Append the rows of a block, which must be those that are wanted."""
    cdef block_view view
    if not block_is_whole(block, size, crc32c):
        return FAULT_CHECKSUM
    if (
        not open_block(&view, block, size, last_end)
        or <int64_t> view.header.first_row != first_row
        or view.header.rows != rows
    ):
        return FAULT_LAYOUT
    return take_block(out, &view, 0, rows)


def decode_blocks(
    const unsigned char[::1] blocks not None,
    const int64_t[::1] positions not None,
    int64_t first_row,
    int64_t row_count,
    int64_t last_end,
    int facts,
    str where not None,
    int64_t offset,
):
    """Decode blocks that were fetched.

    Args:
        blocks: Their bytes, one behind the other.
        positions: (blocks + 1,): where each starts, and the last one ends.
        first_row: Of the first block.
        row_count: Of the whole index.
        last_end: No member ends behind it.
        facts: Which optional columns it has.
        where, offset: What messages name: the file, and where `blocks` starts in it.

    Returns:
        MemberColumns; facts that were not taken are None.

    Raises:
        FormatError: a block is damaged.
    """
    cdef crc32c_function check = find_crc32c()
    cdef row_columns out
    cdef int64_t count = positions.shape[0] - 1, i, start, end, wanted
    cdef fault kind
    cdef int64_t rows = min(row_count - first_row, count * BLOCK_ROWS)
    try:
        if not row_columns_init(&out, max(rows, 0), facts):
            raise MemoryError
        for i in range(count):
            start, end = positions[i], positions[i + 1]
            wanted = min(row_count - first_row, <int64_t> BLOCK_ROWS)
            kind = FAULT_LAYOUT
            if 0 <= start < end <= blocks.shape[0] and wanted > 0:
                kind = decode_block(
                    &out, &blocks[start], end - start, first_row, wanted, last_end,
                    check,
                )
            if kind != FAULT_NONE:
                raise failure(kind, where, "the block", offset + start)
            first_row += wanted
        return MemberColumns(*to_python(&out))
    finally:
        row_columns_free(&out)


def encode_name(str name not None):
    """Encode a name as a tar holds it; None when no tar can."""
    return encoded_name(name)


def page_number(bytes name not None, uint64_t seed, uint64_t pages):
    """Return the number of the lookup page where a name would be."""
    return page_of(seeded(hash_name(name, len(name), 0), seed), pages)


def rows_in_page(const unsigned char[::1] page not None, bytes name, uint64_t seed):
    """List the rows that a lookup page gives for a name; their names may still differ.

    Args:
        page: 4,096 bytes, checked.
    """
    cdef uint64_t hashed = seeded(hash_name(name, len(name), 0), seed)
    cdef int64_t probe
    cdef slot found
    if page.shape[0] != PAGE_BYTES:
        raise ValueError(f"a page has {PAGE_BYTES} bytes, not {page.shape[0]}")
    rows = []
    for probe in range(LINES * LINE_SLOTS):
        slot_at(&page[0], hashed, probe, &found)
        if found.row == FREE_ROW:
            break
        if found.print == print_of(hashed):
            rows.append(found.row)
    return rows
