/* collector.c - frees channels and other objects that no process and no message in flight refers to.
 *
 * There are no counts that a crash could spoil. A process that has a handle has its bit in object.holders; a handle in
 * flight is listed in its message's block (GP_BLOCK_HANDLES). An object is garbage iff its mask is zero and no live
 * block lists it. There is never a moment with neither: a sender keeps its bit until the block is complete, a receiver
 * sets its bit before it frees the block. The scan takes time, so it is a double collect: mask zero, scan, mask zero
 * again and holders_version unchanged; whoever held the object meanwhile has raised the version.
 *
 * Objects that were never put into a message do not come here: they die with their handle. What refers to itself only
 * through messages (a channel in its own buffer) stays until the runtime stops.
 *
 * A context goes after its children. Those that must wait for others of the same pass are looked at until none is left
 * that can go; the newest first, since a child is mostly made after its parent, and further on in memory.
 *
 * A failed goroutine whose last handle is gone, unread, is a panic, and that is not to wait until enough was dropped: who
 * drops such a handle, or a message that lists it, collects at once.
 *
 * Whichever process notices that enough was dropped does it; the lock word in the header keeps it to one at a time.
 */
#include <stdlib.h>

#include "core.h"

#define LEAST_DROPS 256u /* weighted by size: see gp_dropped */

struct list {
    uint32_t *v;
    uint64_t n, cap;
    bool failed;
};
struct scan {
    struct list candidates; /* pairs: ref, version */
    struct list marked;
};

static void push(struct list *l, uint32_t x) {
    if (l->n == l->cap) {
        uint64_t cap = l->cap ? 2 * l->cap : 1024;
        uint32_t *v = realloc(l->v, cap * sizeof *v);
        if (!v) {
            l->failed = true;
            return;
        }
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = x;
}

static void find_candidates(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct scan *s = arg;
    (void)bytes;
    if (!object) return;
    struct gp_object *o = (struct gp_object *)b;
    uint32_t version = atomic_load_explicit(&o->holders_version, memory_order_seq_cst);
    if (!(gp_acquire(&o->flags) & GP_OBJ_SHARED) || !gp_unheld(o)) return;
    if (gp_get(&o->kind) == GP_KIND_GOROUTINE && !gp_outcome_over(o)) return; /* its runner will look */
    push(&s->candidates, gp_ref_of(o));
    push(&s->candidates, version);
}

static void mark(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct scan *s = arg;
    uint64_t len = gp_get(&b->len);
    if (object || !(len >> 56 & GP_BLOCK_HANDLES)) return;
    uint64_t head = len >> 56 & GP_BLOCK_ALIGNED ? 64 : GP_BLOCK_HEAD;
    const struct gp_handles *list = (const struct gp_handles *)((char *)b + head);
    uint32_t n = list->count; /* may be half written: then its writer still holds what it is going to list */
    for (uint32_t i = 0; i < n && head + 4 + 4ULL * (i + 1) <= bytes; i++) push(&s->marked, list->object[i]);
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

uint32_t gp_collect(void (*ended)(struct gp_object *o)) {
    struct gp_header *h = gp.head;
    uint32_t free_word = 0, freed = 0, kept = 0;
    if (!atomic_compare_exchange_strong(&h->collecting, &free_word, gp.me)) return 0; /* somebody does it already */
    gp_set(&h->collected, gp_get(&h->collect));
    struct scan s = {{0}, {0}};
    gp_heap_each(find_candidates, &s);
    if (s.candidates.n) gp_heap_each(mark, &s);
    if (!s.candidates.failed && !s.marked.failed) {
        if (s.marked.n) qsort(s.marked.v, s.marked.n, sizeof *s.marked.v, by_value);
        uint64_t n = s.candidates.n, waiting = 0;
        uint32_t before = 0;
        for (uint64_t i = n; n > 0;) {
            if (i == 0) { /* again over the contexts that wait: they are v[n - waiting .. n) now */
                if (waiting == 0 || freed == before) break;
                before = freed;
                memmove(s.candidates.v, s.candidates.v + n - waiting, waiting * sizeof *s.candidates.v);
                n = i = waiting;
                kept -= (uint32_t)(waiting / 2);
                waiting = 0;
            }
            i -= 2;
            uint32_t ref = s.candidates.v[i];
            struct gp_object *o = gp_at(ref);
            if ((s.marked.n && bsearch(&ref, s.marked.v, s.marked.n, sizeof ref, by_value)) || !gp_unheld(o) ||
                atomic_load_explicit(&o->holders_version, memory_order_seq_cst) != s.candidates.v[i + 1]) {
                kept++;
                continue;
            }
            if (gp_get(&o->flags) & GP_OBJ_CONTEXT && !gp_context_unlink(o)) {
                kept++; /* its children are still there */
                uint32_t version = s.candidates.v[i + 1];
                waiting += 2;
                s.candidates.v[n - waiting] = ref;
                s.candidates.v[n - waiting + 1] = version;
                continue;
            }
            if (gp_get(&o->kind) == GP_KIND_CHAN) gp_chan_drop(o);
            else if (gp_get(&o->kind) == GP_KIND_GOROUTINE || gp_get(&o->kind) == GP_KIND_COPY) ended(o);
            gp_object_free(o);
            freed++;
        }
    }
    free(s.candidates.v);
    free(s.marked.v);
    gp_set(&h->collect_after, kept > LEAST_DROPS ? kept : LEAST_DROPS); /* so that scans stay a constant share of drops */
    gp_release(&h->collecting, 0);
    return freed;
}

struct search {
    void (*found)(struct gp_object *o, void *arg);
    void *arg;
};

static void find_unread(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct search *s = arg;
    struct gp_object *o = (struct gp_object *)b;
    (void)bytes;
    if (!object || !gp_outcome_unread(o)) return;
    if (gp_unheld(o) || gp_get(&o->holders[gp.proc / 64]) >> (gp.proc % 64) & 1) s->found(o, s->arg);
}

void gp_unread_each(void (*found)(struct gp_object *o, void *arg), void *arg) {
    struct search s = {found, arg};
    uint32_t free_word = 0;
    /* no collection may free what is found before `found` holds it; one takes milliseconds */
    for (int i = 0; i < 1000; i++, free_word = 0) {
        if (atomic_compare_exchange_strong(&gp.head->collecting, &free_word, gp.me)) {
            gp_heap_each(find_unread, &s);
            gp_release(&gp.head->collecting, 0);
            return;
        }
        gp_wait_ns(1000000);
    }
}

bool gp_dropped(struct gp_object *o) {
    uint32_t kind = gp_get(&o->kind);
    uint64_t bytes = kind == GP_KIND_CHAN ? (uint64_t)o->cap * sizeof(struct gp_message)
                   : kind == GP_KIND_COPY ? (uint64_t)gp_get(&o->value) : 0;
    uint64_t weight = 1 + (bytes >> 14);
    uint64_t now = atomic_fetch_add_explicit(&gp.head->collect, weight, memory_order_relaxed) + weight;
    uint32_t after = gp_get(&gp.head->collect_after);
    return now - gp_get(&gp.head->collected) >= (after ? after : LEAST_DROPS);
}
