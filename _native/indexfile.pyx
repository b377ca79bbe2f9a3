"""The index file's bytes: columns into blocks, lookup pages and directory, and back.

docs/format.md has the layout. What is read is checked against its checksum the first
time, and each number in it every time: the file may be mapped, and change.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from posix.fcntl cimport F_DUPFD_CLOEXEC, fcntl
from posix.unistd cimport SEEK_END, close, lseek

from blocks cimport (
    BLOCK_ROWS,
    COLUMN_COUNT,
    CRC32C,
    HEIGHT,
    MEDIA_TYPE,
    WIDTH,
    block_header,
    block_is_whole,
    block_view,
    measure_block,
    member_rows,
    mtime_in,
    name_in,
    offsets_in,
    open_block,
    put_block,
    value_at,
)
from columns cimport owned_view
from crc32c cimport crc32c_at, crc32c_function
from names cimport hash_name
from pages cimport (
    FREE_ROW,
    LINE_SLOTS,
    LINES,
    PAGE_BYTES,
    PAGE_NAMES,
    page_is_whole,
    page_of,
    print_of,
    put_slot,
    seal_page,
    seeded,
    slot,
    slot_at,
)

from blobpack.errors import (
    BlobChangedError,
    ChecksumError,
    FormatError,
    StorageError,
)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef enum:
    PAGE_HEADER_BYTES = 8          # of a directory page: checksum, four zeros
    PAGE_POSITIONS = 511
    SEEDS = 8                      # tried before the table is made larger
    GROWTHS = 4                    # and so many times larger, before there is none

cdef enum fault:
    FAULT_NONE = 0
    FAULT_CHECKSUM = 1
    FAULT_LAYOUT = 2
    FAULT_MEMORY = 3
    FAULT_ABSENT = 4               # no such name


cdef inline bytes utf8_of(str name):
    """Encode a name; None when no tar can hold it."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None


cdef int name_bytes(
    str name, const char** text, Py_ssize_t* length, list keep
) except -1:
    """Point at a name's bytes, keeping them in `keep`; 0 when no tar can hold it."""
    cdef bytes encoded
    try:
        text[0] = PyUnicode_AsUTF8AndSize(name, length)
    except UnicodeEncodeError:  # surrogates: bytes that are not UTF-8
        encoded = utf8_of(name)
        if encoded is None:
            return 0
        keep.append(encoded)
        text[0] = encoded
        length[0] = len(encoded)
    return 1


# Writing

cdef class IndexBuilder:
    """Turn columns into an index file's sections, part by part."""

    cdef uint64_t* hashes
    cdef int64_t capacity
    cdef int64_t count
    cdef crc32c_function crc32c
    cdef list positions
    cdef list first_names
    cdef int64_t length            # of the blocks so far
    cdef bytes last_name
    cdef bint ascending

    def __cinit__(self, uintptr_t crc32c):
        self.crc32c = crc32c_at(crc32c)
        self.positions = []
        self.first_names = []
        self.ascending = True

    def __dealloc__(self):
        free(self.hashes)

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
        cdef int64_t total = name_bounds.shape[0] - 1, done = 0, i
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
            memset(&rows, 0, sizeof(rows))
            rows.count = min(<int64_t> BLOCK_ROWS, total - done)
            rows.names = &names[0] if names.shape[0] else NULL
            rows.name_bounds = &name_bounds[done]
            rows.offset_start = &offset_start[done]
            rows.offset_end = &offset_end[done]
            if media_type is not None:
                rows.media_type = &media_type[done]
            if width is not None:
                rows.width = &width[done]
            if height is not None:
                rows.height = &height[done]
            if crc32c is not None:
                rows.crc32c = &crc32c[done]
            if mtime is not None:
                rows.mtime = &mtime[done]
            encoded.append(self.encode(&rows))
            done += rows.count
        return b"".join(encoded)

    cdef bytes encode(self, const member_rows* rows):
        cdef block_header header
        cdef int64_t length = measure_block(rows, self.count, &header)
        cdef int64_t i, start, size, before, before_size
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
        self.capacity = capacity
        return 0

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
            seal_page(&view[i * PAGE_BYTES], self.crc32c)
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
        if self.count == 0:
            return 0, b""
        for growth in range(GROWTHS):
            for seed in range(SEEDS):
                filled = self.fill(seed, pages << growth, same_name)
                if filled is not None:
                    return seed, filled
        return 0, b""

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
            seal_page(&view[i * PAGE_BYTES], self.crc32c)
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
    cdef int order = memcmp(a, b, min(a_length, b_length)) if a_length and b_length else 0
    return order < 0 or (order == 0 and a_length < b_length)


# Reading

cdef struct row_columns:
    int64_t count
    int64_t capacity
    char* names
    int64_t names_capacity
    int64_t* name_bounds
    int64_t* offset_start
    int64_t* offset_end
    uint8_t* media_type
    uint32_t* width
    uint32_t* height
    uint32_t* crc32c
    int64_t* mtime


cdef bint row_columns_init(row_columns* out, int64_t rows, int facts) noexcept nogil:
    memset(out, 0, sizeof(row_columns))
    out.capacity = rows
    rows = max(rows, 1)
    out.name_bounds = <int64_t*> calloc(rows + 1, 8)
    out.offset_start = <int64_t*> malloc(rows * 8)
    out.offset_end = <int64_t*> malloc(rows * 8)
    if facts & 1:
        out.media_type = <uint8_t*> malloc(rows)
    if facts & 2:
        out.width = <uint32_t*> malloc(rows * 4)
    if facts & 4:
        out.height = <uint32_t*> malloc(rows * 4)
    if facts & 8:
        out.crc32c = <uint32_t*> malloc(rows * 4)
    if facts & 16:
        out.mtime = <int64_t*> malloc(rows * 8)
    return not (
        out.name_bounds == NULL or out.offset_start == NULL or out.offset_end == NULL
        or (facts & 1 and out.media_type == NULL) or (facts & 2 and out.width == NULL)
        or (facts & 4 and out.height == NULL) or (facts & 8 and out.crc32c == NULL)
        or (facts & 16 and out.mtime == NULL)
    )


cdef void row_columns_free(row_columns* out) noexcept nogil:
    free(out.names)
    free(out.name_bounds)
    free(out.offset_start)
    free(out.offset_end)
    free(out.media_type)
    free(out.width)
    free(out.height)
    free(out.crc32c)
    free(out.mtime)


cdef fault take_block(
    row_columns* out, const block_view* view, int64_t first, int64_t last
) noexcept nogil:
    """Append the places first:last of a block."""
    cdef int64_t place, row, length, used, capacity
    cdef const unsigned char* name
    cdef void* grown
    for place in range(first, last):
        row = out.count
        if not name_in(view, place, &name, &length):
            return FAULT_LAYOUT
        used = out.name_bounds[row]
        if used + length > out.names_capacity:
            capacity = max(used + length, 2 * out.names_capacity, 64)
            grown = realloc(out.names, capacity)
            if grown == NULL:
                return FAULT_MEMORY
            out.names = <char*> grown
            out.names_capacity = capacity
        if length:
            memcpy(out.names + used, name, length)
        out.name_bounds[row + 1] = used + length
        if not offsets_in(view, place, &out.offset_start[row], &out.offset_end[row]):
            return FAULT_LAYOUT
        if out.media_type != NULL:
            out.media_type[row] = <uint8_t> value_at(view, MEDIA_TYPE, place)
        if out.width != NULL:
            out.width[row] = <uint32_t> value_at(view, WIDTH, place)
        if out.height != NULL:
            out.height[row] = <uint32_t> value_at(view, HEIGHT, place)
        if out.crc32c != NULL:
            out.crc32c[row] = <uint32_t> value_at(view, CRC32C, place)
        if out.mtime != NULL:
            out.mtime[row] = mtime_in(view, place)
        out.count += 1
    return FAULT_NONE


cdef object hand_over(void** data, Py_ssize_t rows, Py_ssize_t size, str kind):
    if data[0] == NULL:
        return None
    view = owned_view(data[0], rows, size, kind)
    if rows:
        data[0] = NULL
    return view


cdef tuple to_python(row_columns* out):
    cdef int64_t rows = out.count, length = out.name_bounds[out.count]
    names = owned_view(out.names, length, 1, "B")
    if length:
        out.names = NULL
    bounds = owned_view(out.name_bounds, rows + 1, 8, "q")
    out.name_bounds = NULL
    return (
        names,
        bounds,
        hand_over(<void**> &out.offset_start, rows, 8, "q"),
        hand_over(<void**> &out.offset_end, rows, 8, "q"),
        hand_over(<void**> &out.media_type, rows, 1, "B"),
        hand_over(<void**> &out.width, rows, 4, "I"),
        hand_over(<void**> &out.height, rows, 4, "I"),
        hand_over(<void**> &out.crc32c, rows, 4, "I"),
        hand_over(<void**> &out.mtime, rows, 8, "q"),
    )


cdef object failure(fault kind, str where, str section, int64_t offset):
    if kind == FAULT_MEMORY:
        return MemoryError()
    if kind == FAULT_CHECKSUM:
        return ChecksumError(
            f"{where}: the index is damaged: {section} at byte {offset} does not match "
            "its checksum",
            offset=offset,
        )
    return FormatError(
        f"{where}: the index is damaged: {section} at byte {offset} is malformed",
        offset=offset,
    )


cdef class MappedIndex:
    """Look members up in an index region that is mapped from a file.

    Blocks and pages are checked once; which were is all that is kept in memory. A mapping
    of a file that was cut kills who touches it, so each lookup asks for the file's length
    first: lseek is the cheapest call that tells it, 0.15 us.

    Args:
        region: The region's bytes.
        fd: The file.
        where, offset: What messages name: the file, and where the region starts in it.
        crc32c: Of blobpack.checksum.crc32c_address.
        row_count … pages: Of the footer, positions from the region's start.
    """

    cdef const unsigned char[::1] region
    cdef const unsigned char* bytes
    cdef int fd
    cdef str where
    cdef int64_t offset
    cdef int64_t row_count
    cdef int64_t block_count
    cdef int64_t directory
    cdef int64_t lookup
    cdef int64_t pages
    cdef uint64_t seed
    cdef int facts
    cdef crc32c_function crc32c
    cdef unsigned char* blocks_checked
    cdef unsigned char* pages_checked
    cdef unsigned char* directory_checked

    def __cinit__(
        self,
        const unsigned char[::1] region not None,
        int fd,
        str where not None,
        int64_t offset,
        uintptr_t crc32c,
        *,
        int64_t row_count,
        int64_t block_count,
        int64_t directory,
        int64_t lookup,
        int64_t pages,
        uint64_t seed,
        int facts,
    ):
        cdef int64_t directory_pages = (block_count + PAGE_POSITIONS) // PAGE_POSITIONS
        cdef int64_t length = region.shape[0]
        self.fd = -1
        if (
            block_count < 0
            or row_count < 0
            or block_count > (<int64_t> 1 << 32)
            or not 0 <= row_count <= block_count * BLOCK_ROWS
            or row_count <= (block_count - 1) * BLOCK_ROWS
            or not 0 <= pages <= length // PAGE_BYTES
            or not 0 <= lookup <= length - pages * PAGE_BYTES
            or directory_pages > length // PAGE_BYTES
            or not 0 <= directory <= length - directory_pages * PAGE_BYTES
        ):
            raise FormatError(
                f"{where}: the index is damaged: its footer does not fit its size",
                offset=offset,
            )
        self.region = region
        self.bytes = &region[0]
        self.where = where
        self.offset = offset
        self.crc32c = crc32c_at(crc32c)
        self.row_count = row_count
        self.block_count = block_count
        self.directory = directory
        self.lookup = lookup
        self.pages = pages
        self.seed = seed
        self.facts = facts
        self.blocks_checked = <unsigned char*> calloc(block_count // 8 + 1, 1)
        self.pages_checked = <unsigned char*> calloc(pages // 8 + 1, 1)
        self.directory_checked = <unsigned char*> calloc(directory_pages // 8 + 1, 1)
        if (
            self.blocks_checked == NULL
            or self.pages_checked == NULL
            or self.directory_checked == NULL
        ):
            raise MemoryError
        self.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)  # the caller may close his
        if self.fd < 0:
            raise StorageError(f"{where}: can't keep the file open")

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)
        free(self.blocks_checked)
        free(self.pages_checked)
        free(self.directory_checked)

    def __len__(self):
        return self.row_count

    cdef int still_there(self) except -1:
        """Refuse to touch a mapping whose file was cut."""
        cdef int64_t size = lseek(self.fd, 0, SEEK_END)
        if size < self.offset + self.region.shape[0]:
            raise BlobChangedError(
                f"{self.where}: the file was cut to {size} bytes; its index was there up "
                f"to byte {self.offset + self.region.shape[0]} when it was opened"
            )
        return 0

    cdef bint page_checked(
        self, unsigned char* checked, int64_t section, int64_t page
    ) noexcept nogil:
        """Check a page the first time it is used."""
        if checked[page >> 3] >> (page & 7) & 1:
            return True
        if not page_is_whole(self.bytes + section + page * PAGE_BYTES, self.crc32c):
            return False
        checked[page >> 3] |= 1 << (page & 7)
        return True

    cdef fault position_of(self, int64_t block, int64_t* position) noexcept nogil:
        cdef int64_t page = block // PAGE_POSITIONS
        if not self.page_checked(self.directory_checked, self.directory, page):
            return FAULT_CHECKSUM
        memcpy(
            position,
            self.bytes + self.directory + page * PAGE_BYTES + PAGE_HEADER_BYTES
            + block % PAGE_POSITIONS * 8,
            8,
        )
        return FAULT_NONE

    cdef fault open(
        self, int64_t block, block_view* view, int64_t* position
    ) noexcept nogil:
        """Find a block, and check it the first time."""
        cdef int64_t end, first_row = block * BLOCK_ROWS
        cdef fault kind = self.position_of(block, position)
        if kind == FAULT_NONE:
            kind = self.position_of(block + 1, &end)
        if kind != FAULT_NONE:
            position[0] = self.directory
            return kind
        if not 0 <= position[0] <= end <= self.region.shape[0]:
            return FAULT_LAYOUT
        if not self.blocks_checked[block >> 3] >> (block & 7) & 1:
            if not block_is_whole(
                self.bytes + position[0], end - position[0], self.crc32c
            ):
                return FAULT_CHECKSUM
            self.blocks_checked[block >> 3] |= 1 << (block & 7)
        if not open_block(view, self.bytes + position[0], end - position[0]):
            return FAULT_LAYOUT
        if <int64_t> view.header.first_row != first_row or (
            view.header.rows != min(self.row_count - first_row, <int64_t> BLOCK_ROWS)
        ):
            return FAULT_LAYOUT
        return FAULT_NONE

    cdef fault search(
        self, const char* name, int64_t length, block_view* view, int64_t* row,
        int64_t* position,
    ) noexcept nogil:
        """Find the row of a name, and leave its block open."""
        cdef uint64_t hashed = seeded(hash_name(name, length, 0), self.seed)
        cdef int64_t page, probe, known_length
        cdef const unsigned char* known
        cdef slot found
        cdef fault kind
        if self.pages == 0:
            return FAULT_ABSENT
        page = page_of(hashed, self.pages)
        position[0] = self.lookup + page * PAGE_BYTES
        if not self.page_checked(self.pages_checked, self.lookup, page):
            return FAULT_CHECKSUM
        for probe in range(LINES * LINE_SLOTS):
            slot_at(self.bytes + self.lookup + page * PAGE_BYTES, hashed, probe, &found)
            if found.row == FREE_ROW:
                break
            if found.print != print_of(hashed):
                continue
            if found.row >= self.row_count:
                return FAULT_LAYOUT
            kind = self.open(found.row // BLOCK_ROWS, view, position)
            if kind != FAULT_NONE:
                return kind
            if not name_in(view, found.row % BLOCK_ROWS, &known, &known_length):
                return FAULT_LAYOUT
            if known_length == length and memcmp(known, name, length) == 0:
                row[0] = found.row
                return FAULT_NONE
        return FAULT_ABSENT

    def find(self, str name not None):
        """Return the last row of that name, -1 when there is none.

        Raises:
            FormatError: what was read of the index is damaged.
        """
        cdef const char* text
        cdef Py_ssize_t length
        cdef block_view view
        cdef int64_t row = -1, position = 0
        cdef fault kind
        cdef list keep = []
        if not name_bytes(name, &text, &length, keep):
            return -1
        self.still_there()
        kind = self.search(text, length, &view, &row, &position)
        if kind == FAULT_ABSENT:
            return -1
        if kind != FAULT_NONE:
            raise failure(kind, self.where, "the part", self.offset + position)
        return row

    def locate(self, str name not None):
        """Return offset_start and offset_end of the last row of that name, or None.

        Raises:
            FormatError: what was read of the index is damaged.
        """
        cdef const char* text
        cdef Py_ssize_t length
        cdef block_view view
        cdef int64_t row = -1, position = 0, start, end
        cdef fault kind
        cdef list keep = []
        if not name_bytes(name, &text, &length, keep):
            return None
        self.still_there()
        kind = self.search(text, length, &view, &row, &position)
        if kind == FAULT_ABSENT:
            return None
        if kind == FAULT_NONE and not offsets_in(
            &view, row % BLOCK_ROWS, &start, &end
        ):
            kind = FAULT_LAYOUT
        if kind != FAULT_NONE:
            raise failure(kind, self.where, "the part", self.offset + position)
        return start, end

    def rows(self, int64_t first, int64_t last):
        """Read the rows first:last into columns of their own.

        Returns:
            names, name_bounds, offset_start, offset_end, media_type, width, height,
                crc32c, mtime; the last five are None where they were not taken.

        Raises:
            FormatError: a block is damaged.
        """
        cdef row_columns out
        cdef block_view view
        cdef int64_t position = 0, row = first, place, until
        cdef fault kind = FAULT_NONE
        if not 0 <= first <= last <= self.row_count:
            raise IndexError(f"rows {first} to {last} of {self.row_count}")
        self.still_there()
        try:
            if not row_columns_init(&out, last - first, self.facts):
                raise MemoryError
            with nogil:
                while row < last and kind == FAULT_NONE:
                    kind = self.open(row // BLOCK_ROWS, &view, &position)
                    if kind == FAULT_NONE:
                        place = row % BLOCK_ROWS
                        until = min(last - row + place, <int64_t> BLOCK_ROWS)
                        kind = take_block(&out, &view, place, until)
                        row += until - place
            if kind != FAULT_NONE:
                raise failure(kind, self.where, "the block", self.offset + position)
            return to_python(&out)
        finally:
            row_columns_free(&out)


def decode_blocks(
    const unsigned char[::1] blocks not None,
    const int64_t[::1] positions not None,
    int64_t first_row,
    int64_t row_count,
    int facts,
    uintptr_t crc32c,
    str where not None,
    int64_t offset,
):
    """Decode blocks that were fetched.

    Args:
        blocks: Their bytes, one behind the other.
        positions: (blocks + 1,): where each starts, and the last one ends.
        first_row: Of the first block.
        row_count: Of the whole index.
        facts: Which optional columns it has.
        crc32c: Of blobpack.checksum.crc32c_address.
        where, offset: What messages name: the file, and where `blocks` starts in it.

    Returns:
        As MappedIndex.rows.

    Raises:
        FormatError: a block is damaged.
    """
    cdef crc32c_function check = crc32c_at(crc32c)
    cdef row_columns out
    cdef block_view view
    cdef int64_t count = positions.shape[0] - 1, i, start, end, wanted
    cdef fault kind = FAULT_NONE
    cdef int64_t rows = min(row_count - first_row, count * BLOCK_ROWS)
    try:
        if not row_columns_init(&out, max(rows, 0), facts):
            raise MemoryError
        for i in range(count):
            start = positions[i]
            end = positions[i + 1]
            wanted = min(row_count - first_row, <int64_t> BLOCK_ROWS)
            if not 0 <= start <= end <= blocks.shape[0] or wanted <= 0:
                kind = FAULT_LAYOUT
            elif end == start or not block_is_whole(&blocks[start], end - start, check):
                kind = FAULT_CHECKSUM
            elif (
                not open_block(&view, &blocks[start], end - start)
                or <int64_t> view.header.first_row != first_row
                or view.header.rows != wanted
            ):
                kind = FAULT_LAYOUT
            else:
                kind = take_block(&out, &view, 0, wanted)
            if kind != FAULT_NONE:
                raise failure(kind, where, "the block", offset + start)
            first_row += wanted
        return to_python(&out)
    finally:
        row_columns_free(&out)


def page_number(bytes name not None, uint64_t seed, uint64_t pages):
    """Tell on which lookup page a name would be."""
    return page_of(seeded(hash_name(name, len(name), 0), seed), pages)


def rows_in_page(const unsigned char[::1] page not None, bytes name, uint64_t seed):
    """List the rows that a lookup page gives for a name; their names may still differ.

    Args:
        page: 4,096 bytes, checked.
    """
    cdef uint64_t hashed = seeded(hash_name(name, len(name), 0), seed)
    cdef int64_t probe
    cdef slot found
    if page.shape[0] != PAGE_BYTES:
        raise ValueError(f"a page has {PAGE_BYTES} bytes, not {page.shape[0]}")
    rows = []
    for probe in range(LINES * LINE_SLOTS):
        slot_at(&page[0], hashed, probe, &found)
        if found.row == FREE_ROW:
            break
        if found.print == print_of(hashed):
            rows.append(found.row)
    return rows
