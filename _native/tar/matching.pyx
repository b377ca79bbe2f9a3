"""Compare a local blob with its index, or copy it meanwhile.

The shell around row_match.pxd.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset, strerror
from posix.stdlib cimport posix_memalign

from common.blob_rows cimport bind_rows
from common.crc32c cimport find_crc32c
from common.threads cimport THREADS_MAX, run_team, team_free, team_init
from tar.group cimport cursor_free
from tar.row_match cimport (
    PAGE,
    RUN_BYTES,
    end_of_archive,
    match_runs,
    matcher,
    matcher_init,
    matching,
)


cdef void matching_init(matching* m, int fd, int64_t size) noexcept:
    memset(m, 0, sizeof(matching))
    m.fd = fd
    m.size = size
    m.to_fd = -1
    team_init(&m.team)


cdef int64_t match_all(matching* m, int threads, progress) except -2:
    """Match with several threads; return where the archive ends, if it is looked for.

    -1: something differs.
    """
    cdef void* arguments[THREADS_MAX]
    cdef void* window = NULL
    cdef matcher* matchers = <matcher*> calloc(threads, sizeof(matcher))
    cdef int i, count = 0
    if matchers == NULL:
        raise MemoryError
    try:
        for i in range(threads):
            if posix_memalign(&window, PAGE, RUN_BYTES + PAGE) != 0:
                break
            matcher_init(&matchers[i], m, <unsigned char*> window)
            arguments[i] = &matchers[i]
            count += 1
        run_team(&m.team, match_runs, arguments, count, progress)
        if m.differs:
            return -1
        return end_of_archive(&matchers[0]) if m.to_fd < 0 else 0
    finally:
        for i in range(count):
            free(matchers[i].window)
            matchers[i].at.window.bytes = NULL
            cursor_free(&matchers[i].at)
        free(matchers)


def find_end_if_equal(
    int fd,
    int64_t size,
    const unsigned char[::1] names not None,
    const int64_t[::1] name_bounds not None,
    const int64_t[::1] offset_start not None,
    const int64_t[::1] offset_end not None,
    const uint32_t[::1] crc32c not None,
    *,
    int threads,
    progress=None,
):
    """Compare each header with a row of the index, and each payload with its checksum.

    Args:
        fd: Open for reading.
        size: The file's bytes.
        names, name_bounds, offset_start, offset_end, crc32c: The rows, as in Columns.
        threads: How many compare.
        progress: progress(rows, bytes), called from this thread now and then.

    Returns:
        Where the archive ends, if it has these members and no others, in this order.
        None if something differs or can't be read, or if there is something that this
        pass can't compare: hard links, global headers, and members behind an end of the
        archive.
    """
    cdef matching m
    cdef int64_t end
    matching_init(&m, fd, size)
    m.extend = find_crc32c()
    try:
        bind_rows(&m.rows, names, name_bounds, offset_start, offset_end)
        if crc32c.shape[0] != m.rows.count:
            raise ValueError(f"{m.rows.count} starts, {crc32c.shape[0]} checksums")
        if m.rows.count:
            m.crc32c = &crc32c[0]
        end = match_all(&m, max(1, min(threads, THREADS_MAX)), progress)
    finally:
        team_free(&m.team)
    return None if end < 0 else end


def copy_if_equal(
    int fd,
    int64_t size,
    int64_t start,
    const unsigned char[::1] names not None,
    const int64_t[::1] name_bounds not None,
    const int64_t[::1] offset_start not None,
    const int64_t[::1] offset_end not None,
    int to_fd,
    int64_t to_pos,
    *,
    int threads,
):
    """Copy members that lie one behind the other, and compare their headers meanwhile.

    Args:
        fd: Open for reading.
        size: The file's bytes.
        start: Where the headers of the first member begin.
        names, name_bounds, offset_start, offset_end: The members, as in Columns.
        to_fd: Open for writing.
        to_pos: Where in it the first member goes.
        threads: How many copy.

    Returns:
        True if these members lie there and nothing else, and all were copied. Else
        bytes of no use may stand in the other file from to_pos on.

    Raises:
        OSError: the other file can't be written.
    """
    cdef matching m
    cdef int64_t end
    matching_init(&m, fd, size)
    m.start = start
    m.to_fd = to_fd
    m.to_pos = to_pos
    try:
        bind_rows(&m.rows, names, name_bounds, offset_start, offset_end)
        end = match_all(&m, max(1, min(threads, THREADS_MAX)), None)
    finally:
        team_free(&m.team)
    if m.write_error:
        raise OSError(m.write_error, strerror(m.write_error).decode(errors="replace"))
    return end >= 0
