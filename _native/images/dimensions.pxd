"""Width and height of an image as it is shown, from its headers: no pixel is decoded.

Native, and not by a library: Pillow takes 21 us a header and imagesize 13, where a
whole pack takes 4.7 us a file and facts may cost it 0.6 times that. So Pillow is the
judge in the tests instead: of every format that it writes and every orientation, and of
headers that were damaged or cut.

Source: GIF89a; RFC 9649 (WebP); QOI; Adobe, Photoshop File Formats.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcmp

from images.isobmff cimport heif_sides, jp2_sides, jxl_sides
from images.jpeg cimport jpeg_sides
from images.netpbm cimport pnm_sides
from images.orientation cimport (
    NOT_SAID,
    UNCLEAR,
    UPRIGHT,
    exif_orientation,
    orientation_in,
    xmp_orientation,
)
from images.payload cimport PARTS_MAX, big_32, little_32, little_endian, need, peek
from images.png cimport png_sides
from images.sides cimport of, shown, sides, unknown
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
from images.tiff cimport directory, read_directory


# GIF, WebP, BMP

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


cdef inline int webp_orientation(
    peek* p, bint has_exif, bint has_xmp
) noexcept nogil:
    """Find a WebP's EXIF and XMP, the first of each, and read the orientation."""
    cdef const unsigned char* bytes = need(p, 0, 8)
    cdef int64_t exif_start = 0, exif_end = 0, xmp_start = 0, xmp_end = 0
    cdef int64_t pos = 12, size, end
    cdef int orientation = NOT_SAID, _chunk
    if bytes == NULL:
        return UNCLEAR
    end = min(p.size, 8 + <int64_t> little_32(bytes + 4))
    for _chunk in range(PARTS_MAX):
        if end - pos < 8:
            break
        bytes = need(p, pos, 8)
        if bytes == NULL:
            return UNCLEAR
        size = little_32(bytes + 4)
        if has_exif and exif_start == 0 and memcmp(bytes, b"EXIF", 4) == 0:
            exif_start, exif_end = pos + 8, pos + 8 + size
        elif has_xmp and xmp_start == 0 and memcmp(bytes, b"XMP ", 4) == 0:
            xmp_start, xmp_end = pos + 8, pos + 8 + size
        pos += 8 + size + (size & 1)
    else:                                          # there may be more
        return UNCLEAR
    if exif_start:
        orientation = exif_orientation(p, exif_start, exif_end, 2)
    if orientation == NOT_SAID:
        orientation = xmp_orientation(p, xmp_start, xmp_end)
    return UPRIGHT if orientation == NOT_SAID else orientation


cdef inline sides webp_sides(peek* p, int* orientation) noexcept nogil:
    """Read the first chunk: lossy, lossless, or the canvas of an extended file."""
    cdef const unsigned char* bytes = need(p, 12, 13)
    cdef sides found
    cdef uint64_t packed
    orientation[0] = UPRIGHT
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
    if bytes[8] & 12:                              # EXIF or XMP is promised
        orientation[0] = webp_orientation(p, bytes[8] & 8, bytes[8] & 4)
    return shown(found, orientation[0])


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


# TIFF, QOI, Photoshop

cdef inline sides tiff_sides(peek* p) noexcept nogil:
    """Read the first directory; the decoder turns the image as that says."""
    cdef directory first = read_directory(p, 0, p.size)
    cdef int orientation = orientation_in(&first)
    if orientation == NOT_SAID:
        orientation = xmp_orientation(p, first.xmp_start, first.xmp_end)
    # Pillow 13 reads the orientation of such a one wrong
    if first.is_big and first.is_big_endian and orientation != UPRIGHT:
        orientation = UNCLEAR
    return shown(of(first.width, first.height), orientation)


cdef inline sides qoi_sides(peek* p) noexcept nogil:
    cdef const unsigned char* bytes = need(p, 4, 8)
    return unknown() if bytes == NULL else of(big_32(bytes), big_32(bytes + 4))


cdef inline sides psd_sides(peek* p) noexcept nogil:
    """Height comes first."""
    cdef const unsigned char* bytes = need(p, 14, 8)
    return unknown() if bytes == NULL else of(big_32(bytes + 4), big_32(bytes))


cdef inline sides measure_image(
    peek* p, int media_type, int* orientation
) noexcept nogil:
    """Measure an image of a known type; damage and other formats are unknown sides.

    The orientation is that of JPEG, PNG and WebP. All other decoders turn the image
    themselves, or UNCLEAR stands for none.
    """
    orientation[0] = UNCLEAR
    if media_type == MEDIA_JPEG:
        return jpeg_sides(p, orientation)
    if media_type == MEDIA_PNG:
        return png_sides(p, orientation)
    if media_type == MEDIA_WEBP:
        return webp_sides(p, orientation)
    if media_type == MEDIA_GIF:
        return gif_sides(p)
    if media_type == MEDIA_BMP:
        return bmp_sides(p)
    if media_type == MEDIA_TIFF:
        return tiff_sides(p)
    if media_type == MEDIA_AVIF or media_type == MEDIA_HEIF:
        return heif_sides(p, media_type == MEDIA_AVIF)
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
