"""The first directory of a TIFF: size and orientation. EXIF is such a TIFF, too.

Source: TIFF 6.0; BigTIFF; Exif 2.32, "Orientation".
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from images.payload cimport big_endian, little_endian, need, peek

cdef enum:
    TAG_WIDTH = 256
    TAG_HEIGHT = 257
    TAG_ORIENTATION = 274
    TYPE_BYTE = 1
    TYPE_SHORT = 3
    TYPE_LONG = 4
    TYPE_LONG8 = 16
    TAGS_MAX = 65535               # BigTIFF could claim more

cdef struct directory:             # 0: not said
    uint64_t width
    uint64_t height
    uint64_t orientation


cdef inline uint64_t number_at(
    const unsigned char* bytes, int width, bint big
) noexcept nogil:
    return big_endian(bytes, width) if big else little_endian(bytes, width)


cdef inline uint64_t tag_value(
    const unsigned char* tag, int count_width, bint big
) noexcept nogil:
    """Read the value of a tag that has one, a whole number; else 0."""
    cdef uint64_t kind = number_at(tag + 2, 2, big)
    cdef const unsigned char* value = tag + 4 + count_width
    if number_at(tag + 4, count_width, big) != 1:
        return 0
    if kind == TYPE_BYTE:
        return value[0]
    if kind == TYPE_SHORT:
        return number_at(value, 2, big)
    if kind == TYPE_LONG:
        return number_at(value, 4, big)
    if kind == TYPE_LONG8 and count_width == 8:
        return number_at(value, 8, big)
    return 0


cdef inline void note_tag(
    const unsigned char* tag, int count_width, bint big, directory* found
) noexcept nogil:
    """Keep what a tag says of size and orientation; of equal tags, the first."""
    cdef uint64_t name = number_at(tag, 2, big)
    if name == TAG_WIDTH and found.width == 0:
        found.width = tag_value(tag, count_width, big)
    elif name == TAG_HEIGHT and found.height == 0:
        found.height = tag_value(tag, count_width, big)
    elif name == TAG_ORIENTATION and found.orientation == 0:
        found.orientation = tag_value(tag, count_width, big)


cdef inline void read_tags(
    peek* p, int64_t start, int64_t end, int count_width, bint big, directory* found
) noexcept nogil:
    """Go through a directory's tags, as far as they are there."""
    cdef int number_width = 8 if count_width == 8 else 2
    cdef int tag_bytes = 4 + 2 * count_width
    cdef const unsigned char* bytes = need(p, start, number_width)
    cdef uint64_t tags
    if bytes == NULL:
        return
    tags = min(number_at(bytes, number_width, big), <uint64_t> TAGS_MAX)
    start += number_width
    while tags and tag_bytes <= end - start:
        bytes = need(p, start, tag_bytes)
        if bytes == NULL:
            return
        note_tag(bytes, count_width, big, found)
        start += tag_bytes
        tags -= 1


cdef inline directory read_directory(
    peek* p, int64_t start, int64_t end
) noexcept nogil:
    """Read the first directory of the TIFF that lies at start to end of the payload."""
    cdef directory found
    cdef const unsigned char* header = need(p, start, 8)
    cdef bint big
    cdef uint64_t version, first
    cdef int count_width = 4
    found.width = found.height = found.orientation = 0
    if header == NULL or end - start < 8 or header[0] != header[1]:
        return found
    if header[0] != b"I" and header[0] != b"M":
        return found
    big = header[0] == b"M"
    version = number_at(header + 2, 2, big)
    first = number_at(header + 4, 4, big)
    if version == 43:                              # BigTIFF: 8, 0, and where
        count_width = 8
        header = need(p, start, 16)
        if header == NULL or number_at(header + 4, 2, big) != 8:
            return found
        first = number_at(header + 8, 8, big)
    elif version != 42:
        return found
    if first > <uint64_t> (end - start):
        return found
    read_tags(p, start + <int64_t> first, end, count_width, big, &found)
    return found


cdef inline bint lies_on_side(uint64_t orientation) noexcept nogil:
    """Check whether the image is shown with width and height exchanged."""
    return 5 <= orientation <= 8


cdef inline bint exif_turns(peek* p, int64_t start, int64_t end) noexcept nogil:
    """Check the EXIF at start to end of the payload for such an orientation."""
    return lies_on_side(read_directory(p, start, end).orientation)
