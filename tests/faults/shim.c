/* Count, log and break the calls that a command makes to the system, for files of one folder.
 *
 * Strategy: LD_PRELOAD puts these functions before those of libc. Each one is a point at which the command meets the
 * system. A point has a number, counted from 1. At the point FAULTS_AT, the call fails, is cut short, or is interrupted
 * by a signal. Each point that is reached is a record in a log. All points are taken in turn, under one lock, so the log
 * has the order in which the system saw the calls.
 *
 * faults_begin() reads the settings from the environment; the program runs undisturbed before that:
 *   FAULTS_FOLDER  only calls for files below this folder are points
 *   FAULTS_LOG     the log: one line a record, followed by the bytes that a write wrote, and a newline
 *   FAULTS_DATA    if set, these bytes are in the log; otherwise it has none
 *   FAULTS_AT      number of the point
 *   FAULTS_DO      what happens there: "fail ERRNO"; "full ERRNO", in which case all later calls that take room on the
 *                  disk fail, too; "short", which halves a read or write; "torn SIGNAL", a signal behind the
 *                  first pages of a write; "before SIGNAL" and "after SIGNAL"; "dropped SIGNAL", which the launcher
 *                  lets arrive where Python drops exceptions
 *
 * The system calls are made by syscall(2): a wrapper can't find itself there, as it could by dlsym(3). 64-bit Linux only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* libc has these names twice, with and without 64. On 64-bit systems they are the same functions. */
#define ALSO(name, other) __typeof__(name) other __attribute__((alias(#name)))

enum { READS, CHANGES, TAKES_ROOM };
enum { PATH_BYTES = 2 * PATH_MAX, RECORD_BYTES = 3 * PATH_MAX, LOG_FD_MIN = 500, PAGE_BYTES = 4096 };
/* The command raises a dropped signal again after 0.1 s. */
enum { PAUSE_NS = 500 * 1000 * 1000 };
enum action { NOTHING, FAIL, FULL, SHORT, TORN, BEFORE, AFTER, DROPPED, PAUSED };

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_length;
static int log_fd = -1;
static int with_data;
static long point, fault_at;
static enum action fault;
static int fault_value;
static int disk_is_full, pauses;

struct call {
    const char *name;
    int kind;
    char path[PATH_BYTES], other[PATH_BYTES];
    enum action action;
    int watched;
};

__attribute__((visibility("default"))) void faults_begin(void) {
    const char *names[] = {"", "fail", "full", "short", "torn", "before", "after", "dropped"};
    const char *text = getenv("FAULTS_LOG");
    char word[16] = "";
    if (!text || !getenv("FAULTS_FOLDER")) return;
    int fd = syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    /* a high number, so that the descriptors of the command keep their usual ones */
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, LOG_FD_MIN);
    syscall(SYS_close, fd);
    snprintf(folder, sizeof(folder), "%s", getenv("FAULTS_FOLDER"));
    folder_length = strlen(folder);
    with_data = getenv("FAULTS_DATA") != NULL;
    fault_at = (text = getenv("FAULTS_AT")) ? atol(text) : 0;
    if ((text = getenv("FAULTS_DO"))) sscanf(text, "%15s %d", word, &fault_value);
    for (int i = 1; i <= DROPPED; i++)
        if (strcmp(word, names[i]) == 0) fault = i;
}

/* Let a call of the main thread wait until a signal arrives: else the command would be at its end before a timer of its
   own. Python handles signals in that thread. What a finalizer closes is no such call: the exception would be dropped once more. */
__attribute__((visibility("default"))) void faults_pause(void) {
    pauses = 1;
}

__attribute__((constructor)) static void begin_at_once(void) {
    if (getenv("FAULTS_AT_ONCE")) faults_begin();
}

/* Paths */

static void set_path_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, out, PATH_MAX - 1);
    out[length > 0 ? length : 0] = 0;
}

static void set_path_at(int dir, const char *path, char *out) {
    out[0] = 0;
    if (path[0] == '/') {
        snprintf(out, PATH_BYTES, "%s", path);
        return;
    }
    if (dir == AT_FDCWD) {
        if (!getcwd(out, PATH_MAX)) return;
    } else {
        set_path_of(dir, out);
    }
    size_t length = strlen(out);
    snprintf(out + length, PATH_BYTES - length, "/%s", path);
}

static int is_in_folder(const char *path) {
    return strncmp(path, folder, folder_length) == 0 && (path[folder_length] == '/' || path[folder_length] == 0);
}

/* Points */

static void log_call(const struct call *c, long result, int error, long size, long long offset, const void *data) {
    char record[RECORD_BYTES];
    long bytes = with_data && data && result > 0 ? result : 0;
    int length = snprintf(
        record, sizeof(record), "%ld\t%s\t%d\t%d\t%ld\t%d\t%ld\t%lld\t%ld\t%s\t%s\n",
        point, c->name, c->kind, c->action, result, error, size, offset, bytes, c->path, c->other
    );
    struct iovec parts[] = {{record, length}, {(void *)data, bytes}, {"\n", 1}};
    syscall(SYS_writev, log_fd, parts, 3);
}

static void enter(struct call *c) {
    c->action = NOTHING;
    c->watched = log_fd >= 0 && (is_in_folder(c->path) || is_in_folder(c->other));
    if (!c->watched) return;
    pthread_mutex_lock(&turn);
    if (++point == fault_at) {
        c->action = fault;
        disk_is_full = fault == FULL;
    } else if (disk_is_full && c->kind == TAKES_ROOM) {
        c->action = FULL;
    } else if (pauses && syscall(SYS_gettid) == getpid() && strcmp(c->name, "close") != 0) {
        c->action = PAUSED;
        pauses = 0;
        nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
    }
    if (c->action == BEFORE) {
        log_call(c, 0, 0, 0, -1, NULL);
        kill(getpid(), fault_value);
    }
    if (c->action == DROPPED) kill(getpid(), SIGUSR1);
}

static void leave(struct call *c, long result, long size, long long offset, const void *data) {
    int error = errno;
    if (!c->watched) return;
    if (c->action != BEFORE) log_call(c, result, result < 0 ? error : 0, size, offset, data);
    if (c->action == AFTER || c->action == TORN) kill(getpid(), fault_value);
    pthread_mutex_unlock(&turn);
    errno = error;
}

static int is_broken(const struct call *c) {
    if (c->action == FAIL || c->action == FULL) errno = fault_value;
    return c->action == FAIL || c->action == FULL;
}

static size_t halved(const struct call *c, size_t size) {
    return c->action == SHORT && size > 1 ? size / 2 : size;
}

/* A signal can end a write(2) between two pages, never inside of one. */
static size_t cut(const struct call *c, size_t size, off_t offset) {
    off_t border = (offset + (off_t)size / 2) / PAGE_BYTES * PAGE_BYTES;
    if (c->action != TORN) return halved(c, size);
    if (border <= offset) border += PAGE_BYTES;
    return border < offset + (off_t)size ? (size_t)(border - offset) : size;
}

/* Make a call, or fail it. `call` is evaluated only if the call is made. */
#define MAKE(c, size, offset, data, call)                              \
    ({                                                                 \
        enter(&(c));                                                   \
        long result_ = is_broken(&(c)) ? -1 : (long)(call);            \
        leave(&(c), result_, (long)(size), (long long)(offset), data); \
        result_;                                                       \
    })

#define CALL_FD(c, kind_, fd)                               \
    struct call c = {.name = __func__, .kind = kind_};      \
    if (log_fd >= 0) set_path_of(fd, c.path)

#define CALL_AT(c, name_, kind_, dir, path_)                \
    struct call c = {.name = name_, .kind = kind_};         \
    if (log_fd >= 0) set_path_at(dir, path_, c.path)

/* Opening and closing. In the log, the size of an open is its flags, and its offset is 1 if it makes the file. */

static int open_any(int dir, const char *path, int flags, mode_t mode) {
    int changes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
    CALL_AT(c, "open", changes ? flags & O_CREAT ? TAKES_ROOM : CHANGES : READS, dir, path);
    int makes = flags & O_CREAT && syscall(SYS_faccessat, dir, path, F_OK) < 0;
    return MAKE(c, flags, makes, NULL, syscall(SYS_openat, dir, path, flags, mode));
}

static mode_t mode_in(int flags, va_list more) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = mode_in(flags, more);
    va_end(more);
    return open_any(AT_FDCWD, path, flags, mode);
}
ALSO(open, open64);

int openat(int dir, const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = mode_in(flags, more);
    va_end(more);
    return open_any(dir, path, flags, mode);
}
ALSO(openat, openat64);

int creat(const char *path, mode_t mode) {
    return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
ALSO(creat, creat64);

int close(int fd) {
    int flags = log_fd >= 0 ? fcntl(fd, F_GETFL) : 0;
    CALL_FD(c, flags >= 0 && (flags & O_ACCMODE) != O_RDONLY ? CHANGES : READS, fd);
    enter(&c);
    /* Linux frees the descriptor even if close(2) reports an error */
    long result = syscall(SYS_close, fd);
    if (is_broken(&c)) result = -1;
    leave(&c, result, 0, -1, NULL);
    return result;
}

/* Reading and writing */

ssize_t read(int fd, void *buffer, size_t size) {
    CALL_FD(c, READS, fd);
    return MAKE(c, size, -1, NULL, syscall(SYS_read, fd, buffer, halved(&c, size)));
}

ssize_t pread(int fd, void *buffer, size_t size, off_t offset) {
    CALL_FD(c, READS, fd);
    return MAKE(c, size, offset, NULL, syscall(SYS_pread64, fd, buffer, halved(&c, size), offset));
}
ALSO(pread, pread64);

/* What is written over other bytes takes no room: a full disk has it already. */
static int kind_of_write(int fd, off_t end) {
    struct stat state;
    return log_fd >= 0 && fstat(fd, &state) == 0 && end <= state.st_size ? CHANGES : TAKES_ROOM;
}

ssize_t write(int fd, const void *buffer, size_t size) {
    off_t offset = log_fd >= 0 ? lseek(fd, 0, SEEK_CUR) : 0;
    CALL_FD(c, kind_of_write(fd, offset + (off_t)size), fd);
    return MAKE(c, size, offset, buffer, syscall(SYS_write, fd, buffer, cut(&c, size, offset)));
}

ssize_t pwrite(int fd, const void *buffer, size_t size, off_t offset) {
    CALL_FD(c, kind_of_write(fd, offset + (off_t)size), fd);
    return MAKE(c, size, offset, buffer, syscall(SYS_pwrite64, fd, buffer, cut(&c, size, offset), offset));
}
ALSO(pwrite, pwrite64);

/* Calls with several buffers may do less than they were asked for, so the first buffer that is not empty suffices. */
static struct iovec first_of(const struct iovec *parts, int count) {
    while (count > 1 && parts->iov_len == 0) {
        parts++;
        count--;
    }
    return count > 0 ? *parts : (struct iovec){NULL, 0};
}

ssize_t readv(int fd, const struct iovec *parts, int count) {
    return read(fd, first_of(parts, count).iov_base, first_of(parts, count).iov_len);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return write(fd, first_of(parts, count).iov_base, first_of(parts, count).iov_len);
}

ssize_t preadv(int fd, const struct iovec *parts, int count, off_t offset) {
    return pread(fd, first_of(parts, count).iov_base, first_of(parts, count).iov_len, offset);
}
ALSO(preadv, preadv64);

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return pwrite(fd, first_of(parts, count).iov_base, first_of(parts, count).iov_len, offset);
}
ALSO(pwritev, pwritev64);

/* A caller must do without these two where a file system lacks them. The log then has all bytes, as writes. */
ssize_t copy_file_range(int from, off64_t *from_pos, int to, off64_t *to_pos, size_t size, unsigned flags) {
    CALL_FD(c, TAKES_ROOM, to);
    if (log_fd >= 0 && is_in_folder(c.path)) {
        errno = EXDEV;
        return -1;
    }
    return syscall(SYS_copy_file_range, from, from_pos, to, to_pos, size, flags);
}

ssize_t sendfile(int to, int from, off_t *pos, size_t size) {
    CALL_FD(c, TAKES_ROOM, to);
    if (log_fd >= 0 && is_in_folder(c.path)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_sendfile, to, from, pos, size);
}
ALSO(sendfile, sendfile64);

/* The log has no bytes that are written through a mapping. Its reader refuses a log that has such a record. */
void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    if (log_fd < 0 || fd < 0 || !(flags & MAP_SHARED) || !(protection & PROT_WRITE))
        return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
    CALL_FD(c, CHANGES, fd);
    return (void *)MAKE(c, size, offset, NULL, syscall(SYS_mmap, at, size, protection, flags, fd, offset));
}
ALSO(mmap, mmap64);

/* Sizes, modes, times, locks and durability. In the log, the offset of these is their argument. */

int ftruncate(int fd, off_t size) {
    CALL_FD(c, CHANGES, fd);
    return MAKE(c, 0, size, NULL, syscall(SYS_ftruncate, fd, size));
}
ALSO(ftruncate, ftruncate64);

int truncate(const char *path, off_t size) {
    CALL_AT(c, "truncate", CHANGES, AT_FDCWD, path);
    return MAKE(c, 0, size, NULL, syscall(SYS_truncate, path, size));
}
ALSO(truncate, truncate64);

int fallocate(int fd, int mode, off_t offset, off_t size) {
    CALL_FD(c, TAKES_ROOM, fd);
    return MAKE(c, size, offset, NULL, syscall(SYS_fallocate, fd, mode, offset, size));
}
ALSO(fallocate, fallocate64);

int posix_fallocate(int fd, off_t offset, off_t size) {
    CALL_FD(c, TAKES_ROOM, fd);
    return MAKE(c, size, offset, NULL, syscall(SYS_fallocate, fd, 0, offset, size)) < 0 ? errno : 0;
}
ALSO(posix_fallocate, posix_fallocate64);

int fsync(int fd) {
    CALL_FD(c, CHANGES, fd);
    return MAKE(c, 0, -1, NULL, syscall(SYS_fsync, fd));
}

int fdatasync(int fd) {
    CALL_FD(c, CHANGES, fd);
    return MAKE(c, 0, -1, NULL, syscall(SYS_fdatasync, fd));
}

int flock(int fd, int operation) {
    CALL_FD(c, CHANGES, fd);
    return MAKE(c, 0, operation, NULL, syscall(SYS_flock, fd, operation));
}

int fchmod(int fd, mode_t mode) {
    CALL_FD(c, CHANGES, fd);
    return MAKE(c, 0, mode, NULL, syscall(SYS_fchmod, fd, mode));
}

int fchmodat(int dir, const char *path, mode_t mode, int flags) {
    CALL_AT(c, "fchmodat", CHANGES, dir, path);
    (void)flags;
    return MAKE(c, 0, mode, NULL, syscall(SYS_fchmodat, dir, path, mode));
}

int chmod(const char *path, mode_t mode) {
    return fchmodat(AT_FDCWD, path, mode, 0);
}

int futimens(int fd, const struct timespec times[2]) {
    CALL_FD(c, CHANGES, fd);
    return MAKE(c, 0, -1, NULL, syscall(SYS_utimensat, fd, NULL, times, 0));
}

int utimensat(int dir, const char *path, const struct timespec times[2], int flags) {
    CALL_AT(c, "utimensat", CHANGES, dir, path);
    return MAKE(c, 0, -1, NULL, syscall(SYS_utimensat, dir, path, times, flags));
}

/* Names */

int renameat2(int dir, const char *path, int other_dir, const char *other, unsigned flags) {
    CALL_AT(c, "rename", TAKES_ROOM, dir, path);
    if (log_fd >= 0) set_path_at(other_dir, other, c.other);
    return MAKE(c, 0, flags, NULL, syscall(SYS_renameat2, dir, path, other_dir, other, flags));
}

int renameat(int dir, const char *path, int other_dir, const char *other) {
    return renameat2(dir, path, other_dir, other, 0);
}

int rename(const char *path, const char *other) {
    return renameat2(AT_FDCWD, path, AT_FDCWD, other, 0);
}

int linkat(int dir, const char *path, int other_dir, const char *other, int flags) {
    CALL_AT(c, "link", TAKES_ROOM, dir, path);
    if (log_fd >= 0) set_path_at(other_dir, other, c.other);
    return MAKE(c, 0, -1, NULL, syscall(SYS_linkat, dir, path, other_dir, other, flags));
}

int link(const char *path, const char *other) {
    return linkat(AT_FDCWD, path, AT_FDCWD, other, 0);
}

int symlinkat(const char *target, int dir, const char *path) {
    CALL_AT(c, "symlink", TAKES_ROOM, dir, path);
    return MAKE(c, 0, -1, NULL, syscall(SYS_symlinkat, target, dir, path));
}

int symlink(const char *target, const char *path) {
    return symlinkat(target, AT_FDCWD, path);
}

int unlinkat(int dir, const char *path, int flags) {
    CALL_AT(c, flags & AT_REMOVEDIR ? "rmdir" : "unlink", CHANGES, dir, path);
    return MAKE(c, 0, -1, NULL, syscall(SYS_unlinkat, dir, path, flags));
}

int unlink(const char *path) {
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path) {
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int mkdirat(int dir, const char *path, mode_t mode) {
    CALL_AT(c, "mkdir", TAKES_ROOM, dir, path);
    return MAKE(c, 0, -1, NULL, syscall(SYS_mkdirat, dir, path, mode));
}

int mkdir(const char *path, mode_t mode) {
    return mkdirat(AT_FDCWD, path, mode);
}
