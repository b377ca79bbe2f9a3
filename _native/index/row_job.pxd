"""Find one member in a mapped index, as work that a fault may end.

The index may be overwritten or cut while it is read. So each job looks at the footer
last: if its bytes are as they were when the index was opened, so was all that the job
read before.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

from common.guarded cimport read_before_what_follows, read_byte
from index.blocks cimport BLOCK_ROWS, CRC32C, block_view, offsets_in, value_at
from index.faults cimport FAULT_ABSENT, FAULT_LAYOUT, FAULT_NONE, fault
from index.one_row cimport bounds_in
from index.region cimport bring_row, fetch_ahead, index_region, open_at, search

cdef enum:
    GROUP_ROWS = 32                # whose cache lines are brought together
    FOOTER_BYTES = 512
    FOOTER_HEAD_BYTES = 32
    STAMP = 336                    # in the footer
    STAMP_BYTES = 8

cdef struct row_job:
    index_region* region
    const char* known              # the footer when the index was opened
    bint with_crc32c
    const char* name               # asked for
    int64_t length                 # of the name
    int64_t row                    # asked for, or found; -1: no such name
    int64_t start
    int64_t end
    uint64_t crc32c
    fault kind
    int64_t position               # of what is damaged
    bint in_member                 # what is damaged is one row's values
    bint overwritten
    bint shortened

cdef struct names_job:
    index_region* region
    int64_t count
    uint64_t[GROUP_ROWS] hashes

cdef struct rows_job:
    index_region* region
    int64_t count
    int64_t[GROUP_ROWS] rows


cdef inline bint is_overwritten(
    const index_region* region, const char* known
) noexcept nogil:
    """Return whether the footer has changed since the index was opened.

    Its first bytes are the checksum and the size of the archive, which an append
    changes. An append that puts the same index back changes the stamp.
    """
    cdef const unsigned char* now = region.bytes + region.length - FOOTER_BYTES
    # the processor must not read the footer before the rest
    read_before_what_follows()
    return (
        memcmp(now, known, FOOTER_HEAD_BYTES) != 0
        or memcmp(now + STAMP, known + STAMP, STAMP_BYTES) != 0
    )


cdef inline void look_at_footer(row_job* job) noexcept nogil:
    job.overwritten = is_overwritten(job.region, job.known)
    # a cut within the footer leaves zeros up to the end of the page
    job.shortened = read_byte(job.region.bytes + job.region.length - 1) == 0


cdef inline void find_by_name(void* argument) noexcept nogil:
    """Find the last row of a name, its offsets, and its checksum."""
    cdef row_job* job = <row_job*> argument
    cdef block_view view
    cdef int64_t place
    job.row = -1
    job.kind = search(
        job.region, job.name, job.length, &view, &job.row, &job.position
    )
    if job.kind == FAULT_NONE:
        place = job.row % BLOCK_ROWS
        if not offsets_in(&view, place, &job.start, &job.end):
            job.kind = FAULT_LAYOUT
            job.in_member = True
        elif job.with_crc32c:
            job.crc32c = value_at(&view, CRC32C, place)
    elif job.kind == FAULT_ABSENT:
        job.kind = FAULT_NONE
    look_at_footer(job)


cdef inline void find_by_row(void* argument) noexcept nogil:
    """Find the offsets and the checksum in a row, which exists."""
    cdef row_job* job = <row_job*> argument
    cdef block_view view
    cdef int64_t place = job.row % BLOCK_ROWS
    job.kind = open_at(job.region, job.row // BLOCK_ROWS, &view, &job.position)
    if job.kind == FAULT_NONE:
        job.region.last_header = view.header
        if not bounds_in(&view, place, &job.start, &job.end):
            job.kind = FAULT_LAYOUT
            job.in_member = True
        elif job.with_crc32c:
            job.crc32c = value_at(&view, CRC32C, place)
    look_at_footer(job)


cdef inline void bring_rows(void* argument) noexcept nogil:
    """Prefetch the rows that the slots of some names give."""
    cdef names_job* job = <names_job*> argument
    cdef int64_t i
    for i in range(job.count):
        bring_row(job.region, job.hashes[i])


cdef inline void fetch_rows(void* argument) noexcept nogil:
    """Prefetch some rows."""
    cdef rows_job* job = <rows_job*> argument
    cdef int64_t i
    for i in range(job.count):
        fetch_ahead(job.region, job.rows[i])
