"""Facts of payloads: media type, sizes as shown, CRC-32C; from a file or from bytes.

The shell around reread.pxd, dimensions.pxd and crc32c.pxd.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from common.blob_rows cimport bind_rows
from common.crc32c cimport find_crc32c
from images.dimensions cimport measure_image
from images.fact_columns cimport facts_free, facts_reserve, facts_to_python
from images.payload cimport peek, peek_at
from images.reread cimport (
    READ_ENDED as ENDED,
    WINDOW_BYTES,
    reader,
    reread,
    rereading,
    take_payload,
)
from images.sniff cimport media_type_of
from common.threads cimport THREADS_MAX, run_team, team_free, team_init

from blobpack._native.results import FactColumns, Facts

READ_ENDED = ENDED


cdef int begin_facts(
    rereading* r,
    const unsigned char[::1] names,
    const int64_t[::1] name_bounds,
    const int64_t[::1] offset_start,
    const int64_t[::1] offset_end,
) except -1:
    """Point at the columns, and make room for the facts."""
    memset(r, 0, sizeof(rereading))
    r.extend = find_crc32c()
    bind_rows(&r.rows, names, name_bounds, offset_start, offset_end)
    if facts_reserve(&r.facts, r.rows.count, False) < 0:
        raise MemoryError
    return 0


cdef int run_threads(rereading* r, int threads, progress) except -1:
    """Read with several threads, each through a window of its own."""
    cdef void* arguments[THREADS_MAX]
    cdef reader* readers = <reader*> calloc(threads, sizeof(reader))
    cdef int i, count = 0
    if readers == NULL:
        raise MemoryError
    try:
        for i in range(threads):
            readers[i].all = r
            readers[i].window = <unsigned char*> malloc(WINDOW_BYTES)
            if readers[i].window == NULL:
                break
            arguments[i] = &readers[i]
            count += 1
        run_team(&r.team, reread, arguments, count, progress)
    finally:
        for i in range(threads):
            free(readers[i].window)
        free(readers)
    if r.no_memory:
        raise MemoryError
    return 0


def take_facts(
    int fd,
    int64_t size,
    const unsigned char[::1] names not None,
    const int64_t[::1] name_bounds not None,
    const int64_t[::1] offset_start not None,
    const int64_t[::1] offset_end not None,
    *,
    bint images,
    int threads,
    progress=None,
):
    """Read payloads of a file, and take facts of each.

    Args:
        fd: Open for reading.
        size: The file's bytes; no row may reach beyond them.
        names, name_bounds, offset_start, offset_end: The members, as in Columns.
        images: Also recognise and measure images; else checksums alone.
        threads: How many read.
        progress: progress(rows, bytes), called from this thread now and then.

    Returns:
        columns: FactColumns.
        faults: (row, errno) of each row that could not be read; READ_ENDED for an errno
            where the file ends before the row does.
    """
    cdef rereading r
    cdef int64_t i
    begin_facts(&r, names, name_bounds, offset_start, offset_end)
    r.fd = fd
    r.size = size
    r.images = images
    team_init(&r.team)
    try:
        run_threads(&r, max(1, min(threads, THREADS_MAX)), progress)
        faults = [(r.faults[i].row, r.faults[i].error) for i in range(r.fault_count)]
        columns = FactColumns(*facts_to_python(&r.facts, r.rows.count))
        return columns, sorted(faults)
    finally:
        team_free(&r.team)
        facts_free(&r.facts)
        free(r.faults)


def take_facts_within(
    const unsigned char[::1] window not None,
    int64_t window_start,
    const unsigned char[::1] names not None,
    const int64_t[::1] name_bounds not None,
    const int64_t[::1] offset_start not None,
    const int64_t[::1] offset_end not None,
    *,
    bint images,
):
    """Compute facts of payloads that all lie in bytes at hand.

    Args:
        window: The bytes.
        window_start: Where they lie in the blob.
        names, name_bounds, offset_start, offset_end: The members, as in Columns.
        images: Also recognise and measure images; else checksums alone.

    Returns:
        FactColumns.

    Raises:
        ValueError: a row is not within the window.
    """
    cdef rereading r
    cdef peek payload
    cdef const unsigned char* first = b""
    cdef int64_t row, begin, end
    if window.shape[0]:
        first = &window[0]
    begin_facts(&r, names, name_bounds, offset_start, offset_end)
    r.images = images
    try:
        with nogil:
            for row in range(r.rows.count):
                begin, end = r.rows.offset_start[row], r.rows.offset_end[row]
                if not window_start <= begin <= end or (
                    end - window_start > window.shape[0]
                ):
                    break
                end -= begin
                peek_at(&payload, first + (begin - window_start), end, end)
                take_payload(&r, row, &payload)
            else:
                row = r.rows.count
        if row < r.rows.count:
            raise ValueError(f"row {row} is not within the window")
        return FactColumns(*facts_to_python(&r.facts, r.rows.count))
    finally:
        facts_free(&r.facts)


def orientation_of(const unsigned char[::1] payload not None):
    """Read how an image must be turned to be shown as its facts say.

    Returns:
        1 to 8, as in EXIF; 0 where the decoder must find out: the format is none of
        JPEG, PNG and WebP, or the metadata are unclear, and the size is unknown.
    """
    cdef peek image
    cdef int orientation
    if payload.shape[0] == 0:
        return 0
    with nogil:
        peek_at(&image, &payload[0], payload.shape[0], payload.shape[0])
        measure_image(
            &image, media_type_of(image.bytes, image.at_hand, image.bytes, 0),
            &orientation,
        )
    return orientation


cdef int64_t fetch_by_call(
    void* context, int64_t start, int64_t wanted, unsigned char* to
) noexcept with gil:
    """Get bytes from a function of Python's; it is not called again after an error."""
    cdef const unsigned char[::1] got
    cdef list call = <list> context                # the function; its error
    cdef int64_t length
    if call[1] is not None:
        return 0
    try:
        got = call[0](start, start + wanted)
        length = min(wanted, <int64_t> got.shape[0])
        if length:
            memcpy(to, &got[0], length)
        return length
    except BaseException as exc:
        call[1] = exc
        return 0


def facts_of(
    const unsigned char[::1] payload not None,
    bytes name not None,
    *,
    int64_t size=-1,
    read=None,
):
    """Compute facts of one payload, or of its first bytes.

    Args:
        payload: The bytes.
        name: The member's; only it tells an SVG.
        size: The whole payload's bytes, where these are only its first.
        read: read(first, last), called for bytes of the rest that say the size.

    Returns:
        Facts; the checksum is that of these bytes.

    Raises:
        Exception: what `read` raised.
    """
    cdef list call = [read, None]
    cdef int64_t bounds[2]
    cdef int64_t length = payload.shape[0]
    cdef rereading r
    cdef peek first
    cdef bint has_rest = read is not None
    memset(&r, 0, sizeof(rereading))
    r.images = True
    r.extend = find_crc32c()
    bounds[0] = 0
    bounds[1] = r.rows.names_length = len(name)
    r.rows.names = <const unsigned char*> <const char*> name
    r.rows.name_bounds = bounds
    if facts_reserve(&r.facts, 1, False) < 0:
        raise MemoryError
    try:
        with nogil:
            peek_at(
                &first, &payload[0] if length else r.rows.names, length,
                max(length, size),
            )
            if has_rest:
                first.fetch = fetch_by_call
                first.context = <void*> call
            take_payload(&r, 0, &first)
        if call[1] is not None:
            raise call[1]
        return Facts(
            r.facts.media_type[0], r.facts.width[0], r.facts.height[0],
            r.facts.crc32c[0],
        )
    finally:
        facts_free(&r.facts)
