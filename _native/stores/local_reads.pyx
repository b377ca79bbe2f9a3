"""Read a local file, and the members in it, each with one native call.

Strategy: a copy out of a map takes a third of the time of pread(2). But a page that is
not in memory stops the thread with the GIL, and the system then reads 128 kB for one
page. So reads begin with pread, without the GIL, and a file is mapped after some of
them in a row were too quick for a disk. Copies out of the map keep the GIL: giving it
up takes as long as some copies. If the coarse clock moves during a copy, the copy may
have waited for a disk, and the next reads go by pread again.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from posix.unistd cimport pread

from common.guarded cimport find_guard, guard_function
from common.locator cimport from_capsule, member_locator
from stores.file_map cimport (
    coarse_time,
    copy_mapped,
    drop_pages,
    map_file,
    nanoseconds,
    unmap_file,
)

cdef extern from "Python.h":
    object PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    char* PyBytes_AsString(object) except NULL
    int PyLong_CheckExact(object)
    int64_t PyLong_AsLongLong(object) except? -1

cdef enum:
    COPIED_MAX = 65536             # larger ones take long enough to give up the GIL
    QUICK_NS = 50000               # a disk takes longer
    QUICK_READS = 16               # in a row, before the file is mapped

# After as many bytes, the map's pages are given back: each GiB of them takes 2 MB of
# page tables. Touching the pages again takes less than a hundredth of the time.
cdef int64_t DROPPED_AFTER = <int64_t> 4 << 30

cdef guard_function guard = find_guard()


cdef bint read_whole(int fd, char* to, int64_t start, int64_t size) noexcept nogil:
    """Read bytes of a file; False if it ends before, or can't be read."""
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


cdef class LocalFile:
    """Bytes of a file that is open.

    Args:
        descriptor: A Descriptor. It is let go by `close`, and while nobody reads.
        size: Bytes of the file when it was opened; no read goes beyond.
    """

    cdef object descriptor         # None once it is closed
    cdef readonly int64_t size
    cdef const unsigned char* map
    cdef bint is_not_mapped        # and never will be
    cdef int quick_reads           # in a row
    cdef int64_t copied            # bytes since pages were given back

    def __cinit__(self, object descriptor not None, int64_t size):
        self.descriptor = descriptor
        self.size = size

    def __dealloc__(self):
        self.unmap()

    cdef void unmap(self) noexcept:
        if self.map != NULL:
            unmap_file(self.map, self.size)
            self.map = NULL

    def close(self):
        """Let the file go, and unmap it: no copy is under way, since copies hold the GIL."""
        self.descriptor = None
        self.unmap()

    @property
    def is_mapped(self):
        """Whether reads copy out of a map now."""
        return self.map != NULL and self.quick_reads >= QUICK_READS

    def read(self, int64_t start, int64_t end):
        """Read the bytes start to end.

        Returns:
            The bytes. None if they can't be read whole: the caller finds out why.
        """
        return self.take(start, end)

    cdef object take(self, int64_t start, int64_t end):
        cdef int64_t size = end - start
        cdef object found
        cdef char* to
        if not 0 <= start <= end <= self.size:
            return None
        found = PyBytes_FromStringAndSize(NULL, size)
        to = PyBytes_AsString(found)
        if (
            self.map != NULL
            and self.quick_reads >= QUICK_READS
            and 0 < size <= COPIED_MAX
            and self.copy(to, start, size)
        ):
            return found
        return found if self.fill(to, start, size) else None

    cdef bint copy(self, char* to, int64_t start, int64_t size) noexcept:
        """Copy bytes out of the map; return False if pread has to read them."""
        cdef int64_t began = coarse_time()
        cdef bint whole = copy_mapped(guard, self.map, self.size, to, start, size)
        if coarse_time() != began:
            self.quick_reads = 0
        self.copied += size
        if self.copied >= DROPPED_AFTER:
            self.copied = 0
            drop_pages(self.map, self.size)
        return whole

    cdef bint fill(self, char* to, int64_t start, int64_t size) except -1:
        """Read bytes without the GIL; return False if the file can't give all of them."""
        cdef object held = self.descriptor  # another thread may close the file meanwhile
        cdef int64_t began
        cdef int fd
        cdef bint whole
        if held is None:
            return False
        fd = held
        with nogil:
            began = nanoseconds()
            whole = read_whole(fd, to, start, size)
            began = nanoseconds() - began
        if size <= COPIED_MAX and whole:
            self.quick_reads = self.quick_reads + 1 if began < QUICK_NS else 0
            if self.quick_reads >= QUICK_READS:
                self.map_if_possible()
        return whole

    cdef void map_if_possible(self) noexcept:
        if self.map != NULL or self.is_not_mapped or self.descriptor is None:
            return
        self.map = map_file(self.descriptor, self.size)
        self.is_not_mapped = self.map == NULL


cdef class MemberReads:
    """Read members of a local file: look one up, and copy it, in one call.

    Every method may decline. Then the caller asks the index and the store, which find
    the member or raise the right error.

    Args:
        file: The file.
        index: A native index that has a locator.
    """

    cdef LocalFile file
    cdef object index
    cdef const member_locator* locator

    def __cinit__(self, LocalFile file not None, object index not None):
        self.file = file
        self.index = index
        self.locator = from_capsule(index.locator)

    cdef bint locate(self, object which, int64_t* start, int64_t* end) except -1:
        """Find a member by its name or row; return False if the index declines."""
        cdef int64_t row, count
        if isinstance(which, str):
            return self.locator.by_name(self.index, <str> which, start, end)
        # True is an int, but no row
        if not PyLong_CheckExact(which):
            return False
        try:
            row = PyLong_AsLongLong(which)
        except OverflowError:
            return False
        count = self.locator.count(self.index)
        if row < 0:
            row += count
        return 0 <= row < count and self.locator.by_row(self.index, row, start, end)

    def read(self, which):
        """Read a member by its name or row; None: the caller has to do it."""
        cdef int64_t start = 0, end = 0
        if not self.locate(which, &start, &end):
            return None
        return self.file.take(start, end)
