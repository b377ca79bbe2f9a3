"""Find members by name: name to row, globs over packed names, names of chosen rows.

Names are packed UTF-8 (or whatever bytes the tar holds): name i is
names[name_bounds[i]:name_bounds[i + 1]].
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from columns cimport owned_view
from names cimport hash_name
from utf8 cimport decode_char

from os import urandom

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef extern from *:
    void prefetch "__builtin_prefetch" (const void*) noexcept nogil

cdef enum:
    FREE_SLOT = 0xFFFFFFFF
    MARKED_AT_ONCE = 32            # names whose slots are fetched ahead

cdef enum token_kind:
    TOKEN_LITERAL
    TOKEN_ANY                      # ? one character
    TOKEN_STAR                     # * any characters, "/" too
    TOKEN_SET                      # [seq] or [!seq]

cdef struct token:
    token_kind kind
    int64_t start                  # literal: in the glob's bytes; set: its first range
    int64_t length                 # literal: bytes; set: ranges
    bint negated

cdef uint64_t seed = int.from_bytes(urandom(8), "little")


cdef class NameLookup:
    """Find rows by name through a hash table.

    Of equal names the last row wins, as in tar extraction.
    """

    cdef uint32_t* slots
    cdef uint64_t mask
    cdef const unsigned char[::1] names
    cdef const int64_t[::1] name_bounds

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
        cdef int64_t row, start, length
        for slot in range(self.mask + 1):
            self.slots[slot] = FREE_SLOT
        for row in range(count):
            start = self.name_bounds[row]
            length = self.name_bounds[row + 1] - start
            slot = self.find_slot(self.name_at(start), length)
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
        """Tell which of other names are here.

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
                some = min(count - first, <int64_t> MARKED_AT_ONCE)
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
        """Mark up to MARKED_AT_ONCE names.

        Each step for all of them, so that the waits for memory go side by side.
        """
        cdef uint64_t[MARKED_AT_ONCE] slots
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
        """Tell the rows that their names lead to from those that a later row hides.

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
            try:
                encoded = name.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:  # other surrogates: no tar holds such a name
                return -1
            text = encoded
            length = len(encoded)
        row = self.slots[self.find_slot(text, length)]
        return -1 if row == FREE_SLOT else row


cdef class Glob:
    """A glob, compiled: `*`, `?`, `[seq]`, `[!seq]` as in fnmatch.fnmatchcase.

    `*` crosses "/".
    """

    cdef token* tokens
    cdef int64_t token_count
    cdef uint32_t* ranges          # pairs: first and last code point
    cdef int64_t range_count
    cdef bytes literals

    def __cinit__(self, str pattern not None):
        self.tokens = <token*> malloc((len(pattern) + 1) * sizeof(token))
        self.ranges = <uint32_t*> malloc((len(pattern) + 1) * 2 * sizeof(uint32_t))
        self.literals = b""
        if self.tokens == NULL or self.ranges == NULL:
            raise MemoryError
        self.compile(pattern)

    def __dealloc__(self):
        free(self.tokens)
        free(self.ranges)

    cdef int compile(self, str pattern) except -1:
        cdef Py_ssize_t i = 0, end
        while i < len(pattern):
            if pattern[i] == "*":
                if not self.ends_in(TOKEN_STAR):
                    self.push(TOKEN_STAR, 0, 0)
            elif pattern[i] == "?":
                self.push(TOKEN_ANY, 0, 0)
            elif pattern[i] == "[" and (end := set_end(pattern, i)) > 0:
                self.push_set(pattern[i + 1:end])
                i = end
            else:
                self.push_literal(pattern[i])
            i += 1
        return 0

    cdef bint ends_in(self, token_kind kind):
        return self.token_count > 0 and self.tokens[self.token_count - 1].kind == kind

    cdef int push(self, token_kind kind, int64_t start, int64_t length) except -1:
        self.tokens[self.token_count].kind = kind
        self.tokens[self.token_count].start = start
        self.tokens[self.token_count].length = length
        self.tokens[self.token_count].negated = False
        self.token_count += 1
        return 0

    cdef int push_literal(self, str char) except -1:
        cdef bytes encoded
        try:
            encoded = char.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # other surrogates: no tar holds such a name
            encoded = char.encode("utf-8", "surrogatepass")
        if not self.ends_in(TOKEN_LITERAL):
            self.push(TOKEN_LITERAL, len(self.literals), 0)
        self.literals += encoded
        self.tokens[self.token_count - 1].length += len(encoded)
        return 0

    cdef int push_set(self, str chars) except -1:
        cdef Py_ssize_t i
        cdef bint negated = chars.startswith("!")
        cdef uint32_t first, last
        self.push(TOKEN_SET, self.range_count, 0)
        self.tokens[self.token_count - 1].negated = negated
        i = negated
        while i < len(chars):
            first = last = ord(chars[i])
            if i + 2 < len(chars) and chars[i + 1] == "-":
                last = ord(chars[i + 2])
                i += 2
            i += 1
            self.ranges[2 * self.range_count] = first
            self.ranges[2 * self.range_count + 1] = last
            self.range_count += 1
            self.tokens[self.token_count - 1].length += 1
        return 0

    cdef bint in_set(self, const token* wanted, uint32_t point) noexcept nogil:
        cdef int64_t i
        for i in range(wanted.start, wanted.start + wanted.length):
            if self.ranges[2 * i] <= point <= self.ranges[2 * i + 1]:
                return not wanted.negated
        return wanted.negated

    cdef int64_t step(
        self,
        const char* literals,
        const token* wanted,
        const unsigned char* name,
        int64_t length,
    ) noexcept nogil:
        """Match one token but a star at the beginning of name.

        The bytes it took, -1 when it does not.
        """
        cdef uint32_t point
        cdef int size
        if wanted.kind == TOKEN_LITERAL:
            if wanted.length > length:
                return -1
            if memcmp(literals + wanted.start, name, wanted.length):
                return -1
            return wanted.length
        if length == 0:
            return -1
        size = decode_char(name, length, &point)
        if wanted.kind == TOKEN_SET and not self.in_set(wanted, point):
            return -1
        return size

    cdef bint matches(
        self, const char* literals, const unsigned char* name, int64_t length
    ) noexcept nogil:
        """Match the whole name.

        Only the last star is ever tried again: an earlier one can't do better.
        """
        cdef int64_t pos = 0, i = 0, took
        cdef int64_t star = -1, star_pos = 0
        cdef uint32_t point
        cdef const token* last
        if self.token_count and self.tokens[self.token_count - 1].kind == TOKEN_LITERAL:
            # most globs are decided by their end
            last = &self.tokens[self.token_count - 1]
            if last.length > length or memcmp(
                literals + last.start, name + length - last.length, last.length
            ):
                return False
            if (
                self.token_count == 2
                and self.tokens[0].kind == TOKEN_STAR
                and literals[last.start] & 0xC0 != 0x80  # not inside a character
            ):
                return True
        while True:
            if i < self.token_count and self.tokens[i].kind == TOKEN_STAR:
                star = i
                star_pos = pos
                i += 1
                if i == self.token_count:
                    return True
                continue
            if i == self.token_count and pos == length:
                return True
            took = -1
            if i < self.token_count:
                took = self.step(literals, &self.tokens[i], name + pos, length - pos)
            if took >= 0:
                pos += took
                i += 1
                continue
            if star < 0 or star_pos == length:
                return False
            star_pos += decode_char(name + star_pos, length - star_pos, &point)
            pos = star_pos
            i = star + 1


cdef Py_ssize_t set_end(str pattern, Py_ssize_t start):
    """Find the "]" that closes the set opened at start.

    -1 when the "[" is a plain character.
    """
    cdef Py_ssize_t i = start + 1
    if pattern[i:i + 1] == "!":
        i += 1
    return pattern.find("]", i + 1)  # a "]" that comes first belongs to the set


def match_names(
    const unsigned char[::1] names not None,
    const int64_t[::1] name_bounds not None,
    patterns,
):
    """Match every name against globs.

    Returns:
        (n,) bytes, 1 where any of the patterns matches, else 0.
    """
    cdef int64_t count = name_bounds.shape[0] - 1, row
    cdef bytearray mask = bytearray(count)
    cdef unsigned char[::1] matched = mask
    cdef const unsigned char* packed = b""
    cdef const char* literals
    cdef Glob glob
    if names.shape[0]:
        packed = &names[0]
    for pattern in patterns:
        glob = Glob(pattern)
        literals = glob.literals
        with nogil:
            for row in range(count):
                if not matched[row]:
                    matched[row] = glob.matches(
                        literals,
                        packed + name_bounds[row],
                        name_bounds[row + 1] - name_bounds[row],
                    )
    return bytes(mask)


cdef tuple packed_views(char* packed, int64_t size, int64_t* bounds, int64_t count):
    """Hand packed names and their bounds to Python; whatever happens, nothing leaks."""
    try:
        names = owned_view(packed, size, 1, "B")
        if size:
            packed = NULL
        name_bounds = owned_view(bounds, count + 1, sizeof(int64_t), "q")
        bounds = NULL
        return names, name_bounds
    finally:
        free(packed)
        free(bounds)


def take_names(
    const unsigned char[::1] names not None,
    const int64_t[::1] name_bounds not None,
    const int64_t[::1] rows not None,
):
    """Pack the names of the given rows, in their order.

    Returns:
        names, name_bounds: Views of bytes and of int64, (len(rows) + 1,).

    Raises:
        IndexError: a row that does not exist.
    """
    cdef int64_t count = name_bounds.shape[0] - 1
    cdef int64_t i, total = 0, length
    cdef char* packed
    cdef int64_t* bounds
    for i in range(rows.shape[0]):
        if not 0 <= rows[i] < count:
            raise IndexError(f"row {rows[i]} of {count}")
        total += name_bounds[rows[i] + 1] - name_bounds[rows[i]]
    packed = <char*> malloc(max(total, 1))
    bounds = <int64_t*> malloc((rows.shape[0] + 1) * sizeof(int64_t))
    if packed == NULL or bounds == NULL:
        free(packed)
        free(bounds)
        raise MemoryError
    with nogil:
        bounds[0] = 0
        for i in range(rows.shape[0]):
            length = name_bounds[rows[i] + 1] - name_bounds[rows[i]]
            if length:
                memcpy(packed + bounds[i], &names[name_bounds[rows[i]]], length)
            bounds[i + 1] = bounds[i] + length
    return packed_views(packed, total, bounds, rows.shape[0])


def take_basenames(
    const unsigned char[::1] names not None, const int64_t[::1] name_bounds not None
):
    """Pack what stands behind the last "/" of every name.

    Returns:
        names, name_bounds: Views of bytes and of int64, (n + 1,).
    """
    cdef int64_t count = name_bounds.shape[0] - 1, row, start, end, used = 0
    cdef int64_t total = name_bounds[count] - name_bounds[0]
    cdef char* packed = <char*> malloc(max(total, 1))
    cdef int64_t* bounds = <int64_t*> malloc((count + 1) * sizeof(int64_t))
    if packed == NULL or bounds == NULL:
        free(packed)
        free(bounds)
        raise MemoryError
    with nogil:
        bounds[0] = 0
        for row in range(count):
            end = start = name_bounds[row + 1]
            while start > name_bounds[row] and names[start - 1] != b"/":
                start -= 1
            if end > start:
                memcpy(packed + used, &names[start], end - start)
            used += end - start
            bounds[row + 1] = used
    return packed_views(packed, used, bounds, count)


def measure(
    const int64_t[::1] offset_start not None,
    const int64_t[::1] offset_end not None,
):
    """Sum up the payloads' bytes, and find where the last one ends; 0, 0 of none."""
    cdef uint64_t total = 0, size
    cdef int64_t last = 0, row
    with nogil:
        for row in range(offset_start.shape[0]):
            size = <uint64_t> offset_end[row] - <uint64_t> offset_start[row]
            total = total + size if total + size >= total else <uint64_t> -1
            last = max(last, offset_end[row])
    return total, last
