"""Read one file after another into a thread's buffer, behind their headers."""

from libc.errno cimport EINTR, ENAMETOOLONG, errno
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from posix.fcntl cimport O_CLOEXEC, O_NONBLOCK, O_RDONLY
from posix.stat cimport S_ISREG, fstat, struct_stat
from posix.unistd cimport close, read

from images.fact_columns cimport note_bytes, note_image
from images.payload cimport peek, peek_at
from images.sniff cimport MEDIA_UNKNOWN, media_type, media_type_of
from pack.gathering cimport (
    BUFFER_BYTES,
    FILE_CHANGED,
    FILE_IS_TARGET,
    FILE_NOT_IMAGE,
    FILE_NOT_REGULAR,
    FILE_PACKED,
    FILE_UNREADABLE,
    FOLDER_PATH_BYTES,
    gathering,
    place,
    source_file,
    worker,
)
from pack.open_below cimport O_NOFOLLOW, open_at, open_below
from tar.header cimport BLOCK, padded
from tar.write_header cimport describe, header_length, member_header, put_header


cdef inline int open_folder(worker* w, const char* path, int64_t length) noexcept nogil:
    """Keep the folder of the last file open: the next one is most likely in it."""
    if w.folder_length == length and memcmp(w.folder, path, length) == 0:
        return w.folder_fd
    if w.folder_length >= 0:
        close(w.folder_fd)
        w.folder_length = -1
    memcpy(w.folder, path, length)
    w.folder[length] = 0
    w.folder_fd = open_below(w.all.root_fd, w.folder, w.all.follow_folders)
    if w.folder_fd >= 0:
        w.folder_length = length
    return w.folder_fd


cdef inline int open_file(worker* w, const source_file* file) noexcept nogil:
    # a FIFO put there meanwhile must not block
    cdef int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, folder_fd
    cdef int64_t folder_length = file.path_length
    if not w.all.follow_links:
        flags |= O_NOFOLLOW
    while folder_length > 0 and file.path[folder_length - 1] != b"/":
        folder_length -= 1
    if folder_length == 0:
        return open_at(w.all.root_fd, file.path, flags)
    if folder_length >= FOLDER_PATH_BYTES:
        return -ENAMETOOLONG
    folder_fd = open_folder(w, file.path, folder_length)
    if folder_fd < 0:
        return folder_fd
    return open_at(folder_fd, file.path + folder_length, flags)


cdef inline int64_t read_up_to(
    int fd, unsigned char* to, int64_t wanted
) noexcept nogil:
    """Read until that many bytes are there or the file ends; -1 on an error."""
    cdef int64_t done = 0
    cdef ssize_t got
    while done < wanted:
        got = read(fd, to + done, wanted - done)
        if got < 0:
            if errno == EINTR:
                continue
            return -1
        done += got
        # one more was asked for, to meet the end at once
        if got == 0 or done == wanted - 1:
            break
    return done


cdef inline bint same_state(
    const struct_stat* before, const struct_stat* after
) noexcept nogil:
    return (
        before.st_size == after.st_size
        and memcmp(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim)) == 0
        and memcmp(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim)) == 0
    )


cdef inline int judge(
    source_file* file, int fd, const struct_stat* before
) noexcept nogil:
    """Compare the file's state with its state before it was read."""
    cdef struct_stat after
    if fstat(fd, &after) < 0:
        file.error = errno
        return FILE_UNREADABLE
    return FILE_PACKED if same_state(before, &after) else FILE_CHANGED


cdef inline bint take_facts(
    worker* w,
    source_file* file,
    int fd,
    const unsigned char* bytes,
    int64_t length,
    const member_header* header,
) noexcept nogil:
    """Compute facts from a file's first bytes; False when it is to be left out."""
    cdef gathering* g = w.all
    cdef int64_t row = file - g.files
    cdef peek payload
    cdef media_type kind
    if not g.images_only and not g.with_facts:
        return True
    kind = media_type_of(bytes, length, file.name, file.name_length)
    if g.images_only and kind == MEDIA_UNKNOWN:
        return False
    if g.with_facts:
        peek_at(&payload, bytes, length, header.size)
        payload.fd = fd
        note_image(&g.facts, row, &payload, kind)
        note_bytes(&g.facts, row, g.extend, bytes, length)
        g.facts.mtime[row] = header.mtime
    return True


cdef inline int read_small(
    worker* w,
    source_file* file,
    int fd,
    const struct_stat* before,
    const member_header* header,
) noexcept nogil:
    """Read a file whole into the buffer, behind its header."""
    cdef unsigned char* payload = w.buffer + w.length + header_length(header)
    cdef int64_t got = read_up_to(fd, payload, header.size + 1)
    cdef int status
    if got < 0:
        file.error = errno
        return FILE_UNREADABLE
    if got != header.size:
        return FILE_CHANGED
    status = judge(file, fd, before)
    if status != FILE_PACKED:
        return status
    if not take_facts(w, file, fd, payload, got, header):
        return FILE_NOT_IMAGE
    put_header(w.buffer + w.length, header)
    memset(payload + got, 0, padded(got) - got)
    file.offset_start = payload - w.buffer
    file.size = got
    w.length = payload + padded(got) - w.buffer
    return FILE_PACKED


cdef inline int read_large(
    worker* w,
    source_file* file,
    int fd,
    const struct_stat* before,
    const member_header* header,
) noexcept nogil:
    """Copy a file through the empty buffer in pieces, holding the turn meanwhile."""
    cdef gathering* g = w.all
    cdef int64_t done = 0, got, index = file - g.files, room
    cdef int64_t before_payload = header_length(header)
    file.size = header.size
    while not g.team.cancelled:
        room = BUFFER_BYTES - BLOCK - before_payload
        room = min(room, header.size + 1 - done)
        got = read_up_to(fd, w.buffer + before_payload, room)
        if got < 0:
            file.error = errno
            return FILE_UNREADABLE
        if done == 0:
            if not take_facts(w, file, fd, w.buffer + before_payload, got, header):
                return FILE_NOT_IMAGE
            put_header(w.buffer, header)
            file.offset_start = g.pos + before_payload
        elif g.with_facts:
            note_bytes(&g.facts, index, g.extend, w.buffer, got)
        w.length = before_payload + got
        done += got
        before_payload = 0
        if got == 0 or done >= header.size:
            break
        if place(w, index, False) < 0:
            return FILE_CHANGED
    if done != header.size or g.team.cancelled:
        return FILE_CHANGED
    memset(w.buffer + w.length, 0, padded(done) - done)
    w.length += padded(done) - done
    if place(w, index, False) < 0:
        return FILE_CHANGED
    w.first_unplaced = index + 1                   # its place is settled
    return judge(file, fd, before)


cdef inline int read_open(worker* w, source_file* file, int fd) noexcept nogil:
    """Read an open file into the buffer; make room there first."""
    cdef struct_stat before
    cdef member_header header
    cdef int64_t index = file - w.all.files
    cdef int64_t needed
    if fstat(fd, &before) < 0:
        file.error = errno
        return FILE_UNREADABLE
    if not S_ISREG(before.st_mode):
        return FILE_NOT_REGULAR
    if (
        <uint64_t> before.st_dev == w.all.target_device
        and <uint64_t> before.st_ino == w.all.target_inode
    ):
        return FILE_IS_TARGET
    describe(
        &header, file.name, file.name_length, before.st_size,
        <int64_t> before.st_mtim.tv_sec if w.all.keep_mtime else 0,
    )
    needed = header_length(&header) + padded(header.size) + BLOCK
    if needed > BUFFER_BYTES - w.length and place(w, index, False) < 0:
        return FILE_CHANGED
    if needed > BUFFER_BYTES:
        return read_large(w, file, fd, &before, &header)
    return read_small(w, file, fd, &before, &header)


cdef inline void read_file(worker* w, source_file* file) noexcept nogil:
    cdef int fd = open_file(w, file)
    if fd < 0:
        file.error = -fd
        file.status = FILE_UNREADABLE
        return
    file.status = read_open(w, file, fd)
    close(fd)
