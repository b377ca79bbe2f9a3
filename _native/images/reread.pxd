"""Read a blob's payloads again, in windows, by several threads, and take facts of them.

Small payloads that lie together come in one read; large ones pass through the window in
pieces. Each thread takes the next window in archive order, so the disk is read nearly
in sequence.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport realloc
from posix.unistd cimport pread

from common.blob_rows cimport blob_rows
from common.crc32c cimport crc32c_function
from images.fact_columns cimport fact_columns, note_bytes, note_image
from images.sniff cimport media_type_of
from images.payload cimport peek, peek_at
from common.pthreads cimport pthread_mutex_lock, pthread_mutex_unlock
from common.threads cimport count_done, leave_team, thread_team

cdef enum:
    WINDOW_BYTES = 524288          # still in the cache when the checksum is taken
    GAP_BYTES_MAX = 16384          # cheaper to read than to read around
    READ_ENDED = 0                 # in place of an errno: the file ends first

cdef struct fault:
    int64_t row
    int error                      # errno, or READ_ENDED

cdef struct rereading:
    int fd
    int64_t size                   # the blob's
    blob_rows rows
    bint images                    # types and sizes too, not only checksums
    crc32c_function extend
    fact_columns facts
    thread_team team
    int64_t next_row
    fault* faults
    int64_t fault_count
    int64_t fault_capacity
    int no_memory

cdef struct reader:
    rereading* all
    unsigned char* window


cdef inline void take_payload(
    rereading* r, int64_t row, peek* payload
) noexcept nogil:
    """Compute facts from a payload's first bytes."""
    cdef int64_t first = r.rows.name_bounds[row], last = r.rows.name_bounds[row + 1]
    if not 0 <= first <= last <= r.rows.names_length:
        first = last = 0
    if r.images:
        note_image(&r.facts, row, payload, media_type_of(
            payload.bytes, payload.at_hand, r.rows.names + first, last - first
        ))
    note_bytes(&r.facts, row, r.extend, payload.bytes, payload.at_hand)


cdef inline void keep_fault(rereading* r, int64_t row, int error) noexcept nogil:
    cdef int64_t capacity
    cdef void* grown
    pthread_mutex_lock(&r.team.lock)
    if r.fault_count == r.fault_capacity:
        capacity = max(2 * r.fault_capacity, 64)
        grown = realloc(r.faults, capacity * sizeof(fault))
        if grown == NULL:
            r.no_memory = True
            pthread_mutex_unlock(&r.team.lock)
            return
        r.faults = <fault*> grown
        r.fault_capacity = capacity
    r.faults[r.fault_count].row = row
    r.faults[r.fault_count].error = error
    r.fault_count += 1
    pthread_mutex_unlock(&r.team.lock)


cdef inline bint within(const rereading* r, int64_t row) noexcept nogil:
    """Check that a row's bytes lie within the blob."""
    return 0 <= r.rows.offset_start[row] <= r.rows.offset_end[row] <= r.size


cdef inline int64_t take_window(rereading* r, int64_t* last) noexcept nogil:
    """Claim the next rows that fit one window: the first; -1 when none is left."""
    cdef int64_t first, row, start, end
    pthread_mutex_lock(&r.team.lock)
    first = row = r.next_row
    if row < r.rows.count:
        row += 1
        if within(r, first):
            start, end = r.rows.offset_start[first], r.rows.offset_end[first]
            while (
                row < r.rows.count
                and within(r, row)
                and 0 <= r.rows.offset_start[row] - end <= GAP_BYTES_MAX
                and r.rows.offset_end[row] - start <= WINDOW_BYTES
            ):
                end = r.rows.offset_end[row]
                row += 1
        r.next_row = last[0] = row
    else:
        first = -1
    pthread_mutex_unlock(&r.team.lock)
    return first


cdef inline int64_t read_window(
    reader* at, int64_t start, int64_t wanted, int* error
) noexcept nogil:
    """Fill the window; fewer bytes than wanted at the file's end or at an error."""
    cdef int64_t done = 0
    cdef ssize_t got
    error[0] = READ_ENDED
    while done < wanted:
        got = pread(at.all.fd, at.window + done, wanted - done, start + done)
        if got < 0 and errno == EINTR:
            continue
        if got < 0:
            error[0] = errno
        if got <= 0:
            break
        done += got
    return done


cdef inline void take_large(reader* at, int64_t row) noexcept nogil:
    """Pass one payload through the window in pieces."""
    cdef rereading* r = at.all
    cdef int64_t start = r.rows.offset_start[row], size = r.rows.offset_end[row] - start
    cdef int64_t done = 0, wanted
    cdef int error
    cdef peek payload
    while done < size and not r.team.cancelled:
        wanted = min(size - done, <int64_t> WINDOW_BYTES)
        if read_window(at, start + done, wanted, &error) < wanted:
            keep_fault(r, row, error)
            return
        if done == 0:
            peek_at(&payload, at.window, wanted, size)
            payload.fd = r.fd
            payload.fd_start = start
            take_payload(r, row, &payload)
        else:
            note_bytes(&r.facts, row, r.extend, at.window, wanted)
        done += wanted


cdef inline void take_small(reader* at, int64_t first, int64_t last) noexcept nogil:
    """Read the rows first:last in one window."""
    cdef rereading* r = at.all
    cdef int64_t start = r.rows.offset_start[first]
    cdef int64_t wanted = min(
        r.rows.offset_end[last - 1] - start, <int64_t> WINDOW_BYTES
    )
    cdef int64_t row, begin, end, got
    cdef int error
    cdef peek payload
    got = read_window(at, start, wanted, &error)
    for row in range(first, last):
        begin, end = r.rows.offset_start[row] - start, r.rows.offset_end[row] - start
        if not 0 <= begin <= end <= got:
            keep_fault(r, row, error)
            continue
        peek_at(&payload, at.window + begin, end - begin, end - begin)
        take_payload(r, row, &payload)


cdef inline void read_windows(reader* at) noexcept nogil:
    cdef rereading* r = at.all
    cdef int64_t first, last, row, taken
    while not r.team.cancelled:
        first = take_window(r, &last)
        if first < 0:
            return
        if not within(r, first):
            keep_fault(r, first, READ_ENDED)
        elif r.rows.offset_end[last - 1] - r.rows.offset_start[first] > WINDOW_BYTES:
            take_large(at, first)
        else:
            take_small(at, first, last)
        taken = 0
        for row in range(first, last):
            if within(r, row):
                taken += r.rows.offset_end[row] - r.rows.offset_start[row]
        count_done(&r.team, last - first, taken)


cdef inline void* reread(void* argument) noexcept nogil:
    """Read windows until none is left: the body of each thread."""
    cdef reader* at = <reader*> argument
    read_windows(at)
    leave_team(&at.all.team)
    return NULL
