#include <stdlib.h>

#include "extras.h"
#include "mem/pages.h"

enum { MOST_HELD = 12, BLOCKS = 6, WAIT_NS = 300000 };

struct held { /* a handle: as handles.c has it */
    gp_ref ref;
    uint32_t gen;
};
struct list { /* a message of the carrier */
    struct gp_handles handles;
    gp_ref object;
    uint32_t gen;
};

struct extras *extras;
static struct held held[MOST_HELD];
static uint32_t n_held;
static gp_ref blocks[BLOCKS];
static uint64_t seed;

static uint32_t below(uint32_t n) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) * n >> 32);
}

/* ---- objects */

static gp_ref new_object(enum gp_kind kind, uint32_t cap) {
    gp_ref ref = gp_object_alloc(kind);
    if (!ref) return 0;
    struct gp_object *o = gp_at(ref);
    if (kind == GP_KIND_CHAN && cap) {
        gp_ref ring = gp_alloc(cap * sizeof(struct gp_message), GP_BLOCK_ALIGNED);
        if (!ring) {
            gp_object_free(o);
            return 0;
        }
        o->ring = ring;
        gp_own(ring, GP_TAG(GP_TAG_CHAN, ref));
    }
    o->cap = cap;
    atomic_fetch_or_explicit(&o->holders[gp.proc / 64], 1ULL << (gp.proc % 64), memory_order_acq_rel);
    return ref;
}

static gp_ref lasting(enum gp_kind kind, uint32_t cap) {
    gp_ref ref = new_object(kind, cap);
    if (!ref) abort();
    atomic_fetch_or(&((struct gp_object *)gp_at(ref))->flags, GP_OBJ_SHARED);
    return ref;
}

void extras_make(void) {
    extras->carrier = lasting(GP_KIND_CHAN, 8);
    extras->bulk = lasting(GP_KIND_CHAN, 4);
    extras->waitgroup = lasting(GP_KIND_WAITGROUP, 0);
    extras->once = lasting(GP_KIND_ONCE, 0);
    extras->condition = lasting(GP_KIND_COND, 0);
    extras->barrier = lasting(GP_KIND_BARRIER, 2);
    extras->root = lasting(GP_KIND_CHAN, 0);
    gp_context_link(gp_at(extras->root), NULL, 0);
    atomic_fetch_or(&((struct gp_object *)gp_at(extras->root))->flags, GP_OBJ_SHARED);
    extras->timer = lasting(GP_KIND_CHAN, 0);
    atomic_fetch_or(&((struct gp_object *)gp_at(extras->timer))->flags, GP_OBJ_TIMER);
}

void extras_enter(uint64_t begin) {
    seed = begin | 1;
    n_held = 0;
    memset(blocks, 0, sizeof blocks);
}

/* ---- waiting, as a plain thread does */

/* GP_BLOCK: it gave up */
static enum gp_result wait_for(struct gp_case *c) {
    int64_t slot = gp_waiter_alloc(true);
    if (slot < 0) return GP_BLOCK;
    uint32_t i = (uint32_t)slot;
    struct gp_waiter *w = gp_waiter_at(gp.proc, i);
    enum gp_result r = gp_case_try_or_wait(c, i);
    atomic_fetch_add(&extras->waits, 1);
    while (r == GP_BLOCK) {
        gp_thread_blocks(w);
        bool told = gp_thread_wait(w, gp_now() + WAIT_NS);
        gp_thread_runs(w);
        if (!told && gp_case_cancel(c, i)) {
            gp_case_abandon(c);
            break;
        }
        unsigned tag = GP_W_TAG(gp_acquire(&w->state));
        gp_case_settled(c, i, false);
        r = tag == GP_W_CLOSED ? GP_CLOSED : GP_OK;
        if (tag != GP_W_RETRY) break;
        c->woken = c->kind == GP_LOCK;
        r = gp_case_try_or_wait(c, i);
    }
    gp_waiter_release(i);
    return r;
}

/* ---- handles */

static void end_outcome(struct gp_object *o) { gp_outcome_drop(o); }

static void collect(void) { atomic_fetch_add(&extras->collected, gp_collect(end_outcome)); }

static void drop(uint32_t i) {
    struct gp_object *o = gp_at(held[i].ref);
    held[i] = held[--n_held];
    if (gp_get(&o->flags) & GP_OBJ_SHARED) {
        atomic_fetch_and_explicit(&o->holders[gp.proc / 64], ~(1ULL << (gp.proc % 64)), memory_order_acq_rel);
        if (gp_dropped(o)) collect();
    } else if (gp_get(&o->flags) & GP_OBJ_CONTEXT && !gp_context_unlink(o)) {
        atomic_fetch_and_explicit(&o->holders[gp.proc / 64], ~(1ULL << (gp.proc % 64)), memory_order_acq_rel);
        atomic_fetch_or(&o->flags, GP_OBJ_SHARED);
        if (gp_dropped(o)) collect();
    } else {
        gp_chan_drop(o);
        gp_object_free(o);
    }
}

static bool has(gp_ref ref) {
    for (uint32_t i = 0; i < n_held; i++)
        if (held[i].ref == ref) return true;
    return false;
}

static void keep(gp_ref ref) {
    if (n_held == MOST_HELD) drop(below(n_held));
    held[n_held++] = (struct held){ref, gp_get(&((struct gp_object *)gp_at(ref))->gen)};
}

static void make_channel(void) {
    gp_ref ref = new_object(GP_KIND_CHAN, below(3));
    if (ref) keep(ref);
}

static void make_context(void) {
    gp_ref above = extras->root;
    for (uint32_t i = 0; i < n_held && above == extras->root; i++)
        if (gp_get(&((struct gp_object *)gp_at(held[i].ref))->flags) & GP_OBJ_CONTEXT) above = held[i].ref;
    gp_ref ref = new_object(GP_KIND_CHAN, 0);
    if (!ref) return;
    gp_context_link(gp_at(ref), gp_at(above), below(2) ? gp_now() + 1000000 : 0);
    keep(ref);
}

/* A handle goes into a message: the sender keeps its own until the message is complete. */
static void pass(struct gp_object *o) {
    gp_ref block = gp_alloc(sizeof(struct list), GP_BLOCK_HANDLES);
    if (!block) return;
    struct list *l = (struct list *)gp_payload(block);
    atomic_fetch_or(&o->flags, GP_OBJ_SHARED);
    l->handles.count = 1;
    l->object = gp_ref_of(o);
    l->gen = gp_get(&o->gen);
    struct gp_message m = {.codec = GP_CODEC_PLAIN, .block = block};
    if (gp_chan_send(gp_at(extras->carrier), &m) != GP_OK) gp_message_drop(&m);
}

static void take(void) {
    struct gp_message m;
    if (gp_chan_recv(gp_at(extras->carrier), &m) != GP_OK) return;
    const struct list *l = (const struct list *)gp_payload(m.block);
    struct gp_object *o = gp_at(l->object);
    if (!gp_object_check(l->object) || gp_get(&o->gen) != l->gen) abort(); /* the message keeps it */
    if (!has(l->object)) {
        atomic_fetch_or_explicit(&o->holders[gp.proc / 64], 1ULL << (gp.proc % 64), memory_order_acq_rel);
        atomic_fetch_add_explicit(&o->holders_version, 1, memory_order_acq_rel);
        keep(l->object);
        atomic_fetch_add(&extras->passed, 1);
    }
    gp_message_drop(&m);
}

static void use_channel(struct gp_object *o) {
    struct gp_message m = {.codec = GP_CODEC_BYTES};
    struct gp_case c = {.o = o, .kind = GP_RECV};
    switch (below(8)) {
    case 0: gp_chan_close(o); break;
    case 1:
    case 2:
    case 3:
        m.block = gp_alloc(1 + below(300), 0);
        if (!m.block) break;
        memset(gp_payload(m.block), 7, 1);
        if (gp_chan_send(o, &m) != GP_OK) gp_free(m.block);
        break;
    case 4:
        if (wait_for(&c) == GP_OK) gp_message_drop(&c.m);
        break;
    default:
        if (gp_chan_recv(o, &m) == GP_OK) gp_message_drop(&m);
    }
}

static void use_context(struct gp_object *o) {
    struct gp_case c = {.o = o, .kind = GP_RECV};
    switch (below(4)) {
    case 0: atomic_fetch_add(&extras->cancelled, gp_context_cancel(o, GP_CANCELED, 0)); break;
    case 1: gp_context_expire(o); break;
    case 2: gp_context_origin(o); break;
    default: wait_for(&c);
    }
}

static void use_handle(void) {
    if (n_held == 0) return;
    uint32_t i = below(n_held), what = below(6);
    struct gp_object *o = gp_at(held[i].ref);
    if (what == 0) pass(o);
    else if (what == 1) drop(i);
    else if (gp_get(&o->flags) & GP_OBJ_CONTEXT) use_context(o);
    else use_channel(o);
}

/* ---- sync */

static void use_waitgroup(void) {
    struct gp_object *o = gp_at(extras->waitgroup);
    struct gp_case c = {.o = o, .kind = GP_DONE};
    int64_t now;
    gp_waitgroup_add(o, 1, &now);
    if (below(2)) wait_for(&c); /* for itself: it gives up, unless one that died had counted, too */
    gp_waitgroup_add(o, -1, &now);
    wait_for(&c);
}

static void use_once(void) {
    struct gp_object *o = gp_at(extras->once);
    struct gp_case c = {.o = o, .kind = GP_LOCK};
    enum gp_result r = wait_for(&c);
    if (r == GP_BLOCK) return;
    if (!(gp_get(&o->flags) & GP_OBJ_DONE)) {
        atomic_fetch_add(&extras->ran, 1);
        atomic_fetch_or(&o->flags, GP_OBJ_DONE);
    }
    gp_mutex_unlock(o);
}

static void use_condition(void) {
    struct gp_case c = {.o = gp_at(extras->condition), .kind = GP_SIGNAL};
    if (below(3)) gp_cond_signal(gp_at(extras->condition), below(2));
    else wait_for(&c);
}

static void use_barrier(void) {
    struct gp_case c = {.o = gp_at(extras->barrier), .kind = GP_ARRIVE};
    wait_for(&c);
}

static void use_timer(void) {
    struct gp_case c = {.o = gp_at(extras->timer), .kind = GP_RECV};
    if (below(2)) gp_timer_set(c.o, (int64_t)gp_now() + below(400000), below(2) * 100000);
    else wait_for(&c);
}

/* ---- memory */

static void use_memory(void) {
    uint32_t i = below(BLOCKS);
    if (blocks[i]) {
        gp_free(blocks[i]);
        blocks[i] = 0;
        return;
    }
    uint64_t bytes = 1ULL << (3 + below(15));
    blocks[i] = gp_alloc(bytes, 0);
    if (blocks[i]) memset(gp_payload(blocks[i]), 1, bytes);
}

static void use_bulk(void) {
    struct gp_message m = {.codec = GP_CODEC_BYTES};
    if (below(2)) {
        if (gp_chan_recv(gp_at(extras->bulk), &m) == GP_OK) gp_message_drop(&m);
        return;
    }
    m.block = gp_alloc(20000 + below(200000), GP_BLOCK_ALIGNED);
    if (!m.block) return;
    memset(gp_payload(m.block), 3, 1000);
    if (gp_chan_send(gp_at(extras->bulk), &m) != GP_OK) gp_free(m.block);
}

static bool never(void) { return false; }

static void give_back(void) {
    if (below(20) == 0) gp_heap_reclaim();
    else if (below(4) == 0) gp_heap_trim(never);
    else if (below(4) == 0) collect();
}

void extras_turn(void) {
    switch (below(16)) {
    case 0: make_channel(); break;
    case 1: make_context(); break;
    case 2: take(); break;
    case 3: use_waitgroup(); break;
    case 4: use_once(); break;
    case 5: use_condition(); break;
    case 6: use_barrier(); break;
    case 7: use_timer(); break;
    case 8:
    case 9: use_memory(); break;
    case 10: use_bulk(); break;
    case 11: give_back(); break;
    default: use_handle();
    }
}

void extras_leave(void) {
    while (n_held) drop(n_held - 1);
    for (uint32_t i = 0; i < BLOCKS; i++)
        if (blocks[i]) gp_free(blocks[i]);
}
