"""Extended headers: what pax, Solaris and GNU records say of the member behind them.

Source: POSIX.1-2017, pax, "pax Extended Header"; GNU tar, "Extensions"; tar(5).
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport realloc
from libc.string cimport memchr, memcmp, memcpy

from tar.header cimport field_length
from tar.status cimport (
    WALK_BAD_PAX,
    WALK_BAD_SIZE,
    WALK_GLOBAL,
    WALK_GLOBAL_SIZE,
    WALK_GROUP,
    WALK_NO_MEMORY,
    WALK_NUL_IN_NAME,
    walk_status,
)

cdef struct text:
    const unsigned char* bytes
    int64_t length                 # -1: not given

cdef struct extension:  # what pax and GNU headers say of the member behind them
    text path
    text link_path
    text long_name
    text long_link
    int64_t size                   # -1: not given
    text mtime
    bint sparse
    bint pending                   # a member must follow

cdef struct global_names:  # what a pax global header says of every member from there on
    bint apply
    unsigned char* path
    int64_t path_length            # -1: not given
    unsigned char* link
    int64_t link_length
    int64_t path_number            # of the text that rows share; -1: not kept yet
    int64_t link_number


cdef inline bint is_key(text key, const char* wanted, int64_t length) noexcept nogil:
    return key.length == length and memcmp(key.bytes, wanted, length) == 0


cdef inline text nothing() noexcept nogil:
    cdef text none
    none.bytes = NULL
    none.length = -1
    return none


cdef inline int64_t decimal(text value) noexcept nogil:
    """Decode a pax number; -1 when it is not digits alone, or beyond 2**62."""
    cdef int64_t number = 0
    cdef int64_t i
    if value.length < 1:
        return -1
    for i in range(value.length):
        if not 48 <= value.bytes[i] <= 57 or number > (<int64_t> 1 << 62) // 10 - 1:
            return -1
        number = number * 10 + value.bytes[i] - 48
    return number


cdef inline bint whole_seconds(text value, int64_t* seconds) noexcept nogil:
    """Round a pax time down, such as -1.25 to -2; False when it is none."""
    cdef text whole = value
    cdef int64_t i
    cdef bint negative = value.length > 0 and value.bytes[0] == b"-"
    cdef bint fraction = False
    if negative:
        whole.bytes += 1
        whole.length -= 1
    for i in range(whole.length):
        if whole.bytes[i] == b".":
            break
    else:
        i = whole.length
    while whole.length > i:                        # what stands behind the point
        whole.length -= 1
        if 49 <= whole.bytes[whole.length] <= 57:
            fraction = True
        elif whole.bytes[whole.length] != 48 and whole.length > i:
            return False
    seconds[0] = decimal(whole)
    if seconds[0] < 0:
        return False
    if negative:
        seconds[0] = -seconds[0] - fraction
    return True


cdef inline walk_status read_record(
    text key, text value, extension* ext, bint* size_given
) noexcept nogil:
    """Note what one pax record says, if it concerns names, sizes or sparse files."""
    if is_key(key, b"path", 4) or is_key(key, b"linkpath", 8):
        if value.length and memchr(value.bytes, 0, value.length) != NULL:
            return WALK_NUL_IN_NAME
        if key.length == 4:
            ext.path = value
        else:
            ext.link_path = value
    elif is_key(key, b"size", 4):
        size_given[0] = True
        ext.size = -1
        if value.length:                           # an empty value takes a record back
            ext.size = decimal(value)
            if ext.size < 0:
                return WALK_BAD_SIZE
    elif is_key(key, b"mtime", 5):
        ext.mtime = value
    elif (
        (key.length > 11 and memcmp(key.bytes, b"GNU.sparse.", 11) == 0)
        or is_key(key, b"SCHILY.realsize", 15)
    ):
        ext.sparse = True
    return WALK_GROUP


cdef inline walk_status read_records(
    const unsigned char* data, int64_t length, extension* ext, bint* size_given
) noexcept nogil:
    """Read "LENGTH KEY=VALUE\\n" records; NULs may pad the last one.

    Source: POSIX.1-2017, pax, "pax Extended Header".
    """
    cdef int64_t pos = 0, digits, record
    cdef const unsigned char* equals
    cdef text key, value
    cdef walk_status status
    while pos < length and data[pos] != 0:
        record = digits = 0
        while pos + digits < length and 48 <= data[pos + digits] <= 57 and digits < 10:
            record = record * 10 + data[pos + digits] - 48
            digits += 1
        if (
            digits == 0
            or record > length - pos
            or record < digits + 3
            or data[pos + digits] != 32
            or data[pos + record - 1] != 10
        ):
            return WALK_BAD_PAX
        key.bytes = data + pos + digits + 1
        equals = <const unsigned char*> memchr(key.bytes, 61, record - digits - 2)
        if equals == NULL:
            return WALK_BAD_PAX
        key.length = equals - key.bytes
        value.bytes = equals + 1
        value.length = data + pos + record - 1 - value.bytes
        status = read_record(key, value, ext, size_given)
        if status != WALK_GROUP:
            return status
        pos += record
    while pos < length:
        if data[pos] != 0:
            return WALK_BAD_PAX
        pos += 1
    return WALK_GROUP


cdef inline void reset_extension(extension* ext) noexcept nogil:
    ext.path = ext.link_path = ext.long_name = ext.long_link = ext.mtime = nothing()
    ext.size = -1
    ext.sparse = ext.pending = False


cdef inline int keep_global(
    unsigned char** kept, int64_t* kept_length, int64_t* number, text value
) noexcept nogil:
    cdef void* grown
    if value.length < 0:
        return 0
    grown = realloc(kept[0], value.length + 1)
    if grown == NULL:
        return -1
    kept[0] = <unsigned char*> grown
    memcpy(kept[0], value.bytes, value.length)
    kept_length[0] = value.length
    number[0] = -1
    return 0


cdef inline walk_status read_global(
    global_names* names, bint speculative, const unsigned char* data, int64_t length
) noexcept nogil:
    """Read a pax global header: what it says holds until another one says otherwise.

    A global size is refused: tar readers disagree on it, so no reading of such a tar is
    safe.
    """
    cdef extension ext
    cdef bint size_given = False
    cdef walk_status status
    reset_extension(&ext)
    status = read_records(data, length, &ext, &size_given)
    if status != WALK_GROUP:
        return status
    if size_given or ext.sparse:
        return WALK_GLOBAL_SIZE
    if ext.path.length < 0 and ext.link_path.length < 0:
        return WALK_GROUP
    if speculative:
        return WALK_GLOBAL
    names.apply = True
    if (
        keep_global(
            &names.path, &names.path_length, &names.path_number, ext.path
        ) < 0
        or keep_global(
            &names.link, &names.link_length, &names.link_number, ext.link_path
        ) < 0
    ):
        return WALK_NO_MEMORY
    return WALK_GROUP


cdef inline walk_status read_extension(
    unsigned char typeflag, const unsigned char* data, int64_t length, extension* ext
) noexcept nogil:
    """Read the body of a member's extended header. The last of a kind rules.

    None of them takes a size.
    """
    cdef text long_text
    cdef bint size_given = False
    ext.pending = True
    if typeflag == b"x" or typeflag == b"X":
        ext.path = ext.link_path = ext.mtime = nothing()
        ext.size = -1
        ext.sparse = False
        return read_records(data, length, ext, &size_given)
    long_text.bytes = data
    long_text.length = field_length(data, length)
    if typeflag == b"L":
        ext.long_name = long_text
    else:
        ext.long_link = long_text
    return WALK_GROUP


cdef inline bint is_extension(unsigned char typeflag) noexcept nogil:
    """Recognise pax (x, g), Solaris (X) and GNU (L, K) extended headers."""
    return (
        typeflag == b"x" or typeflag == b"g" or typeflag == b"X"
        or typeflag == b"L" or typeflag == b"K"
    )
