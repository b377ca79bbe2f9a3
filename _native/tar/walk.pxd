"""Walk a chain of groups into rows."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from common.columns cimport columns_free, columns_push, member_columns
from tar.group cimport (
    KIND_COUNT,
    KIND_FILE,
    KIND_HARD_LINK,
    cursor,
    cursor_free,
    cursor_init,
    member_group,
    member_kind,
    read_group,
    refill,
)
from tar.extended cimport text
from tar.shared cimport SHARED_BYTES_MIN, keep_text, set_number, text_numbers
from tar.status cimport (
    WALK_GROUP,
    WALK_NEED,
    WALK_NO_MEMORY,
    WALK_SEGMENT_END,
    WALK_TURN,
    walk_status,
)
from tar.window cimport note_distance, note_header

cdef struct walker:
    cursor at
    int64_t stop                   # the walk ends at the first group from here on
    member_columns rows
    member_columns links           # name: the link's target; offset_start: its row
    member_columns texts           # long names that rows or links share
    text_numbers row_texts
    text_numbers link_texts
    int64_t kinds[KIND_COUNT]
    int64_t* group_start           # of a guessed chain, (group_count,)
    int64_t* group_row             # rows before the group
    unsigned char* group_kind
    int64_t group_count
    int64_t group_capacity


cdef inline void walker_init(
    walker* w, int fd, int64_t length, bint with_mtime
) noexcept nogil:
    memset(w, 0, sizeof(walker))
    cursor_init(&w.at, fd, length)
    w.at.with_mtime = w.rows.with_mtime = with_mtime
    w.stop = length + 1  # the group at the very end is the end itself


cdef inline void walker_free(walker* w) noexcept nogil:
    cursor_free(&w.at)
    columns_free(&w.rows)
    columns_free(&w.links)
    columns_free(&w.texts)
    free(w.row_texts.number)
    free(w.link_texts.number)
    free(w.group_start)
    free(w.group_row)
    free(w.group_kind)


cdef inline int keep_group(walker* w, member_kind kind) noexcept nogil:
    """Remember where a guessed chain's group starts, for the true chain to meet it."""
    cdef int64_t capacity
    cdef void* grown
    if w.group_count == w.group_capacity:
        capacity = max(2 * w.group_capacity, 4096)
        grown = realloc(w.group_start, capacity * sizeof(int64_t))
        if grown == NULL:
            return -1
        w.group_start = <int64_t*> grown
        grown = realloc(w.group_row, capacity * sizeof(int64_t))
        if grown == NULL:
            return -1
        w.group_row = <int64_t*> grown
        grown = realloc(w.group_kind, capacity)
        if grown == NULL:
            return -1
        w.group_kind = <unsigned char*> grown
        w.group_capacity = capacity
    w.group_start[w.group_count] = w.at.pos
    w.group_row[w.group_count] = w.rows.count
    w.group_kind[w.group_count] = kind
    w.group_count += 1
    return 0


cdef inline int push_shared(
    walker* w,
    member_columns* rows,
    text_numbers* numbers,
    int64_t* number,
    text name,
    int64_t offset_start,
    int64_t offset_end,
) noexcept nogil:
    """Append a row whose name is a text that others have, too."""
    if keep_text(&w.texts, number, name, w.at.pos) < 0:
        return -1
    if set_number(numbers, rows.count, number[0]) < 0:
        return -1
    return columns_push(rows, NULL, 0, offset_start, offset_end)


cdef inline int keep_row(
    walker* w, const member_group* group, int64_t offset_start, int64_t offset_end
) noexcept nogil:
    cdef text name = group.name
    cdef int failed
    if name.bytes == w.at.globals.path and name.length > SHARED_BYTES_MIN:
        failed = push_shared(
            w, &w.rows, &w.row_texts, &w.at.globals.path_number, name, offset_start,
            offset_end,
        )
    else:
        failed = columns_push(
            &w.rows, name.bytes, name.length, offset_start, offset_end
        )
    if failed:
        return -1
    if w.rows.with_mtime:
        w.rows.mtime[w.rows.count - 1] = group.mtime
    return 0


cdef inline int keep_link(walker* w, text target) noexcept nogil:
    """Note the target of the hard link that the next row is."""
    if target.bytes == w.at.globals.link and target.length > SHARED_BYTES_MIN:
        return push_shared(
            w, &w.links, &w.link_texts, &w.at.globals.link_number, target, w.rows.count,
            0,
        )
    return columns_push(&w.links, target.bytes, target.length, w.rows.count, 0)


cdef inline int keep_member(walker* w, const member_group* group) noexcept nogil:
    """Append the group's row, if its kind has one.

    A hard link's offsets are filled in at the end.
    """
    if w.at.speculative and keep_group(w, group.kind) < 0:
        return -1
    w.kinds[<int> group.kind] += 1
    if group.kind == KIND_FILE:
        return keep_row(w, group, group.offset_start, group.offset_end)
    if group.kind != KIND_HARD_LINK:
        return 0
    if keep_link(w, group.link_name) < 0:
        return -1
    return keep_row(w, group, -1, -1)


cdef inline walk_status walk(
    walker* w, int64_t refills, member_group* group
) noexcept nogil:
    """Walk on until the chain, the segment or the turn ends, or a fault."""
    cdef walk_status status
    while w.at.pos < w.stop:
        status = read_group(&w.at, group)
        if status == WALK_NEED:
            if refills == 0:
                return WALK_TURN
            refills -= 1
            status = refill(&w.at)
            if status != WALK_GROUP:
                return status
            continue
        if status != WALK_GROUP:
            return status
        if keep_member(w, group) < 0:
            return WALK_NO_MEMORY
        note_header(&w.at.window, group.offset_start - w.at.pos)
        note_distance(&w.at.window, group.next_start - w.at.pos)
        w.at.pos = group.next_start
    return WALK_SEGMENT_END
