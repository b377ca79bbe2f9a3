"""Walk a chain of headers: the window they are read through, groups, and rows.

What binds is copying out of the page cache, not parsing. So headers are read through a
window while they lie close together, and one by one when they lie far apart. A group is
a member's header with the extended headers before it.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from posix.stdlib cimport posix_memalign
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport pread

from columns cimport columns_free, columns_push, member_columns
from extensions cimport (
    WALK_BAD_CHECKSUM,
    WALK_BAD_SIZE,
    WALK_CUT_EXTENSION,
    WALK_CUT_HEADER,
    WALK_CUT_PADDING,
    WALK_CUT_PAYLOAD,
    WALK_END_MARKER,
    WALK_FEED,
    WALK_GROUP,
    WALK_HUGE_EXTENSION,
    WALK_NEED,
    WALK_NO_MARKER,
    WALK_NO_MEMORY,
    WALK_ORPHAN_EXTENSION,
    WALK_READ_FAILED,
    WALK_SEGMENT_END,
    WALK_SHRUNK,
    WALK_TURN,
    extension,
    global_names,
    is_extension,
    nothing,
    read_extension,
    read_global,
    reset_extension,
    text,
    walk_status,
    whole_seconds,
)
from tar cimport (
    BLOCK,
    GNU_EXTENDED_OFFSET,
    LINKNAME_OFFSET,
    MAP_EXTENDED_OFFSET,
    MTIME_OFFSET,
    PREFIX_OFFSET,
    SIZE_OFFSET,
    STAR_EXTENDED_OFFSET,
    TYPEFLAG_OFFSET,
    checksum_matches,
    decode_mtime,
    decode_number,
    field_length,
    has_magic,
    has_posix_magic,
    has_star_magic,
    is_zero_block,
    padded,
)

cdef enum:
    WINDOW_BYTES = 1048576         # fastest of 64 KiB to 4 MiB, warm, when aligned
    FIRST_WINDOW_BYTES = 16384     # the next ones grow: headers may lie far apart
    WINDOW_ALIGNMENT = 4096
    NEAR_BYTES = 10240             # 45 ns a KiB of window against 0.45 us a read, warm
    NEAR_BYTES_COLD = 131072       # the same balance when the disk answers
    COLD_READ_NS = 15000  # a read of one header that takes longer came from the disk
    SLOW_READS = 3                 # so many of them in a row are no accident
    MAX_EXTENSION_BYTES = 67108864  # as libarchive bounds a pax header
    COMPOSED_BYTES = 256           # prefix, "/" and name

cdef enum member_kind:
    KIND_FILE
    KIND_HARD_LINK
    KIND_FOLDER
    KIND_SYMBOLIC_LINK
    KIND_DEVICE
    KIND_SPARSE
    KIND_OTHER
    KIND_COUNT

cdef struct member_group:
    int64_t next_start
    member_kind kind
    text name
    text link_name
    int64_t mtime                  # where it is kept
    int64_t offset_start
    int64_t offset_end
    unsigned char composed[COMPOSED_BYTES]

cdef struct walker:
    int fd                         # -1: the shell brings the bytes
    int64_t length
    int64_t stop                   # the walk ends at the first group from here on
    bint speculative  # walks a guessed chain, and keeps the starts of its groups
    unsigned char* window          # the shell's where it brings the bytes
    int64_t window_capacity
    int64_t window_start
    int64_t window_end
    int64_t window_bytes           # the next one's
    int64_t window_bytes_max
    int64_t near_bytes
    int64_t stride                 # running mean distance between groups
    int64_t header_bytes           # of the last group
    int64_t header_reads
    int slow_reads                 # timed ones, without a quick one between
    int64_t pos                    # where the next group starts
    int64_t need_end
    int64_t fault                  # offset of the header at fault
    int fault_errno
    bint met_v7
    global_names globals
    member_columns rows
    member_columns links           # name: the link's target; offset_start: its row
    int64_t kinds[KIND_COUNT]
    int64_t* group_start
    int64_t* group_row             # rows before the group
    unsigned char* group_kind
    int64_t group_count
    int64_t group_capacity

# The window

cdef inline const unsigned char* bytes_at(
    walker* w, int64_t start, int64_t size
) noexcept nogil:
    """Point at bytes in the window.

    NULL, and the need noted, when they are not in it.
    """
    if start >= w.window_start and start + size <= w.window_end:
        return w.window + (start - w.window_start)
    w.need_end = start + size
    return NULL


cdef inline int64_t nanoseconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


cdef inline int grow_window(walker* w, int64_t size) noexcept nogil:
    """Make room in the window; what it held is gone."""
    cdef void* grown = NULL
    if size <= w.window_capacity:
        return 0
    free(w.window)
    w.window = NULL
    w.window_start = w.window_end = w.window_capacity = 0
    if posix_memalign(&grown, WINDOW_ALIGNMENT, size) != 0:
        return -1
    w.window = <unsigned char*> grown
    w.window_capacity = size
    return 0


cdef inline int64_t window_wanted(walker* w) noexcept nogil:
    """Choose how much to read: a window while headers lie close, else headers alone.

    Where the shell brings the bytes, this is the least, and it may bring more.
    """
    cdef int64_t wanted = w.need_end - w.pos
    cdef int64_t usual = w.header_bytes
    if wanted > (w.window_bytes_max if w.fd >= 0 else BLOCK):
        wanted *= 2  # a group of many headers is read again from its start: not often
    if w.fd >= 0 and w.stride <= w.near_bytes:
        usual = w.window_bytes
    return min(max(wanted, usual), w.length - w.pos)


cdef inline walk_status refill(walker* w) noexcept nogil:
    """Read the window anew from the current group on: groups are whole in it."""
    cdef int64_t wanted = window_wanted(w)
    cdef int64_t done = 0, began = 0
    cdef ssize_t got
    cdef bint timed = False
    if w.fd < 0:
        return WALK_FEED
    if grow_window(w, wanted) < 0:
        return WALK_NO_MEMORY
    if w.stride > NEAR_BYTES:
        w.header_reads += 1
        timed = w.header_reads & 7 == 0
        if timed:
            began = nanoseconds()
    w.window_start = w.window_end = 0
    while done < wanted:
        got = pread(w.fd, w.window + done, wanted - done, w.pos + done)
        if got < 0:
            if errno == EINTR:
                continue
            w.fault_errno = errno
            w.fault = w.pos + done
            return WALK_READ_FAILED
        if got == 0:
            w.fault = w.pos + done
            return WALK_SHRUNK
        done += got
    if timed and wanted <= NEAR_BYTES:
        w.slow_reads = w.slow_reads + 1 if nanoseconds() - began > COLD_READ_NS else 0
        if w.slow_reads == SLOW_READS:
            w.near_bytes = NEAR_BYTES_COLD
    if wanted >= w.window_bytes:
        w.window_bytes = min(4 * w.window_bytes, w.window_bytes_max)
    w.window_start = w.pos
    w.window_end = w.pos + wanted
    return WALK_GROUP


# One group

cdef inline text member_name(
    walker* w, const unsigned char* header, extension* ext, member_group* group
) noexcept nogil:
    """Name a member: by pax, then GNU, then global pax, then its own header."""
    cdef text name
    cdef int64_t prefix_length
    if ext.path.length > 0:
        return ext.path
    if ext.long_name.length > 0:
        return ext.long_name
    if ext.path.length < 0 and w.globals.path_length > 0:
        name.bytes = w.globals.path
        name.length = w.globals.path_length
        return name
    name.bytes = header
    name.length = field_length(header, 100)
    if not has_posix_magic(header) or header[PREFIX_OFFSET] == 0:
        return name
    prefix_length = field_length(
        header + PREFIX_OFFSET, 131 if has_star_magic(header) else 155
    )
    memcpy(group.composed, header + PREFIX_OFFSET, prefix_length)
    group.composed[prefix_length] = b"/"
    memcpy(group.composed + prefix_length + 1, name.bytes, name.length)
    name.bytes = group.composed
    name.length += prefix_length + 1
    return name


cdef inline text link_target(
    walker* w, const unsigned char* header, extension* ext
) noexcept nogil:
    """Name what a link points at, by the same order."""
    cdef text target
    if ext.link_path.length > 0:
        return ext.link_path
    if ext.long_link.length > 0:
        return ext.long_link
    if ext.link_path.length < 0 and w.globals.link_length > 0:
        target.bytes = w.globals.link
        target.length = w.globals.link_length
        return target
    target.bytes = header + LINKNAME_OFFSET
    target.length = field_length(target.bytes, 100)
    return target


cdef inline member_kind kind_of(
    unsigned char typeflag, extension* ext, text name
) noexcept nogil:
    if typeflag == 0 and name.length and name.bytes[name.length - 1] == b"/":
        return KIND_FOLDER                         # v7 has no type for folders
    if typeflag == b"0" or typeflag == 0 or typeflag == b"7":
        return KIND_SPARSE if ext.sparse else KIND_FILE
    if typeflag == b"1":
        return KIND_HARD_LINK
    if typeflag == b"2":
        return KIND_SYMBOLIC_LINK
    if typeflag == b"3" or typeflag == b"4" or typeflag == b"6":
        return KIND_DEVICE
    if typeflag == b"5":
        return KIND_FOLDER
    if typeflag == b"S":
        return KIND_SPARSE
    return KIND_OTHER


cdef inline walk_status skip_sparse_map(
    walker* w, int64_t header_pos, int64_t* data_start
) noexcept nogil:
    """Step over the map blocks that follow an old GNU or star sparse header."""
    cdef const unsigned char* block = bytes_at(w, header_pos, BLOCK)
    cdef bint extended = block[
        STAR_EXTENDED_OFFSET if has_star_magic(block) else GNU_EXTENDED_OFFSET
    ]
    while extended:
        if w.length - data_start[0] < BLOCK:
            w.fault = header_pos
            return WALK_CUT_HEADER
        block = bytes_at(w, data_start[0], BLOCK)
        if block == NULL:
            return WALK_NEED
        extended = block[MAP_EXTENDED_OFFSET]
        data_start[0] += BLOCK
    return WALK_GROUP


cdef inline walk_status read_member(
    walker* w, int64_t header_pos, extension* ext, member_group* group
) noexcept nogil:
    """Read the header that ends a group.

    It is in the window, and its checksum is right.
    """
    cdef const unsigned char* header = bytes_at(w, header_pos, BLOCK)
    cdef int64_t size = decode_number(header + SIZE_OFFSET, 12)
    cdef unsigned char typeflag = header[TYPEFLAG_OFFSET]
    cdef int64_t data_start = header_pos + BLOCK
    cdef walk_status status
    w.fault = header_pos
    group.name = member_name(w, header, ext, group)
    if size < 0:
        return WALK_BAD_SIZE
    w.met_v7 = w.met_v7 or not has_magic(header)
    group.kind = kind_of(typeflag, ext, group.name)
    if typeflag == b"S":
        status = skip_sparse_map(w, header_pos, &data_start)
        if status != WALK_GROUP:
            return status
    if ext.size >= 0:
        size = ext.size
    if w.rows.with_mtime and not whole_seconds(ext.mtime, &group.mtime):
        group.mtime = decode_mtime(header + MTIME_OFFSET)
    if group.kind == KIND_HARD_LINK:
        group.link_name = link_target(w, header, ext)
    if (
        group.kind == KIND_HARD_LINK or group.kind == KIND_SYMBOLIC_LINK
        or group.kind == KIND_FOLDER or group.kind == KIND_DEVICE
    ):
        size = 0  # whatever the header says, no data follows
    group.offset_start = data_start
    if size > w.length - data_start:
        group.offset_end = size                    # for the message
        return WALK_CUT_PAYLOAD
    group.offset_end = data_start + size
    if padded(size) > w.length - data_start:
        return WALK_CUT_PADDING
    group.next_start = data_start + padded(size)
    return WALK_GROUP


cdef inline walk_status read_group(walker* w, member_group* group) noexcept nogil:
    """Read the group at w.pos: extended headers, then the member's own.

    Nothing is kept when the window ends too early (WALK_NEED): the group is read again
    from its start.
    """
    cdef extension ext
    cdef const unsigned char* header
    cdef int64_t pos = w.pos
    cdef int64_t size
    cdef walk_status status
    reset_extension(&ext)
    group.name = nothing()
    while True:
        w.fault = pos
        if w.length - pos < BLOCK:
            if pos < w.length or ext.pending:
                return WALK_CUT_HEADER
            w.pos = pos
            return WALK_NO_MARKER
        header = bytes_at(w, pos, BLOCK)
        if header == NULL:
            return WALK_NEED
        if is_zero_block(header):
            if ext.pending:
                return WALK_ORPHAN_EXTENSION
            w.pos = pos
            return WALK_END_MARKER
        if not checksum_matches(header):
            return WALK_BAD_CHECKSUM
        if not is_extension(header[TYPEFLAG_OFFSET]):
            return read_member(w, pos, &ext, group)
        size = decode_number(header + SIZE_OFFSET, 12)
        if size < 0:
            return WALK_BAD_SIZE
        if size > w.length - pos - BLOCK or padded(size) > w.length - pos - BLOCK:
            return WALK_CUT_EXTENSION
        if pos + size - w.pos > MAX_EXTENSION_BYTES:
            return WALK_HUGE_EXTENSION
        header = bytes_at(w, pos, BLOCK + size)
        if header == NULL:
            return WALK_NEED
        if header[TYPEFLAG_OFFSET] == b"g":
            status = read_global(&w.globals, w.speculative, header + BLOCK, size)
        else:
            status = read_extension(header[TYPEFLAG_OFFSET], header + BLOCK, size, &ext)
        if status != WALK_GROUP:
            return status
        pos += BLOCK + padded(size)
        if not ext.pending:
            w.pos = pos  # a global header is whole by itself


# The chain

cdef inline int keep_group(walker* w, member_kind kind) noexcept nogil:
    """Remember where a guessed chain's group starts, for the true chain to meet it."""
    cdef int64_t capacity
    cdef void* grown
    if w.group_count == w.group_capacity:
        capacity = max(2 * w.group_capacity, 4096)
        grown = realloc(w.group_start, capacity * sizeof(int64_t))
        if grown == NULL:
            return -1
        w.group_start = <int64_t*> grown
        grown = realloc(w.group_row, capacity * sizeof(int64_t))
        if grown == NULL:
            return -1
        w.group_row = <int64_t*> grown
        grown = realloc(w.group_kind, capacity)
        if grown == NULL:
            return -1
        w.group_kind = <unsigned char*> grown
        w.group_capacity = capacity
    w.group_start[w.group_count] = w.pos
    w.group_row[w.group_count] = w.rows.count
    w.group_kind[w.group_count] = kind
    w.group_count += 1
    return 0


cdef inline int keep_row(
    walker* w, const member_group* group, int64_t offset_start, int64_t offset_end
) noexcept nogil:
    if columns_push(
        &w.rows, group.name.bytes, group.name.length, offset_start, offset_end
    ) < 0:
        return -1
    if w.rows.with_mtime:
        w.rows.mtime[w.rows.count - 1] = group.mtime
    return 0


cdef inline int keep_member(walker* w, const member_group* group) noexcept nogil:
    """Append the group's row, if its kind has one.

    A hard link's offsets are filled in at the end.
    """
    if w.speculative and keep_group(w, group.kind) < 0:
        return -1
    w.kinds[<int> group.kind] += 1
    if group.kind == KIND_FILE:
        return keep_row(w, group, group.offset_start, group.offset_end)
    if group.kind != KIND_HARD_LINK:
        return 0
    if columns_push(
        &w.links, group.link_name.bytes, group.link_name.length, w.rows.count, 0
    ) < 0:
        return -1
    return keep_row(w, group, -1, -1)


cdef inline walk_status walk(
    walker* w, int64_t refills, member_group* group
) noexcept nogil:
    """Walk on from w.pos until the chain, the segment or the turn ends, or a fault."""
    cdef walk_status status
    while w.pos < w.stop:
        status = read_group(w, group)
        if status == WALK_NEED:
            if refills == 0:
                return WALK_TURN
            refills -= 1
            status = refill(w)
            if status != WALK_GROUP:
                return status
            continue
        if status != WALK_GROUP:
            return status
        if keep_member(w, group) < 0:
            return WALK_NO_MEMORY
        w.header_bytes = min(group.offset_start - w.pos, 16384)
        w.stride += (group.next_start - w.pos - w.stride) >> 3
        w.pos = group.next_start
    return WALK_SEGMENT_END


cdef inline void walker_init(walker* w, int fd, int64_t length) noexcept nogil:
    memset(w, 0, sizeof(walker))
    w.fd = fd
    w.length = length
    w.stop = length + 1  # the group at the very end is the end itself
    w.window_bytes_max = WINDOW_BYTES
    w.window_bytes = FIRST_WINDOW_BYTES
    w.near_bytes = NEAR_BYTES
    w.header_bytes = BLOCK
    w.globals.path_length = w.globals.link_length = -1


cdef inline void walker_free(walker* w) noexcept nogil:
    columns_free(&w.rows)
    columns_free(&w.links)
    if w.window_capacity:  # else the shell's, or none
        free(w.window)
    free(w.globals.path)
    free(w.globals.link)
    free(w.group_start)
    free(w.group_row)
    free(w.group_kind)
