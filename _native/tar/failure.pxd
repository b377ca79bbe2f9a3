"""The error for each status that ends a walk."""

from tar.group cimport MAX_EXTENSION_BYTES, cursor, member_group
from tar.status cimport (
    WALK_BAD_CHECKSUM,
    WALK_BAD_PAX,
    WALK_BAD_SIZE,
    WALK_CUT_EXTENSION,
    WALK_CUT_HEADER,
    WALK_CUT_PADDING,
    WALK_CUT_PAYLOAD,
    WALK_GLOBAL_SIZE,
    WALK_HUGE_EXTENSION,
    WALK_NO_MEMORY,
    WALK_NUL_IN_NAME,
    WALK_ORPHAN_EXTENSION,
    WALK_READ_FAILED,
    WALK_SHRUNK,
    walk_status,
)
from libc.string cimport strerror


cdef inline str message_of(walk_status status):
    if status == WALK_CUT_HEADER:
        return "the blob ends inside a header"
    if status == WALK_CUT_EXTENSION:
        return "the blob ends inside an extended header"
    if status == WALK_CUT_PADDING:
        return "the blob ends inside a member's padding"
    if status == WALK_BAD_CHECKSUM:
        return "no tar header here: its checksum is wrong"
    if status == WALK_BAD_SIZE:
        return "a size that is not a number, or negative"
    if status == WALK_BAD_PAX:
        return "a pax header whose records are malformed"
    if status == WALK_NUL_IN_NAME:
        return "a pax header with a NUL byte in a name"
    if status == WALK_GLOBAL_SIZE:
        return "a pax global header that sets sizes: tar readers disagree on it"
    if status == WALK_HUGE_EXTENSION:
        return f"extended headers of over {MAX_EXTENSION_BYTES} bytes"
    if status == WALK_ORPHAN_EXTENSION:
        return "an extended header with no member behind it"
    if status == WALK_SHRUNK:
        return "the blob became shorter while it was scanned"
    return "damaged"


cdef inline bint is_cut(walk_status status) noexcept:
    return status in (
        WALK_CUT_HEADER,
        WALK_CUT_EXTENSION,
        WALK_CUT_PAYLOAD,
        WALK_CUT_PADDING,
        WALK_SHRUNK,
    )


cdef inline object failure(
    walk_status status, const cursor* at, const member_group* group, str blob
):
    """Make the error for a status that ended the walk."""
    from blobpack.errors import FormatError, StorageError, TruncatedError

    cdef str name = ""
    if status == WALK_NO_MEMORY:
        return MemoryError()
    if status == WALK_READ_FAILED:
        reason = strerror(at.window.error).decode(errors="replace")
        return StorageError(f"{blob}: can't read at byte {at.fault}: {reason}")
    message = message_of(status)
    if WALK_CUT_PAYLOAD <= status < WALK_SHRUNK and group.name.length > 0:
        name = group.name.bytes[:group.name.length].decode("utf-8", "surrogateescape")
    if status == WALK_CUT_PAYLOAD:
        message = (
            f"the payload of {group.offset_end} bytes from byte {group.offset_start} "
            f"runs past the blob's end at {at.window.length}"
        )
    member = f"member {name!r}: " if name else ""
    error = TruncatedError if is_cut(status) else FormatError
    return error(f"{blob}: {member}{message}, at byte {at.fault}", offset=at.fault)
