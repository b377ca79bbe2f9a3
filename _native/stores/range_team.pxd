"""Read many ranges of one file, by several threads without the GIL."""

from libc.stdint cimport int64_t
from posix.unistd cimport pread
from libc.errno cimport EINTR, errno

from common.guarded cimport guard_function
from common.pthreads cimport pthread_mutex_lock, pthread_mutex_unlock
from common.threads cimport leave_team, thread_team
from stores.file_map cimport copy_mapped, nanoseconds

cdef enum:
    COPIED_MAX = 65536             # larger ranges are not copied out of the map
    QUICK_NS = 50000               # a disk takes longer
    RANGES_AT_ONCE = 16            # that a thread takes on

cdef struct byte_range:
    int64_t start
    int64_t size
    char* to
    bint is_read

cdef struct range_team:
    thread_team team
    guard_function guard
    int fd
    const unsigned char* map       # NULL: read by pread
    int64_t file_size
    byte_range* ranges
    int64_t count
    int64_t next
    bint waited                    # for a disk, at least once


cdef inline bint read_whole(
    int fd, char* to, int64_t start, int64_t size
) noexcept nogil:
    """Read bytes of a file; return False if it ends before, or can't be read."""
    cdef ssize_t got
    while size > 0:
        got = pread(fd, to, size, start)
        if got < 0 and errno == EINTR:
            continue
        if got <= 0:
            return False
        to += got
        start += got
        size -= got
    return True


cdef inline void read_range(range_team* t, byte_range* r) noexcept nogil:
    cdef int64_t began
    if 0 < r.size <= COPIED_MAX and t.map != NULL:
        r.is_read = copy_mapped(t.guard, t.map, t.file_size, r.to, r.start, r.size)
        if r.is_read:
            return
    began = nanoseconds()
    r.is_read = read_whole(t.fd, r.to, r.start, r.size)
    if r.size <= COPIED_MAX and nanoseconds() - began > QUICK_NS:
        pthread_mutex_lock(&t.team.lock)
        t.waited = True
        pthread_mutex_unlock(&t.team.lock)


cdef inline void read_ranges(range_team* t) noexcept nogil:
    """Read the next ranges until none is left."""
    cdef int64_t first, i
    while True:
        pthread_mutex_lock(&t.team.lock)
        first = t.next
        t.next = min(first + RANGES_AT_ONCE, t.count)
        pthread_mutex_unlock(&t.team.lock)
        if first >= t.count or t.team.cancelled:
            return
        for i in range(first, min(first + RANGES_AT_ONCE, t.count)):
            read_range(t, &t.ranges[i])


cdef inline void* read_in_thread(void* argument) noexcept nogil:
    cdef range_team* t = <range_team*> argument
    read_ranges(t)
    leave_team(&t.team)
    return NULL
