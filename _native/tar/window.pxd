"""The window that headers are read through.

What binds is copying out of the page cache, not parsing. So headers are read through a
window while they lie close together, and one by one when they lie far apart.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memset
from posix.stdlib cimport posix_memalign
from posix.unistd cimport pread

from common.clock cimport CLOCK_MONOTONIC, clock_gettime, timespec
from tar.header cimport BLOCK
from tar.status cimport (
    WALK_FEED,
    WALK_GROUP,
    WALK_NO_MEMORY,
    WALK_READ_FAILED,
    WALK_SHRUNK,
    walk_status,
)

cdef enum:
    WINDOW_BYTES = 1048576         # fastest of 64 KiB to 4 MiB, warm, when aligned
    FIRST_WINDOW_BYTES = 16384     # the next ones grow: headers may lie far apart
    WINDOW_ALIGNMENT = 4096
    NEAR_BYTES = 10240             # 45 ns a KiB of window against 0.45 us a read, warm
    NEAR_BYTES_COLD = 131072       # the same balance when the disk answers
    COLD_READ_NS = 15000  # a read of one header that takes longer came from the disk
    SLOW_READS = 3                 # so many of them in a row are no accident
    HEADER_BYTES_MAX = 16384       # of a group, that is read alone

cdef struct header_window:
    int fd                         # -1: the shell brings the bytes
    int64_t length                 # the blob's
    unsigned char* bytes           # the shell's where it brings them
    int64_t capacity               # 0: they are the shell's, or there are none
    int64_t start
    int64_t end
    int64_t need_end               # of what was asked for and is not in it
    int64_t next_bytes             # the next one's
    int64_t bytes_max
    int64_t near_bytes
    int64_t stride                 # running mean distance between groups
    int64_t header_bytes           # of the last group
    int64_t header_reads
    int slow_reads                 # timed ones, without a quick one between
    int error                      # errno of a read that failed


cdef inline void window_init(
    header_window* window, int fd, int64_t length
) noexcept nogil:
    memset(window, 0, sizeof(header_window))
    window.fd = fd
    window.length = length
    window.bytes_max = WINDOW_BYTES
    window.next_bytes = FIRST_WINDOW_BYTES
    window.near_bytes = NEAR_BYTES
    window.header_bytes = BLOCK


cdef inline void window_free(header_window* window) noexcept nogil:
    if window.capacity:
        free(window.bytes)


cdef inline void swap_windows(
    header_window* one, header_window* other
) noexcept nogil:
    """Hand over a window's room, but not what it holds."""
    cdef int64_t capacity = one.capacity
    one.bytes, other.bytes = other.bytes, one.bytes
    one.capacity = other.capacity
    other.capacity = capacity
    one.start = one.end = other.start = other.end = 0


cdef inline void note_distance(header_window* window, int64_t distance) noexcept nogil:
    """Update the mean distance between groups with the next distance."""
    window.stride += (distance - window.stride) >> 3


cdef inline void note_header(header_window* window, int64_t size) noexcept nogil:
    """Expect the next group's headers to be as long as these."""
    window.header_bytes = min(size, <int64_t> HEADER_BYTES_MAX)


cdef inline const unsigned char* bytes_at(
    header_window* window, int64_t start, int64_t size
) noexcept nogil:
    """Point at bytes in the window.

    NULL, and the need noted, when they are not in it.
    """
    if start >= window.start and start + size <= window.end:
        return window.bytes + (start - window.start)
    window.need_end = start + size
    return NULL


cdef inline int64_t nanoseconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


cdef inline int grow_window(header_window* window, int64_t size) noexcept nogil:
    """Make room in the window; what it held is gone."""
    cdef void* grown = NULL
    if size <= window.capacity:
        return 0
    free(window.bytes)
    window.bytes = NULL
    window.start = window.end = window.capacity = 0
    if posix_memalign(&grown, WINDOW_ALIGNMENT, size) != 0:
        return -1
    window.bytes = <unsigned char*> grown
    window.capacity = size
    return 0


cdef inline int64_t window_wanted(header_window* window, int64_t pos) noexcept nogil:
    """Choose how much to read: a window while headers lie close, else headers alone.

    Where the shell brings the bytes, this is the least, and it may bring more.
    """
    cdef int64_t wanted = window.need_end - pos
    cdef int64_t usual = window.header_bytes
    if wanted > (window.bytes_max if window.fd >= 0 else BLOCK):
        wanted *= 2  # a group of many headers is read again from its start: not often
    if window.fd >= 0 and window.stride <= window.near_bytes:
        usual = window.next_bytes
    return min(max(wanted, usual), window.length - pos)


cdef inline walk_status read_window(
    header_window* window, int64_t pos, int64_t wanted, int64_t* fault
) noexcept nogil:
    """Read so many bytes from pos on; on failure *fault* is where."""
    cdef int64_t done = 0
    cdef ssize_t got
    window.start = window.end = 0
    while done < wanted:
        got = pread(window.fd, window.bytes + done, wanted - done, pos + done)
        if got < 0 and errno == EINTR:
            continue
        if got <= 0:
            window.error = errno
            fault[0] = pos + done
            return WALK_SHRUNK if got == 0 else WALK_READ_FAILED
        done += got
    window.start = pos
    window.end = pos + wanted
    return WALK_GROUP


cdef inline void note_read(header_window* window, int64_t took_ns) noexcept nogil:
    """Switch to longer windows when reads of single headers are slow."""
    if took_ns > COLD_READ_NS:
        window.slow_reads += 1
    else:
        window.slow_reads = 0
    if window.slow_reads == SLOW_READS:
        window.near_bytes = NEAR_BYTES_COLD


cdef inline walk_status fill_window(
    header_window* window, int64_t pos, int64_t* fault
) noexcept nogil:
    """Read the window anew from a group's start on: groups are whole in it."""
    cdef int64_t wanted = window_wanted(window, pos)
    cdef int64_t began = 0
    cdef bint timed = False
    cdef walk_status status
    if window.fd < 0:
        return WALK_FEED
    if grow_window(window, wanted) < 0:
        return WALK_NO_MEMORY
    if window.stride > NEAR_BYTES:
        window.header_reads += 1
        timed = window.header_reads & 7 == 0
        if timed:
            began = nanoseconds()
    status = read_window(window, pos, wanted, fault)
    if status != WALK_GROUP:
        return status
    if timed and wanted <= NEAR_BYTES:
        note_read(window, nanoseconds() - began)
    if wanted >= window.next_bytes:
        window.next_bytes = min(4 * window.next_bytes, window.bytes_max)
    return WALK_GROUP
