"""Find one member in a mapped index, as work that a fault may end.

The index may be overwritten or cut while it is read. So each job looks at the footer
last: if its bytes are as they were when the index was opened, so was all that the job
read before.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from common.guarded cimport read_before_what_follows, read_byte
from index.blocks cimport (
    BLOCK_ROWS,
    CRC32C,
    HEIGHT,
    MEDIA_TYPE,
    WIDTH,
    block_view,
    mtime_in,
    name_in,
    offsets_in,
    value_at,
)
from index.faults cimport FAULT_ABSENT, FAULT_LAYOUT, FAULT_NONE, fault
from index.one_row cimport bounds_in
from index.region cimport (
    bring_row,
    fetch_ahead,
    gather_rows,
    index_region,
    open_at,
    search,
    take_rows,
)
from index.rows cimport row_columns

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

# What stands in a row, beside its offsets. A name is found by one job and copied by
# another, because room for it is made between them.
cdef struct member_job:
    row_job row
    const unsigned char* name
    int64_t name_length
    char* to                       # room for the name
    uint8_t media_type
    uint64_t width
    uint64_t height
    int64_t mtime

cdef struct part_job:
    row_job row
    row_columns* out
    int64_t first
    int64_t last

cdef struct gather_job:
    row_job row
    row_columns* out
    const int64_t* rows
    int64_t count

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


cdef inline void find_member(void* argument) noexcept nogil:
    """Find the values in a row, which exists, and where its name is.

    Values of columns that were not taken are 0.
    """
    cdef member_job* job = <member_job*> argument
    cdef row_job* row = &job.row
    cdef block_view view
    cdef int64_t place = row.row % BLOCK_ROWS
    row.kind = open_at(row.region, row.row // BLOCK_ROWS, &view, &row.position)
    if row.kind == FAULT_NONE:
        if not (
            name_in(&view, place, &job.name, &job.name_length)
            and offsets_in(&view, place, &row.start, &row.end)
        ):
            row.kind = FAULT_LAYOUT
            row.in_member = True
        else:
            job.media_type = <uint8_t> value_at(&view, MEDIA_TYPE, place)
            job.width = value_at(&view, WIDTH, place)
            job.height = value_at(&view, HEIGHT, place)
            row.crc32c = value_at(&view, CRC32C, place)
            job.mtime = mtime_in(&view, place)
    look_at_footer(row)


cdef inline void copy_name(void* argument) noexcept nogil:
    """Copy the name that find_member has found."""
    cdef member_job* job = <member_job*> argument
    memcpy(job.to, job.name, job.name_length)
    look_at_footer(&job.row)


cdef inline void copy_rows(void* argument) noexcept nogil:
    """Append the rows first:last to columns. What is there at a fault can be freed."""
    cdef part_job* job = <part_job*> argument
    job.row.kind = take_rows(
        job.row.region, job.out, job.first, job.last, &job.row.position
    )
    look_at_footer(&job.row)


cdef inline void copy_chosen(void* argument) noexcept nogil:
    """Append rows, which exist, to columns. What is there at a fault can be freed."""
    cdef gather_job* job = <gather_job*> argument
    job.row.kind = gather_rows(
        job.row.region, job.out, job.rows, job.count, &job.row.position
    )
    look_at_footer(&job.row)
