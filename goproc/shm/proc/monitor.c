/* monitor.c - time slices: a thread that sees when a goroutine keeps its process, and asks for a turn for the
 * others.
 *
 * This is Go's sysmon (runtime/proc.go, retake) by Python's means. Every 10 ms the thread checks whether the
 * scheduler has looked for work since the last time. If not, and if others wait to run, it has a Python
 * signal handler called in the scheduler's thread, which switches to another goroutine
 * (goproc/_sched/slices.py, on_slice_end). While bytecode runs, that needs no real signal: the handler is
 * marked as due, and no system call is interrupted. If that has no effect for another 10 ms, the thread is in
 * C code, perhaps blocked in a lock or a read that another goroutine of this process is to end: then a real
 * SIGURG (as in Go, ignored by default) interrupts it. It has no SA_RESTART, with which a wait for a lock
 * would go on. If the handler finds nothing to run it reports that (gp_slice_quiet), and is asked again when
 * the next timer is due.
 *
 * The handler also reports if it may not switch (gp_slice_refused). Mostly the goroutine is then in a
 * library, which the program calls in a loop: in each round some hundred nanoseconds are the program's own.
 * So the handler is asked again at random moments, many times in a row (insist), and if all of them are
 * refused, after a pause.
 *
 * As in Go, a goroutine that was made ready by one which then blocks runs next, in the rest of that one's
 * slice. So goroutines that take turns share the slices of one, however short their turns are, and do not run
 * between a whole queue of others. The slice is watched here, and ends for all of them (gp_slice_inherit).
 *
 * The thread takes no GIL. While the process is idle for long, the thread sleeps, and is woken with the
 * process.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include "proc/proc.h"

#define SLICE_NS 10000000ULL
#define TRIES 64 /* in one attempt to meet a goroutine outside of library code */
#define TRY_NS 20000ULL /* at least; and up to 100 us more */
#define LONGEST_PAUSE 7u /* slices between two attempts */
#define QUIET 20 /* slices without anything to do, after which it sleeps */

_Atomic uint32_t gp_polls, gp_slices;

static struct {
    pthread_t thread, watched;
    bool running;
    int signal;
    void (*request)(int signal);
    bool (*wanted)(void);
    _Atomic uint32_t asleep, stop;
    _Atomic uint32_t over;     /* the slice has lasted long enough */
    uint64_t noted;            /* coarse ns; when the scheduler noted the state of the process */
    _Atomic uint32_t refused;  /* +1 with each request that came where the goroutine cannot be left */
    _Atomic uint64_t quiet;    /* ns; before this time no timer is due */
} monitor;

void gp_slice_refused(void) { atomic_fetch_add(&monitor.refused, 1); }
void gp_slice_quiet(uint64_t until_ns) { gp_set(&monitor.quiet, until_ns); }
bool gp_slice_timers(void) { return gp_now() >= gp_get(&monitor.quiet); }

bool gp_slice_inherit(void) {
    return monitor.running && !atomic_exchange_explicit(&monitor.over, 0, memory_order_relaxed);
}

/* a tick of the kernel, 1 to 10 ms; a third of the cost of the exact time */
static uint64_t coarse_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

bool gp_slice_ticked(void) { return monitor.running && coarse_ns() != monitor.noted; }
void gp_slice_noted(void) { monitor.noted = coarse_ns(); }

static bool idle(void) { return atomic_load(&gp.my->act) & 1; }

/* Ask again and again at random moments. True: the scheduler has looked for work. */
static bool insist(uint32_t polls) {
    uint32_t x = (uint32_t)gp_now() | 1;
    for (int i = 0; i < TRIES; i++) {
        if (gp_get(&monitor.stop) || idle() || !monitor.wanted()) return false;
        monitor.request(monitor.signal);
        x ^= x << 13; /* xorshift32 */
        x ^= x >> 17;
        x ^= x << 5;
        gp_futex_wait(&monitor.stop, 0, gp_now() + TRY_NS + x % 100000);
        if (gp_get(&gp_polls) != polls) return true;
    }
    return false;
}

static void *watch(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "goproc-monitor");
    gp_own_thread(GP_OWN_MONITOR, true);
    uint32_t seen = gp_get(&gp_polls), seen_slices = gp_get(&gp_slices), quiet = 0, strikes = 0;
    uint32_t refused = gp_get(&monitor.refused), skip = 0, pause = 0;
    while (!gp_get(&monitor.stop)) {
        gp_futex_wait(&monitor.stop, 0, gp_now() + SLICE_NS);
        gp_still_die_with_parent();
        if (idle()) {
            strikes = 0;
            if (++quiet < QUIET) continue;
            atomic_store(&monitor.asleep, 1);
            while (idle() && atomic_load(&monitor.asleep) && !atomic_load(&monitor.stop))
                gp_futex_wait(&monitor.asleep, 1, 0);
            atomic_store(&monitor.asleep, 0);
            quiet = 0;
            continue;
        }
        quiet = 0;
        gp_task_watch();
        uint32_t polls = gp_get(&gp_polls), slices = gp_get(&gp_slices);
        if (slices == seen_slices) gp_set(&monitor.over, 1);
        seen_slices = slices;
        if (polls != seen) {
            seen = polls;
            strikes = pause = 0;
            continue;
        }
        if (gp_get(&monitor.refused) != refused) {
            strikes = 0;
            skip = pause = pause < LONGEST_PAUSE ? 2 * pause + 1 : pause;
            if (insist(polls)) skip = pause = 0;
            refused = gp_get(&monitor.refused);
        }
        if (skip > 0) skip--;
        if (skip > 0 || !monitor.wanted()) continue;
        if (++strikes > 1) pthread_kill(monitor.watched, monitor.signal);
        else monitor.request(monitor.signal);
    }
    gp_own_thread(GP_OWN_MONITOR, false);
    return NULL;
}

int gp_monitor_start(int signal, void (*request)(int signal), bool (*wanted)(void)) {
    monitor.watched = pthread_self();
    monitor.signal = signal;
    monitor.request = request;
    monitor.wanted = wanted;
    atomic_store(&monitor.stop, 0);
    atomic_store(&monitor.asleep, 0);
    monitor.noted = 0;
    int err = gp_thread_start(&monitor.thread, watch, NULL);
    monitor.running = err == 0;
    return err;
}

void gp_monitor_wake(void) {
    if (GP_UNLIKELY(atomic_load(&monitor.asleep))) {
        atomic_store(&monitor.asleep, 0);
        gp_futex_wake(&monitor.asleep, 1);
    }
}

void gp_monitor_interrupt(void) {
    if (monitor.running) pthread_kill(monitor.watched, monitor.signal);
}

void gp_monitor_stop(void) {
    if (!monitor.running) return;
    atomic_store(&monitor.stop, 1);
    gp_futex_wake(&monitor.stop, 1);
    atomic_store(&monitor.asleep, 0);
    gp_futex_wake(&monitor.asleep, 1);
    pthread_join(monitor.thread, NULL);
    monitor.running = false;
}
