"""Width and height of an image as it is shown, from its headers: no pixel is decoded.

Native, and not by a library: Pillow takes 21 us a header and imagesize 13, where a
whole pack takes 4.7 us a file and facts may cost it 0.6 times that. So Pillow is the
judge in the tests instead: of every format that it writes and every orientation, and of
headers that were damaged or cut.

Source: each format's own specification; ITU T.81, B.1 (JPEG); PNG 3rd edition; GIF89a;
RFC 9649 (WebP); Netpbm; QOI; Adobe, Photoshop File Formats.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memset

from images.isobmff cimport heif_sides, jp2_sides, jxl_sides, of, sides, turned, unknown
from images.orientation cimport (
    NOT_SAID,
    UNCLEAR,
    UPRIGHT,
    exif_orientation,
    lies_on_side,
    orientation_in,
    xmp_orientation,
)
from images.tiff cimport directory, read_directory
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
    WORDS_BYTES_MAX = 256          # language and translated keyword of a PNG's text


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


cdef inline sides shown(sides found, int orientation) noexcept nogil:
    """Turn sides; those of an image that may be turned or not are unknown."""
    if orientation == UNCLEAR and found.width != found.height:
        return unknown()
    return turned(found) if lies_on_side(orientation) else found


cdef inline bint holds_text(
    peek* p, int64_t start, int64_t end, const char* text, int64_t length
) noexcept nogil:
    """Compare bytes of the payload, at start and before end."""
    cdef const unsigned char* bytes = need(p, start, length)
    return bytes != NULL and end - start >= length and memcmp(bytes, text, length) == 0


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


# PNG, GIF, WebP, BMP

cdef struct png_metadata:          # places in the payload; 0: none
    int64_t exif_start
    int64_t exif_end
    int64_t xmp_start
    int64_t xmp_end
    bint exif_unclear              # there is EXIF that we don't read
    bint raw_exif                  # which counts where there is no EXIF of its own
    bint xmp_unclear


cdef inline int64_t behind_words(peek* p, int64_t start, int64_t end) noexcept nogil:
    """Find the text of an iTXt chunk behind its language and its translated keyword.

    A zero byte ends each of them. -1: they are longer than any writer makes them, or
    have no end, and then there is no text.
    """
    cdef int64_t size = min(min(end, p.size) - start, <int64_t> WORDS_BYTES_MAX), i
    cdef const unsigned char* bytes = need(p, start, size)
    cdef int words = 0
    if bytes == NULL:
        return -1
    for i in range(size):
        words += bytes[i] == 0
        if words == 2:
            return start + i + 1
    return -1


cdef inline void note_text(
    peek* p, int64_t start, int64_t end, bint international, png_metadata* found
) noexcept nogil:
    """Note a chunk of text that may turn the image: XMP, or EXIF as text.

    Compressed text is not read: for zlib, the sizes of a few images are not worth it.
    """
    cdef const unsigned char* bytes
    cdef int64_t text = -1
    if holds_text(p, start, end, b"XML:com.adobe.xmp\0", 18):
        bytes = need(p, start, 20) if end - start >= 20 else NULL
        if international and bytes != NULL and bytes[18] == 0:
            text = behind_words(p, start + 20, end)
        if found.xmp_start or text < 0:
            found.xmp_unclear = True
        found.xmp_start, found.xmp_end = max(text, start), end
    elif holds_text(p, start, end, b"Raw profile type exif\0", 22):
        found.raw_exif = True
    elif holds_text(p, start, end, b"exif\0", 5):  # these are names that Pillow uses
        found.exif_unclear = True
    elif holds_text(p, start, end, b"xmp\0", 4):
        found.xmp_unclear = True


cdef inline bint is_pixels_of(peek* p, int64_t pos, int64_t size) noexcept nogil:
    cdef const unsigned char* bytes = need(p, pos, 8)
    if bytes == NULL or big_32(bytes) != size:
        return False
    return memcmp(bytes + 4, b"IDAT", 4) == 0


cdef inline int64_t last_of_pixels(peek* p, int64_t pos, int64_t size) noexcept nogil:
    """Find the last of the IDAT chunks of one size that begin at pos.

    Writers make all but the last of one size. Going from one to the next would be
    thousands of reads of a large file. So the file's end is looked at first, where the
    last one most likely is, and then halved steps find it.
    """
    cdef int64_t step = 12 + size, known = 1, beyond = (p.size - pos) // step + 1
    cdef int64_t middle = beyond - 1
    if not is_pixels_of(p, pos + step, size):
        return pos
    while beyond - known > 1:
        if is_pixels_of(p, pos + middle * step, size):
            known = middle
        else:
            beyond = middle
        if p.size - pos - beyond * step < step:
            middle = beyond - 1
        else:
            middle = (known + beyond) // 2
    return pos + known * step


cdef inline bint is_chunk_name(const unsigned char* name) noexcept nogil:
    cdef int i
    for i in range(4):
        if not 65 <= name[i] & 0xDF <= 90:
            return False
    return True


cdef inline int png_orientation(const png_metadata* found, peek* p) noexcept nogil:
    """Choose among the metadata: EXIF first, in whatever chunk, then XMP."""
    cdef int orientation = NOT_SAID
    if found.exif_unclear:
        return UNCLEAR
    if found.exif_start:
        orientation = exif_orientation(p, found.exif_start, found.exif_end, 1)
    elif found.raw_exif:
        return UNCLEAR
    if orientation != NOT_SAID:
        return orientation
    if found.xmp_unclear:
        return UNCLEAR
    orientation = xmp_orientation(p, found.xmp_start, found.xmp_end)
    return UPRIGHT if orientation == NOT_SAID else orientation


cdef inline sides png_sides(peek* p, int* orientation) noexcept nogil:
    """Read IHDR, and EXIF and XMP before and behind the pixels."""
    cdef const unsigned char* bytes = need(p, 0, 24)
    cdef png_metadata metadata
    cdef sides found
    cdef int64_t pos = 8, size
    cdef int _chunk
    cdef bint pixels_seen = False, frames_seen = False
    if bytes == NULL or memcmp(bytes + 12, b"IHDR", 4) != 0:
        return unknown()
    found = of(big_32(bytes + 16), big_32(bytes + 20))
    memset(&metadata, 0, sizeof(metadata))
    for _chunk in range(PARTS_MAX):
        bytes = need(p, pos, 8)
        if bytes == NULL:
            # out of reach, or the end of a file that was cut
            metadata.exif_unclear |= pos <= p.size - 8
            break
        if memcmp(bytes + 4, b"IEND", 4) == 0 or not is_chunk_name(bytes + 4):
            break
        size = big_32(bytes)
        if memcmp(bytes + 4, b"IDAT", 4) == 0:
            pixels_seen = True
            if pos + 20 + size > p.at_hand:
                pos = last_of_pixels(p, pos, size)
        elif memcmp(bytes + 4, b"fcTL", 4) == 0:
            frames_seen = pixels_seen
        elif memcmp(bytes + 4, b"eXIf", 4) == 0:
            # a second one, or one behind the next frame of an animation
            metadata.exif_unclear |= metadata.exif_start != 0 or frames_seen
            metadata.exif_start, metadata.exif_end = pos + 8, pos + 8 + size
        elif memcmp(bytes + 5, b"TXt", 3) == 0:    # iTXt and zTXt
            note_text(p, pos + 8, pos + 8 + size, bytes[4] == b"i", &metadata)
            metadata.xmp_unclear |= frames_seen and metadata.xmp_start != 0
        elif memcmp(bytes + 4, b"tEXt", 4) == 0:
            note_text(p, pos + 8, pos + 8 + size, False, &metadata)
        pos += 12 + size
    else:                                          # there may be more
        metadata.exif_unclear = True
    orientation[0] = png_orientation(&metadata, p)
    return shown(found, orientation[0])


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


# TIFF, PNM, QOI, Photoshop

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
