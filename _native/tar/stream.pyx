"""Walk a tar that can be read only once, such as one in a compressed file.

Strategy: this is the walk of a scan, so names, kinds and refusals are those of a scan.
Its window is a buffer, which a stream fills. Where the tar ends is not known at first:
until the stream ends, its length counts as endless. Where a group needs bytes behind
the end, it is read again with the true length, and the walk finds that it is cut.
"""

cimport cython
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_WRITE
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memmove

from tar.failure cimport failure, is_cut
from tar.group cimport (
    bound_payload,
    cursor,
    cursor_free,
    cursor_init,
    member_group,
    read_group,
)
from tar.header cimport BLOCK, is_zero_block, padded
from tar.index_header cimport index_size
from tar.status cimport (
    WALK_END_MARKER,
    WALK_GROUP,
    WALK_NEED,
    WALK_NO_MARKER,
    walk_status,
)

from blobpack._native.results import MemberKinds, StreamMember
from blobpack.errors import TruncatedError

cdef extern from "Python.h":
    object PyMemoryView_FromMemory(char*, Py_ssize_t, int)

cdef enum:
    ROOM_BYTES = 262144

cdef int64_t ENDLESS = <int64_t> 1 << 62


@cython.final
cdef class TarStream:
    """Iterate over the members of a tar, each a StreamMember.

    Args:
        readinto: Reads the next bytes of the tar into a buffer, and returns how many; 0
            at its end.
        blob: The tar's name, for messages.
        concatenated: Go on behind end-of-archive markers, and over indexes there.

    Errors of readinto pass through.
    """

    cdef object readinto
    cdef str blob
    cdef cursor at                 # of the member that was given last, or of the next
    cdef member_group group
    cdef bytes name                # of that member
    cdef bint in_member
    cdef bint concatenated
    cdef readonly int64_t behind   # first bytes behind the end that are no zeros; or 0
    cdef readonly bytes block_behind
    cdef bytearray buffer          # the window's room
    cdef bint ended

    def __cinit__(self, readinto, str blob not None, *, bint concatenated=False):
        self.readinto = readinto
        self.blob = blob
        self.buffer = bytearray(ROOM_BYTES)
        self.concatenated = concatenated
        self.block_behind = b""
        cursor_init(&self.at, -1, ENDLESS)

    def __dealloc__(self):
        cursor_free(&self.at)

    cdef int64_t read(self, char* to, int64_t size) except -1:
        """Read up to so many bytes; fewer only where the stream ends."""
        cdef int64_t done = 0, got
        while done < size and not self.ended:
            got = self.readinto(
                PyMemoryView_FromMemory(to + done, size - done, PyBUF_WRITE)
            )
            self.ended = got == 0
            done += got
        return done

    cdef int bring(self, int64_t end) except -1:
        """Bring the bytes from the cursor up to `end`, at least, into the window."""
        cdef int64_t kept = self.at.window.end - self.at.pos
        cdef char* room = self.buffer
        cdef bytearray larger
        if end <= self.at.window.end or self.ended:
            return 0
        if end - self.at.pos > len(self.buffer):
            larger = bytearray(2 * (end - self.at.pos))
            memcpy(<char*> larger, room + self.at.pos - self.at.window.start, kept)
            self.buffer = larger
            room = larger
        else:
            memmove(room, room + self.at.pos - self.at.window.start, kept)
        self.at.window.bytes = <unsigned char*> room
        self.at.window.start = self.at.pos
        self.at.window.end = self.at.pos + kept
        self.at.window.end += self.read(room + kept, len(self.buffer) - kept)
        if self.ended:
            self.at.window.length = self.at.window.end
        return 0

    cdef int64_t read_to_end(self) except -1:
        """Read the rest of the stream, keep nothing of it, and count its bytes."""
        cdef int64_t rest = 0
        cdef bytearray room = bytearray(ROOM_BYTES)  # the window stays as it is
        while not self.ended:
            rest += self.read(room, ROOM_BYTES)
        return rest

    cdef int drop_window(self, int64_t pos) except -1:
        """Go to a place behind the window."""
        self.at.pos = self.at.window.start = self.at.window.end = pos
        if self.ended:
            self.at.window.length = pos
        return 0

    cdef int refuse_cut(self) except -1:
        """Raise the error for a payload or padding that the stream's end cuts."""
        cdef walk_status status = bound_payload(
            &self.group,
            self.group.offset_start,
            self.group.offset_end - self.group.offset_start,
            self.at.window.length,
        )
        # what the group's own name points to is gone
        self.group.name.bytes = self.name
        self.group.name.length = len(self.name)
        raise failure(status, &self.at, &self.group, self.blob)

    cdef bint skip_to(self, int64_t until) except -1:
        """Go to a place; False if the stream ends before it."""
        cdef int64_t size
        while self.at.window.end < until:
            if self.ended:
                return False
            self.drop_window(self.at.window.end)
            size = min(until - self.at.pos, <int64_t> len(self.buffer))
            self.drop_window(self.at.pos + self.read(self.buffer, size))
        self.at.pos = until
        return True

    cdef int leave_member(self) except -1:
        """Go to the next group."""
        if not self.skip_to(self.group.next_start):
            self.refuse_cut()
        self.in_member = False
        return 0

    cdef int find_behind(self) except -1:
        """Step over zero blocks and indexes behind an archive; note what follows."""
        cdef const unsigned char* block
        cdef int64_t size
        self.behind = 0
        while True:
            self.bring(self.at.pos + BLOCK)
            size = min(self.at.window.end - self.at.pos, <int64_t> BLOCK)
            block = self.at.window.bytes + (self.at.pos - self.at.window.start)
            if size < BLOCK or not is_zero_block(block):
                self.block_behind = block[:size]
                if size == BLOCK and index_size(block) >= 0:
                    self.leave_index(index_size(block))
                    continue
                if self.block_behind.strip(b"\0"):
                    self.behind = self.at.pos
                return 0
            self.at.pos += BLOCK

    cdef int leave_index(self, int64_t size) except -1:
        """Go behind an index; a cut one is an error only if members are looked for."""
        cdef walk_status status
        if not self.concatenated:
            if not self.skip_to(self.at.pos + BLOCK + padded(min(size, ENDLESS))):
                self.at.pos = self.at.window.end
            return 0
        status = self.next_group()
        if status != WALK_GROUP:
            raise failure(status, &self.at, &self.group, self.blob)
        self.name = self.group.name.bytes[:self.group.name.length]
        return self.leave_member()

    cdef walk_status next_group(self) except *:
        """Read the headers of the next member."""
        cdef walk_status status = WALK_NEED
        while status == WALK_NEED:
            status = read_group(&self.at, &self.group)
            if status == WALK_NEED:
                self.bring(self.at.window.need_end)
            elif is_cut(status) and not self.ended:
                # a size near 2**62: the message says how long the tar is
                self.at.window.length = self.at.window.end + self.read_to_end()
                status = WALK_NEED
        return status

    def __iter__(self):
        return self

    def __next__(self):
        """Return the next member.

        Behind the last one the rest of the stream is read, too: the checksums of
        compressed files are compared at their ends.

        Raises:
            TruncatedError: the stream ends inside a header, a payload or its padding.
            FormatError: a header is damaged.
        """
        cdef walk_status status
        if self.in_member:
            self.leave_member()
        status = self.next_group()
        while status == WALK_END_MARKER:
            self.find_behind()
            if not self.concatenated:
                break
            self.behind = 0
            if len(self.block_behind) < BLOCK:
                break
            status = self.next_group()
        if status == WALK_NO_MARKER and self.at.pos == 0:
            # a tar without members has its end marker: this is what a failed copy left
            raise TruncatedError(
                f"{self.blob}: the file is empty, at byte 0", offset=0
            )
        if status == WALK_END_MARKER or status == WALK_NO_MARKER:
            self.read_to_end()
            raise StopIteration
        if status != WALK_GROUP:
            raise failure(status, &self.at, &self.group, self.blob)
        self.in_member = True
        self.name = self.group.name.bytes[:self.group.name.length]
        return StreamMember(
            self.name,
            MemberKinds._fields[<int> self.group.kind],
            self.group.offset_end - self.group.offset_start,
        )

    def head(self, int64_t size):
        """Return the first bytes of the member's payload, up to so many of them."""
        cdef int64_t start = self.group.offset_start
        cdef int64_t end = min(start + size, self.group.offset_end)
        self.bring(end)
        if self.at.window.end < end:
            self.refuse_cut()
        start -= self.at.window.start
        return self.at.window.bytes[start:end - self.at.window.start]

    def payload(self):
        """Return the member's payload; once for each member."""
        cdef int64_t size = self.group.offset_end - self.group.offset_start
        cdef int64_t have
        cdef bytes whole
        cdef char* to
        if self.group.offset_end - self.at.pos <= len(self.buffer):
            return self.head(size)
        have = self.at.window.end - self.group.offset_start
        whole = PyBytes_FromStringAndSize(NULL, size)
        to = PyBytes_AsString(whole)
        memcpy(
            to,
            self.at.window.bytes + self.group.offset_start - self.at.window.start,
            have,
        )
        have += self.read(to + have, size - have)
        self.drop_window(self.group.offset_start + have)
        if have < size:
            self.refuse_cut()
        return whole
