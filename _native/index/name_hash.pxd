"""The two hashes of a name, by which names are compared while an index is written."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from common.hash cimport mixed

# Two names count as equal if both of their hashes are equal. Anybody can make a name
# with the first hash of another name, because docs/format.md describes this hash. But
# the second hash has a secret seed: 1 in 2**64 of such names is taken for the other.
cdef struct name_hash:
    uint64_t hash
    uint64_t check


cdef inline bint is_same(const name_hash* one, const name_hash* other) noexcept nogil:
    return one.hash == other.hash and one.check == other.check


cdef inline name_hash hash_twice(
    const char* name, int64_t length, uint64_t secret
) noexcept nogil:
    """Return the hashes of a name for the seeds 0 and `secret`; see hash_name.

    Each step of a hash waits for the step before. So both are computed at one time.
    """
    cdef uint64_t begun = <uint64_t> length * <uint64_t> 0x9E3779B97F4A7C15
    cdef name_hash hashed
    cdef uint64_t word
    hashed.hash = begun
    hashed.check = begun ^ secret
    while length >= 8:
        memcpy(&word, name, 8)
        hashed.hash = mixed(hashed.hash ^ word)
        hashed.check = mixed(hashed.check ^ word)
        name += 8
        length -= 8
    word = 0
    if length:
        memcpy(&word, name, length)
    hashed.hash = mixed(hashed.hash ^ word)
    hashed.check = mixed(hashed.check ^ word)
    return hashed
