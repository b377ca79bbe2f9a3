"""Gather many small files into one tar stream, by several threads, without the GIL.

What binds is opening and reading the files. Each thread takes the next few files, in
order, reads them into a buffer of its own, each behind room for its header, and then
waits for its turn, which only settles where the buffer goes; the writing itself is done
side by side again. So the members keep their order, and no pass over the files is
needed to learn their sizes first.
"""

import os

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
from posix.unistd cimport close

from common.columns cimport (
    columns_free,
    columns_push,
    columns_to_python,
    member_columns,
)
from common.crc32c cimport find_crc32c
from images.fact_columns cimport facts_free, facts_move, facts_reserve, facts_to_python
from tar.write_header cimport describe, header_length, member_header, put_header
from images.sniff cimport media_type_of
from common.pthreads cimport pthread_mutex_lock, pthread_mutex_unlock
from pack.gathering cimport (
    BUFFER_BYTES,
    FILE_CHANGED as CHANGED,
    FILE_IS_TARGET as IS_TARGET,
    FILE_NOT_IMAGE as NOT_IMAGE,
    FILE_NOT_REGULAR as NOT_REGULAR,
    FILE_PACKED as PACKED,
    FILE_UNREADABLE as UNREADABLE,
    gathering,
    place,
    source_file,
    worker,
)
from pack.open_below cimport open_below
from pack.read_file cimport read_file
from common.threads cimport (
    THREADS_MAX,
    call_off,
    leave_team,
    run_team,
    team_free,
    team_init,
)

from blobpack._native.results import Gathered, MemberColumns, NotPacked

cdef extern from "Python.h":
    const char* PyBytes_AsString(object) except NULL
    object PyBytes_FromStringAndSize(const char*, Py_ssize_t)

cdef enum:
    SHARE_BYTES = 524288           # about what a thread takes on at a time
    SHARE_FILES_MAX = 128

FILE_CHANGED = CHANGED
FILE_IS_TARGET = IS_TARGET
FILE_NOT_IMAGE = NOT_IMAGE
FILE_NOT_REGULAR = NOT_REGULAR
FILE_UNREADABLE = UNREADABLE


cdef int64_t take_share(worker* w, int64_t* last) noexcept nogil:
    """Claim the next few files, fewer when they are large.

    The first one, -1 when none is left.
    """
    cdef gathering* g = w.all
    cdef int64_t first, files, mean
    pthread_mutex_lock(&g.team.lock)
    first = g.next_file
    mean = SHARE_BYTES // 32
    if g.team.done_count:
        mean = g.team.done_bytes // g.team.done_count
    files = min(max(SHARE_BYTES // max(mean, 1), 1), SHARE_FILES_MAX)
    last[0] = min(first + files, g.count)
    g.next_file = last[0]
    w.share = g.next_share
    g.next_share += 1
    pthread_mutex_unlock(&g.team.lock)
    w.length = 0
    w.share_first = w.first_unplaced = first
    return first if first < last[0] and not g.team.cancelled else -1


cdef void work_through(worker* w) noexcept nogil:
    cdef gathering* g = w.all
    cdef int64_t first, last, i
    while True:
        first = take_share(w, &last)
        if first < 0:
            return
        for i in range(first, last):
            if g.team.cancelled or g.write_error:
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
    if g.write_error:
        call_off(&g.team)
    leave_team(&g.team)
    return NULL


cdef int run_threads(gathering* g, int threads, progress) except -1:
    """Gather with several threads, each with a buffer of its own."""
    cdef void* arguments[THREADS_MAX]
    cdef worker* workers = <worker*> calloc(threads, sizeof(worker))
    cdef int i, count = 0
    if workers == NULL:
        raise MemoryError
    try:
        for i in range(threads):
            workers[i].all = g
            workers[i].folder_length = -1
            workers[i].buffer = <unsigned char*> malloc(BUFFER_BYTES)
            if workers[i].buffer == NULL:
                break
            arguments[i] = &workers[i]
            count += 1
        run_team(&g.team, work, arguments, count, progress)
    finally:
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
            if file.status != PACKED:
                not_packed.append(NotPacked(i, file.status, file.error))
            elif columns_push(
                &rows,
                file.name,
                file.name_length,
                file.offset_start,
                file.offset_start + file.size,
            ) < 0:
                raise MemoryError
            elif g.with_facts:
                facts_move(&g.facts, i, rows.count - 1)
        columns = columns_to_python(&rows)
        if g.with_facts:
            columns += facts_to_python(&g.facts, len(columns[2]))
        members = MemberColumns(*columns)
        return Gathered(members, g.pos, g.write_error, not_packed)
    finally:
        columns_free(&rows)


def gather(
    int root_fd,
    int out_fd,
    list paths not None,
    list names not None,
    *,
    uint64_t target_device,
    uint64_t target_inode,
    bint images_only,
    bint follow_links,
    bint follow_folders,
    bint keep_mtime,
    bint facts,
    int threads,
    progress=None,
    int64_t start=0,
    unsigned char[::1] held=None,
):
    """Write files as tar members, in the order given.

    Args:
        root_fd: The folder that relative paths start from.
        out_fd: Open for writing; -1 to do everything but write.
        paths: bytes, one a file.
        names: bytes, the members' names, one a file.
        target_device, target_inode: The file that will be replaced, so that it is not
            packed into itself; 0, 0 when there is none.
        images_only: Leave out what is not an image by its first bytes.
        follow_links: Open files that are symbolic links.
        follow_folders: Open files in folders that are symbolic links.
        keep_mtime: Store the files' modification times, in whole seconds.
        facts: Also take media type, sizes as shown, CRC-32C and mtime of the packed.
        threads: How many read and write.
        progress: progress(files, bytes), called from this thread now and then.
        start: Where in out_fd the first one goes.
        held: Takes the first bytes from there on, which are not written.

    Returns:
        Gathered; the members have all facts or none.
    """
    cdef gathering g
    cdef int64_t i
    if len(paths) != len(names):
        raise ValueError(f"{len(paths)} paths, but {len(names)} names")
    memset(&g, 0, sizeof(gathering))
    g.root_fd = root_fd
    g.out_fd = out_fd
    g.target_device = target_device
    g.target_inode = target_inode
    g.images_only = images_only
    g.follow_links = follow_links
    g.follow_folders = follow_folders
    g.keep_mtime = keep_mtime
    g.with_facts = facts
    g.extend = find_crc32c() if facts else NULL
    g.start = g.pos = start
    if held is not None and held.shape[0]:
        g.held = &held[0]
        g.held_bytes = held.shape[0]
    g.count = len(paths)
    g.files = <source_file*> calloc(max(g.count, 1), sizeof(source_file))
    if g.files == NULL:
        raise MemoryError
    if facts and facts_reserve(&g.facts, g.count, True) < 0:
        free(g.files)
        raise MemoryError
    team_init(&g.team)
    try:
        for i in range(g.count):
            g.files[i].path = PyBytes_AsString(paths[i])
            g.files[i].path_length = len(<bytes> paths[i])
            g.files[i].name = <const unsigned char*> PyBytes_AsString(names[i])
            g.files[i].name_length = len(<bytes> names[i])
        run_threads(&g, max(1, min(threads, THREADS_MAX)), progress)
        return outcome(&g)
    finally:
        team_free(&g.team)
        facts_free(&g.facts)
        free(g.files)


def open_folder(int root_fd, bytes path not None, *, bint follow):
    """Open a folder below another one, as gather does, and return its descriptor.

    Args:
        root_fd: The folder that the path starts from.
        path: Parts joined by "/"; not empty, and without an empty part.
        follow: Follow symbolic links, in any part of the path.
    """
    cdef bytearray parts = bytearray(path)
    cdef int fd = open_below(root_fd, parts, follow)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd))
    return fd


def encode_header(bytes name not None, int64_t size, int64_t mtime=0):
    """Make a member's header: 512 bytes, or more where it takes a pax header."""
    cdef member_header header
    cdef object encoded
    describe(&header, <const unsigned char*> <const char*> name, len(name), size, mtime)
    # written in place: a header is made for each member of a batch that is served
    encoded = PyBytes_FromStringAndSize(NULL, header_length(&header))
    put_header(<unsigned char*> PyBytes_AsString(encoded), &header)
    return encoded


def recognise_image(const unsigned char[::1] payload not None, bytes name not None):
    """Recognise an image by its first bytes, and SVG by its name."""
    cdef const unsigned char* first = b""
    if payload.shape[0]:                           # &payload[0] of nothing is nothing
        first = &payload[0]
    return bool(media_type_of(first, payload.shape[0], name, len(name)))
