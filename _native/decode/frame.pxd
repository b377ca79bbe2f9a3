"""Size and colours of a JPEG, by the rules of libjpeg-turbo.

Strategy: simplejpeg's own function for this makes a decompressor, which takes as long
as all else that is done for a small image. Here a file with anything unusual before its
pixels is left to Pillow. So no rules are needed for what libjpeg-turbo does with such a
file.

Source: ITU T.81, B.1 and B.2; libjpeg-turbo 3, jdmarker.c and default_decompress_parms.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcmp

cdef enum:
    SEGMENTS_MAX = 65536
    JFIF_BYTES = 16                # with the length field; libjpeg demands as many
    ADOBE_BYTES = 14

cdef struct frame:
    int64_t height                 # as stored
    int64_t width
    int components                 # 1: grey, 3: YCbCr; 0: left to Pillow


cdef struct markers:
    frame found
    unsigned char ids[3]           # of the components
    bint is_jfif
    bint is_adobe
    unsigned char transform        # Adobe's


cdef inline int64_t number(const unsigned char* bytes) noexcept nogil:
    return bytes[0] << 8 | bytes[1]


cdef inline bint is_skipped(unsigned char marker) noexcept nogil:
    """Check for tables, application data and comments, which have a length."""
    return (
        marker == 0xC4 or marker == 0xDB or marker == 0xDD  # DHT, DQT, DRI
        or 0xE0 <= marker <= 0xEF or marker == 0xFE         # APP0 to APP15, COM
    )


cdef inline bint read_frame(
    markers* m, const unsigned char* segment, int64_t length
) noexcept nogil:
    """Read the segment of a frame; return False if it is unusual, or not the first."""
    cdef int i
    if m.found.components or length < 11 or segment[2] != 8:
        return False
    m.found.height = number(segment + 3)
    m.found.width = number(segment + 5)
    m.found.components = segment[7]
    if m.found.height == 0 or m.found.width == 0:
        return False
    if m.found.components != 1 and m.found.components != 3:
        return False
    if length != 8 + 3 * m.found.components:
        return False
    for i in range(m.found.components):
        m.ids[i] = segment[8 + 3 * i]
    return True


cdef inline void note_application(
    markers* m, unsigned char marker, const unsigned char* segment, int64_t length
) noexcept nogil:
    """Note JFIF's and Adobe's marker; of several of Adobe's, the last one counts."""
    if marker == 0xE0 and length >= JFIF_BYTES:
        m.is_jfif |= memcmp(segment + 2, b"JFIF", 5) == 0  # with the zero behind it
    elif marker == 0xEE and length >= ADOBE_BYTES:
        if memcmp(segment + 2, b"Adobe", 5) == 0:
            m.is_adobe = True
            m.transform = segment[13]


cdef inline bint is_ours(const markers* m) noexcept nogil:
    """Check that the colours are grey or YCbCr, as libjpeg takes them."""
    if m.found.components != 3 or m.is_jfif:
        return m.found.components != 0
    if m.is_adobe:
        return m.transform == 1    # 0: RGB; of others, libjpeg warns
    return not (m.ids[0] == b"R" and m.ids[1] == b"G" and m.ids[2] == b"B")


cdef inline frame frame_of(const unsigned char* bytes, int64_t size) noexcept nogil:
    """Read size and colours from the segments before the pixels."""
    cdef markers m
    cdef frame none
    cdef int64_t pos = 2, length
    cdef unsigned char marker
    cdef int _segment
    none.height = none.width = none.components = 0
    m.found = none
    m.is_jfif = m.is_adobe = False
    m.transform = 0
    if size < 4 or bytes[0] != 0xFF or bytes[1] != 0xD8:
        return none
    for _segment in range(SEGMENTS_MAX):
        # any number of 0xFF may stand before a marker
        while size - pos >= 4 and bytes[pos] == 0xFF and bytes[pos + 1] == 0xFF:
            pos += 1
        if size - pos < 4 or bytes[pos] != 0xFF:
            return none
        marker = bytes[pos + 1]
        pos += 2
        length = number(bytes + pos)
        if length < 2 or length > size - pos:
            return none
        if marker == 0xDA:         # the pixels
            return m.found if is_ours(&m) else none
        if 0xC0 <= marker <= 0xC2:  # baseline, extended or progressive, by Huffman
            if not read_frame(&m, bytes + pos, length):
                return none
        elif is_skipped(marker):
            note_application(&m, marker, bytes + pos, length)
        else:
            return none
        pos += length
    return none
