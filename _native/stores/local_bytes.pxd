"""Bytes of an open file, by pread(2) or out of a map.

Strategy: a copy out of a map takes a third of the time of pread(2). But a page that is
not in memory stops the thread with the GIL, and the system then reads 128 kB for one
page. So reads begin with pread, without the GIL, and a file is mapped after some of
them in a row were too quick for a disk. Copies out of the map keep the GIL: giving it
up takes as long as some copies. If the coarse clock moves during a copy, the copy may
have waited for a disk, and the next reads go by pread again.
"""

from libc.stdint cimport int64_t

from common.guarded cimport guard_function
from common.threads cimport THREADS_MAX, run_team, team_free, team_init
from stores.file_map cimport (
    coarse_time,
    copy_mapped,
    drop_pages,
    map_file,
    nanoseconds,
    unmap_file,
)
from stores.range_team cimport (
    COPIED_MAX,
    QUICK_NS,
    byte_range,
    range_team,
    read_in_thread,
    read_ranges,
    read_whole,
)

cdef enum:
    QUICK_READS = 16               # in a row, before the file is mapped
    THREAD_BYTES = 2097152         # starting a thread takes as long as to copy 500 kB
    DISK_THREADS = 16              # that wait for a disk side by side
    # After as many GiB, the map's pages are given back: each GiB of them takes 2 MB of
    # page tables. Touching the pages again takes less than a hundredth of the time.
    DROPPED_AFTER_GIB = 4

cdef struct local_bytes:           # begins as zeros
    guard_function guard
    int64_t size
    bint is_open
    const unsigned char* map       # NULL: not mapped
    bint is_not_mapped             # and never will be
    int quick_reads                # in a row
    int64_t copied                 # bytes since pages were given back
    int batches                    # under way, which read without the GIL
    int threads                    # of a batch that waits for no disk


cdef inline void unmap_bytes(local_bytes* file) noexcept:
    if file.map != NULL:
        unmap_file(file.map, file.size)
        file.map = NULL


cdef inline void close_bytes(local_bytes* file) noexcept:
    """Map no more, and unmap the file when no batch is under way any more."""
    file.is_open = False
    if file.batches == 0:
        unmap_bytes(file)


cdef inline bint copies(const local_bytes* file) noexcept:
    """Return whether reads copy out of a map now."""
    return file.map != NULL and file.quick_reads >= QUICK_READS and file.is_open


cdef inline bint copy_bytes(
    local_bytes* file, char* to, int64_t start, int64_t size
) noexcept:
    """Copy bytes out of the map; return False if pread has to read them."""
    cdef int64_t began = coarse_time()
    cdef bint whole = copy_mapped(file.guard, file.map, file.size, to, start, size)
    if coarse_time() != began:
        file.quick_reads = 0
    file.copied += size
    if file.copied >> 30 >= DROPPED_AFTER_GIB:
        file.copied = 0
        drop_pages(file.map, file.size)
    return whole


cdef inline bint read_bytes(
    local_bytes* file, int fd, char* to, int64_t start, int64_t size
) noexcept:
    """Read bytes without the GIL; return False if the file can't give all."""
    cdef int64_t began
    cdef bint whole
    with nogil:
        began = nanoseconds()
        whole = read_whole(fd, to, start, size)
        began = nanoseconds() - began
    if size <= COPIED_MAX and whole:
        count_quick(file, fd, 1 if began < QUICK_NS else 0)
    return whole


cdef inline void count_quick(local_bytes* file, int fd, int64_t reads) noexcept:
    """Count reads by pread that waited for no disk; 0: one has waited."""
    if reads == 0:
        file.quick_reads = 0
    elif file.quick_reads < QUICK_READS:
        file.quick_reads += <int> min(reads, <int64_t> QUICK_READS)
    if file.quick_reads < QUICK_READS or file.map != NULL or file.is_not_mapped:
        return
    # another thread may have closed it
    if file.is_open:
        file.map = map_file(fd, file.size)
        file.is_not_mapped = file.map == NULL


cdef inline int read_batch(
    local_bytes* file, int fd, byte_range* ranges, int64_t count, int64_t size
) except -1:
    """Read ranges, `size` bytes in all, and mark those that were read."""
    cdef range_team t
    cdef void* arguments[THREADS_MAX]
    cdef int64_t threads
    cdef int i
    t.guard = file.guard
    t.fd = fd
    t.map = file.map if copies(file) else NULL
    t.file_size = file.size
    t.ranges = ranges
    t.count = count
    t.next = 0
    t.waited = False
    if file.quick_reads < QUICK_READS:
        threads = min(<int64_t> DISK_THREADS, count // 4)
    else:
        threads = min(<int64_t> file.threads, size // THREAD_BYTES)
    team_init(&t.team)
    file.batches += 1
    try:
        if threads < 2:
            with nogil:
                read_ranges(&t)
        else:
            for i in range(threads):
                arguments[i] = &t
            run_team(&t.team, read_in_thread, arguments, threads, None)
    finally:
        team_free(&t.team)
        file.batches -= 1
        if not file.is_open and file.batches == 0:
            unmap_bytes(file)
    if t.map == NULL or t.waited:
        count_quick(file, fd, 0 if t.waited else count)
    return 0
