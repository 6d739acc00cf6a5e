/* crash_checks.c - what must hold in the image of a segment after a repair: its invariants, and that it can be used. */
#include "crash_image.h"

/* ---- invariants of an image */

struct count {
    gp_ref block;
    uint32_t seen;
};
static uint32_t tasks_seen, tasks_counted, tasks_placed;
static struct count known[4096];
static uint32_t n_known;

static void note(gp_ref block) {
    for (uint32_t i = 0; i < n_known; i++)
        if (known[i].block == block) {
            known[i].seen++;
            return;
        }
    if (n_known < 4096) known[n_known++] = (struct count){block, 1};
}

static uint32_t seen(gp_ref block) {
    for (uint32_t i = 0; i < n_known; i++)
        if (known[i].block == block) return known[i].seen;
    return 0;
}

static bool told(uint32_t proc, uint32_t i) {
    const _Atomic uint64_t *word = (const _Atomic uint64_t *)(gp_part_at(proc) + GP_PART_INBOX) + i / 64;
    return gp_get(word) >> (i % 64) & 1 || (gp_get(&gp_proc_at(proc)->rescan) && gp_get(&gp.head->scans));
}

static uint32_t check_queue(const struct gp_object *o, bool send, uint32_t *waiting) {
    uint32_t first = gp_get(send ? &o->sendq_first : &o->recvq_first), last = gp_get(send ? &o->sendq_last : &o->recvq_last);
    uint32_t prev = 0, n = 0;
    *waiting = 0;
    for (uint32_t sd = first; sd; sd = gp_get(&gp_sudog_at(sd)->next)) {
        const struct gp_sudog *s = gp_sudog_at(sd);
        uint64_t state = gp_get(&gp_waiter_at(s->proc, s->waiter)->state);
        if (++n > 1000) {
            wrong("a queue of object %x has no end", gp_ref_of(o));
            return n;
        }
        if (s->proc == VICTIM) wrong("the dead one waits at object %x", gp_ref_of(o));
        if (s->object != gp_ref_of(o) || !s->linked || gp_get(&s->prev) != prev)
            wrong("a damaged queue at object %x", gp_ref_of(o));
        if (GP_W_TAG(state) == GP_W_WAITING && GP_W_EPOCH(state) == s->epoch) ++*waiting;
        if (GP_W_TAG(state) >= GP_W_FIRED && GP_W_TAG(state) != GP_W_CANCELLED && GP_W_EPOCH(state) == s->epoch &&
            GP_W_CASE(state) == s->cas)
            wrong("a waiter that was fired stays in the queue of object %x", gp_ref_of(o));
        prev = sd;
    }
    if (last != prev) wrong("the last of a queue of object %x is not", gp_ref_of(o));
    return n;
}

static void check_context(const struct gp_object *c) {
    uint32_t parent = gp_get(&c->ctx_parent);
    if (parent && gp_get(&((struct gp_object *)gp_at(parent))->flags) & GP_OBJ_CLOSED && !(gp_get(&c->flags) & GP_OBJ_CLOSED))
        wrong("a context goes on whose parent has ended");
}

static void check_timer(const struct gp_object *c) {
    for (uint32_t sd = gp_get(&c->recvq_first); sd; sd = gp_get(&gp_sudog_at(sd)->next)) {
        const struct gp_sudog *s = gp_sudog_at(sd);
        if (gp_get(&c->value) && !gp_get(&gp_waiter_at(s->proc, s->waiter)->rethink))
            wrong("a timer was set, and a waiter does not know");
    }
}

static void check_channel(const struct gp_object *c) {
    if (gp_get(&c->flags) & GP_OBJ_CONTEXT) check_context(c);
    if (gp_get(&c->flags) & GP_OBJ_TIMER) check_timer(c);
    uint64_t head = gp_get(&c->head), tail = gp_get(&c->tail);
    uint32_t receivers, senders = 0;
    check_queue(c, false, &receivers);
    if (!(gp_get(&c->flags) & GP_OBJ_CONTEXT)) check_queue(c, true, &senders);
    if (tail - head > c->cap) wrong("%llu messages in a channel of %u", (unsigned long long)(tail - head), c->cap);
    if (receivers && (tail > head || senders)) wrong("a receiver waits for what is there");
    if (senders && tail - head < c->cap) wrong("a sender waits, and there is room");
    if (gp_get(&c->flags) & GP_OBJ_CLOSED && (receivers || senders)) wrong("somebody waits at a closed channel");
    for (uint64_t i = head; i != tail; i++) {
        const struct gp_message *m = (struct gp_message *)((char *)gp_at(c->ring) + 64) + i % c->cap;
        if (m->block && gp_tag(m->block) != GP_TAG(GP_TAG_CHAN, gp_ref_of(c))) wrong("a message in a ring is another's");
        if (m->block) note(m->block);
    }
    if (c->ring) note(c->ring);
}

static void check_shares(const struct gp_object *o) {
    int64_t sum = gp_shares_sum(o), value = gp_get(&o->value);
    if (gp_get(&o->kind) == GP_KIND_SEMAPHORE) sum += (int64_t)gp_get(&o->tail);
    if (gp_get(&gp_shares(o)[VICTIM])) wrong("the dead one has a share");
    if (gp_get(&o->kind) == GP_KIND_SEMAPHORE ? value + sum != (int64_t)gp_get(&o->size) : value >= 0 && value != sum)
        wrong("shares %lld, value %lld", (long long)sum, (long long)value);
    note(o->ring);
}

static void check_copy(const struct gp_object *o) {
    const struct gp_message *m = (const struct gp_message *)gp_payload(o->ring);
    if (gp_get(&o->state) != GP_G_OK) wrong("a copy that nobody finishes");
    note(m->block);
}

static void check_object(struct gp_object *o) {
    uint32_t waiting, kind = gp_get(&o->kind);
    if (gp_get(&o->lock)) wrong("object %x stays locked by %x", gp_ref_of(o), gp_get(&o->lock));
    if (gp_get(&o->holders[0]) >> VICTIM & 1) wrong("the dead one holds object %x", gp_ref_of(o));
    switch (kind) {
    case GP_KIND_CHAN: check_channel(o); return;
    case GP_KIND_SEMAPHORE:
    case GP_KIND_RWMUTEX: check_shares(o); break;
    default: break;
    }
    check_queue(o, false, &waiting);
    if (kind == GP_KIND_RWMUTEX) {
        uint32_t writers;
        check_queue(o, true, &writers);
        if (gp_get(&o->value) == 0 && writers + waiting) wrong("somebody waits for an rwmutex that is free");
    }
    if (kind == GP_KIND_MUTEX && waiting && (gp_get(&o->value) == 0 || gp_repair_died(gp_get(&o->owner))) &&
        !(gp_get(&o->flags) & GP_OBJ_WOKEN))
        wrong("nobody is woken for a mutex that is free");
    if (kind == GP_KIND_WAITGROUP && waiting && gp_get(&o->value) == 0) wrong("somebody waits for a wait group at zero");
    if (kind == GP_KIND_OUTCOME && waiting && gp_is_done(o)) wrong("somebody waits for an end that has come");
    bool promise = gp_get(&o->flags) & GP_OBJ_PROMISE;
    if (promise && !o->ring) note(o->task);
    if (promise && gp_get(&o->proc) == VICTIM + 1 && !gp_is_done(o)) wrong("a promise of the dead one is not broken");
    if (kind == GP_KIND_SEMAPHORE && waiting && (int64_t)gp_sudog_at(gp_get(&o->recvq_first))->n <= gp_get(&o->value))
        wrong("somebody waits for units that are free");
    if (kind == GP_KIND_BARRIER && gp_get(&o->value) != (int64_t)waiting)
        wrong("a barrier counts %lld of %u", (long long)gp_get(&o->value), waiting);
    if ((kind == GP_KIND_OUTCOME || kind == GP_KIND_COPY) && o->ring) note(o->ring);
    if (kind == GP_KIND_OUTCOME && shared->again && o->ring) note(((const struct gp_message *)gp_payload(o->ring))->block);
    if (kind == GP_KIND_COPY) check_copy(o);
}

/* Garbage in the middle of its end: it is dropped as far as it still has something. */
static bool garbage(const struct gp_object *o) { return gp_get(&o->holders[0]) == 0 && gp_get(&o->kind) == GP_KIND_CHAN; }

static void forgive(const struct gp_object *o) {
    uint64_t owner = GP_TAG(GP_TAG_CHAN, gp_ref_of(o));
    if (!o->ring || gp_tag(o->ring) != owner) return;
    note(o->ring);
    for (uint64_t i = gp_get(&o->head); i != gp_get(&o->tail); i++) {
        const struct gp_message *m = (struct gp_message *)((char *)gp_at(o->ring) + 64) + i % o->cap;
        if (gp_tag(m->block) == owner) note(m->block);
    }
}

static void visit_object(struct gp_block *b, bool is_object, uint64_t bytes, void *arg) {
    (void)bytes;
    (void)arg;
    struct gp_object *o = (struct gp_object *)b;
    if (is_object && gp_get(&o->kind) == 0) wrong("an object that is nothing");
    else if (is_object && garbage(o)) forgive(o);
    else if (is_object) check_object(o);
}

static void visit_block(struct gp_block *b, bool is_object, uint64_t bytes, void *arg) {
    uint64_t tag = gp_get(&b->tag), dead = *(uint64_t *)arg;
    gp_ref ref = gp_ref_of(b);
    (void)bytes;
    if (is_object) return;
    if (tag == dead) wrong("block %x is the dead one's", ref);
    unsigned kind = GP_TAG_KIND(tag);
    if (kind == GP_TAG_CHAN && seen(ref) != 1) wrong("block %x of a channel is there %u times", ref, seen(ref));
    if (kind == GP_TAG_QUEUE && seen(ref) != 1) wrong("task %x is %u times in queues", ref, seen(ref));
    if (kind == GP_TAG_RESULT && seen(ref) != 1) wrong("outcome %x is there %u times", ref, seen(ref));
    if (kind == GP_TAG_PART && gp_tag((gp_ref)GP_TAG_VALUE(tag)) == 0) wrong("block %x is a part of nothing", ref);
}

static void check_queue_of_tasks(uint32_t proc) {
    const struct gp_queue *q = &gp_proc_at(proc)->queue;
    if (gp_get(&q->lock)) wrong("the queue of proc %u stays locked", proc);
    for (int pinned = 0; pinned < 2; pinned++)
        for (uint32_t n = gp_get(pinned ? &q->pinned_head : &q->head); n != gp_get(pinned ? &q->pinned_tail : &q->tail); n++) {
            gp_ref task = gp_task_slot(proc, pinned, n);
            const struct gp_task *t = (const struct gp_task *)((char *)gp_at(task) + GP_BLOCK_HEAD);
            tasks_seen++;
            tasks_counted += gp_get(&t->tracker[GP_TRACK_COUNT]) != 0;
            tasks_placed += gp_get(&t->tracker[GP_TRACK_PLACE]) != 0;
            if (gp_tag(task) != GP_TAG(GP_TAG_QUEUE, proc + 1))
                wrong("task %x in the queue of proc %u has another owner", task, proc);
            note(task);
        }
}

static uint32_t exclusive; /* locks that were granted; no scenario has more than one */

/* The peer was fired by this case: what that gave it is there. */
static void check_gain(const struct gp_sudog *s) {
    struct gp_object *o = gp_at(s->object);
    uint32_t incarnation = gp_get(&gp_proc_at(PEER)->incarnation), word = incarnation << 10 | (PEER + 1);
    uint64_t tag = GP_TAG(GP_TAG_PROC, (uint64_t)incarnation << 16 | (PEER + 1));
    switch (gp_get(&o->kind)) {
    case GP_KIND_CHAN:
        if (gp_get(&o->flags) & GP_OBJ_LAZY || !s->msg.block) return;
        if (!s->send && gp_tag(s->msg.block) != tag) wrong("a message that was received is not the receiver's");
        if (s->send && gp_tag(s->msg.block) == tag) wrong("a message that was sent is the sender's");
        return;
    case GP_KIND_MUTEX:
        exclusive++;
        if (gp_get(&o->value) != 1 || gp_get(&o->owner) != word) wrong("a mutex was granted to somebody who does not have it");
        return;
    case GP_KIND_RWMUTEX:
        exclusive += s->send;
        if (s->send ? gp_get(&o->value) != -1 || gp_get(&o->owner) != word : gp_get(&gp_shares(o)[PEER]) < 1)
            wrong("an rwmutex was granted to somebody who does not have it");
        return;
    case GP_KIND_SEMAPHORE:
        if (gp_get(&gp_shares(o)[PEER]) < (int64_t)s->n) wrong("units were granted to somebody who does not have them");
        return;
    default: return;
    }
}

static void check_gains(void) {
    exclusive = 0;
    for (uint32_t i = 0; i < gp_get(&gp_proc_at(PEER)->waiters_used) + gp_get(&gp_proc_at(PEER)->sudogs_used); i++) {
        uint32_t waiters = gp_get(&gp_proc_at(PEER)->waiters_used);
        const struct gp_sudog *s = gp_sudog_at(gp_sudog_ref(PEER, i < waiters ? i : gp.waiters + i - waiters));
        if (!s->object) continue;
        if (s->linked && !gp_repair_linked(gp_at(s->object), gp_sudog_ref(PEER, i < waiters ? i : gp.waiters + i - waiters)))
            wrong("a waiter believes that it is in a queue");
        uint64_t state = gp_get(&gp_waiter_at(PEER, s->waiter)->state);
        if (GP_W_TAG(state) == GP_W_FIRED && GP_W_EPOCH(state) == s->epoch && GP_W_CASE(state) == s->cas) check_gain(s);
    }
    if (exclusive > 1) wrong("%u have the same lock", exclusive);
}

static void check_waiters(void) {
    for (uint32_t i = 0; i < gp_get(&gp_proc_at(PEER)->waiters_used); i++) {
        uint64_t state = gp_get(&gp_waiter_at(PEER, i)->state);
        unsigned tag = GP_W_TAG(state);
        if (tag != GP_W_IDLE && tag != GP_W_WAITING && tag != GP_W_CANCELLED && !shared->threads && !told(PEER, i))
            wrong("waiter %u is fired, and not told", i);
    }
}

static void check_pages(void) {
    for (uint32_t p = 0; p < PROCS; p++)
        for (uint32_t page = gp_first_page();; page++) {
            uint32_t cls = gp_get(&gp_page_at(gp_arena_at(p), page)->cls);
            if (cls == 0) break;
            if ((cls & 0xff) == GP_CLASS_TAKING) wrong("page %u of proc %u is being taken", page, p);
        }
}

void check(uint64_t dead) {
    n_known = tasks_seen = tasks_counted = tasks_placed = 0;
    for (uint32_t p = 0; p < PROCS; p++) check_queue_of_tasks(p);
    gp_heap_each(visit_object, NULL);
    gp_heap_each(visit_block, &dead);
    check_waiters();
    check_gains();
    check_pages();
    if (shared->tasks && tasks_seen != shared->tasks) wrong("%u tasks of %u", tasks_seen, shared->tasks);
    if (shared->counted && gp_get(&object(0)->value) != 1 + (int64_t)tasks_counted)
        wrong("%lld are counted, and %u tasks know", (long long)gp_get(&object(0)->value), tasks_counted);
    if (shared->places && gp_get(&object(0)->tail) != tasks_placed)
        wrong("%llu units are taken, and %u tasks have one", (unsigned long long)gp_get(&object(0)->tail), tasks_placed);
    struct gp_header *h = gp.head;
    if (gp_get(&h->tree.lock) || gp_get(&h->collecting) || gp_get(&h->reclaiming)) wrong("a lock of the header is held");
    if ((gp_get(&h->idle[0]) | gp_get(&h->searching[0])) >> VICTIM & 1) wrong("the dead one counts as idle or searching");
    uint64_t values = shared->cell ? gp_get(&object(0)->tail) - gp_get(&object(0)->head) : 1;
    if (values < 1 || values > 2) wrong("a cell has %llu values", (unsigned long long)values);
    bool ended = gp_get(&object(0)->state) == GP_G_OK;
    if (shared->again && tasks_seen != !ended)
        wrong("a goroutine has state %u, and is %u times in queues", gp_get(&object(0)->state), tasks_seen);
    if (gp_get(&h->live) != 2) wrong("%u processes count as live", gp_get(&h->live));
}

/* ---- the image is used: what is in channels comes out once, new messages go through */

void use(bool may_allocate) {
    uint64_t ids[64];
    uint32_t n = 0;
    for (int i = 0; i < MANY && shared->object[i]; i++) {
        struct gp_object *o = object(i);
        if (gp_get(&o->kind) != GP_KIND_CHAN || gp_get(&o->flags) & GP_OBJ_LAZY) continue;
        struct gp_message m;
        while (gp_chan_recv(o, &m) == GP_OK) {
            uint64_t id = 0;
            if (m.block) memcpy(&id, gp_payload(m.block), 8);
            if (id == 0 || id > shared->ids) wrong("a message that nobody sent");
            for (uint32_t k = 0; k < n; k++)
                if (ids[k] == id) wrong("message %llu came twice", (unsigned long long)id);
            if (n < 64) ids[n++] = id;
        }
        if (may_allocate && o->cap && !(gp_get(&o->flags) & GP_OBJ_CLOSED)) {
            put(i); /* to the peer, if that waits */
            if (gp_chan_recv(o, &m) == GP_OK) gp_free(m.block);
        }
    }
}
