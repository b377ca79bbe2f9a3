"""Encode members as the blocks, the directory and the guide of an index file.

Strategy: blocks are encoded as members come. Where each block starts, and its first
name, is kept for the directory and the guide. name_hashes.pyx makes the lookup.

docs/format.md has the layout.
"""

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from index.blocks cimport (
    BLOCK_ROWS,
    block_header,
    measure_block,
    member_rows,
    put_block,
)
from common.crc32c cimport crc32c_function, find_crc32c
from common.packed_names cimport compare, packed_names
from index.pages cimport (
    DIRECTORY,
    FREE_ROW,
    PAGE_BYTES,
    PAGE_HEADER_BYTES,
    PAGE_POSITIONS,
    seal_page,
)

from blobpack.errors import FormatError


cdef class BlockEncoder:
    """Turn columns into the blocks of an index file, part by part."""

    cdef crc32c_function crc32c
    cdef int64_t row_count
    cdef list first_names
    cdef int64_t first_names_bytes
    cdef int64_t guide_bytes_max
    cdef int64_t* positions        # where blocks start
    cdef int64_t positions_capacity
    cdef int64_t block_count
    cdef readonly int64_t blocks_bytes  # so far
    cdef bytes last_name
    cdef bint ascending

    def __cinit__(self, *, int64_t guide_bytes_max=1 << 18):
        """Begin an index without members.

        Args:
            guide_bytes_max: The first names of blocks are kept up to this size, with 4
                bytes for the end of each.
        """
        self.crc32c = find_crc32c()
        self.guide_bytes_max = guide_bytes_max
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
        if self.row_count:
            raise ValueError("members were added already")
        free(self.positions)
        self.positions = <int64_t*> malloc(max(count, 1) * sizeof(int64_t))
        if self.positions == NULL:
            raise MemoryError
        if count:
            memcpy(self.positions, &positions[0], count * sizeof(int64_t))
        self.positions_capacity = max(count, 1)
        self.block_count = count
        self.blocks_bytes = length
        self.row_count = count * BLOCK_ROWS
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
        if self.row_count % BLOCK_ROWS:
            raise ValueError("only the last part may end within a block")
        if total > <int64_t> FREE_ROW - 1 - self.row_count:
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
        cdef int64_t length = measure_block(rows, self.row_count, &header)
        cdef unsigned char* block
        if length < 0:
            raise FormatError("the names of 1,024 members take more than 4 GiB")
        encoded = PyBytes_FromStringAndSize(NULL, length)
        block = <unsigned char*> PyBytes_AsString(encoded)
        with nogil:
            memset(block, 0, length)
            put_block(block, length, rows, &header, self.crc32c)
            self.ascending = self.ascending and names_ascend(rows)
        self.note_block(rows, length)
        self.row_count += rows.count
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
        self.positions[self.block_count] = self.blocks_bytes
        self.block_count += 1
        self.blocks_bytes += length
        return 0

    def __len__(self):
        return self.row_count

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
            position = base + (
                self.positions[i] if i < count - 1 else self.blocks_bytes
            )
            memcpy(
                page + i // PAGE_POSITIONS * PAGE_BYTES + PAGE_HEADER_BYTES
                + i % PAGE_POSITIONS * 8,
                &position,
                8,
            )
        for i in range(pages):
            seal_page(page + i * PAGE_BYTES, DIRECTORY + <uint32_t> i, self.crc32c)
        return encoded


cdef inline bint names_ascend(const member_rows* rows) noexcept nogil:
    """Return whether no name is below the one before it."""
    cdef packed_names names
    cdef int64_t row
    names.bytes = rows.names
    names.bounds = rows.name_bounds
    for row in range(1, rows.count):
        if compare(names, row, row - 1) < 0:
            return False
    return True
