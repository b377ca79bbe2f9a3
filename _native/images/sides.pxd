"""Width and height of an image, and how they turn with its orientation."""

from libc.stdint cimport uint32_t, uint64_t

from images.orientation cimport UNCLEAR, lies_on_side

cdef struct sides:
    uint32_t width                 # 0: unknown
    uint32_t height


cdef inline sides unknown() noexcept nogil:
    cdef sides none
    none.width = none.height = 0
    return none


cdef inline sides of(uint64_t width, uint64_t height) noexcept nogil:
    """Keep width and height if both are numbers that an image can have."""
    cdef sides found
    if width == 0 or width >> 32 or height == 0 or height >> 32:
        return unknown()
    found.width = <uint32_t> width
    found.height = <uint32_t> height
    return found


cdef inline sides turned(sides found) noexcept nogil:
    found.width, found.height = found.height, found.width
    return found


cdef inline sides shown(sides found, int orientation) noexcept nogil:
    """Turn sides; those of an image that may be turned or not are unknown."""
    if orientation == UNCLEAR and found.width != found.height:
        return unknown()
    return turned(found) if lies_on_side(orientation) else found
