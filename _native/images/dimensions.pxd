"""Width and height of an image as it is shown, from its headers: no pixel is decoded.

Native, and not by a library: Pillow takes 21 us a header and imagesize 13, where a
whole pack takes 4.7 us a file and facts may cost it 0.6 times that. So Pillow is the
judge in the tests instead: of every format that it writes and every orientation, and of
headers that were damaged or cut.

Source: each format's own specification; ITU T.81, B.1 (JPEG); PNG 3rd edition; GIF89a;
RFC 9649 (WebP); Netpbm; QOI; Adobe, Photoshop File Formats.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcmp

from images.isobmff cimport heif_sides, jp2_sides, jxl_sides, of, sides, turned, unknown
from images.tiff cimport directory, exif_turns, lies_on_side, read_directory
from images.sniff cimport (
    MEDIA_AVIF,
    MEDIA_BMP,
    MEDIA_GIF,
    MEDIA_HEIF,
    MEDIA_JP2,
    MEDIA_JPEG,
    MEDIA_JXL,
    MEDIA_PNG,
    MEDIA_PNM,
    MEDIA_PSD,
    MEDIA_QOI,
    MEDIA_TIFF,
    MEDIA_WEBP,
)
from images.payload cimport big_32, big_endian, little_32, little_endian, need, peek

cdef enum:
    STRAY_BYTES_MAX = 65536        # between two JPEG segments, or in a PNM's comments
    PARTS_MAX = 65536              # segments or blocks before we give up


# JPEG

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


cdef inline sides jpeg_sides(peek* p) noexcept nogil:
    """Read the frame header, and EXIF wherever it stands before the pixels."""
    cdef const unsigned char* bytes
    cdef sides found = unknown()
    cdef int64_t pos = 2, end
    cdef int _segment
    cdef bint exif_seen = False, turns = False
    cdef unsigned char marker
    for _segment in range(PARTS_MAX):
        marker = next_marker(p, &pos)
        if marker == 0 or marker == 0xD9 or marker == 0xDA:  # the pixels, or the end
            break
        if marker == 1 or 0xD0 <= marker <= 0xD8:  # these stand alone
            continue
        bytes = need(p, pos, 2)
        if bytes == NULL or big_endian(bytes, 2) < 2:
            break
        end = pos + <int64_t> big_endian(bytes, 2)
        if is_frame(marker) and found.width == 0:
            bytes = need(p, pos, 7)
            if bytes == NULL:
                break
            found = of(big_endian(bytes + 5, 2), big_endian(bytes + 3, 2))
        elif marker == 0xE1 and not exif_seen and end - pos >= 8:
            bytes = need(p, pos, 8)
            if bytes != NULL and memcmp(bytes + 2, b"Exif\0\0", 6) == 0:
                exif_seen = True
                turns = exif_turns(p, pos + 8, end)
        pos = end
    return turned(found) if turns else found


# PNG, GIF, WebP, BMP

cdef inline sides png_sides(peek* p) noexcept nogil:
    """Read IHDR, and an eXIf chunk if one stands before the pixels."""
    cdef const unsigned char* bytes = need(p, 0, 24)
    cdef sides found
    cdef int64_t pos = 8, size
    cdef int _chunk
    if bytes == NULL or memcmp(bytes + 12, b"IHDR", 4) != 0:
        return unknown()
    found = of(big_32(bytes + 16), big_32(bytes + 20))
    for _chunk in range(PARTS_MAX):
        bytes = need(p, pos, 8)
        if bytes == NULL or memcmp(bytes + 4, b"IDAT", 4) == 0:
            break
        size = big_32(bytes)
        if memcmp(bytes + 4, b"eXIf", 4) == 0:
            return turned(found) if exif_turns(p, pos + 8, pos + 8 + size) else found
        pos += 12 + size
    return found


cdef inline int64_t gif_frame(peek* p, int64_t pos) noexcept nogil:
    """Find the first frame's descriptor, over extensions and their blocks; -1: none."""
    cdef const unsigned char* bytes
    cdef bint in_extension = False
    cdef int _block
    for _block in range(PARTS_MAX):
        bytes = need(p, pos, 1)
        if bytes == NULL:
            return -1
        if in_extension:
            in_extension = bytes[0] != 0
            pos += 1 + bytes[0]
        elif bytes[0] == b"!":
            in_extension = True
            pos += 2
        elif bytes[0] == b",":
            return pos
        elif bytes[0] == b";":                     # the end
            return -1
        else:                                      # a stray byte
            pos += 1
    return -1


cdef inline sides gif_sides(peek* p) noexcept nogil:
    """Read the screen; it grows with a first frame that reaches beyond it."""
    cdef const unsigned char* bytes = need(p, 6, 7)
    cdef uint64_t width, height
    cdef int64_t pos = 13
    if bytes == NULL:
        return unknown()
    width, height = little_endian(bytes, 2), little_endian(bytes + 2, 2)
    if bytes[4] & 0x80:
        pos += <int64_t> 6 << (bytes[4] & 7)       # the colours
    pos = gif_frame(p, pos)
    bytes = need(p, pos + 1, 8)
    if pos >= 0 and bytes != NULL:
        width = max(width, little_endian(bytes, 2) + little_endian(bytes + 4, 2))
        height = max(height, little_endian(bytes + 2, 2) + little_endian(bytes + 6, 2))
    return of(width, height)


cdef inline int64_t webp_exif(peek* p, int64_t* end) noexcept nogil:
    """Find a WebP's EXIF; 0 when there is none, -1 when it is out of reach."""
    cdef const unsigned char* bytes
    cdef int64_t pos = 12, size
    cdef int _chunk
    for _chunk in range(PARTS_MAX):
        if p.size - pos < 8:
            return 0
        bytes = need(p, pos, 8)
        if bytes == NULL:
            return -1
        size = little_32(bytes + 4)
        if memcmp(bytes, b"EXIF", 4) == 0:
            end[0] = pos + 8 + size
            bytes = need(p, pos + 8, 6)
            if bytes == NULL:
                return -1
            # a JPEG's prefix that some writers leave in
            return pos + (14 if memcmp(bytes, b"Exif\0\0", 6) == 0 else 8)
        pos += 8 + size + (size & 1)
    return -1


cdef inline sides webp_sides(peek* p) noexcept nogil:
    """Read the first chunk: lossy, lossless, or the canvas of an extended file."""
    cdef const unsigned char* bytes = need(p, 12, 13)
    cdef sides found
    cdef int64_t exif, end = 0
    cdef uint64_t packed
    if bytes != NULL and memcmp(bytes, b"VP8L", 4) == 0 and bytes[8] == 0x2F:
        packed = little_32(bytes + 9)
        return of((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1)
    bytes = need(p, 12, 18)
    if bytes == NULL:
        return unknown()
    if memcmp(bytes, b"VP8 ", 4) == 0 and memcmp(bytes + 11, b"\x9d\x01\x2a", 3) == 0:
        return of(
            little_endian(bytes + 14, 2) & 0x3FFF, little_endian(bytes + 16, 2) & 0x3FFF
        )
    if memcmp(bytes, b"VP8X", 4) != 0:
        return unknown()
    found = of(little_endian(bytes + 12, 3) + 1, little_endian(bytes + 15, 3) + 1)
    if not bytes[8] & 8:                           # no EXIF is promised
        return found
    exif = webp_exif(p, &end)
    if exif < 0:                                   # it may turn the image: who knows
        return unknown()
    return turned(found) if exif and exif_turns(p, exif, end) else found


cdef inline sides bmp_sides(peek* p) noexcept nogil:
    """Read the core or the info header; a negative height is a top-down image's."""
    cdef const unsigned char* bytes = need(p, 14, 12)
    cdef int64_t width, height
    if bytes == NULL:
        return unknown()
    if little_32(bytes) == 12:
        return of(little_endian(bytes + 4, 2), little_endian(bytes + 6, 2))
    width = <int32_t> little_32(bytes + 4)
    height = <int32_t> little_32(bytes + 8)
    if width <= 0:
        return unknown()
    return of(width, height if height > 0 else -height)


# TIFF, PNM, QOI, Photoshop

cdef inline sides tiff_sides(peek* p) noexcept nogil:
    cdef directory first = read_directory(p, 0, p.size)
    cdef sides found = of(first.width, first.height)
    return turned(found) if lies_on_side(first.orientation) else found


cdef inline bint is_space(unsigned char byte) noexcept nogil:
    return byte == 32 or 9 <= byte <= 13


cdef inline int next_word(
    peek* p, int64_t* pos, int64_t last, unsigned char* word, int room
) noexcept nogil:
    """Step over comments to a PNM header's next word; its length, 0 for none."""
    cdef const unsigned char* byte
    cdef int length = 0
    cdef bint comment = False
    while pos[0] < last:
        byte = need(p, pos[0], 1)
        if byte == NULL:
            return 0
        if comment:
            comment = byte[0] != 10 and byte[0] != 13
        elif byte[0] == b"#":
            comment = True
        elif not is_space(byte[0]):
            if length == room:
                return 0
            word[length] = byte[0]
            length += 1
        elif length:
            return length
        pos[0] += 1
    return 0


cdef inline uint64_t next_number(peek* p, int64_t* pos, int64_t last) noexcept nogil:
    """Read the next word as a number; 0 when it is none."""
    cdef unsigned char word[10]
    cdef uint64_t number = 0
    cdef int i
    for i in range(next_word(p, pos, last, word, 10)):
        if not 48 <= word[i] <= 57:
            return 0
        number = number * 10 + word[i] - 48
    return number


cdef inline sides pam_sides(peek* p, int64_t last) noexcept nogil:
    """Read the lines of a P7 header up to the one that ends it."""
    cdef unsigned char word[10]
    cdef uint64_t width = 0, height = 0
    cdef int64_t pos = 3
    cdef int length
    while True:
        length = next_word(p, &pos, last, word, 10)
        if length == 0 or (length == 6 and memcmp(word, b"ENDHDR", 6) == 0):
            break
        if length == 5 and memcmp(word, b"WIDTH", 5) == 0:
            width = next_number(p, &pos, last)
        elif length == 6 and memcmp(word, b"HEIGHT", 6) == 0:
            height = next_number(p, &pos, last)
    return of(width, height)


cdef inline sides pnm_sides(peek* p) noexcept nogil:
    cdef const unsigned char* bytes = need(p, 0, 3)
    cdef int64_t pos = 2
    cdef uint64_t width
    if bytes == NULL:
        return unknown()
    if bytes[1] == b"7":
        return pam_sides(p, STRAY_BYTES_MAX)
    width = next_number(p, &pos, STRAY_BYTES_MAX)
    return of(width, next_number(p, &pos, STRAY_BYTES_MAX))


cdef inline sides qoi_sides(peek* p) noexcept nogil:
    cdef const unsigned char* bytes = need(p, 4, 8)
    return unknown() if bytes == NULL else of(big_32(bytes), big_32(bytes + 4))


cdef inline sides psd_sides(peek* p) noexcept nogil:
    """Height comes first."""
    cdef const unsigned char* bytes = need(p, 14, 8)
    return unknown() if bytes == NULL else of(big_32(bytes + 4), big_32(bytes))


cdef inline sides measure_image(peek* p, int media_type) noexcept nogil:
    """Measure an image of a known type; damage and other formats are unknown sides."""
    if media_type == MEDIA_JPEG:
        return jpeg_sides(p)
    if media_type == MEDIA_PNG:
        return png_sides(p)
    if media_type == MEDIA_GIF:
        return gif_sides(p)
    if media_type == MEDIA_WEBP:
        return webp_sides(p)
    if media_type == MEDIA_BMP:
        return bmp_sides(p)
    if media_type == MEDIA_TIFF:
        return tiff_sides(p)
    if media_type == MEDIA_AVIF or media_type == MEDIA_HEIF:
        return heif_sides(p)
    if media_type == MEDIA_JXL:
        return jxl_sides(p)
    if media_type == MEDIA_JP2:
        return jp2_sides(p)
    if media_type == MEDIA_PNM:
        return pnm_sides(p)
    if media_type == MEDIA_QOI:
        return qoi_sides(p)
    if media_type == MEDIA_PSD:
        return psd_sides(p)
    return unknown()
