"""Read a local file, and the members in it, each with one native call.

The shell around local_bytes.pxd.
"""

from libc.stdint cimport INT64_MAX, int64_t
from libc.stdlib cimport free, malloc

from common.guarded cimport find_guard
from common.locator cimport BROUGHT_AT_ONCE, from_capsule, member_locator
from stores.local_bytes cimport (
    close_bytes,
    copies,
    copy_bytes,
    local_bytes,
    read_batch,
    read_bytes,
    unmap_bytes,
)
from stores.range_team cimport COPIED_MAX, byte_range

from blobpack._native.members import Member

cdef extern from "Python.h":
    object PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    char* PyBytes_AsString(object) except NULL
    int PyLong_CheckExact(object)
    int64_t PyLong_AsLongLong(object) except? -1


cdef class LocalFile:
    """Bytes of a file that is open.

    Args:
        descriptor: A Descriptor, which is let go by `close`.
        size: Bytes of the file when it was opened; no read goes beyond.
        threads: How many threads a batch may take that waits for no disk.
    """

    cdef object descriptor         # None once it is closed
    cdef local_bytes bytes

    def __cinit__(self, object descriptor not None, int64_t size, int threads=1):
        self.descriptor = descriptor
        self.bytes.guard = find_guard()
        self.bytes.is_open = True
        self.bytes.size = size
        self.bytes.threads = threads

    def __dealloc__(self):
        unmap_bytes(&self.bytes)

    def close(self):
        """Let the file go. It is unmapped when no batch is under way any more.

        No single copy is under way, because those hold the GIL.
        """
        self.descriptor = None
        close_bytes(&self.bytes)

    @property
    def size(self):
        """Bytes of the file when it was opened."""
        return self.bytes.size

    @property
    def is_mapped(self):
        """Whether reads copy out of a map now."""
        return copies(&self.bytes)

    def read(self, int64_t start, int64_t end):
        """Read the bytes start to end.

        Returns:
            The bytes. None if they can't be read whole: the caller finds out why.
        """
        return self.take(start, end)

    cdef object take(self, int64_t start, int64_t end):
        cdef int64_t size = end - start
        cdef object found, held
        cdef char* to
        if not 0 <= start <= end <= self.bytes.size:
            return None
        found = PyBytes_FromStringAndSize(NULL, size)
        to = PyBytes_AsString(found)
        if copies(&self.bytes) and 0 < size <= COPIED_MAX:
            if copy_bytes(&self.bytes, to, start, size):
                return found
        # held, because another thread may close the file meanwhile
        held = self.descriptor
        if held is None or not read_bytes(&self.bytes, held, to, start, size):
            return None
        return found

    cdef int take_batch(
        self, byte_range* ranges, int64_t count, int64_t size
    ) except -1:
        """Read ranges, `size` bytes in all, and mark those that were read."""
        cdef object held = self.descriptor
        if held is not None:
            read_batch(&self.bytes, held, ranges, count, size)
        return 0


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
        """Find what is asked for; return False if the index declines."""
        cdef int64_t row, count
        if isinstance(which, str):
            return self.locator.by_name(self.index, <str> which, start, end, NULL)
        # True is an int, but no row
        if not PyLong_CheckExact(which):
            return isinstance(which, Member) and self.locate_member(which, start, end)
        try:
            row = PyLong_AsLongLong(which)
        except OverflowError:
            return False
        count = self.locator.count(self.index)
        if row < 0:
            row += count
        return 0 <= row < count and self.locator.by_row(self.index, row, start, end)

    cdef bint locate_member(
        self, object member, int64_t* start, int64_t* end
    ) except -1:
        """Find a Member, if it is the last row of its name; see FoundRow.is_of."""
        cdef int64_t crc32c
        cdef object checksum
        if not self.locator.by_name(
            self.index, <str> member.name, start, end, &crc32c
        ):
            return False
        if member.offset_start != start[0] or member.offset_end != end[0]:
            return False
        checksum = member.crc32c if crc32c >= 0 else None
        return checksum is None or checksum == crc32c

    def read(self, which):
        """Read what is asked for, a name, a row or a Member.

        None: the caller has to do it.
        """
        cdef int64_t start = 0, end = 0
        if not self.locate(which, &start, &end):
            return None
        return self.file.take(start, end)

    def read_many(self, list several not None, int64_t most_bytes):
        """Read members by their names or rows, side by side.

        Returns:
            Payloads of the first of them: up to one that has to be read by the caller,
            or one that would exceed most_bytes. The first one is read at any size.
        """
        cdef byte_range* ranges = <byte_range*> malloc(
            max(len(several), 1) * sizeof(byte_range)
        )
        cdef list payloads = []
        cdef int64_t count, size = 0, i
        cdef object payload
        if ranges == NULL:
            raise MemoryError
        try:
            count = self.locate_many(several, most_bytes, ranges, &size)
            for i in range(count):
                payload = PyBytes_FromStringAndSize(NULL, ranges[i].size)
                ranges[i].to = PyBytes_AsString(payload)
                payloads.append(payload)
            self.file.take_batch(ranges, count, size)
            return payloads[:count_read(ranges, count)]
        finally:
            free(ranges)

    def read_packed(self, list several not None, int64_t[::1] bounds not None):
        """Read members by their names or rows, one behind the other, into bytes.

        Args:
            several: The names and rows.
            bounds: (n + 1,) takes where each payload starts; the last one: their end.

        Returns:
            The bytes, and how many members they hold: up to one that has to be read by
            the caller. If these are not all, the bytes are of no use.
        """
        cdef byte_range* ranges = <byte_range*> malloc(
            max(len(several), 1) * sizeof(byte_range)
        )
        cdef int64_t count, size = 0, i
        cdef object packed
        cdef char* to
        if ranges == NULL:
            raise MemoryError
        try:
            if bounds.shape[0] != len(several) + 1:
                raise ValueError(f"{bounds.shape[0]} bounds of {len(several)} members")
            count = self.locate_many(several, INT64_MAX, ranges, &size)
            packed = PyBytes_FromStringAndSize(NULL, size)
            to = PyBytes_AsString(packed)
            size = 0
            for i in range(count):
                bounds[i] = size
                ranges[i].to = to + size
                size += ranges[i].size
            bounds[count] = size
            self.file.take_batch(ranges, count, size)
            return packed, count_read(ranges, count)
        finally:
            free(ranges)

    cdef int64_t locate_many(
        self, list several, int64_t most_bytes, byte_range* ranges, int64_t* size
    ) except -1:
        """Find members; return how many were found, up to the first that was not."""
        cdef Py_ssize_t i
        cdef int64_t start = 0, end = 0
        for i in range(len(several)):
            if i % BROUGHT_AT_ONCE == 0:
                self.locator.bring(
                    self.index, several, i, min(len(several), i + BROUGHT_AT_ONCE)
                )
            if not self.locate(several[i], &start, &end):
                return i
            if not 0 <= start <= end <= self.file.bytes.size:
                return i
            if i and end - start > most_bytes - size[0]:
                return i
            ranges[i].start = start
            ranges[i].size = end - start
            ranges[i].is_read = False
            size[0] += end - start
        return len(several)


cdef int64_t count_read(const byte_range* ranges, int64_t count) noexcept:
    """Return how many ranges were read before the first that was not."""
    cdef int64_t i
    for i in range(count):
        if not ranges[i].is_read:
            return i
    return count
