"""Width and height in PNG, as they are shown.

Source: PNG 3rd edition.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcmp, memset

from images.orientation cimport (
    NOT_SAID,
    UNCLEAR,
    UPRIGHT,
    exif_orientation,
    xmp_orientation,
)
from images.payload cimport PARTS_MAX, big_32, holds_text, need, peek
from images.sides cimport of, shown, sides, unknown

cdef enum:
    WORDS_BYTES_MAX = 256          # language and translated keyword of a PNG's text


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
