"""Functions by which an index locates members, for native code of another module.

Each function returns False for what it can't answer: no such member, a damaged or
closed index, a name that is no UTF-8. Then the caller asks the index by its Python
methods, which find the member or raise the right error.
"""

from libc.stdint cimport int64_t

cdef enum:
    BROUGHT_AT_ONCE = 32

cdef struct member_locator:
    # crc32c: NULL if it is not wanted; -1 where the index has no checksums
    bint (*by_name)(
        object index, str name, int64_t* start, int64_t* end, int64_t* crc32c
    ) except? False
    bint (*by_row)(
        object index, int64_t row, int64_t* start, int64_t* end
    ) except? False
    int64_t (*count)(object index) noexcept
    # start to load what by_name will read, for the names at first:last of a list
    int (*bring)(
        object index, list several, Py_ssize_t first, Py_ssize_t last
    ) except -1

cdef extern from "Python.h":
    object PyCapsule_New(void*, const char*, void*)
    void* PyCapsule_GetPointer(object, const char*) except NULL


cdef inline object to_capsule(member_locator* locator):
    return PyCapsule_New(locator, "blobpack.member_locator", NULL)


cdef inline const member_locator* from_capsule(object capsule) except NULL:
    return <const member_locator*> PyCapsule_GetPointer(
        capsule, "blobpack.member_locator"
    )
