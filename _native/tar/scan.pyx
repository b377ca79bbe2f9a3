"""Walk a tar's headers into columns: the shell around walk.pxd and segments.pxd."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint64_t

from common.columns cimport columns_to_python, mtime_to_python, owned_view
from tar.failure cimport failure
from tar.group cimport KIND_COUNT, cursor, member_group, refill
from tar.links cimport resolve_links
from tar.segments cimport HEAD_BYTES, SEGMENT_BYTES_MIN, THREADS_MAX, walk_ahead
from tar.header cimport BLOCK, is_zero_block, padded
from tar.index_header cimport index_size, put_index_header
from tar.shared cimport set_number
from tar.walk cimport walk, walker, walker_free, walker_init
from tar.status cimport (
    WALK_END_MARKER,
    WALK_FEED,
    WALK_GROUP,
    WALK_NO_MARKER,
    WALK_SHRUNK,
    WALK_TURN,
    walk_status,
)
from tar.window cimport bytes_at, header_window, window_wanted

from os import urandom

from blobpack._native.results import MemberColumns, MemberKinds, SharedTexts, Walk

cdef enum:
    REFILLS_A_TURN = 256           # between two looks at pending signals

cdef uint64_t seed = int.from_bytes(urandom(8), "little")


cdef class Supply:
    """The source of bytes that are not in a file, and the last window of them."""

    cdef object read
    cdef const unsigned char[::1] brought

    def __cinit__(self, read):
        self.read = read


cdef walk_status feed(cursor* at, Supply supply) except *:
    """Bring a window through the shell's read(start, end, stride): it is not copied."""
    cdef header_window* window = &at.window
    cdef int64_t wanted = window_wanted(window, at.pos)
    cdef int64_t size
    window.start = window.end = 0
    supply.brought = supply.read(at.pos, at.pos + wanted, window.stride)
    size = supply.brought.shape[0]
    if size < wanted:
        at.fault = at.pos + size
        return WALK_SHRUNK
    window.bytes = <unsigned char*> &supply.brought[0]
    window.start = at.pos
    window.end = at.pos + size
    return WALK_TURN


cdef walk_status bring(cursor* at, Supply supply) except *:
    """Bring what the cursor needs, from the file or through the shell.

    WALK_GROUP or WALK_TURN when it is there.
    """
    cdef walk_status status = refill(at)
    return feed(at, supply) if status == WALK_FEED else status


cdef bint several_may_walk(const cursor* at) noexcept nogil:
    """Check that the rest is long enough, and fit, for several threads."""
    return (
        at.window.fd >= 0
        and at.pos >= HEAD_BYTES
        and at.window.length - at.pos >= 2 * SEGMENT_BYTES_MIN
        and at.window.stride <= at.window.near_bytes
        and not at.met_v7
        and not at.globals.apply
    )


cdef walk_status take_turn(walker* w, int threads, member_group* group) noexcept nogil:
    """Walk on until there is something for the shell to do."""
    if threads > 1 and several_may_walk(&w.at):
        return walk_ahead(w, threads, group)
    return walk(w, REFILLS_A_TURN if w.at.pos >= HEAD_BYTES else 4, group)


cdef walk_status walk_through(
    walker* w, int threads, Supply supply, member_group* group
) except *:
    """Walk to the end of the archive, or to a fault.

    Ctrl-C is looked for between turns.
    """
    cdef walk_status status
    while True:
        with nogil:
            status = take_turn(w, threads, group)
        if status == WALK_FEED:
            status = feed(&w.at, supply)
        PyErr_CheckSignals()
        if status != WALK_TURN:
            return status


cdef walk_status count_marker(cursor* at, Supply supply, int64_t* blocks) except *:
    """Count the zero blocks that end the archive: one is there, a second is due."""
    cdef const unsigned char* block
    cdef walk_status status
    blocks[0] = 1
    if at.window.length - at.pos < 2 * BLOCK:
        return WALK_END_MARKER
    while True:
        block = bytes_at(&at.window, at.pos, 2 * BLOCK)
        if block != NULL:
            blocks[0] += is_zero_block(block + BLOCK)
            return WALK_END_MARKER
        status = bring(at, supply)
        if status != WALK_GROUP and status != WALK_TURN:
            return status


cdef walk_status skip_to_header(cursor* at, Supply supply) except *:
    """Step over zero blocks and indexes behind an archive, to the next one's header."""
    cdef const unsigned char* block
    cdef walk_status status
    cdef int64_t size
    at.window.stride = 0                           # by windows
    while at.window.length - at.pos >= BLOCK:
        block = bytes_at(&at.window, at.pos, BLOCK)
        if block == NULL:
            status = bring(at, supply)
            if status != WALK_GROUP and status != WALK_TURN:
                return status
        elif is_zero_block(block):
            at.pos += BLOCK
        else:
            size = index_size(block)
            # of one that is cut, the walk makes the error
            if size < 0 or padded(size) > at.window.length - at.pos - BLOCK:
                return WALK_TURN
            at.pos += BLOCK + padded(size)
        PyErr_CheckSignals()
    return WALK_END_MARKER


cdef walk_status walk_archives(
    walker* w, int threads, Supply supply, bint concatenated, member_group* group,
    int64_t* position, int64_t* blocks,
) except *:
    """Walk one archive, or all that lie one behind the other.

    On return *position* is where the last one ended, before so many zero blocks.
    """
    cdef walk_status status = WALK_TURN
    while status == WALK_TURN:
        status = walk_through(w, threads, supply, group)
        position[0] = w.at.pos
        blocks[0] = 0
        if status == WALK_END_MARKER:
            status = count_marker(&w.at, supply, blocks)
            if concatenated and status == WALK_END_MARKER:
                status = skip_to_header(&w.at, supply)
    return status


cdef object shared_to_python(walker* w):
    """Hand over the names that rows share."""
    cdef int64_t rows = w.rows.count, row
    while w.row_texts.capacity < rows:             # the rows behind the last shared one
        row = w.row_texts.capacity
        if set_number(&w.row_texts, row, -1) < 0:
            raise MemoryError
    names, bounds, first_used, _ = columns_to_python(&w.texts)
    numbers = owned_view(w.row_texts.number, rows, sizeof(int64_t), "q")
    if rows:
        w.row_texts.number = NULL
    return SharedTexts(names, bounds, numbers, first_used)


def walk_headers(
    int fd,
    int64_t length,
    str blob not None,
    read=None,
    *,
    bint concatenated=False,
    bint with_mtime=False,
    int threads=1,
):
    """Walk a tar's headers from its first byte to its end.

    Args:
        fd: Open for reading; -1 when the bytes come through `read`.
        length: The blob's bytes.
        blob: Its name, for messages.
        read: read(start, end, stride) -> the bytes from start on, to end at least;
            stride is the mean distance between the headers before, 0 if not known.
        concatenated: Go on behind end-of-archive markers, and over indexes there.
        with_mtime: Keep the members' times, too.
        threads: How many may walk a local file.

    Returns:
        A Walk; its members have no facts but mtime, and that only with_mtime.

    Raises:
        TruncatedError: the blob ends inside a header, a payload or its padding.
        FormatError: a header is damaged.
        StorageError: the file can't be read.
    """
    cdef walker w
    cdef member_group group
    cdef walk_status status
    cdef int64_t position = 0, blocks = 0, dangling
    cdef Supply supply = Supply(read)              # a name in an error may lie in it
    walker_init(&w, fd, length, with_mtime)
    try:
        status = walk_archives(
            &w, max(1, min(threads, THREADS_MAX)), supply, concatenated, &group,
            &position, &blocks,
        )
        if status != WALK_END_MARKER and status != WALK_NO_MARKER:
            raise failure(status, &w.at, &group, blob)
        with nogil:
            dangling = resolve_links(
                &w.rows, &w.links, &w.row_texts, &w.link_texts, &w.texts, seed
            )
        if dangling < 0:
            raise MemoryError
        kinds = MemberKinds(*[w.kinds[i] for i in range(<int> KIND_COUNT)])
        columns = columns_to_python(&w.rows)
        mtime = mtime_to_python(&w.rows, len(columns[2]))
        members = MemberColumns(*columns, mtime=mtime)
        shared = shared_to_python(&w) if w.row_texts.number != NULL else None
        return Walk(members, position, blocks, dangling, kinds, shared)
    finally:
        walker_free(&w)


def index_header(int64_t size):
    """Make the header of the member that holds an index of that many bytes."""
    cdef unsigned char[BLOCK] block
    put_index_header(block, size)
    return block[:BLOCK]


def index_size_in(const unsigned char[::1] block not None):
    """Return the size of the index whose header a block is; None for any other."""
    cdef int64_t size = -1
    if block.shape[0] == BLOCK:
        size = index_size(&block[0])
    return None if size < 0 else size
