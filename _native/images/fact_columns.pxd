"""Facts that are computed while a payload's bytes are at hand, as C arrays."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from images.sides cimport sides
from common.columns cimport owned_view
from common.crc32c cimport crc32c_function
from images.dimensions cimport measure_image
from images.sniff cimport media_type
from images.payload cimport peek

cdef struct fact_columns:          # (rows,) each
    uint8_t* media_type            # places in blobpack.columns.MEDIA_TYPES
    uint32_t* width                # as shown; 0: unknown
    uint32_t* height
    uint32_t* crc32c
    int64_t* mtime                 # where a column is not wanted: NULL


cdef inline int facts_reserve(
    fact_columns* facts, int64_t rows, bint with_mtime
) noexcept nogil:
    """Make columns of zeros; -1 when memory is out."""
    cdef int64_t room = max(rows, 1)
    memset(facts, 0, sizeof(fact_columns))
    facts.media_type = <uint8_t*> calloc(room, 1)
    facts.width = <uint32_t*> calloc(room, sizeof(uint32_t))
    facts.height = <uint32_t*> calloc(room, sizeof(uint32_t))
    facts.crc32c = <uint32_t*> calloc(room, sizeof(uint32_t))
    if with_mtime:
        facts.mtime = <int64_t*> calloc(room, sizeof(int64_t))
    if (
        facts.media_type == NULL or facts.width == NULL or facts.height == NULL
        or facts.crc32c == NULL or (with_mtime and facts.mtime == NULL)
    ):
        facts_free(facts)
        return -1
    return 0


cdef inline void facts_free(fact_columns* facts) noexcept nogil:
    free(facts.media_type)
    free(facts.width)
    free(facts.height)
    free(facts.crc32c)
    free(facts.mtime)
    memset(facts, 0, sizeof(fact_columns))


cdef inline void note_image(
    fact_columns* facts, int64_t row, peek* payload, media_type kind
) noexcept nogil:
    """Note an image's type and, by its headers, its size."""
    cdef int orientation
    cdef sides found = measure_image(payload, kind, &orientation)
    facts.media_type[row] = kind
    facts.width[row] = found.width
    facts.height[row] = found.height


cdef inline void note_bytes(
    fact_columns* facts,
    int64_t row,
    crc32c_function extend,
    const unsigned char* bytes,
    int64_t length,
) noexcept nogil:
    """Carry a payload's checksum on over its next bytes."""
    facts.crc32c[row] = extend(facts.crc32c[row], bytes, length)


cdef inline void facts_move(
    fact_columns* facts, int64_t row, int64_t to
) noexcept nogil:
    facts.media_type[to] = facts.media_type[row]
    facts.width[to] = facts.width[row]
    facts.height[to] = facts.height[row]
    facts.crc32c[to] = facts.crc32c[row]
    if facts.mtime != NULL:
        facts.mtime[to] = facts.mtime[row]


cdef inline tuple facts_to_python(fact_columns* facts, int64_t rows):
    """Hand the arrays to Python: "B", "I", "I", "I" and, if kept, mtime as "q"."""
    views = [owned_view(facts.media_type, rows, 1, "B")]
    if rows:                                       # each is let go as it is handed over
        facts.media_type = NULL
    views.append(owned_view(facts.width, rows, sizeof(uint32_t), "I"))
    if rows:
        facts.width = NULL
    views.append(owned_view(facts.height, rows, sizeof(uint32_t), "I"))
    if rows:
        facts.height = NULL
    views.append(owned_view(facts.crc32c, rows, sizeof(uint32_t), "I"))
    if rows:
        facts.crc32c = NULL
    if facts.mtime != NULL:
        views.append(owned_view(facts.mtime, rows, sizeof(int64_t), "q"))
        if rows:
            facts.mtime = NULL
    return tuple(views)
