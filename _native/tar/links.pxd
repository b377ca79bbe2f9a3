"""Hard links: a row that points at its target's payload."""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memmove

from common.columns cimport member_columns
from tar.extended cimport text
from common.hash cimport hash_name


cdef inline text without_dot(const char* name, int64_t length) noexcept nogil:
    """Leave out "./" in front: a member and the links to it may differ in it."""
    cdef text short
    while length > 2 and name[0] == b"." and name[1] == b"/":
        name += 2
        length -= 2
    short.bytes = <const unsigned char*> name
    short.length = length
    return short


cdef inline int64_t find_slot(
    const int64_t* slots,
    int64_t mask,
    uint64_t seed,
    const member_columns* links,
    text name,
) noexcept nogil:
    """Find a link target's slot in the table, or the free one where it belongs."""
    cdef int64_t slot = hash_name(<const char*> name.bytes, name.length, seed) & mask
    cdef text other
    while slots[slot] >= 0:
        other = without_dot(
            links.names + links.name_bounds[slots[slot]],
            links.name_bounds[slots[slot] + 1] - links.name_bounds[slots[slot]],
        )
        if (
            other.length == name.length
            and memcmp(other.bytes, name.bytes, name.length) == 0
        ):
            return slot
        slot = (slot + 1) & mask
    return slot


cdef inline void point_links(
    member_columns* rows,
    member_columns* links,
    int64_t* slots,
    int64_t mask,
    uint64_t seed,
) noexcept nogil:
    """Point each link at the last earlier payload that has its target's name."""
    cdef int64_t row, slot, link = 0
    cdef text name
    for row in range(links.count):                 # offset_end: the target's row so far
        links.offset_end[row] = -1
        slot = find_slot(slots, mask, seed, links, without_dot(
            links.names + links.name_bounds[row],
            links.name_bounds[row + 1] - links.name_bounds[row],
        ))
        if slots[slot] < 0:
            slots[slot] = row
    for row in range(rows.count):
        if link < links.count and links.offset_start[link] == row:
            slot = find_slot(slots, mask, seed, links, without_dot(
                links.names + links.name_bounds[link],
                links.name_bounds[link + 1] - links.name_bounds[link],
            ))
            link += 1
            slot = links.offset_end[slots[slot]]
            if slot >= 0:
                rows.offset_start[row] = rows.offset_start[slot]
                rows.offset_end[row] = rows.offset_end[slot]
        name = without_dot(
            rows.names + rows.name_bounds[row],
            rows.name_bounds[row + 1] - rows.name_bounds[row],
        )
        slot = find_slot(slots, mask, seed, links, name)
        if slots[slot] >= 0 and rows.offset_start[row] >= 0:
            links.offset_end[slots[slot]] = row


cdef inline int64_t drop_dangling(member_columns* rows) noexcept nogil:
    """Remove the rows that found no payload, and count them."""
    cdef int64_t row, kept = 0, length, used = 0
    for row in range(rows.count):
        if rows.offset_start[row] < 0:
            continue
        length = rows.name_bounds[row + 1] - rows.name_bounds[row]
        memmove(rows.names + used, rows.names + rows.name_bounds[row], length)
        used += length
        rows.offset_start[kept] = rows.offset_start[row]
        rows.offset_end[kept] = rows.offset_end[row]
        if rows.with_mtime:
            rows.mtime[kept] = rows.mtime[row]
        kept += 1
        rows.name_bounds[kept] = used  # kept <= row + 1, and that bound has been read
    row = rows.count - kept
    rows.count = kept
    return row


cdef inline int64_t resolve_links(
    member_columns* rows, member_columns* links, uint64_t seed
) noexcept nogil:
    """Point every hard link at its payload.

    The number of those that dangle, or -1: no memory.
    """
    cdef int64_t mask = 2, i
    cdef int64_t* slots
    if links.count == 0:
        return 0
    while mask < 2 * links.count:
        mask *= 2
    slots = <int64_t*> malloc(mask * sizeof(int64_t))
    if slots == NULL:
        return -1
    for i in range(mask):
        slots[i] = -1
    point_links(rows, links, slots, mask - 1, seed)
    free(slots)
    return drop_dangling(rows)
