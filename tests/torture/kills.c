/* kills.c - real processes die by SIGKILL while they use a segment, and the core's repair makes it whole.
 *
 *     kills DEATHS [SEED]      prints what was done, and what is wrong; status 1 if anything is
 *
 * Each worker dies at a marked point (points.c), at once or after others had time to come and wait for it, or at a random
 * moment, by a timer. Now and then a second one is killed with it. This process is the host, which repairs and forks
 * replacements. After every ROUND deaths the workers that are left end in order, and the segment is checked: what was sent has
 * come exactly once, no lock is held, nobody waits, no block is left.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "world.h"

enum { ROUND = 400, HANGS_S = 20 };

extern long points_left;
extern const uint32_t *points_word;
extern long points_more;
extern unsigned points_stall;

static int memfd;
static pid_t pids[PROCS];
static bool noted[PROCS];
static uint64_t draws, lives;
static uint32_t seed_of_run;
static long deaths, at_points, by_timer, together, in_repair;

static uint64_t draw(uint64_t below) { /* splitmix64 */
    uint64_t z = (draws += 0x9E3779B97F4A7C15ULL);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return (z ^ z >> 31) % below;
}

/* ---- workers */

static void set_its_end(bool at_point, long accesses, unsigned stall) {
    points_stall = stall;
    if (at_point) {
        points_left = accesses;
        return;
    }
    struct itimerval t = {.it_value = {.tv_usec = 1 + accesses % 3000}};
    setitimer(ITIMER_REAL, &t, NULL); /* SIGALRM ends it as SIGKILL does: it has no handler */
}

static void spawn(uint32_t proc) {
    bool at_point = draw(8) != 0, early = draw(16) == 0;
    long accesses = 1 + (long)draw(1ULL << (6 + draw(13)));
    int where = (int)draw(3); /* anywhere, with a lock, or in the middle of an operation */
    long more = (long)draw(14);
    unsigned stall = draw(4) ? 0 : (unsigned)(50 + draw(400));
    uint64_t seed = draw(UINT64_MAX);
    noted[proc] = false;
    lives++;
    pid_t pid = fork();
    if (pid < 0) abort();
    if (pid) {
        pids[proc] = pid;
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGALRM, SIG_DFL);
    gp_heap_detach(); /* the lists of the host, for its arena */
    memset(&gp, 0, sizeof gp);
    if (early) set_its_end(at_point, accesses, stall);
    else points_more = more;
    if (!world_attach(memfd, proc)) _exit(3);
    world_enter(seed);
    if (!early && where) points_word = (const uint32_t *)(where == 1 ? &gp.my->journal.nlocks : &gp.my->journal.op);
    if (!early && !gp_get(&ledger->stop)) set_its_end(at_point, accesses, stall);
    while (world_turn())
        if (gp_get(&ledger->stop)) {
            points_left = -1;
            setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
        }
    _exit(0);
}

/* ---- the coroner */

static void note(uint32_t proc, int status) {
    if (!WIFSIGNALED(status) || (WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGALRM))
        wrong("proc %u ended with status %x", proc, status);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) by_timer++;
    else at_points++;
    deaths++;
    noted[proc] = true;
    world_died(proc);
    gp_repair_note(proc);
}

static uint32_t proc_of(pid_t pid) {
    for (uint32_t p = 1; p < PROCS; p++)
        if (pids[p] == pid) return p;
    return 0;
}

/* True if it has died; false if it has ended in order, being told to. */
static bool died(uint32_t proc, int status) {
    bool in_order = gp_get(&ledger->stop) && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (in_order) {
        pids[proc] = 0;
        gp_set(&gp_proc_at(proc)->state, GP_P_GONE);
    } else {
        note(proc, status);
    }
    return !in_order;
}

/* In the midst of a repair: look for further deaths. */
static bool notice(void) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        if (died(proc_of(pid), status)) in_repair++;
    return true;
}

bool __real_gp_repair_heap(const struct gp_dead *d);
bool __wrap_gp_repair_heap(const struct gp_dead *d) {
    world_mark_dead(d);
    return __real_gp_repair_heap(d);
}

static void repair(uint32_t proc, bool replaced) {
    struct gp_death how = {.proc = proc, .pid = pids[proc], .status = SIGKILL, .when = gp_now()};
    struct gp_dead d = {.replaced = true};
    if (!gp_repair(&d, &how, notice) || d.panics) wrong("the repair has ended early");
    pids[proc] = 0;
    noted[proc] = false;
    if (replaced) spawn(proc);
}

static uint32_t next_noted(void) {
    for (uint32_t p = 1; p < PROCS; p++)
        if (noted[p]) return p;
    return 0;
}

static void repair_all(bool replaced) {
    for (uint32_t p; (p = next_noted()) != 0;) repair(p, replaced);
    gp_repair_over();
}

/* ---- a hang */

static void hangs(int signal) {
    (void)signal;
    char text[256];
    for (uint32_t p = 0; p < PROCS; p++) {
        const struct gp_journal *j = &gp_proc_at(p)->journal;
        int n = snprintf(text, sizeof text, "HANG proc %u pid %d state %u park %u beats %llu op %u locks %u first %x\n", p, (int)pids[p],
                         gp_proc_at(p)->state, gp_proc_at(p)->park, (unsigned long long)ledger->beats[p], j->op, j->nlocks, j->locks[0]);
        if (write(1, text, (size_t)n) < 0) break;
    }
    int n = snprintf(text, sizeof text, "seed %u, after %ld deaths\n", seed_of_run, deaths);
    if (write(1, text, (size_t)n) < 0) _exit(2);
    if (getenv("HANG_STAYS")) for (;;) pause();
    _exit(2);
}

/* ---- rounds */

static bool failed(void) {
    uint32_t n = atomic_load(&ledger->wrongs);
    for (uint32_t i = 0; i < n && i < 16; i++) printf("WRONG %s\n", ledger->wrong[i]);
    if (n) printf("%u wrong; seed %u, after %ld deaths\n", n, seed_of_run, deaths);
    return n != 0;
}

static void end_in_order(void) {
    atomic_store(&ledger->stop, 1);
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        if (pid < 0 && errno == ECHILD) return;
        if (died(proc_of(pid), status)) repair_all(true); /* it had not seen the stop yet */
    }
}

static bool round_of(long most) {
    memset(ledger, 0, sizeof *ledger);
    atomic_store(&ledger->ids, 1);
    memfd = gp_create(PROCS, 256 << 20, 2);
    if (memfd < 0 || !world_attach(memfd, HOST)) {
        printf("no segment: %d\n", memfd);
        return false;
    }
    gp.head->on_death = GP_DEATH_RESTART;
    world_make();
    for (uint32_t p = 1; p < PROCS; p++) spawn(p);
    long end = deaths + most;
    while (deaths < end && !atomic_load(&ledger->wrongs)) {
        int status;
        alarm(HANGS_S);
        pid_t pid = waitpid(-1, &status, 0);
        uint32_t p = proc_of(pid), other = 1 + (uint32_t)draw(PROCS - 1);
        if (draw(8) == 0 && other != p && pids[other]) { /* two at once */
            kill(pids[other], SIGKILL);
            waitpid(pids[other], &(int){0}, 0);
            together++;
            note(other, SIGKILL);
        }
        note(p, status);
        repair_all(true);
    }
    alarm(HANGS_S);
    end_in_order();
    alarm(0);
    if (!atomic_load(&ledger->wrongs)) world_check();
    return !failed();
}

int main(int argc, char **argv) {
    long wanted = argc > 1 ? atol(argv[1]) : 1000;
    uint64_t received = 0, began = 0, joined = 0, stolen = 0, start = gp_now();
    draws = seed_of_run = argc > 2 ? (uint32_t)atol(argv[2]) : (uint32_t)(gp_now() / 1000);
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    signal(SIGALRM, hangs);
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (deaths < wanted) {
        if (!round_of(wanted - deaths < ROUND ? wanted - deaths : ROUND)) return 1;
        received += ledger->received, began += ledger->began, joined += ledger->joined, stolen += ledger->stolen;
        gp_detach();
    }
    printf("%ld deaths: %ld at points, %ld by timer, %ld with another, %ld during a repair; %.1f s\n", deaths, at_points, by_timer,
           together, in_repair, (double)(gp_now() - start) / 1e9);
    printf("%llu messages received, %llu tasks begun, %llu joined, %llu steals; 0 wrong\n", (unsigned long long)received,
           (unsigned long long)began, (unsigned long long)joined, (unsigned long long)stolen);
    return 0;
}
