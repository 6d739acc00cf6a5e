/* races.c - the procs of a world are threads of one process, so that ThreadSanitizer sees the accesses of all of them.
 *
 *     races ROUNDS SECONDS [SEED]      each round with a segment of its own, every second one with deaths
 *
 * A proc has its own copy of all that is private to a process: racer.c, world.c, extras.c and the core are linked once for each,
 * under other names. The segment is mapped once, so that a word of it has one address: all copies get the mapping of the first.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "race.h"

void race_0(struct race *r, uint32_t proc);
void race_1(struct race *r, uint32_t proc);
void race_2(struct race *r, uint32_t proc);
void race_3(struct race *r, uint32_t proc);
void race_4(struct race *r, uint32_t proc);
static void (*const copies[PROCS])(struct race *r, uint32_t proc) = {race_0, race_1, race_2, race_3, race_4};

/* ---- the mapping: the core is compiled with these names in place of mmap() and munmap(). There is one segment at a time */

static struct {
    pthread_mutex_t lock;
    void *base;
    size_t bytes;
    int users;
} mapped = {.lock = PTHREAD_MUTEX_INITIALIZER};

void *race_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *race_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    if (fd < 0) return mmap(at, bytes, protection, flags, fd, offset);
    pthread_mutex_lock(&mapped.lock);
    if (mapped.users == 0) {
        mapped.base = mmap(at, bytes, protection, flags, fd, offset);
        mapped.bytes = bytes;
    }
    if (mapped.bytes != bytes) abort();
    if (mapped.base != MAP_FAILED) mapped.users++;
    void *base = mapped.base;
    pthread_mutex_unlock(&mapped.lock);
    return base;
}

int race_munmap(void *at, size_t bytes);
int race_munmap(void *at, size_t bytes) {
    if (at != mapped.base) return munmap(at, bytes);
    pthread_mutex_lock(&mapped.lock);
    int left = --mapped.users, r = left ? 0 : munmap(at, bytes);
    if (left == 0) mapped.base = NULL;
    pthread_mutex_unlock(&mapped.lock);
    return r;
}

/* ---- threads */

static pthread_t threads[PROCS];
static struct race *current;

static void ends(void *ended) { atomic_store((_Atomic uint32_t *)ended, 1); }

static void *run(void *arg) {
    uint32_t proc = (uint32_t)(uintptr_t)arg;
    pthread_cleanup_push(ends, &current->ended[proc]); /* it may die in the midst of anything */
    copies[proc](current, proc);
    pthread_cleanup_pop(1);
    return NULL;
}

static void start(struct race *r, uint32_t proc) {
    (void)r;
    if (pthread_create(&threads[proc], NULL, run, (void *)(uintptr_t)proc)) abort();
}

static void join(struct race *r, uint32_t proc) {
    (void)r;
    pthread_join(threads[proc], NULL);
}

/* ---- rounds */

static uint64_t now(void) { /* as gp_now(), which each copy has for itself */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static bool failed(const struct ledger *ledger, uint64_t seed) {
    uint32_t n = atomic_load(&ledger->wrongs);
    for (uint32_t i = 0; i < n && i < 16; i++) printf("WRONG %s\n", ledger->wrong[i]);
    if (n) printf("%u wrong; seed %llu\n", n, (unsigned long long)seed);
    return n != 0;
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 2;
    double seconds = argc > 2 ? atof(argv[2]) : 2;
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : now() / 1000;
    uint64_t received = 0, began = 0, joined = 0, stolen = 0, passed = 0, collected = 0, cancelled = 0, waits = 0;
    long died = 0;
    for (int i = 0; i < rounds; i++) {
        struct ledger *ledger = calloc(1, sizeof *ledger);
        atomic_store(&ledger->ids, 1);
        struct race r = {.ledger = ledger, .seed = seed + (uint64_t)i, .start = start, .join = join,
                         .until = now() + (uint64_t)(seconds * 1e9), .deaths = i % 2 == 1};
        current = &r;
        copies[HOST](&r, HOST);
        if (failed(ledger, seed)) return 1;
        received += ledger->received, began += ledger->began, joined += ledger->joined, stolen += ledger->stolen;
        died += r.died, passed += r.extras.passed, collected += r.extras.collected, cancelled += r.extras.cancelled;
        waits += r.extras.waits;
        free(ledger);
    }
    printf("%llu handles passed on, %llu objects collected, %llu contexts cancelled, %llu waits of threads\n",
           (unsigned long long)passed, (unsigned long long)collected, (unsigned long long)cancelled, (unsigned long long)waits);
    printf("%llu messages received, %llu tasks begun, %llu joined, %llu steals, %ld deaths; 0 wrong\n",
           (unsigned long long)received, (unsigned long long)began, (unsigned long long)joined, (unsigned long long)stolen, died);
    return 0;
}
