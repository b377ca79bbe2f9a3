"""An index region in memory, mapped from a file: what is used of it is checked first.

docs/format.md has the layout. Blocks and pages are checked against their checksums the
first time, and each number in them every time: the file is mapped, and may change.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from index.blocks cimport (
    BLOCK_HEADER_BYTES,
    BLOCK_ROWS,
    aligned,
    block_header,
    block_is_whole,
    block_view,
    name_in,
    open_block,
)
from common.crc32c cimport crc32c_function
from index.faults cimport (
    FAULT_ABSENT,
    FAULT_CHECKSUM,
    FAULT_LAYOUT,
    FAULT_NONE,
    fault,
)
from index.rows cimport row_columns, take_block
from common.hash cimport hash_name
from index.pages cimport (
    DIRECTORY,
    FREE_ROW,
    LINE_SLOTS,
    LINES,
    PAGE_BYTES,
    PAGE_HEADER_BYTES,
    PAGE_POSITIONS,
    page_is_whole,
    page_of,
    print_of,
    seeded,
    slot,
    slot_at,
    slot_position,
)

cdef extern from *:
    void prefetch "__builtin_prefetch" (const void*) noexcept nogil

cdef struct index_region:  # positions are from its start
    const unsigned char* bytes
    int64_t length
    int64_t row_count
    int64_t last_end
    int64_t block_count
    int64_t directory
    int64_t lookup
    int64_t pages
    uint64_t seed
    crc32c_function crc32c
    block_header last_header
    unsigned char* blocks_checked  # a bit each
    unsigned char* pages_checked
    unsigned char* directory_checked


cdef inline int64_t directory_pages(const index_region* region) noexcept nogil:
    return (region.block_count + PAGE_POSITIONS) // PAGE_POSITIONS


cdef inline bint region_fits(const index_region* region) noexcept nogil:
    """Compare the numbers that a footer gave with one another."""
    return not (
        region.block_count < 0
        or region.last_end < 0
        or region.block_count > (<int64_t> 1 << 32)
        or not 0 <= region.row_count <= region.block_count * BLOCK_ROWS
        or region.row_count <= (region.block_count - 1) * BLOCK_ROWS
        or not 0 <= region.pages <= region.length // PAGE_BYTES
        or not 0 <= region.lookup <= region.length - region.pages * PAGE_BYTES
        or not (
            0 <= region.directory
            <= region.length - directory_pages(region) * PAGE_BYTES
        )
    )


cdef inline bint region_init(index_region* region) noexcept nogil:
    """Make room to remember what was checked; False when memory is out."""
    region.blocks_checked = <unsigned char*> calloc(region.block_count // 8 + 1, 1)
    region.pages_checked = <unsigned char*> calloc(region.pages // 8 + 1, 1)
    region.directory_checked = <unsigned char*> calloc(
        directory_pages(region) // 8 + 1, 1
    )
    return not (
        region.blocks_checked == NULL
        or region.pages_checked == NULL
        or region.directory_checked == NULL
    )


cdef inline void region_free(index_region* region) noexcept nogil:
    free(region.blocks_checked)
    free(region.pages_checked)
    free(region.directory_checked)


cdef inline bint page_checked(
    index_region* region, unsigned char* checked, int64_t section, int64_t page,
    uint32_t number,
) noexcept nogil:
    """Check a page the first time it is used."""
    if checked[page >> 3] >> (page & 7) & 1:
        return True
    if not page_is_whole(
        region.bytes + section + page * PAGE_BYTES, number, region.crc32c
    ):
        return False
    checked[page >> 3] |= 1 << (page & 7)
    return True


cdef inline fault position_of(
    index_region* region, int64_t block, int64_t* position
) noexcept nogil:
    """Read from the directory where a block starts."""
    cdef int64_t page = block // PAGE_POSITIONS
    if not page_checked(
        region, region.directory_checked, region.directory, page,
        DIRECTORY + <uint32_t> page,
    ):
        return FAULT_CHECKSUM
    memcpy(
        position,
        region.bytes + region.directory + page * PAGE_BYTES + PAGE_HEADER_BYTES
        + block % PAGE_POSITIONS * 8,
        8,
    )
    return FAULT_NONE


cdef inline fault open_at(
    index_region* region, int64_t block, block_view* view, int64_t* position
) noexcept nogil:
    """Find a block, and check it the first time."""
    cdef int64_t end, first_row = block * BLOCK_ROWS
    cdef fault kind = position_of(region, block, position)
    if kind == FAULT_NONE:
        kind = position_of(region, block + 1, &end)
    if kind != FAULT_NONE:
        position[0] = region.directory
        return kind
    if not 0 <= position[0] <= end <= region.length:
        position[0] = region.directory             # which says so
        return FAULT_LAYOUT
    if not region.blocks_checked[block >> 3] >> (block & 7) & 1:
        if not block_is_whole(
            region.bytes + position[0], end - position[0], region.crc32c
        ):
            return FAULT_CHECKSUM
        region.blocks_checked[block >> 3] |= 1 << (block & 7)
    if not open_block(
        view, region.bytes + position[0], end - position[0], region.last_end
    ):
        return FAULT_LAYOUT
    if <int64_t> view.header.first_row != first_row or (
        view.header.rows != min(region.row_count - first_row, <int64_t> BLOCK_ROWS)
    ):
        return FAULT_LAYOUT
    return FAULT_NONE


cdef inline void fetch_ahead(index_region* region, int64_t row) noexcept nogil:
    """Bring a member's cache lines side by side.

    Where its values stand depends on the block's header; most likely that is as the
    last one was. A wrong guess costs nothing, but no pointer may leave the region.
    """
    cdef int64_t position, place = row % BLOCK_ROWS, value, i
    if position_of(region, row // BLOCK_ROWS, &position) != FAULT_NONE:
        return
    if not 0 <= position < region.length:
        return
    prefetch(region.bytes + position)
    position += BLOCK_HEADER_BYTES
    for i in range(3):  # name_end, offset_start, size
        value = position + place * region.last_header.widths[i]
        if value >= region.length:
            return
        prefetch(region.bytes + value)
        position += aligned(
            <int64_t> region.last_header.rows * region.last_header.widths[i]
        )


cdef inline fault search(
    index_region* region, const char* name, int64_t length, block_view* view,
    int64_t* row, int64_t* position,
) noexcept nogil:
    """Find the row of a name, and leave its block open."""
    cdef uint64_t hashed = seeded(hash_name(name, length, 0), region.seed)
    cdef int64_t page, probe, known_length
    cdef const unsigned char* known
    cdef slot found
    cdef fault kind
    if region.pages == 0:
        return FAULT_ABSENT
    page = page_of(hashed, region.pages)
    position[0] = region.lookup + page * PAGE_BYTES
    if not page_checked(region, region.pages_checked, region.lookup, page, page):
        return FAULT_CHECKSUM
    for probe in range(LINES * LINE_SLOTS):
        slot_at(region.bytes + region.lookup + page * PAGE_BYTES, hashed, probe, &found)
        if found.row == FREE_ROW:
            break
        if found.print != print_of(hashed):
            continue
        if found.row >= region.row_count:
            return FAULT_LAYOUT
        fetch_ahead(region, found.row)
        kind = open_at(region, found.row // BLOCK_ROWS, view, position)
        if kind != FAULT_NONE:
            return kind
        region.last_header = view.header
        if not name_in(view, found.row % BLOCK_ROWS, &known, &known_length):
            return FAULT_LAYOUT
        if known_length == length and memcmp(known, name, length) == 0:
            row[0] = found.row
            return FAULT_NONE
    return FAULT_ABSENT


cdef inline const unsigned char* slots_of(
    const index_region* region, uint64_t hashed
) noexcept nogil:
    return (
        region.bytes + region.lookup + page_of(hashed, region.pages) * PAGE_BYTES
        + slot_position(hashed, 0)
    )


cdef inline void bring_row(index_region* region, uint64_t hashed) noexcept nogil:
    """Prefetch the row in the first slot of the same fingerprint, if it is near."""
    cdef const unsigned char* slots = slots_of(region, hashed)
    cdef slot found
    cdef int64_t i
    for i in range(LINE_SLOTS):
        memcpy(&found, slots + i * sizeof(slot), sizeof(slot))
        if found.print == print_of(hashed) and found.row < region.row_count:
            fetch_ahead(region, found.row)
            return


cdef inline fault take_rows(
    index_region* region, row_columns* out, int64_t first, int64_t last,
    int64_t* position,
) noexcept nogil:
    """Append the rows first:last; on a fault *position* is the block's."""
    cdef block_view view
    cdef int64_t place, until
    cdef fault kind
    while first < last:
        kind = open_at(region, first // BLOCK_ROWS, &view, position)
        if kind != FAULT_NONE:
            return kind
        place = first % BLOCK_ROWS
        until = min(last - first + place, <int64_t> BLOCK_ROWS)
        kind = take_block(out, &view, place, until)
        if kind != FAULT_NONE:
            return kind
        first += until - place
    return FAULT_NONE


cdef inline fault gather_rows(
    index_region* region, row_columns* out, const int64_t* rows, int64_t count,
    int64_t* position,
) noexcept nogil:
    """Append rows, which exist, in this order; on a fault *position* is the block's."""
    cdef block_view view
    cdef int64_t i, place, block, opened = -1
    cdef fault kind
    for i in range(count):
        block = rows[i] // BLOCK_ROWS
        place = rows[i] % BLOCK_ROWS
        if block != opened:
            kind = open_at(region, block, &view, position)
            if kind != FAULT_NONE:
                return kind
            opened = block
        kind = take_block(out, &view, place, place + 1)
        if kind != FAULT_NONE:
            return kind
    return FAULT_NONE
