/* crash_image.c - a process dies at every instruction of an operation, and each state that it would leave is repaired.
 *
 *     crash_image SCENARIO...      all of them without arguments; prints a line each, and what is wrong
 *
 * A victim (proc 1) runs one operation under ptrace, one instruction at a time. A peer (proc 2) has been made to wait, and
 * sleeps. After each instruction this process, which is the host, sees the segment through a private mapping: a copy, as
 * far as it writes there. On it the coroner's repair runs as if the victim had died just then; the result is checked
 * against the invariants, and used: by the host, and by a replacement of the victim. Then the copy is thrown away.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../goproc/shm/mem/pages.h"
#include "../../goproc/shm/proc/repair.h"

enum { VICTIM = 1, PEER = 2, PROCS = 3, MANY = 70 };

struct shared { /* by all processes of a scenario */
    gp_ref object[MANY + 8];
    gp_ref task[8];
    uint64_t ids; /* of messages made */
    uint32_t waiter[8];
    int peers;
    uint32_t tasks; /* that are in queues whatever the victim does; 0: not known */
    uint32_t collector; /* of the peer: */
    bool watches, threads;
    bool counted;   /* object 0 counts one, and the tasks that it tracks */
    bool places;    /* object 0 is a semaphore: `tail` counts the tasks that have a unit */
    bool again;     /* the goroutine of object 0 has an outcome, or starts again */
    bool sleeps;    /* the peer does */
    bool cell;      /* object 0 is one, and is never empty */
};

static struct shared *shared;
static int failures;
static long images;
static const char *scenario_name;
static long instruction;

static void wrong(const char *format, ...) {
    va_list args;
    if (failures++ >= 2000) return;
    printf("WRONG %s, instruction %ld: ", scenario_name, instruction);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    if (getenv("FIRST")) _exit(1); /* the first one will do; the children die with this process */
}

static const _Atomic uint32_t *woken; /* the last word that was woken */
void __real_gp_futex_wake(_Atomic uint32_t *word, int count);
void __wrap_gp_futex_wake(_Atomic uint32_t *word, int count) {
    woken = word;
    __real_gp_futex_wake(word, count);
}

static struct gp_object *object(int i) { return gp_at(shared->object[i]); }

/* ---- what the processes do */

static gp_ref new_object(enum gp_kind kind, uint32_t cap) {
    gp_ref ref = gp_object_alloc(kind);
    struct gp_object *o = gp_at(ref);
    atomic_fetch_or(&o->holders[0], 7); /* all three have a handle */
    gp_set(&o->flags, GP_OBJ_SHARED);
    o->cap = cap;
    if (kind == GP_KIND_CHAN && cap) {
        o->ring = gp_alloc(cap * sizeof(struct gp_message), GP_BLOCK_ALIGNED);
        gp_own(o->ring, GP_TAG(GP_TAG_CHAN, ref));
    }
    if (kind == GP_KIND_SEMAPHORE || kind == GP_KIND_RWMUTEX) {
        o->ring = gp_alloc(PROCS * sizeof(int64_t), 0);
        memset(gp_payload(o->ring), 0, PROCS * sizeof(int64_t));
        gp_own(o->ring, GP_TAG(GP_TAG_CHAN, ref));
    }
    if (kind == GP_KIND_SEMAPHORE) {
        gp_set(&o->size, cap);
        gp_set(&o->value, cap);
    }
    return ref;
}

static struct gp_message message(void) {
    struct gp_message m = {.codec = GP_CODEC_BYTES};
    m.block = gp_alloc(8, 0);
    uint64_t id = ++shared->ids;
    memcpy(gp_payload(m.block), &id, 8);
    return m;
}

static void put(int i) {
    struct gp_message m = message();
    if (gp_chan_send(object(i), &m) != GP_OK) abort();
}

static void wait_in(struct gp_case *cases, uint32_t n) {
    uint32_t poll[MANY], lock[MANY];
    struct gp_select s = {.cases = cases, .n = n, .poll = poll, .lock = lock};
    enum gp_result r;
    int64_t waiter = gp_waiter_alloc(false);
    if (n >= GP_JOURNAL_LOCKS) s.spill = gp_alloc(4 * n, 0);
    if (n == 1) {
        gp_case_try_or_wait(cases, (uint32_t)waiter);
    } else {
        for (uint32_t i = 0; i < n; i++) cases[i].sudog = (uint32_t)gp_sudog_alloc();
        gp_select(&s, waiter, &r);
    }
    shared->waiter[shared->peers++] = (uint32_t)waiter;
}

static void wait_for(int i, enum gp_op_kind kind, uint64_t n) {
    struct gp_case *c = calloc(1, sizeof *c);
    *c = (struct gp_case){.o = object(i), .kind = (uint8_t)kind, .n = n};
    if (kind == GP_SEND) c->m = message();
    wait_in(c, 1);
}

static void select_for(enum gp_op_kind kind, uint32_t n) {
    struct gp_case *c = calloc(n, sizeof *c);
    for (uint32_t i = 0; i < n; i++) {
        c[i] = (struct gp_case){.o = object((int)i), .kind = (uint8_t)kind, .number = i};
        if (kind == GP_SEND) c[i].m = message();
    }
    wait_in(c, n);
}

static gp_ref new_task(bool pinned) {
    gp_ref ref = gp_alloc(sizeof(struct gp_task), GP_BLOCK_TASK), o = new_object(GP_KIND_GOROUTINE, 0);
    struct gp_task *t = (struct gp_task *)((char *)gp_at(ref) + GP_BLOCK_HEAD);
    memset(t, 0, sizeof *t);
    gp_set(&t->started, GP_UNMADE);
    t->object = o;
    t->gen = gp_get(&((struct gp_object *)gp_at(o))->gen);
    ((struct gp_object *)gp_at(o))->task = ref;
    t->pinned = pinned;
    t->call.codec = GP_CODEC_BYTES;
    t->call.block = gp_alloc(8, 0);
    gp_own(t->call.block, GP_TAG(GP_TAG_PART, ref));
    gp_set(&t->started, GP_UNSTARTED);
    return ref;
}

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
        if (s->object != gp_ref_of(o) || !s->linked || gp_get(&s->prev) != prev) wrong("a damaged queue at object %x", gp_ref_of(o));
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
        if (gp_get(&c->value) && !gp_get(&gp_waiter_at(s->proc, s->waiter)->rethink)) wrong("a timer was set, and a waiter does not know");
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
    if (kind == GP_KIND_MUTEX && waiting && (gp_get(&o->value) == 0 || gp_repair_died(gp_get(&o->owner))) && !(gp_get(&o->flags) & GP_OBJ_WOKEN))
        wrong("nobody is woken for a mutex that is free");
    if (kind == GP_KIND_WAITGROUP && waiting && gp_get(&o->value) == 0) wrong("somebody waits for a wait group at zero");
    if (kind == GP_KIND_GOROUTINE && waiting && gp_is_done(o)) wrong("somebody waits for an end that has come");
    bool promise = gp_get(&o->flags) & GP_OBJ_PROMISE;
    if (promise && !o->ring) note(o->task);
    if (promise && gp_get(&o->proc) == VICTIM + 1 && !gp_is_done(o)) wrong("a promise of the dead one is not broken");
    if (kind == GP_KIND_SEMAPHORE && waiting && (int64_t)gp_sudog_at(gp_get(&o->recvq_first))->n <= gp_get(&o->value))
        wrong("somebody waits for units that are free");
    if (kind == GP_KIND_BARRIER && gp_get(&o->value) != (int64_t)waiting) wrong("a barrier counts %lld of %u", (long long)gp_get(&o->value), waiting);
    if ((kind == GP_KIND_GOROUTINE || kind == GP_KIND_COPY) && o->ring) note(o->ring);
    if (kind == GP_KIND_GOROUTINE && shared->again && o->ring) note(((const struct gp_message *)gp_payload(o->ring))->block);
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
            if (gp_tag(task) != GP_TAG(GP_TAG_QUEUE, proc + 1)) wrong("task %x in the queue of proc %u has another owner", task, proc);
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
        if (tag != GP_W_IDLE && tag != GP_W_WAITING && tag != GP_W_CANCELLED && !shared->threads && !told(PEER, i)) wrong("waiter %u is fired, and not told", i);
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

static void check(uint64_t dead) {
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
    if (shared->again && tasks_seen != !ended) wrong("a goroutine has state %u, and is %u times in queues", gp_get(&object(0)->state), tasks_seen);
    if (gp_get(&h->live) != 2) wrong("%u processes count as live", gp_get(&h->live));
}

/* ---- the image is used: what is in channels comes out once, new messages go through */

static void use(bool may_allocate) {
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

/* ---- the image: this process sees it, and may write */

static void see(char *base, uint32_t proc) {
    gp.base = base;
    gp.head = (struct gp_header *)base;
    gp.proc = proc;
    gp.my = gp_proc_at(proc);
    gp.part = gp_part_at(proc);
    gp.arena = gp.heap_at + proc * gp.arena_bytes;
    gp.me = (gp_get(&gp.my->incarnation) & 0x1fffff) << 10 | (proc + 1);
}

static bool never(void) {
    wrong("the repair waits for a lock");
    return false;
}

/* A replacement attaches to the image, as gp_attach() has it. */
static void be_replacement(char *image) {
    see(image, VICTIM);
    uint32_t incarnation = gp_get(&gp.my->incarnation) + 1;
    gp_set(&gp.my->incarnation, incarnation);
    gp.me = (incarnation & 0x1fffff) << 10 | (VICTIM + 1);
    gp.memfd = -1;
    gp_heap_detach();
    if (gp_waiters_attach() < 0) wrong("no replacement can attach");
    gp_tell_attach();
    gp_idle_attach();
    gp_heap_attach();
    gp_release(&gp.my->state, GP_P_LIVE);
    for (int i = 0; i < 200; i++) {
        gp_ref small = gp_alloc(100, 0), large = i % 20 ? 0 : gp_alloc(100000, 0);
        if (!small || gp_tag(small) != gp_my_tag()) wrong("the replacement cannot allocate");
        if (i % 2 && small) gp_free(small);
        if (large) gp_free(large);
    }
    while (gp_task_pop(false));
    use(true);
    if (gp_waiter_alloc(false) < 0) wrong("no waiter for the replacement");
    _exit(failures ? 1 : 0);
}

/* The peer looks at its waiters, as look_at_waiters() in scheduler_calls.c does: each that was fired is in the stack, once. */
static void check_passed(char *image) {
    struct gp_object *o = object(0);
    bool free = gp_get(&o->value) == 0 || gp_repair_died(gp_get(&o->owner));
    uint32_t first = gp_get(&o->recvq_first);
    see(image, PEER);
    if (!free || !first || !(gp_get(&o->flags) & GP_OBJ_WOKEN)) return;
    gp_mutex_pass(o); /* the one that was woken gives up: the next one is */
    if (gp_get(&o->recvq_first) == first) wrong("nobody is woken in place of one that has given up");
}

static void check_watched(char *image) {
    uint32_t fired = 0, pushed = 0;
    see(image, PEER);
    for (uint32_t i = 0; i < gp_get(&gp.my->waiters_used); i++) {
        struct gp_waiter *w = gp_waiter_at(PEER, i);
        if (gp_get(&w->thread) != GP_WATCHED || GP_W_TAG(gp_get(&w->state)) <= GP_W_WAITING) continue;
        gp_watched_again(i);
        fired++;
    }
    struct gp_waiter *c = gp_waiter_at(PEER, shared->collector);
    for (uint32_t at = gp_get(&c->fired); at && pushed < 100; at = gp_get(&gp_waiter_at(PEER, at - 1)->next)) pushed++;
    if (pushed != fired) wrong("%u ended, %u are in the stack", fired, pushed);
    if (fired && GP_W_TAG(gp_get(&c->state)) != GP_W_FIRED) wrong("nobody collects what has ended");
}

static void check_threads(char *image) {
    uint32_t blocked = 0;
    see(image, PEER);
    gp_threads_recount();
    for (uint32_t i = 0; i < gp_get(&gp.my->waiters_used); i++)
        blocked += gp_get(&gp_waiter_at(PEER, i)->thread) == GP_THREAD_BLOCKED;
    if ((uint32_t)gp_get(&gp.my->threads) != blocked) wrong("%u threads of %u count as blocked", (uint32_t)gp_get(&gp.my->threads), blocked);
}

static void examine(char *real, char *image, uint64_t bytes, bool replace) {
    images++;
    madvise(image, bytes, MADV_DONTNEED); /* what an earlier repair wrote */
    struct gp_self self = gp;
    see(image, 0);
    gp.memfd = -1;
    uint64_t dead = GP_TAG(GP_TAG_PROC, (uint64_t)(gp_get(&gp_proc_at(VICTIM)->incarnation) & 0x1fffff) << 16 | (VICTIM + 1));
    struct gp_death how = {.proc = VICTIM, .pid = 1, .status = SIGKILL};
    struct gp_dead d = {.replaced = true};
    woken = NULL;
    gp_repair_note(VICTIM);
    if (shared->sleeps && woken != &gp_proc_at(PEER)->park) wrong("the peer sleeps on");
    if (!gp_repair(&d, &how, never)) wrong("the repair has ended early");
    gp_repair_over();
    check(dead);
    if (replace) {
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            failures = 0;
            be_replacement(image);
        }
        int status;
        waitpid(pid, &status, 0);
        if (status) wrong("the replacement ended with status %x", status);
    }
    if (gp_get(&object(0)->kind) == GP_KIND_MUTEX) check_passed(image);
    if (shared->watches) check_watched(image);
    if (shared->threads) check_threads(image);
    see(image, 0);
    use(false); /* what is private to this process, its free lists say, is for the real segment */
    gp = self;
    (void)real;
}

/* ---- scenarios */

struct scenario {
    const char *name;
    void (*host)(void);   /* makes the objects */
    void (*peer)(void);   /* waits */
    void (*before)(void); /* the victim's, at full speed */
    void (*op)(void);     /* step by step */
};

static void chans(int n, uint32_t cap) {
    for (int i = 0; i < n; i++) shared->object[i] = new_object(GP_KIND_CHAN, cap);
}
static void nothing(void) {}
static void one_unbuffered(void) { chans(1, 0); }
static void one_buffered(void) { chans(1, 2); }
static void three_unbuffered(void) { chans(3, 0); }
static void three_buffered(void) { chans(3, 2); }
static void many_unbuffered(void) { chans(MANY, 0); }
static void full(void) {
    chans(1, 2);
    put(0);
    put(0);
}
static void half(void) {
    chans(1, 2);
    put(0);
}
static void peer_receives(void) { wait_for(0, GP_RECV, 0); }
static void peer_sends(void) { wait_for(0, GP_SEND, 0); }
static void peer_sleeps(void) {
    peer_receives();
    gp_set(&gp.my->park, GP_PARKED);
    shared->sleeps = true;
}
static void peers_receive(void) {
    for (int i = 0; i < 3; i++) peer_receives();
}
static void peers_send(void) {
    for (int i = 0; i < 3; i++) peer_sends();
}
static void peer_gave_up(void) { /* its select was decided elsewhere: its place in the queue is stale */
    peer_receives();
    gp_waiter_cancel(shared->waiter[0]);
    peer_receives();
}
static void peer_selects_receive(void) { select_for(GP_RECV, 3); }
static void peer_selects_send(void) { select_for(GP_SEND, 3); }
static void send_once(void) {
    struct gp_message m = message();
    gp_chan_send(object(0), &m);
}
static void receive_once(void) {
    struct gp_message m;
    gp_chan_recv(object(0), &m);
}
static void receive_and_drop(void) {
    struct gp_message m;
    if (gp_chan_recv(object(0), &m) == GP_OK) gp_message_drop(&m);
}
static void wait_to_receive(void) { wait_for(0, GP_RECV, 0); }
static void wait_to_send(void) { wait_for(0, GP_SEND, 0); }
static void close_it(void) { gp_chan_close(object(0)); }
static void select_receive(void) { select_for(GP_RECV, 3); }
static void select_send(void) { select_for(GP_SEND, 3); }
static void select_many(void) { select_for(GP_RECV, MANY); }

static void a_cell(void) {
    half();
    shared->cell = true;
}
static void a_cell_of_two(void) { /* its owner has died in between */
    full();
    shared->cell = true;
}
static void set_cell(void) {
    struct gp_message m = message(), old[2];
    for (unsigned n = gp_cell_set(object(0), &m, old); n > 0; n--) gp_message_drop(&old[n - 1]);
}

static struct gp_case *mine;
static uint32_t my_waiter;
static void queue_mine(void) {
    mine = calloc(1, sizeof *mine);
    *mine = (struct gp_case){.o = object(0), .kind = GP_RECV};
    wait_in(mine, 1);
    my_waiter = shared->waiter[shared->peers - 1];
}
static void give_up_mine(void) {
    if (gp_case_cancel(mine, my_waiter)) gp_case_abandon(mine);
    gp_waiter_release(my_waiter);
}
static void in_the_middle(void) { /* of a queue, which others leave and enter */
    queue_mine();
}

/* sync */
static void make_sync(enum gp_kind kind, uint32_t cap) { shared->object[0] = new_object(kind, cap); }
static void a_waitgroup(void) {
    int64_t now;
    make_sync(GP_KIND_WAITGROUP, 0);
    gp_waitgroup_add(object(0), 1, &now);
}
static void peers_wait(void) {
    for (int i = 0; i < 3; i++) wait_for(0, GP_DONE, 0);
}
static void wg_done(void) {
    int64_t now;
    gp_waitgroup_add(object(0), -1, &now);
}
static void a_mutex(void) { make_sync(GP_KIND_MUTEX, 0); }
static void a_rwmutex(void) { make_sync(GP_KIND_RWMUTEX, 0); }
static void a_semaphore(void) { make_sync(GP_KIND_SEMAPHORE, 5); }
static void a_cond(void) { make_sync(GP_KIND_COND, 0); }
static void a_barrier(void) { make_sync(GP_KIND_BARRIER, 3); }
static void take(enum gp_op_kind kind, uint64_t n) {
    struct gp_case c = {.o = object(0), .kind = (uint8_t)kind, .n = n};
    gp_case_try(&c);
}
static void lock_it(void) { take(GP_LOCK, 0); }
static void unlock_it(void) { gp_mutex_unlock(object(0)); }
static void locked_by_victim(void) { lock_it(); }
static void queue_lockers(void) { /* once the victim has it */
    for (int i = 0; i < 2; i++) wait_for(0, GP_LOCK, 0);
}
static void unlock_starving(void) {
    usleep(2000);
    gp_mutex_unlock(object(0));
}
static void read_lock(void) { take(GP_RLOCK, 0); }
static void read_unlock(void) { gp_rwmutex_unlock(object(0), true); }
static void write_unlock(void) { gp_rwmutex_unlock(object(0), false); }
static void queue_readers(void) {
    for (int i = 0; i < 2; i++) wait_for(0, GP_RLOCK, 0);
}
static void acquire_it(void) { take(GP_ACQUIRE, 3); }
static void acquire_all(void) { take(GP_ACQUIRE, 5); }
static void release_it(void) { gp_semaphore_release(object(0), 3); }
static void release_all(void) { gp_semaphore_release(object(0), 5); }
static void queue_acquirers(void) {
    wait_for(0, GP_ACQUIRE, 2);
    wait_for(0, GP_ACQUIRE, 1);
}
static void peers_wait_cond(void) {
    for (int i = 0; i < 2; i++) wait_for(0, GP_SIGNAL, 0);
}
static void signal_it(void) { gp_cond_signal(object(0), false); }
static void broadcast_it(void) { gp_cond_signal(object(0), true); }
static void peers_arrive(void) {
    for (int i = 0; i < 2; i++) wait_for(0, GP_ARRIVE, 0);
}
static void arrive_it(void) { wait_for(0, GP_ARRIVE, 0); }

/* tasks */
static void push_task(void) {
    gp_ref task = new_task(false);
    gp_task_push(task, PEER, false);
}
static void push_pinned(void) {
    gp_ref task = new_task(true);
    gp_task_push(task, VICTIM, true);
}
static void three_tasks(void) {
    for (int i = 0; i < 3; i++) gp_task_push(new_task(false), 0, false);
    shared->tasks = 3;
}
static void many_tasks(void) {
    for (int i = 0; i < 40; i++) gp_task_push(new_task(false), 0, false);
    shared->tasks = 40;
}
static void tasks_of_mine(void) {
    for (int i = 0; i < 3; i++) gp_task_push(new_task(i == 2), VICTIM, i == 2);
    shared->tasks = 3;
}
static void steal(void) { gp_task_steal(); }
static void pop(void) {
    gp_task_pop(false);
    gp_task_pop(false);
}
static void pop_newest(void) { gp_task_pop(true); gp_task_pop(true); }
static void counted(void) {
    a_waitgroup();
    shared->counted = true;
}
static void enter_and_leave(void) {
    gp_ref task = new_task(false);
    gp_task_enter(task, object(0));
    gp_task_leave(task);
}
static void places(void) {
    make_sync(GP_KIND_SEMAPHORE, 3);
    shared->places = true;
}
static void two_unmade_tasks(void) {
    for (int i = 0; i < 2; i++) {
        shared->task[i] = new_task(false);
        gp_set(&((struct gp_task *)gp_payload(shared->task[i]))->started, GP_UNMADE);
    }
}
static void take_place_and_leave(void) {
    acquire_it();
    gp_task_take_place(shared->task[0], object(0));
    gp_task_return_place(shared->task[0]);
    gp_task_take_place(shared->task[1], object(0));
    gp_task_leave(shared->task[1]);
}
static void take_places(void) {
    for (int i = 0; i < 3; i++) {
        take(GP_ACQUIRE, 1);
        gp_task_take_place(shared->task[i] = new_task(false), object(0));
    }
}
static void leave_places(void) {
    gp_task_leave(shared->task[0]);
    gp_task_leave(shared->task[1]);
}
static void limited(void) {
    places();
    shared->places = false;
    gp_semaphore_limit(object(0), 3, 0);
}
static void set_limit(void) {
    gp_semaphore_limit(object(0), 0, 2);
    gp_semaphore_limit(object(0), 2, 1); /* refused: a unit is taken */
}

/* memory */
static void alloc_free(void) {
    gp_ref a = gp_alloc(10, 0), b = gp_alloc(3000, 0), c = gp_alloc(200000, 0);
    gp_free(b);
    gp_free(c);
    gp_free(a);
    gp_alloc(100000, 0);
    gp_object_free(gp_at(gp_object_alloc(GP_KIND_ATOMIC)));
    gp_object_alloc(GP_KIND_ATOMIC);
}
static void some_garbage(void) {
    for (int i = 0; i < 3; i++) {
        gp_ref ref = new_object(GP_KIND_CHAN, 2);
        shared->object[0] = ref;
        put(0);
        gp_set(&((struct gp_object *)gp_at(ref))->holders[0], 0);
    }
    shared->object[0] = new_object(GP_KIND_CHAN, 2);
}
static void keep_outcome(struct gp_object *o) { (void)o; }
static void collect(void) { gp_collect(keep_outcome); }
static void free_pages(void) {
    gp_ref refs[40];
    for (int i = 0; i < 40; i++) refs[i] = gp_alloc(20000, 0);
    gp_ref large = gp_alloc(200000, 0);
    for (int i = 0; i < 40; i++) gp_free(refs[i]);
    gp_free(large);
    chans(1, 2);
}
static void reclaim(void) { gp_heap_reclaim(); }

/* contexts */
static void tree_of_contexts(void) {
    for (int i = 0; i < 4; i++) {
        shared->object[i] = new_object(GP_KIND_CHAN, 0);
        gp_context_link(object(i), i ? object((i - 1) / 2) : NULL, 0);
        gp_set(&object(i)->flags, GP_OBJ_CONTEXT | GP_OBJ_SHARED);
    }
}
static void peer_waits_for_end(void) { wait_for(3, GP_RECV, 0); }
static void cancel_tree(void) { gp_context_cancel(object(0), GP_CANCELED, 0); }
static void link_context(void) {
    gp_ref ref = gp_object_alloc(GP_KIND_CHAN);
    gp_context_link(gp_at(ref), object(1), 0);
    gp_context_unlink(gp_at(ref));
}
static void a_timer(void) {
    chans(1, 0);
    gp_set(&object(0)->flags, GP_OBJ_TIMER | GP_OBJ_SHARED);
}
static void set_timer(void) { gp_timer_set(object(0), (int64_t)gp_now() + 1000000000, 0); }
static void an_outcome(void) {
    gp_ref task = new_task(false);
    shared->task[0] = task;
    shared->object[0] = ((struct gp_task *)((char *)gp_at(task) + GP_BLOCK_HEAD))->object;
    gp_task_push(task, VICTIM, true);
}
static void begin_it(void) {
    gp_ref task = gp_task_pop(false);
    gp_set(&((struct gp_task *)((char *)gp_at(task) + GP_BLOCK_HEAD))->started, GP_STARTED);
}
static void end_it(void) { gp_outcome_set(object(0), GP_G_OK, shared->task[0]); }

/* As goroutines.c, new_promise(), has it. */
static void a_promise(void) {
    shared->object[0] = new_object(GP_KIND_GOROUTINE, 0);
    gp_ref block = gp_alloc(sizeof(struct gp_message), 0);
    memset(gp_payload(block), 0, sizeof(struct gp_message));
    gp_own(block, GP_TAG(GP_TAG_RESULT, gp_ref_of(object(0))));
    gp_set(&object(0)->value, 1);
    object(0)->task = block;
    atomic_fetch_or(&object(0)->flags, GP_OBJ_PROMISE);
}
static void claim_and_keep(void) {
    if (gp_promise_claim(object(0))) gp_promise_keep(object(0), GP_G_OK, object(0)->task);
}

/* Of a goroutine that starts again where it is lost: goroutines.c, task_done() */
static void an_outcome_with_a_spare(void) {
    an_outcome();
    gp_ref task = shared->task[0], spare = gp_alloc(sizeof(struct gp_message), 0);
    struct gp_task *t = (struct gp_task *)((char *)gp_at(task) + GP_BLOCK_HEAD);
    memset(gp_payload(spare), 0, sizeof(struct gp_message));
    gp_own(spare, GP_TAG(GP_TAG_PART, task));
    t->spare = spare;
    gp_set(&t->retries, 1);
    shared->again = true;
}
static void end_with_a_spare(void) {
    gp_ref task = shared->task[0];
    struct gp_task *t = (struct gp_task *)((char *)gp_at(task) + GP_BLOCK_HEAD);
    struct gp_message m = message(), call;
    memcpy(gp_payload(t->spare), &m, sizeof m);
    gp_order();
    gp_own(m.block, GP_TAG(GP_TAG_RESULT, gp_ref_of(object(0))));
    gp_outcome_set(object(0), GP_G_OK, t->spare);
    gp_set(&t->retries, 0);
    call = t->call;
    gp_own(call.block, gp_my_tag());
    t->call.block = 0;
    gp_message_drop(&call);
    t->spare = 0;
    gp_free(task);
}

/* a buffer that was received becomes a copy: buffers.c, give_block() */
static gp_ref buffer;
static void receive_buffer(void) { buffer = gp_alloc(9000, GP_BLOCK_ALIGNED); }
static void copy_it(void) {
    gp_ref ref = gp_object_alloc(GP_KIND_COPY), block = gp_alloc(sizeof(struct gp_message), 0);
    struct gp_object *o = gp_at(ref);
    struct gp_message m = {.codec = GP_CODEC_BYTES, .block = buffer};
    atomic_fetch_or(&o->holders[0], 1 << VICTIM);
    gp_copy_begin(o, block);
    gp_own(buffer, GP_TAG(GP_TAG_RESULT, ref));
    gp_copy_fill(o, &m, 9000);
}

/* The peer collects ends, as as_completed() does. */
static void watch_all(int n) {
    shared->collector = (uint32_t)gp_waiter_alloc(false);
    gp_set(&gp_waiter_at(PEER, shared->collector)->fired, 0);
    gp_waiter_arm(shared->collector);
    for (int i = 0; i < n; i++) {
        struct gp_case c = {.o = object(0), .kind = GP_DONE};
        uint32_t waiter = (uint32_t)gp_waiter_alloc(false);
        gp_watched(waiter, shared->collector);
        gp_case_try_or_wait(&c, waiter);
    }
    shared->watches = true;
}
static void peer_watches(void) { watch_all(1); }
static void peer_watches_three(void) { watch_all(3); }

/* Plain threads of the peer wait. */
static void threads_receive(void) {
    peers_receive();
    for (int i = 0; i < 3; i++) {
        struct gp_waiter *w = gp_waiter_at(PEER, shared->waiter[i]);
        gp_set(&w->thread, GP_THREAD);
        gp_thread_blocks(w);
    }
    shared->threads = true;
}

static const struct scenario scenarios[] = {
    {"send, buffered", one_buffered, nothing, nothing, send_once},
    {"send to a receiver", one_buffered, peer_receives, nothing, send_once},
    {"send to a receiver, unbuffered", one_unbuffered, peers_receive, nothing, send_once},
    {"send to one that sleeps", one_unbuffered, peer_sleeps, nothing, send_once},
    {"send past one that gave up", one_unbuffered, peer_gave_up, nothing, send_once},
    {"send to a select", three_unbuffered, peer_selects_receive, nothing, send_once},
    {"send and wait", one_unbuffered, nothing, nothing, wait_to_send},
    {"send and wait, full", full, peer_sends, nothing, wait_to_send},
    {"receive, buffered", half, nothing, nothing, receive_and_drop},
    {"receive and promote", full, peers_send, nothing, receive_and_drop},
    {"receive from a sender", one_unbuffered, peers_send, nothing, receive_once},
    {"receive from a select", three_unbuffered, peer_selects_send, nothing, receive_once},
    {"receive and wait", one_unbuffered, nothing, nothing, wait_to_receive},
    {"receive and wait behind others", one_buffered, peers_receive, nothing, wait_to_receive},
    {"give up", one_unbuffered, nothing, queue_mine, give_up_mine},
    {"give up in the middle", one_buffered, peers_receive, in_the_middle, give_up_mine},
    {"close, receivers", one_unbuffered, peers_receive, nothing, close_it},
    {"close, senders", full, peers_send, nothing, close_it},
    {"select, nothing ready", three_unbuffered, nothing, nothing, select_receive},
    {"select, receivers wait", three_unbuffered, peer_selects_receive, nothing, select_send},
    {"select, senders wait", three_unbuffered, peer_selects_send, nothing, select_receive},
    {"select, buffered", three_buffered, nothing, nothing, select_send},
    {"select over 70", many_unbuffered, nothing, nothing, select_many},
    {"wait group", a_waitgroup, peers_wait, nothing, wg_done},
    {"mutex, lock", a_mutex, nothing, nothing, lock_it},
    {"mutex, unlock", a_mutex, nothing, locked_by_victim, unlock_it},
    {"rwmutex, rlock", a_rwmutex, nothing, nothing, read_lock},
    {"rwmutex, runlock", a_rwmutex, nothing, read_lock, read_unlock},
    {"rwmutex, lock", a_rwmutex, nothing, nothing, lock_it},
    {"semaphore, acquire", a_semaphore, nothing, nothing, acquire_it},
    {"semaphore, release", a_semaphore, nothing, acquire_it, release_it},
    {"cond, signal", a_cond, peers_wait_cond, nothing, signal_it},
    {"cond, broadcast", a_cond, peers_wait_cond, nothing, broadcast_it},
    {"barrier, last", a_barrier, peers_arrive, nothing, arrive_it},
    {"barrier, first", a_barrier, nothing, nothing, arrive_it},
    {"task, push", nothing, nothing, nothing, push_task},
    {"task, push pinned", nothing, nothing, nothing, push_pinned},
    {"task, steal", three_tasks, nothing, nothing, steal},
    {"task, steal many", many_tasks, nothing, nothing, steal},
    {"task, pop", tasks_of_mine, nothing, nothing, pop},
    {"task, pop the newest", tasks_of_mine, nothing, nothing, pop_newest},
    {"task, counted", counted, nothing, nothing, enter_and_leave},
    {"place", places, nothing, two_unmade_tasks, take_place_and_leave},
    {"limit", limited, queue_acquirers, nothing, set_limit},
    {"outcome", an_outcome, peers_wait, begin_it, end_it},
    {"outcome, or again", an_outcome_with_a_spare, peers_wait, begin_it, end_with_a_spare},
    {"promise", a_promise, peers_wait, nothing, claim_and_keep},
    {"send to a thread", one_unbuffered, threads_receive, nothing, send_once},
    {"close, threads", one_unbuffered, threads_receive, nothing, close_it},
    {"outcome, watched", an_outcome, peer_watches, begin_it, end_it},
    {"outcome, watched by three", an_outcome, peer_watches_three, begin_it, end_it},
    {"memory", one_buffered, nothing, nothing, alloc_free},
    {"collect", some_garbage, nothing, nothing, collect},
    {"reclaim", free_pages, nothing, nothing, reclaim},
    {"context, cancel", tree_of_contexts, peer_waits_for_end, nothing, cancel_tree},
    {"context, link", tree_of_contexts, nothing, nothing, link_context},
    {"copy", nothing, nothing, receive_buffer, copy_it},
    {"cell, set", a_cell, nothing, nothing, set_cell},
    {"cell, set after a death", a_cell_of_two, nothing, nothing, set_cell},
    {"timer, set", a_timer, peer_receives, nothing, set_timer},
    /* the peer waits for what the victim has: it is made to after the victim took it */
    {"give up in front", one_unbuffered, peers_receive, queue_mine, give_up_mine},
    {"mutex, unlock, others wait", a_mutex, queue_lockers, locked_by_victim, unlock_it},
    {"mutex, hand over", a_mutex, queue_lockers, locked_by_victim, unlock_starving},
    {"rwmutex, unlock, readers wait", a_rwmutex, queue_readers, lock_it, write_unlock},
    {"rwmutex, unlock, writers wait", a_rwmutex, queue_lockers, lock_it, write_unlock},
    {"rwmutex, runlock, writers wait", a_rwmutex, queue_lockers, read_lock, read_unlock},
    {"semaphore, release, others wait", a_semaphore, queue_acquirers, acquire_all, release_all},
    {"place, others wait", places, queue_acquirers, take_places, leave_places},
};
enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0], LATE = 60 }; /* from here on the victim is first */

/* ---- running one */

/* As module.c has it. */
static bool attach(int memfd, uint32_t proc) {
    if (gp_attach(memfd, proc) < 0 || gp_waiters_attach() < 0) return false;
    gp_tell_attach();
    gp_idle_attach();
    gp_go_live();
    return true;
}

/* Memory that the victim takes from the system for the first time would be most of its steps. */
static void warm(void) {
    gp_ref refs[] = {gp_alloc(8, 0), gp_alloc(90, 0), gp_alloc(150, 0), gp_alloc(300, 0)};
    for (unsigned i = 0; i < sizeof refs / sizeof refs[0]; i++) gp_free(refs[i]);
    gp_object_free(gp_at(gp_object_alloc(GP_KIND_ATOMIC)));
    gp_waiter_release((uint32_t)gp_waiter_alloc(false));
    gp_sudog_release((uint32_t)gp_sudog_alloc());
    gp_random(2);
    usleep(1);
}

static pid_t spawn(int memfd, uint32_t proc, const struct scenario *s) {
    pid_t pid = fork();
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    gp_heap_detach(); /* the lists of the host, for its arena */
    memset(&gp, 0, sizeof gp);
    gp.memfd = memfd;
    if (!attach(memfd, proc)) abort();
    if (proc == PEER) {
        s->peer();
        raise(SIGSTOP);
        for (;;) pause();
    }
    warm();
    s->before();
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    s->op();
    raise(SIGSTOP);
    _exit(0);
}

static int stopped(pid_t pid, int number) { /* 0, or how it ended instead */
    int status;
    if (waitpid(pid, &status, WUNTRACED) != pid) return -1;
    return WIFSTOPPED(status) && WSTOPSIG(status) == number ? 0 : status;
}

static void run(const struct scenario *s, bool late, long every) {
    scenario_name = s->name;
    instruction = 0;
    memset(shared, 0, sizeof *shared);
    int memfd = gp_create(PROCS, 64 << 20, 1);
    if (memfd < 0 || !attach(memfd, 0)) {
        wrong("no segment: %d", memfd);
        return;
    }
    struct stat st;
    fstat(memfd, &st);
    s->host();
    pid_t pids[PROCS] = {0};
    for (int i = 0; i < 2; i++) {
        uint32_t proc = (i == 0) == late ? VICTIM : PEER;
        pids[proc] = spawn(memfd, proc, s);
            int how = stopped(pids[proc], SIGSTOP);
        if (how) wrong("proc %u did not come up: %x", proc, how);
    }
    char *real = gp.base, *image = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, memfd, 0);
    long before = images;
    for (;;) {
        if (ptrace(PTRACE_SINGLESTEP, pids[VICTIM], NULL, NULL) < 0) break;
        if (stopped(pids[VICTIM], SIGTRAP)) break;
        instruction++;
        if (instruction % every == 0) examine(real, image, (uint64_t)st.st_size, instruction % (37 * every) == 0);
    }
    printf("%-36s %6ld images\n", s->name, images - before);
    fflush(stdout);
    munmap(image, (size_t)st.st_size);
    for (int i = 1; i < PROCS; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    gp_detach();
}

int main(int argc, char **argv) {
    long every = getenv("EVERY") ? atol(getenv("EVERY")) : 1;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < SCENARIOS; i++) {
        bool wanted = argc == 1;
        for (int k = 1; k < argc; k++) wanted = wanted || strcmp(argv[k], scenarios[i].name) == 0;
        if (wanted) run(&scenarios[i], i >= LATE, every);
    }
    printf("%ld images, %d wrong\n", images, failures);
    return failures ? 1 : 0;
}
