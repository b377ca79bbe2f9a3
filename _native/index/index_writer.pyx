"""Members into an index file: blocks, lookup, directory and guide.

docs/format.md has the layout.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from index.blocks cimport (
    BLOCK_ROWS,
    block_header,
    measure_block,
    member_rows,
    put_block,
)
from common.crc32c cimport crc32c_function, find_crc32c
from common.hash cimport hash_name
from index.pages cimport (
    DIRECTORY,
    FREE_ROW,
    LINE_SLOTS,
    LINES,
    PAGE_BYTES,
    PAGE_HEADER_BYTES,
    PAGE_NAMES,
    PAGE_POSITIONS,
    page_of,
    print_of,
    put_slot,
    seal_page,
    seeded,
    slot,
    slot_at,
)

from blobpack.errors import FormatError

cdef enum:
    SEEDS = 8                      # tried before the table is made larger
    GROWTHS = 4                    # and so many times larger, before there is none


cdef class IndexBuilder:
    """Turn columns into an index file's sections, part by part."""

    cdef uint64_t* hashes          # of the names
    cdef uint64_t* files           # of their normal forms; NULL: the names are those
    cdef int64_t capacity
    cdef int64_t count
    cdef crc32c_function crc32c
    cdef list positions
    cdef list first_names
    cdef int64_t length            # of the blocks so far
    cdef bytes last_name
    cdef bint ascending

    def __cinit__(self):
        self.crc32c = find_crc32c()
        self.positions = []
        self.first_names = []
        self.ascending = True

    def __dealloc__(self):
        free(self.hashes)
        free(self.files)

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
        if self.count % BLOCK_ROWS:
            raise ValueError("only the last part may end within a block")
        if total > <int64_t> FREE_ROW - 1 - self.count:
            raise FormatError("an index holds at most 4,294,967,294 members")
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

    cdef bytes encode(self, const member_rows* rows):
        cdef block_header header
        cdef int64_t length = measure_block(rows, self.count, &header)
        cdef int64_t i, start, size, before
        cdef bytearray block
        cdef unsigned char[::1] view
        if length < 0:
            raise FormatError("the names of 1,024 members take more than 4 GiB")
        self.reserve(rows.count)
        block = bytearray(length)
        view = block
        with nogil:
            put_block(&view[0], length, rows, &header, self.crc32c)
            for i in range(rows.count):
                start = rows.name_bounds[i]
                size = rows.name_bounds[i + 1] - start
                self.hashes[self.count + i] = hash_name(
                    <const char*> rows.names + start, size, 0
                )
                if i and self.ascending:
                    before = rows.name_bounds[i - 1]
                    self.ascending = not is_less(
                        rows.names + start, size,
                        rows.names + before, rows.name_bounds[i] - before,
                    )
        if self.files != NULL:
            memcpy(
                self.files + self.count, self.hashes + self.count,
                rows.count * sizeof(uint64_t),
            )
        first = rows.names[rows.name_bounds[0]:rows.name_bounds[1]]
        if self.last_name is not None and first < self.last_name:
            self.ascending = False
        start = rows.name_bounds[rows.count - 1]
        self.last_name = rows.names[start:rows.name_bounds[rows.count]]
        if self.ascending:
            self.first_names.append(first)
        self.positions.append(self.length)
        self.length += length
        self.count += rows.count
        return bytes(block)

    cdef int reserve(self, int64_t rows) except -1:
        cdef int64_t capacity = max(self.count + rows, 2 * self.capacity)
        cdef void* grown
        if self.count + rows <= self.capacity:
            return 0
        grown = realloc(self.hashes, capacity * sizeof(uint64_t))
        if grown == NULL:
            raise MemoryError
        self.hashes = <uint64_t*> grown
        if self.files != NULL:
            grown = realloc(self.files, capacity * sizeof(uint64_t))
            if grown == NULL:
                raise MemoryError
            self.files = <uint64_t*> grown
        self.capacity = capacity
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
        cdef int64_t first = self.count - total
        cdef const char* packed = b""
        if first < 0:
            raise ValueError(f"{total} names for {self.count} members")
        if self.files == NULL:
            self.files = <uint64_t*> malloc(max(self.capacity, 1) * sizeof(uint64_t))
            if self.files == NULL:
                raise MemoryError
            memcpy(self.files, self.hashes, first * sizeof(uint64_t))
        if names.shape[0]:
            packed = <const char*> &names[0]
        with nogil:
            for i in range(total):
                start = name_bounds[i]
                self.files[first + i] = hash_name(
                    packed + start, name_bounds[i + 1] - start, 0
                )

    def __len__(self):
        return self.count

    @property
    def blocks_bytes(self):
        """The blocks' bytes so far."""
        return self.length

    def guide(self):
        """Return the blocks' first names, or None when names do not ascend."""
        return list(self.first_names) if self.ascending else None

    def directory(self, int64_t base):
        """Encode where the blocks start, and where the last one ends.

        Args:
            base: Where the first one starts, from the region's start.
        """
        cdef bytearray pages
        cdef unsigned char[::1] view
        cdef int64_t count = len(self.positions) + 1, i
        cdef uint64_t position
        pages = bytearray(
            (count + PAGE_POSITIONS - 1) // PAGE_POSITIONS * PAGE_BYTES
        )
        view = pages
        for i in range(count):
            position = base + (
                self.positions[i] if i < count - 1 else self.length
            )
            memcpy(
                &view[i // PAGE_POSITIONS * PAGE_BYTES + PAGE_HEADER_BYTES
                      + i % PAGE_POSITIONS * 8],
                &position,
                8,
            )
        for i in range(len(pages) // PAGE_BYTES):
            seal_page(&view[i * PAGE_BYTES], DIRECTORY + i, self.crc32c)
        return bytes(pages)

    def lookup(self, same_name not None):
        """Make the lookup's pages.

        Args:
            same_name: same_name(row, other) tells whether two rows have one name; asked
                only of rows whose hashes are equal.

        Returns:
            seed, pages: pages is empty when there are no rows, or when names were made
                to collide.
        """
        cdef int64_t pages = (self.count + PAGE_NAMES - 1) // PAGE_NAMES
        cdef uint64_t seed
        cdef int growth
        for growth in range(GROWTHS):
            for seed in range(<uint64_t> SEEDS):
                filled = self.fill(seed, pages << growth, same_name)
                if filled is not None:
                    return seed, filled
        return 0, b""

    def compare_files(self, same_file not None):
        """Ask same_file(row, other) of rows whose names have normal forms of one hash.

        If all names are in normal form, `lookup` has compared them.
        """
        if self.files == NULL:
            return
        self.hashes, self.files = self.files, self.hashes
        try:
            self.lookup(same_file)
        finally:
            self.hashes, self.files = self.files, self.hashes

    cdef bytearray fill(self, uint64_t seed, int64_t pages, same_name):
        """Fill pages under a seed; None when one overflows."""
        cdef bytearray filled = bytearray(b"\xff") * (pages * PAGE_BYTES)
        cdef unsigned char[::1] view = filled
        cdef int64_t row = 0, done, i
        cdef uint32_t other
        while row < self.count:
            with nogil:
                done = self.fill_until_equal(&view[0], seed, pages, &row, &other)
            if done < 0:
                return None
            if done == 0:
                break
            if same_name(other, row):  # the last one wins
                self.replace_row(&view[0], seed, pages, other, <uint32_t> row)
            elif not self.insert(&view[0], seed, pages, row):
                return None
            row += 1
        for i in range(pages):
            memset(&view[i * PAGE_BYTES], 0, 64)
            seal_page(&view[i * PAGE_BYTES], i, self.crc32c)
        return filled

    cdef int64_t fill_until_equal(
        self, unsigned char* view, uint64_t seed, int64_t pages, int64_t* row,
        uint32_t* other,
    ) noexcept nogil:
        """Insert rows until one has the whole hash of another.

        1 then; 0 at the end; -1 when a page overflows.
        """
        cdef uint64_t hashed
        cdef unsigned char* page
        cdef int64_t probe
        cdef slot found
        while row[0] < self.count:
            hashed = seeded(self.hashes[row[0]], seed)
            page = view + page_of(hashed, pages) * PAGE_BYTES
            for probe in range(LINES * LINE_SLOTS):
                slot_at(page, hashed, probe, &found)
                if found.row == FREE_ROW:
                    put_slot(page, hashed, probe, <uint32_t> row[0])
                    break
                if (
                    found.print == print_of(hashed)
                    and self.hashes[found.row] == self.hashes[row[0]]
                ):
                    other[0] = found.row
                    return 1
            else:
                return -1
            row[0] += 1
        return 0

    cdef bint insert(
        self, unsigned char* view, uint64_t seed, int64_t pages, int64_t row
    ) noexcept nogil:
        cdef uint64_t hashed = seeded(self.hashes[row], seed)
        cdef unsigned char* page = view + page_of(hashed, pages) * PAGE_BYTES
        cdef int64_t probe
        cdef slot found
        for probe in range(LINES * LINE_SLOTS):
            slot_at(page, hashed, probe, &found)
            if found.row == FREE_ROW:
                put_slot(page, hashed, probe, <uint32_t> row)
                return True
        return False

    cdef void replace_row(
        self, unsigned char* view, uint64_t seed, int64_t pages, uint32_t other,
        uint32_t row,
    ) noexcept nogil:
        cdef uint64_t hashed = seeded(self.hashes[row], seed)
        cdef unsigned char* page = view + page_of(hashed, pages) * PAGE_BYTES
        cdef int64_t probe
        cdef slot found
        for probe in range(LINES * LINE_SLOTS):
            slot_at(page, hashed, probe, &found)
            if found.row == other:
                put_slot(page, hashed, probe, row)
                return


cdef inline bint is_less(
    const unsigned char* a, int64_t a_length, const unsigned char* b, int64_t b_length
) noexcept nogil:
    cdef int order = 0
    if a_length and b_length:
        order = memcmp(a, b, min(a_length, b_length))
    return order < 0 or (order == 0 and a_length < b_length)
