"""Look members up in an index file, and copy them out of it.

docs/format.md has the layout. What is read is checked against its checksum the first
time, and each number in it every time: the file is mapped, and may change.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy
from posix.fcntl cimport F_DUPFD_CLOEXEC, fcntl
from posix.unistd cimport SEEK_END, close, lseek

from blocks cimport (
    BLOCK_HEADER_BYTES,
    BLOCK_ROWS,
    aligned,
    block_header,
    block_is_whole,
    block_view,
    name_in,
    offsets_in,
    open_block,
)
from crc32c cimport crc32c_at, crc32c_function
from index_rows cimport (
    FAULT_ABSENT,
    FAULT_CHECKSUM,
    FAULT_LAYOUT,
    FAULT_MEMORY,
    FAULT_NONE,
    fault,
    row_columns,
    row_columns_free,
    row_columns_init,
    take_block,
    to_python,
)
from names cimport hash_name
from pages cimport (
    DIRECTORY,
    FREE_ROW,
    LINE_SLOTS,
    LINES,
    PAGE_BYTES,
    PAGE_HEADER_BYTES,
    PAGE_POSITIONS,
    page_is_whole,
    page_of,
    print_of,
    seeded,
    slot,
    slot_at,
    slot_position,
)

from blobpack.errors import (
    BlobChangedError,
    ChecksumError,
    FormatError,
    StorageError,
)

cdef enum:
    GROUP_NAMES = 32               # whose cache lines are brought together

cdef extern from *:
    void prefetch "__builtin_prefetch" (const void*) noexcept nogil

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL


cdef bytes encoded_name(str name):
    """Encode a name that is not UTF-8; None when no tar can hold it."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None


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

    Blocks and pages are checked once; which were is all that is kept in memory. A
    mapping of a file that was cut kills who touches it, so each lookup asks for the
    file's length first: lseek is the cheapest call that tells it, 0.15 us.

    Args:
        region: The region's bytes.
        fd: The file.
        where, offset: What messages name: the file, and where the region starts in it.
        crc32c: Of blobpack.checksum.crc32c_address.
        row_count … facts: Of the footer, positions from the region's start.
    """

    cdef const unsigned char[::1] region
    cdef const unsigned char* bytes
    cdef int fd
    cdef int64_t end               # of the region in the file
    cdef str where
    cdef int64_t offset
    cdef int64_t row_count
    cdef int64_t last_end
    cdef int64_t block_count
    cdef int64_t directory
    cdef int64_t lookup
    cdef int64_t pages
    cdef uint64_t seed
    cdef int facts
    cdef crc32c_function crc32c
    cdef block_header last_header
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
        int64_t last_end,
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
            or last_end < 0
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
        self.end = offset + length
        self.crc32c = crc32c_at(crc32c)
        self.row_count = row_count
        self.last_end = last_end
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

    cdef int refuse_cut_file(self) except -1:
        """Refuse to touch the mapping of a file that was cut."""
        cdef int64_t size = lseek(self.fd, 0, SEEK_END)
        if size >= self.end:
            return 0
        raise BlobChangedError(
            f"{self.where}: the file was cut to {size} bytes; its index was there up "
            f"to byte {self.end} when it was opened"
        )

    cdef bint page_checked(
        self, unsigned char* checked, int64_t section, int64_t page, uint32_t number
    ) noexcept nogil:
        """Check a page the first time it is used."""
        if checked[page >> 3] >> (page & 7) & 1:
            return True
        if not page_is_whole(
            self.bytes + section + page * PAGE_BYTES, number, self.crc32c
        ):
            return False
        checked[page >> 3] |= 1 << (page & 7)
        return True

    cdef fault position_of(self, int64_t block, int64_t* position) noexcept nogil:
        cdef int64_t page = block // PAGE_POSITIONS
        if not self.page_checked(
            self.directory_checked, self.directory, page, DIRECTORY + <uint32_t> page
        ):
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
        if not open_block(
            view, self.bytes + position[0], end - position[0], self.last_end
        ):
            return FAULT_LAYOUT
        if <int64_t> view.header.first_row != first_row or (
            view.header.rows != min(self.row_count - first_row, <int64_t> BLOCK_ROWS)
        ):
            return FAULT_LAYOUT
        return FAULT_NONE

    cdef void fetch_ahead(self, int64_t row) noexcept nogil:
        """Bring a member's cache lines side by side.

        Where its values stand depends on the block's header; most likely that is as the
        last one was. A wrong guess costs nothing: a prefetch can't fault.
        """
        cdef int64_t position, place = row % BLOCK_ROWS, i
        cdef const unsigned char* at
        if self.position_of(row // BLOCK_ROWS, &position) != FAULT_NONE:
            return
        at = self.bytes + position
        prefetch(at)
        at += BLOCK_HEADER_BYTES
        for i in range(3):  # name_end, offset_start, size
            prefetch(at + place * self.last_header.widths[i])
            at += aligned(self.last_header.rows * self.last_header.widths[i])

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
        if not self.page_checked(self.pages_checked, self.lookup, page, page):
            return FAULT_CHECKSUM
        for probe in range(LINES * LINE_SLOTS):
            slot_at(self.bytes + self.lookup + page * PAGE_BYTES, hashed, probe, &found)
            if found.row == FREE_ROW:
                break
            if found.print != print_of(hashed):
                continue
            if found.row >= self.row_count:
                return FAULT_LAYOUT
            self.fetch_ahead(found.row)
            kind = self.open(found.row // BLOCK_ROWS, view, position)
            if kind != FAULT_NONE:
                return kind
            self.last_header = view.header
            if not name_in(view, found.row % BLOCK_ROWS, &known, &known_length):
                return FAULT_LAYOUT
            if known_length == length and memcmp(known, name, length) == 0:
                row[0] = found.row
                return FAULT_NONE
        return FAULT_ABSENT

    cdef int64_t find_row(self, str name, block_view* view) except -2:
        """Find the last row of a name, -1 when there is none; leave its block open."""
        cdef const char* text
        cdef Py_ssize_t length
        cdef bytes encoded = None
        cdef int64_t row = -1, position = 0
        cdef fault kind
        try:
            text = PyUnicode_AsUTF8AndSize(name, &length)
        except UnicodeEncodeError:  # surrogates: bytes that are not UTF-8
            encoded = encoded_name(name)
            if encoded is None:
                return -1
            text = encoded
            length = len(encoded)
        kind = self.search(text, length, view, &row, &position)
        if kind > FAULT_ABSENT:
            raise failure(kind, self.where, "the part", self.offset + position)
        return row

    def find(self, str name not None):
        """Return the last row of that name, -1 when there is none.

        Raises:
            BlobChangedError: the file was cut.
            FormatError: what was read of the index is damaged.
        """
        cdef block_view view
        self.refuse_cut_file()
        return self.find_row(name, &view)

    def locate(self, str name not None):
        """Return offset_start and offset_end of the last row of that name, or None.

        Raises:
            BlobChangedError: the file was cut.
            FormatError: what was read of the index is damaged.
        """
        self.refuse_cut_file()
        return self.offsets_of(name)

    cdef tuple offsets_of(self, str name):
        cdef block_view view
        cdef int64_t start, end, row = self.find_row(name, &view)
        if row < 0:
            return None
        if not offsets_in(&view, row % BLOCK_ROWS, &start, &end):
            raise failure(FAULT_LAYOUT, self.where, "the member", self.offset)
        return start, end

    def locate_many(self, list names not None):
        """Return the same for many names, in their order.

        What binds is waiting for memory, so the cache lines of some names are brought
        side by side before the first of them is looked at.

        Raises:
            As locate.
        """
        cdef Py_ssize_t first, last, i
        cdef list located = []
        for first in range(0, len(names), GROUP_NAMES):
            last = min(first + GROUP_NAMES, len(names))
            self.bring(names, first, last)
            for i in range(first, last):
                located.append(self.offsets_of(names[i]))
        return located

    cdef int bring(self, list names, Py_ssize_t first, Py_ssize_t last) except -1:
        """Prefetch the slots of some names, then the rows that those give."""
        cdef uint64_t[GROUP_NAMES] hashes
        cdef const char* text
        cdef Py_ssize_t length, i, count = 0
        self.refuse_cut_file()
        if self.pages == 0:
            return 0
        for i in range(first, last):
            if not isinstance(names[i], str) or not (<str> names[i]).isascii():
                continue
            text = PyUnicode_AsUTF8AndSize(names[i], &length)
            hashes[count] = seeded(hash_name(text, length, 0), self.seed)
            prefetch(self.slots_of(hashes[count]))
            count += 1
        for i in range(count):
            self.bring_row(hashes[i])
        return 0

    cdef const unsigned char* slots_of(self, uint64_t hashed) noexcept nogil:
        return (
            self.bytes + self.lookup + page_of(hashed, self.pages) * PAGE_BYTES
            + slot_position(hashed, 0)
        )

    cdef void bring_row(self, uint64_t hashed) noexcept nogil:
        """Prefetch the row in the first slot of the same fingerprint, if it is near."""
        cdef const unsigned char* slots = self.slots_of(hashed)
        cdef slot found
        cdef int64_t i
        for i in range(LINE_SLOTS):
            memcpy(&found, slots + i * sizeof(slot), sizeof(slot))
            if found.print == print_of(hashed) and found.row < self.row_count:
                self.fetch_ahead(found.row)
                return

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
        self.refuse_cut_file()
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
    int64_t last_end,
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
        last_end: No member ends behind it.
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
            if not 0 <= start < end <= blocks.shape[0] or wanted <= 0:
                kind = FAULT_LAYOUT
            elif not block_is_whole(&blocks[start], end - start, check):
                kind = FAULT_CHECKSUM
            elif (
                not open_block(&view, &blocks[start], end - start, last_end)
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
