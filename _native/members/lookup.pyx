"""Find members by name: a hash table from names to rows.

Names are packed UTF-8 (or whatever bytes the tar holds): name i is
names[name_bounds[i]:name_bounds[i + 1]].
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from common.hash cimport encoded_name, hash_name
from common.locator cimport member_locator, to_capsule

from os import urandom

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef extern from *:
    void prefetch "__builtin_prefetch" (const void*) noexcept nogil

cdef enum:
    FREE_SLOT = 0xFFFFFFFF
    AT_ONCE = 32                   # names whose slots are fetched ahead

cdef uint64_t seed = int.from_bytes(urandom(8), "little")


cdef class NameLookup:
    """Find rows by name through a hash table.

    Of equal names the last row wins, as in tar extraction.
    """

    cdef uint32_t* slots
    cdef uint64_t mask
    cdef const unsigned char[::1] names
    cdef const int64_t[::1] name_bounds
    cdef bint repeats              # two names are equal

    def __cinit__(
        self,
        const unsigned char[::1] names not None,
        const int64_t[::1] name_bounds not None,
    ):
        cdef int64_t count = name_bounds.shape[0] - 1
        cdef uint64_t capacity = 8
        if count >= FREE_SLOT:
            raise OverflowError(f"{count} names are more than one table holds")
        while capacity < 2 * <uint64_t> count:
            capacity *= 2
        self.names = names
        self.name_bounds = name_bounds
        self.mask = capacity - 1
        self.slots = <uint32_t*> malloc(capacity * sizeof(uint32_t))
        if self.slots == NULL:
            raise MemoryError
        with nogil:
            self.fill(count)

    def __dealloc__(self):
        free(self.slots)

    cdef void fill(self, int64_t count) noexcept nogil:
        cdef uint64_t slot
        cdef int64_t first = 0, last
        for slot in range(self.mask + 1):
            self.slots[slot] = FREE_SLOT
        while first < count:
            last = min(first + AT_ONCE, count)
            self.put(first, last)
            first = last

    cdef void put(self, int64_t first, int64_t last) noexcept nogil:
        """Put up to AT_ONCE rows in; the waits for memory go side by side."""
        cdef uint64_t[AT_ONCE] slots
        cdef uint64_t slot
        cdef int64_t row, start, length
        for row in range(first, last):
            start = self.name_bounds[row]
            length = self.name_bounds[row + 1] - start
            slot = hash_name(self.name_at(start), length, seed) & self.mask
            slots[row - first] = slot
            prefetch(&self.slots[slot])
        for row in range(first, last):
            start = self.name_bounds[row]
            length = self.name_bounds[row + 1] - start
            slot = self.probe(slots[row - first], self.name_at(start), length)
            if self.slots[slot] != FREE_SLOT:
                self.repeats = True
            self.slots[slot] = row

    cdef inline const char* name_at(self, int64_t start) noexcept nogil:
        return <const char*> &self.names[0] + start if self.names.shape[0] else NULL

    cdef uint64_t find_slot(self, const char* name, int64_t length) noexcept nogil:
        """Find the slot that holds the name, or the free one where it belongs."""
        return self.probe(hash_name(name, length, seed) & self.mask, name, length)

    cdef inline uint64_t probe(
        self, uint64_t slot, const char* name, int64_t length
    ) noexcept nogil:
        """Go on from the slot where the name belongs."""
        cdef int64_t row, start
        while self.slots[slot] != FREE_SLOT:
            row = self.slots[slot]
            start = self.name_bounds[row]
            if (
                self.name_bounds[row + 1] - start == length
                and (length == 0 or memcmp(self.name_at(start), name, length) == 0)
            ):
                return slot
            slot = (slot + 1) & self.mask
        return slot

    def first_duplicate(self):
        """Return two rows that have one name, or None when all names differ."""
        cdef int64_t row, start, length, last = -1
        cdef uint64_t slot
        if not self.repeats:
            return None
        with nogil:
            for row in range(self.name_bounds.shape[0] - 1):
                start = self.name_bounds[row]
                length = self.name_bounds[row + 1] - start
                slot = self.find_slot(self.name_at(start), length)
                if self.slots[slot] != row:
                    last = self.slots[slot]
                    break
        return None if last < 0 else (row, last)

    def mark(
        self,
        const unsigned char[::1] names not None,
        const int64_t[::1] name_bounds not None,
    ):
        """Mark the other names that are here.

        Returns:
            (n,) bytes, 1 where the name is in this table, else 0.
        """
        cdef int64_t count = name_bounds.shape[0] - 1, first = 0, some
        cdef bytearray mask = bytearray(count)
        cdef unsigned char[::1] marked = mask
        cdef const char* packed = b""
        if names.shape[0]:
            packed = <const char*> &names[0]
        with nogil:
            while first < count:
                some = min(count - first, <int64_t> AT_ONCE)
                self.mark_some(packed, &name_bounds[first], some, &marked[first])
                first += some
        return bytes(mask)

    cdef void mark_some(
        self,
        const char* names,
        const int64_t* name_bounds,
        int64_t count,
        unsigned char* marked,
    ) noexcept nogil:
        """Mark up to AT_ONCE names.

        Each step for all of them, so that the waits for memory go side by side.
        """
        cdef uint64_t[AT_ONCE] slots
        cdef uint32_t row
        cdef int64_t i, start, length
        for i in range(count):
            start = name_bounds[i]
            length = name_bounds[i + 1] - start
            slots[i] = hash_name(names + start, length, seed) & self.mask
            prefetch(&self.slots[slots[i]])
        for i in range(count):
            row = self.slots[slots[i]]
            if row != FREE_SLOT:
                prefetch(&self.name_bounds[row])
        for i in range(count):
            row = self.slots[slots[i]]
            if row != FREE_SLOT:
                prefetch(self.name_at(self.name_bounds[row]))
        for i in range(count):
            start = name_bounds[i]
            length = name_bounds[i + 1] - start
            slots[i] = self.probe(slots[i], names + start, length)
            marked[i] = self.slots[slots[i]] != FREE_SLOT

    def last_rows(self):
        """Mark the last row of each name; lookups do not lead to earlier ones.

        Returns:
            (n,) bytes, 1 or 0.
        """
        cdef int64_t count = self.name_bounds.shape[0] - 1
        cdef bytearray mask = bytearray(count)
        cdef unsigned char[::1] leads = mask
        cdef uint64_t slot
        with nogil:
            for slot in range(self.mask + 1):
                if self.slots[slot] != FREE_SLOT:
                    leads[self.slots[slot]] = True
        return bytes(mask)

    def find(self, str name not None):
        """Return the last row of that name, -1 when there is none."""
        cdef Py_ssize_t length
        cdef const char* text
        cdef bytes encoded
        cdef uint32_t row
        try:
            text = PyUnicode_AsUTF8AndSize(name, &length)
        except UnicodeEncodeError:  # surrogates: bytes that are not UTF-8
            encoded = encoded_name(name)
            if encoded is None:
                return -1
            text = encoded
            length = len(encoded)
        row = self.slots[self.find_slot(text, length)]
        return -1 if row == FREE_SLOT else row


cdef class MemberColumnsLocator:
    """Locate members whose columns are in memory, for MemberReads.

    Args:
        lookup: Finds their names; None if none was made yet.
        offset_start, offset_end: (n,) the members' offsets.
        crc32c: (n,) their checksums; None if the index has none.
    """

    cdef NameLookup lookup
    cdef const int64_t[::1] offset_start
    cdef const int64_t[::1] offset_end
    cdef const uint32_t[::1] crc32c
    cdef readonly object locator

    def __cinit__(
        self,
        NameLookup lookup,
        const int64_t[::1] offset_start not None,
        const int64_t[::1] offset_end not None,
        const uint32_t[::1] crc32c=None,
    ):
        self.lookup = lookup
        self.crc32c = crc32c
        self.offset_start = offset_start
        self.offset_end = offset_end
        self.locator = LOCATOR


cdef bint locate_row(
    object index, int64_t row, int64_t* start, int64_t* end
) except? False:
    cdef MemberColumnsLocator located = <MemberColumnsLocator> index
    start[0] = located.offset_start[row]
    end[0] = located.offset_end[row]
    return True


cdef bint locate_name(
    object index, str name, int64_t* start, int64_t* end, int64_t* crc32c
) except? False:
    cdef MemberColumnsLocator located = <MemberColumnsLocator> index
    cdef NameLookup lookup = located.lookup
    cdef Py_ssize_t length
    cdef const char* text
    cdef uint32_t row
    if lookup is None:
        return False
    try:
        text = PyUnicode_AsUTF8AndSize(name, &length)
    except UnicodeEncodeError:
        return False
    row = lookup.slots[lookup.find_slot(text, length)]
    if row == FREE_SLOT:
        return False
    if crc32c != NULL:
        crc32c[0] = -1 if located.crc32c is None else located.crc32c[row]
    return locate_row(index, row, start, end)


cdef int64_t count_rows(object index) noexcept:
    return (<MemberColumnsLocator> index).offset_start.shape[0]


cdef int bring_names(
    object index, list several, Py_ssize_t first, Py_ssize_t last
) except -1:
    """Prefetch the slots of names."""
    cdef NameLookup lookup = (<MemberColumnsLocator> index).lookup
    cdef Py_ssize_t length, i
    cdef const char* text
    if lookup is None:
        return 0
    for i in range(first, last):
        if isinstance(several[i], str) and (<str> several[i]).isascii():
            text = PyUnicode_AsUTF8AndSize(several[i], &length)
            prefetch(&lookup.slots[hash_name(text, length, seed) & lookup.mask])
    return 0


cdef member_locator locator
locator.by_name = locate_name
locator.by_row = locate_row
locator.count = count_rows
locator.bring = bring_names
cdef object LOCATOR = to_capsule(&locator)
