"""The header of the member that holds a blob's index, behind the end of the archive.

Its owner's name sets it apart: blobpack names the owner of no other member. So a
member that a user called `.blobpack/index` is not taken for the index.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcmp, memcpy, memset

from tar.header cimport BLOCK, SIZE_OFFSET, UNAME_OFFSET, decode_number
from tar.write_header cimport put_block

cdef extern from * nogil:
    """
    #define BLOBPACK_INDEX_NAME ".blobpack/index"
    #define BLOBPACK_INDEX_OWNER "blobpack"
    """
    const char* BLOBPACK_INDEX_NAME
    const char* BLOBPACK_INDEX_OWNER

cdef enum:
    INDEX_NAME_BYTES = 16          # with the NUL behind it
    INDEX_OWNER_BYTES = 8


cdef inline void put_index_header(unsigned char* block, int64_t size) noexcept nogil:
    """Write the header of an index of that many bytes."""
    memset(block, 0, BLOCK)
    memcpy(block, BLOBPACK_INDEX_NAME, INDEX_NAME_BYTES)
    memcpy(block + UNAME_OFFSET, BLOBPACK_INDEX_OWNER, INDEX_OWNER_BYTES)
    put_block(block, b"0", size, 0)


cdef inline int64_t index_size(const unsigned char* block) noexcept nogil:
    """Return the size of the index whose header a block is; -1 for any other block."""
    cdef unsigned char[BLOCK] wanted
    cdef int64_t size
    if memcmp(block, BLOBPACK_INDEX_NAME, INDEX_NAME_BYTES) != 0:
        return -1
    size = decode_number(block + SIZE_OFFSET, 12)
    if size < 0:
        return -1
    put_index_header(wanted, size)
    return size if memcmp(block, wanted, BLOCK) == 0 else -1
