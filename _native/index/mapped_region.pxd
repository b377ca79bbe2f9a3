"""An index region that is mapped from a file, and the jobs of row_job.pxd on it."""

from libc.errno cimport errno
from libc.stdint cimport int64_t
from libc.string cimport strerror
from posix.mman cimport (
    MADV_DONTNEED,
    MAP_FAILED,
    MAP_SHARED,
    PROT_READ,
    madvise,
    mmap,
    munmap,
)
from posix.unistd cimport _SC_PAGESIZE, SEEK_END, lseek, sysconf

from common.guarded cimport guard_function, guarded_work
from common.hash cimport hash_name
from index.faults cimport FAULT_NONE, failure
from index.pages cimport seeded
from index.region cimport (
    index_region,
    prefetch,
    region_fits,
    region_free,
    region_init,
    slots_of,
)
from index.row_job cimport FOOTER_BYTES, bring_rows, names_job, row_job
from index.rows cimport HAS_CRC32C

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef struct mapped_region:         # begins as zeros
    index_region region
    void* map                      # NULL: not mapped
    size_t map_bytes
    guard_function guard
    int fd
    int64_t offset                 # of the region in the file
    const char* known              # the footer when the index was opened
    int facts                      # that the index has


cdef inline int map_region(
    mapped_region* mapped, str where, int64_t footer_bytes
) except -1:
    """Map the region, whose numbers and place in the file are set."""
    from blobpack.errors import FormatError, StorageError

    cdef int64_t before
    cdef void* map
    # a region that fits has a page at least, so it is no shorter than a footer
    if footer_bytes != FOOTER_BYTES or not region_fits(&mapped.region):
        raise FormatError(
            f"{where}: the index is damaged: its footer does not fit its size",
            offset=mapped.offset,
        )
    refuse_cut_file(mapped, where)
    # mmap(2) takes offsets at multiples of a page only, and an index inside a blob
    # starts at any block of 512
    before = mapped.offset % sysconf(_SC_PAGESIZE)
    mapped.map_bytes = before + mapped.region.length
    map = mmap(
        NULL, mapped.map_bytes, PROT_READ, MAP_SHARED, mapped.fd,
        mapped.offset - before,
    )
    if map == MAP_FAILED:
        reason = (<bytes> strerror(errno)).decode()
        raise StorageError(f"{where}: its index can't be mapped: {reason}")
    mapped.map = map
    mapped.region.bytes = <const unsigned char*> map + before
    if not region_init(&mapped.region):
        raise MemoryError
    return 0


cdef inline void unmap_region(mapped_region* mapped) noexcept nogil:
    if mapped.map != NULL:
        munmap(mapped.map, mapped.map_bytes)
    region_free(&mapped.region)


cdef inline void forget_pages(mapped_region* mapped) noexcept nogil:
    """Remove the pages that were read from the memory of this process.

    Nothing gets lost, because the pages belong to a file.
    """
    madvise(mapped.map, mapped.map_bytes, MADV_DONTNEED)


cdef inline int refuse_cut_file(const mapped_region* mapped, str where) except -1:
    """Raise BlobChangedError if the file was cut since the index was opened."""
    from blobpack.errors import BlobChangedError

    cdef int64_t size = lseek(mapped.fd, 0, SEEK_END)
    cdef int64_t end = mapped.offset + mapped.region.length
    if size >= end:
        return 0
    raise BlobChangedError(
        f"{where}: the file was cut to {size} bytes; its index was there up "
        f"to byte {end} when it was opened"
    )


cdef inline bint do_job(
    mapped_region* mapped, guarded_work work, void* job
) noexcept nogil:
    """Do a job; return whether a fault has ended it."""
    return mapped.guard(work, job, mapped.map, mapped.map_bytes)


cdef inline void begin_job(mapped_region* mapped, row_job* job) noexcept nogil:
    job.region = &mapped.region
    job.known = mapped.known
    job.with_crc32c = mapped.facts & HAS_CRC32C
    job.kind = FAULT_NONE
    job.in_member = job.overwritten = job.shortened = False
    job.position = 0


cdef inline bint is_sound(const row_job* job, bint ended) noexcept nogil:
    """Return whether what a job has read can be used. If not, check_job says why."""
    return (
        not ended
        and job.kind == FAULT_NONE
        and not job.overwritten
        and not job.shortened
    )


cdef inline bint check_job(
    const mapped_region* mapped, const row_job* job, bint ended, str what, str where
) except -1:
    """Raise the error of a job; return whether the index was overwritten.

    If it was, nothing in the job is used, and a fault in it is no error.

    Args:
        mapped: The region.
        job: What was done.
        ended: A fault has ended it.
        what, where: What was read, and the name of the file, for messages.
    """
    if ended:
        refuse_cut_file(mapped, where)
        raise unreadable(where)
    if job.shortened:
        refuse_cut_file(mapped, where)
    if job.overwritten or job.kind == FAULT_NONE:
        return job.overwritten
    if job.in_member:
        raise failure(job.kind, where, "the member", mapped.offset)
    raise failure(job.kind, where, what, mapped.offset + job.position)


cdef inline object unreadable(str where):
    from blobpack.errors import StorageError

    return StorageError(f"{where}: its index can't be read: bus error")


cdef inline bint is_found(
    mapped_region* mapped, guarded_work work, row_job* job, bint with_crc32c
) noexcept nogil:
    """Find a member; return False if there is none, or what was read can't be used."""
    job.region = &mapped.region
    job.known = mapped.known
    job.with_crc32c = with_crc32c and mapped.facts & HAS_CRC32C
    return is_sound(job, do_job(mapped, work, job)) and job.row >= 0


cdef inline int bring(
    mapped_region* mapped, list names, Py_ssize_t first, Py_ssize_t last
) except -1:
    """Prefetch the slots of some names, then the rows that those give."""
    cdef names_job job
    cdef const char* text
    cdef Py_ssize_t length, i
    if mapped.region.pages == 0:
        return 0
    job.region = &mapped.region
    job.count = 0
    for i in range(first, last):
        if not isinstance(names[i], str) or not (<str> names[i]).isascii():
            continue
        text = PyUnicode_AsUTF8AndSize(names[i], &length)
        job.hashes[job.count] = seeded(hash_name(text, length, 0), mapped.region.seed)
        prefetch(slots_of(&mapped.region, job.hashes[job.count]))
        job.count += 1
    # a fault is noticed again when the names are looked up
    do_job(mapped, bring_rows, &job)
    return 0
