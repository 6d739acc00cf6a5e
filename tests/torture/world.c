#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "world.h"

enum { UNITS = 3, MOST_CASES = 3 };
enum doing { NOTHING, WAITS, HOLDS };
struct cargo { /* payload of a message's block */
    uint64_t magic, id;
};
#define CARGO_MAGIC 0x6f67726163736968ULL

struct fiber {
    enum doing doing;
    struct gp_case cases[MOST_CASES];
    uint32_t n, poll[MOST_CASES], lock[MOST_CASES];
    uint32_t waiter, scans;
    uint64_t until;
    uint32_t ids[MOST_CASES]; /* of what each case offers */
    gp_ref joins;             /* handle of the goroutine that it waits for */
};

struct ledger *ledger;
static struct fiber fibers[FIBERS];
static uint64_t seed;
static uint32_t runner[1 << 12]; /* waiter -> fiber + 1 */

void wrong(const char *format, ...) {
    va_list args;
    uint32_t i = atomic_fetch_add(&ledger->wrongs, 1);
    if (i >= 16) return;
    va_start(args, format);
    vsnprintf(ledger->wrong[i], sizeof ledger->wrong[i], format, args);
    va_end(args);
}

static uint32_t below(uint32_t n) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) * n >> 32);
}

/* ---- the objects */

static gp_ref make(enum gp_kind kind, uint32_t cap) {
    gp_ref ref = gp_object_alloc(kind);
    struct gp_object *o = gp_at(ref);
    uint64_t bytes = kind == GP_KIND_CHAN ? cap * sizeof(struct gp_message) : PROCS * sizeof(int64_t);
    atomic_fetch_or(&o->holders[0], 1); /* the host's */
    atomic_fetch_or(&o->flags, GP_OBJ_SHARED);
    o->cap = cap;
    if (kind == GP_KIND_MUTEX || !cap) return ref;
    o->ring = gp_alloc(bytes, GP_BLOCK_ALIGNED);
    memset(gp_payload(o->ring), 0, bytes);
    gp_own(o->ring, GP_TAG(GP_TAG_CHAN, ref));
    if (kind == GP_KIND_SEMAPHORE) {
        gp_set(&o->size, UNITS);
        gp_set(&o->value, UNITS);
    }
    return ref;
}

void world_make(void) {
    static const uint32_t caps[CHANNELS] = {0, 0, 1, 2, 8};
    for (int i = 0; i < CHANNELS; i++) ledger->channel[i] = make(GP_KIND_CHAN, caps[i]);
    for (int i = 0; i < MUTEXES; i++) ledger->mutex[i] = make(GP_KIND_MUTEX, 0);
    ledger->rwmutex = make(GP_KIND_RWMUTEX, 1);
    ledger->semaphore = make(GP_KIND_SEMAPHORE, 1);
}

/* As module.c has it. */
bool world_attach(int memfd, uint32_t proc) {
    if (gp_attach(memfd, proc) < 0 || gp_waiters_attach() < 0) return false;
    gp_tell_attach();
    gp_idle_attach();
    gp_go_live();
    return true;
}

void world_enter(uint64_t begin) {
    seed = begin | 1;
    memset(fibers, 0, sizeof fibers);
    memset(runner, 0, sizeof runner);
}

/* ---- messages */

static uint32_t next_id(void) {
    uint32_t id = atomic_fetch_add(&ledger->ids, 1);
    return id < MESSAGES ? id : 0;
}

static gp_ref new_cargo(uint32_t id) {
    gp_ref block = gp_alloc(sizeof(struct cargo) + below(80), 0);
    if (!block) return 0;
    *(struct cargo *)gp_payload(block) = (struct cargo){CARGO_MAGIC, id};
    atomic_store(&ledger->state[id], OFFERED);
    return block;
}

static void receive(const struct gp_message *m) {
    const struct cargo *c = (const struct cargo *)gp_payload(m->block);
    if (!m->block || gp_tag(m->block) != gp_my_tag()) {
        wrong("proc %u received block %x, whose tag is %llx", gp.proc, m->block, m->block ? (unsigned long long)gp_tag(m->block) : 0);
        return;
    }
    if (c->magic != CARGO_MAGIC || c->id >= MESSAGES || !(atomic_load(&ledger->state[c->id]) & OFFERED))
        wrong("proc %u received a torn message", gp.proc);
    else if (atomic_fetch_add(&ledger->came[c->id], 1))
        wrong("proc %u received message %llu, which had come before", gp.proc, (unsigned long long)c->id);
    atomic_fetch_add(&ledger->received, 1);
    gp_free(m->block);
}

/* ---- tasks: as goroutines.c has it */

static struct gp_task *task_at(gp_ref ref) { return (struct gp_task *)((char *)gp_at(ref) + GP_BLOCK_HEAD); }

static void drop_handle(gp_ref ref) {
    struct gp_object *o = gp_at(ref);
    if (!gp_outcome_release(o)) return;
    gp_outcome_drop(o);
    gp_object_free(o);
}

static gp_ref go(bool joined) {
    uint32_t id = next_id();
    if (!id) return 0;
    gp_ref object = gp_object_alloc(GP_KIND_OUTCOME), ref = gp_alloc(sizeof(struct gp_task), GP_BLOCK_TASK);
    if (!object || !ref) return 0;
    struct gp_object *o = gp_at(object);
    struct gp_task *t = task_at(ref);
    memset(t, 0, sizeof *t);
    gp_set(&t->started, GP_UNMADE);
    atomic_fetch_or(&o->holders[0], 1ULL << gp.proc);
    t->object = object;
    t->gen = gp_get(&o->gen);
    t->id = id;
    t->creator = (uint16_t)gp.proc;
    o->task = ref;
    atomic_store(&ledger->state[id], OFFERED);
    t->call.codec = GP_CODEC_BYTES;
    t->call.block = new_cargo(id);
    gp_own(t->call.block, GP_TAG(GP_TAG_PART, ref));
    gp_set(&t->started, GP_UNSTARTED);
    uint32_t proc = gp_task_place();
    while (gp_task_push(ref, proc, false) < 0) proc = gp.proc;
    gp_task_announce(proc, false);
    atomic_fetch_or(&ledger->state[id], SENT);
    if (!joined) drop_handle(object);
    return object;
}

static void run(gp_ref ref) {
    struct gp_task *t = task_at(ref);
    struct gp_object *o = gp_at(t->object);
    uint64_t id = t->id;
    if (gp_tag(ref) != gp_my_tag() || id >= MESSAGES) {
        wrong("proc %u took task %x, which is not its", gp.proc, ref);
        return;
    }
    gp_set(&t->started, GP_STARTED);
    gp_set(&o->proc, gp.proc + 1);
    uint32_t queued = GP_G_QUEUED;
    atomic_compare_exchange_strong(&o->state, &queued, GP_G_RUNNING);
    if (atomic_fetch_add(&ledger->came[id], 1)) wrong("task %llu was begun twice", (unsigned long long)id);
    atomic_fetch_add(&ledger->began, 1);
    if (t->call.block) gp_free(t->call.block);
    memset(&t->call, 0, sizeof t->call);
    bool keeps = gp_held(o), wanted = gp_outcome_set(o, GP_G_OK, keeps ? ref : 0);
    if (!wanted) gp_object_free(o);
    if (!keeps || !wanted) gp_free(ref);
}

/* ---- fibers */

static void begin(struct fiber *f, uint32_t n) {
    memset(f->cases, 0, sizeof f->cases);
    memset(f->ids, 0, sizeof f->ids);
    f->n = n;
}

/* A case that sends has a block of its own; it goes where it does not happen. */
static void offer(struct fiber *f, uint32_t i, bool send) {
    struct gp_case *c = &f->cases[i];
    *c = (struct gp_case){.o = gp_at(ledger->channel[below(CHANNELS)]), .kind = send ? GP_SEND : GP_RECV};
    if (!send) return;
    f->ids[i] = next_id();
    c->m.codec = GP_CODEC_BYTES;
    c->m.block = f->ids[i] ? new_cargo(f->ids[i]) : 0;
    if (!c->m.block) *c = (struct gp_case){.o = c->o, .kind = GP_RECV};
}

static void withdraw(struct fiber *f, int64_t chosen) {
    for (uint32_t i = 0; i < f->n; i++)
        if (i != chosen && f->cases[i].kind == GP_SEND) gp_free(f->cases[i].m.block);
}

static uint32_t mutex_of(const struct gp_case *c) { return gp_ref_of(c->o) == ledger->mutex[1]; }

static void enter(struct gp_case *c) {
    uint32_t nobody = 0;
    switch (c->kind) {
    case GP_LOCK: {
        bool rw = gp_get(&c->o->kind) == GP_KIND_RWMUTEX;
        _Atomic uint32_t *word = rw ? &ledger->writer : &ledger->held[mutex_of(c)];
        if (!atomic_compare_exchange_strong(word, &nobody, gp.proc + 1))
            wrong("procs %u and %u have the same %s", nobody - 1, gp.proc, rw ? "rwmutex" : "mutex");
        int32_t reads = 0;
        for (int p = 0; p < PROCS && rw; p++) reads += atomic_load(&ledger->reads[p]);
        if (reads) wrong("a writer and %d readers", reads);
        break;
    }
    case GP_RLOCK:
        atomic_fetch_add(&ledger->reads[gp.proc], 1);
        if (atomic_load(&ledger->writer)) wrong("a reader and a writer");
        break;
    case GP_ACQUIRE: {
        int32_t sum = 0;
        atomic_fetch_add(&ledger->units[gp.proc], (int32_t)c->n);
        for (int p = 0; p < PROCS; p++) sum += atomic_load(&ledger->units[p]);
        (void)sum; /* it is read word by word: the check is at rest */
        break;
    }
    default: break;
    }
}

static void leave(struct gp_case *c) {
    switch (c->kind) {
    case GP_LOCK:
        if (gp_get(&c->o->kind) == GP_KIND_RWMUTEX) {
            atomic_store(&ledger->writer, 0);
            gp_rwmutex_unlock(c->o, false);
        } else {
            atomic_store(&ledger->held[mutex_of(c)], 0);
            gp_mutex_unlock(c->o);
        }
        break;
    case GP_RLOCK:
        atomic_fetch_sub(&ledger->reads[gp.proc], 1);
        gp_rwmutex_unlock(c->o, true);
        break;
    case GP_ACQUIRE:
        atomic_fetch_sub(&ledger->units[gp.proc], (int32_t)c->n);
        gp_semaphore_release(c->o, c->n);
        break;
    default: break;
    }
}

/* The operation has happened by this case. */
static void happened(struct fiber *f, int64_t i) {
    struct gp_case *c = &f->cases[i];
    f->doing = NOTHING;
    if (c->kind == GP_SEND) atomic_fetch_or(&ledger->state[f->ids[i]], SENT);
    if (c->kind == GP_RECV) receive(&c->m);
    withdraw(f, i);
    if (c->kind == GP_DONE) {
        atomic_fetch_add(&ledger->joined, 1);
        drop_handle(f->joins);
    }
    if (c->kind >= GP_LOCK) {
        enter(c);
        f->doing = HOLDS;
    }
}

static void free_sudogs(struct fiber *f) {
    for (uint32_t i = 0; i < f->n && f->n > 1; i++) gp_sudog_release(f->cases[i].sudog);
}

static void try(struct fiber *f) {
    int64_t waiter = gp_waiter_alloc(false), chosen = 0;
    enum gp_result r = GP_BLOCK;
    if (waiter < 0) abort();
    f->waiter = (uint32_t)waiter;
    f->scans = gp_get(&gp.head->scans);
    if (f->n == 1) {
        r = gp_case_try_or_wait(&f->cases[0], f->waiter);
    } else {
        struct gp_select s = {.cases = f->cases, .n = f->n, .poll = f->poll, .lock = f->lock};
        for (uint32_t i = 0; i < f->n; i++) f->cases[i].sudog = (uint32_t)gp_sudog_alloc();
        chosen = gp_select(&s, waiter, &r);
        if (chosen < 0) r = GP_BLOCK;
    }
    if (r == GP_BLOCK) {
        f->doing = WAITS;
        f->until = gp_now() + 200000 + below(4000000);
        runner[f->waiter] = (uint32_t)(f - fibers) + 1;
        return;
    }
    free_sudogs(f);
    gp_waiter_release(f->waiter);
    happened(f, chosen);
}

/* It was fired, or has given up; its waiter is not WAITING any more. */
static void wakes(struct fiber *f, bool told) {
    uint64_t state = gp_acquire(&gp_waiter_at(gp.proc, f->waiter)->state);
    uint32_t won = f->n == 1 ? 0 : GP_W_CASE(state), tag = GP_W_TAG(state);
    bool fired = tag != GP_W_CANCELLED;
    if (fired && won >= f->n) wrong("a case that there is not was fired");
    for (uint32_t i = 0; i < f->n; i++) {
        if (fired && i == won) gp_case_settled(&f->cases[i], f->waiter, told);
        else gp_case_abandon(&f->cases[i]);
    }
    runner[f->waiter] = 0;
    free_sudogs(f);
    gp_waiter_release(f->waiter);
    if (fired && tag == GP_W_RETRY) {
        f->cases[0].woken = gp_get(&f->cases[0].o->kind) == GP_KIND_MUTEX;
        try(f);
    } else if (fired) {
        happened(f, won);
    } else {
        withdraw(f, -1);
        f->doing = NOTHING;
        if (f->cases[0].kind == GP_DONE) drop_handle(f->joins);
    }
}

static bool inbox_bit(uint32_t i) {
    return gp_get((_Atomic uint64_t *)(gp.part + GP_PART_INBOX) + i / 64) >> (i % 64) & 1;
}

/* Whoever fired this waiter has told so by the time that the lock of the case is free, unless it has died (rule O1). */
static void look_for_lost_wakeup(struct fiber *f) {
    uint32_t epoch = gp_get(&gp.head->crash_epoch);
    uint64_t state = gp_acquire(&gp_waiter_at(gp.proc, f->waiter)->state);
    struct gp_object *o = f->cases[f->n == 1 ? 0 : GP_W_CASE(state) % f->n].o;
    gp_lock(o);
    gp_unlock(o);
    if (inbox_bit(f->waiter)) return;
    if (!(epoch & 1) && gp_get(&gp.head->crash_epoch) == epoch && gp_get(&gp.head->scans) == f->scans)
        wrong("proc %u: a waiter was fired by an object of kind %u, and not told", gp.proc, gp_get(&o->kind));
}

static void times_out(struct fiber *f) {
    bool won = gp_case_cancel(&f->cases[0], f->waiter);
    if (!won) look_for_lost_wakeup(f);
    wakes(f, false);
}

static void starts(struct fiber *f) {
    uint32_t what = below(100);
    begin(f, 1);
    if (what < 60) {
        f->n = what < 40 ? 1 : 2 + below(2);
        for (uint32_t i = 0; i < f->n; i++) offer(f, i, below(2));
    } else if (what < 70) {
        f->cases[0] = (struct gp_case){.o = gp_at(ledger->mutex[below(MUTEXES)]), .kind = GP_LOCK};
    } else if (what < 78) {
        f->cases[0] = (struct gp_case){.o = gp_at(ledger->rwmutex), .kind = below(3) ? GP_RLOCK : GP_LOCK};
    } else if (what < 85) {
        f->cases[0] = (struct gp_case){.o = gp_at(ledger->semaphore), .kind = GP_ACQUIRE, .n = 1 + below(UNITS)};
    } else {
        bool joined = below(2);
        f->joins = go(joined);
        if (!f->joins || !joined) return;
        f->cases[0] = (struct gp_case){.o = gp_at(f->joins), .kind = GP_DONE};
    }
    try(f);
}

static void drain(void) {
    static uint32_t out[GP_INBOX_LINE * 4];
    bool rescan = gp_get(&gp.my->rescan) != 0;
    if (rescan) atomic_store(&gp.my->rescan, 0);
    int n = gp_drain(out, GP_INBOX_LINE * 4);
    for (int i = 0; i < n; i++) {
        struct fiber *f = out[i] < 1 << 12 && runner[out[i]] ? &fibers[runner[out[i]] - 1] : NULL;
        if (f && GP_W_TAG(gp_acquire(&gp_waiter_at(gp.proc, f->waiter)->state)) != GP_W_WAITING) wakes(f, true);
    }
    for (int i = 0; rescan && i < FIBERS; i++)
        if (fibers[i].doing == WAITS && GP_W_TAG(gp_acquire(&gp_waiter_at(gp.proc, fibers[i].waiter)->state)) != GP_W_WAITING)
            wakes(&fibers[i], false);
}

static bool take_task(void) {
    gp_ref task = gp_task_pop(below(4) == 0);
    if (!task && gp_task_in_reach() && gp_task_steal()) {
        atomic_fetch_add(&ledger->stolen, 1);
        task = gp_task_pop(false);
    }
    if (task) run(task);
    return task != 0;
}

bool world_turn(void) {
    bool stop = gp_get(&ledger->stop), busy = false, waits = false;
    uint64_t now = gp_now(), first = now + 2000000;
    atomic_fetch_add(&ledger->beats[gp.proc], 1);
    drain();
    for (int i = 0; i < FIBERS; i++) {
        struct fiber *f = &fibers[i];
        if (f->doing == HOLDS) {
            leave(&f->cases[0]);
            f->doing = NOTHING;
            busy = true;
        } else if (f->doing == WAITS && now >= f->until) {
            times_out(f);
            busy = true;
        } else if (f->doing == NOTHING && !stop && below(3)) {
            starts(f);
            busy = true;
        }
        if (f->doing == WAITS && f->until < first) first = f->until;
        waits = waits || f->doing != NOTHING;
    }
    busy = take_task() || busy;
    /* A proc may have left just before a task came into its queue: then the one that put the task there takes it back. */
    if (stop && !waits && !busy && gp_task_count() == 0 && !gp_task_elsewhere()) return false;
    if (!busy) gp_idle(first);
    return true;
}

/* ---- deaths */

void world_died(uint32_t proc) {
    uint32_t word = proc + 1;
    for (int i = 0; i < MUTEXES; i++, word = proc + 1) atomic_compare_exchange_strong(&ledger->held[i], &word, 0);
    atomic_compare_exchange_strong(&ledger->writer, &word, 0);
    atomic_store(&ledger->reads[proc], 0);
    atomic_store(&ledger->units[proc], 0);
}

static void mark_block(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    const struct gp_dead *d = arg;
    (void)bytes;
    if (object || gp_acquire(&b->tag) != d->tag || gp_get(&b->len) >> 56) return;
    const struct cargo *c = (const struct cargo *)((const char *)b + GP_BLOCK_HEAD);
    if (c->magic == CARGO_MAGIC && c->id < MESSAGES) atomic_fetch_or(&ledger->state[c->id], DEAD);
}

void world_mark_dead(const struct gp_dead *d) { gp_heap_each(mark_block, (void *)(uintptr_t)d); }

/* ---- at rest */

static void check_lock(const struct gp_object *o, const char *what) {
    if (gp_get(&o->lock)) wrong("%s %x stays locked by %x", what, gp_ref_of(o), gp_get(&o->lock));
    if (gp_get(&o->recvq_first) || gp_get(&o->sendq_first)) wrong("somebody still waits at %s %x", what, gp_ref_of(o));
}

static void count_left(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    uint32_t *left = arg;
    uint64_t tag = gp_acquire(&b->tag);
    (void)bytes;
    if (object ? gp_get(&((struct gp_object *)b)->kind) != GP_KIND_OUTCOME : GP_TAG_KIND(tag) == GP_TAG_CHAN) return;
    if (++*left < 4) wrong("%s %x is left, its tag is %llx, state or flags %llx", object ? "object" : "block", gp_ref_of(b), (unsigned long long)tag,
                           (unsigned long long)(object ? ((struct gp_object *)b)->state : gp_get(&b->len) >> 56));
}

static void end_outcome(struct gp_object *o) {
    if (gp_get(&o->kind) == GP_KIND_OUTCOME) gp_outcome_drop(o);
}

static void check_ids(void) {
    uint32_t n = atomic_load(&ledger->ids);
    for (uint32_t id = 1; id < n && id < MESSAGES; id++) {
        uint8_t state = ledger->state[id], came = ledger->came[id];
        if (came > 1) wrong("%u came %u times", id, came);
        if (state & SENT && !(state & DEAD) && !came) wrong("%u was sent, and is lost", id);
    }
}

void world_check(void) {
    struct gp_message m;
    for (gp_ref task; (task = gp_task_pop(false)) != 0;) run(task);
    for (uint32_t p = 0; p < PROCS; p++) {
        const struct gp_queue *q = &gp_proc_at(p)->queue;
        if (gp_get(&q->lock) || gp_get(&q->head) != gp_get(&q->tail)) wrong("proc %u has tasks left", p);
        if (gp_get(&gp_proc_at(p)->missed)) wrong("proc %u has missed a wake-up", p);
    }
    for (int i = 0; i < CHANNELS; i++) {
        struct gp_object *c = gp_at(ledger->channel[i]);
        check_lock(c, "channel");
        while (gp_chan_recv(c, &m) == GP_OK) {
            if (gp_tag(m.block) == gp_my_tag()) receive(&m);
            else wrong("a message in a channel is not the channel's");
        }
    }
    for (int i = 0; i < MUTEXES; i++) check_lock(gp_at(ledger->mutex[i]), "mutex");
    struct gp_object *rw = gp_at(ledger->rwmutex), *sem = gp_at(ledger->semaphore);
    check_lock(rw, "rwmutex");
    check_lock(sem, "semaphore");
    if (gp_get(&sem->value) != UNITS || gp_shares_sum(sem)) wrong("%lld units are free", (long long)gp_get(&sem->value));
    if (gp_get(&rw->value) > 0 || gp_shares_sum(rw)) wrong("%lld readers are left", (long long)gp_get(&rw->value));
    uint32_t left = 0;
    gp_collect(end_outcome);
    gp_heap_each(count_left, &left);
    if (left) wrong("%u blocks or objects are left", left);
    check_ids();
}
