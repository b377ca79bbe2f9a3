"""Read what the page cache holds of a file, without waiting for a disk.

os.preadv() does this too, into a buffer that is zeroed before and copied into bytes
after: for 5 kB, that takes as long as the system call.
"""

from libc.stdint cimport int64_t

cdef extern from *:
    """
    #include <sys/types.h>
    #include <sys/uio.h>

    static ssize_t read_without_waiting(
        int fd, void* to, size_t size, int64_t at
    ) {
    #ifdef RWF_NOWAIT
        struct iovec whole = {to, size};
        return preadv2(fd, &whole, 1, at, RWF_NOWAIT);
    #else
        (void) fd; (void) to; (void) size; (void) at;
        return -1;
    #endif
    }
    """
    ssize_t read_without_waiting(int fd, void* to, size_t size, int64_t at) nogil

cdef extern from "Python.h":
    object PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    const char* PyBytes_AsString(object) except NULL


def read_cached(int fd, int64_t start, int64_t size):
    """Return bytes of a file; None if the page cache does not hold all of them.

    None also where the system has no such read, and on every error. The GIL is kept:
    another thread would keep it for longer than the read takes.
    """
    cdef object found = PyBytes_FromStringAndSize(NULL, size)
    # a short read ends where a page is missing, or the file
    if read_without_waiting(fd, <void*> PyBytes_AsString(found), size, start) < size:
        return None
    return found
