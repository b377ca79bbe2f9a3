"""Start to bring written bytes to the disk, while the rest is still being made.

Otherwise the disk idles until the fsync at the end, which then takes a third of the
time of packing small files.

Source: Linux, sync_file_range(2). Elsewhere this does nothing.
"""

from libc.stdint cimport int64_t

cdef extern from *:
    """
    #include <fcntl.h>
    #include <stdint.h>

    #define WRITEBACK_BYTES (8 << 20)

    /* Once for each 8 MiB: every call takes a lock of the file. Those that a thread
       still has to write are left to fsync, which also reports errors. */
    static inline void start_writeback(int fd, int64_t pos, int64_t end) {
    #ifdef SYNC_FILE_RANGE_WRITE
        int64_t last = end / WRITEBACK_BYTES * WRITEBACK_BYTES;
        int64_t first = pos / WRITEBACK_BYTES * WRITEBACK_BYTES;
        if (first < last)
            sync_file_range(fd, first, last - first, SYNC_FILE_RANGE_WRITE);
    #else
        (void) fd; (void) pos; (void) end;
    #endif
    }
    """
    void start_writeback(int fd, int64_t pos, int64_t end) noexcept nogil
