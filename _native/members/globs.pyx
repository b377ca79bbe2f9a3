"""Match names against globs, compiled, without the GIL.

Names are packed UTF-8 (or whatever bytes the tar holds): name i is
names[name_bounds[i]:name_bounds[i + 1]].
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from common.utf8 cimport decode_char

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


@cython.final                      # its methods are called straight
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
            elif is_raw_byte(pattern[i]):
                self.push_set(pattern[i])
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
        """Match the whole name."""
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
        return self.walk(literals, name, length)

    cdef bint walk(
        self, const char* literals, const unsigned char* name, int64_t length
    ) noexcept nogil:
        """Match token by token.

        Only the last star is ever tried again: an earlier one can't do better.
        """
        cdef int64_t pos = 0, i = 0, took
        cdef int64_t star = -1, star_pos = 0
        cdef uint32_t point
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


cdef inline bint is_raw_byte(Py_UCS4 char) noexcept:
    """Recognise a byte that is not UTF-8: as a literal, it matches part of others."""
    return 0xDC80 <= char <= 0xDCFF


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
