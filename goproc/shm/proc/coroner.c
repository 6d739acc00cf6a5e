/* coroner.c - the place where deaths become known, and where the program is ended.
 *
 * A thread of the host that never takes the GIL: Python code in the host may hold that for seconds. It reads the zygote's
 * reports from the control socket, and has a pidfd of each worker, since the zygote may be stopped. The kernel alone
 * decides that a process is dead, and never a heartbeat: a slow process is not a dead one.
 *
 * The thread has descriptors of its own, which the program can neither close nor replace. Where the system forbids that,
 * it shares the program's descriptors, checks the socket before each use, and ends the program if the number leads
 * elsewhere.
 *
 * The policy `exit`: a worker that dies ends the program with one report that names it, its signal and its goroutines. No
 * process can hang on the dead one's objects, because none outlives it. The order is: claim header.fatal, so that no
 * other process reports the consequences of the death; end the workers; then write, for a limited time, as there may be
 * no reader.
 *
 * A host that belongs to a prompt, a notebook, a test run or a server survives the end (header.survives): the workers are
 * killed, and `gp.lost` tells the host's scheduler to forget the runtime.
 *
 * If the zygote dies, its workers go on as children of the keeper, and the host starts another one (successor.c). Meanwhile
 * this thread watches and repairs, and replaces no worker. A new thread takes its place, and its records, with the socket of
 * the new zygote.
 *
 * The thread ends when the zygote has ended in order, or its socket. So the host needs no descriptor to wake it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "repair.h"

enum { STARTED = 1, DIED = 2, FORK_FAILED = 3, MEMORY = 4, STACK = 5, WOKEN = 6 };
struct record {
    uint32_t kind, proc;
    int32_t pid, value;
};
#define GP_STACK 8192 /* bytes of text after a STACK record */

#define LOOK_MS 100                   /* between two checks for overdue workers */
#define RECORD_NS 1000000000ULL       /* the time in which the zygote must report how a worker ended */
#define ZOMBIE_NS 200000000ULL        /* the time after which a worker without a zygote is seen as a zombie, see keeper.c */
#define CLAIMANT_LOOKS 100            /* of 10 ms, at a report that another process is about to make */
#define CLAIMANT_NS 5000000000ULL     /* the time in which a worker that has claimed the end of the program must end */
/* the time in which the zygote must end the workers after Ctrl-C, with the programs that they started */
#define INTERRUPTED_MS 3000
#define STARTS_MOST 5                 /* the times in a row that a worker may end before it can begin a goroutine */
#define SHORT_NS 1000000000ULL        /* a short life of a zygote */
#define INSIST_NS 50000000ULL

static struct {
    pthread_t thread;
    bool running;
    struct gp_fd control;
    pid_t zygote, keeper; /* the keeper is the parent of the zygote and ends after it */
    _Atomic uint32_t ready, stop; /* ready: the thread has its descriptors; stop: it is to end */
    _Atomic uint32_t next;        /* it is to end, as a thread with the control socket of another zygote takes its place */
    _Atomic uint32_t given_up;    /* there is no other zygote to be had */
    _Atomic uint32_t dead;        /* the zygote is dead */
} coroner = {.control = {.fd = -1}};

/* A process, as this thread knows it. All zero: the place has no process that has started, or its death is repaired. */
struct process {
    pid_t pid;
    bool adopted;    /* its zygote has died: no report tells how it ends */
    bool told;       /* the zygote has reported its death, with this status: */
    int status;
    uint64_t gone;   /* ns; the time at which it was seen to have ended without a report; 0: it was not */
    uint64_t memory; /* the most bytes that it had; 0: not known */
};

/* A place for a worker, whichever process has it */
struct place {
    struct process process;
    bool noted;      /* the process has died, and step 1 of its repair is done */
    bool owed;       /* a replacement is due, but the zygote could not be told to fork it */
    unsigned starts; /* deaths in a row before the worker could begin a goroutine */
    uint64_t took;   /* ns; the time that the repair has taken so far */
};

/* State of the coroner's thread alone */
static struct {
    bool own_table;
    int proc_folder; /* /proc, which a chroot would hide; -1: none */
    struct pollfd fds[2 + GP_MAX_PROCS]; /* the control socket, the zygote, and at 2 + proc a worker; a negative fd: none */
    struct place places[GP_MAX_PROCS];
    char stack[GP_STACK];        /* lines of text: of the last reported crash, in this process: */
    pid_t stack_of;
    bool over;                   /* the watch is over */
    struct record late;          /* a death that waits for the report of another worker, until `late_until`; kind 0: none */
    uint64_t late_until;
    bool alone;                  /* the zygote has died, and there is no other one yet */
    uint64_t since;              /* ns; the time at which the thread began to watch this zygote */
    unsigned short_lives;        /* zygotes in a row that died soon, without a fork */
    struct gp_dead end;          /* the death because of which the program ends: that is claimed, and is to be reported */
} mine;

static _Atomic int parent, heir; /* of a process that is to die with them: its parent, and its parent after that one's death */

/* The kernel sends PDEATHSIG at the death of any parent, also if another one follows: so there is none while there is an
 * heir. The keeper kills its children when the host dies, and so does the zygote; if both were killed, the child itself
 * notices. */
int gp_die_with_parent(int ppid, int keeper) {
    if (prctl(PR_SET_PDEATHSIG, keeper ? 0 : SIGKILL) < 0) return -errno;
    atomic_store(&parent, ppid);
    atomic_store(&heir, keeper); /* in this order: see follow_parent() */
    return getppid() == ppid ? 0 : -ESRCH; /* the parent died before the prctl */
}

/* Two threads may be here at once. */
static void follow_parent(void) {
    int before = atomic_load(&parent), next = atomic_load(&heir), now = getppid();
    if (!next || now == before) return;
    if (now != next || gp_die_with_parent(next, 0) < 0) _exit(0);
}

void gp_still_die_with_parent(void) {
    int number, mine = atomic_load(&parent);
    if (!mine) return;
    follow_parent();
    if (atomic_load(&heir) || prctl(PR_GET_PDEATHSIG, &number) < 0 || number == SIGKILL) return;
    if (gp_die_with_parent(atomic_load(&parent), 0) == -ESRCH) _exit(0);
}

static bool keeper_has_ended(void) {
    pid_t r = waitpid(coroner.keeper, NULL, WNOHANG | __WALL);
    return r == coroner.keeper || (r < 0 && errno == ECHILD && kill(coroner.keeper, 0) < 0);
}

/* A keeper that was killed ends before its zygote. */
static bool zygote_has_ended(void) {
    if (!keeper_has_ended()) return false;
    waitpid(coroner.zygote, NULL, WNOHANG | __WALL); /* where the host adopts orphans */
    return atomic_load(&coroner.dead) || kill(coroner.zygote, 0) < 0;
}

static bool zygote_ends(int ms) {
    for (int i = 0; i < ms; i++) {
        if (zygote_has_ended()) return true;
        usleep(1000);
    }
    return false;
}

/* The keeper of a zygote that is killed kills the workers. */
static void kill_zygote(void) {
    if (coroner.keeper != coroner.zygote) kill(coroner.keeper, SIGUSR1);
    if (!atomic_load(&coroner.dead)) kill(coroner.zygote, SIGKILL); /* without a keeper, PDEATHSIG takes its workers with it */
}

/* Workers whose zygote has died. */
static void kill_adopted(void) {
    for (uint32_t p = 1; p < gp_places(); p++) {
        const struct gp_proc *w = gp_proc_at(p);
        uint64_t claim = gp_get(&w->claim);
        bool lives = gp_acquire(&w->state) <= GP_P_LIVE && (uint32_t)claim;
        bool adopted = atomic_load(&coroner.dead) || claim >> 32 < gp_get(&gp.head->zygotes);
        if (lives && adopted) kill((pid_t)(uint32_t)claim, SIGKILL);
    }
}

/* Closing the control socket tells the zygote to kill every worker at once; its own exit says that they are gone. */
static void kill_workers(void) {
    if (coroner.zygote <= 0) return;
    kill_adopted();
    if (!atomic_load(&coroner.dead) && gp_fd_is(&coroner.control)) shutdown(coroner.control.fd, SHUT_RDWR);
    else kill_zygote();
    kill(coroner.zygote, SIGCONT); /* either may be stopped */
    kill(coroner.keeper, SIGCONT);
    if (zygote_ends(1000)) return;
    kill_zygote();
    zygote_ends(1000);
}

static bool tell(const void *order, size_t n) {
    return gp_fd_is(&coroner.control) && send(coroner.control.fd, order, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
}

bool gp_coroner_tell(const char *order) { return tell(order, 1); }

/* ---- reports */

static void give_reason(const char *text, size_t n) {
    if (n > GP_REASON - 1) n = GP_REASON - 1;
    memcpy(gp.head->reason, text, n);
    gp.head->reason[n] = 0;
}

static void close_pidfd(uint32_t proc) {
    struct pollfd *p = &mine.fds[2 + proc];
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
}

static void forget(uint32_t proc) {
    close_pidfd(proc);
    mine.places[proc].process = (struct process){0};
}

static void add_stack(struct gp_text *t, pid_t pid) {
    if (mine.stack_of == pid) t->at += snprintf(t->at, (size_t)(t->end - t->at), "%.*s", (int)(t->end - t->at - 1), mine.stack);
}

/* After the end of the workers */
static void report(const char *text, size_t n) {
    static const char title[] = "fatal error: ";
    for (uint32_t proc = 1; proc < gp_places(); proc++) close_pidfd(proc); /* to write needs a descriptor, and a limit may be low */
    size_t skip = n >= sizeof title && memcmp(text, title, sizeof title - 1) == 0 ? sizeof title - 1 : 0;
    const char *line = text + skip, *end = memchr(text, '\n', n);
    give_reason(line, end ? (size_t)(end - line) : 0);
    gp_say(text, n);
}

static void report_death(const struct record *r) {
    static char buffer[8192];
    struct gp_text t = {buffer, buffer + sizeof buffer};
    gp_death_text(&t, r->proc, r->pid, r->value);
    add_stack(&t, r->pid);
    unsigned starts = mine.places[r->proc].starts;
    if (starts >= STARTS_MOST) gp_again_text(&t, starts);
    else if (gp.head->on_death == GP_DEATH_CONTINUE) gp_last_text(&t);
    report(buffer, (size_t)(t.at - buffer));
}

static void report_panic(const struct gp_dead *d, const struct gp_death *how) {
    static char buffer[8192];
    struct gp_text t = {buffer, buffer + sizeof buffer};
    gp_panic_text(&t, how, &d->panic, d->labels);
    add_stack(&t, how->pid);
    report(buffer, (size_t)(t.at - buffer));
}

static void report_zygote(void) {
    static const char text[] = "fatal error: goproc's zygote process died (killed?), and the workers with it\n";
    report(text, sizeof text - 1);
}

static void report_lost_socket(void) {
    char text[320];
    int n = snprintf(text, sizeof text,
                     "fatal error: the program has closed or replaced descriptor %d, by which goproc watches its workers\n"
                     "A program that closes descriptors it has not opened (os.closerange) must do so before it uses goproc.\n",
                     coroner.control.fd);
    report(text, (size_t)n);
}

/* ---- ends */

bool gp_fatal_claim(const char *reason) {
    uint32_t none = 0;
    if (!atomic_compare_exchange_strong(&gp.head->fatal, &none, gp.proc + 1)) return false;
    give_reason(reason, strlen(reason));
    return true;
}

/* 0: the coroner is to report the end of the program; else the former value of `fatal`. */
static uint32_t claim(void) {
    uint32_t by = 0;
    return atomic_compare_exchange_strong(&gp.head->fatal, &by, GP_FATAL_OTHER) ? 0 : by;
}

void gp_leave(int status) {
    int number = status & 0x7f;
    if (!(status & GP_BY_SIGNAL)) _exit(status);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, number);
    signal(number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &only, NULL);
    raise(number);
    _exit(128 + number);
}

/* For the host: returns if the host survives */
static void leave(int status) {
    if (!gp_get(&gp.head->survives)) gp_leave(status);
    atomic_store(&gp.lost, true);
    gp_nudge(0);
    gp_monitor_interrupt();
}

void gp_fatal_exit(int status) {
    gp_set(&gp.head->exit_status, GP_FATAL_SAID | (status & GP_STATUS));
    gp_order();
    if (gp.proc != 0) _exit(status); /* the exit reaches the coroner, which ends the rest */
    kill_workers();
    leave(status);
}

/* Of any process: see mem/damage.c. A host ends even if it survives other ends: its thread is in the midst of an operation, and
 * cannot go on. */
void gp_damage_exit(const char *text, size_t n) {
    static const char title[] = "fatal error: ";
    uint32_t none = 0;
    if (atomic_compare_exchange_strong(&gp.head->fatal, &none, gp.proc + 1)) {
        const char *end = memchr(text, '\n', n);
        give_reason(text + sizeof title - 1, (size_t)(end ? end - text : (ptrdiff_t)n) - (sizeof title - 1));
        gp_set(&gp.head->exit_status, GP_FATAL_SAID | 2);
        gp_say(text, n);
    } else {
        for (int i = 0; i < CLAIMANT_LOOKS && !(gp_get(&gp.head->exit_status) & GP_FATAL_SAID); i++) usleep(10000);
    }
    if (gp.proc == 0) kill_workers();
    gp_leave(2);
}

void gp_interrupted_exit(const char *text, size_t n) {
    if (gp_get(&gp.head->survives) || claim() == GP_FATAL_OTHER) return;
    if (!gp_coroner_tell("I") || !zygote_ends(INTERRUPTED_MS)) kill_workers();
    gp_say(text, n);
    _exit(130);
}

/* True if another worker, which has claimed the end of the program, may still be about to report. */
static bool wait_for_claimant(const struct record *r) {
    if (mine.late.kind) return gp_now() < mine.late_until;
    mine.late = *r;
    mine.late.kind = DIED;
    mine.late_until = gp_now() + CLAIMANT_NS;
    return true;
}

/* ---- the policies `restart` and `continue` */

static bool notice(void);

static bool retired(uint32_t proc) { return gp_get(&gp_proc_at(proc)->retire) == GP_LEAVES; }

static bool carrying_on(uint32_t proc) {
    struct gp_header *h = gp.head;
    return (h->on_death != GP_DEATH_EXIT || retired(proc)) && !gp_get(&h->stop) && !gp_get(&h->fatal);
}

static bool last_one(uint32_t proc);

/* If the program ends because of the death, claim that before any process can meet the dead one's locks: a process that
 * takes one gets OwnerDied, and must not be the one that reports. */
static void claim_end(uint32_t proc) {
    struct gp_dead d = gp_repair_dead(proc);
    bool ends = gp_repair_panics(&d) || (last_one(proc) && !retired(proc));
    if (ends && claim() == 0) mine.end = d;
}

static void note(uint32_t proc) {
    struct place *place = &mine.places[proc];
    if (place->noted) return;
    uint64_t begun = gp_now();
    place->noted = true;
    claim_end(proc);
    gp_repair_note(proc);
    place->took = gp_now() - begun;
}

static void replace(uint32_t proc) {
    uint8_t order[] = {'F', (uint8_t)proc};
    mine.places[proc].owed = mine.alone || !tell(order, sizeof order);
}

/* A resize wants a worker: resize.c. */
static void begin_wanted(uint32_t proc) {
    struct gp_proc *p = gp_proc_at(proc);
    if (gp_acquire(&p->state) != GP_P_WANTED) return;
    gp_set(&p->claim, (uint64_t)gp_get(&gp.head->zygotes) << 32);
    gp_release(&p->state, GP_P_STARTING);
    mine.places[proc].starts = 0;
    replace(proc);
}

static bool timed_out(const struct record *r) {
    uint64_t at = gp_get(&gp_proc_at(r->proc)->kill_at);
    return at && WIFSIGNALED(r->value) && WTERMSIG(r->value) == SIGKILL && gp_now() >= at;
}

/* The goroutine that ran, by its number; 0: not known. UINT64_MAX: none, the process was idle. */
static uint64_t running(uint32_t proc) {
    const struct gp_proc *p = gp_proc_at(proc);
    return gp_get(&p->act) & 1 ? UINT64_MAX : gp_get(&p->running);
}

/* quiet: a map or the like has ended its own goroutine there. If another one was lost, the death is reported. */
static void say_death(const struct gp_dead *dead, bool quiet) {
    static char buffer[GP_STACK + 2048];
    const struct gp_death *d = dead->death ? gp_death_at(dead->death) : NULL;
    struct gp_text t = {buffer, buffer + sizeof buffer};
    if (!d || gp.head->quiet_deaths || (quiet && d->lost <= 1)) return;
    gp_death_line(&t, d, dead->replaced);
    add_stack(&t, d->pid);
    gp_say(buffer, (size_t)(t.at - buffer));
}

/* It ends again and again before it can begin a goroutine, and would go on like that for ever. */
static bool in_a_loop(const struct record *r) {
    const struct gp_proc *p = gp_proc_at(r->proc);
    unsigned *starts = &mine.places[r->proc].starts;
    if (gp_get(&p->queue.looked)) *starts = 0;
    else if (!gp_get(&p->doomed)) ++*starts; /* else the program itself has killed it */
    return *starts >= STARTS_MOST;
}

/* No process is left that could run a goroutine. */
static bool last_one(uint32_t proc) {
    if (gp.head->on_death == GP_DEATH_RESTART) return false;
    for (uint32_t p = 1; p < gp_places(); p++)
        if (p != proc && (gp_get(&gp_proc_at(p)->state) <= GP_P_LIVE || gp_get(&gp_proc_at(p)->state) == GP_P_WANTED)) return false;
    return true;
}

static struct gp_death death_of(const struct record *r) {
    const struct gp_proc *p = gp_proc_at(r->proc);
    struct gp_death how = {
        .proc = r->proc, .pid = r->pid, .status = r->value, .when = gp_now(), .memory = mine.places[r->proc].process.memory,
        .incarnation = gp_get(&p->incarnation), .timed_out = timed_out(r), .running = running(r->proc),
    };
    how.retired = retired(r->proc) && r->value == 0;
    if (how.timed_out) how.overdue = gp_get(&p->kill_for);
    return how;
}

/* True if a resize has dropped it: it gets no replacement. The host may change its mind until then. */
static bool drops(uint32_t proc) {
    uint32_t dropped = GP_DROPPED;
    struct gp_proc *p = gp_proc_at(proc);
    bool waits = retired(proc) && gp_get(&p->queue.pinned_tail) != gp_get(&p->queue.pinned_head); /* for a replacement: recycle() */
    return !waits && atomic_compare_exchange_strong(&p->drop, &dropped, GP_DROPPED_GONE);
}

/* After claim() */
static bool panic(const struct gp_dead *d, const struct gp_death *how) {
    kill_workers();
    report_panic(d, how);
    leave(2);
    return false;
}

/* false: the watch is over */
static bool carry_on(const struct record *r) {
    static struct gp_dead dead;
    uint32_t proc = r->proc;
    struct gp_death how = death_of(r);
    forget(proc);
    dead.replaced = (how.retired || gp.head->on_death == GP_DEATH_RESTART) && !drops(proc);
    bool quiet = gp_get(&gp_proc_at(proc)->doomed) == GP_DOOMED_QUIETLY;
    uint64_t begun = gp_now();
    if (!gp_repair(&dead, &how, notice)) return !mine.over;
    gp_set(&gp.head->repair_ns, mine.places[proc].took + gp_now() - begun);
    if (dead.panics) return claim() ? true : panic(&dead, &how); /* else another process ends the program already */
    mine.places[proc].noted = false;
    if (dead.replaced) replace(proc);
    say_death(&dead, quiet);
    for (uint32_t p = 1; p < gp_places(); p++)
        if (mine.places[p].noted) return true;
    gp_repair_over();
    gp_nudge(0); /* see is_free() of resize.c */
    return true;
}

/* ---- a death */

static bool end_claimed(const struct record *r) {
    struct gp_death how = death_of(r);
    if (mine.end.panics) return panic(&mine.end, &how);
    kill_workers();
    report_death(r);
    leave(2);
    return false;
}

/* false: the watch is over */
static bool on_death(const struct record *r) {
    struct gp_header *h = gp.head;
    if (gp_get(&h->stop)) return true;
    if (carrying_on(r->proc)) note(r->proc);
    if (mine.end.proc) return mine.end.proc == r->proc ? end_claimed(r) : true;
    if (retired(r->proc) && r->value == 0 && !gp_get(&h->fatal)) return carry_on(r);
    if (h->on_death != GP_DEATH_EXIT && carrying_on(r->proc) && !in_a_loop(r) && !last_one(r->proc)) return carry_on(r);
    uint32_t by = claim();
    int status = gp_get(&h->exit_status);
    if (by == GP_FATAL_OTHER || (by == 1 && !gp_get(&h->ending))) return true; /* the host is about to end everything */
    if (by > 1 && by != r->proc + 1 && !(status & GP_FATAL_SAID) && wait_for_claimant(r)) return true;
    gp_set(&gp_proc_at(r->proc)->state, GP_P_DEAD); /* after the claim: a process that meets it must not report in its own way */
    bool said = by == 1 || (by && status & GP_FATAL_SAID);
    status = by > 1 && said ? status & GP_STATUS : 2;
    kill_workers();
    if (!said) report_death(r);
    leave(status);
    return false;
}

static void on_lost(void (*say)(void)) {
    if (gp_get(&gp.head->stop)) return;
    uint32_t by = claim();
    if (by == 1 || by == GP_FATAL_OTHER) return;
    int status = gp_get(&gp.head->exit_status);
    bool said = by && status & GP_FATAL_SAID;
    kill_workers();
    if (!said) say();
    leave(said ? status & GP_STATUS : 2);
}

/* Main may be where no signal reaches it: tell it again until the host has left the runtime. */
static void insist(void) {
    while (atomic_load(&gp.lost) && !gp_get(&coroner.stop) && !gp_get(&coroner.next)) {
        gp_futex_wait(&coroner.stop, 0, gp_now() + INSIST_NS);
        gp_monitor_interrupt();
    }
}

/* ---- workers, as the kernel reports them */

static void follow(uint32_t proc, pid_t pid) {
    forget(proc);
    gp_set(&gp_proc_at(proc)->pid, pid);
    mine.places[proc].process.pid = pid;
    if (mine.own_table) mine.fds[2 + proc].fd = gp_pidfd(pid);
}

/* The same of a worker that the keeper may have reaped already. */
static void follow_adopted(uint32_t proc, pid_t pid) {
    struct process *w = &mine.places[proc].process;
    follow(proc, pid);
    w->adopted = true;
    if (mine.fds[2 + proc].fd < 0) w->gone = gp_now();
}

/* The status of a process that the zygote has not waited for; -1: not known. */
static int status_of_zombie(pid_t pid, bool adopted) {
    char path[24], text[1024];
    snprintf(path, sizeof path, "%d/stat", (int)pid);
    int fd = openat(mine.proc_folder, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (n <= 0) return -1;
    text[n] = 0;
    const char *at = strrchr(text, ')'), *last = strrchr(text, ' ');
    if (!at || !last || at[2] != 'Z' || (!adopted && atoi(at + 4) != coroner.zygote)) return -1;
    int status = atoi(last); /* 0 also if the kernel does not report it */
    return status ? status : -1;
}

/* The repair of locks must not wait for the answer how the process died. */
static void note_the_dead(void) {
    for (uint32_t proc = 1; proc < gp_places(); proc++) {
        struct process *w = &mine.places[proc].process;
        if (mine.fds[2 + proc].fd >= 0 && mine.fds[2 + proc].revents) {
            close_pidfd(proc);
            w->gone = gp_now();
        }
        if ((w->gone || w->told) && carrying_on(proc)) note(proc);
    }
}

/* false: the watch is over */
static bool look_at(uint32_t proc) {
    struct process *w = &mine.places[proc].process;
    struct record r = {.kind = DIED, .proc = proc, .pid = w->pid, .value = w->status};
    if (!w->told) {
        uint64_t now = gp_now();
        if (!w->gone) return true;
        bool told_of = !w->adopted; /* the record says more than the kernel */
        if (told_of && (carrying_on(proc) || mine.end.proc == proc) && now < w->gone + RECORD_NS) return true;
        r.value = status_of_zombie(r.pid, !told_of);
        if (r.value < 0 && !told_of && retired(proc)) r.value = 0;
        if (r.value < 0 && now < w->gone + (told_of ? RECORD_NS : ZOMBIE_NS)) return true;
        if (r.value < 0 && retired(proc)) r.value = 0; /* it had no goroutine any more: nothing is lost, however it has ended */
    }
    close_pidfd(proc);
    w->told = false;
    w->gone = 0;
    return on_death(&r);
}

static bool look_at_workers(void) {
    note_the_dead();
    for (uint32_t proc = 1; proc < gp_places(); proc++) {
        if (mine.places[proc].owed) replace(proc);
        begin_wanted(proc);
        if (!look_at(proc)) return false;
    }
    return !mine.late.kind || gp_now() < mine.late_until || on_death(&mine.late);
}

static bool overdue(void) {
    bool any = mine.late.kind != 0 || mine.alone;
    for (uint32_t proc = 1; proc < gp_places(); proc++) {
        const struct place *place = &mine.places[proc];
        any = any || place->process.gone || place->process.told || place->owed;
    }
    return any;
}

/* ---- the zygote's records */

static void take(const struct record *r) {
    if (r->proc == 0 || r->proc >= gp_places()) return;
    if (r->kind == STARTED) {
        mine.short_lives = 0;
        follow(r->proc, r->pid);
    }
    struct process *w = &mine.places[r->proc].process;
    if (r->kind != FORK_FAILED && r->pid != w->pid) return; /* its death is known already */
    if (r->kind == MEMORY) w->memory = (uint64_t)(uint32_t)r->value << 10;
    if (r->kind == DIED) {
        w->told = true;
        w->status = r->value;
    }
    if (r->kind == FORK_FAILED && gp_get(&gp_proc_at(r->proc)->grown)) {
        gp_set(&gp_proc_at(r->proc)->unborn, (uint32_t)r->value); /* raised by resize() */
        gp_nudge(0);
    } else if (r->kind == FORK_FAILED) {
        gp_set(&gp.head->failed_proc, r->proc);
        gp_release(&gp.head->failed, (uint32_t)r->value); /* raised in the main goroutine */
        gp_nudge(0);
    }
}

static void take_stack(pid_t pid, const char *text, size_t n) {
    if (n > sizeof mine.stack - 1) n = sizeof mine.stack - 1;
    memcpy(mine.stack, text, n);
    mine.stack[n] = 0;
    mine.stack_of = pid;
}

/* The workers of the dead zygote go on, except one that had not claimed its place: see claim. A place that is being repaired
 * gets its claim at the end of the repair. */
static void adopt_workers(void) {
    uint32_t number = gp_get(&gp.head->zygotes) + 1;
    for (uint32_t proc = 1; proc < gp_places(); proc++) {
        struct gp_proc *p = gp_proc_at(proc);
        struct place *place = &mine.places[proc];
        uint64_t claim = atomic_load(&p->claim);
        place->process.adopted = place->process.pid != 0;
        if (gp_get(&p->state) > GP_P_LIVE) continue; /* dead, and its repair is under way; or gone for ever */
        bool none = !(uint32_t)claim && atomic_compare_exchange_strong(&p->claim, &claim, (uint64_t)number << 32);
        if (none) {
            forget(proc);
            place->owed = true;
        } else if (!place->process.told && !place->process.gone) {
            follow_adopted(proc, (pid_t)(uint32_t)claim);
        }
    }
    gp_set(&gp.head->zygotes, number);
}

/* The keeper is a child of this process, and may be a zombie. */
static bool keeper_lives(void) {
    siginfo_t info = {0};
    if (coroner.keeper == coroner.zygote) return false;
    return waitid(P_PID, (id_t)coroner.keeper, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 && info.si_pid == 0;
}

static bool may_replace_zygote(void) {
    const struct gp_header *h = gp.head;
    mine.short_lives = gp_now() < mine.since + SHORT_NS ? mine.short_lives + 1 : 0;
    if (h->on_death == GP_DEATH_EXIT || gp_get(&h->fatal) || gp_get(&h->stop) || !gp_get(&h->zygotes)) return false;
    return mine.own_table && mine.short_lives < STARTS_MOST;
}

/* The zygote has died. From now on this thread alone watches the workers. */
static void go_on_alone(void) {
    for (int i = 0; i < 2; i++) {
        if (mine.fds[i].fd >= 0) close(mine.fds[i].fd);
        mine.fds[i].fd = -1;
    }
    mine.alone = true;
    adopt_workers();
}

/* Have the host start another zygote, or end the program. false: the watch is over */
static bool lose_zygote(void) {
    static const char text[] = "goproc: the process that starts the workers (the zygote) died; another one is started\n";
    struct gp_header *h = gp.head;
    atomic_store(&coroner.dead, 1);
    if (mine.end.proc) { /* a dead worker ends the program: look_at() finds out without the zygote how that worker ended */
        go_on_alone();
        return true;
    }
    if (!may_replace_zygote()) {
        on_lost(report_zygote);
        return false;
    }
    go_on_alone();
    if (!keeper_lives()) kill_adopted(); /* nobody would end them if the host died: they are replaced */
    if (!h->quiet_deaths) gp_say(text, sizeof text - 1);
    gp_set(&h->zygote_lost, 1);
    gp_successor_call();
    return true;
}

/* false: the watch is over */
static bool read_records(void) {
    while (!mine.alone) {
        static struct {
            struct record r;
            char text[GP_STACK];
        } letter;
        struct record *r = &letter.r;
        if (!gp_fd_is(&coroner.control)) {
            on_lost(report_lost_socket);
            return false;
        }
        ssize_t n = recv(coroner.control.fd, &letter, sizeof letter, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN && !mine.fds[1].revents) return true;
        if (n <= 0) return lose_zygote();
        if (n < (ssize_t)sizeof *r) continue;
        take(r);
        if (r->kind == STACK) take_stack(r->pid, letter.text, (size_t)n - sizeof *r);
    }
    if (!atomic_load(&coroner.given_up)) return true;
    on_lost(report_zygote);
    return false;
}

/* poll() refuses more descriptors than RLIMIT_NOFILE, and the program may have lowered that: this function polls one after the
 * other. With a limit of 0 only the records of the zygote tell of deaths. */
static int look_singly(int ms) {
    int found = 0;
    for (uint32_t i = 0; i < 2 + gp_places(); i++) found += mine.fds[i].fd >= 0 && poll(&mine.fds[i], 1, 0) > 0;
    if (!found && ms) poll(NULL, 0, LOOK_MS);
    return found;
}

static int look(int ms) {
    for (uint32_t i = 0; i < 2 + gp_places(); i++) mine.fds[i].revents = 0;
    int found = poll(mine.fds, 2 + gp_places(), ms);
    return found < 0 && errno == EINVAL ? look_singly(ms) : found;
}

/* In the midst of a repair, which waits for a lock: a process that holds it may have died meanwhile. */
static bool notice(void) {
    /* no further process is repaired */
    if (gp_get(&gp.head->stop) || gp_get(&coroner.stop) || gp_get(&gp.head->fatal)) return false;
    if (look(0) >= 0 && !read_records()) mine.over = true;
    note_the_dead();
    return !mine.over;
}

static void watch(void) {
    while (!atomic_load(&coroner.next) && !(mine.alone && gp_get(&coroner.stop))) { /* no zygote's end will tell it to stop */
        if (look(overdue() ? LOOK_MS : -1) < 0) continue; /* EINTR */
        if (!read_records() || !look_at_workers()) return;
    }
}

static void *run(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "goproc-coroner");
    gp_own_thread(GP_OWN_CORONER, true);
    bool succeeds = mine.alone; /* one that had lost its zygote */
    if (!succeeds) memset(&mine, 0, sizeof mine);
    mine.alone = false;
    mine.since = gp_now();
    mine.own_table = gp_fd_own_table(coroner.control.fd);
    mine.proc_folder = mine.own_table ? open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    for (uint32_t i = 0; i < 2 + GP_MAX_PROCS; i++) mine.fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    mine.fds[0].fd = coroner.control.fd;
    mine.fds[1].fd = mine.own_table ? gp_pidfd(coroner.zygote) : -1;
    for (uint32_t proc = 1; succeeds && proc < gp_places(); proc++) {
        const struct process *w = &mine.places[proc].process;
        if (w->adopted && !w->gone) follow_adopted(proc, w->pid);
    }
    atomic_store(&coroner.ready, 1);
    gp_futex_wake(&coroner.ready, 1);
    if (!atomic_load(&gp.lost)) watch(); /* else the runtime has ended while the zygote was being started */
    if (!atomic_load(&coroner.next)) insist();
    gp_own_thread(GP_OWN_CORONER, false);
    return NULL;
}

void gp_coroner_await_end(void) {
    if (!coroner.running) return;
    atomic_store(&coroner.next, 1); /* it is seen within LOOK_MS: there is no zygote */
    pthread_join(coroner.thread, NULL);
    atomic_store(&coroner.next, 0);
    coroner.running = false;
}

void gp_coroner_give_up(void) { atomic_store(&coroner.given_up, 1); }

int gp_coroner_start(int control, int zygote_pid, int keeper_pid) {
    gp_fd_close(&coroner.control);
    atomic_store(&coroner.given_up, 0);
    atomic_store(&coroner.dead, 0);
    int err = gp_fd_note(&coroner.control, control);
    if (err < 0) return err;
    coroner.zygote = zygote_pid;
    coroner.keeper = keeper_pid;
    atomic_store(&coroner.ready, 0);
    atomic_store(&coroner.stop, 0);
    sigset_t all, before;
    sigfillset(&all); /* signals are for the main thread: a futex wait there must end with EINTR */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&coroner.thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    coroner.running = err == 0;
    while (coroner.running && !gp_acquire(&coroner.ready)) gp_futex_wait(&coroner.ready, 0, 0);
    return -err;
}

void gp_coroner_stop(void) {
    if (coroner.running) {
        atomic_store(&coroner.stop, 1);
        if (gp_fd_is(&coroner.control)) shutdown(coroner.control.fd, SHUT_RDWR); /* the coroner sees that */
        else if (waitpid(coroner.keeper, NULL, WNOHANG | __WALL) == 0) kill_zygote(); /* or that */
        gp_futex_wake(&coroner.stop, 1);
        pthread_join(coroner.thread, NULL);
    }
    coroner.running = false;
    gp_fd_close(&coroner.control);
    coroner.zygote = coroner.keeper = 0;
    mine.alone = false; /* the next thread watches another runtime */
}
