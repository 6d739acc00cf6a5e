/* ending.c - the end of the program: the workers are killed, one process reports, and the host ends.
 *
 * The order is: claim header.fatal, so that no other process reports the consequences; end the workers; then
 * write, for a limited time, as there may be no reader.
 *
 * A host that belongs to a prompt, a notebook, a test run or a server survives the end (header.survives): the
 * workers are killed, and `gp.lost` tells the host's scheduler to forget the runtime.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coroner.h"

#define CLAIMANT_LOOKS 100 /* of 10 ms, at a report that another process is about to make */
/* the time in which the zygote must end the workers after Ctrl-C, with the programs that they started */
#define INTERRUPTED_MS 3000

static bool keeper_has_ended(void) {
    pid_t r = waitpid(gp_coroner.keeper, NULL, WNOHANG | __WALL);
    return r == gp_coroner.keeper || (r < 0 && errno == ECHILD && kill(gp_coroner.keeper, 0) < 0);
}

/* A keeper that was killed ends before its zygote. */
static bool zygote_has_ended(void) {
    if (!keeper_has_ended()) return false;
    waitpid(gp_coroner.zygote, NULL, WNOHANG | __WALL); /* where the host adopts orphans */
    return atomic_load(&gp_coroner.dead) || kill(gp_coroner.zygote, 0) < 0;
}

static bool zygote_ends(int ms) {
    for (int i = 0; i < ms; i++) {
        if (zygote_has_ended()) return true;
        usleep(1000);
    }
    return false;
}

/* The keeper of a zygote that is killed kills the workers. */
void gp_coroner_kill_zygote(void) {
    if (gp_coroner.keeper != gp_coroner.zygote) kill(gp_coroner.keeper, SIGUSR1);
    /* without a keeper, PDEATHSIG takes its workers with it */
    if (!atomic_load(&gp_coroner.dead)) kill(gp_coroner.zygote, SIGKILL);
}

/* Kill the workers of the zygotes with the numbers from `first` on, up to `end`. */
static void kill_workers_of(uint64_t first, uint64_t end) {
    for (uint32_t p = 1; p < gp_places(); p++) {
        const struct gp_proc *w = gp_proc_at(p);
        uint64_t claim = gp_get(&w->claim), zygote = claim >> 32;
        if (gp_acquire(&w->state) <= GP_P_LIVE && (uint32_t)claim && zygote >= first && zygote < end)
            kill((pid_t)(uint32_t)claim, SIGKILL);
    }
}

void gp_coroner_kill_workers_of(uint32_t zygote) { kill_workers_of(zygote, zygote + 1ULL); }

/* Kill the workers whose zygote has died. */
static void kill_adopted(void) {
    kill_workers_of(0, (uint64_t)gp_get(&gp.head->zygotes) + atomic_load(&gp_coroner.dead));
}

/* Closing the control socket tells the zygote to kill every worker at once; its own exit says that they are
 * gone. */
void gp_coroner_kill_workers(void) {
    if (gp_coroner.zygote <= 0) return;
    kill_adopted();
    if (!atomic_load(&gp_coroner.dead) && gp_fd_is(&gp_coroner.control))
        shutdown(gp_coroner.control.fd, SHUT_RDWR);
    else gp_coroner_kill_zygote();
    kill(gp_coroner.zygote, SIGCONT); /* either may be stopped */
    kill(gp_coroner.keeper, SIGCONT);
    if (zygote_ends(1000)) return;
    gp_coroner_kill_zygote();
    zygote_ends(1000);
}

/* ---- reports */

static void give_reason(const char *text, size_t n) {
    if (n > GP_REASON - 1) n = GP_REASON - 1;
    memcpy(gp.head->reason, text, n);
    gp.head->reason[n] = 0;
}

void gp_coroner_add_stack(struct gp_text *t, pid_t pid) {
    if (gp_watch.stack_of != pid) return;
    gp_text_add(t, "%s", gp_watch.stack);
}

/* Write the report, after the end of the workers. */
static void report(const char *text, size_t n) {
    static const char title[] = "fatal error: ";
    /* to write needs a descriptor, and a limit may be low */
    for (uint32_t proc = 1; proc < gp_places(); proc++) gp_coroner_close_pidfd(proc);
    size_t skip = n >= sizeof title && memcmp(text, title, sizeof title - 1) == 0 ? sizeof title - 1 : 0;
    const char *line = text + skip, *end = memchr(text, '\n', n);
    give_reason(line, end ? (size_t)(end - line) : 0);
    if (gp.head->quiet_deaths == GP_QUIET_END) return;
    gp_say_last();
    gp_say(text, n);
}

void gp_coroner_report_death(const struct record *r) {
    static char buffer[8192];
    struct gp_text t = {buffer, buffer + sizeof buffer};
    gp_death_text(&t, r->proc, r->pid, r->value);
    gp_coroner_add_stack(&t, r->pid);
    unsigned starts = gp_watch.places[r->proc].starts;
    if (starts >= STARTS_MOST) gp_again_text(&t, starts);
    else if (gp.head->on_death == GP_DEATH_CONTINUE) gp_last_text(&t);
    report(buffer, (size_t)(t.at - buffer));
}

void gp_coroner_report_panic(const struct gp_dead *d, const struct gp_death *how) {
    static char buffer[8192];
    struct gp_text t = {buffer, buffer + sizeof buffer};
    gp_panic_text(&t, how, &d->panic, d->labels);
    gp_coroner_add_stack(&t, how->pid);
    report(buffer, (size_t)(t.at - buffer));
}

void gp_coroner_report_zygote(void) {
    static const char text[] =
        "fatal error: goproc's zygote process died (killed?), and the workers with it\n";
    report(text, sizeof text - 1);
}

void gp_coroner_report_socket(void) {
    char text[320];
    int n = snprintf(
        text, sizeof text,
        "fatal error: the program has closed or replaced descriptor %d, by which goproc watches its workers\n"
        "A program that closes descriptors it has not opened (os.closerange) must do so before it uses "
        "goproc.\n",
        gp_coroner.control.fd);
    report(text, (size_t)n);
}

/* ---- ends */

bool gp_fatal_claim(const char *reason) {
    uint32_t none = 0;
    if (!atomic_compare_exchange_strong(&gp.head->fatal, &none, gp.proc + 1)) return false;
    give_reason(reason, strlen(reason));
    return true;
}

uint32_t gp_coroner_claim(void) {
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

/* End the host, or only its runtime if the host survives. */
void gp_coroner_leave(int status) {
    if (!gp_get(&gp.head->survives)) gp_leave(status);
    atomic_store(&gp.lost, true);
    gp_nudge(0);
    gp_monitor_interrupt();
}

void gp_fatal_exit(int status) {
    gp_set(&gp.head->exit_status, GP_FATAL_SAID | (status & GP_STATUS));
    gp_order();
    if (gp.proc != 0) _exit(status); /* the exit reaches the coroner, which ends the rest */
    gp_coroner_kill_workers();
    gp_coroner_leave(status);
}

/* Called in any process, see mem/damage.c. A host ends even if it survives other ends: its thread is in the
 * middle of an operation, and cannot go on. */
void gp_damage_exit(const char *text, size_t n) {
    static const char title[] = "fatal error: ";
    uint32_t none = 0;
    if (atomic_compare_exchange_strong(&gp.head->fatal, &none, gp.proc + 1)) {
        const char *end = memchr(text, '\n', n);
        give_reason(text + sizeof title - 1, (size_t)(end ? end - text : (ptrdiff_t)n) - (sizeof title - 1));
        gp_set(&gp.head->exit_status, GP_FATAL_SAID | 2);
        gp_say(text, n);
    } else {
        for (int i = 0; i < CLAIMANT_LOOKS && !(gp_get(&gp.head->exit_status) & GP_FATAL_SAID); i++)
            usleep(10000);
    }
    if (gp.proc == 0) gp_coroner_kill_workers();
    gp_leave(2);
}

void gp_interrupted_exit(const char *text, size_t n) {
    if (gp_get(&gp.head->survives) || gp_coroner_claim() == GP_FATAL_OTHER) return;
    if (!gp_coroner_tell("I") || !zygote_ends(INTERRUPTED_MS)) gp_coroner_kill_workers();
    gp_say(text, n);
    _exit(130);
}
