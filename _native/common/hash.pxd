"""Member names as bytes: encoded, and hashed."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy


cdef inline uint64_t mixed(uint64_t value) noexcept nogil:
    """Spread every bit over the whole word (the finaliser of SplitMix64)."""
    value = (value ^ (value >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t> 0x94D049BB133111EB
    return value ^ (value >> 31)


cdef inline uint64_t hash_name(
    const char* name, int64_t length, uint64_t seed
) noexcept nogil:
    """Hash a name eight bytes at a time.

    With a secret seed, collisions cannot be made on purpose.
    """
    cdef uint64_t state = seed ^ (<uint64_t> length * <uint64_t> 0x9E3779B97F4A7C15)
    cdef uint64_t word
    while length >= 8:
        memcpy(&word, name, 8)
        state = mixed(state ^ word)
        name += 8
        length -= 8
    word = 0
    if length:
        memcpy(&word, name, length)
    return mixed(state ^ word)


cdef inline bytes encoded_name(str name):
    """Encode a name as a tar holds it; None when no tar can."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
