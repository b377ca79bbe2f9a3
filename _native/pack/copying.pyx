"""Copy ranges of one file into another, and bytes from memory between them."""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from posix.stdlib cimport posix_memalign
from posix.unistd cimport pread, pwrite

from common.writeback cimport start_writeback

from blobpack._native.results import Copied

cdef enum:
    WINDOW_BYTES = 262144
    OUTPUT_BYTES = 262144
    WINDOW_ALIGNMENT = 4096
    NEAR_BYTES = 10240             # a window costs less than two reads, warm

cdef enum copy_status:
    COPY_DONE
    COPY_CUT                       # the source ended
    COPY_READ_FAILED
    COPY_WRITE_FAILED
    COPY_NO_MEMORY

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
        start_writeback(c.to_fd, c.pos, c.pos + wrote)
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


cdef int check_pieces(
    int64_t literal_bytes, const int64_t[::1] pieces, const int64_t[::1] sizes
) except -1:
    """Raise ValueError for a piece outside the literals."""
    cdef int64_t i
    if sizes.shape[0] != pieces.shape[0]:
        raise ValueError("columns of different lengths")
    for i in range(pieces.shape[0]):
        if sizes[i] < 0 or (pieces[i] < 0 and sizes[i] > literal_bytes - ~pieces[i]):
            raise ValueError(f"piece {i}: {sizes[i]} bytes at {pieces[i]}")
    return 0


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
        Copied.

    Raises:
        ValueError: a piece lies outside the literals.
    """
    cdef copier c
    cdef copy_status status = COPY_NO_MEMORY
    cdef const unsigned char* memory = b""
    cdef void* window = NULL
    check_pieces(literals.shape[0], pieces, sizes)
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
        return Copied(
            status == COPY_CUT,
            c.error if status == COPY_READ_FAILED else 0,
            c.error if status == COPY_WRITE_FAILED else 0,
        )
    finally:
        free(c.output)
        free(window)
