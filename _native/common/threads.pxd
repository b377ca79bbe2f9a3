"""Threads that work without the GIL, watched by the one that holds it.

A team shares one lock and one condition. Its progress is told to Python now and then,
Ctrl-C calls it off, and none of its threads outlives the call that started it.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t

from common.clock cimport CLOCK_REALTIME, clock_gettime, timespec
from common.pthreads cimport (
    pthread_cond_broadcast,
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_cond_t,
    pthread_cond_timedwait,
    pthread_create,
    pthread_join,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
    pthread_t,
)

cdef enum:
    THREADS_MAX = 64
    LOOK_NS = 50000000             # between two looks at pending signals

ctypedef void* (*thread_body)(void*) noexcept nogil

cdef struct thread_team:
    pthread_mutex_t lock
    pthread_cond_t changed
    int working                    # threads
    int cancelled
    int64_t done_count             # what progress tells
    int64_t done_bytes


cdef inline void team_init(thread_team* team) noexcept nogil:
    team.working = team.cancelled = 0
    team.done_count = team.done_bytes = 0
    pthread_mutex_init(&team.lock, NULL)
    pthread_cond_init(&team.changed, NULL)


cdef inline void team_free(thread_team* team) noexcept nogil:
    pthread_cond_destroy(&team.changed)
    pthread_mutex_destroy(&team.lock)


cdef inline int start_thread(
    thread_team* team, pthread_t* started, thread_body body, void* argument
) noexcept nogil:
    """Start one thread; -1 when there can't be more."""
    pthread_mutex_lock(&team.lock)
    team.working += 1
    pthread_mutex_unlock(&team.lock)
    if pthread_create(started, NULL, body, argument) == 0:
        return 0
    pthread_mutex_lock(&team.lock)
    team.working -= 1
    pthread_mutex_unlock(&team.lock)
    return -1


cdef inline void leave_team(thread_team* team) noexcept nogil:
    """Count a thread out: its last act."""
    pthread_mutex_lock(&team.lock)
    team.working -= 1
    pthread_cond_broadcast(&team.changed)
    pthread_mutex_unlock(&team.lock)


cdef inline void count_done(
    thread_team* team, int64_t count, int64_t size
) noexcept nogil:
    """Count rows or files that are done, and their bytes."""
    pthread_mutex_lock(&team.lock)
    team.done_count += count
    team.done_bytes += size
    pthread_mutex_unlock(&team.lock)


cdef inline void call_off(thread_team* team) noexcept nogil:
    """Have all threads stop soon, those too that wait for another."""
    pthread_mutex_lock(&team.lock)
    team.cancelled = True
    pthread_cond_broadcast(&team.changed)
    pthread_mutex_unlock(&team.lock)


cdef inline bint any_working(thread_team* team) noexcept nogil:
    """Wait for the threads, but not for long; whether any is still at work."""
    cdef timespec until
    cdef bint some
    clock_gettime(CLOCK_REALTIME, &until)
    until.tv_nsec += LOOK_NS
    if until.tv_nsec >= 1000000000:
        until.tv_sec += 1
        until.tv_nsec -= 1000000000
    pthread_mutex_lock(&team.lock)
    while team.working:
        if pthread_cond_timedwait(&team.changed, &team.lock, &until) != 0:
            break
    some = team.working > 0
    pthread_mutex_unlock(&team.lock)
    return some


cdef inline int run_team(
    thread_team* team, thread_body body, void** arguments, int threads, progress
) except -1:
    """Run the body in threads, one for each argument, until all have come to an end.

    Fewer threads do the same work, where no more can be started. progress(count, bytes)
    is called from this one, unless it is None.
    """
    cdef pthread_t started[THREADS_MAX]
    cdef int count = 0, i
    cdef bint working = True
    try:
        while count < threads and (
            start_thread(team, &started[count], body, arguments[count]) == 0
        ):
            count += 1
        if count == 0:
            raise MemoryError
        while working:
            with nogil:
                working = any_working(team)
            PyErr_CheckSignals()
            if progress is not None:
                progress(team.done_count, team.done_bytes)
    finally:
        with nogil:
            call_off(team)
            for i in range(count):
                pthread_join(started[i], NULL)
    return 0
