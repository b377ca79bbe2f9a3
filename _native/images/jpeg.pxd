"""Width and height in JPEG, as they are shown.

Source: ITU T.81, B.1.
"""

from libc.stdint cimport int64_t

from images.orientation cimport (
    NOT_SAID,
    UNCLEAR,
    UPRIGHT,
    exif_orientation,
    xmp_orientation,
)
from images.payload cimport (
    PARTS_MAX,
    STRAY_BYTES_MAX,
    big_endian,
    holds_text,
    need,
    peek,
)
from images.sides cimport of, shown, sides, unknown


cdef inline bint is_frame(unsigned char marker) noexcept nogil:
    """SOF: 0xC0 to 0xCF, but for DHT, JPG and DAC."""
    return (
        0xC0 <= marker <= 0xCF
        and marker != 0xC4 and marker != 0xC8 and marker != 0xCC
    )


cdef inline unsigned char next_marker(peek* p, int64_t* pos) noexcept nogil:
    """Step behind the next marker, over fill and stray bytes as libjpeg does; 0: none.
    """
    cdef const unsigned char* byte
    cdef int64_t last = pos[0] + STRAY_BYTES_MAX
    cdef bint filled = False
    while pos[0] < last:
        byte = need(p, pos[0], 1)
        if byte == NULL:
            return 0
        pos[0] += 1
        if filled and byte[0] != 0 and byte[0] != 0xFF:
            return byte[0]
        filled = byte[0] == 0xFF
    return 0


cdef inline sides jpeg_sides(peek* p, int* orientation) noexcept nogil:
    """Read the frame header, and EXIF and XMP wherever they stand before the pixels."""
    cdef const unsigned char* bytes
    cdef sides found = unknown()
    cdef int64_t pos = 2, end, exif_start = 0, exif_end = 0, xmp_start = 0, xmp_end = 0
    cdef int exifs = 0, _segment
    cdef unsigned char marker
    cdef bint metadata_read = False
    for _segment in range(PARTS_MAX):
        marker = next_marker(p, &pos)
        metadata_read = marker == 0xD9 or marker == 0xDA  # the end, or the pixels
        if marker == 0 or metadata_read:
            break
        if marker == 1 or 0xD0 <= marker <= 0xD8:  # these stand alone
            continue
        bytes = need(p, pos, 2)
        if bytes == NULL:
            break
        # decoders take a segment that is shorter than its own length field for empty
        end = pos + max(<int64_t> big_endian(bytes, 2), <int64_t> 2)
        if is_frame(marker) and found.width == 0:
            bytes = need(p, pos, 7)
            if bytes == NULL:
                break
            found = of(big_endian(bytes + 5, 2), big_endian(bytes + 3, 2))
        elif marker == 0xE1 and holds_text(p, pos + 2, end, b"Exif\0\0", 6):
            exifs += 1
            if exifs == 1:
                exif_start, exif_end = pos + 2, end
        elif marker == 0xE1 and holds_text(
            p, pos + 2, end, b"http://ns.adobe.com/xap/1.0/\0", 29
        ):
            xmp_start, xmp_end = pos + 31, end     # of several, readers take the last
        pos = end
    orientation[0] = NOT_SAID
    if exifs:
        orientation[0] = exif_orientation(p, exif_start, exif_end, 2)
    if exifs > 1 and orientation[0] == NOT_SAID:   # readers join them: one EXIF goes on
        orientation[0] = UNCLEAR
    if not metadata_read and pos + 2 <= p.size:    # the rest is out of reach
        orientation[0] = UNCLEAR
    if orientation[0] == NOT_SAID:
        orientation[0] = xmp_orientation(p, xmp_start, xmp_end)
    if orientation[0] == NOT_SAID:
        orientation[0] = UPRIGHT
    return shown(found, orientation[0])
