"""Hashes of names in a file, with their rows, so that more names take no more memory.

Strategy: a hash belongs to one of 256 parts, by its first 8 bits under the seed 0.
These bits also choose the page of the lookup, so each part fills pages of its own, and
only one part at a time is in memory. Each part has a chunk of 64 KiB in memory. A full
chunk is written behind the others, with the place of the chunk before it in its part.
"""

from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from posix.types cimport off_t
from posix.unistd cimport close, pread, pwrite

from index.name_hash cimport name_hash
from index.pages cimport seeded

cdef enum:
    SPILL_PARTS = 256
    CHUNK_HASHES = 3276            # a chunk has 64 KiB

cdef packed struct spilled_hash:
    name_hash name
    uint32_t row

cdef packed struct spill_chunk:
    int64_t before                 # where the chunk before it is in the file; -1: none
    spilled_hash[CHUNK_HASHES] hashes

cdef struct spill_part:
    int64_t last                   # where its last chunk is in the file; -1: none
    int64_t written                # hashes in the file
    int64_t waiting                # hashes in its chunk in memory

cdef struct hash_spill:
    int fd
    int64_t end                    # bytes of the file
    spill_part[SPILL_PARTS] parts
    spill_chunk* chunks            # one for each part, and one to read into


cdef inline bint spill_init(hash_spill* spill, int fd) noexcept nogil:
    """Begin a spill in an empty file, which it closes; False when memory is out."""
    cdef int i
    spill.fd = fd
    spill.end = 0
    for i in range(SPILL_PARTS):
        spill.parts[i].last = -1
        spill.parts[i].written = spill.parts[i].waiting = 0
    spill.chunks = <spill_chunk*> malloc((SPILL_PARTS + 1) * sizeof(spill_chunk))
    return spill.chunks != NULL


cdef inline void spill_free(hash_spill* spill) noexcept nogil:
    """End a spill, also one of zeros that was not begun."""
    if spill.fd > 0:
        close(spill.fd)
    free(spill.chunks)


cdef inline int write_all(
    int fd, const void* data, int64_t size, int64_t pos
) noexcept nogil:
    """Write bytes at a position; return 0, or the error's number."""
    cdef int64_t done = 0
    cdef ssize_t wrote
    while done < size:
        wrote = pwrite(fd, <const char*> data + done, size - done, <off_t> (pos + done))
        if wrote < 0 and errno != EINTR:
            return errno
        done += max(wrote, 0)
    return 0


cdef inline int read_all(int fd, void* to, int64_t size, int64_t pos) noexcept nogil:
    """Read bytes at a position; return 0, or the error's number."""
    cdef int64_t done = 0
    cdef ssize_t got
    while done < size:
        got = pread(fd, <char*> to + done, size - done, <off_t> (pos + done))
        if got == 0:
            return EIO                 # the file was cut
        if got < 0 and errno != EINTR:
            return errno
        done += max(got, 0)
    return 0


cdef inline int spill_add(
    hash_spill* spill, const name_hash* hashes, int64_t first_row, int64_t count
) noexcept nogil:
    """Add hashes of rows that follow each other; return 0, or the error's number."""
    cdef int64_t i
    cdef int number, error
    cdef spill_part* part
    cdef spill_chunk* chunk
    for i in range(count):
        number = <int> (seeded(hashes[i].hash, 0) >> 56)
        part = &spill.parts[number]
        chunk = &spill.chunks[number]
        # before the hash is added: a chunk that could not be written stays full
        if part.waiting == CHUNK_HASHES:
            chunk.before = part.last
            error = write_all(spill.fd, chunk, sizeof(spill_chunk), spill.end)
            if error:
                return error
            part.last = spill.end
            spill.end += sizeof(spill_chunk)
            part.written += CHUNK_HASHES
            part.waiting = 0
        chunk.hashes[part.waiting].name = hashes[i]
        chunk.hashes[part.waiting].row = <uint32_t> (first_row + i)
        part.waiting += 1
    return 0


cdef inline int64_t part_count(const hash_spill* spill, int number) noexcept nogil:
    return spill.parts[number].written + spill.parts[number].waiting


cdef inline void unpack_chunk(
    const spill_chunk* chunk, int64_t count, name_hash* hashes, uint32_t* rows
) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        hashes[i] = chunk.hashes[i].name
        rows[i] = chunk.hashes[i].row


cdef inline int spill_read(
    hash_spill* spill, int number, name_hash* hashes, uint32_t* rows
) noexcept nogil:
    """Read a part, its rows in ascending order; return 0, or the error's number.

    There must be room for part_count hashes and rows.
    """
    cdef spill_part* part = &spill.parts[number]
    cdef spill_chunk* read = &spill.chunks[SPILL_PARTS]
    cdef int64_t left = part.written, pos = part.last
    cdef int error
    unpack_chunk(&spill.chunks[number], part.waiting, hashes + left, rows + left)
    while left:
        error = read_all(spill.fd, read, sizeof(spill_chunk), pos)
        if error:
            return error
        left -= CHUNK_HASHES
        unpack_chunk(read, CHUNK_HASHES, hashes + left, rows + left)
        pos = read.before
    return 0


cdef inline int spill_copy(hash_spill* to, hash_spill* spill) noexcept nogil:
    """Copy all hashes to an empty spill; return 0, or the error's number."""
    cdef spill_chunk* read = &spill.chunks[SPILL_PARTS]
    cdef int error
    while to.end < spill.end:
        error = read_all(spill.fd, read, sizeof(spill_chunk), to.end)
        if error == 0:
            error = write_all(to.fd, read, sizeof(spill_chunk), to.end)
        if error:
            return error
        to.end += sizeof(spill_chunk)
    to.parts = spill.parts
    memcpy(to.chunks, spill.chunks, SPILL_PARTS * sizeof(spill_chunk))
    return 0
