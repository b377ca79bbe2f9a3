"""Walk one tar from several places at once, with the same result as from its start.

A tar is a chain. Each thread takes a segment, finds a block that looks like a header
(magic and checksum) and walks on from there, and again after each stop. Behind them,
one pass follows the true chain, segment by segment as they are done: where it arrives
exactly at the beginning of a group that a segment visited, it takes over that run; else
it steps by itself. So nothing that merely looks like a header can change the result.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from common.columns cimport columns_extend, columns_push
from tar.group cimport cursor, member_group, refill
from common.pthreads cimport pthread_create, pthread_join, pthread_t
from tar.header cimport BLOCK, checksum_matches, has_magic, padded
from tar.walk cimport walk, walker, walker_free, walker_init
from tar.status cimport (
    WALK_GROUP,
    WALK_NO_MEMORY,
    WALK_READ_FAILED,
    WALK_SEGMENT_END,
    WALK_TURN,
    walk_status,
)
from tar.window cimport bytes_at, header_window, swap_windows, window_free, window_init

cdef extern from * nogil:
    """
    #define blobpack_claim(counter) __atomic_fetch_add((counter), 1, __ATOMIC_RELAXED)
    #define blobpack_claim_all(counter, count) \\
        __atomic_store_n((counter), (count), __ATOMIC_RELAXED)
    #define blobpack_publish(flag) __atomic_store_n((flag), 1, __ATOMIC_RELEASE)
    #define blobpack_published(flag) __atomic_load_n((flag), __ATOMIC_ACQUIRE)
    """
    int64_t blobpack_claim(int64_t* counter)
    void blobpack_claim_all(int64_t* counter, int64_t count)
    void blobpack_publish(int* flag)
    bint blobpack_published(int* flag)

cdef enum:
    HEAD_BYTES = 1048576  # walked by one thread before it is decided to use more
    SEGMENT_BYTES_MIN = 1048576
    SEGMENT_BYTES_MAX = 4194304    # its rows are in the cache when they are taken over
    SEGMENTS_A_THREAD = 8          # where the blob is small
    WAVE_BYTES = 536870912         # between two looks at pending signals
    THREADS_MAX = 64

cdef struct guessed_run:
    int64_t first_group
    int64_t next_start             # where the chain went on

cdef struct segment:
    walker walk
    int64_t start
    guessed_run* runs
    int64_t run_count
    int64_t run_capacity
    walk_status status
    int done

cdef struct crew:
    segment* segments
    int64_t count
    int64_t claimed


cdef inline walk_status find_header(
    cursor* at, int64_t* pos, int64_t stop
) noexcept nogil:
    """Step to the next block with a magic and a right checksum.

    WALK_SEGMENT_END when there is none.
    """
    cdef const unsigned char* block
    cdef walk_status status
    while pos[0] < stop and at.window.length - pos[0] >= BLOCK:
        block = bytes_at(&at.window, pos[0], BLOCK)
        if block == NULL:
            at.pos = pos[0]
            at.window.stride = 0
            status = refill(at)
            if status != WALK_GROUP:
                return status
            continue
        if has_magic(block) and checksum_matches(block):
            return WALK_GROUP
        pos[0] += BLOCK
    return WALK_SEGMENT_END


cdef inline int keep_run(segment* s, int64_t first_group) noexcept nogil:
    cdef void* grown
    cdef int64_t capacity
    if s.run_count == s.run_capacity:
        capacity = max(2 * s.run_capacity, 16)
        grown = realloc(s.runs, capacity * sizeof(guessed_run))
        if grown == NULL:
            return -1
        s.runs = <guessed_run*> grown
        s.run_capacity = capacity
    s.runs[s.run_count].first_group = first_group
    s.runs[s.run_count].next_start = s.walk.at.pos
    s.run_count += 1
    return 0


cdef inline walk_status walk_segment(segment* s) noexcept nogil:
    """Walk every chain that seems to begin in the segment."""
    cdef int64_t pos = s.start
    cdef int64_t first_group
    cdef member_group group
    cdef walk_status status
    while True:
        status = find_header(&s.walk.at, &pos, s.walk.stop)
        if status != WALK_GROUP:
            return status
        s.walk.at.pos = pos
        first_group = s.walk.group_count
        status = walk(&s.walk, -1, &group)
        if status in (WALK_NO_MEMORY, WALK_READ_FAILED):
            return status
        if s.walk.group_count > first_group and keep_run(s, first_group) < 0:
            return WALK_NO_MEMORY
        if status == WALK_SEGMENT_END:
            return status
        pos = s.walk.at.pos + BLOCK


cdef inline bint walk_next(crew* team, header_window* spare) noexcept nogil:
    """Walk the next segment through the thread's window; False when none is left."""
    cdef int64_t mine = blobpack_claim(&team.claimed)
    cdef segment* s
    if mine >= team.count:
        return False
    s = &team.segments[mine]
    swap_windows(&s.walk.at.window, spare)
    s.status = walk_segment(s)
    swap_windows(&s.walk.at.window, spare)
    blobpack_publish(&s.done)
    return True


cdef inline void* work(void* argument) noexcept nogil:
    """Walk segments until none is left: the body of each thread."""
    cdef crew* team = <crew*> argument
    cdef header_window spare
    window_init(&spare, -1, 0)
    while walk_next(team, &spare):
        pass
    window_free(&spare)
    return NULL


cdef inline int64_t last_at_most(
    const int64_t* values, int64_t count, int64_t wanted
) noexcept nogil:
    """Find the last index whose value is at most wanted; -1 if none.

    The values ascend.
    """
    cdef int64_t low = 0, high = count, middle
    while low < high:
        middle = (low + high) // 2
        if values[middle] <= wanted:
            low = middle + 1
        else:
            high = middle
    return low - 1


cdef inline int take_run(walker* w, segment* s) noexcept nogil:
    """Append the run that visited the group at the cursor: 1; 0 when none did.

    -1 when memory is out.
    """
    cdef walker* guessed = &s.walk
    cdef int64_t pos = w.at.pos
    cdef int64_t first = last_at_most(guessed.group_start, guessed.group_count, pos)
    cdef int64_t last, run, first_row, last_row, base, i
    if first < 0 or guessed.group_start[first] != pos:
        return 0
    run = 0
    while run + 1 < s.run_count and s.runs[run + 1].first_group <= first:
        run += 1
    last = s.runs[run + 1].first_group if run + 1 < s.run_count else guessed.group_count
    first_row = guessed.group_row[first]
    last_row = guessed.rows.count
    if last < guessed.group_count:
        last_row = guessed.group_row[last]
    base = w.rows.count
    if columns_extend(&w.rows, &guessed.rows, first_row, last_row) < 0:
        return -1
    for i in range(guessed.links.count):
        if first_row <= guessed.links.offset_start[i] < last_row and columns_push(
            &w.links,
            guessed.links.names + guessed.links.name_bounds[i],
            guessed.links.name_bounds[i + 1] - guessed.links.name_bounds[i],
            guessed.links.offset_start[i] - first_row + base,
            0,
        ) < 0:
            return -1
    for i in range(first, last):
        w.kinds[guessed.group_kind[i]] += 1
    w.at.pos = s.runs[run].next_start
    return 1


cdef inline walk_status stitch(
    walker* w, segment* s, member_group* group
) noexcept nogil:
    """Follow the true chain through a segment, by runs where it meets one."""
    cdef int taken
    cdef walk_status status
    if s.status == WALK_NO_MEMORY:
        return WALK_NO_MEMORY
    while w.at.pos < s.walk.stop:
        taken = 0
        if not w.at.globals.apply:
            taken = take_run(w, s)
        if taken < 0:
            return WALK_NO_MEMORY
        if not taken:
            w.stop = w.at.pos + 1                  # one group
            status = walk(w, -1, group)
            w.stop = w.at.window.length + 1
            if status != WALK_SEGMENT_END:
                return status
    return WALK_TURN


cdef inline void prepare_wave(
    crew* team, const walker* w, int64_t segment_bytes
) noexcept nogil:
    """Cut what lies ahead into segments, each with a walker of its own."""
    cdef const header_window* whole = &w.at.window
    cdef int64_t i
    cdef segment* s
    for i in range(team.count):
        s = &team.segments[i]
        walker_init(&s.walk, whole.fd, whole.length, w.at.with_mtime)
        s.walk.at.speculative = True
        s.walk.at.window.next_bytes = s.walk.at.window.bytes_max
        s.start = w.at.pos + i * segment_bytes
        s.walk.stop = min(s.start + segment_bytes, whole.length)


cdef inline walk_status walk_wave(
    walker* w, crew* team, int threads, member_group* group
) noexcept nogil:
    """Walk the segments; this thread follows the true chain, and walks too."""
    cdef pthread_t started[THREADS_MAX]
    cdef int running = 0
    cdef int64_t i
    cdef segment* s
    cdef header_window spare
    cdef walk_status status = WALK_TURN
    window_init(&spare, -1, 0)
    while running < threads - 1:
        if pthread_create(&started[running], NULL, work, team) != 0:
            break                                  # fewer threads do the same work
        running += 1
    for i in range(team.count):
        s = &team.segments[i]
        while not blobpack_published(&s.done) and walk_next(team, &spare):
            pass
        while not blobpack_published(&s.done) and running:
            running -= 1                           # all are claimed: wait for the last
            pthread_join(started[running], NULL)
        if status == WALK_TURN:
            status = stitch(w, s, group)
            if status != WALK_TURN:
                blobpack_claim_all(&team.claimed, team.count)
        walker_free(&s.walk)
        free(s.runs)
    while running:
        running -= 1
        pthread_join(started[running], NULL)
    window_free(&spare)
    return status


cdef inline walk_status walk_ahead(
    walker* w, int threads, member_group* group
) noexcept nogil:
    """Walk a wave of segments with several threads, and the true chain behind them."""
    cdef int64_t ahead = min(w.at.window.length - w.at.pos, WAVE_BYTES)
    cdef int64_t segment_bytes = padded(ahead // (threads * SEGMENTS_A_THREAD))
    cdef crew team
    cdef walk_status status
    segment_bytes = min(max(segment_bytes, SEGMENT_BYTES_MIN), SEGMENT_BYTES_MAX)
    memset(&team, 0, sizeof(crew))
    team.count = (ahead + segment_bytes - 1) // segment_bytes
    team.segments = <segment*> calloc(team.count, sizeof(segment))
    if team.segments == NULL:
        return WALK_NO_MEMORY
    prepare_wave(&team, w, segment_bytes)
    status = walk_wave(w, &team, threads, group)
    free(team.segments)
    return status
