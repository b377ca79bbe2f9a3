"""A mapped file, and copies out of it that a cut of the file can't spoil.

A file that is cut has no more bytes behind its new end: a read there is a SIGBUS, which
the guard catches. But up to the end of its last page there are zeros. So a copy counts
only if the last byte that it took of each page is not zero, before and after. And the
system takes away the pages behind the new end before it writes the zeros: so the page
behind the copy is touched last. Copies that can't be judged so are left to pread(2),
which knows the size of the file.
"""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy

from common.guarded cimport guard_function, read_before_what_follows, read_byte

cdef extern from *:
    """
    #include <sys/mman.h>
    #include <sys/resource.h>
    #include <time.h>
    #ifdef __linux__
    #include <sys/vfs.h>
    #endif

    #define MAPS_MAX 8192  /* of the 65,530 that Linux allows a process */
    static int maps_open;

    /* Return whether the files of a descriptor's system lie on this machine's disks or
       in its memory. A server that hangs would hang a page fault, too, and the thread
       that holds the GIL with it. */
    static int is_of_this_machine(int fd) {
    #ifdef __linux__
        struct statfs found;
        if (fstatfs(fd, &found) != 0)
            return 0;
        switch ((unsigned long) found.f_type & 0xFFFFFFFF) {
        case 0xEF53:      /* ext2, ext3, ext4 */
        case 0x58465342:  /* xfs */
        case 0x9123683E:  /* btrfs */
        case 0xF2F52010:  /* f2fs */
        case 0x2FC12FC1:  /* zfs */
        case 0xCA451A4E:  /* bcachefs */
        case 0x794C7630:  /* overlayfs */
        case 0x01021994:  /* tmpfs */
        case 0x858458F6:  /* ramfs */
        case 0x73717368:  /* squashfs */
        case 0xE0F5E1E2:  /* erofs */
            return 1;
        }
    #endif
        (void) fd;
        return 0;
    }

    /* Map a file; NULL if it can't or should not be mapped. */
    static const unsigned char* map_file(int fd, int64_t size) {
        struct rlimit room;
        void* found;
        if (sizeof(void*) < 8 || size <= 0 || maps_open >= MAPS_MAX)
            return NULL;
        /* the map would take the place of the caller's memory */
        if (getrlimit(RLIMIT_AS, &room) != 0 || room.rlim_cur != RLIM_INFINITY)
            return NULL;
        if (!is_of_this_machine(fd))
            return NULL;
        found = mmap(NULL, (size_t) size, PROT_READ, MAP_SHARED, fd, 0);
        if (found == MAP_FAILED)
            return NULL;
        maps_open++;
        return (const unsigned char*) found;
    }

    static void unmap_file(const unsigned char* bytes, int64_t size) {
        munmap((void*) bytes, (size_t) size);
        maps_open--;
    }

    static void drop_pages(const unsigned char* bytes, int64_t size) {
        madvise((void*) bytes, (size_t) size, MADV_DONTNEED);
    }

    static int64_t nanoseconds(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
    }

    /* The time in steps of some milliseconds, read in 3 ns instead of 60. */
    static int64_t coarse_time(void) {
    #ifdef CLOCK_MONOTONIC_COARSE
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
    #else
        return nanoseconds() / 4000000;
    #endif
    }
    """
    const unsigned char* map_file(int fd, int64_t size) nogil
    void unmap_file(const unsigned char* bytes, int64_t size) nogil
    void drop_pages(const unsigned char* bytes, int64_t size) nogil
    int64_t nanoseconds() nogil
    int64_t coarse_time() nogil

cdef extern from *:
    void prefetch "__builtin_prefetch" (const void*) noexcept nogil

cdef enum:
    PAGE_BYTES = 4096              # the pages of every system are multiples of this

cdef struct copy_job:
    const unsigned char* source
    char* to
    int64_t size
    const unsigned char* behind    # the start of the next page; NULL: none is mapped
    bint whole


cdef inline bint ends_are_set(const unsigned char* source, int64_t size) noexcept nogil:
    """Return whether the last byte in each page is not zero."""
    cdef const unsigned char* last = source + size - 1
    cdef const unsigned char* at = <const unsigned char*> (
        <uintptr_t> source | (PAGE_BYTES - 1)
    )
    while at < last:
        if read_byte(at) == 0:
            return False
        at += PAGE_BYTES
    return read_byte(last) != 0


cdef inline void copy_page_by_page(void* argument) noexcept nogil:
    cdef copy_job* job = <copy_job*> argument
    if job.behind != NULL:
        prefetch(job.behind)
    if not ends_are_set(job.source, job.size):
        return
    memcpy(job.to, job.source, job.size)
    read_before_what_follows()
    job.whole = ends_are_set(job.source, job.size)
    if job.behind != NULL:
        read_byte(job.behind)


cdef inline bint copy_mapped(
    guard_function guard, const unsigned char* bytes, int64_t file_size, char* to,
    int64_t start, int64_t size,
) noexcept nogil:
    """Copy bytes out of a map, at least one; False if they may be wrong."""
    cdef copy_job job
    cdef int64_t next_page = (start + size + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES
    job.source = bytes + start
    job.to = to
    job.size = size
    job.behind = bytes + next_page if next_page < file_size else NULL
    job.whole = False
    return not guard(copy_page_by_page, &job, bytes, file_size) and job.whole
