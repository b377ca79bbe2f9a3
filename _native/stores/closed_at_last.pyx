"""Close a file when the last reference to its descriptor is gone."""

cdef extern from "unistd.h":
    int close(int fd) nogil


def close_descriptor(int fd):
    """Close a file, as a finalizer in compiled code.

    Python runs signal handlers between the steps of Python code, also in a finalizer,
    and drops what they raise there: a Ctrl-C would be lost. Here, the handler runs
    later, in the caller.
    """
    close(fd)
