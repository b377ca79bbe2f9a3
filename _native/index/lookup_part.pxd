"""One part of a lookup: the hashes that fill its pages, and the pages made of them."""

from cpython.bytes cimport PyBytes_AsString
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from common.crc32c cimport crc32c_function
from index.extend cimport (
    EXTEND_ASK,
    EXTEND_DAMAGED,
    EXTEND_DONE,
    EXTEND_OVERFLOW,
    extend_pages,
    extend_status,
    extension,
    seal_changed,
    take_slot,
)
from index.fill cimport (
    FILL_OVERFLOW,
    FILL_SAME,
    fill_pages,
    fill_status,
    finish_pages,
    hash_run,
)
from index.kept_hashes cimport kept_hashes, spill_failure
from index.name_hash cimport hash_twice, is_same, name_hash
from index.pages cimport PAGE_BYTES, PAGE_SLOTS, page_of, seeded
from index.spill cimport SPILL_PARTS, part_count, spill_read

cdef struct lookup_part:
    hash_run run
    int64_t page_count
    name_hash* hashes              # its own; NULL: those of kept_hashes
    uint32_t* rows
    int64_t first_row              # at place 0, if there are no rows


cdef inline void use_hashes(
    lookup_part* part, const kept_hashes* kept, uint64_t seed, int64_t pages
) noexcept:
    """Begin a part with all hashes, none of which is spilled. They are not copied."""
    memset(part, 0, sizeof(lookup_part))
    part.run.hashes = kept.recent
    part.run.count = kept.count - kept.first
    part.first_row = kept.first
    part.run.seed = seed
    part.run.pages = part.page_count = pages


cdef inline int read_part(
    lookup_part* part, kept_hashes* kept, int number, int64_t pages
) except -1:
    """Begin a part with the hashes of one part of the file.

    part_free must follow, also if this raises. `pages` is a multiple of the parts.
    """
    cdef int64_t count = part_count(&kept.spill, number)
    cdef int error
    memset(part, 0, sizeof(lookup_part))
    part.hashes = <name_hash*> malloc(max(count, 1) * sizeof(name_hash))
    part.rows = <uint32_t*> malloc(max(count, 1) * sizeof(uint32_t))
    if part.hashes == NULL or part.rows == NULL:
        raise MemoryError
    with nogil:
        error = spill_read(&kept.spill, number, part.hashes, part.rows)
    if error:
        raise spill_failure(error)
    part.run.hashes = part.hashes
    part.run.rows = part.rows
    part.run.count = count
    part.run.pages = pages
    part.page_count = pages // SPILL_PARTS
    part.run.first_page = number * part.page_count
    return 0


cdef inline void part_free(lookup_part* part) noexcept nogil:
    free(part.hashes)
    free(part.rows)


cdef inline uint32_t row_at(const lookup_part* part, int64_t place) noexcept:
    if part.run.rows == NULL:
        return <uint32_t> (part.first_row + place)
    return part.run.rows[place]


cdef inline bytearray fill(lookup_part* part, repeated, crc32c_function crc32c):
    """Fill the pages; None when one overflows."""
    cdef bytearray filled = bytearray(b"\xff") * (part.page_count * PAGE_BYTES)
    cdef unsigned char[::1] view = filled
    cdef int64_t place = 0
    cdef uint32_t other
    cdef bint stops = repeated is not None
    cdef fill_status status = FILL_SAME
    while part.run.count and status == FILL_SAME:
        with nogil:
            status = fill_pages(&part.run, &view[0], &place, &other, stops)
        if status == FILL_OVERFLOW:
            return None
        if status == FILL_SAME:
            repeated(row_at(part, other), row_at(part, place - 1))
    if part.page_count:
        with nogil:
            finish_pages(&part.run, &view[0], part.page_count, crc32c)
    return filled


cdef inline bint has_room(const lookup_part* part) except -1:
    """Return whether no page can overflow, even if all names are different."""
    cdef bytes counted = bytes(part.page_count * sizeof(uint32_t))
    cdef uint32_t* counts = <uint32_t*> PyBytes_AsString(counted)
    cdef int64_t i, page
    cdef bint room = True
    with nogil:
        for i in range(part.run.count):
            page = page_of(
                seeded(part.run.hashes[i].hash, part.run.seed), part.run.pages
            ) - part.run.first_page
            counts[page] += 1
            room = room and counts[page] <= PAGE_SLOTS
    return room


cdef inline bint is_named(
    const lookup_part* part, int64_t place, bytes name, uint64_t secret
) except -1:
    cdef name_hash hashed = hash_twice(name, len(name), secret)
    return is_same(&part.run.hashes[place], &hashed)


cdef inline bint extend(
    lookup_part* part, bytearray pages, int64_t first_page, int64_t first_new, name_at,
    repeated, uint64_t secret, crc32c_function crc32c,
) except -1:
    """Put names into pages that are there; False when a page has no free slot.

    The arguments are those of NameHashes.extend_lookup.
    """
    from blobpack.errors import ChecksumError

    cdef int64_t count = len(pages) // PAGE_BYTES
    cdef bytearray changed = bytearray(count)
    cdef unsigned char[::1] page_view = pages
    cdef unsigned char[::1] changed_view = changed
    cdef extension e
    cdef extend_status status = EXTEND_ASK
    if count == 0:
        return True
    part.run.first_page = first_page
    e.pages = &page_view[0]
    e.changed = &changed_view[0]
    e.first_new = first_new
    e.place = e.probe = 0
    while status != EXTEND_DONE:
        with nogil:
            status = extend_pages(&e, &part.run, crc32c)
        if status == EXTEND_OVERFLOW:
            return False
        if status == EXTEND_DAMAGED:
            raise ChecksumError("a page of its lookup does not match its checksum")
        if status == EXTEND_ASK:
            if not is_named(part, e.place, name_at(e.other), secret):
                e.probe += 1
                continue
            take_slot(&e, &part.run)
        if status != EXTEND_DONE and repeated is not None:
            repeated(e.other, row_at(part, e.place - 1))
    with nogil:
        seal_changed(&e, &part.run, count, crc32c)
    return True
