"""Hashes of names in the order of their rows, the last of them in memory.

Hashes of the rows before are in a file, if there are many of them; see spill.pxd.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, strerror

from index.name_hash cimport name_hash
from index.spill cimport hash_spill, spill_add, spill_copy, spill_free, spill_init

cdef struct kept_hashes:           # begins as zeros
    name_hash* recent              # of the rows `first` to `count`
    int64_t capacity
    int64_t first
    int64_t count                  # of all rows
    hash_spill spill
    bint is_spilled


cdef inline void hashes_free(kept_hashes* kept) noexcept nogil:
    free(kept.recent)
    spill_free(&kept.spill)


cdef inline int reserve(kept_hashes* kept, int64_t rows) except -1:
    """Make room for more rows."""
    cdef int64_t recent = kept.count - kept.first
    cdef int64_t capacity = max(recent + rows, 2 * kept.capacity)
    cdef void* grown
    if recent + rows <= kept.capacity:
        return 0
    grown = realloc(kept.recent, capacity * sizeof(name_hash))
    if grown == NULL:
        raise MemoryError
    kept.recent = <name_hash*> grown
    kept.capacity = capacity
    return 0


cdef inline str temporary_file():
    return "a temporary file for the names of many members"


cdef inline object spill_failure(int error):
    from blobpack.errors import StorageError

    reason = strerror(error).decode(errors="replace")
    return StorageError(f"{temporary_file()} can't be written or read: {reason}")


cdef inline int begin_spill(kept_hashes* kept, open_file) except -1:
    from os import dup

    from blobpack.errors import StorageError

    cdef int fd = -1
    try:
        with open_file() as file:
            # our own descriptor: it is closed where nothing of Python can be called
            fd = dup(file.fileno())
    except OSError as exc:
        raise StorageError(f"{temporary_file()} can't be opened: {exc}") from exc
    if not spill_init(&kept.spill, fd):
        raise MemoryError
    kept.is_spilled = True
    return 0


cdef inline int spill_recent(kept_hashes* kept, open_file) except -1:
    """Write the hashes that are in memory to the file, which open_file() opens."""
    cdef int error
    if not kept.is_spilled:
        begin_spill(kept, open_file)
    with nogil:
        error = spill_add(
            &kept.spill, kept.recent, kept.first, kept.count - kept.first
        )
    if error:
        raise spill_failure(error)
    kept.first = kept.count
    # the room stays as large as before, so that the next part finds room
    return 0


cdef inline int copy_hashes(kept_hashes* to, kept_hashes* kept, open_file) except -1:
    """Copy all hashes into empty kept_hashes, which get a file of their own."""
    cdef int error = 0
    to.first = to.count = kept.first
    reserve(to, max(kept.count - kept.first, 1))
    if kept.is_spilled:
        begin_spill(to, open_file)
        with nogil:
            error = spill_copy(&to.spill, &kept.spill)
    if error:
        raise spill_failure(error)
    if kept.count > kept.first:
        memcpy(to.recent, kept.recent, (kept.count - kept.first) * sizeof(name_hash))
    to.count = kept.count
    return 0
