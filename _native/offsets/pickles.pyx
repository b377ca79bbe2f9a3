"""Offset batches to and from pickle bytes: no pickle machine, and nothing is run."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove, memset

from common.columns cimport columns_free, columns_to_python
from offsets.reader cimport decode_pickle
from offsets.stack cimport (
    DECODE_BAD_CLASS,
    DECODE_BAD_MEMO,
    DECODE_BAD_NUMBER,
    DECODE_BAD_OPCODE,
    DECODE_BAD_PROTOCOL,
    DECODE_BAD_RANGE,
    DECODE_BAD_RESULT,
    DECODE_BAD_ROW,
    DECODE_BAD_STACK,
    DECODE_BAD_TEXT,
    DECODE_BOMB,
    DECODE_DONE,
    DECODE_MORE,
    DECODE_NO_MEMORY,
    decode_status,
    decoder,
)
from offsets.writer cimport encoder, put_list

from blobpack._native.results import MemberColumns
from blobpack.errors import FormatError, TruncatedError

cdef extern from "Python.h":
    object PyBytes_FromStringAndSize(const char*, Py_ssize_t)

cdef enum:
    READ_BYTES = 4194304


def encode_batch(
    const unsigned char[::1] names not None,
    const int64_t[::1] name_starts not None,
    const int64_t[::1] name_ends not None,
    const int64_t[::1] offset_start not None,
    const int64_t[::1] offset_end not None,
    int64_t first,
    int64_t last,
):
    """Pickle the rows first:last as one list of names and offsets.

    Name i is names[name_starts[i]:name_ends[i]].

    Returns:
        The bytes of one pickle, protocol 4; the same as the Supervisely SDK's.
    """
    cdef encoder e
    cdef int status
    cdef const unsigned char* packed = b""
    if names.shape[0]:
        packed = &names[0]
    if not 0 <= first < last <= offset_start.shape[0]:
        raise IndexError(f"rows {first}:{last} of {offset_start.shape[0]}")
    memset(&e, 0, sizeof(encoder))
    memset(e.singletons, 0xFF, sizeof(e.singletons))
    try:
        with nogil:
            status = put_list(
                &e, packed, &name_starts[first], &name_ends[first],
                &offset_start[first], &offset_end[first], last - first,
            )
        if status < 0:
            raise MemoryError
        return PyBytes_FromStringAndSize(<const char*> e.bytes, e.length)
    finally:
        free(e.bytes)


cdef dict FAULTS = {
    DECODE_BAD_OPCODE: "an opcode that no offsets file holds",
    DECODE_BAD_PROTOCOL: "not the beginning of a pickle of protocol 2 to 5",
    DECODE_BAD_CLASS: "a class other than supervisely.api.image_api.BlobImageInfo",
    DECODE_BAD_STACK: "opcodes that do not make a list of rows",
    DECODE_BAD_MEMO: "a memo that was never stored",
    DECODE_BAD_ROW: "a row without name and offsets, or of other types",
    DECODE_BAD_RANGE: "a row whose offsets are negative or out of order",
    DECODE_BAD_TEXT: "a text that is not UTF-8",
    DECODE_BAD_NUMBER: "a number or length beyond 64 bits",
    DECODE_BAD_RESULT: "a pickle that is not one list of rows",
    DECODE_BOMB: "names repeated until they fill the memory",
}


cdef class OffsetsDecoder:
    """Read an offsets file row by row, in memory bounded by its largest pickle."""

    cdef decoder d
    cdef object file
    cdef str path
    cdef int64_t pickle_start      # where in the file d.bytes begins

    def __cinit__(self, file, str path not None):
        """Read from a binary file with readinto(); messages name the path."""
        self.file = file
        self.path = path

    def __dealloc__(self):
        free(self.d.buffer)
        free(self.d.stack)
        free(self.d.memo)
        free(self.d.records)
        columns_free(&self.d.rows)

    cdef int read_more(self) except -1:
        """Append bytes of the file to those of the pickle; 0 at its end."""
        cdef decoder* d = &self.d
        cdef int64_t capacity
        cdef void* grown
        cdef Py_ssize_t got
        if d.bytes != d.buffer:
            memmove(d.buffer, d.bytes, d.length)
        if d.length + READ_BYTES > d.capacity:
            capacity = max(d.length + READ_BYTES, 2 * d.capacity)
            grown = realloc(d.buffer, capacity)
            if grown == NULL:
                raise MemoryError
            d.buffer = <unsigned char*> grown
            d.capacity = capacity
        d.bytes = d.buffer
        got = self.file.readinto(<unsigned char[:READ_BYTES]> (d.bytes + d.length))
        d.length += got
        return got > 0

    cdef void forget_pickle(self) noexcept:
        """Step over a pickle that has been read, and forget what it memoized."""
        cdef decoder* d = &self.d
        self.pickle_start += d.pos
        d.bytes += d.pos
        d.length -= d.pos
        d.pos = d.depth = d.memo_count = d.record_count = d.name_bytes = 0

    cdef object failure(self, decode_status status):
        cdef int64_t offset = self.pickle_start + self.d.pos
        if status == DECODE_NO_MEMORY:
            return MemoryError()
        if status == DECODE_MORE:
            return TruncatedError(
                f"{self.path}: the offsets file ends inside a pickle, at byte {offset}",
                offset=offset,
            )
        message = f"{self.path}: {FAULTS[status]}, at byte {offset}"
        return FormatError(message, offset=offset)

    def read_batch(self, int64_t rows):
        """Decode whole pickles up to at least that many rows, or to the file's end.

        Returns:
            MemberColumns without facts; None at the end.

        Raises:
            TruncatedError: the file ends inside a pickle.
            FormatError: it holds anything but lists of rows; with the opcode's offset.
        """
        cdef decode_status status
        while self.d.rows.count < rows:
            with nogil:
                status = decode_pickle(&self.d)
            if status == DECODE_MORE:
                if self.read_more():
                    continue
                if self.d.length == 0:
                    break
                raise self.failure(status)
            if status != DECODE_DONE:
                raise self.failure(status)
            self.forget_pickle()
        if self.d.rows.count == 0:
            return None
        members = MemberColumns(*columns_to_python(&self.d.rows))
        columns_free(&self.d.rows)
        return members
