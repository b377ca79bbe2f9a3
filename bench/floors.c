/* What plain C needs for the work that the benches measure: the floors of the table.

   floors scan TAR WINDOW THREADS ROUNDS     walk the headers into arrays; WINDOW 512 reads each header by itself
   floors pack FOLDER LIST OUT ROUNDS        make one tar of the files whose paths stand in LIST, one a line
   floors pread FILE RANGES ROUNDS           read ranges; RANGES holds pairs of int64, start and end
   floors read FILE WINDOW ROUNDS            read all of it, as cat does; an item is a million bytes

   Each prints one line a round: nanoseconds an item, and how many items there were. With FLOORS_CLOCK=cpu, these are of
   processor time. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    BLOCK = 512,
    THREADS_MAX = 2,
    PATH_BYTES = 4096,
    BUFFER_BYTES = 4 << 20,
};

static void fail(const char *what)
{
    fprintf(stderr, "floors: %s: %s\n", what, errno ? strerror(errno) : "not as expected");
    exit(1);
}

static void *checked(void *memory)
{
    if (memory == NULL)
        fail("memory");
    return memory;
}

/* The kernel copies large windows faster to a page's beginning than past it. */
static void *aligned(size_t size)
{
    void *memory = NULL;
    return checked(posix_memalign(&memory, 4096, size) ? NULL : memory);
}

static double nanoseconds(void)
{
    struct timespec now;
    clock_gettime(getenv("FLOORS_CLOCK") ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

static int opened(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd < 0)
        fail(path);
    return fd;
}

static int64_t padded(int64_t size)
{
    return (size + BLOCK - 1) & ~(int64_t)(BLOCK - 1);
}

/* scan */

struct rows {
    char *names;
    int64_t names_capacity;
    int64_t *name_bounds;
    int64_t *offset_start;
    int64_t *offset_end;
    int64_t capacity;
    int64_t count;
    int64_t middle; /* where a group near the middle of the file starts */
};

struct span {
    int fd;
    int64_t start;
    int64_t stop;
    int64_t window_bytes;
    struct rows rows;
};

static int64_t octal(const unsigned char *field, int width)
{
    int64_t value = 0;
    for (int i = 0; i < width && field[i] >= '0' && field[i] <= '7'; i++)
        value = value << 3 | (field[i] - '0');
    return value;
}

#if defined(__SSE2__)
#include <emmintrin.h>
static uint32_t sum_block(const unsigned char *block)
{
    __m128i sum = _mm_setzero_si128();
    for (int i = 0; i < BLOCK; i += 16)
        sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_loadu_si128((const void *)(block + i)), _mm_setzero_si128()));
    return (uint32_t)(_mm_cvtsi128_si32(sum) + _mm_cvtsi128_si32(_mm_srli_si128(sum, 8)));
}
#else
static uint32_t sum_block(const unsigned char *block)
{
    uint32_t total = 0;
    for (int i = 0; i < BLOCK; i++)
        total += block[i];
    return total;
}
#endif

static int checksum_matches(const unsigned char *header)
{
    uint32_t total = sum_block(header) + 8 * ' ';
    for (int i = 148; i < 156; i++)
        total -= header[i];
    return total == octal(header + 148, 8);
}

static void push(struct rows *rows, const void *name, int64_t name_length, int64_t start, int64_t end)
{
    int64_t used = rows->count ? rows->name_bounds[rows->count] : 0;
    if (rows->count == rows->capacity) {
        rows->capacity = rows->capacity ? 2 * rows->capacity : 64;
        rows->name_bounds = checked(realloc(rows->name_bounds, (rows->capacity + 1) * sizeof(int64_t)));
        rows->offset_start = checked(realloc(rows->offset_start, rows->capacity * sizeof(int64_t)));
        rows->offset_end = checked(realloc(rows->offset_end, rows->capacity * sizeof(int64_t)));
        rows->name_bounds[0] = 0;
    }
    if (used + name_length > rows->names_capacity) {
        rows->names_capacity = 2 * (used + name_length);
        rows->names = checked(realloc(rows->names, rows->names_capacity));
    }
    memcpy(rows->names + used, name, name_length);
    rows->name_bounds[rows->count + 1] = used + name_length;
    rows->offset_start[rows->count] = start;
    rows->offset_end[rows->count] = end;
    rows->count++;
}

/* Read pax records; the path, if one says it, is copied to path. */
static void read_pax(const unsigned char *bytes, int64_t length, char *path, int64_t *path_length, int64_t *size)
{
    int64_t pos = 0;
    while (pos < length && bytes[pos]) {
        int64_t record = 0, at = pos;
        while (bytes[at] >= '0' && bytes[at] <= '9')
            record = record * 10 + bytes[at++] - '0';
        at++;
        if (record < 5 || record > length - pos)
            fail("pax record");
        if (memcmp(bytes + at, "path=", 5) == 0) {
            *path_length = record - (at - pos) - 6;
            memcpy(path, bytes + at + 5, *path_length);
        } else if (memcmp(bytes + at, "size=", 5) == 0) {
            *size = strtoll((const char *)bytes + at + 5, NULL, 10);
        }
        pos += record;
    }
}

static void *walk(void *argument)
{
    struct span *span = argument;
    unsigned char *window = aligned(span->window_bytes + PATH_BYTES);
    char path[PATH_BYTES];
    int64_t pos = span->start, group = pos, window_start = 0, window_end = 0;
    int64_t path_length = -1, pax_size = -1;
    while (pos < span->stop) {
        int64_t wanted = BLOCK;
        const unsigned char *header;
        if (pos >= window_start && pos + BLOCK <= window_end && window[pos - window_start + 156] == 'x')
            wanted += padded(octal(window + (pos - window_start) + 124, 12));
        if (pos < window_start || pos + wanted > window_end) {
            int64_t got = pread(span->fd, window, span->window_bytes, pos);
            if (got < BLOCK)
                fail("read");
            window_start = pos;
            window_end = pos + got;
            continue;
        }
        header = window + (pos - window_start);
        if (header[0] == 0)
            break;
        if (!checksum_matches(header))
            fail("checksum");
        if (header[156] == 'x') {
            read_pax(header + BLOCK, wanted - BLOCK, path, &path_length, &pax_size);
            pos += wanted;
            continue;
        }
        int64_t size = pax_size >= 0 ? pax_size : octal(header + 124, 12);
        const void *name = path_length >= 0 ? (const void *)path : header;
        if (header[156] == '0' || header[156] == 0)
            push(&span->rows, name, path_length >= 0 ? path_length : (int64_t)strnlen((const char *)header, 100),
                 pos + BLOCK, pos + BLOCK + size);
        if (group < span->stop / 2)
            span->rows.middle = group;
        pos += BLOCK + padded(size);
        group = pos;
        path_length = pax_size = -1;
    }
    free(window);
    return NULL;
}

static void free_rows(struct rows *rows)
{
    free(rows->names);
    free(rows->name_bounds);
    free(rows->offset_start);
    free(rows->offset_end);
    memset(rows, 0, sizeof *rows);
}

static void scan(const char *path, int64_t window_bytes, int threads, int rounds)
{
    struct stat state;
    pthread_t other;
    int fd = opened(path, O_RDONLY);
    if (fstat(fd, &state) < 0 || threads < 1 || threads > THREADS_MAX)
        fail("scan");
    struct span whole = {fd, 0, state.st_size, window_bytes, {0}};
    walk(&whole);
    int64_t middle = whole.rows.middle, count = whole.rows.count;
    free_rows(&whole.rows);
    for (int round = 0; round < rounds; round++) {
        struct span first = {fd, 0, threads == 2 ? middle : state.st_size, window_bytes, {0}};
        struct span second = {fd, middle, state.st_size, window_bytes, {0}};
        double began = nanoseconds();
        if (threads == 2 && pthread_create(&other, NULL, walk, &second))
            fail("thread");
        walk(&first);
        if (threads == 2)
            pthread_join(other, NULL);
        double took = nanoseconds() - began;
        if (first.rows.count + second.rows.count != count)
            fail("count");
        printf("%.3f %lld\n", took / count, (long long)count);
        free_rows(&first.rows);
        free_rows(&second.rows);
    }
}

/* pack */

static void put_octal(unsigned char *field, int digits, int64_t value)
{
    for (int i = digits - 1; i >= 0; i--, value >>= 3)
        field[i] = '0' + (value & 7);
}

static void put_header(unsigned char *header, const char *name, int64_t size)
{
    uint32_t total = 8 * ' ';
    memset(header, 0, BLOCK);
    memcpy(header, name, strnlen(name, 100));
    put_octal(header + 100, 7, 0644);
    put_octal(header + 108, 7, 0);
    put_octal(header + 116, 7, 0);
    put_octal(header + 124, 11, size);
    put_octal(header + 136, 11, 0);
    header[156] = '0';
    memcpy(header + 257, "ustar\00000", 8);
    for (int i = 0; i < BLOCK; i++)
        total += header[i];
    put_octal(header + 148, 6, total);
    header[155] = ' ';
}

static void write_all(int fd, const unsigned char *bytes, int64_t length)
{
    while (length > 0) {
        ssize_t done = write(fd, bytes, length);
        if (done < 0)
            fail("write");
        bytes += done;
        length -= done;
    }
}

/* Each file needs room for 1 MiB at least; the benches' are of a few KB. */
static void pack_once(int root, char **paths, int64_t count, int out, unsigned char *buffer)
{
    int64_t used = 0;
    int folder = -1;
    const char *folder_path = "";
    int64_t folder_length = -1;
    for (int64_t i = 0; i < count; i++) {
        const char *slash = strrchr(paths[i], '/');
        int64_t length = slash ? slash - paths[i] : 0;
        if (length != folder_length || memcmp(folder_path, paths[i], length)) {
            char path[PATH_BYTES] = ".";
            memcpy(path, paths[i], length);
            path[length ? length : 1] = 0;
            if (folder >= 0)
                close(folder);
            folder = openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            folder_path = paths[i];
            folder_length = length;
        }
        if (BUFFER_BYTES - used < 1 << 20) {
            write_all(out, buffer, used);
            used = 0;
        }
        int fd = openat(folder, slash ? slash + 1 : paths[i], O_RDONLY | O_CLOEXEC);
        int64_t size = fd < 0 ? -1 : read(fd, buffer + used + BLOCK, BUFFER_BYTES - used - 2 * BLOCK);
        if (size < 0 || size == BUFFER_BYTES - used - 2 * BLOCK)
            fail(paths[i]);
        close(fd);
        put_header(buffer + used, paths[i], size);
        memset(buffer + used + BLOCK + size, 0, padded(size) - size);
        used += BLOCK + padded(size);
    }
    memset(buffer + used, 0, 2 * BLOCK);
    write_all(out, buffer, used + 2 * BLOCK);
    close(folder);
}

static void pack(const char *folder, const char *list, const char *out_path, int rounds)
{
    int root = opened(folder, O_RDONLY | O_DIRECTORY);
    FILE *file = checked(fopen(list, "r"));
    unsigned char *buffer = checked(malloc(BUFFER_BYTES));
    char **paths = NULL;
    char line[PATH_BYTES];
    int64_t count = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        paths = checked(realloc(paths, (count + 1) * sizeof *paths));
        paths[count++] = checked(strdup(line));
    }
    for (int round = 0; round < rounds; round++) {
        unlink(out_path);
        double began = nanoseconds();
        int out = opened(out_path, O_WRONLY | O_CREAT | O_TRUNC);
        pack_once(root, paths, count, out, buffer);
        close(out);
        printf("%.3f %lld\n", (nanoseconds() - began) / count, (long long)count);
    }
    unlink(out_path);
}

/* pread */

static void pread_ranges(const char *path, const char *ranges_path, int rounds)
{
    struct stat state;
    int fd = opened(path, O_RDONLY), ranges_fd = opened(ranges_path, O_RDONLY);
    if (fstat(ranges_fd, &state) < 0)
        fail(ranges_path);
    int64_t *ranges = checked(malloc(state.st_size));
    int64_t count = state.st_size / (2 * (int64_t)sizeof(int64_t));
    unsigned char *buffer = checked(malloc(BUFFER_BYTES));
    if (read(ranges_fd, ranges, state.st_size) != state.st_size)
        fail(ranges_path);
    for (int round = 0; round < rounds; round++) {
        double began = nanoseconds();
        for (int64_t i = 0; i < count; i++) {
            int64_t size = ranges[2 * i + 1] - ranges[2 * i];
            if (size > BUFFER_BYTES || pread(fd, buffer, size, ranges[2 * i]) != size)
                fail("pread");
        }
        printf("%.3f %lld\n", (nanoseconds() - began) / count, (long long)count);
    }
}

/* read */

static void read_through(const char *path, int64_t window, int rounds)
{
    int fd = opened(path, O_RDONLY);
    unsigned char *buffer = aligned(window);
    for (int round = 0; round < rounds; round++) {
        double began = nanoseconds();
        int64_t size = 0;
        ssize_t got;
        while ((got = pread(fd, buffer, window, size)) > 0)
            size += got;
        if (got < 0 || size == 0)
            fail(path);
        printf("%.3f %lld\n", (nanoseconds() - began) / (size / 1e6), (long long)(size / 1000000));
    }
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "scan") == 0)
        scan(argv[2], atoll(argv[3]), atoi(argv[4]), atoi(argv[5]));
    else if (argc == 6 && strcmp(argv[1], "pack") == 0)
        pack(argv[2], argv[3], argv[4], atoi(argv[5]));
    else if (argc == 5 && strcmp(argv[1], "pread") == 0)
        pread_ranges(argv[2], argv[3], atoi(argv[4]));
    else if (argc == 5 && strcmp(argv[1], "read") == 0)
        read_through(argv[2], atoll(argv[3]), atoi(argv[4]));
    else
        fail("usage: see the top of floors.c");
    return 0;
}
