/* Preloaded: each read and write of more than one byte transfers half of what it was asked for, as POSIX allows.
   A signal interrupts each third pread, which transfers nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NEXT(name) \
    static __typeof__(&name) next; \
    if (!next) \
        next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static size_t half(size_t size) { return size > 1 ? size / 2 : size; }

static int interrupted(void) {
    static int calls;
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) % 3)
        return 0;
    errno = EINTR;
    return 1;
}

ssize_t read(int fd, void *to, size_t size) {
    NEXT(read);
    return next(fd, to, half(size));
}

ssize_t write(int fd, const void *from, size_t size) {
    NEXT(write);
    return next(fd, from, half(size));
}

ssize_t pread(int fd, void *to, size_t size, off_t pos) {
    NEXT(pread);
    if (interrupted())
        return -1;
    return next(fd, to, half(size), pos);
}

ssize_t pread64(int fd, void *to, size_t size, off64_t pos) {
    NEXT(pread64);
    if (interrupted())
        return -1;
    return next(fd, to, half(size), pos);
}

ssize_t pwrite(int fd, const void *from, size_t size, off_t pos) {
    NEXT(pwrite);
    return next(fd, from, half(size), pos);
}

ssize_t pwrite64(int fd, const void *from, size_t size, off64_t pos) {
    NEXT(pwrite64);
    return next(fd, from, half(size), pos);
}

ssize_t copy_file_range(int from, off64_t *pos, int to, off64_t *at, size_t size, unsigned flags) {
    NEXT(copy_file_range);
    return next(from, pos, to, at, half(size), flags);
}

ssize_t readv(int fd, const struct iovec *to, int count) {
    (void)count;
    return read(fd, to->iov_base, to->iov_len);
}

ssize_t writev(int fd, const struct iovec *from, int count) {
    (void)count;
    return write(fd, from->iov_base, from->iov_len);
}
