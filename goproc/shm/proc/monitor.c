/* monitor.c - time slices: a thread that notices when a goroutine keeps its process, and has it let others
 * run.
 *
 * This is Go's sysmon (runtime/proc.go, retake) by Python's means. Every 10 ms the monitor thread checks
 * whether the scheduler has looked for work since the last check. If not, and if other goroutines are ready,
 * the monitor asks for the handler: Python is to call on_slice_end() of goproc/_sched/slices.py in the
 * scheduler's thread. The handler switches to another goroutine.
 *
 * The first request is no real signal. The handler is only marked as due, and Python calls it at one of the
 * next bytecodes; no system call is interrupted. If the scheduler has not looked for work 10 ms later, its
 * thread is in C code. It may be blocked there, in a lock or a read that another goroutine of this process is
 * to end. So the second request is a real SIGURG (as in Go, ignored by default), which interrupts the call.
 * SA_RESTART is not set: with it, a wait for a lock would go on.
 *
 * A handler that finds no ready goroutine says until when that stays so (gp_slice_quiet): the monitor asks
 * again when the next timer is due.
 *
 * A handler that may not switch at this point says that, too (gp_slice_refused). Mostly the program is then
 * in a loop of calls to a library, and only some hundred nanoseconds of each round are the program's own. So
 * the monitor asks at random moments, many times in a row (insist). If all of these requests are refused, it
 * pauses, each time for longer, and tries again.
 *
 * As in Go, if a goroutine makes another one ready and then blocks, the other one runs next, in the rest of
 * the same slice (gp_slice_inherit). So two goroutines that wake each other in turn use one slice together,
 * however short their turns are. When it is over, the run queue has its turn.
 *
 * The monitor never takes the GIL. Once the process has been idle for long, the monitor sleeps until the
 * process wakes.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include "proc/proc.h"

#define TRIES 64         /* requests of one insist() */
#define TRY_NS 20000ULL  /* between two of these requests, and at random up to 100 us more */
#define LONGEST_PAUSE 7u /* slices between two calls of insist() */
#define QUIET 20         /* slices in which the process was idle; then the monitor sleeps */

_Atomic uint32_t gp_polls, gp_slices;

static struct {
    pthread_t thread, watched;
    bool running;
    int signal;
    void (*request)(int signal);
    bool (*wanted)(void);
    _Atomic uint32_t asleep, stop;
    _Atomic uint32_t over;    /* 1: the slice has lasted long enough, and nobody inherits the rest of it */
    uint64_t noted;           /* coarse ns; the time at which the scheduler noted the state of the process */
    _Atomic uint32_t refused; /* +1 with each request at a point where the goroutine cannot be left */
    _Atomic uint64_t quiet;   /* ns; no timer is due before this time */
} monitor;

void gp_slice_refused(void) { atomic_fetch_add(&monitor.refused, 1); }
void gp_slice_quiet(uint64_t until_ns) { gp_set(&monitor.quiet, until_ns); }
bool gp_slice_timers(void) { return gp_now() >= gp_get(&monitor.quiet); }

bool gp_slice_inherit(void) {
    return monitor.running && !atomic_exchange_explicit(&monitor.over, 0, memory_order_relaxed);
}

/* the time of the kernel's last tick, 1 to 10 ms ago at most; it costs a third of the exact time */
static uint64_t coarse_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

bool gp_slice_ticked(void) { return monitor.running && coarse_ns() != monitor.noted; }
void gp_slice_noted(void) { monitor.noted = coarse_ns(); }

static bool idle(void) { return atomic_load(&gp.my->act) & 1; }

/* Ask for the handler at random moments. True: the scheduler has looked for work, so one was not refused. */
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
    /* quiet: idle slices in a row; strikes: requests in a row for the same goroutine */
    uint32_t seen = gp_get(&gp_polls), seen_slices = gp_get(&gp_slices), quiet = 0, strikes = 0;
    /* skip: slices until the next request; pause: the last pause, in slices */
    uint32_t refused = gp_get(&monitor.refused), skip = 0, pause = 0;
    while (!gp_get(&monitor.stop)) {
        gp_futex_wait(&monitor.stop, 0, gp_now() + GP_SLICE_NS);
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
