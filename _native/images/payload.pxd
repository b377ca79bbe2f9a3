"""Look into a payload of which the first bytes are at hand, and the rest in a file.

What is at hand costs a comparison. What is not is read aside, a little and not often: a
TIFF may keep its directory behind megabytes of pixels, a WebP or a PNG its EXIF.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp
from posix.unistd cimport pread

cdef enum:
    ASIDE_BYTES = 4096
    READS_MAX = 64                 # of one payload: damage may lead anywhere
    STRAY_BYTES_MAX = 65536        # between two JPEG segments, or in a PNM's comments
    PARTS_MAX = 65536              # segments or blocks before we give up

# copies up to so many bytes from a place in the payload; returns how many, 0: none
ctypedef int64_t (*fetch_function)(
    void* context, int64_t start, int64_t wanted, unsigned char* to
) noexcept nogil

cdef struct peek:
    const unsigned char* bytes     # the payload's first ones
    int64_t at_hand                # how many of them
    int64_t size                   # the whole payload's
    int fd                         # holds the rest; -1: it does not
    fetch_function fetch           # gets the rest; NULL: it does not
    void* context
    int64_t fd_start               # where the payload starts in it
    int reads
    int64_t aside_start
    int64_t aside_end
    unsigned char aside[ASIDE_BYTES]


cdef inline void peek_at(
    peek* p, const unsigned char* bytes, int64_t at_hand, int64_t size
) noexcept nogil:
    """Look into a payload whose rest, if there is any, is nowhere."""
    p.bytes = bytes
    p.at_hand = at_hand
    p.size = size
    p.fd = -1
    p.fetch = NULL
    p.fd_start = 0
    p.reads = 0
    p.aside_start = p.aside_end = 0


cdef inline const unsigned char* read_aside(
    peek* p, int64_t start, int64_t size
) noexcept nogil:
    cdef int64_t wanted = min(<int64_t> ASIDE_BYTES, p.size - start)
    cdef int64_t done = 0
    cdef ssize_t got
    if p.reads == READS_MAX or size > wanted or (p.fd < 0 and p.fetch == NULL):
        return NULL
    p.reads += 1
    if p.fd < 0:
        done = p.fetch(p.context, start, wanted, p.aside)
    while p.fd >= 0 and done < size:
        got = pread(p.fd, p.aside + done, wanted - done, p.fd_start + start + done)
        if got < 0 and errno == EINTR:
            continue
        if got <= 0:
            break
        done += got
    p.aside_start = start
    p.aside_end = start + done
    return p.aside if done >= size else NULL


cdef inline const unsigned char* need(
    peek* p, int64_t start, int64_t size
) noexcept nogil:
    """Point at bytes of the payload, until more are asked for; NULL if out of reach."""
    if start < 0 or start > p.size or size > p.size - start:
        return NULL
    if start <= p.at_hand and size <= p.at_hand - start:
        return p.bytes + start
    if start >= p.aside_start and start <= p.aside_end and size <= p.aside_end - start:
        return p.aside + (start - p.aside_start)
    return read_aside(p, start, size)


cdef inline bint holds_text(
    peek* p, int64_t start, int64_t end, const char* text, int64_t length
) noexcept nogil:
    """Compare bytes of the payload, at start and before end."""
    cdef const unsigned char* bytes = need(p, start, length)
    return bytes != NULL and end - start >= length and memcmp(bytes, text, length) == 0


# Numbers of either byte order

cdef inline uint64_t big_endian(const unsigned char* bytes, int width) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(width):
        value = value << 8 | bytes[i]
    return value


cdef inline uint64_t little_endian(
    const unsigned char* bytes, int width
) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(width - 1, -1, -1):
        value = value << 8 | bytes[i]
    return value


cdef inline uint32_t big_32(const unsigned char* bytes) noexcept nogil:
    return <uint32_t> big_endian(bytes, 4)


cdef inline uint32_t little_32(const unsigned char* bytes) noexcept nogil:
    return <uint32_t> little_endian(bytes, 4)
