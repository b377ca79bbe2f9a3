"""Faults of an index file, and the errors made of them."""

from libc.stdint cimport int64_t

cdef enum fault:
    FAULT_NONE
    FAULT_ABSENT                   # no such name
    FAULT_CHECKSUM
    FAULT_LAYOUT
    FAULT_MEMORY


cdef inline object failure(fault kind, str where, str section, int64_t offset):
    """Make the error for a fault."""
    from blobpack.errors import ChecksumError, FormatError

    if kind == FAULT_MEMORY:
        return MemoryError()
    if kind == FAULT_CHECKSUM:
        return ChecksumError(
            f"{where}: the index is damaged: {section} at byte {offset} does not match "
            "its checksum",
            offset=offset,
        )
    return FormatError(
        f"{where}: the index is damaged: {section} at byte {offset} is malformed",
        offset=offset,
    )
