/* racer.c - one proc of races.c. Each proc has a copy of this file, of world.c, extras.c and the core, of which only `race` has a
 * name that the others see.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "race.h"

#define UNSEEN __attribute__((no_sanitize("thread")))

/* ---- death: the thread ends at an access of the core, as a process does that is killed there */

static long left = -1;

UNSEEN static void point(void) {
    if (left <= 0 || --left > 0) return;
    left = -1;
    pthread_exit(NULL);
}

void __real___tsan_atomic_signal_fence(int order);
UNSEEN void __wrap___tsan_atomic_signal_fence(int order) {
    point();
    __real___tsan_atomic_signal_fence(order);
}

bool __real_gp_repair_heap(const struct gp_dead *d);
bool __wrap_gp_repair_heap(const struct gp_dead *d) {
    world_mark_dead(d);
    return __real_gp_repair_heap(d);
}

/* ---- a worker */

static void work(struct race *r, uint32_t proc) {
    static int fd = -1;
    gp_heap_detach(); /* the lists of the one that died here */
    if (fd >= 0) close(fd);
    memset(&gp, 0, sizeof gp);
    fd = dup(r->memfd); /* gp_detach() closes it */
    if (!world_attach(fd, proc)) abort();
    world_enter(r->seeds[proc]);
    extras_enter(r->seeds[proc] ^ 0x9E3779B97F4A7C15ULL);
    left = r->dies_after[proc];
    while (world_turn()) {
        if (gp_get(&ledger->stop)) left = -1;
        else extras_turn();
    }
    left = -1;
    extras_leave();
    gp_detach();
    fd = -1;
}

/* ---- the host */

static struct race *running;

static uint64_t draw(uint64_t below) { /* splitmix64 */
    uint64_t z = (running->seed += 0x9E3779B97F4A7C15ULL);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return (z ^ z >> 31) % below;
}

static void start(uint32_t proc) {
    running->seeds[proc] = draw(UINT64_MAX);
    atomic_store(&running->ended[proc], 0);
    running->dies_after[proc] = running->deaths ? 1 + (long)draw(1ULL << (5 + draw(10))) : -1;
    running->start(running, proc);
}

static bool noted[PROCS]; /* dead, and not repaired yet */

/* Note those that have died since. Also in the midst of a repair, which may wait for a lock of one of them. */
static bool notice(void) {
    for (uint32_t p = 1; p < PROCS; p++) {
        if (noted[p] || !atomic_load(&running->ended[p]) || gp_get(&gp_proc_at(p)->state) == GP_P_GONE) continue;
        running->join(running, p);
        noted[p] = true;
        world_died(p);
        gp_repair_note(p);
    }
    return true;
}

static void repair(uint32_t proc) {
    struct gp_death how = {.proc = proc, .pid = 1, .status = SIGKILL, .when = gp_now()};
    struct gp_dead d = {.replaced = true};
    running->died++;
    if (!gp_repair(&d, &how, notice) || d.panics) wrong("the repair has ended early");
    noted[proc] = false;
}

static uint32_t next_noted(void) {
    for (uint32_t p = 1; p < PROCS; p++)
        if (noted[p]) return p;
    return 0;
}

static void look(void) {
    notice();
    if (!next_noted()) return;
    for (uint32_t p; (p = next_noted()) != 0;) {
        repair(p);
        start(p);
    }
    gp_repair_over();
}

static bool all_gone(void) {
    for (uint32_t p = 1; p < PROCS; p++)
        if (gp_get(&gp_proc_at(p)->state) != GP_P_GONE) return false;
    return true;
}

static void host(struct race *r) {
    running = r;
    r->memfd = gp_create(PROCS, 256 << 20, 2);
    if (r->memfd < 0 || !world_attach(dup(r->memfd), HOST)) abort();
    gp.head->on_death = GP_DEATH_RESTART;
    world_make();
    extras_make();
    for (uint32_t p = 1; p < PROCS; p++) start(p);
    while (gp_now() < r->until && !atomic_load(&ledger->wrongs)) {
        usleep(500);
        look();
    }
    atomic_store(&ledger->stop, 1);
    for (; !all_gone(); usleep(500)) look();
    for (uint32_t p = 1; p < PROCS; p++) r->join(r, p);
    if (!atomic_load(&ledger->wrongs)) world_check();
    gp_detach();
    close(r->memfd);
}

void race(struct race *r, uint32_t proc);
void race(struct race *r, uint32_t proc) {
    ledger = r->ledger;
    extras = &r->extras;
    if (proc == HOST) host(r);
    else work(r, proc);
}
