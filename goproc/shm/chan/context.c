/* context.c - the tree of contexts: a node is a channel that is closed when the context is done.
 *
 * Go's propagation (context.go) is synchronous: when cancel returns, every context below is done. Here the
 * nodes are in shared memory, and one lock for all trees guards their links; it comes before the lock of any
 * channel. Whether a context is done is one load of its flags, since an end is written into every node below.
 *
 * No thread runs for a deadline. Each node has the earliest deadline of itself and its ancestors. An
 * operation that looks at a node, or waits for it, ends the topmost node whose deadline has passed, so that
 * all processes see the same end.
 *
 * A child pins its parent (ctx_pins), which is thus there for as long as an end can come from it, or its
 * cause is needed. A process that dies in the middle of a cancel leaves a node that is done with children
 * that are not: the repair goes on with the cancel.
 */
#include "chan/chan.h"

static struct gp_object *at(uint32_t ref) {
    if (ref && !gp_object_check(ref)) gp_damaged("a context", ref);
    return ref ? gp_at(ref) : NULL;
}
/* Counts the steps up a tree: a path has no more nodes than there may be objects. */
static void count_step(uint64_t *steps) {
    if (++*steps > gp.bytes / sizeof(struct gp_object))
        gp_damaged("a tree of contexts without a root", *steps);
}
static bool is_done(const struct gp_object *c) { return gp_acquire(&c->flags) & GP_OBJ_CLOSED; }

static bool listed(const struct gp_object *c, const struct gp_object *parent) {
    return parent && (gp_get(&c->ctx_prev) || gp_get(&parent->ctx_child) == gp_ref_of(c));
}

static void unlist(struct gp_object *c) {
    struct gp_object *parent = at(gp_get(&c->ctx_parent));
    if (!listed(c, parent)) return;
    uint32_t next = gp_get(&c->ctx_next), prev = gp_get(&c->ctx_prev);
    _Atomic uint32_t *before = prev ? &at(prev)->ctx_next : &parent->ctx_child;
    if (gp_get(before) != gp_ref_of(c)) gp_damaged("a link of contexts", prev);
    gp_set(before, next);
    if (next) gp_set(&at(next)->ctx_prev, prev);
    gp_set(&c->ctx_next, 0);
    gp_set(&c->ctx_prev, 0);
}

static void finish(struct gp_object *c, int64_t code, unsigned inherited) {
    gp_lock(c);
    if (!is_done(c)) {
        gp_set(&c->value, code);
        /* an atomic OR, not a load and a store: the only process with a handle may put it into a message at
         * this moment */
        atomic_fetch_or(&c->flags, (uint16_t)(GP_OBJ_CLOSED | inherited)); /* COMMIT */
        gp_fire_all(c, GP_W_CLOSED, false);
    }
    gp_unlock(c);
}

/* A child's parent has ended, and so does the child: by its own deadline if that came first and was not
 * noticed. */
static void follow(struct gp_object *c, struct gp_object *parent, uint64_t now) {
    uint64_t due = gp_get(&c->due);
    if (due && due <= now && due != gp_get(&parent->due)) finish(c, GP_DEADLINE, 0);
    else finish(c, gp_get(&parent->value), GP_OBJ_INHERITED);
}

void gp_context_link(struct gp_object *c, struct gp_object *parent, uint64_t due) {
    /* the coroner may look at all contexts: this one is new and whole */
    gp_release(&c->flags, GP_OBJ_CONTEXT);
    if (!parent) {
        gp_set(&c->due, due);
        return;
    }
    gp_lock(&gp.head->tree);
    uint64_t above = gp_get(&parent->due);
    gp_set(&c->due, due && (!above || due < above) ? due : above);
    gp_set(&parent->ctx_pins, gp_get(&parent->ctx_pins) + 1);
    gp_set(&c->ctx_parent, gp_ref_of(parent));
    if (is_done(parent)) {
        finish(c, gp_get(&parent->value), GP_OBJ_INHERITED);
    } else {
        uint32_t next = gp_get(&parent->ctx_child);
        gp_set(&c->ctx_next, next);
        gp_set(&c->ctx_prev, 0);
        gp_order();
        gp_set(&parent->ctx_child, gp_ref_of(c)); /* COMMIT */
        if (next) gp_set(&at(next)->ctx_prev, gp_ref_of(c));
    }
    gp_unlock(&gp.head->tree);
}

bool gp_context_cancel(struct gp_object *c, int64_t code, gp_ref cause) {
    gp_lock(&gp.head->tree);
    bool first = !is_done(c);
    if (first) {
        if (cause) {
            gp_own(cause, GP_TAG(GP_TAG_RESULT, gp_ref_of(c)));
            c->ring = cause;
            gp_order();
        }
        finish(c, code, 0);
        uint64_t now = gp_now();
        for (struct gp_object *n = c;;) {
            struct gp_object *child = at(gp_get(&n->ctx_child));
            if (child) {
                if (child == c || at(gp_get(&child->ctx_parent)) != n)
                    gp_damaged("a child of a context", gp_ref_of(child));
                follow(child, n, now);
                n = child;
            } else if (n == c) {
                break;
            } else {
                struct gp_object *up = at(gp_get(&n->ctx_parent));
                unlist(n);
                n = up;
            }
        }
        unlist(c);
    }
    gp_unlock(&gp.head->tree);
    gp_ring();
    return first;
}

bool gp_context_expire(struct gp_object *c) {
    if (is_done(c)) return true;
    uint64_t due = gp_get(&c->due), now;
    if (!due || (now = gp_now()) < due) return false;
    uint64_t steps = 0;
    for (struct gp_object *up;
         (up = at(gp_get(&c->ctx_parent))) && gp_get(&up->due) && gp_get(&up->due) <= now; c = up)
        count_step(&steps);
    gp_context_cancel(c, GP_DEADLINE, 0);
    return true;
}

bool gp_context_unlink(struct gp_object *c) {
    gp_lock(&gp.head->tree);
    bool alone = gp_get(&c->ctx_pins) == 0;
    struct gp_object *parent = at(gp_get(&c->ctx_parent));
    if (alone && parent) {
        unlist(c);
        gp_set(&c->ctx_parent, 0);
        gp_set(&parent->ctx_pins, gp_get(&parent->ctx_pins) - 1);
    }
    /* under the lock: from here on the coroner, which repairs the tree with that lock, writes nothing here */
    if (alone) atomic_fetch_and(&c->flags, (uint16_t)~GP_OBJ_CONTEXT);
    gp_unlock(&gp.head->tree);
    return alone;
}

struct gp_object *gp_context_origin(struct gp_object *c) {
    uint64_t steps = 0;
    for (struct gp_object *up; gp_acquire(&c->flags) & GP_OBJ_INHERITED && (up = at(gp_get(&c->ctx_parent)));
         c = up)
        count_step(&steps);
    return c;
}
