"""Hard links: a row that points at its target's payload."""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memmove

from common.columns cimport member_columns
from tar.extended cimport text
from tar.shared cimport name_in_row, text_numbers
from common.hash cimport hash_name


cdef struct name_source:
    const member_columns* rows
    const text_numbers* numbers
    int64_t last_number            # of the text that was looked up last, and its slot
    int64_t last_slot

cdef struct link_table:  # from the names of targets to links
    int64_t* slots                 # a link of that target; -1: free
    int64_t mask
    uint64_t seed
    name_source links
    const member_columns* texts


cdef inline text without_dot(text name) noexcept nogil:
    """Leave out "./" in front: a member and the links to it may differ in it."""
    while name.length > 2 and name.bytes[0] == b"." and name.bytes[1] == b"/":
        name.bytes += 2
        name.length -= 2
    return name


cdef inline text name_of(
    const name_source* names, int64_t row, const member_columns* texts
) noexcept nogil:
    return without_dot(name_in_row(names.rows, row, names.numbers, texts))


cdef inline int64_t find_slot(
    const link_table* table, name_source* names, int64_t row
) noexcept nogil:
    """Find the slot of a row's name, or the free one where it belongs."""
    cdef text name, other
    cdef int64_t slot, number = -1
    if row < names.numbers.capacity:
        number = names.numbers.number[row]
    if number >= 0 and number == names.last_number:
        return names.last_slot                     # hashing it again would take 1 ms
    name = name_of(names, row, table.texts)
    slot = hash_name(<const char*> name.bytes, name.length, table.seed) & table.mask
    while table.slots[slot] >= 0:
        other = name_of(&table.links, table.slots[slot], table.texts)
        if (
            other.length == name.length
            and memcmp(other.bytes, name.bytes, name.length) == 0
        ):
            break
        slot = (slot + 1) & table.mask
    names.last_number = number
    names.last_slot = slot
    return slot


cdef inline void point_links(
    link_table* table, member_columns* rows, member_columns* links,
    name_source* row_names, name_source* link_names,
) noexcept nogil:
    """Point each link at the last earlier payload that has its target's name."""
    cdef int64_t row, slot, link = 0
    for row in range(links.count):                 # offset_end: the target's row so far
        links.offset_end[row] = -1
        # any link of a target may stand for all of them
        table.slots[find_slot(table, link_names, row)] = row
    for row in range(rows.count):
        if link < links.count and links.offset_start[link] == row:
            slot = find_slot(table, link_names, link)
            link += 1
            slot = links.offset_end[table.slots[slot]]
            if slot >= 0:
                rows.offset_start[row] = rows.offset_start[slot]
                rows.offset_end[row] = rows.offset_end[slot]
        slot = find_slot(table, row_names, row)
        if table.slots[slot] >= 0 and rows.offset_start[row] >= 0:
            links.offset_end[table.slots[slot]] = row


cdef inline int64_t drop_dangling(
    member_columns* rows, text_numbers* row_texts
) noexcept nogil:
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
        if row < row_texts.capacity:
            row_texts.number[kept] = row_texts.number[row]
        elif kept < row_texts.capacity:
            row_texts.number[kept] = -1
        kept += 1
        rows.name_bounds[kept] = used  # kept <= row + 1, and that bound has been read
    row = rows.count - kept
    rows.count = kept
    return row


cdef inline int64_t resolve_links(
    member_columns* rows,
    member_columns* links,
    text_numbers* row_texts,
    const text_numbers* link_texts,
    const member_columns* texts,
    uint64_t seed,
) noexcept nogil:
    """Point every hard link at its payload.

    The number of those that dangle, or -1: no memory.
    """
    cdef int64_t i
    cdef link_table table
    cdef name_source row_names, link_names
    if links.count == 0:
        return 0
    row_names.rows = rows
    row_names.numbers = row_texts
    link_names.rows = links
    link_names.numbers = link_texts
    row_names.last_number = link_names.last_number = -1
    row_names.last_slot = link_names.last_slot = 0
    table.links = link_names
    table.texts = texts
    table.seed = seed
    table.mask = 2
    while table.mask < 2 * links.count:
        table.mask *= 2
    table.slots = <int64_t*> malloc(table.mask * sizeof(int64_t))
    if table.slots == NULL:
        return -1
    for i in range(table.mask):
        table.slots[i] = -1
    table.mask -= 1
    point_links(&table, rows, links, &row_names, &link_names)
    free(table.slots)
    return drop_dangling(rows, row_texts)
