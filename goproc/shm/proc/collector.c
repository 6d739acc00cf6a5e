/* collector.c - frees channels and other objects that no process can reach any more.
 *
 * There are no counts that a crash could spoil. A process that has a handle has its bit in object.holders. A
 * handle in flight is listed in its message's block (GP_BLOCK_HANDLES). Objects without a holder are the
 * candidates. The blocks in the buffer of a candidate, or in its outcome, can be reached only through the
 * candidate; any other block that lists a candidate keeps it. So a candidate lives if such a block lists it,
 * or one in a living candidate. The others are garbage, also those that hold each other in their buffers.
 *
 * There is never a moment with neither bit nor block: a sender keeps its bit until the block is complete, a
 * receiver sets its bit before it frees the block. The scan takes time, so it is a double collect: mask zero,
 * scan, mask zero again and holders_version unchanged. A process that held the object meanwhile has raised
 * the version. A candidate that fails the second look lives, and with it the objects in it, which a process
 * may have taken out.
 *
 * Objects that were never put into a message do not come here: they die with their handle.
 *
 * A context goes after its children. Those that must wait for others of the same pass are examined until none
 * is left that can go; the newest first, since a child is mostly made after its parent, and lies further on
 * in memory. As a context may have to stay, the objects that its cause lists stay, too.
 *
 * A failed goroutine whose last handle is gone, unread, is a panic, which is not delayed until enough was
 * dropped: the process that drops such a handle, or a message that lists it, collects at once. Its failure is
 * read then, so the objects that it lists stay.
 *
 * The process that notices that enough was dropped collects; the lock word in the header allows one at a
 * time. A collection that is under way may have passed the new garbage by, and the lock may be held for
 * another purpose. So for a panic, or for want of memory, the process waits for the lock; else it leaves the
 * garbage to the next collection.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

#include "proc/proc.h"

#define LEAST_DROPS 256u /* weighted by size: see gp_dropped */
#define SEEN_A_DROP 16u  /* of a hundred live objects six more may wait to be freed */
#define NOBODY UINT32_MAX
#define LOCK_LOOKS 1000u /* of 1 ms, at the lock of a process that collects: that takes milliseconds */
#define FIRST_ROOM 1024u /* of a list */

struct candidate {
    gp_ref ref;
    uint32_t version;
    uint32_t first; /* the first of its edges, + 1; 0: it has none */
    bool lives;
};
struct edge {       /* a block in one candidate lists another one: positions in the list of candidates */
    uint32_t to;
    uint32_t next;  /* edge of the same candidate, + 1; 0 = none */
};
struct list {
    void *v;
    uint32_t n, cap, size;
};
struct scan {
    struct list candidates; /* by ref: the order of the scan */
    struct list edges;
    struct list todo;       /* candidates that live, with edges still to follow */
    uint32_t seen;          /* blocks and objects that the scan has looked at */
    bool failed;            /* no memory: nothing is known */
};

static struct candidate *candidate_at(struct scan *s, uint32_t i) {
    return (struct candidate *)s->candidates.v + i;
}
static struct edge *edge_at(struct scan *s, uint32_t i) { return (struct edge *)s->edges.v + i; }

static void *push(struct scan *s, struct list *l) {
    if (!gp_grow(&l->v, l->n, &l->cap, FIRST_ROOM, l->size)) {
        s->failed = true;
        return NULL;
    }
    return (char *)l->v + (size_t)l->n++ * l->size;
}

static void find_candidates(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct scan *s = arg;
    (void)bytes;
    s->seen++;
    if (!object) return;
    struct gp_object *o = (struct gp_object *)b;
    uint32_t version = atomic_load_explicit(&o->holders_version, memory_order_seq_cst);
    if (!(gp_acquire(&o->flags) & GP_OBJ_SHARED) || !gp_unheld(o)) return;
    if (gp_get(&o->kind) == GP_KIND_OUTCOME && !gp_outcome_over(o)) return; /* its runner will look */
    struct candidate *c = push(s, &s->candidates);
    if (c) *c = (struct candidate){gp_ref_of(o), version, 0, false};
}

static uint32_t find(struct scan *s, gp_ref ref) {
    uint32_t lo = 0, hi = s->candidates.n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (candidate_at(s, mid)->ref < ref) lo = mid + 1;
        else hi = mid;
    }
    return lo < s->candidates.n && candidate_at(s, lo)->ref == ref ? lo : NOBODY;
}

/* The candidate through which alone the list in a block can be reached; NOBODY: there is none. */
static uint32_t container(struct scan *s, uint64_t tag) {
    unsigned kind = GP_TAG_KIND(tag);
    uint32_t i = kind == GP_TAG_CHAN || kind == GP_TAG_RESULT ? find(s, (gp_ref)GP_TAG_VALUE(tag)) : NOBODY;
    if (i == NOBODY) return i;
    const struct gp_object *o = gp_at(candidate_at(s, i)->ref);
    return gp_get(&o->flags) & GP_OBJ_CONTEXT || gp_outcome_unread(o) ? NOBODY : i;
}

static void keep(struct scan *s, uint32_t i) {
    struct candidate *c = candidate_at(s, i);
    uint32_t *todo = c->lives ? NULL : push(s, &s->todo);
    if (todo) *todo = i;
    c->lives = true;
}

static void mark_listed(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct scan *s = arg;
    uint64_t tag = gp_acquire(&b->tag);
    unsigned flags = gp_block_flags(b);
    if (object || !(flags & GP_BLOCK_HANDLES)) return;
    uint64_t head = gp_head_bytes(flags);
    const struct gp_handles *list = (const struct gp_handles *)((char *)b + head);
    /* the list may be half written: then its writer still holds the objects */
    uint32_t n = list->count, in = container(s, tag);
    for (uint32_t i = 0; i < n && head + 4 + 4ULL * (i + 1) <= bytes; i++) {
        uint32_t to = find(s, list->object[i]);
        if (to == NOBODY) continue;
        if (in == NOBODY) {
            keep(s, to);
            continue;
        }
        struct edge *e = push(s, &s->edges);
        if (!e) return;
        *e = (struct edge){to, candidate_at(s, in)->first};
        candidate_at(s, in)->first = s->edges.n;
    }
}

static bool unchanged(const struct candidate *c) {
    struct gp_object *o = gp_at(c->ref);
    return gp_unheld(o) && atomic_load_explicit(&o->holders_version, memory_order_seq_cst) == c->version;
}

static void follow_edges(struct scan *s) {
    while (s->todo.n > 0 && !s->failed) {
        uint32_t from = ((uint32_t *)s->todo.v)[--s->todo.n];
        for (uint32_t e = candidate_at(s, from)->first; e; e = edge_at(s, e - 1)->next)
            keep(s, edge_at(s, e - 1)->to);
    }
}

/* After this a candidate that does not live is garbage for ever: no way leads to it. */
static void find_garbage(struct scan *s) {
    gp_heap_each(find_candidates, s);
    if (s->candidates.n == 0) return;
    gp_heap_each(mark_listed, s);
    for (uint32_t i = 0; i < s->candidates.n; i++)
        if (!unchanged(candidate_at(s, i))) keep(s, i);
    follow_edges(s);
}

static bool free_object(struct gp_object *o, void (*ended)(struct gp_object *o)) {
    /* a context stays while its children are there */
    if (gp_get(&o->flags) & GP_OBJ_CONTEXT && !gp_context_unlink(o)) return false;
    if (gp_get(&o->kind) == GP_KIND_CHAN) gp_chan_drop(o);
    else if (gp_get(&o->kind) == GP_KIND_OUTCOME || gp_get(&o->kind) == GP_KIND_COPY) ended(o);
    /* The process that has ended a goroutine may be in the middle of telling that. The coroner may be taking
     * back what a dead process had of the object. */
    gp_lock(o);
    gp_object_end(o);
    gp_unlock(o);
    gp_free(gp_ref_of(o)); /* from here on its memory may have another use */
    return true;
}

/* Free the garbage; return the number of objects. Passes go on while contexts become free of their
 * children. */
static uint32_t sweep(struct scan *s, void (*ended)(struct gp_object *o)) {
    uint32_t freed = 0, before, n = s->candidates.n, first = 0;
    do {
        uint32_t waiting = n;
        before = freed;
        for (uint32_t i = n; i-- > first;) {
            struct candidate c = *candidate_at(s, i);
            if (c.lives || !unchanged(&c)) continue;
            if (free_object(gp_at(c.ref), ended)) freed++;
            else *candidate_at(s, --waiting) = c;
        }
        first = waiting; /* those that wait are [waiting, n) now */
    } while (freed != before && first < n);
    return freed;
}

static bool again; /* this process collects, and meanwhile has come upon a further failure to report */

static bool take_lock(bool wait) {
    for (uint32_t i = 0;; i++) {
        uint32_t free_word = 0;
        if (atomic_compare_exchange_strong(&gp.head->collecting, &free_word, gp.me)) return true;
        if (free_word == gp.me) again = wait;
        if (!wait || free_word == gp.me || i == LOCK_LOOKS) break;
        usleep(1000);
    }
    atomic_fetch_add(&gp.head->collect, 1); /* an idle process finds that a collection is due */
    return false;
}

static uint32_t collect_once(void (*ended)(struct gp_object *o)) {
    struct gp_header *h = gp.head;
    uint32_t freed = 0;
    gp_set(&h->collected, gp_get(&h->collect));
    struct scan s = {{.size = sizeof(struct candidate)},
                     {.size = sizeof(struct edge)},
                     {.size = sizeof(uint32_t)},
                     0,
                     false};
    find_garbage(&s);
    if (!s.failed) freed = sweep(&s, ended);
    uint32_t kept = s.candidates.n - freed;
    free(s.candidates.v);
    free(s.edges.v);
    free(s.todo.v);
    /* a larger heap waits for more drops: so a drop costs the same, however many objects there are */
    uint32_t after = kept > s.seen / SEEN_A_DROP ? kept : s.seen / SEEN_A_DROP;
    gp_set(&h->collect_after, after > LEAST_DROPS ? after : LEAST_DROPS);
    return freed;
}

static uint32_t collect(void (*ended)(struct gp_object *o), bool wait) {
    uint32_t freed = 0;
    if (!take_lock(wait)) return 0;
    do {
        again = false;
        freed += collect_once(ended);
    } while (again);
    gp_release(&gp.head->collecting, 0);
    return freed;
}

uint32_t gp_collect(void (*ended)(struct gp_object *o)) { return collect(ended, false); }
uint32_t gp_collect_surely(void (*ended)(struct gp_object *o)) { return collect(ended, true); }

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
    /* no collection may free an object before `found` holds it */
    for (uint32_t i = 0; i < LOCK_LOOKS; i++, free_word = 0) {
        if (atomic_compare_exchange_strong(&gp.head->collecting, &free_word, gp.me)) {
            gp_heap_each(find_unread, &s);
            gp_release(&gp.head->collecting, 0);
            return;
        }
        usleep(1000);
    }
}

bool gp_dropped(struct gp_object *o) {
    uint32_t kind = gp_get(&o->kind);
    uint64_t bytes = kind == GP_KIND_CHAN                   ? (uint64_t)o->cap * sizeof(struct gp_message)
                     : kind == GP_KIND_COPY && gp_unheld(o) ? (uint64_t)gp_get(&o->value)
                                                            : 0;
    uint64_t weight = 1 + (bytes >> 14);
    uint64_t now = atomic_fetch_add_explicit(&gp.head->collect, weight, memory_order_relaxed) + weight;
    uint32_t after = gp_get(&gp.head->collect_after);
    return now - gp_get(&gp.head->collected) >= (after ? after : LEAST_DROPS);
}
