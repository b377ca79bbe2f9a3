"""Hashes of names, and the pages of the lookup that are made of them.

Strategy: 16 bytes a name are kept until all names are known, because the number of
pages depends on the number of names. Hashes of many names go to a file (spill.pxd).

docs/format.md has the layout.
"""

from libc.stdint cimport int64_t, uint64_t

from common.crc32c cimport crc32c_function, find_crc32c
from index.kept_hashes cimport (
    copy_hashes,
    hashes_free,
    kept_hashes,
    reserve,
    spill_recent,
)
from index.lookup_part cimport (
    extend,
    fill,
    has_room,
    lookup_part,
    part_free,
    read_part,
    use_hashes,
)
from index.name_hash cimport hash_twice, name_hash
from index.pages cimport PAGE_BYTES, PAGE_NAMES
from index.spill cimport SPILL_PARTS

from os import urandom

cdef enum:
    SEEDS = 8                      # tried before the table is made larger
    GROWTHS = 4                    # and so many times larger, before there is none
    # Of spilled hashes, only the seed 0 is tried, because the parts depend on the seed.
    # So pages have more room. Of a billion names, with 400 in a page on average, a page
    # would overflow 1 time in 2; with 384, 1 time in 100.
    SPILLED_PAGE_NAMES = 384


class LookupFullError(Exception):
    """A page of a lookup has no room for one more name."""


cdef class NameHashes:
    """The hashes of names in the order of their rows."""

    cdef kept_hashes kept
    cdef crc32c_function crc32c
    cdef object open_file
    cdef int64_t in_memory
    cdef uint64_t secret           # seed of the second hashes

    def __cinit__(
        self, open_file=None, *, int64_t in_memory=1 << 21, int64_t first_row=0,
    ):
        """Begin without names.

        Args:
            open_file: open_file() opens a new file, which is empty and without a name,
                for the hashes; None keeps all hashes in memory.
            in_memory: Number of names whose hashes are all kept in memory.
            first_row: The row of the first name; rows before are in a lookup that is
                extended.
        """
        self.crc32c = find_crc32c()
        self.open_file = open_file
        self.in_memory = in_memory
        self.kept.first = self.kept.count = first_row
        self.secret = int.from_bytes(urandom(8), "little")

    def __dealloc__(self):
        hashes_free(&self.kept)

    def copy(self):
        """Return a copy, with a file of its own."""
        cdef NameHashes made = NameHashes(self.open_file, in_memory=self.in_memory)
        made.secret = self.secret
        copy_hashes(&made.kept, &self.kept, self.open_file)
        return made

    def add(
        self,
        const unsigned char[::1] names not None,
        const int64_t[::1] name_bounds not None,
    ):
        """Add the names of rows that follow those before.

        Args:
            names: Packed names.
            name_bounds: (n + 1,): where each name starts, and the last one ends.
        """
        cdef int64_t total = name_bounds.shape[0] - 1, i, start
        cdef uint64_t secret = self.secret
        cdef const char* packed = b""
        cdef name_hash* to
        if self.open_file is not None and (
            self.kept.is_spilled or self.kept.count >= self.in_memory
        ):
            spill_recent(&self.kept, self.open_file)
        reserve(&self.kept, total)
        if names.shape[0]:
            packed = <const char*> &names[0]
        to = self.kept.recent + (self.kept.count - self.kept.first)
        with nogil:
            for i in range(total):
                start = name_bounds[i]
                to[i] = hash_twice(packed + start, name_bounds[i + 1] - start, secret)
        self.kept.count += total

    def make_lookup(self, repeated=None, *, int64_t page_names=PAGE_NAMES):
        """Make the lookup's pages.

        Args:
            repeated: Called as repeated(row, other) for a row and a later one of its
                name.
            page_names: Names in a page on average; fewer leave room for more.

        Returns:
            seed, count, pages: `pages` yields the pages in order, many at a time. The
            count is 0 when there are no rows, or when names were made to collide.
        """
        if self.kept.is_spilled:
            return self.spilled_lookup(
                repeated, min(page_names, <int64_t> SPILLED_PAGE_NAMES)
            )
        return self.lookup_in_memory(repeated, page_names)

    cdef tuple lookup_in_memory(self, repeated, int64_t page_names):
        cdef int64_t count = self.kept.count - self.kept.first
        cdef int64_t pages = (count + page_names - 1) // page_names
        cdef lookup_part part
        cdef uint64_t seed
        cdef int growth
        for growth in range(GROWTHS):
            for seed in range(<uint64_t> SEEDS):
                use_hashes(&part, &self.kept, seed, pages << growth)
                filled = fill(&part, repeated, self.crc32c)
                if filled is not None:
                    return seed, pages << growth, [filled]
        return 0, 0, []

    cdef tuple spilled_lookup(self, repeated, int64_t page_names):
        cdef int64_t names_of_each = page_names * SPILL_PARTS
        cdef int64_t least = (self.kept.count + names_of_each - 1) // names_of_each
        cdef int64_t pages
        cdef int growth
        spill_recent(&self.kept, self.open_file)
        for growth in range(GROWTHS):
            # An eighth more pages are enough if a page overflows by chance.
            pages = (least + (least * growth + 7) // 8) * SPILL_PARTS
            # Checked before the first page is written, because a stream can't go back.
            if self.fits(pages):
                return 0, pages, self._spilled_pages(pages, repeated)
        return 0, 0, []

    cdef bint fits(self, int64_t pages) except -1:
        """Return whether no page overflows."""
        cdef lookup_part part
        cdef int number
        for number in range(<int> SPILL_PARTS):
            try:
                read_part(&part, &self.kept, number, pages)
                if not has_room(&part) and fill(&part, None, self.crc32c) is None:
                    return False
            finally:
                part_free(&part)
        return True

    def _spilled_pages(self, int64_t pages, repeated):
        """Yield the pages of each part."""
        cdef int number
        for number in range(<int> SPILL_PARTS):
            yield self.pages_of(number, pages, repeated)

    cdef bytearray pages_of(self, int number, int64_t pages, repeated):
        cdef lookup_part part
        try:
            read_part(&part, &self.kept, number, pages)
            return fill(&part, repeated, self.crc32c)
        finally:
            part_free(&part)

    def extend_lookup(
        self, int64_t pages, int64_t first_new, read_pages not None, name_at not None,
        repeated=None,
    ):
        """Put the names from a row on into the pages of a lookup that has seed 0.

        Args:
            pages: Number of its pages.
            first_new: The first row whose name is not in them.
            read_pages: read_pages(first, last) returns some of them.
            name_at: Returns the name in a row before `first_new`, as bytes.
            repeated: See make_lookup.

        Yields:
            The pages in order, many at a time.

        Raises:
            ChecksumError: a page is damaged.
            LookupFullError: a page has no room.
        """
        cdef int64_t first = 0, have = 0, last, following
        cdef int number
        cdef bytearray waiting = bytearray()
        spill_recent(&self.kept, self.open_file)
        for number in range(<int> SPILL_PARTS):
            # a page may belong to two parts, or to several if there are few pages
            following = (number + 1) * pages // SPILL_PARTS
            last = ((number + 1) * pages + SPILL_PARTS - 1) // SPILL_PARTS
            if last > have:
                waiting += read_pages(have, last)
                have = last
            self.extend_part(
                number, pages, waiting, first, first_new, name_at, repeated
            )
            yield waiting[:(following - first) * PAGE_BYTES]
            del waiting[:(following - first) * PAGE_BYTES]
            first = following

    cdef int extend_part(
        self, int number, int64_t pages, bytearray waiting, int64_t first,
        int64_t first_new, name_at, repeated,
    ) except -1:
        """Put the names of one part into the pages from `first` on."""
        cdef lookup_part part
        try:
            read_part(&part, &self.kept, number, pages)
            if not extend(
                &part, waiting, first, first_new, name_at, repeated, self.secret,
                self.crc32c,
            ):
                raise LookupFullError
        finally:
            part_free(&part)
        return 0
