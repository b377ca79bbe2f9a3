/* The switch in front of each native mutant, and the record of mutants that a test reached.
 *
 * BLOBPACK_MUTANT: number of the mutant that is on.
 * BLOBPACK_MUTANTS_REACHED: a file of one byte per mutant. It is mapped and not written, so that a killed process and the
 * children of a test leave their record, too.
 */
#ifndef BLOBPACK_MUTANT_SWITCH
#define BLOBPACK_MUTANT_SWITCH

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static long blobpack_mutant_on = -1;
static unsigned char *blobpack_mutants_reached = NULL;
static size_t blobpack_mutants_count = 0;

/* a process that is forked for a mutant has loaded the module before */
static void blobpack_read_mutant_on(void) {
    const char *on = getenv("BLOBPACK_MUTANT");
    if (on != NULL) blobpack_mutant_on = atol(on);
}

__attribute__((constructor)) static void blobpack_read_mutant_settings(void) {
    const char *path = getenv("BLOBPACK_MUTANTS_REACHED");
    struct stat status;
    int fd;
    blobpack_read_mutant_on();
    pthread_atfork(NULL, NULL, blobpack_read_mutant_on);
    if (path == NULL || (fd = open(path, O_RDWR | O_CLOEXEC)) < 0) return;
    if (fstat(fd, &status) == 0) {
        void *map = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map != MAP_FAILED) {
            blobpack_mutants_reached = (unsigned char *)map;
            blobpack_mutants_count = (size_t)status.st_size;
        }
    }
    close(fd);
}

static inline int blobpack_mutant(long number) {
    if (blobpack_mutants_reached != NULL && (size_t)number < blobpack_mutants_count)
        blobpack_mutants_reached[number] = 1;
    return number == blobpack_mutant_on;
}

#endif
