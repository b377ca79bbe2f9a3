"""Open files and folders below a folder, without following links to other places."""

from libc.errno cimport EINTR, ENOSYS, EPERM, errno
from libc.stdint cimport uint64_t
from libc.string cimport strchr
from posix.fcntl cimport O_CLOEXEC, O_DIRECTORY, O_RDONLY
from posix.unistd cimport close

cdef extern from "<fcntl.h>" nogil:
    int O_NOFOLLOW
    int openat(int, const char*, int)

cdef extern from "<unistd.h>" nogil:
    long syscall(long, ...)

# Source: Linux, openat2(2). The C library has neither function nor, before glibc 2.32,
# the number, which is the same on all processors.
cdef enum:
    SYS_OPENAT2 = 437
    RESOLVE_NO_SYMLINKS = 4

cdef struct open_how:
    uint64_t flags
    uint64_t mode
    uint64_t resolve


cdef inline int open_at(int folder_fd, const char* path, int flags) noexcept nogil:
    """Open a path that is relative to a folder; -errno on an error."""
    cdef int fd = openat(folder_fd, path, flags)
    # on network file systems, a signal may interrupt it
    while fd < 0 and errno == EINTR:
        fd = openat(folder_fd, path, flags)
    return fd if fd >= 0 else -errno


cdef inline int walk_below(int root_fd, char* path, int flags) noexcept nogil:
    """Open a folder, one part of its path at a time; -errno, also at a link."""
    cdef int fd = root_fd, below
    cdef char* end
    while path[0] != 0:
        end = strchr(path, b"/")
        if end != NULL:
            end[0] = 0
        below = open_at(fd, path, flags | O_NOFOLLOW)
        if end != NULL:
            end[0] = b"/"
        if fd != root_fd:
            close(fd)
        if below < 0 or end == NULL:
            return below
        fd = below
        path = end + 1
    return fd


cdef inline int open_below(int root_fd, char* path, bint follow) noexcept nogil:
    """Open a folder; without following links, in no part of its path.

    O_NOFOLLOW holds only for the last part of a path. A folder above it that was
    replaced by a link would be followed.
    """
    cdef int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC
    cdef open_how how
    cdef int fd
    if follow:
        return open_at(root_fd, path, flags)
    how.flags = flags
    how.mode = 0
    how.resolve = RESOLVE_NO_SYMLINKS
    fd = <int> syscall(SYS_OPENAT2, root_fd, path, &how, sizeof(how))
    while fd < 0 and errno == EINTR:
        fd = <int> syscall(SYS_OPENAT2, root_fd, path, &how, sizeof(how))
    if fd >= 0:
        return fd
    # Linux before 5.6 has no such call, and old sandboxes forbid it by EPERM
    if errno == ENOSYS or errno == EPERM:
        return walk_below(root_fd, path, flags)
    return -errno
