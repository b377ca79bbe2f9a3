"""A block of the index file: up to 1,024 members, whole in itself, behind a checksum.

docs/format.md has the layout. A block that was checked may change under
a mapping, so every number in it is looked at again before it is used.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from common.crc32c cimport crc32c_function

cdef enum:
    BLOCK_ROWS = 1024
    BLOCK_HEADER_BYTES = 48
    ALIGNMENT = 8
    TAR_BLOCK = 512

cdef enum block_column:
    NAME_END
    OFFSET_START
    SIZE
    MEDIA_TYPE
    WIDTH
    HEIGHT
    CRC32C
    MTIME
    COLUMN_COUNT

cdef struct block_header:
    uint32_t crc                   # of all that follows
    uint32_t rows
    uint64_t first_row
    uint64_t start_base
    int64_t mtime_base
    uint32_t names_bytes
    uint32_t start_unit            # 1 or 512
    uint8_t[8] widths              # bytes a value: 0, 1, 2, 4 or 8

cdef struct block_view:
    const unsigned char* columns[8]
    const unsigned char* names
    int64_t last_end               # no member ends behind it
    block_header header

# The members of a block as they stand in memory; what was not taken is NULL.
cdef struct member_rows:
    int64_t count
    const unsigned char* names
    const int64_t* name_bounds
    const int64_t* offset_start
    const int64_t* offset_end
    const uint8_t* media_type
    const uint32_t* width
    const uint32_t* height
    const uint32_t* crc32c
    const int64_t* mtime


cdef inline int64_t aligned(int64_t size) noexcept nogil:
    return (size + ALIGNMENT - 1) & ~<int64_t> (ALIGNMENT - 1)


cdef inline bint is_width(block_column column, uint8_t width) noexcept nogil:
    if column == MEDIA_TYPE:
        return width <= 1
    if width == 8:
        return column == OFFSET_START or column == SIZE or column == MTIME
    return width <= 2 or width == 4


cdef inline bint open_block(
    block_view* view, const unsigned char* block, int64_t length, int64_t last_end
) noexcept nogil:
    """Find a block's columns; false when they do not fit into its length.

    How many rows there must be, the caller knows and compares.
    """
    cdef int64_t pos = BLOCK_HEADER_BYTES, i
    if length < BLOCK_HEADER_BYTES:
        return False
    memcpy(&view.header, block, BLOCK_HEADER_BYTES)
    if view.header.start_unit != 1 and view.header.start_unit != TAR_BLOCK:
        return False
    # a row takes a byte at least, so that a small file can't claim many rows
    if view.header.widths[<int> NAME_END] == 0 and view.header.rows > 1:
        return False
    for i in range(COLUMN_COUNT):
        if not is_width(<block_column> i, view.header.widths[i]):
            return False
        view.columns[i] = block + pos
        pos += aligned(<int64_t> view.header.rows * view.header.widths[i])
    view.names = block + pos
    view.last_end = last_end
    return pos <= length and <int64_t> view.header.names_bytes <= length - pos


cdef inline bint block_is_whole(
    const unsigned char* block, int64_t length, crc32c_function crc32c
) noexcept nogil:
    """Compare a block with its checksum."""
    cdef uint32_t crc
    if length < BLOCK_HEADER_BYTES:
        return False
    memcpy(&crc, block, 4)
    return crc == crc32c(0, block + 4, length - 4)


cdef inline uint64_t value_at(
    const block_view* view, block_column column, int64_t place
) noexcept nogil:
    """Read a stored value, 0 ≤ place < rows."""
    cdef uint8_t width = view.header.widths[<int> column]
    cdef const unsigned char* value = view.columns[<int> column] + place * width
    cdef uint16_t two
    cdef uint32_t four
    cdef uint64_t eight
    if width == 4:
        memcpy(&four, value, 4)
        return four
    if width == 2:
        memcpy(&two, value, 2)
        return two
    if width == 1:
        return value[0]
    if width == 8:
        memcpy(&eight, value, 8)
        return eight
    return 0


cdef inline bint name_in(
    const block_view* view,
    int64_t place,
    const unsigned char** name,
    int64_t* length,
) noexcept nogil:
    """Find a row's name; false when its bounds are no bounds."""
    cdef uint64_t start = 0, end
    if place:
        start = value_at(view, NAME_END, place - 1)
    end = value_at(view, NAME_END, place)
    if start > end or end > view.header.names_bytes:
        return False
    name[0] = view.names + start
    length[0] = end - start
    return True


cdef inline bint offsets_in(
    const block_view* view, int64_t place, int64_t* start, int64_t* end
) noexcept nogil:
    """Read a row's offsets; false when they are none."""
    cdef uint64_t last = view.last_end
    cdef uint64_t stored = value_at(view, OFFSET_START, place)
    cdef uint64_t size = value_at(view, SIZE, place)
    cdef uint64_t base = view.header.start_base
    if base > last or stored > (last - base) // view.header.start_unit:
        return False
    base += stored * view.header.start_unit
    if size > last - base:
        return False
    start[0] = base
    end[0] = base + size
    return True


cdef inline int64_t mtime_in(const block_view* view, int64_t place) noexcept nogil:
    return <int64_t> (
        <uint64_t> view.header.mtime_base + value_at(view, MTIME, place)
    )


# Writing

cdef inline uint8_t width_of(uint64_t largest) noexcept nogil:
    if largest == 0:
        return 0
    if largest < 1 << 8:
        return 1
    if largest < 1 << 16:
        return 2
    return 4 if largest <= <uint64_t> 0xFFFFFFFF else 8


cdef inline uint64_t stored_value(
    const member_rows* rows, const block_header* header, block_column column, int64_t i
) noexcept nogil:
    """Compute what stands in the block for a row's value; 0 where it was not taken."""
    if column == NAME_END:
        return rows.name_bounds[i + 1] - rows.name_bounds[0]
    if column == OFFSET_START:
        return (
            <uint64_t> rows.offset_start[i] - header.start_base
        ) // header.start_unit
    if column == SIZE:
        return rows.offset_end[i] - rows.offset_start[i]
    if column == MEDIA_TYPE and rows.media_type != NULL:
        return rows.media_type[i]
    if column == WIDTH and rows.width != NULL:
        return rows.width[i]
    if column == HEIGHT and rows.height != NULL:
        return rows.height[i]
    if column == CRC32C and rows.crc32c != NULL:
        return rows.crc32c[i]
    if column == MTIME and rows.mtime != NULL:
        return <uint64_t> rows.mtime[i] - <uint64_t> header.mtime_base
    return 0


cdef inline int64_t measure_block(
    const member_rows* rows, int64_t first_row, block_header* header
) noexcept nogil:
    """Settle a block's header and return its bytes.

    -1 when the names take more than 4 GiB.
    """
    cdef int64_t i, length = BLOCK_HEADER_BYTES
    cdef uint64_t largest
    cdef int64_t names_bytes = rows.name_bounds[rows.count] - rows.name_bounds[0]
    cdef int column
    if names_bytes > <int64_t> 0xFFFFFFFF:
        return -1
    memset(header, 0, BLOCK_HEADER_BYTES)
    header.rows = rows.count
    header.first_row = first_row
    header.names_bytes = names_bytes
    header.start_unit = TAR_BLOCK
    header.start_base = rows.offset_start[0]
    if rows.mtime != NULL:
        header.mtime_base = rows.mtime[0]
    for i in range(rows.count):
        header.start_base = min(header.start_base, <uint64_t> rows.offset_start[i])
        if rows.mtime != NULL:
            header.mtime_base = min(header.mtime_base, rows.mtime[i])
    for i in range(rows.count):
        if (<uint64_t> rows.offset_start[i] - header.start_base) % TAR_BLOCK:
            header.start_unit = 1
    for column in range(<int> COLUMN_COUNT):
        largest = 0
        for i in range(rows.count):
            largest = max(
                largest, stored_value(rows, header, <block_column> column, i)
            )
        header.widths[column] = width_of(largest)
        if column == NAME_END and rows.count > 1:
            header.widths[column] = max(header.widths[column], <uint8_t> 1)
        length += aligned(rows.count * header.widths[column])
    return aligned(length + names_bytes)


cdef inline void put_block(
    unsigned char* to,
    int64_t length,
    const member_rows* rows,
    block_header* header,
    crc32c_function crc32c,
) noexcept nogil:
    """Write a block that was measured, over zeros."""
    cdef int64_t pos = BLOCK_HEADER_BYTES, i
    cdef uint64_t value
    cdef int column
    for column in range(<int> COLUMN_COUNT):
        if header.widths[column] == 0:
            continue
        for i in range(rows.count):
            value = stored_value(rows, header, <block_column> column, i)
            # little-endian: its first bytes
            memcpy(to + pos + i * header.widths[column], &value, header.widths[column])
        pos += aligned(rows.count * header.widths[column])
    if header.names_bytes:
        memcpy(to + pos, rows.names + rows.name_bounds[0], header.names_bytes)
    memcpy(to, header, BLOCK_HEADER_BYTES)
    header.crc = crc32c(0, to + 4, length - 4)
    memcpy(to, &header.crc, 4)
