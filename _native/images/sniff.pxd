"""Recognise images, and their types, by their first bytes.

Source: each format's own specification; WHATWG, MIME Sniffing, "image type pattern".
"""

from libc.stdint cimport int64_t
from libc.string cimport memcmp

cdef enum:
    BRANDS_BYTES_MAX = 256         # of a box "ftyp"

cdef enum media_type:              # the places in blobpack.columns.MEDIA_TYPES
    MEDIA_UNKNOWN
    MEDIA_JPEG
    MEDIA_PNG
    MEDIA_GIF
    MEDIA_WEBP
    MEDIA_BMP
    MEDIA_TIFF
    MEDIA_AVIF
    MEDIA_HEIF
    MEDIA_JXL
    MEDIA_JP2
    MEDIA_PNM
    MEDIA_QOI
    MEDIA_EXR
    MEDIA_RADIANCE
    MEDIA_PSD
    MEDIA_NRRD
    MEDIA_SVG


cdef inline bint begins(
    const unsigned char* bytes, int64_t length, const char* magic, int64_t magic_length
) noexcept nogil:
    return length >= magic_length and memcmp(bytes, magic, magic_length) == 0


cdef inline bint holds(
    const unsigned char* bytes, int64_t length, int64_t start, const char* word
) noexcept nogil:
    """Find a word of four bytes at start, and four more behind it."""
    return length >= start + 8 and memcmp(bytes + start, word, 4) == 0


cdef inline bint is_bitmap(const unsigned char* bytes, int64_t length) noexcept nogil:
    """BMP: "BM", and a second header of at most 255 bytes behind the first 14."""
    return (
        begins(bytes, length, b"BM", 2)
        and length >= 26
        and bytes[15] == 0
        and bytes[16] == 0
        and bytes[17] == 0
    )


cdef inline bint is_avif_brand(const unsigned char* brand) noexcept nogil:
    return memcmp(brand, b"avif", 4) == 0 or memcmp(brand, b"avis", 4) == 0


cdef inline bint is_heif_brand(const unsigned char* brand) noexcept nogil:
    """Recognise HEIC and HEIF among the brands of ISO base media files."""
    return (
        memcmp(brand, b"heic", 4) == 0 or memcmp(brand, b"heix", 4) == 0
        or memcmp(brand, b"hevc", 4) == 0 or memcmp(brand, b"mif1", 4) == 0
        or memcmp(brand, b"msf1", 4) == 0
    )


cdef inline media_type media_type_of_brands(
    const unsigned char* bytes, int64_t length
) noexcept nogil:
    """Choose AVIF or HEIF by the brand; if it is general, by the compatible brands."""
    cdef int64_t end = 0, pos
    cdef int i
    if is_avif_brand(bytes + 8):
        return MEDIA_AVIF
    if not is_heif_brand(bytes + 8):
        return MEDIA_UNKNOWN
    if bytes[8] == b"m":
        for i in range(4):
            end = end << 8 | bytes[i]
        end = min(end, length, <int64_t> BRANDS_BYTES_MAX)
        for pos in range(16, end - 3, 4):
            if is_avif_brand(bytes + pos):
                return MEDIA_AVIF
    return MEDIA_HEIF


cdef inline bint is_portable_map(
    const unsigned char* bytes, int64_t length
) noexcept nogil:
    """PBM, PGM, PPM and PAM: P1 to P7 and white space."""
    return (
        length > 2 and bytes[0] == b"P" and 49 <= bytes[1] <= 55
        and (bytes[2] == 10 or bytes[2] == 13 or bytes[2] == 32 or bytes[2] == 9)
    )


cdef inline bint is_svg_name(const unsigned char* name, int64_t length) noexcept nogil:
    """SVG is text: only its name tells."""
    return (
        length > 4 and name[length - 4] == b"."
        and name[length - 3] | 0x20 == b"s" and name[length - 2] | 0x20 == b"v"
        and name[length - 1] | 0x20 == b"g"
    )


cdef inline media_type media_type_of(
    const unsigned char* bytes,
    int64_t length,
    const unsigned char* name,
    int64_t name_length,
) noexcept nogil:
    """Recognise the image formats in use, by content; SVG by name."""
    if begins(bytes, length, b"\xff\xd8\xff", 3):
        return MEDIA_JPEG
    if begins(bytes, length, b"\x89PNG\r\n\x1a\n", 8):
        return MEDIA_PNG
    if begins(bytes, length, b"GIF87a", 6) or begins(bytes, length, b"GIF89a", 6):
        return MEDIA_GIF
    if begins(bytes, length, b"RIFF", 4) and holds(bytes, length, 8, b"WEBP"):
        return MEDIA_WEBP
    if is_bitmap(bytes, length):
        return MEDIA_BMP
    if (
        begins(bytes, length, b"II*\0", 4) or begins(bytes, length, b"MM\0*", 4)
        or begins(bytes, length, b"II+\0", 4) or begins(bytes, length, b"MM\0+", 4)
    ):
        return MEDIA_TIFF                          # with "+", BigTIFF
    if holds(bytes, length, 4, b"ftyp") and media_type_of_brands(bytes, length):
        return media_type_of_brands(bytes, length)
    if (
        begins(bytes, length, b"\xff\x0a", 2)     # bare
        or begins(bytes, length, b"\0\0\0\x0cJXL \r\n\x87\n", 12)
    ):
        return MEDIA_JXL
    if (
        begins(bytes, length, b"\0\0\0\x0cjP  \r\n\x87\n", 12)
        or begins(bytes, length, b"\xff\x4f\xff\x51", 4)
    ):
        return MEDIA_JP2
    if is_portable_map(bytes, length):
        return MEDIA_PNM
    if begins(bytes, length, b"qoif", 4):
        return MEDIA_QOI
    if begins(bytes, length, b"v/1\x01", 4):
        return MEDIA_EXR
    if begins(bytes, length, b"#?RADIANCE", 10):
        return MEDIA_RADIANCE
    if begins(bytes, length, b"8BPS", 4):
        return MEDIA_PSD
    if begins(bytes, length, b"NRRD000", 7):
        return MEDIA_NRRD
    return MEDIA_SVG if is_svg_name(name, name_length) else MEDIA_UNKNOWN
