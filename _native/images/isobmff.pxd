"""Formats made of boxes: AVIF and HEIF, JPEG 2000, JPEG XL in its container.

Source: ISO/IEC 14496-12 (boxes), 23008-12 (HEIF), 15444-1 (JPEG 2000), 18181-1 and -2
(JPEG XL).
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from images.orientation cimport lies_on_side
from images.payload cimport big_32, big_endian, need, peek
from images.sides cimport of, sides, turned, unknown

cdef enum:
    BOX_META = 0x6D657461
    BOX_PITM = 0x7069746D          # which item is the image to show
    BOX_IPRP = 0x69707270
    BOX_IPCO = 0x6970636F          # properties, counted from 1
    BOX_IPMA = 0x69706D61          # which item has which
    BOX_ISPE = 0x69737065
    BOX_CLAP = 0x636C6170
    BOX_IROT = 0x69726F74
    BOX_JP2H = 0x6A703268
    BOX_IHDR = 0x69686472
    BOX_JXLC = 0x6A786C63
    BOX_JXLP = 0x6A786C70
    BOXES_MAX = 4096               # that are gone through side by side
    PROPERTIES_MAX = 64            # of the image; real ones have about ten
    JXL_HEADER_BYTES = 16          # size and orientation need 12 at most

cdef struct box:
    uint32_t kind
    int64_t start                  # of what is in it
    int64_t end
    int count                      # of those gone through so far

cdef struct image_property:
    uint64_t place                 # in BOX_IPCO, from 1
    uint32_t kind                  # 0: not found yet
    uint32_t width                 # or how often to turn by a quarter
    uint32_t height


# Boxes

cdef inline box inside(int64_t start, int64_t end) noexcept nogil:
    """Stand before the first box that lies at start to end."""
    cdef box first
    first.kind = 0
    first.start = first.end = start
    first.count = 0
    return first


cdef inline bint next_box(peek* p, box* at, int64_t end) noexcept nogil:
    """Go to the next box before end; one that claims more is taken to end there."""
    cdef int64_t start = at.end
    cdef int64_t header = 8
    cdef uint64_t size
    cdef const unsigned char* bytes = need(p, start, 8)
    if bytes == NULL or end - start < 8 or at.count == BOXES_MAX:
        return False
    at.count += 1
    size = big_32(bytes)
    at.kind = big_32(bytes + 4)
    if size == 1:
        header = 16
        bytes = need(p, start, 16)
        if bytes == NULL or end - start < 16:
            return False
        size = big_endian(bytes + 8, 8)
    elif size == 0:                                # to the end
        size = <uint64_t> (end - start)
    if size < <uint64_t> header:
        return False
    at.start = start + header
    at.end = start + <int64_t> min(size, <uint64_t> (end - start))
    return True


cdef inline box find_box(
    peek* p, int64_t start, int64_t end, uint32_t kind
) noexcept nogil:
    """Find the first box of a kind at start to end; its count is 0 if there is none."""
    cdef box at = inside(start, end)
    while next_box(p, &at, end):
        if at.kind == kind:
            return at
    return inside(start, start)


# AVIF and HEIF

cdef inline uint64_t primary_item(peek* p, const box* meta) noexcept nogil:
    """Find the number of the image to show; 0 is no item's."""
    cdef box pitm = find_box(p, meta.start + 4, meta.end, BOX_PITM)
    cdef const unsigned char* bytes = need(p, pitm.start, 6)
    if pitm.count == 0 or bytes == NULL:
        return 0
    if bytes[0] == 0:
        return big_endian(bytes + 4, 2)
    bytes = need(p, pitm.start, 8)
    return 0 if bytes == NULL else big_32(bytes + 4)


cdef inline int properties_of(
    peek* p, const box* ipma, uint64_t item, image_property* found
) noexcept nogil:
    """List the places of an item's properties, in order; return how many."""
    cdef const unsigned char* bytes = need(p, ipma.start, 8)
    cdef int64_t pos = ipma.start + 8
    cdef int item_width, place_width, i, count
    cdef uint32_t items
    if bytes == NULL:
        return 0
    item_width = 2 if bytes[0] == 0 else 4
    place_width = 2 if bytes[3] & 1 else 1
    items = big_32(bytes + 4)
    while items:
        bytes = need(p, pos, item_width + 1)
        if bytes == NULL or pos >= ipma.end:
            return 0
        count = bytes[item_width]
        if big_endian(bytes, item_width) == item:
            break
        pos += item_width + 1 + count * place_width
        items -= 1
    if items == 0:
        return 0
    pos += item_width + 1
    count = min(count, <int> PROPERTIES_MAX)
    for i in range(count):
        bytes = need(p, pos + i * place_width, place_width)
        if bytes == NULL:
            return 0
        # the highest bit says whether a reader must know it
        found[i].place = big_endian(bytes, place_width) & (
            0x7FFF if place_width == 2 else 0x7F
        )
        found[i].kind = 0
    return count


cdef inline uint32_t whole_pixels(const unsigned char* fraction) noexcept nogil:
    """Divide; 0 when the result is no whole number."""
    cdef uint32_t above = big_32(fraction), below = big_32(fraction + 4)
    return above // below if below and above % below == 0 else 0


cdef inline bint read_property(
    peek* p, const box* at, image_property* found
) noexcept nogil:
    """Read a property if it has to do with size; False when it is cut."""
    cdef const unsigned char* bytes
    found.kind = at.kind
    if at.kind == BOX_ISPE:
        bytes = need(p, at.start, 12)
        if bytes == NULL:
            return False
        found.width = big_32(bytes + 4)
        found.height = big_32(bytes + 8)
    elif at.kind == BOX_IROT:
        bytes = need(p, at.start, 1)
        if bytes == NULL:
            return False
        found.width = bytes[0] & 3
    elif at.kind == BOX_CLAP:
        bytes = need(p, at.start, 16)
        if bytes == NULL:
            return False
        found.width = whole_pixels(bytes)
        found.height = whole_pixels(bytes + 8)
    return True


cdef inline sides apply_properties(
    const image_property* listed, int count
) noexcept nogil:
    """Start from the stored size; crop and turn it in the order the file says."""
    cdef sides found = unknown()
    cdef int i
    for i in range(count):
        if listed[i].kind == BOX_ISPE:
            found = of(listed[i].width, listed[i].height)
    for i in range(count):
        if listed[i].kind == BOX_IROT and listed[i].width & 1:
            found = turned(found)
        elif (
            listed[i].kind == BOX_CLAP             # a part of a pixel cuts nothing
            and 0 < listed[i].width <= found.width
            and 0 < listed[i].height <= found.height
        ):
            found = of(listed[i].width, listed[i].height)
    return found


cdef inline sides heif_sides(peek* p, bint is_avif) noexcept nogil:
    """Measure the image to show; EXIF does not turn it: irot does.

    Decoders of HEIF crop an image as clap says. Those of AVIF differ.
    """
    cdef image_property listed[PROPERTIES_MAX]
    cdef box meta = find_box(p, 0, p.size, BOX_META)
    cdef box iprp, ipco, at
    cdef uint64_t item, place = 0
    cdef int count = 0, i
    if meta.count == 0:
        return unknown()
    item = primary_item(p, &meta)
    iprp = find_box(p, meta.start + 4, meta.end, BOX_IPRP)
    if item == 0 or iprp.count == 0:
        return unknown()
    at = inside(iprp.start, iprp.end)
    while count == 0 and next_box(p, &at, iprp.end):
        if at.kind == BOX_IPMA:
            count = properties_of(p, &at, item, listed)
    ipco = find_box(p, iprp.start, iprp.end, BOX_IPCO)
    at = inside(ipco.start, ipco.end)
    while next_box(p, &at, ipco.end):
        place += 1
        for i in range(count):
            if listed[i].place == place and not read_property(p, &at, &listed[i]):
                return unknown()
    for i in range(count):
        if listed[i].kind == 0 and listed[i].place:  # cut off, with who knows what
            return unknown()
        if is_avif and listed[i].kind == BOX_CLAP:
            return unknown()
    return apply_properties(listed, count)


# JPEG 2000

cdef inline sides jp2_sides(peek* p) noexcept nogil:
    """Read the image header box, or the codestream's SIZ marker."""
    cdef const unsigned char* bytes = need(p, 0, 24)
    cdef box at
    cdef uint32_t left, top
    if bytes == NULL:
        return unknown()
    if bytes[0] == 0xFF:
        left, top = big_32(bytes + 16), big_32(bytes + 20)
        if left > big_32(bytes + 8) or top > big_32(bytes + 12):
            return unknown()
        return of(big_32(bytes + 8) - left, big_32(bytes + 12) - top)
    at = find_box(p, 0, p.size, BOX_JP2H)
    at = find_box(p, at.start, at.end, BOX_IHDR)
    bytes = need(p, at.start, 8)
    if at.count == 0 or bytes == NULL:
        return unknown()
    return of(big_32(bytes + 4), big_32(bytes))


# JPEG XL

cdef struct bit_reader:
    const uint8_t* bytes
    int bits                       # that are there
    int pos                        # beyond them when one was missing


cdef inline uint32_t take_bits(bit_reader* reader, int count) noexcept nogil:
    """Read bits, the lowest of a byte first; 0 behind the last one."""
    cdef uint32_t value = 0
    cdef int i
    for i in range(count):
        if reader.pos < reader.bits:
            value |= <uint32_t> (
                reader.bytes[reader.pos >> 3] >> (reader.pos & 7) & 1
            ) << i
        reader.pos += 1
    return value


cdef inline uint32_t take_size(bit_reader* reader) noexcept nogil:
    cdef uint32_t width = take_bits(reader, 2)
    if width == 0:
        return 1 + take_bits(reader, 9)
    if width == 1:
        return 1 + take_bits(reader, 13)
    return 1 + take_bits(reader, 18 if width == 2 else 30)


cdef inline uint64_t width_by_ratio(uint64_t height, uint32_t ratio) noexcept nogil:
    if ratio == 2:
        return height * 12 // 10
    if ratio == 3:
        return height * 4 // 3
    if ratio == 4:
        return height * 3 // 2
    if ratio == 5:
        return height * 16 // 9
    if ratio == 6:
        return height * 5 // 4
    return height * 2 if ratio == 7 else height


cdef inline sides jxl_codestream_sides(
    peek* p, int64_t start, int64_t end
) noexcept nogil:
    """Read the size header and the orientation behind it."""
    cdef uint8_t header[JXL_HEADER_BYTES]
    cdef bit_reader reader
    cdef int64_t size = min(<int64_t> JXL_HEADER_BYTES, end - start)
    cdef const unsigned char* bytes = need(p, start, size)
    cdef uint32_t ratio, orientation = 1
    cdef uint64_t width, height
    cdef bint small
    if bytes == NULL or size < 4 or bytes[0] != 0xFF or bytes[1] != 0x0A:
        return unknown()
    memset(header, 0, JXL_HEADER_BYTES)
    memcpy(header, bytes, size)
    reader.bytes = header
    reader.bits = 8 * <int> size
    reader.pos = 16
    small = take_bits(&reader, 1)
    height = 8 * (1 + take_bits(&reader, 5)) if small else take_size(&reader)
    ratio = take_bits(&reader, 3)
    if ratio:
        width = width_by_ratio(height, ratio)
    else:
        width = 8 * (1 + take_bits(&reader, 5)) if small else take_size(&reader)
    if not take_bits(&reader, 1) and take_bits(&reader, 1):  # not all is default
        orientation = 1 + take_bits(&reader, 3)
    if reader.pos > reader.bits:
        return unknown()
    if lies_on_side(orientation):
        return of(height, width)
    return of(width, height)


cdef inline sides jxl_sides(peek* p) noexcept nogil:
    """Find the codestream, bare or in boxes; EXIF beside it does not turn it."""
    cdef const unsigned char* bytes = need(p, 0, 2)
    cdef box at = inside(0, p.size)
    if bytes == NULL:
        return unknown()
    if bytes[0] == 0xFF:
        return jxl_codestream_sides(p, 0, p.size)
    while next_box(p, &at, p.size):
        if at.kind == BOX_JXLC:
            return jxl_codestream_sides(p, at.start, at.end)
        if at.kind == BOX_JXLP:                    # parts: a number before each
            return jxl_codestream_sides(p, at.start + 4, at.end)
    return unknown()
