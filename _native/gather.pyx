"""Gather many small files into one tar stream, by several threads, without the GIL.

What binds is opening and reading the files. Each thread takes the next few files, in
order, reads them into a buffer of its own, each behind room for its header, and then
waits for its turn, which only settles where the buffer goes; the writing itself is done
side by side again. So the members keep their order, and no pass over the files is
needed to learn their sizes first.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from posix.fcntl cimport O_CLOEXEC, O_DIRECTORY, O_NONBLOCK, O_RDONLY
from posix.stat cimport S_ISREG, fstat, struct_stat
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec
from posix.unistd cimport close, pwrite, read

from cpython.exc cimport PyErr_CheckSignals

from columns cimport columns_free, columns_push, columns_to_python, member_columns
from headers cimport describe, header_length, member_header, put_header
from images cimport is_image
from tar cimport BLOCK, padded

cdef extern from "<fcntl.h>" nogil:
    int O_NOFOLLOW
    int openat(int, const char*, int)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_create(pthread_t*, void*, void* (*)(void*) noexcept nogil, void*)
    int pthread_join(pthread_t, void**)
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_destroy(pthread_mutex_t*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_cond_init(pthread_cond_t*, void*)
    int pthread_cond_destroy(pthread_cond_t*)
    int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t*)
    int pthread_cond_timedwait(pthread_cond_t*, pthread_mutex_t*, const timespec*)
    int pthread_cond_broadcast(pthread_cond_t*)

cdef extern from "Python.h":
    const char* PyBytes_AsString(object) except NULL

cdef enum:
    BUFFER_BYTES = 4194304         # a thread's; a larger file goes through it in pieces
    SHARE_BYTES = 524288           # about what a thread takes on at a time
    SHARE_FILES_MAX = 128
    FOLDER_PATH_BYTES = 4096
    THREADS_MAX = 64
    SUPERVISE_NS = 50000000        # between two looks at pending signals

cpdef enum:
    FILE_WAITING
    FILE_PACKED
    FILE_NOT_IMAGE
    FILE_NOT_REGULAR
    FILE_UNREADABLE
    FILE_CHANGED

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
    bint images_only
    bint follow_links
    bint keep_mtime
    source_file* files
    int64_t count
    pthread_mutex_t lock
    pthread_cond_t changed
    int64_t next_file              # to be taken on
    int64_t next_share
    int64_t turn                   # the share that may settle its place
    int64_t pos                    # where it goes
    int64_t done_files
    int64_t done_bytes
    int working                    # threads
    int cancelled
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

cdef int write_at(
    gathering* g, const unsigned char* bytes, int64_t length, int64_t pos
) noexcept nogil:
    cdef ssize_t done
    if g.out_fd < 0:
        return 0
    while length > 0:
        done = pwrite(g.out_fd, bytes, length, pos)
        if done < 0:
            if errno == EINTR:
                continue
            g.write_error = errno
            return -1
        bytes += done
        pos += done
        length -= done
    return 0


cdef int take_turn(worker* w) noexcept nogil:
    """Wait until all earlier shares have settled their places.

    -1 when all is called off.
    """
    cdef gathering* g = w.all
    if w.has_turn:
        return 0
    pthread_mutex_lock(&g.lock)
    while g.turn != w.share and not g.cancelled:
        pthread_cond_wait(&g.changed, &g.lock)
    pthread_mutex_unlock(&g.lock)
    w.has_turn = not g.cancelled
    return 0 if w.has_turn else -1


cdef int place(worker* w, int64_t next_unplaced, bint last) noexcept nogil:
    """Settle where the buffer goes, pass the turn on if it was the last, and write."""
    cdef gathering* g = w.all
    cdef int64_t pos, i
    if take_turn(w) < 0:
        return -1
    pos = g.pos  # only the thread whose turn it is touches it
    g.pos += w.length
    if last:
        pthread_mutex_lock(&g.lock)
        g.turn += 1
        g.done_files += next_unplaced - w.share_first
        g.done_bytes = g.pos
        pthread_cond_broadcast(&g.changed)
        pthread_mutex_unlock(&g.lock)
        w.has_turn = False
    for i in range(w.first_unplaced, next_unplaced):
        if g.files[i].status == FILE_PACKED:
            g.files[i].offset_start += pos
    w.first_unplaced = next_unplaced
    i = w.length
    w.length = 0
    return write_at(g, w.buffer, i, pos)


# Reading

cdef int open_folder(worker* w, const char* path, int64_t length) noexcept nogil:
    """Keep the folder of the last file open: the next one is most likely in it."""
    if w.folder_length == length and memcmp(w.folder, path, length) == 0:
        return 0
    if w.folder_length >= 0:
        close(w.folder_fd)
        w.folder_length = -1
    memcpy(w.folder, path, length)
    w.folder[length] = 0
    w.folder_fd = openat(w.all.root_fd, w.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if w.folder_fd < 0:
        return -1
    w.folder_length = length
    return 0


cdef int open_file(worker* w, const source_file* file) noexcept nogil:
    # a FIFO put there meanwhile must not block
    cdef int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK
    cdef int64_t folder_length = file.path_length
    if not w.all.follow_links:
        flags |= O_NOFOLLOW
    while folder_length > 0 and file.path[folder_length - 1] != b"/":
        folder_length -= 1
    if folder_length == 0 or folder_length >= FOLDER_PATH_BYTES:
        return openat(w.all.root_fd, file.path, flags)
    if open_folder(w, file.path, folder_length) < 0:
        return -1
    return openat(w.folder_fd, file.path + folder_length, flags)


cdef int64_t read_up_to(int fd, unsigned char* to, int64_t wanted) noexcept nogil:
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


cdef bint same_state(
    const struct_stat* before, const struct_stat* after
) noexcept nogil:
    return (
        before.st_size == after.st_size
        and memcmp(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim)) == 0
        and memcmp(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim)) == 0
    )


cdef int judge(source_file* file, int fd, const struct_stat* before) noexcept nogil:
    """Tell whether the file is as it was before it was read."""
    cdef struct_stat after
    if fstat(fd, &after) < 0:
        file.error = errno
        return FILE_UNREADABLE
    return FILE_PACKED if same_state(before, &after) else FILE_CHANGED


cdef int read_small(
    worker* w,
    source_file* file,
    int fd,
    const struct_stat* before,
    const member_header* header,
) noexcept nogil:
    """Read a file whole into the buffer, behind its header."""
    cdef gathering* g = w.all
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
    if g.images_only and not is_image(payload, got, file.name, file.name_length):
        return FILE_NOT_IMAGE
    put_header(w.buffer + w.length, header)
    memset(payload + got, 0, padded(got) - got)
    file.offset_start = payload - w.buffer
    file.size = got
    w.length = payload + padded(got) - w.buffer
    return FILE_PACKED


cdef int read_large(
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
    while not g.cancelled:
        room = BUFFER_BYTES - BLOCK - before_payload
        room = min(room, header.size + 1 - done)
        got = read_up_to(fd, w.buffer + before_payload, room)
        if got < 0:
            file.error = errno
            return FILE_UNREADABLE
        if done == 0 and g.images_only and not is_image(
            w.buffer + before_payload, got, file.name, file.name_length
        ):
            return FILE_NOT_IMAGE
        if done == 0:
            put_header(w.buffer, header)
            file.offset_start = g.pos + before_payload
        w.length = before_payload + got
        done += got
        before_payload = 0
        if got == 0 or done >= header.size:
            break
        if place(w, index, False) < 0:
            return FILE_CHANGED
    if done != header.size or g.cancelled:
        return FILE_CHANGED
    memset(w.buffer + w.length, 0, padded(done) - done)
    w.length += padded(done) - done
    if place(w, index, False) < 0:
        return FILE_CHANGED
    w.first_unplaced = index + 1                   # its place is settled
    return judge(file, fd, before)


cdef int read_open(worker* w, source_file* file, int fd) noexcept nogil:
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


cdef void read_file(worker* w, source_file* file) noexcept nogil:
    cdef int fd = open_file(w, file)
    if fd < 0:
        file.error = errno
        file.status = FILE_UNREADABLE
        return
    file.status = read_open(w, file, fd)
    close(fd)


# Threads

cdef int64_t take_share(worker* w, int64_t* last) noexcept nogil:
    """Take on the next few files, fewer when they are large.

    The first one, -1 when none is left.
    """
    cdef gathering* g = w.all
    cdef int64_t first, files, mean
    pthread_mutex_lock(&g.lock)
    first = g.next_file
    mean = g.done_bytes // g.done_files if g.done_files else SHARE_BYTES // 32
    files = min(max(SHARE_BYTES // max(mean, 1), 1), SHARE_FILES_MAX)
    last[0] = min(first + files, g.count)
    g.next_file = last[0]
    w.share = g.next_share
    g.next_share += 1
    pthread_mutex_unlock(&g.lock)
    w.length = 0
    w.share_first = w.first_unplaced = first
    return first if first < last[0] and not g.cancelled else -1


cdef void work_through(worker* w) noexcept nogil:
    cdef gathering* g = w.all
    cdef int64_t first, last, i
    while True:
        first = take_share(w, &last)
        if first < 0:
            return
        for i in range(first, last):
            if g.cancelled or g.write_error:
                return
            read_file(w, &g.files[i])
        if place(w, last, True) < 0:
            return


cdef void* work(void* argument) noexcept nogil:
    cdef worker* w = <worker*> argument
    cdef gathering* g = w.all
    work_through(w)
    if w.folder_length >= 0:
        close(w.folder_fd)
    pthread_mutex_lock(&g.lock)
    if g.write_error:
        g.cancelled = True
    g.working -= 1
    pthread_cond_broadcast(&g.changed)
    pthread_mutex_unlock(&g.lock)
    return NULL


cdef bint supervise(gathering* g) noexcept nogil:
    """Wait for the threads, but not for long; whether any is still at work."""
    cdef timespec until
    cdef bint working
    clock_gettime(CLOCK_REALTIME, &until)
    until.tv_nsec += SUPERVISE_NS
    if until.tv_nsec >= 1000000000:
        until.tv_sec += 1
        until.tv_nsec -= 1000000000
    pthread_mutex_lock(&g.lock)
    while g.working:
        if pthread_cond_timedwait(&g.changed, &g.lock, &until) != 0:
            break
    working = g.working > 0
    pthread_mutex_unlock(&g.lock)
    return working


cdef void call_off(gathering* g) noexcept nogil:
    pthread_mutex_lock(&g.lock)
    g.cancelled = True
    pthread_cond_broadcast(&g.changed)
    pthread_mutex_unlock(&g.lock)


cdef int run_threads(gathering* g, int threads, progress) except -1:
    """Start the threads and wait for them.

    Ctrl-C calls them off, and none outlives this call.
    """
    cdef pthread_t started[THREADS_MAX]
    cdef worker* workers = <worker*> calloc(threads, sizeof(worker))
    cdef int count = 0, i
    cdef bint working = True
    if workers == NULL:
        raise MemoryError
    try:
        for i in range(threads):
            workers[i].all = g
            workers[i].folder_length = -1
            workers[i].buffer = <unsigned char*> malloc(BUFFER_BYTES)
            if workers[i].buffer == NULL:
                break
            pthread_mutex_lock(&g.lock)
            g.working += 1
            pthread_mutex_unlock(&g.lock)
            if pthread_create(&started[count], NULL, work, &workers[i]) != 0:
                pthread_mutex_lock(&g.lock)
                g.working -= 1
                pthread_mutex_unlock(&g.lock)
                break
            count += 1
        if count == 0:
            raise MemoryError
        while working:
            with nogil:
                working = supervise(g)
            PyErr_CheckSignals()
            if progress is not None:
                progress(g.done_files, g.done_bytes)
    finally:
        with nogil:
            if working:
                call_off(g)
            for i in range(count):
                pthread_join(started[i], NULL)
        for i in range(threads):
            free(workers[i].buffer)
        free(workers)
    return 0


# The shell

cdef object outcome(gathering* g):
    """Collect rows, and what was not packed, by file."""
    cdef member_columns rows
    cdef int64_t i
    cdef source_file* file
    memset(&rows, 0, sizeof(member_columns))
    not_packed = []
    try:
        for i in range(g.count):
            file = &g.files[i]
            if file.status != FILE_PACKED:
                not_packed.append((i, file.status, file.error))
            elif columns_push(
                &rows,
                file.name,
                file.name_length,
                file.offset_start,
                file.offset_start + file.size,
            ) < 0:
                raise MemoryError
        return (columns_to_python(&rows), g.pos, g.write_error, not_packed)
    finally:
        columns_free(&rows)


def gather(
    int root_fd,
    int out_fd,
    list paths not None,
    list names not None,
    *,
    bint images_only,
    bint follow_links,
    bint keep_mtime,
    int threads,
    progress=None,
):
    """Write files as tar members, in the order given, from the start of out_fd.

    Args:
        root_fd: The folder that relative paths start from.
        out_fd: Open for writing; -1 to do everything but write.
        paths: bytes, one a file.
        names: bytes, the members' names, one a file.
        images_only: Leave out what is not an image by its first bytes.
        follow_links: Open symbolic links.
        keep_mtime: Store the files' modification times, in whole seconds.
        threads: How many read and write.
        progress: progress(files, bytes), called from this thread now and then.

    Returns:
        columns: names, name_bounds, offset_start, offset_end of what was packed.
        position: The bytes written.
        write_error: errno of a write that failed, or 0.
        not_packed: (index, FILE_…, errno) of each file that was not packed.
    """
    cdef gathering g
    cdef int64_t i
    if len(paths) != len(names):
        raise ValueError(f"{len(paths)} paths, but {len(names)} names")
    memset(&g, 0, sizeof(gathering))
    g.root_fd = root_fd
    g.out_fd = out_fd
    g.images_only = images_only
    g.follow_links = follow_links
    g.keep_mtime = keep_mtime
    g.count = len(paths)
    g.files = <source_file*> calloc(max(g.count, 1), sizeof(source_file))
    if g.files == NULL:
        raise MemoryError
    pthread_mutex_init(&g.lock, NULL)
    pthread_cond_init(&g.changed, NULL)
    try:
        for i in range(g.count):
            g.files[i].path = PyBytes_AsString(paths[i])
            g.files[i].path_length = len(<bytes> paths[i])
            g.files[i].name = <const unsigned char*> PyBytes_AsString(names[i])
            g.files[i].name_length = len(<bytes> names[i])
        run_threads(&g, max(1, min(threads, THREADS_MAX)), progress)
        return outcome(&g)
    finally:
        pthread_cond_destroy(&g.changed)
        pthread_mutex_destroy(&g.lock)
        free(g.files)


def encode_header(bytes name not None, int64_t size, int64_t mtime=0):
    """Make a member's header: 512 bytes, or more where it takes a pax header."""
    cdef member_header header
    cdef bytearray encoded
    cdef unsigned char[::1] view
    describe(&header, <const unsigned char*> <const char*> name, len(name), size, mtime)
    encoded = bytearray(header_length(&header))
    view = encoded
    put_header(&view[0], &header)
    return bytes(encoded)


def recognise_image(const unsigned char[::1] payload not None, bytes name not None):
    """Tell whether a payload is an image, by its first bytes; SVG by its name."""
    cdef const unsigned char* first = b""
    if payload.shape[0]:                           # &payload[0] of nothing is nothing
        first = &payload[0]
    return bool(is_image(first, payload.shape[0], name, len(name)))
