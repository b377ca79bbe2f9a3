"""The orientation that an image's metadata ask for, as EXIF and XMP say it.

Pillow's ImageOps.exif_transpose is the judge: what it takes for the orientation is the
orientation here. Metadata that no camera writes, and that Pillow reads in a way of its
own, are UNCLEAR. Then the image's size is unknown, and read_image leaves it to Pillow.

Source: Exif 2.32, "Orientation"; XMP, part 2, "tiff:Orientation".
"""

from libc.stdint cimport int64_t
from libc.string cimport memcmp

from images.payload cimport ASIDE_BYTES, need, peek
from images.tiff cimport directory, read_directory

cdef extern from "string.h":
    void* memmem(const void*, size_t, const void*, size_t) noexcept nogil

cdef enum:
    NOT_SAID = -1
    UNCLEAR = 0
    UPRIGHT = 1
    XMP_WORD_BYTES = 19            # tiff:Orientation="6


cdef inline int64_t without_prefix(
    peek* p, int64_t start, int64_t end, int prefixes_max
) noexcept nogil:
    """Step over the prefix of a JPEG's EXIF, which writers leave in or write twice."""
    cdef const unsigned char* bytes
    cdef int _prefix
    for _prefix in range(prefixes_max):
        bytes = need(p, start, 6)
        if bytes == NULL or end - start < 6 or memcmp(bytes, b"Exif\0\0", 6) != 0:
            break
        start += 6
    return start


cdef inline int orientation_in(const directory* found) noexcept nogil:
    """Judge what a directory says."""
    if found.odd or (found.cut and not found.said):
        return UNCLEAR
    if not found.said:
        return NOT_SAID
    return <int> found.orientation if 1 <= found.orientation <= 8 else UPRIGHT


cdef inline int exif_orientation(
    peek* p, int64_t start, int64_t end, int prefixes_max
) noexcept nogil:
    """Read the orientation of the EXIF at start to end of the payload."""
    cdef directory found
    end = min(end, p.size)
    start = without_prefix(p, start, end, prefixes_max)
    if start >= end:
        return NOT_SAID
    if need(p, start, min(end - start, <int64_t> 8)) == NULL:  # out of reach
        return UNCLEAR
    found = read_directory(p, start, end)
    if not found.is_tiff:                          # damaged, and no reason to ask XMP
        return UPRIGHT
    if found.is_big:                               # which no EXIF is
        return UNCLEAR
    return orientation_in(&found)


cdef inline int orientation_in_text(
    const unsigned char* text, int64_t length
) noexcept nogil:
    """Find the first tiff:Orientation="6 or tiff:Orientation>6."""
    cdef const unsigned char* found
    cdef const unsigned char* end = text + length
    cdef int digit
    while end - text >= XMP_WORD_BYTES - 1:
        found = <const unsigned char*> memmem(text, end - text, b"tiff:Orientation", 16)
        if found == NULL or end - found < XMP_WORD_BYTES - 1:
            return NOT_SAID
        text = found + 16
        if text[0] == b">":
            digit = text[1] - 48
        elif end - text >= 3 and text[0] == b"=" and text[1] == b'"':
            digit = text[2] - 48
        else:
            continue
        if 0 <= digit <= 9:
            return digit if 1 <= digit <= 8 else UPRIGHT
    return NOT_SAID


cdef inline int xmp_orientation(peek* p, int64_t start, int64_t end) noexcept nogil:
    """Search the XMP at start to end of the payload."""
    cdef const unsigned char* text
    cdef int64_t size
    cdef int found
    end = min(end, p.size)
    if start <= end <= p.at_hand:
        return orientation_in_text(p.bytes + start, end - start)
    while start < end:
        size = min(end - start, <int64_t> ASIDE_BYTES)
        text = need(p, start, size)
        if text == NULL:
            return UNCLEAR
        found = orientation_in_text(text, size)
        if found != NOT_SAID:
            return found
        # a word that this part cuts is whole in the next one
        start += size if start + size == end else size - XMP_WORD_BYTES
    return NOT_SAID


cdef inline bint lies_on_side(int orientation) noexcept nogil:
    """Check whether the image is shown with width and height exchanged."""
    return 5 <= orientation <= 8
