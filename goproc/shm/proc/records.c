/* records.c - the coroner's letters from and to the zygote, and the zygote's death.
 *
 * If the zygote dies, its workers go on as children of the keeper, and the host starts another one
 * (successor.c). Meanwhile the coroner watches and repairs, and replaces no worker. A new thread takes its
 * place, and its records, with the socket of the new zygote.
 */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coroner.h"

#define SHORT_NS 1000000000ULL /* a short life of a zygote */

bool gp_coroner_tell_bytes(const void *order, size_t n) {
    return gp_fd_is(&gp_coroner.control) &&
           send(gp_coroner.control.fd, order, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
}

bool gp_coroner_tell(const char *order) { return gp_coroner_tell_bytes(order, 1); }

/* True if this thread follows it already, or has done so until it died; then another one may have its
 * place. */
static bool is_known(const struct record *started) {
    struct place *place = &gp_watch.places[started->proc];
    pid_t claimed = (pid_t)(uint32_t)gp_get(&gp_proc_at(started->proc)->claim);
    bool met = place->met == started->pid;
    if (met) place->met = 0;
    return met || (claimed && claimed != started->pid);
}

static void take(const struct record *r) {
    if (r->proc == 0 || r->proc >= gp_places()) return;
    if (r->kind == STARTED) {
        gp_watch.short_lives = 0;
        if (!is_known(r)) gp_coroner_follow(r->proc, r->pid);
    }
    struct process *w = &gp_watch.places[r->proc].process;
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
    if (n > sizeof gp_watch.stack - 1) n = sizeof gp_watch.stack - 1;
    memcpy(gp_watch.stack, text, n);
    gp_watch.stack[n] = 0;
    gp_watch.stack_of = pid;
}

/* The workers of the dead zygote go on, except one that had not claimed its place: see claim. A place that is
 * being repaired gets its claim at the end of the repair. */
static void adopt_workers(void) {
    uint32_t number = gp_get(&gp.head->zygotes) + 1;
    for (uint32_t proc = 1; proc < gp_places(); proc++) {
        struct gp_proc *p = gp_proc_at(proc);
        struct place *place = &gp_watch.places[proc];
        uint64_t claim = atomic_load(&p->claim);
        place->process.adopted = place->process.pid != 0;
        place->met = 0;
        if (gp_get(&p->state) > GP_P_LIVE) continue; /* dead, and its repair is under way; or gone for ever */
        bool none =
            !(uint32_t)claim && atomic_compare_exchange_strong(&p->claim, &claim, (uint64_t)number << 32);
        if (none) {
            gp_coroner_forget(proc);
            place->owed = true;
        } else if (!place->process.told && !place->process.gone) {
            gp_coroner_follow_adopted(proc, (pid_t)(uint32_t)claim);
        }
    }
    gp_set(&gp.head->zygotes, number);
}

/* The keeper is a child of this process, and may be a zombie. */
static bool keeper_lives(void) {
    siginfo_t info = {0};
    if (gp_coroner.keeper == gp_coroner.zygote) return false;
    return waitid(P_PID, (id_t)gp_coroner.keeper, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 &&
           info.si_pid == 0;
}

static bool may_replace_zygote(void) {
    const struct gp_header *h = gp.head;
    gp_watch.short_lives = gp_now() < gp_watch.since + SHORT_NS ? gp_watch.short_lives + 1 : 0;
    if (h->on_death == GP_DEATH_EXIT || gp_get(&h->fatal) || gp_get(&h->stop) || !gp_get(&h->zygotes))
        return false;
    return gp_watch.own_table && gp_watch.short_lives < STARTS_MOST;
}

/* The zygote has died. From now on this thread alone watches the workers. */
static void go_on_alone(void) {
    for (int i = 0; i < 2; i++) {
        if (gp_watch.fds[i].fd >= 0) close(gp_watch.fds[i].fd);
        gp_watch.fds[i].fd = -1;
    }
    gp_watch.alone = true;
    adopt_workers();
}

/* Have the host start another zygote, or end the program. false: the watch is over */
static bool lose_zygote(void) {
    static const char text[] =
        "goproc: the process that starts the workers (the zygote) died; another one is started\n";
    struct gp_header *h = gp.head;
    atomic_store(&gp_coroner.dead, 1);
    /* a dead worker ends the program: look_at() finds out without the zygote how that worker ended */
    if (gp_watch.end.proc) {
        go_on_alone();
        return true;
    }
    if (!may_replace_zygote()) {
        gp_coroner_on_lost(gp_coroner_report_zygote);
        return false;
    }
    go_on_alone();
    /* Nobody would end them if the host died: they are replaced. Older workers have keepers of their own. */
    if (!keeper_lives()) gp_coroner_kill_workers_of(gp_get(&h->zygotes) - 1);
    if (!h->quiet_deaths) gp_say_later(text, sizeof text - 1);
    gp_set(&h->zygote_lost, 1);
    gp_successor_call();
    return true;
}

bool gp_coroner_read_records(void) {
    while (!gp_watch.alone) {
        static struct {
            struct record r;
            char text[GP_STACK];
        } letter;
        struct record *r = &letter.r;
        if (!gp_fd_is(&gp_coroner.control)) {
            gp_coroner_on_lost(gp_coroner_report_socket);
            return false;
        }
        ssize_t n = recv(gp_coroner.control.fd, &letter, sizeof letter, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN && !gp_watch.fds[1].revents) return true;
        if (n <= 0) return lose_zygote();
        if (n < (ssize_t)sizeof *r) continue;
        take(r);
        if (r->kind == STACK) take_stack(r->pid, letter.text, (size_t)n - sizeof *r);
    }
    if (!atomic_load(&gp_coroner.given_up)) return true;
    gp_coroner_on_lost(gp_coroner_report_zygote);
    return false;
}
