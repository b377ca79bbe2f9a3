/* Preloaded: one allocation of blobpack's native modules fails, or the start of one thread; blocks that are never freed,
 * and blocks behind which something is written, are counted.
 *
 * Strategy: an allocation belongs to a native module if it is called from a library in a folder _native. It is counted,
 * and its block is remembered until somebody frees it. A few bytes are allocated behind it, which must then be as they were.
 * The start of a thread counts as an allocation. glibc exports its own allocators under other names, so their wrappers need
 * not look for them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

enum { BLOCKS_MAX = 4096, LIBRARIES_MAX = 64, GUARD_BYTES = 32 };

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static struct { unsigned char *start; size_t size; } blocks[BLOCKS_MAX];
static unsigned char guard[GUARD_BYTES];
static long block_count, overruns, allocations, fails_at;
static int watching;
/* where the native modules lie */
static struct { ElfW(Addr) start, end; } libraries[LIBRARIES_MAX];
static int library_count;

static int note_library(struct dl_phdr_info *info, size_t size, void *nothing) {
    (void)size, (void)nothing;
    if (!strstr(info->dlpi_name, "/_native/") || library_count == LIBRARIES_MAX) return 0;
    ElfW(Addr) end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz > end)
            end = info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    libraries[library_count].start = info->dlpi_addr;
    libraries[library_count++].end = info->dlpi_addr + end;
    return 0;
}

/* Count from here on, and let the allocation of this number fail, counted from 1; 0: none. */
void scarce_begin(long at) {
    block_count = overruns = allocations = library_count = 0;
    memset(guard, 0xA5, GUARD_BYTES);
    dl_iterate_phdr(note_library, NULL);
    fails_at = at;
    watching = 1;
}

void scarce_end(void) { watching = 0; }
long scarce_allocations(void) { return allocations; }
long scarce_blocks(void) { return block_count; }
long scarce_overruns(void) { return overruns; }

static int is_native(void *caller) {
    for (int i = 0; watching && i < library_count; i++)
        if (libraries[i].start <= (ElfW(Addr))caller && (ElfW(Addr))caller < libraries[i].end) return 1;
    return 0;
}

static int fails(void) {
    pthread_mutex_lock(&turn);
    int failing = ++allocations == fails_at;
    pthread_mutex_unlock(&turn);
    if (failing) errno = ENOMEM;
    return failing;
}

/* Remember a block of this size, behind which there is room for the guard. */
static void *remember(void *block, size_t size) {
    pthread_mutex_lock(&turn);
    if (block && block_count < BLOCKS_MAX) {
        blocks[block_count].start = block;
        blocks[block_count++].size = size;
        memcpy((unsigned char *)block + size, guard, GUARD_BYTES);
    }
    pthread_mutex_unlock(&turn);
    return block;
}

static void forget(void *block) {
    pthread_mutex_lock(&turn);
    for (long i = block_count - 1; i >= 0; i--)
        if (blocks[i].start == block) {
            overruns += memcmp(blocks[i].start + blocks[i].size, guard, GUARD_BYTES) != 0;
            blocks[i] = blocks[--block_count];
            break;
        }
    pthread_mutex_unlock(&turn);
}

void *malloc(size_t size) {
    if (!is_native(__builtin_return_address(0))) return __libc_malloc(size);
    return fails() ? NULL : remember(__libc_malloc(size + GUARD_BYTES), size);
}

void *calloc(size_t count, size_t size) {
    if (!is_native(__builtin_return_address(0))) return __libc_calloc(count, size);
    return fails() ? NULL : remember(__libc_calloc(1, count * size + GUARD_BYTES), count * size);
}

void *realloc(void *old, size_t size) {
    if (!is_native(__builtin_return_address(0))) return __libc_realloc(old, size);
    if (fails()) return NULL;
    if (old) forget(old);
    return remember(__libc_realloc(old, size + GUARD_BYTES), size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    int is_ours = is_native(__builtin_return_address(0));
    if (is_ours && fails()) return ENOMEM;
    *block = __libc_memalign(alignment, size + (is_ours ? GUARD_BYTES : 0));
    if (is_ours) remember(*block, size);
    return *block ? 0 : ENOMEM;
}

void free(void *block) {
    if (block && watching) forget(block);
    __libc_free(block);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
    static __typeof__(&pthread_create) next;
    if (!next) next = (__typeof__(&pthread_create))dlsym(RTLD_NEXT, "pthread_create");
    if (is_native(__builtin_return_address(0)) && fails()) return EAGAIN;
    return next(thread, attributes, body, argument);
}
