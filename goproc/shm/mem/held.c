/* held.c - memory of the segment that Python objects show: arrays, frames, memoryviews. A forked child keeps
 * it.
 *
 * The segment itself is not mapped in such a child (MADV_DONTFORK): the child must not take part in it. The
 * child gets the pages that its objects show as private memory at the same addresses, with their content at
 * the time of the fork. From then on it is independent of the segment: it keeps its content whatever the
 * parent does, and its writes and drops are its own.
 *
 * The parent copies before the fork: afterwards it could write to the memory, or free it, before the child
 * has read it. The copies are kept as an image of the segment, in which only the shown pages are backed. All
 * children share the image's pages with the parent until one of them writes there. The next fork compares,
 * and copies the changed pages. Where the address space is too small for an image, each fork makes its own
 * copies.
 *
 * A private mapping of the segment (copy.c) is inherited as it is, and shows the segment where nothing was
 * written. Before the first fork all its pages are made private.
 *
 * A fork costs nothing while no object shows such memory. vfork() and posix_spawn(), which subprocess uses,
 * call none of these functions.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/mem.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

struct run { /* whole pages */
    char *start, *end;
    char *source;   /* the copy; NULL: there was no memory for it */
    bool temporary; /* the source is no part of an image */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct gp_held *first;
static uint64_t count;

static struct run *runs; /* from before a fork until after it */
static uint64_t n_runs;
static bool forking, failed;

static uint64_t page_bytes(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }
static char *page_of(const char *p) { return (char *)((uintptr_t)p & ~(uintptr_t)(page_bytes() - 1)); }
static char *page_after(const char *p) { return page_of(p + page_bytes() - 1); }

/* ---- the list of held memory */

void gp_hold(struct gp_held *held, struct gp_mapping *mapping, char *data, uint64_t len, bool constant) {
    *held = (struct gp_held){.mapping = mapping, .data = data, .len = len, .constant = constant};
    pthread_mutex_lock(&lock);
    held->next = first;
    held->at = &first;
    if (first) first->at = &held->next;
    first = held;
    count++;
    pthread_mutex_unlock(&lock);
}

/* Only constant memory is shown by several objects. */
static bool is_shown(const struct gp_held *held) {
    for (const struct gp_held *h = held->constant ? first : NULL; h; h = h->next)
        if (h->data == held->data) return true;
    return false;
}

/* Give the pages of this memory back to the system, but for those that it shares with other memory. */
static void drop_pages(const struct gp_held *held, char *base) {
    char *start = page_after(held->data), *end = page_of(held->data + held->len);
    if (start < end) madvise(base + (start - held->mapping->base), (size_t)(end - start), MADV_DONTNEED);
}

void gp_unhold(struct gp_held *held) {
    if (!held->at) { /* in a forked child */
        if (held->mapping && !held->constant && !held->lost) drop_pages(held, held->mapping->base);
        return;
    }
    pthread_mutex_lock(&lock);
    *held->at = held->next;
    if (held->next) held->next->at = held->at;
    count--;
    if (held->copied && held->mapping && held->mapping->image && !is_shown(held))
        drop_pages(held, held->mapping->image);
    pthread_mutex_unlock(&lock);
}

/* ---- before a fork */

static int by_address(const void *a, const void *b) {
    const struct gp_held *x = *(struct gp_held *const *)a, *y = *(struct gp_held *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

static char *image_of(struct gp_mapping *m) {
    if (m->image) return m->image;
    void *p = mmap(NULL, m->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, m->bytes, MADV_DONTDUMP);
    return m->image = p;
}

static void find_source(struct run *run, struct gp_mapping *m) {
    size_t bytes = (size_t)(run->end - run->start);
    char *image = image_of(m);
    if (image) {
        run->source = image + (run->start - m->base);
        if (mprotect(run->source, bytes, PROT_READ | PROT_WRITE) == 0) return;
    }
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    run->temporary = true;
    run->source = p == MAP_FAILED ? NULL : p;
    failed = failed || !run->source;
}

static void copy_held(struct gp_held *h, const struct run *run) {
    char *start = page_of(h->data), *end = page_after(h->data + h->len),
         *copy = run->source + (start - run->start);
    if (run->temporary || !h->copied) {
        memcpy(copy, start, (size_t)(end - start));
        h->copied = !run->temporary;
        return;
    }
    uint64_t page = page_bytes();
    for (; !h->constant && start < end; start += page, copy += page)
        if (memcmp(copy, start, page) != 0) memcpy(copy, start, page);
}

static void make_private(struct gp_held *h) {
    char *start = page_of(h->data), *end = page_after(h->data + h->len);
    if (h->copied) return;
    h->copied = true;
    if (madvise(start, (size_t)(end - start), MADV_POPULATE_WRITE) == 0) return;
    /* before Linux 5.14 */
    for (; start < end; start += page_bytes()) __atomic_fetch_or(start, 0, __ATOMIC_RELAXED);
}

static void copy_all(struct gp_held **sorted, uint64_t n) {
    for (uint64_t i = 0, j; i < n; i = j) {
        struct run *run = &runs[n_runs++];
        *run =
            (struct run){page_of(sorted[i]->data), page_after(sorted[i]->data + sorted[i]->len), NULL, false};
        for (j = i + 1; j < n && sorted[j]->mapping == sorted[i]->mapping && sorted[j]->data < run->end;
             j++) {
            char *end = page_after(sorted[j]->data + sorted[j]->len);
            if (end > run->end) run->end = end;
        }
        find_source(run, sorted[i]->mapping);
        for (uint64_t k = i; run->source && k < j; k++) copy_held(sorted[k], run);
    }
}

static void before_fork(void) {
    pthread_mutex_lock(&lock);
    forking = count > 0;
    if (!forking) return;
    n_runs = 0;
    struct gp_held **sorted = malloc(count * sizeof *sorted);
    runs = malloc(count * sizeof *runs);
    failed = !sorted || !runs;
    uint64_t n = 0;
    for (struct gp_held *h = first; h && !failed; h = h->next) {
        if (h->mapping) sorted[n++] = h;
        else make_private(h);
    }
    if (!failed && n) {
        qsort(sorted, n, sizeof *sorted, by_address);
        copy_all(sorted, n);
    }
    free(sorted);
}

/* ---- after it */

static void in_parent(void) {
    if (forking) {
        for (uint64_t i = 0; i < n_runs; i++)
            if (runs[i].temporary && runs[i].source)
                munmap(runs[i].source, (size_t)(runs[i].end - runs[i].start));
        free(runs);
        runs = NULL;
        forking = false;
    }
    pthread_mutex_unlock(&lock);
}

static bool install(const struct run *run) {
    size_t bytes = (size_t)(run->end - run->start);
    if (!run->source) return false;
    if (mremap(run->source, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, run->start) != MAP_FAILED)
        return true;
    /* the copy is in several mappings */
    void *p = mmap(run->start, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (p == MAP_FAILED) return false;
    memcpy(p, run->source, bytes);
    return true;
}

static void say_failed(void) {
    static const char text[] =
        "goproc: there was no memory for a forked child's copies of arrays in shared memory: it cannot "
        "read them (raise the limit of the address space, or free some before the fork)\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) return;
}

static void in_child(void) {
    pthread_mutex_init(&lock, NULL);
    if (!forking) return;
    for (uint64_t i = 0; i < n_runs; i++) failed = !install(&runs[i]) || failed;
    for (struct gp_held *h = first; h; h = h->next) {
        struct gp_mapping *m = h->mapping;
        h->at = NULL;
        h->lost = failed && m;
        if (!m) continue;
        m->inherited = true;
        if (m->image) munmap(m->image, m->bytes);
        m->image = NULL;
    }
    if (failed) say_failed();
    first = NULL;
    count = 0;
    forking = false; /* the runs stay allocated: another thread of the parent may have held malloc's lock */
}

void gp_held_start(void) {
    static bool started;
    if (!started) started = pthread_atfork(before_fork, in_parent, in_child) == 0;
}
