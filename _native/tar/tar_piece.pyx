"""Join members that lie side by side in a blob to a piece of another tar."""

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from common.crc32c cimport crc32c_function, find_crc32c
from tar.header cimport BLOCK

cdef extern from "Python.h":
    object PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    const char* PyBytes_AsString(object) except NULL

cdef enum:
    NOT_KNOWN = -1

cdef struct placed:
    const unsigned char* header
    const unsigned char* payload
    int64_t header_length
    int64_t size
    int64_t crc32c                 # NOT_KNOWN, or a checksum to compare


cdef inline int64_t padded(int64_t size) noexcept nogil:
    return size + (-size & (BLOCK - 1))


cdef int64_t join(
    unsigned char* to, const placed* members, Py_ssize_t count, crc32c_function extend
) noexcept nogil:
    """Write the members; return the place of the first one that is damaged, or -1.

    The copies are checked, and not what they were made of.
    """
    cdef Py_ssize_t i
    cdef const placed* one
    for i in range(count):
        one = &members[i]
        memcpy(to, one.header, one.header_length)
        to += one.header_length
        memcpy(to, one.payload, one.size)
        if one.crc32c != NOT_KNOWN and extend(0, to, one.size) != <uint32_t> one.crc32c:
            return i
        memset(to + one.size, 0, padded(one.size) - one.size)
        to += padded(one.size)
    return -1


def join_members(
    bytes blob not None, int64_t first, list rows not None, list headers not None
):
    """Join headers and payloads, and compare the checksums that are known.

    Args:
        blob: A part of the blob.
        first: Start of that part in the blob.
        rows: FoundRow of each member; its payload lies in that part.
        headers: Header of each member.

    Returns:
        The piece, and the place of the first damaged member, or -1.

    Raises:
        ValueError: a payload lies outside of that part.
    """
    cdef Py_ssize_t i, count = len(rows)
    cdef int64_t start, end, length = 0, wrong = -1
    cdef const unsigned char* part = <const unsigned char*> PyBytes_AsString(blob)
    cdef crc32c_function extend = find_crc32c()
    cdef placed* members
    cdef object piece, checksum
    cdef bytes header
    cdef unsigned char* to
    if len(headers) != count:
        raise ValueError(f"{count} members have {len(headers)} headers")
    members = <placed*> malloc((count + 1) * sizeof(placed))
    if members == NULL:
        raise MemoryError
    try:
        for i in range(count):
            _row, start, end, checksum = rows[i]
            header = headers[i]
            if not first <= start <= end <= first + len(blob):
                raise ValueError(f"{start} to {end} is not in the part at {first}")
            members[i].header = <const unsigned char*> PyBytes_AsString(header)
            members[i].header_length = len(header)
            members[i].payload = part + (start - first)
            members[i].size = end - start
            members[i].crc32c = NOT_KNOWN if checksum is None else checksum
            length += len(header) + padded(end - start)
        piece = PyBytes_FromStringAndSize(NULL, length)
        to = <unsigned char*> PyBytes_AsString(piece)
        with nogil:
            wrong = join(to, members, count, extend)
        return piece, wrong
    finally:
        free(members)
