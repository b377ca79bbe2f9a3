"""Find the headers of a tar's members, or encode them anew, to lay members elsewhere.

A member's group is its header with the extended headers before it. Groups are copied as
they are; a header is encoded anew only where the blob has none that says the member's
name.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, strerror

from common.columns cimport owned_view
from tar.group cimport (
    KIND_FILE,
    cursor,
    cursor_free,
    cursor_init,
    forget_globals,
    member_group,
    read_group,
    refill,
)
from tar.write_header cimport describe, header_length, member_header, put_header
from tar.header cimport BLOCK
from tar.status cimport (
    WALK_END_MARKER,
    WALK_GROUP,
    WALK_NEED,
    WALK_NO_MEMORY,
    WALK_READ_FAILED,
    WALK_SEGMENT_END,
    walk_status,
)
from tar.window cimport note_distance, note_header

from blobpack.errors import BlobChangedError, StorageError


cdef walk_status find_group(
    cursor* at, int64_t offset_start, int64_t offset_end, member_group* group
) noexcept nogil:
    """Walk on to the group whose payload that is.

    WALK_SEGMENT_END when there is none; zero blocks on the way are stepped over.
    """
    cdef walk_status status
    while at.pos < offset_start:
        status = read_group(at, group)
        if status == WALK_NEED:
            status = refill(at)
            if status != WALK_GROUP:
                return status
        elif status == WALK_END_MARKER:
            at.pos += BLOCK
        elif status != WALK_GROUP:
            return status
        elif group.offset_start == offset_start:
            note_header(&at.window, offset_start - at.pos)
            return WALK_GROUP if group.offset_end == offset_end else WALK_SEGMENT_END
        else:
            at.pos = group.next_start
    return WALK_SEGMENT_END


cdef void go_to(cursor* at, int64_t pos) noexcept nogil:
    """Go to a new place; what global headers said before is not known there."""
    note_distance(&at.window, pos - at.pos if pos >= at.pos else at.pos - pos)
    at.pos = pos
    forget_globals(at)


cdef inline bint says(
    const cursor* at, const member_group* group, const char* name, int64_t length
) noexcept nogil:
    """Check that a group by itself describes a file of that name."""
    return (
        group.kind == KIND_FILE
        and not at.globals.apply
        and group.name.length == length
        and (length == 0 or memcmp(group.name.bytes, name, length) == 0)
    )


def find_groups(
    int fd,
    int64_t length,
    str blob not None,
    const int64_t[::1] from_start not None,
    const int64_t[::1] offset_start not None,
    const int64_t[::1] offset_end not None,
    const unsigned char[::1] names not None,
    const int64_t[::1] name_bounds not None,
):
    """Find where each member's headers start.

    Args:
        fd: The blob, open for reading.
        length: Its bytes.
        blob: Its name, for messages.
        from_start: (n,) where a group begins, at or before the member's own.
        offset_start, offset_end: (n,) the members' payloads.
        names, name_bounds: The members' names; the bounds (n + 1,).

    Returns:
        (n,) int64; -1 where a copy of the headers would not say the name: of a hard
        link, or of a member that is named by a global header.

    Raises:
        BlobChangedError: there is no member with such a payload.
        StorageError: the file can't be read.
    """
    cdef cursor at
    cdef member_group group
    cdef walk_status status = WALK_GROUP
    cdef int64_t count = offset_start.shape[0], row = 0, name_length
    cdef const char* packed = b""
    cdef int64_t* found
    if (
        from_start.shape[0] != count
        or offset_end.shape[0] != count
        or name_bounds.shape[0] != count + 1
    ):
        raise ValueError("columns of different lengths")
    if names.shape[0]:
        packed = <const char*> &names[0]
    found = <int64_t*> malloc(max(count, 1) * sizeof(int64_t))
    if found == NULL:
        raise MemoryError
    cursor_init(&at, fd, length)
    try:
        with nogil:
            while row < count:
                go_to(&at, from_start[row])
                status = find_group(&at, offset_start[row], offset_end[row], &group)
                if status != WALK_GROUP:
                    break
                name_length = name_bounds[row + 1] - name_bounds[row]
                found[row] = -1
                if says(&at, &group, packed + name_bounds[row], name_length):
                    found[row] = at.pos
                row += 1
        if row < count:
            raise failure(status, &at, blob, offset_start[row], offset_end[row])
        groups = owned_view(found, count, sizeof(int64_t), "q")
        if count:
            found = NULL
        return groups
    finally:
        free(found)
        cursor_free(&at)


cdef object failure(
    walk_status status, const cursor* at, str blob, int64_t start, int64_t end
):
    """Make the error for a member that was not found."""
    if status == WALK_NO_MEMORY:
        return MemoryError()
    if status == WALK_READ_FAILED:
        reason = strerror(at.window.error).decode(errors="replace")
        return StorageError(f"{blob}: can't read at byte {at.fault}: {reason}")
    return BlobChangedError(
        f"{blob}: the index is not this blob's: no member's payload lies from byte "
        f"{start} to {end}"
    )


# Headers

def encode_headers(
    const unsigned char[::1] names not None,
    const int64_t[::1] name_bounds not None,
    const int64_t[::1] sizes not None,
    const int64_t[::1] mtimes not None,
):
    """Make the headers of many members, one behind the other.

    Args:
        names, name_bounds: The names; the bounds (n + 1,).
        sizes: (n,) the payloads' bytes.
        mtimes: (n,) seconds since 1970 UTC.

    Returns:
        headers, header_bounds: Views of bytes and of int64, (n + 1,).
    """
    cdef int64_t count = sizes.shape[0], row
    cdef member_header header
    cdef const unsigned char* packed = b""
    cdef unsigned char* encoded = NULL
    cdef int64_t* bounds = NULL
    if name_bounds.shape[0] != count + 1 or mtimes.shape[0] != count:
        raise ValueError("columns of different lengths")
    if names.shape[0]:
        packed = &names[0]
    bounds = <int64_t*> malloc((count + 1) * sizeof(int64_t))
    if bounds == NULL:
        raise MemoryError
    try:
        bounds[0] = 0
        with nogil:
            for row in range(count):
                describe_row(
                    &header, packed, &name_bounds[row], sizes[row], mtimes[row]
                )
                bounds[row + 1] = bounds[row] + header_length(&header)
        encoded = <unsigned char*> malloc(max(bounds[count], 1))
        if encoded == NULL:
            raise MemoryError
        with nogil:
            for row in range(count):
                describe_row(
                    &header, packed, &name_bounds[row], sizes[row], mtimes[row]
                )
                put_header(encoded + bounds[row], &header)
        headers = owned_view(encoded, bounds[count], 1, "B")
        if bounds[count]:
            encoded = NULL
        header_bounds = owned_view(bounds, count + 1, sizeof(int64_t), "q")
        bounds = NULL
        return headers, header_bounds
    finally:
        free(encoded)
        free(bounds)


cdef inline void describe_row(
    member_header* header,
    const unsigned char* packed,
    const int64_t* bound,
    int64_t size,
    int64_t mtime,
) noexcept nogil:
    describe(header, packed + bound[0], bound[1] - bound[0], size, mtime)
