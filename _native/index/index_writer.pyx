"""Members into an index file: blocks, lookup, directory and guide.

Strategy: blocks are encoded as members come, and 16 bytes a name are kept: its hashes,
of which the lookup is made in the end. Hashes of many names go to a file (spill.pxd).

docs/format.md has the layout.
"""

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset, strerror

from index.blocks cimport (
    BLOCK_ROWS,
    block_header,
    measure_block,
    member_rows,
    put_block,
)
from common.crc32c cimport crc32c_function, find_crc32c
from common.hash cimport mixed
from index.extend cimport (
    EXTEND_ASK,
    EXTEND_DAMAGED,
    EXTEND_DONE,
    EXTEND_OVERFLOW,
    extend_pages,
    extend_status,
    extension,
    seal_changed,
    take_slot,
)
from index.fill cimport (
    FILL_OVERFLOW,
    FILL_SAME,
    fill_pages,
    fill_status,
    finish_pages,
    hash_run,
    is_same,
    name_hash,
)
from index.pages cimport (
    DIRECTORY,
    FREE_ROW,
    PAGE_BYTES,
    PAGE_HEADER_BYTES,
    PAGE_NAMES,
    PAGE_POSITIONS,
    page_of,
    seal_page,
    seeded,
)
from index.spill cimport (
    SPILL_PARTS,
    hash_spill,
    part_count,
    spill_add,
    spill_copy,
    spill_free,
    spill_init,
    spill_read,
)

from os import dup, urandom

from blobpack.errors import ChecksumError, FormatError, StorageError

cdef enum:
    SEEDS = 8                      # tried before the table is made larger
    GROWTHS = 4                    # and so many times larger, before there is none
    # Of spilled hashes, only the seed 0 is tried, because the parts depend on the seed.
    # So pages have more room. Of a billion names, with 400 in a page on average, a page
    # would overflow 1 time in 2; with 384, 1 time in 100.
    SPILLED_PAGE_NAMES = 384
    PAGE_SLOTS = 504


cdef str TEMPORARY = "a temporary file for the names of many members"


class LookupFullError(Exception):
    """A page of a lookup has no room for one more name."""


cdef class NameHashes:
    """The hashes of names in the order of their rows.

    Those of the rows before `first` are in a file.
    """

    cdef name_hash* recent
    cdef int64_t capacity
    cdef int64_t first
    cdef int64_t count             # of all rows
    cdef hash_spill spill
    cdef bint is_spilled

    def __dealloc__(self):
        free(self.recent)
        spill_free(&self.spill)

    cdef int reserve(self, int64_t rows) except -1:
        """Make room for more rows."""
        cdef int64_t recent = self.count - self.first
        cdef int64_t capacity = max(recent + rows, 2 * self.capacity)
        cdef void* grown
        if recent + rows <= self.capacity:
            return 0
        grown = realloc(self.recent, capacity * sizeof(name_hash))
        if grown == NULL:
            raise MemoryError
        self.recent = <name_hash*> grown
        self.capacity = capacity
        return 0

    cdef inline void put(self, int64_t row, name_hash hashed) noexcept nogil:
        """Set the hashes of a row that is in memory, or that there is room for."""
        self.recent[row - self.first] = hashed

    cdef int begin_spill(self, open_file) except -1:
        cdef int fd = -1
        try:
            with open_file() as file:
                # of its own: __dealloc__ can't call methods of Python objects
                fd = dup(file.fileno())
        except OSError as exc:
            raise StorageError(f"{TEMPORARY} can't be opened: {exc}") from exc
        if not spill_init(&self.spill, fd):
            raise MemoryError
        self.is_spilled = True
        return 0

    cdef int spill_recent(self, open_file) except -1:
        """Write the hashes that are in memory to the file."""
        cdef int error
        if not self.is_spilled:
            self.begin_spill(open_file)
        with nogil:
            error = spill_add(
                &self.spill, self.recent, self.first, self.count - self.first
            )
        if error:
            raise spill_failure(error)
        self.first = self.count
        # as large as before, so that the next part finds room
        return 0

    cdef NameHashes copy(self, open_file):
        """Return a copy of the hashes, with a file of its own."""
        cdef NameHashes made = NameHashes()
        cdef int error = 0
        made.first = made.count = self.first
        made.reserve(max(self.count - self.first, 1))
        if self.is_spilled:
            made.begin_spill(open_file)
            with nogil:
                error = spill_copy(&made.spill, &self.spill)
        if error:
            raise spill_failure(error)
        memcpy(
            made.recent, self.recent, (self.count - self.first) * sizeof(name_hash)
        )
        made.count = self.count
        return made


cdef class PartHashes:
    """The hashes that fill the pages of one part of a lookup."""

    cdef hash_run run
    cdef int64_t page_count
    cdef name_hash* hashes         # its own; NULL: those of NameHashes
    cdef uint32_t* rows
    cdef int64_t first_row         # at place 0, if there are no rows
    cdef object owner

    def __dealloc__(self):
        free(self.hashes)
        free(self.rows)

    @staticmethod
    cdef PartHashes of_memory(NameHashes names, uint64_t seed, int64_t pages):
        """Return all hashes of names, none of which is spilled."""
        cdef PartHashes part = PartHashes()
        part.owner = names
        part.run.hashes = names.recent
        part.run.count = names.count - names.first
        part.first_row = names.first
        part.run.seed = seed
        part.run.pages = part.page_count = pages
        return part

    @staticmethod
    cdef PartHashes of_spill(NameHashes names, int number, int64_t pages):
        """Read a part of spilled hashes; the pages are a multiple of the parts."""
        cdef PartHashes part = PartHashes()
        cdef int64_t count = part_count(&names.spill, number)
        cdef int error
        part.hashes = <name_hash*> malloc(max(count, 1) * sizeof(name_hash))
        part.rows = <uint32_t*> malloc(max(count, 1) * sizeof(uint32_t))
        if part.hashes == NULL or part.rows == NULL:
            raise MemoryError
        with nogil:
            error = spill_read(&names.spill, number, part.hashes, part.rows)
        if error:
            raise spill_failure(error)
        part.run.hashes = part.hashes
        part.run.rows = part.rows
        part.run.count = count
        part.run.pages = pages
        part.page_count = pages // SPILL_PARTS
        part.run.first_page = number * part.page_count
        return part

    cdef inline uint32_t row_at(self, int64_t place):
        if self.run.rows == NULL:
            return <uint32_t> (self.first_row + place)
        return self.run.rows[place]

    cdef bytearray fill(self, repeated, crc32c_function crc32c):
        """Fill the pages; None when one overflows."""
        cdef bytearray filled = bytearray(b"\xff") * (self.page_count * PAGE_BYTES)
        cdef unsigned char[::1] view = filled
        cdef int64_t place = 0
        cdef uint32_t other
        cdef bint stops = repeated is not None
        cdef fill_status status = FILL_SAME
        while self.run.count and status == FILL_SAME:
            with nogil:
                status = fill_pages(&self.run, &view[0], &place, &other, stops)
            if status == FILL_OVERFLOW:
                return None
            if status == FILL_SAME:
                repeated(self.row_at(other), self.row_at(place - 1))
        if self.page_count:
            with nogil:
                finish_pages(&self.run, &view[0], self.page_count, crc32c)
        return filled

    cdef int extend(
        self, bytearray pages, int64_t first_page, int64_t first_new, name_at, repeated,
        uint64_t secret, crc32c_function crc32c,
    ) except -1:
        """Put names into pages that are there.

        Raises:
            LookupFullError: a page has no free slot.
        """
        cdef int64_t count = len(pages) // PAGE_BYTES
        cdef bytearray changed = bytearray(count)
        cdef unsigned char[::1] page_view = pages
        cdef unsigned char[::1] changed_view = changed
        cdef extension e
        cdef extend_status status = EXTEND_ASK
        if count == 0:
            return 0
        self.run.first_page = first_page
        e.pages = &page_view[0]
        e.changed = &changed_view[0]
        e.first_new = first_new
        e.place = e.probe = 0
        while status != EXTEND_DONE:
            with nogil:
                status = extend_pages(&e, &self.run, crc32c)
            if status == EXTEND_OVERFLOW:
                raise LookupFullError
            if status == EXTEND_DAMAGED:
                raise ChecksumError("a page of its lookup does not match its checksum")
            if status == EXTEND_ASK:
                if not self.is_named(e.place, name_at(e.other), secret):
                    e.probe += 1
                    continue
                take_slot(&e, &self.run)
            if status != EXTEND_DONE and repeated is not None:
                repeated(e.other, self.row_at(e.place - 1))
        with nogil:
            seal_changed(&e, &self.run, count, crc32c)
        return 0

    cdef bint is_named(self, int64_t place, bytes name, uint64_t secret) except -1:
        cdef name_hash hashed = hash_twice(name, len(name), secret)
        return is_same(&self.run.hashes[place], &hashed)

    cdef bint has_room(self) except -1:
        """Return whether no page can overflow, even if all names are different."""
        cdef bytes counted = bytes(self.page_count * sizeof(uint32_t))
        cdef uint32_t* counts = <uint32_t*> PyBytes_AsString(counted)
        cdef int64_t i, page
        cdef bint room = True
        with nogil:
            for i in range(self.run.count):
                page = page_of(
                    seeded(self.run.hashes[i].hash, self.run.seed), self.run.pages
                ) - self.run.first_page
                counts[page] += 1
                room = room and counts[page] <= PAGE_SLOTS
        return room


cdef inline name_hash hash_twice(
    const char* name, int64_t length, uint64_t secret
) noexcept nogil:
    """Return the hashes of a name for the seeds 0 and `secret`; see hash_name.

    Each step of a hash waits for the step before. So both are computed at one time.
    """
    cdef uint64_t begun = <uint64_t> length * <uint64_t> 0x9E3779B97F4A7C15
    cdef name_hash hashed
    cdef uint64_t word
    hashed.hash = begun
    hashed.check = begun ^ secret
    while length >= 8:
        memcpy(&word, name, 8)
        hashed.hash = mixed(hashed.hash ^ word)
        hashed.check = mixed(hashed.check ^ word)
        name += 8
        length -= 8
    word = 0
    if length:
        memcpy(&word, name, length)
    hashed.hash = mixed(hashed.hash ^ word)
    hashed.check = mixed(hashed.check ^ word)
    return hashed


cdef object spill_failure(int error):
    reason = strerror(error).decode(errors="replace")
    return StorageError(f"{TEMPORARY} can't be written or read: {reason}")


cdef class IndexBuilder:
    """Turn columns into an index file's sections, part by part."""

    cdef NameHashes names
    cdef NameHashes files          # of their normal forms; None: the names are those
    cdef crc32c_function crc32c
    cdef object open_file
    cdef int64_t in_memory
    cdef uint64_t secret           # seed of the second hashes
    cdef list first_names
    cdef int64_t first_names_bytes
    cdef int64_t guide_bytes_max
    cdef int64_t* positions        # where blocks start
    cdef int64_t positions_capacity
    cdef int64_t block_count
    cdef int64_t length            # of the blocks so far
    cdef bytes last_name
    cdef bint ascending

    def __cinit__(
        self, open_file=None, *, int64_t in_memory=1 << 21,
        int64_t guide_bytes_max=1 << 18,
    ):
        """Begin an index without members.

        Args:
            open_file: open_file() opens a new file, which is empty and without a name,
                for the hashes of names; None keeps all hashes in memory.
            in_memory: Number of names whose hashes are all kept in memory.
            guide_bytes_max: The first names of blocks are kept up to this size, with 4
                bytes for the end of each.
        """
        self.crc32c = find_crc32c()
        self.names = NameHashes()
        self.open_file = open_file
        self.in_memory = in_memory
        self.guide_bytes_max = guide_bytes_max
        self.secret = int.from_bytes(urandom(8), "little")
        self.first_names = []
        self.ascending = True

    def __dealloc__(self):
        free(self.positions)

    def continue_from(
        self,
        const int64_t[::1] positions not None,
        int64_t length,
        list first_names,
        bytes last_name,
    ):
        """Begin behind whole blocks that are there.

        Args:
            positions: Where each of them starts, from the start of the first one.
            length: Their bytes.
            first_names: The first name of each, if the names ascend; else None.
            last_name: The last name of the last block; None if names do not ascend.
        """
        cdef int64_t count = positions.shape[0]
        if self.names.count:
            raise ValueError("members were added already")
        free(self.positions)
        self.positions = <int64_t*> malloc(max(count, 1) * sizeof(int64_t))
        if self.positions == NULL:
            raise MemoryError
        if count:
            memcpy(self.positions, &positions[0], count * sizeof(int64_t))
        self.positions_capacity = max(count, 1)
        self.block_count = count
        self.length = length
        self.names.first = self.names.count = count * BLOCK_ROWS
        self.ascending = first_names is not None
        self.first_names = list(first_names or ())
        self.first_names_bytes = sum([len(name) + 4 for name in self.first_names])
        self.last_name = last_name

    def add(
        self,
        const unsigned char[::1] names not None,
        const int64_t[::1] name_bounds not None,
        const int64_t[::1] offset_start not None,
        const int64_t[::1] offset_end not None,
        const uint8_t[::1] media_type=None,
        const uint32_t[::1] width=None,
        const uint32_t[::1] height=None,
        const uint32_t[::1] crc32c=None,
        const int64_t[::1] mtime=None,
    ):
        """Encode rows that follow those before; all parts but the last are of n * 1024.

        Returns:
            The blocks.

        Raises:
            FormatError: a block's names take more than 4 GiB, or there are 2**32 rows.
        """
        cdef member_rows rows
        cdef int64_t total = name_bounds.shape[0] - 1, done = 0
        if (
            offset_start.shape[0] != total
            or offset_end.shape[0] != total
            or (media_type is not None and media_type.shape[0] != total)
            or (width is not None and width.shape[0] != total)
            or (height is not None and height.shape[0] != total)
            or (crc32c is not None and crc32c.shape[0] != total)
            or (mtime is not None and mtime.shape[0] != total)
        ):
            raise ValueError(f"columns that are not all of {total} members")
        if self.names.count % BLOCK_ROWS:
            raise ValueError("only the last part may end within a block")
        if total > <int64_t> FREE_ROW - 1 - self.names.count:
            raise FormatError("an index holds at most 4,294,967,294 members")
        self.spill_if_many()
        encoded = []
        while done < total:
            rows.count = min(<int64_t> BLOCK_ROWS, total - done)
            rows.names = &names[0] if names.shape[0] else NULL
            rows.name_bounds = &name_bounds[done]
            rows.offset_start = &offset_start[done]
            rows.offset_end = &offset_end[done]
            rows.media_type = &media_type[done] if media_type is not None else NULL
            rows.width = &width[done] if width is not None else NULL
            rows.height = &height[done] if height is not None else NULL
            rows.crc32c = &crc32c[done] if crc32c is not None else NULL
            rows.mtime = &mtime[done] if mtime is not None else NULL
            encoded.append(self.encode(&rows))
            done += rows.count
        return b"".join(encoded)

    cdef int spill_if_many(self) except -1:
        """Write the hashes to a file if there are many of them.

        Hashes of the last part stay in memory, because their normal forms may follow.
        """
        if self.open_file is None or (
            not self.names.is_spilled and self.names.count < self.in_memory
        ):
            return 0
        self.names.spill_recent(self.open_file)
        if self.files is not None:
            self.files.spill_recent(self.open_file)
        return 0

    cdef bytes encode(self, const member_rows* rows):
        cdef block_header header
        cdef int64_t count = self.names.count
        cdef int64_t length = measure_block(rows, count, &header)
        cdef int64_t i, start, size, before
        cdef name_hash hashed
        cdef unsigned char* block
        if length < 0:
            raise FormatError("the names of 1,024 members take more than 4 GiB")
        self.names.reserve(rows.count)
        if self.files is not None:
            self.files.reserve(rows.count)
        encoded = PyBytes_FromStringAndSize(NULL, length)
        block = <unsigned char*> PyBytes_AsString(encoded)
        with nogil:
            memset(block, 0, length)
            put_block(block, length, rows, &header, self.crc32c)
            for i in range(rows.count):
                start = rows.name_bounds[i]
                size = rows.name_bounds[i + 1] - start
                hashed = hash_twice(
                    <const char*> rows.names + start, size, self.secret
                )
                self.names.put(count + i, hashed)
                if self.files is not None:
                    self.files.put(count + i, hashed)
                if i and self.ascending:
                    before = rows.name_bounds[i - 1]
                    self.ascending = not is_less(
                        rows.names + start, size,
                        rows.names + before, rows.name_bounds[i] - before,
                    )
        self.note_block(rows, length)
        self.names.count += rows.count
        if self.files is not None:
            self.files.count += rows.count
        return encoded

    cdef int note_block(self, const member_rows* rows, int64_t length) except -1:
        """Note where a block starts, and its first name while names ascend."""
        cdef int64_t start = rows.name_bounds[rows.count - 1]
        cdef int64_t capacity = max(<int64_t> 64, 2 * self.positions_capacity)
        cdef void* grown
        first = rows.names[rows.name_bounds[0]:rows.name_bounds[1]]
        if self.last_name is not None and first < self.last_name:
            self.ascending = False
        self.last_name = rows.names[start:rows.name_bounds[rows.count]]
        self.first_names_bytes += len(first) + 4
        if self.ascending and self.first_names_bytes <= self.guide_bytes_max:
            self.first_names.append(first)
        else:
            self.first_names.clear()
        if self.block_count == self.positions_capacity:
            grown = realloc(self.positions, capacity * sizeof(int64_t))
            if grown == NULL:
                raise MemoryError
            self.positions = <int64_t*> grown
            self.positions_capacity = capacity
        self.positions[self.block_count] = self.length
        self.block_count += 1
        self.length += length
        return 0

    def note_files(
        self,
        const unsigned char[::1] names not None,
        const int64_t[::1] name_bounds not None,
    ):
        """Note the normal forms of the names of the rows that were added last.

        The names of all other rows are in normal form.
        """
        cdef int64_t total = name_bounds.shape[0] - 1, i, start
        cdef int64_t first = self.names.count - total
        cdef const char* packed = b""
        if first < self.names.first:
            raise ValueError(
                f"{total} names for {self.names.count - self.names.first} members"
            )
        if self.files is None:
            self.files = self.names.copy(self.open_file)
        if names.shape[0]:
            packed = <const char*> &names[0]
        with nogil:
            for i in range(total):
                start = name_bounds[i]
                self.files.put(
                    first + i,
                    hash_twice(packed + start, name_bounds[i + 1] - start, self.secret),
                )

    def __len__(self):
        return self.names.count

    @property
    def blocks_bytes(self):
        """The blocks' bytes so far."""
        return self.length

    def guide(self):
        """Return the blocks' first names.

        None when names do not ascend, or when the guide would be too large.
        """
        if not self.ascending or self.first_names_bytes > self.guide_bytes_max:
            return None
        return list(self.first_names)

    def directory(self, int64_t base):
        """Encode where the blocks start, and where the last one ends.

        Args:
            base: Where the first one starts, from the region's start.
        """
        cdef int64_t count = self.block_count + 1, i
        cdef int64_t pages = (count + PAGE_POSITIONS - 1) // PAGE_POSITIONS
        cdef uint64_t position
        cdef unsigned char* page
        encoded = PyBytes_FromStringAndSize(NULL, pages * PAGE_BYTES)
        page = <unsigned char*> PyBytes_AsString(encoded)
        memset(page, 0, pages * PAGE_BYTES)
        for i in range(count):
            position = base + (self.positions[i] if i < count - 1 else self.length)
            memcpy(
                page + i // PAGE_POSITIONS * PAGE_BYTES + PAGE_HEADER_BYTES
                + i % PAGE_POSITIONS * 8,
                &position,
                8,
            )
        for i in range(pages):
            seal_page(page + i * PAGE_BYTES, DIRECTORY + <uint32_t> i, self.crc32c)
        return encoded

    def lookup(self, repeated=None, *, int64_t page_names=PAGE_NAMES):
        """Make the lookup's pages.

        Args:
            page_names: Names in a page on average; fewer leave room for more.
            repeated: Called as repeated(row, other) for a row and a later one of its
                name.

        Returns:
            seed, count, pages: `pages` yields the pages in order, many at a time. The
            count is 0 when there are no rows, or when names were made to collide.
        """
        return self.lookup_of(self.names, repeated, page_names)

    def extended_lookup(
        self, int64_t pages, int64_t first_new, read_pages not None, name_at not None,
        repeated=None,
    ):
        """Put the names from a row on into the pages of a lookup that has seed 0.

        Args:
            pages: Number of its pages.
            first_new: The first row whose name is not in them.
            read_pages: read_pages(first, last) returns some of them.
            name_at: Returns the name in a row before `first_new`, as bytes.
            repeated: See lookup.

        Yields:
            The pages in order, many at a time.

        Raises:
            ChecksumError: a page is damaged.
            LookupFullError: a page has no room.
        """
        cdef PartHashes part
        cdef int64_t first = 0, have = 0, last, following
        cdef int number
        cdef bytearray waiting = bytearray()
        self.names.spill_recent(self.open_file)
        for number in range(<int> SPILL_PARTS):
            # a page may belong to two parts, or to several if there are few pages
            following = (number + 1) * pages // SPILL_PARTS
            last = ((number + 1) * pages + SPILL_PARTS - 1) // SPILL_PARTS
            if last > have:
                waiting += read_pages(have, last)
                have = last
            part = PartHashes.of_spill(self.names, number, pages)
            part.extend(
                waiting, first, first_new, name_at, repeated, self.secret, self.crc32c
            )
            yield waiting[:(following - first) * PAGE_BYTES]
            del waiting[:(following - first) * PAGE_BYTES]
            first = following

    def compare_files(self, repeated not None):
        """Call repeated(row, other) for rows whose names have one normal form.

        If all names are in normal form, `lookup` has compared them.
        """
        if self.files is not None:
            for _ in self.lookup_of(self.files, repeated, PAGE_NAMES)[2]:
                pass

    cdef tuple lookup_of(self, NameHashes names, repeated, int64_t page_names):
        cdef int64_t count = names.count - (0 if names.is_spilled else names.first)
        cdef int64_t pages = (count + page_names - 1) // page_names
        cdef uint64_t seed
        cdef int growth
        if names.is_spilled:
            return self.spilled_lookup(
                names, repeated, min(page_names, <int64_t> SPILLED_PAGE_NAMES)
            )
        for growth in range(GROWTHS):
            for seed in range(<uint64_t> SEEDS):
                part = PartHashes.of_memory(names, seed, pages << growth)
                filled = part.fill(repeated, self.crc32c)
                if filled is not None:
                    return seed, pages << growth, [filled]
        return 0, 0, []

    cdef tuple spilled_lookup(self, NameHashes names, repeated, int64_t page_names):
        cdef int64_t names_of_each = page_names * SPILL_PARTS
        cdef int64_t least = (names.count + names_of_each - 1) // names_of_each
        cdef int64_t pages
        cdef int growth
        names.spill_recent(self.open_file)
        for growth in range(GROWTHS):
            # An eighth more pages are enough if a page overflows by chance.
            pages = (least + (least * growth + 7) // 8) * SPILL_PARTS
            # Checked before the first page is written, because a stream can't go back.
            if self.spilled_fit(names, pages):
                return 0, pages, self._spilled_pages(names, pages, repeated)
        return 0, 0, []

    cdef bint spilled_fit(self, NameHashes names, int64_t pages) except -1:
        """Return whether no page overflows."""
        cdef PartHashes part
        cdef int number
        for number in range(<int> SPILL_PARTS):
            part = PartHashes.of_spill(names, number, pages)
            if not part.has_room() and part.fill(None, self.crc32c) is None:
                return False
        return True

    def _spilled_pages(self, NameHashes names, int64_t pages, repeated):
        """Yield the pages of each part."""
        cdef PartHashes part
        cdef int number
        for number in range(<int> SPILL_PARTS):
            part = PartHashes.of_spill(names, number, pages)
            yield part.fill(repeated, self.crc32c)


cdef inline bint is_less(
    const unsigned char* a, int64_t a_length, const unsigned char* b, int64_t b_length
) noexcept nogil:
    cdef int order = 0
    if a_length and b_length:
        order = memcmp(a, b, min(a_length, b_length))
    return order < 0 or (order == 0 and a_length < b_length)
