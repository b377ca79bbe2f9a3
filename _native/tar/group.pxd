"""One group of a tar: a member's header with the extended headers before it."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from tar.extended cimport (
    extension,
    global_names,
    is_extension,
    nothing,
    read_extension,
    read_global,
    reset_extension,
    text,
    whole_seconds,
)
from tar.header cimport (
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
from tar.status cimport (
    WALK_BAD_CHECKSUM,
    WALK_BAD_SIZE,
    WALK_CUT_EXTENSION,
    WALK_CUT_HEADER,
    WALK_CUT_PADDING,
    WALK_CUT_PAYLOAD,
    WALK_END_MARKER,
    WALK_GROUP,
    WALK_HUGE_EXTENSION,
    WALK_NEED,
    WALK_NO_MARKER,
    WALK_ORPHAN_EXTENSION,
    walk_status,
)
from tar.window cimport bytes_at, fill_window, header_window, window_free, window_init

cdef enum:
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

cdef struct cursor:  # where a walk is, and what it knows there
    header_window window
    int64_t pos                    # where the next group starts
    int64_t fault                  # offset of the header at fault
    bint speculative               # walks a guessed chain
    bint with_mtime
    bint met_v7
    global_names globals


cdef inline void cursor_init(cursor* at, int fd, int64_t length) noexcept nogil:
    memset(at, 0, sizeof(cursor))
    window_init(&at.window, fd, length)
    at.globals.path_length = at.globals.link_length = -1


cdef inline void cursor_free(cursor* at) noexcept nogil:
    window_free(&at.window)
    forget_globals(at)


cdef inline void forget_globals(cursor* at) noexcept nogil:
    """Let go of what global headers said."""
    free(at.globals.path)
    free(at.globals.link)
    at.globals.path = at.globals.link = NULL
    at.globals.path_length = at.globals.link_length = -1
    at.globals.apply = False


cdef inline walk_status refill(cursor* at) noexcept nogil:
    """Read the window anew from the cursor on."""
    return fill_window(&at.window, at.pos, &at.fault)


cdef inline text member_name(
    cursor* at, const unsigned char* header, extension* ext, member_group* group
) noexcept nogil:
    """Name a member: by pax, then GNU, then global pax, then its own header."""
    cdef text name
    cdef int64_t prefix_length
    if ext.path.length > 0:
        return ext.path
    if ext.long_name.length > 0:
        return ext.long_name
    if ext.path.length < 0 and at.globals.path_length > 0:
        name.bytes = at.globals.path
        name.length = at.globals.path_length
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
    cursor* at, const unsigned char* header, extension* ext
) noexcept nogil:
    """Name what a link points at, by the same order."""
    cdef text target
    if ext.link_path.length > 0:
        return ext.link_path
    if ext.long_link.length > 0:
        return ext.long_link
    if ext.link_path.length < 0 and at.globals.link_length > 0:
        target.bytes = at.globals.link
        target.length = at.globals.link_length
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
    cursor* at, int64_t header_pos, int64_t* data_start
) noexcept nogil:
    """Step over the map blocks that follow an old GNU or star sparse header."""
    cdef const unsigned char* block = bytes_at(&at.window, header_pos, BLOCK)
    cdef bint extended = block[
        STAR_EXTENDED_OFFSET if has_star_magic(block) else GNU_EXTENDED_OFFSET
    ]
    while extended:
        if at.window.length - data_start[0] < BLOCK:
            at.fault = header_pos
            return WALK_CUT_HEADER
        block = bytes_at(&at.window, data_start[0], BLOCK)
        if block == NULL:
            return WALK_NEED
        extended = block[MAP_EXTENDED_OFFSET]
        data_start[0] += BLOCK
    return WALK_GROUP


cdef inline walk_status bound_payload(
    member_group* group, int64_t start, int64_t size, int64_t length
) noexcept nogil:
    """Note where the payload lies, and the next group; they must be in the blob."""
    group.offset_start = start
    if size > length - start:
        group.offset_end = size                    # for the message
        return WALK_CUT_PAYLOAD
    group.offset_end = start + size
    if padded(size) > length - start:
        return WALK_CUT_PADDING
    group.next_start = start + padded(size)
    return WALK_GROUP


cdef inline walk_status read_member(
    cursor* at, int64_t header_pos, extension* ext, member_group* group
) noexcept nogil:
    """Read the header that ends a group.

    It is in the window, and its checksum is right.
    """
    cdef const unsigned char* header = bytes_at(&at.window, header_pos, BLOCK)
    cdef int64_t size = decode_number(header + SIZE_OFFSET, 12)
    cdef unsigned char typeflag = header[TYPEFLAG_OFFSET]
    cdef int64_t data_start = header_pos + BLOCK
    cdef walk_status status
    at.fault = header_pos
    group.name = member_name(at, header, ext, group)
    if size < 0:
        return WALK_BAD_SIZE
    at.met_v7 = at.met_v7 or not has_magic(header)
    group.kind = kind_of(typeflag, ext, group.name)
    if typeflag == b"S":
        status = skip_sparse_map(at, header_pos, &data_start)
        if status != WALK_GROUP:
            return status
    if ext.size >= 0:
        size = ext.size
    if at.with_mtime and not whole_seconds(ext.mtime, &group.mtime):
        group.mtime = decode_mtime(header + MTIME_OFFSET)
    if group.kind == KIND_HARD_LINK:
        group.link_name = link_target(at, header, ext)
    if (
        group.kind == KIND_HARD_LINK or group.kind == KIND_SYMBOLIC_LINK
        or group.kind == KIND_FOLDER or group.kind == KIND_DEVICE
    ):
        size = 0  # whatever the header says, no data follows
    return bound_payload(group, data_start, size, at.window.length)


cdef inline walk_status read_extended(
    cursor* at, int64_t* pos, extension* ext
) noexcept nogil:
    """Read the extended header at pos, and step over it.

    Its own header is in the window, and its checksum is right.
    """
    cdef const unsigned char* header = bytes_at(&at.window, pos[0], BLOCK)
    cdef unsigned char typeflag = header[TYPEFLAG_OFFSET]
    cdef int64_t size = decode_number(header + SIZE_OFFSET, 12)
    cdef int64_t rest = at.window.length - pos[0] - BLOCK
    cdef walk_status status
    if size < 0:
        return WALK_BAD_SIZE
    if size > MAX_EXTENSION_BYTES - (pos[0] - at.pos):
        return WALK_HUGE_EXTENSION                 # first: a stream's end is not known
    if size > rest or padded(size) > rest:
        return WALK_CUT_EXTENSION
    header = bytes_at(&at.window, pos[0], BLOCK + size)
    if header == NULL:
        return WALK_NEED
    if typeflag == b"g":
        status = read_global(&at.globals, at.speculative, header + BLOCK, size)
    else:
        status = read_extension(typeflag, header + BLOCK, size, ext)
    pos[0] += BLOCK + padded(size)
    return status


cdef inline walk_status read_group(cursor* at, member_group* group) noexcept nogil:
    """Read the group at the cursor: extended headers, then the member's own.

    Nothing is kept when the window ends too early (WALK_NEED): the group is read again
    from its start.
    """
    cdef extension ext
    cdef const unsigned char* header
    cdef int64_t pos = at.pos
    cdef walk_status status
    reset_extension(&ext)
    group.name = nothing()
    while True:
        at.fault = pos
        if at.window.length - pos < BLOCK:
            if pos < at.window.length or ext.pending:
                return WALK_CUT_HEADER
            at.pos = pos
            return WALK_NO_MARKER
        header = bytes_at(&at.window, pos, BLOCK)
        if header == NULL:
            return WALK_NEED
        if is_zero_block(header):
            if ext.pending:
                return WALK_ORPHAN_EXTENSION
            at.pos = pos
            return WALK_END_MARKER
        if not checksum_matches(header):
            return WALK_BAD_CHECKSUM
        if not is_extension(header[TYPEFLAG_OFFSET]):
            return read_member(at, pos, &ext, group)
        status = read_extended(at, &pos, &ext)
        if status != WALK_GROUP:
            return status
        if not ext.pending:
            at.pos = pos  # a global header is whole by itself
