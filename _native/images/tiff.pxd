"""The first directory of a TIFF: size and orientation. EXIF is such a TIFF, too.

Source: TIFF 6.0; BigTIFF; Exif 2.32, "Orientation".
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from images.payload cimport big_endian, little_endian, need, peek

cdef enum:
    TAG_WIDTH = 256
    TAG_HEIGHT = 257
    TAG_ORIENTATION = 274
    TAG_XMP = 700
    TYPE_BYTE = 1
    TYPE_ASCII = 2
    TYPE_SHORT = 3
    TYPE_LONG = 4
    TYPE_UNDEFINED = 7
    TYPE_LONG8 = 16
    TAGS_MAX = 65535               # BigTIFF could claim more

cdef struct directory:
    uint64_t width                 # 0: not said
    uint64_t height
    uint64_t orientation           # where it is said
    bint said
    bint odd                       # it is said, but not where or how readers agree
    uint64_t bytes_left            # for values that don't lie in their tags
    bint cut                       # some tags are not there
    bint astray                    # some tag's value is not there
    bint is_tiff
    bint is_big                    # a BigTIFF
    bint is_big_endian
    int64_t xmp_start              # in the payload; 0: none
    int64_t xmp_end


cdef inline uint64_t bytes_of_type(uint64_t kind) noexcept nogil:
    """Return the bytes of one value of a type; 0: no such type."""
    if kind == 1 or kind == 2 or kind == 6 or kind == 7:
        return 1
    if kind == 3 or kind == 8:
        return 2
    if kind == 4 or kind == 9 or kind == 11 or kind == 13:
        return 4
    return 8 if kind == 5 or kind == 10 or kind == 12 or kind == 16 else 0


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


cdef inline void note_orientation(
    const unsigned char* tag, int count_width, bint big, directory* found
) noexcept nogil:
    """Keep the first of several numbers; text and plain bytes are none."""
    cdef uint64_t kind = number_at(tag + 2, 2, big)
    cdef uint64_t count = number_at(tag + 4, count_width, big)
    cdef const unsigned char* value = tag + 4 + count_width
    found.said = True
    if count * bytes_of_type(kind) > <uint64_t> count_width:
        found.odd = True                           # the value is elsewhere
    elif kind == TYPE_SHORT or kind == TYPE_LONG or kind == TYPE_LONG8:
        found.orientation = number_at(value, bytes_of_type(kind), big)
    else:
        found.odd = kind != TYPE_BYTE and kind != TYPE_ASCII and kind != TYPE_UNDEFINED


cdef inline void note_tag(
    const unsigned char* tag, int64_t start, int64_t end, int count_width, bint big,
    directory* found,
) noexcept nogil:
    """Keep what a tag says of size and orientation; of equal tags, the first.

    Its value lies in the tag, or in the TIFF, which is the payload's start to end.
    """
    cdef uint64_t name = number_at(tag, 2, big), at, size
    cdef uint64_t count = number_at(tag + 4, count_width, big)
    cdef uint64_t value_bytes = bytes_of_type(number_at(tag + 2, 2, big))
    if value_bytes == 0 or count == 0:             # readers step over it
        return
    if count > <uint64_t> (end - start) // value_bytes:
        found.astray = True
        return
    size = count * value_bytes
    at = number_at(tag + 4 + count_width, count_width, big)
    if size > <uint64_t> count_width:
        # Pillow 13 leaves out the last of values that are together larger than the file
        if size > found.bytes_left or at > <uint64_t> (end - start) - size:
            found.astray = True
            return
        found.bytes_left -= size
    if name == TAG_WIDTH and found.width == 0:
        found.width = tag_value(tag, count_width, big)
    elif name == TAG_HEIGHT and found.height == 0:
        found.height = tag_value(tag, count_width, big)
    elif name == TAG_ORIENTATION and not found.said:
        note_orientation(tag, count_width, big, found)
        # some readers stop at a value that is not there, and don't come to this tag
        found.odd |= found.astray
    elif name == TAG_XMP and found.xmp_start == 0 and size > <uint64_t> count_width:
        found.xmp_start = start + <int64_t> at
        found.xmp_end = found.xmp_start + <int64_t> size
        # nor to this one, which counts if no tag says the orientation
        found.odd |= found.astray and not found.said


cdef inline void read_tags(
    peek* p, int64_t place, int64_t start, int64_t end, int count_width, bint big,
    directory* found,
) noexcept nogil:
    """Go through the tags of the directory at a place, as far as they are there."""
    cdef int number_width = 8 if count_width == 8 else 2
    cdef int tag_bytes = 4 + 2 * count_width
    cdef const unsigned char* bytes = need(p, place, number_width)
    cdef uint64_t said, tags
    found.cut = True
    if bytes == NULL:
        return
    said = number_at(bytes, number_width, big)
    tags = min(said, <uint64_t> TAGS_MAX)
    place += number_width
    found.cut = said > tags
    while tags:
        bytes = need(p, place, tag_bytes) if tag_bytes <= end - place else NULL
        if bytes == NULL:
            found.cut = True
            return
        note_tag(bytes, start, end, count_width, big, found)
        place += tag_bytes
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
    memset(&found, 0, sizeof(found))
    found.bytes_left = end - start
    if header == NULL or end - start < 8 or header[0] != header[1]:
        return found
    if header[0] != b"I" and header[0] != b"M":
        return found
    big = header[0] == b"M"
    found.is_big_endian = big
    version = number_at(header + 2, 2, big)
    first = number_at(header + 4, 4, big)
    if version == 43:                              # BigTIFF: 8, 0, and where
        count_width = 8
        found.is_tiff = found.is_big = True
        header = need(p, start, 16)
        if header == NULL or number_at(header + 4, 2, big) != 8:
            return found
        first = number_at(header + 8, 8, big)
    elif version != 42 and version != 42 << 8:     # some write it the wrong way round
        return found
    found.is_tiff = True
    if first > <uint64_t> (end - start):
        return found
    read_tags(p, start + <int64_t> first, start, end, count_width, big, &found)
    return found
