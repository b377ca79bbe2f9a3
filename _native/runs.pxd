"""Walk one tar from several places at once, with the same result as from its start.

A tar is a chain. Each thread takes a segment, finds a block that looks like a header
(magic and checksum) and walks on from there, and again after each stop. Then one pass
follows the true chain: where it arrives exactly at the beginning of a group that a
segment visited, it takes over that run; else it steps by itself. So nothing that merely
looks like a header can change the result.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, realloc

from columns cimport columns_extend, columns_push
from extensions cimport (
    WALK_GROUP,
    WALK_NO_MEMORY,
    WALK_READ_FAILED,
    WALK_SEGMENT_END,
    WALK_TURN,
    walk_status,
)
from pthreads cimport pthread_create, pthread_join, pthread_t
from tar cimport (
    BLOCK,
    checksum_matches,
    has_magic,
    padded,
)
from walk cimport (
    bytes_at,
    member_group,
    refill,
    walk,
    walker,
    walker_free,
    walker_init,
)

cdef extern from * nogil:
    """
    #define blobpack_claim(counter) __atomic_fetch_add((counter), 1, __ATOMIC_RELAXED)
    """
    int64_t blobpack_claim(int64_t* counter)

cdef enum:
    HEAD_BYTES = 1048576  # walked by one thread before it is decided to use more
    SEGMENT_BYTES_MIN = 1048576
    SEGMENT_BYTES_MAX = 33554432
    SEGMENTS_A_THREAD = 8          # a wave
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

cdef struct crew:
    segment* segments
    int64_t count
    int64_t claimed

cdef inline walk_status find_header(
    walker* w, int64_t* pos, int64_t stop
) noexcept nogil:
    """Step to the next block with a magic and a right checksum.

    WALK_SEGMENT_END when there is none.
    """
    cdef const unsigned char* block
    cdef walk_status status
    while pos[0] < stop and w.length - pos[0] >= BLOCK:
        block = bytes_at(w, pos[0], BLOCK)
        if block == NULL:
            w.pos = pos[0]
            w.stride = 0
            status = refill(w)
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
    s.runs[s.run_count].next_start = s.walk.pos
    s.run_count += 1
    return 0


cdef inline walk_status walk_segment(segment* s) noexcept nogil:
    """Walk every chain that seems to begin in the segment."""
    cdef int64_t pos = s.start
    cdef int64_t first_group
    cdef member_group group
    cdef walk_status status
    while True:
        status = find_header(&s.walk, &pos, s.walk.stop)
        if status != WALK_GROUP:
            return status
        s.walk.pos = pos
        first_group = s.walk.group_count
        status = walk(&s.walk, -1, &group)
        if status in (WALK_NO_MEMORY, WALK_READ_FAILED):
            return status
        if s.walk.group_count > first_group and keep_run(s, first_group) < 0:
            return WALK_NO_MEMORY
        if status == WALK_SEGMENT_END:
            return status
        pos = s.walk.pos + BLOCK


cdef inline void* work(void* argument) noexcept nogil:
    """Walk segments until none is left: the body of each thread."""
    cdef crew* team = <crew*> argument
    cdef int64_t mine
    while True:
        mine = blobpack_claim(&team.claimed)
        if mine >= team.count:
            return NULL
        team.segments[mine].status = walk_segment(&team.segments[mine])


cdef inline void walk_wave(crew* team, int threads) noexcept nogil:
    """Walk all segments of a wave; the calling thread works too."""
    cdef pthread_t started[THREADS_MAX]
    cdef int count = 0, i, _
    for _ in range(threads - 1):
        if pthread_create(&started[count], NULL, work, team) != 0:
            break                                  # fewer threads do the same work
        count += 1
    work(team)
    for i in range(count):
        pthread_join(started[i], NULL)


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
    """Take over the run that visited the group at w.pos: 1; 0 when none did.

    -1 when memory is out.
    """
    cdef walker* guessed = &s.walk
    cdef int64_t first = last_at_most(guessed.group_start, guessed.group_count, w.pos)
    cdef int64_t last, run, first_row, last_row, base, i
    if first < 0 or guessed.group_start[first] != w.pos:
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
    w.pos = s.runs[run].next_start
    return 1


cdef inline walk_status stitch(
    walker* w, crew* team, int64_t end, member_group* group
) noexcept nogil:
    """Follow the true chain through a wave, by runs where it meets one."""
    cdef int64_t i = 0
    cdef int taken
    cdef walk_status status
    while w.pos < end:
        while i + 1 < team.count and team.segments[i + 1].start <= w.pos:
            i += 1
        taken = 0
        if not w.globals.apply:
            taken = take_run(w, &team.segments[i])
        if taken < 0:
            return WALK_NO_MEMORY
        if not taken:
            w.stop = w.pos + 1                     # one group
            status = walk(w, -1, group)
            w.stop = w.length + 1
            if status != WALK_SEGMENT_END:
                return status
    return WALK_TURN


cdef inline void prepare_wave(
    crew* team, const walker* w, int64_t segment_bytes
) noexcept nogil:
    """Cut what lies ahead into segments, each with a walker of its own."""
    cdef int64_t i
    cdef segment* s
    for i in range(team.count):
        s = &team.segments[i]
        walker_init(&s.walk, w.fd, w.length)
        s.walk.speculative = True
        s.start = w.pos + i * segment_bytes
        s.walk.stop = min(s.start + segment_bytes, w.length)


cdef inline walk_status walk_ahead(
    walker* w, int threads, member_group* group
) noexcept nogil:
    """Walk a wave of segments with several threads, then the true chain through it."""
    cdef int64_t ahead = w.length - w.pos
    cdef int64_t segment_bytes = padded(ahead // (threads * SEGMENTS_A_THREAD))
    cdef int64_t count, i
    cdef crew team
    cdef walk_status status = WALK_TURN
    segment_bytes = min(max(segment_bytes, SEGMENT_BYTES_MIN), SEGMENT_BYTES_MAX)
    count = (ahead + segment_bytes - 1) // segment_bytes
    count = min(count, threads * SEGMENTS_A_THREAD)
    team.count = count
    team.claimed = 0
    team.segments = <segment*> calloc(count, sizeof(segment))
    if team.segments == NULL:
        return WALK_NO_MEMORY
    prepare_wave(&team, w, segment_bytes)
    walk_wave(&team, threads)
    for i in range(count):
        if team.segments[i].status == WALK_NO_MEMORY:
            status = WALK_NO_MEMORY
    if status == WALK_TURN:
        status = stitch(w, &team, min(w.pos + count * segment_bytes, w.length), group)
    for i in range(count):
        walker_free(&team.segments[i].walk)
        free(team.segments[i].runs)
    free(team.segments)
    return status
