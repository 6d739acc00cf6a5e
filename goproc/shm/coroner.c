/* coroner.c - the one place where a death becomes known, and where the program is ended.
 *
 * A thread of the host that never takes the GIL: Python code in the host may hold that for seconds. It reads the
 * zygote's reports from the control socket. Who is dead is decided by the kernel alone (the zygote has reaped the
 * process); never by a heartbeat: a slow process is not a dead one.
 *
 * The policy `exit`: a worker that dies ends the program with one report that names it, its signal and its goroutines.
 * Nobody can hang on what it held, because nobody outlives it.
 *
 * A host that belongs to a prompt, a notebook, a test run or a server survives the end (header.survives): the workers are
 * killed, and `gp.lost` tells the host's scheduler to forget the runtime.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"

enum { STARTED = 1, DIED = 2, FORK_FAILED = 3 };
struct report {
    uint32_t kind, proc;
    int32_t pid, value;
};

#define REPORT_GOROUTINES 32

static struct {
    pthread_t thread;
    bool running;
    int control, stop_fd;
    pid_t zygote;
} coroner = {.control = -1, .stop_fd = -1};

int gp_die_with_parent(int ppid) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) return -errno;
    return getppid() == ppid ? 0 : -ESRCH; /* it died before the prctl */
}

/* Closing the control socket tells the zygote to kill every worker at once; its own exit says that they are gone. */
static void kill_workers(void) {
    if (coroner.control < 0) return;
    shutdown(coroner.control, SHUT_RDWR);
    for (int i = 0; i < 1000; i++) {
        pid_t r = waitpid(coroner.zygote, NULL, WNOHANG);
        if (r == coroner.zygote || (r < 0 && errno == ECHILD && kill(coroner.zygote, 0) < 0)) return;
        usleep(1000);
    }
    kill(coroner.zygote, SIGKILL); /* PDEATHSIG takes its workers with it */
}

/* ---- the report */

struct text {
    char *at, *end;
};
#define SAY(t, ...)                                                              \
    do {                                                                         \
        int n_ = snprintf((t)->at, (size_t)((t)->end - (t)->at), __VA_ARGS__);   \
        if (n_ > 0) (t)->at += n_ < (t)->end - (t)->at ? n_ : (t)->end - (t)->at - 1; \
    } while (0)

struct census {
    uint64_t owner, queue; /* tags: of what it ran, and of what waited in its queues */
    uint32_t lost;
    struct text *text;
};

static void list_goroutine(struct gp_block *b, bool object, uint64_t bytes, void *arg) {
    struct census *c = arg;
    (void)bytes;
    if (object || !(gp_get(&b->len) >> 56 & GP_BLOCK_TASK)) return;
    const struct gp_task *task = (const struct gp_task *)((char *)b + GP_BLOCK_HEAD);
    uint64_t tag = gp_get(&b->tag);
    bool waits = tag == c->queue && task->pinned; /* others would be taken by another proc */
    if (tag != c->owner && !waits) return;
    if (c->lost++ < REPORT_GOROUTINES)
        SAY(c->text, "    goroutine %llu: %.*s%s\n", (unsigned long long)task->id, (int)GP_TASK_NAME, task->name,
            waits ? " (not started)" : "");
}

static const char *signal_name(int sig) {
    switch (sig) {
    case SIGHUP: return "SIGHUP";
    case SIGINT: return "SIGINT";
    case SIGQUIT: return "SIGQUIT";
    case SIGILL: return "SIGILL";
    case SIGTRAP: return "SIGTRAP";
    case SIGABRT: return "SIGABRT";
    case SIGBUS: return "SIGBUS";
    case SIGFPE: return "SIGFPE";
    case SIGKILL: return "SIGKILL";
    case SIGSEGV: return "SIGSEGV";
    case SIGPIPE: return "SIGPIPE";
    case SIGALRM: return "SIGALRM";
    case SIGTERM: return "SIGTERM";
    case SIGSYS: return "SIGSYS";
    case SIGXCPU: return "SIGXCPU";
    case SIGXFSZ: return "SIGXFSZ";
    case SIGUSR1: return "SIGUSR1";
    case SIGUSR2: return "SIGUSR2";
    default: return "see signal(7)";
    }
}

static void give_reason(const char *text, size_t n) {
    if (n > GP_REASON - 1) n = GP_REASON - 1;
    memcpy(gp.head->reason, text, n);
    gp.head->reason[n] = 0;
}

static void report_death(const struct report *r) {
    static char buffer[8192], goroutines[6144];
    struct text t = {buffer, buffer + sizeof buffer}, list = {goroutines, goroutines + sizeof goroutines};
    uint32_t incarnation = gp_get(&gp_proc_at(r->proc)->incarnation) & 0x1fffff;
    struct census c = {GP_TAG(GP_TAG_PROC, (uint64_t)incarnation << 16 | (r->proc + 1)), GP_TAG(GP_TAG_QUEUE, r->proc + 1),
                       0, &list};
    goroutines[0] = 0;
    gp_heap_each(list_goroutine, &c);
    if (WIFSIGNALED(r->value)) {
        int sig = WTERMSIG(r->value);
        SAY(&t, "fatal error: proc %u (pid %d) was killed by signal %d (%s)", r->proc, r->pid, sig, signal_name(sig));
        if (sig == SIGKILL) SAY(&t, "; if nobody sent it, the kernel did for want of memory (see dmesg)");
    } else {
        SAY(&t, "fatal error: proc %u (pid %d) ended by itself with status %d", r->proc, r->pid, WEXITSTATUS(r->value));
    }
    if (c.lost == 0) SAY(&t, "\nno goroutine was running on it\n");
    else SAY(&t, "\n%u goroutine%s lost with it:\n%s", c.lost, c.lost == 1 ? " was" : "s were", goroutines);
    if (c.lost > REPORT_GOROUTINES) SAY(&t, "    and %u more\n", c.lost - REPORT_GOROUTINES);
    char *line = memchr(buffer, '\n', (size_t)(t.at - buffer));
    give_reason(buffer + strlen("fatal error: "), line ? (size_t)(line - buffer) - strlen("fatal error: ") : 0);
    if (write(STDERR_FILENO, buffer, (size_t)(t.at - buffer)) < 0) return;
}

/* ---- ends */

bool gp_fatal_claim(const char *reason) {
    uint32_t none = 0;
    if (!atomic_compare_exchange_strong(&gp.head->fatal, &none, gp.proc + 1)) return false;
    give_reason(reason, strlen(reason));
    return true;
}

/* Of the host: returns if the host survives */
static void end_program(int status) {
    kill_workers();
    if (!gp_get(&gp.head->survives)) _exit(status);
    atomic_store(&gp.lost, true);
    gp_nudge(0);
    gp_monitor_interrupt();
}

void gp_fatal_exit(int status) {
    gp_set(&gp.head->exit_status, status);
    gp_order();
    if (gp.proc == 0) end_program(status);
    else _exit(status); /* the exit reaches the coroner, which ends the rest */
}

/* false: nothing is to be watched any more */
static bool on_death(const struct report *r) {
    struct gp_header *h = gp.head;
    if (gp_get(&h->stop)) return true;
    uint32_t fatal = gp_get(&h->fatal);
    int status = gp_get(&h->exit_status);
    gp_set(&gp_proc_at(r->proc)->state, GP_P_DEAD);
    bool claimed = fatal == r->proc + 1 && WIFEXITED(r->value) && WEXITSTATUS(r->value) == (status & 0xff);
    if (fatal == 1 && !gp_get(&h->ending)) return true; /* the host is about to end everything */
    if (!claimed) {
        report_death(r);
        status = 2;
    }
    end_program(status);
    return false;
}

/* Main may be where it cannot be told: tell it again until the host has left the runtime. */
static void insist(void) {
    struct pollfd stop = {.fd = coroner.stop_fd, .events = POLLIN};
    while (atomic_load(&gp.lost) && poll(&stop, 1, 50) == 0) gp_monitor_interrupt();
}

static void watch(void) {
    prctl(PR_SET_NAME, "goproc-coroner");
    struct pollfd fds[2] = {{.fd = coroner.control, .events = POLLIN}, {.fd = coroner.stop_fd, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0) continue; /* EINTR */
        if (fds[1].revents) return;
        struct report r;
        ssize_t n = recv(coroner.control, &r, sizeof r, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (n <= 0) { /* the zygote is gone, and its workers with it */
            if (gp_get(&gp.head->stop) || gp_get(&gp.head->fatal) == 1) return insist();
            static const char text[] = "fatal error: goproc's zygote process died (killed?), and the workers with it\n";
            give_reason(text + strlen("fatal error: "), strlen(text) - strlen("fatal error: ") - 1);
            if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(2);
            end_program(2);
            return insist();
        }
        if (n != sizeof r || r.proc == 0 || r.proc >= gp.nprocs) continue;
        if (r.kind == STARTED) gp_set(&gp_proc_at(r.proc)->pid, r.pid);
        if (r.kind == DIED && !on_death(&r)) return insist();
        if (r.kind == FORK_FAILED) {
            gp_set(&gp.head->failed_proc, r.proc);
            gp_release(&gp.head->failed, (uint32_t)r.value); /* raised in the main goroutine */
            gp_nudge(0);
        }
    }
}

static void *run(void *unused) {
    (void)unused;
    gp_own_thread(GP_OWN_CORONER, true);
    watch();
    gp_own_thread(GP_OWN_CORONER, false);
    return NULL;
}

int gp_coroner_start(int control, int zygote_pid) {
    coroner.control = control;
    coroner.zygote = zygote_pid;
    coroner.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (coroner.stop_fd < 0) return -errno;
    sigset_t all, before;
    sigfillset(&all); /* signals are for the main thread: a futex wait there must end with EINTR */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&coroner.thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    coroner.running = err == 0;
    return -err;
}

void gp_coroner_stop(void) {
    if (!coroner.running) return;
    uint64_t one = 1;
    if (write(coroner.stop_fd, &one, sizeof one) == sizeof one) pthread_join(coroner.thread, NULL);
    close(coroner.stop_fd);
    coroner.stop_fd = coroner.control = -1;
    coroner.running = false;
}
