"""Put more names into the pages of an existing lookup.

The pages hold rows, but not the names in these rows. So if a slot may belong to a name,
the caller is asked to compare the two names.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from common.crc32c cimport crc32c_function
from index.fill cimport hash_run
from index.name_hash cimport is_same
from index.pages cimport (
    FREE_ROW,
    LINE_SLOTS,
    LINES,
    PAGE_BYTES,
    page_is_whole,
    page_of,
    print_of,
    put_slot,
    seal_page,
    seeded,
    slot,
    slot_at,
)

cdef enum extend_status:
    EXTEND_DONE
    EXTEND_ASK                     # the row *other* may have the name at *place*
    EXTEND_SAME                    # the new row *other* has the name at *place*
    EXTEND_OVERFLOW                # a page has no free slot
    EXTEND_DAMAGED                 # a page does not match its checksum

# Pages run.first_page to run.first_page + page_count, and how far they are filled.
cdef struct extension:
    unsigned char* pages
    unsigned char* changed         # for each page, 0 or 1
    int64_t first_new              # rows before it are in the pages already
    int64_t place
    int64_t probe                  # of the name at *place*
    uint32_t other


cdef inline int64_t place_of(const hash_run* run, uint32_t row) noexcept nogil:
    """Find a row by a binary search, because rows ascend; -1: it is not in the run."""
    cdef int64_t low = 0, high = run.count, middle
    while low < high:
        middle = (low + high) // 2
        if run.rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low if low < run.count and run.rows[low] == row else -1


cdef inline unsigned char* changed_page(
    extension* e, const hash_run* run, uint64_t hashed, crc32c_function crc32c
) noexcept nogil:
    """Return the page of a name; NULL when it is damaged."""
    cdef int64_t number = page_of(hashed, run.pages) - run.first_page
    cdef unsigned char* page = e.pages + number * PAGE_BYTES
    # A page that changes gets a new checksum. So damage must be found before.
    if not e.changed[number]:
        if not page_is_whole(page, <uint32_t> (run.first_page + number), crc32c):
            return NULL
        e.changed[number] = 1
    return page


cdef inline void take_slot(extension* e, const hash_run* run) noexcept nogil:
    """Put the name at *place* into the slot at *probe*, and go on to the next one."""
    cdef uint64_t hashed = seeded(run.hashes[e.place].hash, run.seed)
    cdef int64_t number = page_of(hashed, run.pages) - run.first_page
    put_slot(e.pages + number * PAGE_BYTES, hashed, e.probe, run.rows[e.place])
    e.place += 1
    e.probe = 0


cdef inline extend_status extend_pages(
    extension* e, const hash_run* run, crc32c_function crc32c
) noexcept nogil:
    """Put names into their pages, until a slot has to be looked at."""
    cdef uint64_t hashed
    cdef const unsigned char* page
    cdef int64_t other
    cdef slot found
    while e.place < run.count:
        if <int64_t> run.rows[e.place] < e.first_new:
            e.place += 1
            continue
        hashed = seeded(run.hashes[e.place].hash, run.seed)
        page = changed_page(e, run, hashed, crc32c)
        if page == NULL:
            return EXTEND_DAMAGED
        while e.probe < LINES * LINE_SLOTS:
            slot_at(page, hashed, e.probe, &found)
            if found.row == FREE_ROW:
                break
            if found.print == print_of(hashed):
                e.other = found.row
                if <int64_t> found.row < e.first_new:
                    return EXTEND_ASK
                # The row of another part has another name, though it may have the same
                # fingerprint. A damaged page may hold any row.
                other = place_of(run, found.row)
                if other >= 0 and is_same(&run.hashes[other], &run.hashes[e.place]):
                    take_slot(e, run)
                    return EXTEND_SAME
            e.probe += 1
        if e.probe == LINES * LINE_SLOTS:
            return EXTEND_OVERFLOW
        take_slot(e, run)
    return EXTEND_DONE


cdef inline void seal_changed(
    extension* e, const hash_run* run, int64_t count, crc32c_function crc32c
) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        if e.changed[i]:
            seal_page(
                e.pages + i * PAGE_BYTES, <uint32_t> (run.first_page + i), crc32c
            )
    memset(e.changed, 0, count)
