/* repair.c - the order of a repair (see repair.h), the coroner's locks, and the place of the dead process. */
#define _GNU_SOURCE
#include <limits.h>
#include <unistd.h>

#include "mem/pages.h"
#include "repair.h"

#define LOOK_NS 1000000ULL   /* between two looks for further deaths, while a lock is not to be had */
#define CHECK_LOOKS 100u     /* at one lock, after which the coroner checks whether any process has it */
#define PAGE_LOOKS 20u
#define PAGE_LOOK_US 100
#define LOOKS 1000u          /* at the lock of a process that gives memory back */

static bool (*notice_deaths)(void);

struct gp_dead gp_repair_dead(uint32_t proc) {
    return (struct gp_dead){.proc = proc, .word = gp_word_of(proc), .tag = gp_tag_of(proc)};
}

/* ---- locks */

bool gp_repair_lock(void *line) {
    _Atomic uint32_t *word = gp_lock_word(line);
    for (uint32_t looks = 0;;) {
        uint32_t seen = gp_get(word);
        if (seen == 0) { /* with WAITERS, as in lock.c for a process that may not be alone */
            if (atomic_compare_exchange_strong(word, &seen, GP_CORONER_WORD | GP_LOCK_WAITERS)) return true;
            continue;
        }
        /* the lock of the tree, which a further death has brought */
        if ((seen & ~GP_LOCK_WAITERS) == GP_CORONER_WORD) return true;
        if (!(seen & GP_LOCK_WAITERS) && !atomic_compare_exchange_strong(word, &seen, seen | GP_LOCK_WAITERS))
            continue;
        gp_futex_wait(word, seen | GP_LOCK_WAITERS, gp_now() + LOOK_NS);
        if (!notice_deaths()) return false;
        if (++looks % CHECK_LOOKS == 0) gp_check_holder(word, true);
    }
}

void gp_repair_unlock(void *line) {
    _Atomic uint32_t *word = gp_lock_word(line);
    atomic_exchange(word, 0);
    gp_futex_wake(word, INT_MAX);
}

void gp_repair_ring(void) {
    atomic_fetch_add(&gp.head->scans, 1);
    for (uint32_t p = 0; p < gp_places(); p++) {
        if (gp_get(&gp_proc_at(p)->state) != GP_P_LIVE) continue;
        gp_nudge(p);
        /* if the dead one has stored NOTIFIED, no other process wakes the sleeper */
        gp_futex_wake(&gp_proc_at(p)->park, 1);
    }
}

/* ---- the header */

static void drop_word(_Atomic uint32_t *word, const struct gp_dead *d) {
    uint32_t seen = d->word;
    atomic_compare_exchange_strong(word, &seen, 0);
}

static void repair_header(const struct gp_dead *d) {
    struct gp_header *h = gp.head;
    uint64_t bit = 1ULL << (d->proc % 64);
    uint32_t live = 0;
    drop_word(&h->collecting, d);
    drop_word(&h->reclaiming, d);
    drop_word(&h->dumping, d);
    atomic_fetch_and(&h->idle[d->proc / 64], ~bit);
    gp_searches(d->proc, false);
    for (uint32_t p = 0; p < gp_places(); p++) live += gp_get(&gp_proc_at(p)->state) == GP_P_LIVE;
    atomic_store(&h->live, live);
}

/* Let a process end that has begun to change pages of objects (gp_collect_lock): such a process waits for
 * nobody. A collection may hold the same lock for longer, and wait for the coroner: so this wait has an
 * end. */
static void wait_for_pages(void) {
    for (uint32_t i = 0; i < PAGE_LOOKS && atomic_load(&gp.head->collecting); i++) usleep(PAGE_LOOK_US);
}

/* ---- the place of the dead one */

/* Give the tables of waiters back to the system. If the system does not take them, they do no harm: no queue
 * refers to them any more, and epochs go on. But the inbox is emptied: its bits do not concern the
 * replacement. */
static void empty_partition(uint32_t proc) {
    uint64_t at = gp.parts_at + proc * gp.part_bytes, used = gp_waiters_used(gp_proc_at(proc));
    if (gp_unback(at, gp.tasks_at / GP_PAGE * GP_PAGE)) return;
    memset(gp.base + at + GP_PART_INBOX_MID, 0, 64 * sizeof(uint64_t));
    memset(gp.base + at + GP_PART_INBOX, 0, (used + GP_INBOX_LINE - 1) / GP_INBOX_LINE * GP_LINE);
}

/* Bytes of its memory that are still in use: pages of its arena, and its rings. */
static uint64_t committed_by(uint32_t proc) {
    const struct gp_queue *q = &gp_proc_at(proc)->queue;
    uint64_t arena = gp_arena_at(proc),
             bytes = sizeof(gp_ref) * ((uint64_t)gp_get(&q->slots[0]) + gp_get(&q->slots[1]));
    uint32_t page = gp_first_page(), cls;
    for (; page < gp.arena_bytes / GP_PAGE && (cls = gp_acquire(&gp_page_at(arena, page)->cls)) != 0; page++)
        if (cls != GP_CLASS_HOLE) bytes += GP_PAGE;
    return bytes + gp_pages_described(page);
}

/* Count the memory of the dead process, while no process gives pages back, which would change the sum. */
static bool recount(uint32_t proc) {
    for (uint32_t i = 0; i < LOOKS; i++) {
        uint32_t none = 0;
        if (atomic_compare_exchange_strong(&gp.head->reclaiming, &none, GP_CORONER_WORD)) break;
        gp_futex_wait(&gp.head->reclaiming, gp_get(&gp.head->reclaiming), gp_now() + LOOK_NS);
        if (!notice_deaths()) return false;
    }
    atomic_store(&gp_proc_at(proc)->committed, committed_by(proc));
    uint32_t mine = GP_CORONER_WORD;
    atomic_compare_exchange_strong(&gp.head->reclaiming, &mine, 0);
    return true;
}

static void reset(const struct gp_dead *d) {
    struct gp_proc *p = gp_proc_at(d->proc);
    empty_partition(d->proc);
    gp_set(&p->park, GP_RUN);
    gp_set(&p->rescan, 0);
    gp_set(&p->inbox, 0);
    gp_set(&p->act, (gp_get(&p->act) + 2) & ~1ULL);
    gp_set(&p->ext, 0);
    gp_set(&p->threads, (gp_get(&p->threads) + (1ULL << 32)) & ~0xffffffffULL);
    gp_set(&p->foreign, 0);
    gp_set(&p->waiters_used, 0);
    gp_set(&p->sudogs_used, 0);
    gp_set(&p->kill_at, 0);
    gp_set(&p->running, 0);
    gp_set(&p->queue.started, 0);
    gp_set(&p->queue.looked, 0);
    gp_set(&p->dumps, 0);
    gp_set(&p->pid, 0);
    gp_set(&p->claim, (uint64_t)gp_get(&gp.head->zygotes) << 32);
    gp_order();
    gp_set(&p->retire, GP_STAYS);
    gp_set(&p->doomed, GP_LIVES); /* in this order: see doom() */
    gp_set(&p->incarnation, gp_get(&p->incarnation) + 1);
    gp_order();
    gp_release(&p->state, d->replaced ? GP_P_STARTING : GP_P_GONE);
}

/* ---- the whole */

void gp_repair_note(uint32_t proc) {
    struct gp_dead d = gp_repair_dead(proc);
    if (!(gp_get(&gp.head->crash_epoch) & 1)) atomic_fetch_add(&gp.head->crash_epoch, 1);
    gp_release(&gp_proc_at(proc)->state, GP_P_DEAD);
    gp_repair_locks(&d);
    gp_repair_ring();
}

bool gp_repair(struct gp_dead *d, const struct gp_death *how, bool (*notice)(void)) {
    bool replaced = d->replaced;
    *d = gp_repair_dead(how->proc);
    d->replaced = replaced;
    notice_deaths = notice;
    d->death = how->retired ? 0 : gp_death_begin(how);
    repair_header(d);
    wait_for_pages();
    atomic_exchange(&gp_proc_at(d->proc)->dump, 0); /* its block is freed with the others */
    if (!replaced) gp_release(&gp_proc_at(d->proc)->state, GP_P_GONE); /* nothing more is pinned to it */
    if (!gp_repair_queues(d) || !gp_repair_tree() || !gp_repair_tasks(d, how)) return false;
    if (d->panics) return true; /* the program ends */
    if (!gp_repair_heap(d) || !recount(d->proc)) return false;
    reset(d);
    gp_repair_ring();
    return true;
}

void gp_repair_over(void) { atomic_fetch_add(&gp.head->crash_epoch, 1); }
