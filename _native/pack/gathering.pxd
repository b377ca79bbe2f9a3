"""The files to pack, the threads that read them, and their turns to write.

Only where a buffer goes is settled in turn; reading and writing are done side by side.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy
from posix.unistd cimport pwrite

from common.crc32c cimport crc32c_function
from common.pthreads cimport (
    pthread_cond_broadcast,
    pthread_cond_wait,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)
from common.threads cimport thread_team
from common.writeback cimport start_writeback
from images.fact_columns cimport fact_columns

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
