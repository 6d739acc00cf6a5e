/* channel.c - the channel protocol: Go's hchan (runtime/chan.go) in shared memory, with a journal.
 *
 * One lock, a ring, and two FIFO queues of waiting sudogs. As in Go, an operation satisfies a waiter, else
 * uses the buffer, else waits. A value for a waiting receiver goes straight into its sudog. A receive from a
 * full channel moves the first waiting sender's value into the ring. The woken side needs no acknowledgement:
 * the winner of the CAS on waiter.state has decided the operation, in one step, for both sides.
 *
 * Every transition is: journal the intent, ONE atomic COMMIT, finish (owner tag, unlink), clear the journal,
 * tell the peer. Two orders carry the recovery. (O1) The journal is cleared before the inbox bit is set, so a
 * peer never runs ahead of a record about its sudog. (O2) A goroutine that leaves park in any way but by its
 * inbox bit takes the lock of the fired case once before it reads its sudog: so it waits until a peer (or the
 * coroner) has finished. A goroutine that also waits for a timer does so in any case, as the bit may be the
 * timer's.
 *
 * Rejected: lock-free rings (a producer killed between claim and publish stops every consumer; select,
 * rendezvous and close need the lock path anyway) and robust mutexes (see lock.c). Under the lock: no Python,
 * no allocation, no system call.
 */
#include "chan/chan.h"

/* The invariant whenever the lock is free: the ring is within its bounds, and no waiter waits that could go
 * on. */
static inline bool consistent(const struct gp_object *c) {
    uint64_t used = gp_get(&c->tail) - gp_get(&c->head);
    if (used > c->cap) return false;
    if (gp_get(&c->flags) & (GP_OBJ_CLOSED | GP_OBJ_LAZY)) return true;
    return (used == 0 || gp_queued(c, false) == 0) && (used == c->cap || gp_queued(c, true) == 0);
}

/* ---- one step each, under the lock */

enum gp_result gp_chan_put(struct gp_object *c, const struct gp_message *m) {
    gp_ref self = gp_ref_of(c);
    GP_ASSERT(gp_locked(c) && consistent(c));
    if (GP_UNLIKELY(gp_get(&c->flags) & GP_OBJ_CLOSED)) return GP_CLOSED;
    for (uint32_t sd; GP_UNLIKELY((sd = gp_get(&c->recvq_first)) != 0);) {
        struct gp_sudog *s = gp_sudog_at(sd);
        uint32_t proc = s->proc, waiter = s->waiter;
        gp_intent_handoff(self, sd, m->block, s->epoch);
        s->msg = *m; /* means nothing before the CAS */
        bool won = gp_fire(c, sd, GP_W_FIRED); /* COMMIT */
        if (won) {
            if (m->block) gp_own(m->block, gp_tag_of(proc));
            if (GP_UNLIKELY(gp_get(&c->flags) & GP_OBJ_ONCE)) atomic_fetch_or(&c->flags, GP_OBJ_DONE);
            gp_unlink(c, sd);
        }
        gp_done();
        if (won) {
            gp_tell(proc, waiter);
            return GP_OK;
        }
    }
    uint64_t head = gp_get(&c->head), tail = gp_get(&c->tail);
    uint32_t cap = c->cap; /* read once: in damaged memory the message itself may change it */
    if (tail - head >= cap) return GP_BLOCK;
    struct gp_message *slots = gp_slots(c);
    slots[tail % cap] = *m;
    gp_intent_bufput(self, m->block, tail);
    gp_release(&c->tail, tail + 1); /* COMMIT */
    if (m->block) gp_own(m->block, GP_TAG(GP_TAG_CHAN, self));
    gp_done();
    __builtin_prefetch(&slots[(tail + 2) % cap], 1);
    return GP_OK;
}

/* Senders that still wait when the channel is closed lose their values, as in Go, also while close() goes
 * through them. */
static uint32_t first_sender(const struct gp_object *c) {
    return gp_get(&c->flags) & GP_OBJ_CLOSED ? 0 : gp_get(&c->sendq_first);
}

/* after a receive made room: the first waiting senders' values move up into the ring */
static void promote(struct gp_object *c) {
    gp_ref self = gp_ref_of(c);
    for (uint32_t sd; (sd = first_sender(c)) != 0;) {
        uint64_t tail = gp_get(&c->tail);
        uint32_t cap = c->cap;
        if (tail - gp_get(&c->head) >= cap) return;
        struct gp_sudog *s = gp_sudog_at(sd);
        uint32_t proc = s->proc, waiter = s->waiter;
        gp_ref block = s->msg.block;
        gp_slots(c)[tail % cap] = s->msg;
        gp_intent_promote(self, sd, block, s->epoch, tail);
        bool won = gp_fire(c, sd, GP_W_FIRED); /* COMMIT: the sender is told "sent" */
        if (won) {
            gp_release(&c->tail, tail + 1);
            if (block) gp_own(block, GP_TAG(GP_TAG_CHAN, self));
            gp_unlink(c, sd);
        }
        gp_done();
        if (won) gp_tell(proc, waiter);
    }
}

enum gp_result gp_chan_take(struct gp_object *c, struct gp_message *m) {
    gp_ref self = gp_ref_of(c);
    GP_ASSERT(gp_locked(c) && consistent(c));
    uint64_t head = gp_get(&c->head);
    if (GP_LIKELY(gp_buffered(c) != 0)) {
        const struct gp_message *slots = gp_slots(c);
        uint32_t cap = c->cap;
        if (GP_UNLIKELY(cap == 0)) gp_damaged("a channel's capacity", cap);
        *m = slots[head % cap];
        gp_intent_bufget(self, m->block, head);
        gp_release(&c->head, head + 1); /* COMMIT */
        if (m->block) gp_own(m->block, gp_my_tag());
        gp_done();
        __builtin_prefetch(&slots[(head + 2) % cap]);
        if (GP_UNLIKELY(gp_get(&c->sendq_first) != 0)) promote(c);
        return GP_OK;
    }
    for (uint32_t sd; (sd = first_sender(c)) != 0;) {
        struct gp_sudog *s = gp_sudog_at(sd);
        uint32_t proc = s->proc, waiter = s->waiter;
        *m = s->msg; /* before the CAS, after which the sender may reuse its sudog */
        gp_intent_take(self, sd, m->block, s->epoch);
        bool won = gp_fire(c, sd, GP_W_FIRED); /* COMMIT */
        if (won) {
            if (m->block) gp_own(m->block, gp_my_tag());
            gp_unlink(c, sd);
        }
        gp_done();
        if (won) {
            gp_tell(proc, waiter);
            return GP_OK;
        }
    }
    uint16_t flags = gp_get(&c->flags);
    if (flags & GP_OBJ_TIMER) return gp_timer_take(c, m);
    return flags & GP_OBJ_CLOSED ? GP_CLOSED : GP_BLOCK;
}

/* ---- operations */

enum gp_result gp_chan_send(struct gp_object *c, const struct gp_message *m) {
    gp_lock(c);
    enum gp_result r = gp_chan_put(c, m);
    gp_unlock(c);
    gp_ring();
    return r;
}

enum gp_result gp_chan_recv(struct gp_object *c, struct gp_message *m) {
    gp_lock(c);
    enum gp_result r = gp_chan_take(c, m);
    gp_unlock(c);
    gp_ring();
    return r;
}

bool gp_chan_close(struct gp_object *c) {
    gp_lock(c);
    uint16_t flags = gp_get(&c->flags);
    if (!(flags & GP_OBJ_CLOSED)) {
        gp_release(&c->flags, (uint16_t)(flags | GP_OBJ_CLOSED)); /* COMMIT */
        gp_fire_all(c, GP_W_CLOSED, true);
    }
    gp_unlock(c);
    gp_ring();
    return !(flags & GP_OBJ_CLOSED);
}

/* ---- a look without the lock
 *
 * A receive first moves `head`. If that makes room for a waiting sender, the receive then moves `tail`, and
 * takes the sender out of the queue. In between the buffer is empty, and the channel is not. So the queue is
 * read between the two ends of the buffer. These only grow: if they are equal, they were equal when the queue
 * was read. */

bool gp_chan_seems_empty(const struct gp_object *c) {
    uint64_t head = gp_acquire(&c->head);
    bool waits = gp_acquire(&c->sendq_first) != 0;
    return !waits && gp_acquire(&c->tail) == head;
}

uint64_t gp_chan_len(struct gp_object *c) {
    uint64_t head = gp_acquire(&c->head);
    bool waits = gp_acquire(&c->sendq_first) != 0;
    uint64_t tail = gp_acquire(&c->tail);
    if (!waits && gp_acquire(&c->head) == head && tail - head <= c->cap) return tail - head;
    gp_lock(c);
    uint64_t n = gp_buffered(c);
    gp_unlock(c);
    return n;
}

/* ---- cells: python/cell.c */

void gp_cell_get(struct gp_object *c, struct gp_message *m) {
    gp_lock(c);
    uint64_t tail = gp_get(&c->tail);
    if (gp_buffered(c) == 0) *m = (struct gp_message){.codec = GP_CODEC_NONE};
    else *m = gp_slots(c)[(tail - 1) % c->cap];
    gp_unlock(c);
}

static bool has_both(const struct gp_object *c) { return gp_get(&c->tail) - gp_get(&c->head) == c->cap; }

unsigned gp_cell_set(struct gp_object *c, const struct gp_message *m, struct gp_message old[2]) {
    unsigned n = 0;
    gp_lock(c);
    if (has_both(c)) gp_chan_take(c, &old[n++]); /* an owner has died in between */
    gp_chan_put(c, m);
    if (has_both(c)) gp_chan_take(c, &old[n++]);
    gp_unlock(c);
    gp_ring();
    return n;
}

/* ---- the end of messages and channels */

static enum gp_garbage garbage_dropped;

enum gp_garbage gp_garbage_dropped(void) {
    enum gp_garbage was = garbage_dropped;
    garbage_dropped = GP_NO_GARBAGE;
    return was;
}

/* Note whether this message holds the last reference to garbage: see gp_garbage_dropped(). First it lists
 * nothing any more: a process that drops the last handle meanwhile either finds that in its collection, or
 * has dropped the handle before the look. */
static void look_at_handles(gp_ref block) {
    const struct gp_handles *list = (const struct gp_handles *)gp_payload(block);
    uint64_t room = gp_len(block) / 4;
    atomic_fetch_and(&((struct gp_block *)gp_at(block))->len,
                     ~((uint64_t)GP_BLOCK_HANDLES << GP_BLOCK_FLAGS_AT));
    for (uint32_t i = 0; i < list->count && i + 1 < room; i++) {
        if (!list->object[i] || !gp_object_check(list->object[i])) continue;
        struct gp_object *o = gp_at(list->object[i]);
        bool failure = gp_outcome_unread(o);
        if ((!failure && gp_get(&o->kind) != GP_KIND_COPY) || !gp_unheld(o)) continue;
        if (failure) garbage_dropped = GP_A_FAILURE;
        else if (garbage_dropped == GP_NO_GARBAGE) garbage_dropped = GP_A_COPY;
    }
}

void gp_message_drop(const struct gp_message *m) {
    gp_ref block = m->block;
    uint64_t capacity;
    if (!block || !gp_block_check(block, &capacity)) return;
    bool lists = gp_flags(block) & GP_BLOCK_HANDLES;
    if (m->codec == GP_CODEC_PICKLE) {
        char *at = gp_payload(block);
        uint64_t len = gp_len(block), skip = 0;
        if (lists) skip = gp_handles_bytes(((struct gp_handles *)at)->count);
        struct gp_pickle *p = (struct gp_pickle *)(at + skip);
        if (skip + sizeof *p <= len)
            for (uint32_t i = 0; i < p->buffers && skip + sizeof *p + 4ULL * (i + 1) <= len; i++)
                if (gp_block_check(p->buffer[i], &capacity) &&
                    gp_tag(p->buffer[i]) == GP_TAG(GP_TAG_PART, block))
                    gp_free(p->buffer[i]);
    }
    if (lists) look_at_handles(block);
    gp_free(block);
}

/* Drop a message of an object. A process that began to drop the object may have died: then a block that does
 * not belong to the object any more was freed, and may be in use elsewhere. */
static void drop_of(const struct gp_message *m, uint64_t owner) {
    if (m->block && gp_tag(m->block) == owner) gp_message_drop(m);
}

void gp_chan_drop(struct gp_object *c) {
    uint64_t owner = GP_TAG(GP_TAG_CHAN, gp_ref_of(c));
    if (c->ring && gp_tag(c->ring) == owner) {
        uint32_t cap = c->cap;
        for (uint64_t i = gp_get(&c->head), n = gp_buffered(c); n > 0; i++, n--)
            drop_of(&gp_slots(c)[i % cap], owner);
        gp_free(c->ring);
    } else {
        gp_outcome_drop(c); /* the cause of a context */
    }
}

void gp_outcome_drop(struct gp_object *o) {
    uint64_t owner = GP_TAG(GP_TAG_RESULT, gp_ref_of(o));
    /* a promise without an outcome */
    gp_ref block = o->ring ? o->ring : gp_get(&o->flags) & GP_OBJ_PROMISE ? o->task : 0;
    if (!block || gp_tag(block) != owner) return;
    drop_of(gp_stored(block), owner);
    gp_free(block);
}
