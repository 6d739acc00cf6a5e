/* coroner.c - the place where deaths become known.
 *
 * A thread of the host that never takes the GIL: Python code in the host may hold that for seconds. It reads
 * the zygote's reports from the control socket (records.c), and has a pidfd of each worker, since the zygote
 * may be stopped. The kernel alone decides that a process is dead, and never a heartbeat: a slow process is
 * not a dead one. Then verdict.c decides.
 *
 * The thread has descriptors of its own, which the program can neither close nor replace. Where the system
 * forbids that, it shares the program's descriptors, checks the socket before each use, and ends the program
 * if the number leads elsewhere.
 *
 * The thread ends when the zygote has ended in order, or the socket is shut down. So the host needs no
 * descriptor to wake it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coroner.h"

#define LOOK_MS 100             /* between two checks for overdue workers */
#define RECORD_NS 1000000000ULL /* the time in which the zygote must report how a worker ended */
/* the time after which a worker without a zygote is seen as a zombie, see keeper/keeper.c */
#define ZOMBIE_NS 200000000ULL
#define INSIST_NS 50000000ULL   /* between two calls of main after a lost runtime */

struct coroner gp_coroner = {.control = {.fd = -1}};
struct watch gp_watch;

void gp_coroner_close_pidfd(uint32_t proc) {
    struct pollfd *p = &gp_watch.fds[2 + proc];
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
}

void gp_coroner_forget(uint32_t proc) {
    gp_coroner_close_pidfd(proc);
    gp_watch.places[proc].process = (struct process){0};
}

/* ---- workers, as the kernel reports them */

void gp_coroner_follow(uint32_t proc, pid_t pid) {
    gp_coroner_forget(proc);
    gp_set(&gp_proc_at(proc)->pid, pid);
    gp_watch.places[proc].process.pid = pid;
    if (gp_watch.own_table) gp_watch.fds[2 + proc].fd = gp_pidfd(pid);
}

/* True if a worker is to come, and the zygote has not told of its start. */
static bool awaits(uint32_t proc) {
    uint32_t state = gp_acquire(&gp_proc_at(proc)->state);
    return !gp_watch.alone && !gp_watch.places[proc].process.pid &&
           (state == GP_P_STARTING || state == GP_P_LIVE);
}

/* Follow a worker that has come by its claim: the zygote may have been stopped between the fork and its
 * report. */
static void meet(uint32_t proc) {
    pid_t pid = (pid_t)(uint32_t)gp_get(&gp_proc_at(proc)->claim);
    if (!pid || !awaits(proc)) return;
    gp_watch.places[proc].met = pid;
    gp_coroner_follow(proc, pid);
}

void gp_coroner_follow_adopted(uint32_t proc, pid_t pid) {
    struct process *w = &gp_watch.places[proc].process;
    gp_coroner_follow(proc, pid);
    w->adopted = true;
    if (gp_watch.fds[2 + proc].fd < 0) w->gone = gp_now();
}

/* The status of a process that the zygote has not waited for; -1: not known. */
static int status_of_zombie(pid_t pid, bool adopted) {
    char path[24], text[1024];
    snprintf(path, sizeof path, "%d/stat", (int)pid);
    int fd = openat(gp_watch.proc_folder, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (n <= 0) return -1;
    text[n] = 0;
    const char *at = strrchr(text, ')'), *last = strrchr(text, ' ');
    if (!at || !last || at[2] != 'Z' || (!adopted && atoi(at + 4) != gp_coroner.zygote)) return -1;
    int status = atoi(last); /* 0 also if the kernel does not report it */
    return status ? status : -1;
}

/* Begin the repair of those that have ended. The repair of locks must not wait until it is known how the
 * process died. */
static void note_the_dead(void) {
    for (uint32_t proc = 1; proc < gp_places(); proc++) {
        struct process *w = &gp_watch.places[proc].process;
        if (gp_watch.fds[2 + proc].fd >= 0 && gp_watch.fds[2 + proc].revents) {
            gp_coroner_close_pidfd(proc);
            w->gone = gp_now();
        }
        if ((w->gone || w->told) && gp_coroner_carries_on(proc)) gp_coroner_note(proc);
    }
}

/* See if the process of this place has ended, and act on its death. False: the watch is over. */
static bool look_at(uint32_t proc) {
    struct process *w = &gp_watch.places[proc].process;
    struct record r = {.kind = DIED, .proc = proc, .pid = w->pid, .value = w->status};
    if (!w->told) {
        uint64_t now = gp_now();
        if (!w->gone) return true;
        bool told_of = !w->adopted; /* the zygote will tell, and its record says more than the kernel */
        if (told_of && (gp_coroner_carries_on(proc) || gp_watch.end.proc == proc) &&
            now < w->gone + RECORD_NS)
            return true;
        r.value = status_of_zombie(r.pid, !told_of);
        if (r.value < 0 && !told_of && gp_coroner_retired(proc)) r.value = 0;
        if (r.value < 0 && now < w->gone + (told_of ? RECORD_NS : ZOMBIE_NS)) return true;
        /* it had no goroutine any more: nothing is lost, however it has ended */
        if (r.value < 0 && gp_coroner_retired(proc)) r.value = 0;
    }
    gp_coroner_close_pidfd(proc);
    w->told = false;
    w->gone = 0;
    return gp_coroner_on_death(&r);
}

static bool look_at_workers(void) {
    note_the_dead();
    for (uint32_t proc = 1; proc < gp_places(); proc++) {
        if (gp_watch.places[proc].owed) gp_coroner_replace(proc);
        gp_coroner_begin_wanted(proc);
        meet(proc);
        if (!look_at(proc)) return false;
    }
    return !gp_watch.late.kind || gp_now() < gp_watch.late_until || gp_coroner_on_death(&gp_watch.late);
}

/* True if something is awaited that wakes no poll(). */
static bool overdue(void) {
    bool any = gp_watch.late.kind != 0 || gp_watch.alone || gp_say_unsaid();
    for (uint32_t proc = 1; proc < gp_places(); proc++) {
        const struct place *place = &gp_watch.places[proc];
        any = any || place->process.gone || place->process.told || place->owed || awaits(proc);
    }
    return any;
}

/* poll() refuses more descriptors than RLIMIT_NOFILE, and the program may have lowered that: this function
 * polls one after the other. With a limit of 0 only the records of the zygote tell of deaths. */
static int look_singly(int ms) {
    int found = 0;
    for (uint32_t i = 0; i < 2 + gp_places(); i++)
        found += gp_watch.fds[i].fd >= 0 && poll(&gp_watch.fds[i], 1, 0) > 0;
    if (!found && ms) poll(NULL, 0, LOOK_MS);
    return found;
}

static int look(int ms) {
    for (uint32_t i = 0; i < 2 + gp_places(); i++) gp_watch.fds[i].revents = 0;
    int found = poll(gp_watch.fds, 2 + gp_places(), ms);
    return found < 0 && errno == EINVAL ? look_singly(ms) : found;
}

/* In the midst of a repair, which waits for a lock: a process that holds it may have died meanwhile. */
bool gp_coroner_notice(void) {
    /* no further process is repaired */
    if (gp_get(&gp.head->stop) || gp_get(&gp_coroner.stop) || gp_get(&gp.head->fatal)) return false;
    if (look(0) >= 0 && !gp_coroner_read_records()) gp_watch.over = true;
    note_the_dead();
    return !gp_watch.over;
}

/* Main may be where no signal reaches it: tell it again until the host has left the runtime. */
static void insist(void) {
    while (atomic_load(&gp.lost) && !gp_get(&gp_coroner.stop) && !gp_get(&gp_coroner.next)) {
        gp_futex_wait(&gp_coroner.stop, 0, gp_now() + INSIST_NS);
        gp_monitor_interrupt();
    }
}

static void watch(void) {
    /* without a zygote no end of a zygote tells the thread to stop */
    while (!atomic_load(&gp_coroner.next) && !(gp_watch.alone && gp_get(&gp_coroner.stop))) {
        if (look(overdue() ? LOOK_MS : -1) < 0) continue; /* EINTR */
        if (!gp_coroner_read_records() || !look_at_workers()) return;
    }
}

static void *run(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "goproc-coroner");
    gp_own_thread(GP_OWN_CORONER, true);
    bool succeeds = gp_watch.alone; /* the last thread had lost its zygote, and this one takes its place */
    if (!succeeds) memset(&gp_watch, 0, sizeof gp_watch);
    gp_watch.alone = false;
    gp_watch.since = gp_now();
    gp_watch.own_table = gp_fd_own_table(gp_coroner.control.fd);
    gp_watch.proc_folder = gp_watch.own_table ? open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    for (uint32_t i = 0; i < 2 + GP_MAX_PROCS; i++)
        gp_watch.fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    gp_watch.fds[0].fd = gp_coroner.control.fd;
    gp_watch.fds[1].fd = gp_watch.own_table ? gp_pidfd(gp_coroner.zygote) : -1;
    for (uint32_t proc = 1; succeeds && proc < gp_places(); proc++) {
        const struct process *w = &gp_watch.places[proc].process;
        if (w->adopted && !w->gone) gp_coroner_follow_adopted(proc, w->pid);
    }
    atomic_store(&gp_coroner.ready, 1);
    gp_futex_wake(&gp_coroner.ready, 1);
    if (!atomic_load(&gp.lost)) watch(); /* else the runtime has ended while the zygote was being started */
    if (!atomic_load(&gp_coroner.next)) gp_say_last();
    if (!atomic_load(&gp_coroner.next)) insist();
    gp_own_thread(GP_OWN_CORONER, false);
    return NULL;
}

void gp_coroner_await_end(void) {
    if (!gp_coroner.running) return;
    atomic_store(&gp_coroner.next, 1); /* it is seen within LOOK_MS: there is no zygote */
    pthread_join(gp_coroner.thread, NULL);
    atomic_store(&gp_coroner.next, 0);
    gp_coroner.running = false;
}

void gp_coroner_give_up(void) { atomic_store(&gp_coroner.given_up, 1); }

int gp_coroner_start(int control, int zygote_pid, int keeper_pid) {
    gp_fd_close(&gp_coroner.control);
    atomic_store(&gp_coroner.given_up, 0);
    atomic_store(&gp_coroner.dead, 0);
    int err = gp_fd_note(&gp_coroner.control, control);
    if (err < 0) return err;
    gp_coroner.zygote = zygote_pid;
    gp_coroner.keeper = keeper_pid;
    atomic_store(&gp_coroner.ready, 0);
    atomic_store(&gp_coroner.stop, 0);
    err = gp_thread_start(&gp_coroner.thread, run, NULL);
    gp_coroner.running = err == 0;
    while (gp_coroner.running && !gp_acquire(&gp_coroner.ready)) gp_futex_wait(&gp_coroner.ready, 0, 0);
    return err;
}

void gp_coroner_stop(void) {
    if (gp_coroner.running) {
        atomic_store(&gp_coroner.stop, 1);
        /* the coroner sees the end of the socket, or that of the zygote */
        if (gp_fd_is(&gp_coroner.control)) shutdown(gp_coroner.control.fd, SHUT_RDWR);
        else if (waitpid(gp_coroner.keeper, NULL, WNOHANG | __WALL) == 0) gp_coroner_kill_zygote();
        gp_futex_wake(&gp_coroner.stop, 1);
        pthread_join(gp_coroner.thread, NULL);
    }
    gp_coroner.running = false;
    gp_fd_close(&gp_coroner.control);
    gp_coroner.zygote = gp_coroner.keeper = 0;
    gp_watch.alone = false; /* the next thread watches another runtime */
}
