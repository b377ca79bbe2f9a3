"""The clocks that the native modules read.

Declared here because Cython's posix.time includes <sys/time.h> alone, which need not
bring clock_gettime(): with Python 3.13's headers it does not, and gcc 14 takes a call
of an undeclared function for an error.

Source: POSIX.1-2017, <time.h>.
"""

from posix.types cimport clockid_t, time_t

cdef extern from "<time.h>" nogil:
    struct timespec:
        time_t tv_sec
        long tv_nsec
    clockid_t CLOCK_MONOTONIC
    clockid_t CLOCK_REALTIME
    int clock_gettime(clockid_t, timespec*)
