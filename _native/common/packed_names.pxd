"""Packed names, compared byte by byte: name i is bytes[bounds[i]:bounds[i + 1]]."""

from libc.stdint cimport int64_t
from libc.string cimport memcmp

cdef struct packed_names:
    const unsigned char* bytes
    const int64_t* bounds


cdef inline int compare(packed_names names, int64_t a, int64_t b) noexcept nogil:
    """Return a number below, at or above 0, as name a is below, at or above name b."""
    cdef int64_t length_a = names.bounds[a + 1] - names.bounds[a]
    cdef int64_t length_b = names.bounds[b + 1] - names.bounds[b]
    cdef int64_t shared = min(length_a, length_b)
    cdef int found = 0
    if shared:
        found = memcmp(
            names.bytes + names.bounds[a], names.bytes + names.bounds[b], shared
        )
    if found:
        return found
    return (length_a > length_b) - (length_a < length_b)
