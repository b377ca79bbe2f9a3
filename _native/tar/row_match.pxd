"""Compare a local blob with its index in one pass, by several threads.

Each thread takes a run of rows that lie together. It walks the headers from the end of
the row before, and must arrive exactly at these rows and at their end. So all runs
together are one chain of headers, as a scan from the first byte follows. While bytes
of a run are still in the processor's cache, its payloads are compared with their
checksums, or the run is copied into another file.

If anything differs from the index, the pass ends. The caller then finds the reason.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcmp
from posix.unistd cimport pread, pwrite

from common.blob_rows cimport blob_rows
from common.crc32c cimport crc32c_function
from common.pthreads cimport pthread_mutex_lock, pthread_mutex_unlock
from common.threads cimport call_off, count_done, leave_team, thread_team
from common.writeback cimport start_writeback
from tar.group cimport (
    KIND_FILE,
    KIND_HARD_LINK,
    cursor,
    cursor_init,
    member_group,
    read_group,
)
from tar.header cimport padded
from tar.status cimport (
    WALK_END_MARKER,
    WALK_GROUP,
    WALK_NEED,
    WALK_NO_MARKER,
    walk_status,
)

cdef enum:
    RUN_BYTES = 524288             # still in the cache when the checksum is taken
    PAGE = 4096                    # the system copies faster from a page's beginning

cdef struct matching:
    int fd
    int64_t size                   # the blob's
    blob_rows rows
    const uint32_t* crc32c         # of each row; NULL: payloads are not compared
    int64_t start                  # where the headers of the first row begin
    crc32c_function extend
    int to_fd                      # where the runs are copied to; -1: nowhere
    int64_t to_pos                 # where in that file the first one goes
    thread_team team
    int64_t next_row
    bint differs
    int write_error                # errno

cdef struct matcher:
    matching* all
    unsigned char* window          # (RUN_BYTES + PAGE,)
    cursor at


cdef inline int64_t start_of(const matching* m, int64_t row) noexcept nogil:
    """Return where the headers of a row begin, by the index; -1 if it lies nowhere."""
    cdef int64_t end
    if row == 0:
        return m.start
    end = m.rows.offset_end[row - 1]
    return padded(end) if 0 <= end <= m.size else -1


cdef inline int64_t take_run(matching* m, int64_t* last) noexcept nogil:
    """Claim the next rows that fit the window, at least one; -1: none is left."""
    cdef int64_t first, row, start
    pthread_mutex_lock(&m.team.lock)
    first = row = m.next_row
    if row < m.rows.count:
        start = start_of(m, first)
        row += 1
        while row < m.rows.count and 0 <= start_of(m, row + 1) - start <= RUN_BYTES:
            row += 1
        m.next_row = last[0] = row
    else:
        first = -1
    pthread_mutex_unlock(&m.team.lock)
    return first


cdef inline int64_t read_at(
    matcher* by, int64_t start, int64_t wanted
) noexcept nogil:
    """Read bytes into the window, fewer at the end of the file or at an error."""
    cdef int64_t done = 0
    cdef ssize_t got
    while done < wanted:
        got = pread(by.all.fd, by.window + done, wanted - done, start + done)
        if got < 0 and errno == EINTR:
            continue
        if got <= 0:
            break
        done += got
    return done


cdef inline bint bring(matcher* by, int64_t end) noexcept nogil:
    """Read the window anew from the cursor on, up to `end` if there is room."""
    cdef int64_t start = by.at.pos & ~(<int64_t> PAGE - 1)
    cdef int64_t wanted = min(
        max(end, by.at.window.need_end) - start, <int64_t> RUN_BYTES + PAGE
    )
    if by.at.window.need_end > start + wanted:
        return False
    by.at.window.start = start
    by.at.window.end = start + read_at(by, start, wanted)
    return by.at.window.need_end <= by.at.window.end


cdef inline bint payload_matches(matcher* by, int64_t row) noexcept nogil:
    """Compare a payload with its checksum; what the window does not hold is read."""
    cdef matching* m = by.all
    cdef int64_t pos = m.rows.offset_start[row], end = m.rows.offset_end[row]
    cdef int64_t length
    cdef uint32_t crc = 0
    if pos < by.at.window.end:
        length = min(end, by.at.window.end) - pos
        crc = m.extend(0, by.window + (pos - by.at.window.start), length)
        pos += length
    while pos < end:
        by.at.window.start = by.at.window.end = 0
        length = min(end - pos, <int64_t> RUN_BYTES)
        if m.team.cancelled or read_at(by, pos, length) < length:
            return False
        crc = m.extend(crc, by.window, length)
        pos += length
    return crc == m.crc32c[row]


cdef inline bint row_matches(
    const matching* m, int64_t row, const member_group* group
) noexcept nogil:
    """Compare name and offsets."""
    cdef int64_t first = m.rows.name_bounds[row], last = m.rows.name_bounds[row + 1]
    return (
        0 <= first <= last <= m.rows.names_length
        and group.offset_start == m.rows.offset_start[row]
        and group.offset_end == m.rows.offset_end[row]
        and group.name.length == last - first
        and memcmp(group.name.bytes, m.rows.names + first, last - first) == 0
    )


cdef inline walk_status next_group(
    matcher* by, member_group* group, int64_t end
) noexcept nogil:
    """Read the group at the cursor, and the window as far as it is needed."""
    cdef walk_status status
    while True:
        status = read_group(&by.at, group)
        if status != WALK_NEED or not bring(by, end):
            return status


cdef inline bint group_matches(
    matcher* by, int64_t pos, int64_t* row, const member_group* group
) noexcept nogil:
    """Compare the group that began at pos with the next row, if it has one."""
    cdef matching* m = by.all
    if group.kind != KIND_FILE:
        # a folder has no row, and is not copied, either
        return group.kind != KIND_HARD_LINK and m.to_fd < 0
    # a global header before the group is not the member's
    if not row_matches(m, row[0], group) or (m.to_fd >= 0 and by.at.pos != pos):
        return False
    if m.crc32c != NULL and not payload_matches(by, row[0]):
        return False
    row[0] += 1
    return True


cdef inline bint run_matches(matcher* by, int64_t first, int64_t last) noexcept nogil:
    """Walk from one row to another, and compare the rows on the way."""
    cdef matching* m = by.all
    cdef int64_t row = first, end = start_of(m, last), pos
    cdef member_group group
    by.at.pos = start_of(m, first)
    if not 0 <= by.at.pos <= end:
        return False
    while row < last:
        pos = by.at.pos
        if next_group(by, &group, end) != WALK_GROUP:
            return False
        if not group_matches(by, pos, &row, &group):
            return False
        by.at.pos = group.next_start
    return by.at.pos == end


cdef inline bint write_out(
    matching* m, const unsigned char* bytes, int64_t size, int64_t pos
) noexcept nogil:
    """Write bytes of the blob to where they belong in the other file."""
    cdef ssize_t wrote
    pos += m.to_pos - m.start
    while size > 0:
        wrote = pwrite(m.to_fd, bytes, size, pos)
        if wrote < 0 and errno == EINTR:
            continue
        if wrote < 0:
            m.write_error = errno
            return False
        start_writeback(m.to_fd, pos, pos + wrote)
        bytes += wrote
        size -= wrote
        pos += wrote
    return True


cdef inline bint copy_run(matcher* by, int64_t first, int64_t last) noexcept nogil:
    """Copy a run that was compared; what the window does not hold is read."""
    cdef matching* m = by.all
    cdef int64_t pos = start_of(m, first), end = start_of(m, last), size
    while pos < end and not m.team.cancelled:
        if not by.at.window.start <= pos < by.at.window.end:
            by.at.pos = by.at.window.need_end = pos
            if not bring(by, end) or by.at.window.end <= pos:
                return False
        size = min(end, by.at.window.end) - pos
        if not write_out(m, by.window + (pos - by.at.window.start), size, pos):
            return False
        pos += size
    return pos == end


cdef inline int64_t end_of_archive(matcher* by) noexcept nogil:
    """Walk on behind the last row: return where the archive ends.

    -1 if more members follow, or a header is damaged.
    """
    cdef member_group group
    cdef walk_status status
    by.at.pos = start_of(by.all, by.all.rows.count)
    while by.at.pos >= 0:
        status = next_group(by, &group, by.at.pos + PAGE)
        if status == WALK_END_MARKER or status == WALK_NO_MARKER:
            return by.at.pos
        if status != WALK_GROUP or group.kind in (KIND_FILE, KIND_HARD_LINK):
            return -1
        by.at.pos = group.next_start
    return -1


cdef inline void matcher_init(
    matcher* by, matching* m, unsigned char* window
) noexcept nogil:
    by.all = m
    by.window = window
    cursor_init(&by.at, m.fd, m.size)
    by.at.window.bytes = window
    by.at.speculative = True       # a global header that matters ends the walk


cdef inline void count_run(matching* m, int64_t first, int64_t last) noexcept nogil:
    """Count rows that match, for progress."""
    cdef int64_t size = 0, row
    for row in range(first, last):
        size += m.rows.offset_end[row] - m.rows.offset_start[row]
    count_done(&m.team, last - first, size)


cdef inline void* match_runs(void* argument) noexcept nogil:
    """Compare runs of rows until none is left, or one differs: the body of a thread."""
    cdef matcher* by = <matcher*> argument
    cdef matching* m = by.all
    cdef int64_t first, last
    while not m.team.cancelled:
        first = take_run(m, &last)
        if first < 0:
            break
        if not run_matches(by, first, last) or (
            m.to_fd >= 0 and not copy_run(by, first, last)
        ):
            m.differs = True
            call_off(&m.team)
            break
        count_run(m, first, last)
    leave_team(&m.team)
    return NULL
