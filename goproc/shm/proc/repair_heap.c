/* repair_heap.c - step 4: the blocks of a dead process in all arenas are freed, and its handles are
 * forgotten.
 *
 * An owner tag is the truth about a block. A PART lives and dies with the block whose buffer it is, so it is
 * examined while that block still names its owner.
 */
#include "mem/pages.h"
#include "repair.h"

#define CHAIN 4 /* no chain of PART tags is longer than that of a buffer in the call of a task */

/* ---- blocks */

/* True for a copy that the dead process was making: no other process knows it. */
static bool unfinished(const struct gp_object *o, const struct gp_dead *d) {
    return gp_get(&o->kind) == GP_KIND_COPY && gp_acquire(&o->tag) == d->tag &&
           gp_acquire(&o->state) != GP_G_OK;
}

static bool is_deads(const struct gp_dead *d, uint64_t tag) {
    gp_ref ref = (gp_ref)GP_TAG_VALUE(tag);
    if (tag == d->tag) return true;
    return GP_TAG_KIND(tag) == GP_TAG_RESULT && gp_object_check(ref) && unfinished(gp_at(ref), d);
}

static bool belongs(const struct gp_dead *d, uint64_t tag) {
    uint64_t capacity;
    for (int i = 0; i < CHAIN && GP_TAG_KIND(tag) == GP_TAG_PART; i++) {
        gp_ref parent = (gp_ref)GP_TAG_VALUE(tag);
        if (!gp_block_check(parent, &capacity)) return false;
        tag = gp_tag(parent);
    }
    return is_deads(d, tag);
}

static void free_part(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    (void)bytes;
    uint64_t tag = gp_acquire(&b->tag);
    if (object || GP_TAG_KIND(tag) != GP_TAG_PART || !belongs(arg, tag)) return;
    /* the buffers of this block, if it has any, are examined later or were already */
    gp_release(&b->tag, ((const struct gp_dead *)arg)->tag);
}

static void free_block(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    (void)bytes;
    if (!object && is_deads(arg, gp_acquire(&b->tag))) gp_release(&b->tag, 0);
}

/* ---- objects */

void gp_repair_free_object(struct gp_object *o) {
    gp_set(&o->gen, gp_get(&o->gen) + 1);
    gp_set(&o->kind, 0);
    gp_set(&o->flags, 0);
    gp_order();
    gp_release(&o->tag, 0);
}

static int64_t share(const struct gp_object *o, uint32_t proc) {
    return gp_shares(o) ? gp_get(&gp_shares(o)[proc]) : 0;
}

/* True if the dead process has a lock or units of the object; or if it may be the one that a mutex has woken
 * to try again. */
static bool concerns(const struct gp_object *o, const struct gp_dead *d) {
    switch (gp_get(&o->kind)) {
    case GP_KIND_MUTEX:
    case GP_KIND_ONCE: return gp_get(&o->flags) & GP_OBJ_WOKEN || gp_get(&o->owner) == d->word;
    case GP_KIND_RWMUTEX: return share(o, d->proc) || gp_get(&o->owner) == d->word;
    case GP_KIND_SEMAPHORE: return share(o, d->proc);
    default: return false;
    }
}

/* Take back the readers and units of the dead; let the waiters go on. Without the lock the object may be
 * collected. */
static void take_back(struct gp_object *o, const struct gp_dead *d) {
    if (!concerns(o, d) || !gp_repair_lock(o)) return;
    bool semaphore = gp_get(&o->kind) == GP_KIND_SEMAPHORE;
    int64_t n = concerns(o, d) ? share(o, d->proc) : 0, value = gp_get(&o->value);
    if (n) {
        gp_set(&gp_shares(o)[d->proc], 0);
        if (semaphore) gp_set(&o->head, gp_get(&o->head) + (uint64_t)n);
        gp_set(&o->value, semaphore ? value + n : value - n);
    }
    gp_repair_serve(o);
    gp_repair_unlock(o);
}

/* True for the outcome of a goroutine that was lost with its process. */
static bool was_lost(const struct gp_object *o) {
    uint64_t capacity;
    return gp_acquire(&o->state) == GP_G_FAILED && o->ring && gp_block_check(o->ring, &capacity) &&
           ((const struct gp_message *)gp_payload(o->ring))->codec == GP_CODEC_DEATH;
}

/* True for a goroutine that the dead process was creating: its task is gone, and was in no ring. */
static bool never_begins(const struct gp_object *o) {
    uint64_t capacity;
    return gp_acquire(&o->state) == GP_G_QUEUED && !(o->task && gp_block_check(o->task, &capacity));
}

/* True for a goroutine that had ended in the dead process, which was freeing the object: all other goroutines
 * that ran there have an outcome by now. */
static bool ran_there(const struct gp_object *o, const struct gp_dead *d) {
    return gp_acquire(&o->state) == GP_G_RUNNING && gp_get(&o->proc) == d->proc + 1;
}

/* True if the dead process alone knew an object without a holder. That process died before the object had a
 * handle, or a task in a ring, or between the end of the last handle and the end of the object. A goroutine
 * that runs elsewhere is left to the process that runs it. */
static bool knew_alone(const struct gp_object *o, const struct gp_dead *d) {
    if (gp_acquire(&o->tag) != d->tag || gp_get(&o->flags) & GP_OBJ_SHARED) return false;
    return gp_get(&o->kind) != GP_KIND_OUTCOME || gp_outcome_over(o) || never_begins(o) || ran_there(o, d);
}

/* True if the dead process was to keep the promise: it had claimed the promise, or died in
 * gp_promise_claim(). */
static bool was_to_keep(const struct gp_object *o, const struct gp_dead *d) {
    return gp_acquire(&o->state) < GP_G_OK && gp_get(&o->proc) == d->proc + 1;
}

/* Break a promise that the dead process was to keep: its waiters learn of the death. Another process may keep
 * or break the promise meanwhile. */
static void break_promise(struct gp_object *o, const struct gp_dead *d) {
    if (!(gp_get(&o->flags) & GP_OBJ_PROMISE) || !was_to_keep(o, d) || !gp_repair_lock(o)) return;
    if (was_to_keep(o, d)) gp_release(&o->state, GP_G_DEAD); /* COMMIT */
    gp_repair_serve(o);
    gp_repair_unlock(o);
}

static void forget_holder(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    const struct gp_dead *d = arg;
    (void)bytes;
    if (!object) return;
    struct gp_object *o = (struct gp_object *)b;
    uint32_t kind = gp_get(&o->kind);
    uint64_t bit = 1ULL << (d->proc % 64);
    if (kind == 0 || unfinished(o, d)) {
        if (gp_acquire(&o->tag) == d->tag) gp_repair_free_object(o); /* it died while it made the object */
        return;
    }
    bool held = gp_get(&o->holders[d->proc / 64]) & bit;
    if (held) atomic_fetch_and(&o->holders[d->proc / 64], ~bit);
    take_back(o, d);
    if (kind == GP_KIND_OUTCOME) break_promise(o, d);
    bool alone = knew_alone(o, d);
    if (!gp_unheld(o) || (!alone && (!held || (kind == GP_KIND_OUTCOME && !gp_outcome_over(o))))) return;
    if (kind == GP_KIND_OUTCOME && !gp_outcome_over(o)) gp_set(&o->state, GP_G_FAILED);
    /* the reader of the outcome is gone, too */
    if (kind == GP_KIND_OUTCOME && (alone || was_lost(o))) gp_set(&o->value, 1);
    /* no process has a handle, and none will drop the last one: it is the collector's */
    atomic_fetch_or(&o->flags, GP_OBJ_SHARED);
    atomic_fetch_add(&gp.head->collect, 1);
}

/* ---- pages that the dead process was giving back to the system, in any arena */

static void restore(uint64_t arena, uint32_t page, uint32_t origin) {
    struct gp_page *d = gp_page_at(arena, page);
    uint64_t pages = origin == GP_CLASS_EXTENT ? gp_extent_pages(arena, page) : 1;
    /* the memory of the pages may be gone already */
    gp_back((uint64_t)(gp_page_start(arena, page) - gp.base), pages * GP_PAGE);
    gp_release(&d->cls, origin);
}

static void restore_pages(const struct gp_dead *d, uint32_t proc) {
    uint64_t arena = gp_arena_at(proc);
    for (uint32_t page = gp_first_page(); page < gp.arena_bytes / GP_PAGE; page++) {
        uint32_t cls = gp_acquire(&gp_page_at(arena, page)->cls),
                 origin = gp_page_class(gp_page_at(arena, page));
        if (cls == 0) return;
        if (cls != origin && cls >> 16 == d->proc + 1) restore(arena, page, origin);
    }
}

bool gp_repair_heap(const struct gp_dead *d) {
    for (uint32_t p = 0; p < gp_places(); p++) restore_pages(d, p);
    gp_heap_each(free_part, (void *)(uintptr_t)d);
    gp_heap_each(free_block, (void *)(uintptr_t)d);
    gp_heap_each(forget_holder, (void *)(uintptr_t)d);
    return true;
}
