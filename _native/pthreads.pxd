"""The parts of POSIX threads that the native modules use.

Source: POSIX.1-2017, <pthread.h>.
"""

from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_create(pthread_t*, void*, void* (*)(void*) noexcept nogil, void*)
    int pthread_join(pthread_t, void**)
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_destroy(pthread_mutex_t*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_cond_init(pthread_cond_t*, void*)
    int pthread_cond_destroy(pthread_cond_t*)
    int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t*)
    int pthread_cond_timedwait(pthread_cond_t*, pthread_mutex_t*, const timespec*)
    int pthread_cond_broadcast(pthread_cond_t*)

cdef enum:
    LOOK_NS = 50000000             # between two looks at pending signals


cdef inline bint any_working(
    pthread_mutex_t* lock, pthread_cond_t* changed, const int* working
) noexcept nogil:
    """Wait for the threads, but not for long; whether any is still at work."""
    cdef timespec until
    cdef bint some
    clock_gettime(CLOCK_REALTIME, &until)
    until.tv_nsec += LOOK_NS
    if until.tv_nsec >= 1000000000:
        until.tv_sec += 1
        until.tv_nsec -= 1000000000
    pthread_mutex_lock(lock)
    while working[0]:
        if pthread_cond_timedwait(changed, lock, &until) != 0:
            break
    some = working[0] > 0
    pthread_mutex_unlock(lock)
    return some
