"""Fill pages of the lookup with the hashes of names."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from common.crc32c cimport crc32c_function
from index.name_hash cimport is_same, name_hash
from index.pages cimport (
    FREE_ROW,
    LINE_BYTES,
    LINE_SLOTS,
    LINES,
    PAGE_BYTES,
    page_of,
    print_of,
    put_slot,
    seal_page,
    seeded,
    slot,
    slot_at,
)

# While pages are filled, a slot holds the place of a hash here, and a row in the end.
cdef struct hash_run:
    const name_hash* hashes
    const uint32_t* rows           # ascending; NULL: the places
    int64_t count
    uint64_t seed
    int64_t pages                  # of the whole lookup
    int64_t first_page             # of those that are filled

cdef enum fill_status:
    FILL_DONE
    FILL_SAME                      # the name before *place* is that of *other*, too
    FILL_OVERFLOW                  # a page has no free slot


cdef inline fill_status fill_pages(
    const hash_run* run, unsigned char* filled, int64_t* place, uint32_t* other,
    bint stops,
) noexcept nogil:
    """Put names into their pages from *place* on; the last row of a name gets its slot.

    *stops*: return at a name that another row has, too.
    """
    cdef uint64_t hashed
    cdef unsigned char* page
    cdef int64_t probe
    cdef slot found
    while place[0] < run.count:
        hashed = seeded(run.hashes[place[0]].hash, run.seed)
        page = filled + (page_of(hashed, run.pages) - run.first_page) * PAGE_BYTES
        for probe in range(LINES * LINE_SLOTS):
            slot_at(page, hashed, probe, &found)
            if found.row == FREE_ROW or (
                found.print == print_of(hashed)
                and is_same(&run.hashes[found.row], &run.hashes[place[0]])
            ):
                put_slot(page, hashed, probe, <uint32_t> place[0])
                break
        else:
            return FILL_OVERFLOW
        place[0] += 1
        if stops and found.row != FREE_ROW:
            other[0] = found.row
            return FILL_SAME
    return FILL_DONE


cdef inline void finish_pages(
    const hash_run* run, unsigned char* filled, int64_t count, crc32c_function crc32c
) noexcept nogil:
    """Write rows instead of places, and seal the pages."""
    cdef int64_t page, at
    cdef uint32_t row
    cdef unsigned char* one
    for page in range(count):
        one = filled + page * PAGE_BYTES
        memset(one, 0, LINE_BYTES)
        if run.rows != NULL:
            for at in range(LINE_BYTES + 4, PAGE_BYTES, 8):
                memcpy(&row, one + at, 4)
                if row != FREE_ROW:
                    memcpy(one + at, &run.rows[row], 4)
        seal_page(one, <uint32_t> (run.first_page + page), crc32c)
