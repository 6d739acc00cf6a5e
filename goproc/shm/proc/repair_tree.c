/* repair_tree.c - the tree of contexts, where a process has died with its lock.
 *
 * A child's `ctx_parent` is the truth; lists and counts of children are made anew from it. A node that is
 * done with children that are not is in the middle of a cancel: the rule is to go on.
 */
#include "repair.h"

static bool is_context(const struct gp_object *o) {
    return gp_get(&o->kind) == GP_KIND_CHAN && gp_acquire(&o->flags) & GP_OBJ_CONTEXT;
}
static bool is_done(const struct gp_object *c) { return gp_acquire(&c->flags) & GP_OBJ_CLOSED; }

static struct gp_object *parent_of(const struct gp_object *c) {
    uint32_t ref = gp_get(&c->ctx_parent);
    return ref && gp_object_check(ref) && is_context(gp_at(ref)) ? gp_at(ref) : NULL;
}

static void unlink_all(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct gp_object *c = (struct gp_object *)b;
    (void)bytes;
    (void)arg;
    if (!object || !is_context(c)) return;
    gp_set(&c->ctx_child, 0);
    gp_set(&c->ctx_next, 0);
    gp_set(&c->ctx_prev, 0);
    gp_set(&c->ctx_pins, 0);
}

static void link_one(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct gp_object *c = (struct gp_object *)b;
    (void)bytes;
    (void)arg;
    struct gp_object *parent = object && is_context(c) ? parent_of(c) : NULL;
    if (!parent) return;
    gp_set(&parent->ctx_pins, gp_get(&parent->ctx_pins) + 1);
    if (is_done(c)) return;
    uint32_t next = gp_get(&parent->ctx_child);
    gp_set(&c->ctx_next, next);
    gp_set(&parent->ctx_child, gp_ref_of(c));
    if (next) gp_set(&((struct gp_object *)gp_at(next))->ctx_prev, gp_ref_of(c));
}

struct ending {
    bool any, ends;
};

/* A child of a node that is done ends as that did. */
static void end_one(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct gp_object *c = (struct gp_object *)b;
    struct ending *e = arg;
    (void)bytes;
    struct gp_object *parent = object && is_context(c) && !is_done(c) ? parent_of(c) : NULL;
    if (!parent || !is_done(parent)) return;
    if (!gp_repair_lock(c)) {
        e->ends = true;
        return;
    }
    gp_set(&c->value, gp_get(&parent->value));
    atomic_fetch_or(&c->flags, (uint16_t)(GP_OBJ_CLOSED | GP_OBJ_INHERITED));
    gp_repair_serve(c);
    gp_repair_unlock(c);
    e->any = true;
}

bool gp_repair_tree(void) {
    _Atomic uint32_t *word = &gp.head->tree.lock;
    if ((gp_get(word) & ~GP_LOCK_WAITERS) != GP_CORONER_WORD) return true;
    struct ending e = {false, false};
    do {
        e.any = false;
        gp_heap_each(end_one, &e);
    } while (e.any && !e.ends);
    gp_heap_each(unlink_all, NULL);
    gp_heap_each(link_one, NULL);
    gp_repair_unlock(&gp.head->tree);
    return !e.ends;
}
