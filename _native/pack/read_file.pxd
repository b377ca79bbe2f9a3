"""A thread's share of the files to pack: read into its buffer, then written in turn.

Only where a buffer goes is settled in turn; reading and writing are done side by side.
"""

from libc.errno cimport EINTR, ENAMETOOLONG, ENOSYS, EPERM, errno
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset, strchr
from posix.fcntl cimport O_CLOEXEC, O_DIRECTORY, O_NONBLOCK, O_RDONLY
from posix.stat cimport S_ISREG, fstat, struct_stat
from posix.unistd cimport close, pwrite, read

from common.crc32c cimport crc32c_function
from images.fact_columns cimport fact_columns, note_bytes, note_image
from tar.write_header cimport describe, header_length, member_header, put_header
from images.sniff cimport MEDIA_UNKNOWN, media_type, media_type_of
from images.payload cimport peek, peek_at
from common.pthreads cimport (
    pthread_cond_broadcast,
    pthread_cond_wait,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)
from tar.header cimport BLOCK, padded
from common.threads cimport thread_team
from common.writeback cimport start_writeback

cdef extern from "<fcntl.h>" nogil:
    int O_NOFOLLOW
    int openat(int, const char*, int)

cdef extern from "<unistd.h>" nogil:
    long syscall(long, ...)

# Source: Linux, openat2(2). The C library has neither function nor, before glibc 2.32,
# the number, which is the same on all processors.
cdef enum:
    SYS_OPENAT2 = 437
    RESOLVE_NO_SYMLINKS = 4

cdef struct open_how:
    uint64_t flags
    uint64_t mode
    uint64_t resolve

cdef enum:
    BUFFER_BYTES = 4194304         # a thread's; a larger file goes through it in pieces
    FOLDER_PATH_BYTES = 4096

cdef enum:
    FILE_WAITING
    FILE_PACKED
    FILE_NOT_IMAGE
    FILE_NOT_REGULAR
    FILE_UNREADABLE
    FILE_CHANGED
    FILE_IS_TARGET                 # the blob that will be replaced

cdef struct source_file:
    const char* path
    int64_t path_length
    const unsigned char* name
    int64_t name_length
    # in the thread's buffer until that is placed, then in the blob
    int64_t offset_start
    int64_t size
    int status
    int error

cdef struct gathering:
    int root_fd
    int out_fd                     # -1: everything but the writing
    int64_t start                  # where the first member goes
    unsigned char* held            # takes the first bytes from there on; NULL: none
    int64_t held_bytes
    bint images_only
    bint follow_links              # open files that are symbolic links
    bint follow_folders            # open folders that are symbolic links
    bint keep_mtime
    bint with_facts
    fact_columns facts             # a row a file
    crc32c_function extend
    uint64_t target_device         # of the file that will be replaced; 0: there is none
    uint64_t target_inode
    source_file* files
    int64_t count
    thread_team team               # its progress: files, and bytes of the blob
    int64_t next_file              # to be taken on
    int64_t next_share
    int64_t turn                   # the share that may settle its place
    int64_t pos                    # where it goes
    int write_error

cdef struct worker:
    gathering* all
    unsigned char* buffer
    int64_t length
    int64_t share
    int64_t share_first            # its first file
    int64_t first_unplaced         # of the files whose payload is in the buffer
    bint has_turn
    int folder_fd
    char folder[FOLDER_PATH_BYTES]
    int64_t folder_length          # -1: none is open


# Writing in turn

cdef inline int write_at(
    gathering* g, const unsigned char* bytes, int64_t length, int64_t pos
) noexcept nogil:
    cdef ssize_t done
    cdef int64_t kept = min(length, g.start + g.held_bytes - pos)
    if g.out_fd < 0:
        return 0
    if kept > 0:
        memcpy(g.held + (pos - g.start), bytes, kept)
        bytes += kept
        pos += kept
        length -= kept
    while length > 0:
        done = pwrite(g.out_fd, bytes, length, pos)
        if done < 0:
            if errno == EINTR:
                continue
            g.write_error = errno
            return -1
        start_writeback(g.out_fd, pos, pos + done)
        bytes += done
        pos += done
        length -= done
    return 0


cdef inline int take_turn(worker* w) noexcept nogil:
    """Wait until all earlier shares have settled their places.

    -1 when all is called off.
    """
    cdef gathering* g = w.all
    if w.has_turn:
        return 0
    pthread_mutex_lock(&g.team.lock)
    while g.turn != w.share and not g.team.cancelled:
        pthread_cond_wait(&g.team.changed, &g.team.lock)
    pthread_mutex_unlock(&g.team.lock)
    w.has_turn = not g.team.cancelled
    return 0 if w.has_turn else -1


cdef inline int place(worker* w, int64_t next_unplaced, bint last) noexcept nogil:
    """Settle where the buffer goes, pass the turn on if it was the last, and write."""
    cdef gathering* g = w.all
    cdef int64_t pos, i
    if take_turn(w) < 0:
        return -1
    pos = g.pos  # only the thread whose turn it is touches it
    g.pos += w.length
    if last:
        pthread_mutex_lock(&g.team.lock)
        g.turn += 1
        g.team.done_count += next_unplaced - w.share_first
        g.team.done_bytes = g.pos - g.start
        pthread_cond_broadcast(&g.team.changed)
        pthread_mutex_unlock(&g.team.lock)
        w.has_turn = False
    for i in range(w.first_unplaced, next_unplaced):
        if g.files[i].status == FILE_PACKED:
            g.files[i].offset_start += pos
    w.first_unplaced = next_unplaced
    i = w.length
    w.length = 0
    return write_at(g, w.buffer, i, pos)


# Reading

cdef inline int open_at(int folder_fd, const char* path, int flags) noexcept nogil:
    """Open a path that is relative to a folder; -errno on an error."""
    cdef int fd = openat(folder_fd, path, flags)
    # on network file systems, a signal may interrupt it
    while fd < 0 and errno == EINTR:
        fd = openat(folder_fd, path, flags)
    return fd if fd >= 0 else -errno


cdef inline int walk_below(int root_fd, char* path, int flags) noexcept nogil:
    """Open a folder, one part of its path at a time; -errno, also at a link."""
    cdef int fd = root_fd, below
    cdef char* end
    while path[0] != 0:
        end = strchr(path, b"/")
        if end != NULL:
            end[0] = 0
        below = open_at(fd, path, flags | O_NOFOLLOW)
        if end != NULL:
            end[0] = b"/"
        if fd != root_fd:
            close(fd)
        if below < 0 or end == NULL:
            return below
        fd = below
        path = end + 1
    return fd


cdef inline int open_below(int root_fd, char* path, bint follow) noexcept nogil:
    """Open a folder; without following links, in no part of its path.

    O_NOFOLLOW holds only for the last part of a path. A folder above it that was
    replaced by a link would be followed.
    """
    cdef int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC
    cdef open_how how
    cdef int fd
    if follow:
        return open_at(root_fd, path, flags)
    how.flags = flags
    how.mode = 0
    how.resolve = RESOLVE_NO_SYMLINKS
    fd = <int> syscall(SYS_OPENAT2, root_fd, path, &how, sizeof(how))
    while fd < 0 and errno == EINTR:
        fd = <int> syscall(SYS_OPENAT2, root_fd, path, &how, sizeof(how))
    if fd >= 0:
        return fd
    # Linux before 5.6 has no such call, and old sandboxes forbid it by EPERM
    if errno == ENOSYS or errno == EPERM:
        return walk_below(root_fd, path, flags)
    return -errno


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
