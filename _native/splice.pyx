"""Lay members of one tar side by side in another: find their headers, and copy them.

A member's group is its header with the extended headers before it. Groups are copied as
they are; a header is encoded anew only where the blob has none that says the member's
name.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, strerror
from posix.stdlib cimport posix_memalign
from posix.unistd cimport pread, pwrite

from columns cimport owned_view
from extensions cimport (
    WALK_END_MARKER,
    WALK_GROUP,
    WALK_NEED,
    WALK_NO_MEMORY,
    WALK_READ_FAILED,
    WALK_SEGMENT_END,
    walk_status,
)
from headers cimport describe, header_length, member_header, put_header
from tar cimport BLOCK
from walk cimport (
    KIND_FILE,
    member_group,
    read_group,
    refill,
    walker,
    walker_free,
    walker_init,
)

from blobpack.errors import BlobChangedError, StorageError

cdef enum:
    WINDOW_BYTES = 262144
    OUTPUT_BYTES = 262144
    WINDOW_ALIGNMENT = 4096
    NEAR_BYTES = 10240             # as in walk.pxd: a window costs less than two reads
    HEADER_BYTES_MAX = 16384

cdef enum copy_status:
    COPY_DONE
    COPY_CUT                       # the source ended
    COPY_READ_FAILED
    COPY_WRITE_FAILED
    COPY_NO_MEMORY


# Groups

cdef walk_status find_group(
    walker* w, int64_t offset_start, member_group* group
) noexcept nogil:
    """Walk from w.pos to the group whose payload starts at offset_start.

    WALK_SEGMENT_END when there is none; zero blocks on the way are stepped over.
    """
    cdef walk_status status
    while w.pos < offset_start:
        status = read_group(w, group)
        if status == WALK_NEED:
            status = refill(w)
            if status != WALK_GROUP:
                return status
        elif status == WALK_END_MARKER:
            w.pos += BLOCK
        elif status != WALK_GROUP:
            return status
        elif group.offset_start == offset_start:
            return WALK_GROUP
        else:
            w.pos = group.next_start
    return WALK_SEGMENT_END


cdef void reset_walk(walker* w, int64_t pos) noexcept nogil:
    """Go to a new place; what global headers said before is not known there."""
    cdef int64_t distance = pos - w.pos if pos >= w.pos else w.pos - pos
    w.stride += (distance - w.stride) >> 3
    w.pos = pos
    free(w.globals.path)
    free(w.globals.link)
    w.globals.path = w.globals.link = NULL
    w.globals.path_length = w.globals.link_length = -1
    w.globals.apply = False


cdef inline bint says(
    const walker* w, const member_group* group, const char* name, int64_t length
) noexcept nogil:
    """Tell whether a group by itself is a file of that name."""
    return (
        group.kind == KIND_FILE
        and not w.globals.apply
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
    cdef walker w
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
    walker_init(&w, fd, length)
    try:
        with nogil:
            while row < count:
                reset_walk(&w, from_start[row])
                status = find_group(&w, offset_start[row], &group)
                if status == WALK_GROUP and group.offset_end != offset_end[row]:
                    status = WALK_SEGMENT_END
                if status != WALK_GROUP:
                    break
                name_length = name_bounds[row + 1] - name_bounds[row]
                found[row] = -1
                if says(&w, &group, packed + name_bounds[row], name_length):
                    found[row] = w.pos
                w.header_bytes = min(group.offset_start - w.pos, HEADER_BYTES_MAX)
                row += 1
        if row < count:
            raise failure(status, &w, blob, offset_start[row], offset_end[row])
        groups = owned_view(found, count, sizeof(int64_t), "q")
        if count:
            found = NULL
        return groups
    finally:
        free(found)
        walker_free(&w)


cdef object failure(
    walk_status status, const walker* w, str blob, int64_t start, int64_t end
):
    """Make the error for a member that was not found."""
    if status == WALK_NO_MEMORY:
        return MemoryError()
    if status == WALK_READ_FAILED:
        reason = strerror(w.fault_errno).decode(errors="replace")
        return StorageError(f"{blob}: can't read at byte {w.fault}: {reason}")
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


# Pieces

cdef struct copier:
    int from_fd
    int to_fd
    int64_t pos                    # where the output goes
    unsigned char* output
    int64_t output_length
    unsigned char* window
    int64_t window_start
    int64_t window_end
    int error


cdef copy_status flush(copier* c) noexcept nogil:
    cdef int64_t done = 0
    cdef ssize_t wrote
    while done < c.output_length:
        wrote = pwrite(c.to_fd, c.output + done, c.output_length - done, c.pos)
        if wrote < 0:
            if errno == EINTR:
                continue
            c.error = errno
            return COPY_WRITE_FAILED
        done += wrote
        c.pos += wrote
    c.output_length = 0
    return COPY_DONE


cdef copy_status read_some(
    copier* c, unsigned char* to, int64_t size, int64_t pos, int64_t* got
) noexcept nogil:
    """Read at least one byte."""
    cdef ssize_t brought = pread(c.from_fd, to, size, pos)
    while brought < 0 and errno == EINTR:
        brought = pread(c.from_fd, to, size, pos)
    got[0] = brought
    if brought < 0:
        c.error = errno
        return COPY_READ_FAILED
    return COPY_CUT if brought == 0 else COPY_DONE


cdef copy_status copy_piece(
    copier* c, int64_t pos, int64_t size, bint by_window
) noexcept nogil:
    """Append a range of the source to the output."""
    cdef copy_status status = COPY_DONE
    cdef int64_t take
    while size > 0:
        if c.output_length == OUTPUT_BYTES:
            status = flush(c)
            if status != COPY_DONE:
                return status
        take = min(size, OUTPUT_BYTES - c.output_length)
        if c.window_start <= pos < c.window_end:
            take = min(take, c.window_end - pos)
            memcpy(
                c.output + c.output_length, c.window + (pos - c.window_start), take
            )
        elif by_window:
            c.window_start = c.window_end = pos
            status = read_some(c, c.window, WINDOW_BYTES, pos, &take)
            if status != COPY_DONE:
                return status
            c.window_end += take
            continue
        else:
            status = read_some(c, c.output + c.output_length, take, pos, &take)
            if status != COPY_DONE:
                return status
        c.output_length += take
        pos += take
        size -= take
    return COPY_DONE


cdef copy_status copy_literal(
    copier* c, const unsigned char* literal, int64_t size
) noexcept nogil:
    """Append bytes from memory to the output."""
    cdef copy_status status
    cdef int64_t take
    while size > 0:
        if c.output_length == OUTPUT_BYTES:
            status = flush(c)
            if status != COPY_DONE:
                return status
        take = min(size, OUTPUT_BYTES - c.output_length)
        memcpy(c.output + c.output_length, literal, take)
        c.output_length += take
        literal += take
        size -= take
    return COPY_DONE


cdef copy_status copy_all(
    copier* c,
    const unsigned char* literals,
    const int64_t[::1] pieces,
    const int64_t[::1] sizes,
) noexcept nogil:
    cdef copy_status status = COPY_DONE
    cdef int64_t count = pieces.shape[0], i, end
    cdef bint near
    for i in range(count):
        if pieces[i] < 0:
            status = copy_literal(c, literals + ~pieces[i], sizes[i])
        else:
            end = pieces[i] + sizes[i]
            near = i + 1 < count and end <= pieces[i + 1] < end + NEAR_BYTES
            status = copy_piece(c, pieces[i], sizes[i], near)
        if status != COPY_DONE:
            return status
    return flush(c)


def copy_pieces(
    int from_fd,
    int to_fd,
    int64_t pos,
    const unsigned char[::1] literals not None,
    const int64_t[::1] pieces not None,
    const int64_t[::1] sizes not None,
):
    """Write ranges of one file, and bytes from memory, one behind the other.

    Args:
        from_fd: Open for reading.
        to_fd: Open for writing.
        pos: Where in it to write.
        literals: Bytes from memory.
        pieces: (n,) where in from_fd each starts; ~start for one from literals.
        sizes: (n,) their bytes, not negative.

    Returns:
        Whether the source ended too early, the errno of a read that failed and the
        errno of a write that failed; 0 where nothing did.

    Raises:
        ValueError: a piece lies outside the literals.
    """
    cdef copier c
    cdef copy_status status = COPY_NO_MEMORY
    cdef const unsigned char* memory = b""
    cdef void* window = NULL
    cdef int64_t i
    if sizes.shape[0] != pieces.shape[0]:
        raise ValueError("columns of different lengths")
    for i in range(pieces.shape[0]):
        if sizes[i] < 0 or (
            pieces[i] < 0 and sizes[i] > literals.shape[0] - ~pieces[i]
        ):
            raise ValueError(f"piece {i}: {sizes[i]} bytes at {pieces[i]}")
    if literals.shape[0]:
        memory = &literals[0]
    c.from_fd = from_fd
    c.to_fd = to_fd
    c.pos = pos
    c.output_length = c.window_start = c.window_end = 0
    c.error = 0
    c.output = <unsigned char*> malloc(OUTPUT_BYTES)
    if posix_memalign(&window, WINDOW_ALIGNMENT, WINDOW_BYTES) != 0:
        window = NULL
    c.window = <unsigned char*> window
    try:
        if c.output != NULL and window != NULL:
            with nogil:
                status = copy_all(&c, memory, pieces, sizes)
        if status == COPY_NO_MEMORY:
            raise MemoryError
        return (
            status == COPY_CUT,
            c.error if status == COPY_READ_FAILED else 0,
            c.error if status == COPY_WRITE_FAILED else 0,
        )
    finally:
        free(c.output)
        free(window)
