"""Work on a mapped file, which may be cut while it is read.

The handler lives in one module, stores/fault_guard.pyx, because a process has one
handler of SIGBUS. The other modules call it through this pointer.
"""

ctypedef void (*guarded_work)(void*) noexcept nogil
ctypedef bint (*guard_function)(
    guarded_work, void*, const void*, size_t
) noexcept nogil

cdef extern from "Python.h":
    void* PyCapsule_GetPointer(object, const char*) except NULL

cdef extern from *:
    """
    #define read_byte(at) (*(const volatile unsigned char*) (at))
    #define read_before_what_follows() __atomic_thread_fence(__ATOMIC_ACQUIRE)
    """
    # never left out or moved by the compiler, as a plain read may be
    unsigned char read_byte(const void* at) noexcept nogil
    void read_before_what_follows() noexcept nogil


cdef inline guard_function find_guard() except NULL:
    """Return run_guarded of stores/fault_guard.pyx."""
    from blobpack._native.fault_guard import GUARD

    return <guard_function> PyCapsule_GetPointer(GUARD, "blobpack.run_guarded")
