"""Rows of an index file as columns in memory: copied out of blocks, given to Python."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from common.guarded cimport read_before_what_follows
from index.blocks cimport (
    CRC32C,
    HEIGHT,
    MEDIA_TYPE,
    WIDTH,
    block_view,
    mtime_in,
    name_in,
    offsets_in,
    value_at,
)
from common.columns cimport owned_view
from index.faults cimport FAULT_LAYOUT, FAULT_MEMORY, FAULT_NONE, fault

cdef enum:                         # the facts that an index has, of its footer
    HAS_MEDIA_TYPE = 1
    HAS_WIDTH = 2
    HAS_HEIGHT = 4
    HAS_CRC32C = 8
    HAS_MTIME = 16

cdef struct row_columns:
    int64_t count
    int64_t capacity
    char* names
    int64_t names_capacity
    int64_t* name_bounds
    int64_t* offset_start
    int64_t* offset_end
    uint8_t* media_type
    uint32_t* width
    uint32_t* height
    uint32_t* crc32c
    int64_t* mtime


cdef inline bint row_columns_init(
    row_columns* out, int64_t rows, int facts
) noexcept nogil:
    memset(out, 0, sizeof(row_columns))
    out.capacity = rows
    rows = max(rows, 1)
    out.name_bounds = <int64_t*> calloc(rows + 1, 8)
    out.offset_start = <int64_t*> malloc(rows * 8)
    out.offset_end = <int64_t*> malloc(rows * 8)
    if facts & HAS_MEDIA_TYPE:
        out.media_type = <uint8_t*> malloc(rows)
    if facts & HAS_WIDTH:
        out.width = <uint32_t*> malloc(rows * 4)
    if facts & HAS_HEIGHT:
        out.height = <uint32_t*> malloc(rows * 4)
    if facts & HAS_CRC32C:
        out.crc32c = <uint32_t*> malloc(rows * 4)
    if facts & HAS_MTIME:
        out.mtime = <int64_t*> malloc(rows * 8)
    return not (
        out.name_bounds == NULL or out.offset_start == NULL or out.offset_end == NULL
        or (facts & HAS_MEDIA_TYPE and out.media_type == NULL)
        or (facts & HAS_WIDTH and out.width == NULL)
        or (facts & HAS_HEIGHT and out.height == NULL)
        or (facts & HAS_CRC32C and out.crc32c == NULL)
        or (facts & HAS_MTIME and out.mtime == NULL)
    )


cdef inline void row_columns_free(row_columns* out) noexcept nogil:
    free(out.names)
    free(out.name_bounds)
    free(out.offset_start)
    free(out.offset_end)
    free(out.media_type)
    free(out.width)
    free(out.height)
    free(out.crc32c)
    free(out.mtime)


cdef inline fault take_block(
    row_columns* out, const block_view* view, int64_t first, int64_t last
) noexcept nogil:
    """Append the places first:last of a block."""
    cdef int64_t place, row, length, used, capacity
    cdef const unsigned char* name
    cdef void* grown
    for place in range(first, last):
        row = out.count
        if not name_in(view, place, &name, &length):
            return FAULT_LAYOUT
        used = out.name_bounds[row]
        if used + length > out.names_capacity:
            capacity = max(used + length, 2 * out.names_capacity, 64)
            grown = realloc(out.names, capacity)
            if grown == NULL:
                return FAULT_MEMORY
            out.names = <char*> grown
            out.names_capacity = capacity
            # known before the next read of a mapped file, at which a fault may end this
            read_before_what_follows()
        if length:
            memcpy(out.names + used, name, length)
        out.name_bounds[row + 1] = used + length
        if not offsets_in(view, place, &out.offset_start[row], &out.offset_end[row]):
            return FAULT_LAYOUT
        if out.media_type != NULL:
            out.media_type[row] = <uint8_t> value_at(view, MEDIA_TYPE, place)
        if out.width != NULL:
            out.width[row] = <uint32_t> value_at(view, WIDTH, place)
        if out.height != NULL:
            out.height[row] = <uint32_t> value_at(view, HEIGHT, place)
        if out.crc32c != NULL:
            out.crc32c[row] = <uint32_t> value_at(view, CRC32C, place)
        if out.mtime != NULL:
            out.mtime[row] = mtime_in(view, place)
        out.count += 1
    return FAULT_NONE


cdef inline object hand_over(void** data, Py_ssize_t rows, Py_ssize_t size, str kind):
    if data[0] == NULL:
        return None
    view = owned_view(data[0], rows, size, kind)
    if rows:
        data[0] = NULL
    return view


cdef inline tuple to_python(row_columns* out):
    cdef int64_t rows = out.count, length = out.name_bounds[out.count]
    names = owned_view(out.names, length, 1, "B")
    if length:
        out.names = NULL
    bounds = owned_view(out.name_bounds, rows + 1, 8, "q")
    out.name_bounds = NULL
    return (
        names,
        bounds,
        hand_over(<void**> &out.offset_start, rows, 8, "q"),
        hand_over(<void**> &out.offset_end, rows, 8, "q"),
        hand_over(<void**> &out.media_type, rows, 1, "B"),
        hand_over(<void**> &out.width, rows, 4, "I"),
        hand_over(<void**> &out.height, rows, 4, "I"),
        hand_over(<void**> &out.crc32c, rows, 4, "I"),
        hand_over(<void**> &out.mtime, rows, 8, "q"),
    )
