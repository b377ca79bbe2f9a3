"""Look members up in an index file that is mapped, and copy them out of it.

The shell around mapped_region.pxd.
"""

from libc.stdint cimport int64_t, uint64_t

from common.crc32c cimport find_crc32c
from index.mapped_region cimport (
    begin_job,
    bring,
    check_job,
    do_job,
    forget_pages,
    is_found,
    is_sound,
    map_region,
    mapped_region,
    unmap_region,
)
from index.one_row cimport row_number
from index.rows cimport (
    HAS_CRC32C,
    HAS_HEIGHT,
    HAS_MEDIA_TYPE,
    HAS_MTIME,
    HAS_WIDTH,
    row_columns,
    row_columns_free,
    row_columns_init,
    to_python,
)
from index.row_job cimport (
    GROUP_ROWS,
    copy_chosen,
    copy_name,
    copy_rows,
    fetch_rows,
    find_by_name,
    find_by_row,
    find_member,
    gather_job,
    member_job,
    part_job,
    row_job,
    rows_job,
)
from common.guarded cimport find_guard, guarded_work
from common.locator cimport member_locator, to_capsule
from common.hash cimport encoded_name
from common.named cimport new_named

from blobpack._native.members import Member
from blobpack._native.results import (
    NO_SUCH_NAME,
    OTHER_MEMBER,
    FoundRow,
    MemberColumns,
)
from blobpack.errors import BlobChangedError

cdef extern from "Python.h":
    object PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    char* PyBytes_AsString(object) except NULL
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
    object PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*)


cdef inline object to_found_row(const row_job* job):
    cdef object crc = job.crc32c if job.with_crc32c else None
    return new_named(FoundRow, (job.row, job.start, job.end, crc))


cdef bint locate_name(
    object index, str name, int64_t* start, int64_t* end, int64_t* crc32c
) except? False:
    cdef row_job job
    cdef Py_ssize_t length
    try:
        job.name = PyUnicode_AsUTF8AndSize(name, &length)
    except UnicodeEncodeError:
        return False
    job.length = length
    if not (<MappedIndex> index).finds(find_by_name, &job, crc32c != NULL):
        return False
    start[0] = job.start
    end[0] = job.end
    if crc32c != NULL:
        crc32c[0] = <int64_t> job.crc32c if job.with_crc32c else -1
    return True


cdef bint locate_row(
    object index, int64_t row, int64_t* start, int64_t* end
) except? False:
    cdef row_job job
    job.row = row
    if not (<MappedIndex> index).finds(find_by_row, &job, False):
        return False
    start[0] = job.start
    end[0] = job.end
    return True


cdef int64_t count_rows(object index) noexcept:
    return (<MappedIndex> index).mapped.region.row_count


cdef int bring_names(
    object index, list several, Py_ssize_t first, Py_ssize_t last
) except -1:
    return bring(&(<MappedIndex> index).mapped, several, first, last)


cdef member_locator locator
locator.by_name = locate_name
locator.by_row = locate_row
locator.count = count_rows
locator.bring = bring_names
cdef object LOCATOR = to_capsule(&locator)


cdef class MappedIndex:
    """Look members up in an index region that is mapped from a file.

    Blocks and pages are checked once; which were is all that is kept in memory. All
    reads of the map are jobs of row_job.pxd, which a fault ends if the file was cut.

    The map and the file stay open until the last reference to this object is gone:
    a lookup holds one while it runs. mmap.mmap is not used, because it keeps a copy
    of the descriptor: an open blob would hold two.

    An append in place overwrites the region. Each lookup finds this out by the footer;
    see row_job.pxd. Then nothing that was read is used, and the owner finds the index
    again.

    Args:
        file: The file's descriptor, which is kept.
        where, offset: What messages name: the file, and where the region starts in it.
        region_bytes: Size of the region.
        footer: The region's last bytes, as they were read when the index was opened.
        owner: Weak reference to the LocalIndex, whose `renew` finds the index again.
        row_count … facts: Of the footer, positions from the region's start.
        media_types: The media type of each code; the first one is unknown.
    """

    cdef mapped_region mapped
    cdef object file
    cdef str where
    cdef bytes footer              # its bytes are mapped.known
    cdef object owner
    cdef tuple media_types
    cdef bint is_closed
    cdef readonly object locator   # for MemberReads

    def __cinit__(
        self,
        object file not None,
        str where not None,
        int64_t offset,
        int64_t region_bytes,
        bytes footer not None,
        object owner not None,
        *,
        int64_t row_count,
        int64_t last_end,
        int64_t block_count,
        int64_t directory,
        int64_t lookup,
        int64_t pages,
        uint64_t seed,
        int facts,
        tuple media_types not None,
    ):
        self.file = file
        self.where = where
        self.footer = footer
        self.owner = owner
        self.media_types = media_types
        self.locator = LOCATOR
        self.mapped.guard = find_guard()
        self.mapped.fd = file
        self.mapped.offset = offset
        self.mapped.known = footer
        self.mapped.facts = facts
        self.mapped.region.length = region_bytes
        self.mapped.region.row_count = row_count
        self.mapped.region.last_end = last_end
        self.mapped.region.block_count = block_count
        self.mapped.region.directory = directory
        self.mapped.region.lookup = lookup
        self.mapped.region.pages = pages
        self.mapped.region.seed = seed
        self.mapped.region.crc32c = find_crc32c()
        map_region(&self.mapped, where, len(footer))

    def __dealloc__(self):
        unmap_region(&self.mapped)

    def __len__(self):
        return self.mapped.region.row_count

    def forget_pages(self):
        """Remove the pages that were read from the memory of this process.

        They stay in the page cache, and reads may go on meanwhile.
        """
        forget_pages(&self.mapped)

    cdef object renewed(self):
        """Return the owner, after it has found the index again."""
        owner = self.owner()
        if owner is None:  # its index was closed, and a lookup was under way
            raise BlobChangedError(f"{self.where}: the index was overwritten")
        owner.renew(self)
        return owner

    cdef bint look(self, guarded_work work, row_job* job) except -1:
        """Find a member; return whether the index was overwritten."""
        cdef bint ended
        begin_job(&self.mapped, job)
        ended = do_job(&self.mapped, work, job)
        if is_sound(job, ended):
            return False
        what = "the part" if work == find_by_name else "the block"
        return self.check(job, ended, what)

    cdef bint check(self, const row_job* job, bint ended, str what) except -1:
        """Raise the error of a job; return whether the index was overwritten."""
        return check_job(&self.mapped, job, ended, what, self.where)

    cdef bint finds(
        self, guarded_work work, row_job* job, bint with_crc32c
    ) noexcept:
        """Find a member for MemberReads, which tries again by `look` if this fails."""
        return not self.is_closed and is_found(&self.mapped, work, job, with_crc32c)

    cdef bint look_up(self, str name, row_job* job) except -1:
        """Find the last member of a name, as look; job.row is -1 if there is none."""
        cdef Py_ssize_t length
        cdef bytes encoded = None
        try:
            job.name = PyUnicode_AsUTF8AndSize(name, &length)
        except UnicodeEncodeError:  # surrogates: bytes that are not UTF-8
            encoded = encoded_name(name)
            if encoded is None:
                job.row = -1
                return False
            job.name = encoded
            length = len(encoded)
        job.length = length
        return self.look(find_by_name, job)

    def close(self):
        """Locate no more members for MemberReads."""
        self.is_closed = True

    def find(self, str name not None):
        """Return the last row of that name, -1 when there is none.

        Raises:
            BlobChangedError: the file was cut.
            FormatError: what was read of the index is damaged.
        """
        cdef row_job job
        if self.look_up(name, &job):
            return self.renewed().find(name)
        return job.row

    def locate(self, str name not None):
        """Return offset_start and offset_end of the last row of that name, or None.

        Raises:
            BlobChangedError: the file was cut.
            FormatError: what was read of the index is damaged.
        """
        cdef row_job job
        if self.look_up(name, &job):
            return self.renewed().locate(name)
        return None if job.row < 0 else (job.start, job.end)

    def find_member(self, object member not None):
        """Return the row of a Member, if it is the last row of its name.

        Offsets are compared, and CRC-32C, if both are known; see FoundRow.is_of.

        Returns:
            The row; NO_SUCH_NAME, or OTHER_MEMBER if the last row is another member's.

        Raises:
            As locate.
        """
        cdef row_job job
        cdef object checksum
        cdef bint is_same
        if self.look_up(member.name, &job):
            return self.renewed().find_member(member)
        if job.row < 0:
            return NO_SUCH_NAME
        is_same = job.start == <int64_t> member.offset_start
        is_same = is_same and job.end == <int64_t> member.offset_end
        if is_same and job.with_crc32c:
            checksum = member.crc32c
            is_same = checksum is None or job.crc32c == <uint64_t> checksum
        return job.row if is_same else OTHER_MEMBER

    def search(self, list names not None):
        """Return the last row of each of many names, with its offsets and CRC-32C.

        What binds is waiting for memory, so the cache lines of some names are brought
        side by side before the first of them is looked at.

        Returns:
            A FoundRow for each name; None where there is no such name.

        Raises:
            As locate.
        """
        cdef row_job job
        cdef Py_ssize_t first, last, i
        cdef list found = []
        for first in range(0, len(names), GROUP_ROWS):
            last = min(first + GROUP_ROWS, len(names))
            bring(&self.mapped, names, first, last)
            for i in range(first, last):
                if self.look_up(names[i], &job):
                    return self.renewed().search(names)
                found.append(None if job.row < 0 else to_found_row(&job))
        return found

    def bounds_at(self, row):
        """Return offset_start and offset_end in a row; negative ones: from the end.

        Raises:
            BlobChangedError: the file was cut.
            FormatError: the block is damaged.
            IndexError: there is no such row.
        """
        cdef row_job job
        job.row = row_number(row, self.mapped.region.row_count)
        if self.look(find_by_row, &job):
            return self.renewed().bounds_at(row)
        return job.start, job.end

    cdef object read_name(self, member_job* job, object row):
        """Find the values in a row, and return its name; None: it was overwritten."""
        cdef object name
        job.row.row = row_number(row, self.mapped.region.row_count)
        if self.look(find_member, &job.row):
            return None
        name = PyBytes_FromStringAndSize(NULL, job.name_length)
        job.to = PyBytes_AsString(name)
        if self.look(copy_name, &job.row):
            return None
        return PyUnicode_DecodeUTF8(job.to, job.name_length, "surrogateescape")

    def name_at(self, row):
        """Return the name in a row; see bounds_at."""
        cdef member_job job
        cdef object name = self.read_name(&job, row)
        return self.renewed().name_at(row) if name is None else name

    def member_at(self, row):
        """Return the Member in a row; see bounds_at."""
        cdef member_job job
        cdef object name = self.read_name(&job, row), media_type = None
        cdef int facts
        if name is None:
            return self.renewed().member_at(row)
        facts = self.mapped.facts
        # a later version of the format may add media types
        if facts & HAS_MEDIA_TYPE and 0 < job.media_type < len(self.media_types):
            media_type = self.media_types[job.media_type]
        return Member(
            name,
            job.row.start,
            job.row.end,
            media_type,
            (job.width or None) if facts & HAS_WIDTH else None,
            (job.height or None) if facts & HAS_HEIGHT else None,
            job.row.crc32c if facts & HAS_CRC32C else None,
            (job.mtime or None) if facts & HAS_MTIME else None,
        )

    def search_rows(self, list rows not None):
        """Return the offsets and the CRC-32C in each of many rows.

        Raises:
            As bounds_at.
        """
        cdef row_job job
        cdef rows_job ahead
        cdef Py_ssize_t first, last, i
        cdef list found = []
        cdef int64_t count = self.mapped.region.row_count
        cdef list numbers = [row_number(row, count) for row in rows]
        ahead.region = &self.mapped.region
        for first in range(0, len(numbers), GROUP_ROWS):
            last = min(first + GROUP_ROWS, len(numbers))
            # what binds is waiting for memory, as in search
            ahead.count = last - first
            for i in range(first, last):
                ahead.rows[i - first] = numbers[i]
            do_job(&self.mapped, fetch_rows, &ahead)
            for i in range(first, last):
                job.row = numbers[i]
                if self.look(find_by_row, &job):
                    return self.renewed().search_rows(rows)
                found.append(to_found_row(&job))
        return found

    def rows(self, int64_t first, int64_t last):
        """Read the rows first:last into columns of their own.

        Returns:
            MemberColumns; facts that were not taken are None.

        Raises:
            FormatError: a block is damaged.
        """
        cdef row_columns out
        cdef part_job job
        cdef bint ended
        cdef int64_t count = self.mapped.region.row_count
        if not 0 <= first <= last <= count:
            raise IndexError(f"rows {first} to {last} of {count}")
        job.out = &out
        job.first = first
        job.last = last
        begin_job(&self.mapped, &job.row)
        try:
            if not row_columns_init(&out, last - first, self.mapped.facts):
                raise MemoryError
            with nogil:
                ended = do_job(&self.mapped, copy_rows, &job)
            if self.check(&job.row, ended, "the block"):
                return self.renewed().mapped.rows(first, last)
            return MemberColumns(*to_python(&out))
        finally:
            row_columns_free(&out)

    def take(self, const int64_t[::1] rows not None):
        """Read rows into columns of their own, in the order given.

        Args:
            rows: (k,) int64, each 0 ≤ row < len.

        Returns:
            MemberColumns; facts that were not taken are None.

        Raises:
            FormatError: a block is damaged.
            IndexError: there is no such row.
        """
        cdef row_columns out
        cdef gather_job job
        cdef bint ended
        cdef int64_t i, count = rows.shape[0]
        cdef int64_t row_count = self.mapped.region.row_count
        for i in range(count):
            if not 0 <= rows[i] < row_count:
                raise IndexError(f"row {rows[i]} of {row_count}")
        job.out = &out
        job.count = count
        job.rows = &rows[0] if count else NULL
        begin_job(&self.mapped, &job.row)
        try:
            if not row_columns_init(&out, count, self.mapped.facts):
                raise MemoryError
            with nogil:
                ended = do_job(&self.mapped, copy_chosen, &job)
            if self.check(&job.row, ended, "the block"):
                return self.renewed().mapped.take(rows)
            return MemberColumns(*to_python(&out))
        finally:
            row_columns_free(&out)
