/* start.c - the start of the keeper, and by it of the zygote. The thread that starts them waits until both
 * run. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "keeper.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define FIRST_FREE 10 /* descriptors from here on are none of the zygote's */

static void wait_until_set(_Atomic uint32_t *word) {
    while (!atomic_load(word)) call(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, 0, 0);
}

static void set(_Atomic uint32_t *word) {
    atomic_store(word, 1);
    call(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, 1, 0);
}

/* No private futex: the wake by the kernel, at the end of a process, is none either, and would not be
 * noticed. */
static void wait_until_clear(_Atomic uint32_t *word) {
    while (atomic_load(word)) call(SYS_futex, (long)word, FUTEX_WAIT, 1, 0);
}

static void clear(_Atomic uint32_t *word) {
    atomic_store(word, 0);
    call(SYS_futex, (long)word, FUTEX_WAKE, 1, 0);
}

/* Handlers belong to the program. A signal must not run one in a process that shares its memory. */
static void reset_signals(void) {
    for (int number = 1; number < NSIG; number++) {
        struct sigaction now;
        if (sigaction(number, NULL, &now) < 0 || now.sa_handler == SIG_DFL) continue;
        if (now.sa_handler == SIG_IGN && number != SIGCHLD) continue; /* the zygote inherits it */
        signal(number, SIG_DFL);
    }
}

static bool open_null(unsigned streams) {
    for (int fd = 0; fd < 3; fd++) {
        if (!(streams >> fd & 1)) continue;
        int null = open("/dev/null", O_RDWR);
        if (null < 0 || (null != fd && (dup2(null, fd) < 0 || (null > 2 && close(null) < 0)))) return false;
    }
    return true;
}

static int move_up(int fd) {
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE);
    if (moved < 0 && errno == EINVAL) errno = EMFILE; /* RLIMIT_NOFILE is below it */
    return moved;
}

static bool pass_descriptors(const struct start *s) {
    int control = move_up(s->control), source = control < 0 ? -1 : move_up(s->source);
    if (source < 0) return false;
    for (size_t i = 0; i < s->n_close; i++)
        if (s->close[i] != control && s->close[i] != source) close(s->close[i]);
    return dup2(control, 3) >= 0 && dup2(source, 4) >= 0;
}

/* A zygote without a keeper may be stopped before it has its lifelines: proc/lifeline.c. Until then the
 * kernel continues it when the host's end of the control socket is closed. A system that knows no such
 * signals goes without. */
static void continue_at_hangup(int control) {
    if (fcntl(control, F_SETSIG, SIGCONT) == 0 && fcntl(control, F_SETOWN, getpid()) == 0)
        fcntl(control, F_SETFL, fcntl(control, F_GETFL) | O_ASYNC);
}

static int become_zygote(void *arg) {
    struct start *s = arg;
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT); /* until it ignores them */
    sigaddset(&blocked, SIGQUIT);
    if (prctl(PR_SET_PDEATHSIG, SIGCONT) == 0 && open_null(s->null) && pass_descriptors(s) &&
        sigprocmask(SIG_SETMASK, &blocked, NULL) == 0) {
        continue_at_hangup(3);
        execve(s->path, s->argv, s->envp);
    }
    s->error = errno ? errno : EINVAL;
    _exit(127);
}

static void start_zygote(struct start *s) {
    const int flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
    atomic_store(&s->zygote_borrows, 1);
    pid_t pid =
        clone(become_zygote, s->zygote_stack + KEEPER_STACK, flags, s, &s->zygote, NULL, &s->zygote_borrows);
    if (pid < 0) s->error = errno;
    else if (s->error) waitpid(pid, NULL, 0);
}

static int keep(void *arg) {
    struct start *s = arg;
    pid_t host = s->host;
    reset_signals();
    prctl(PR_SET_NAME, "goproc-keeper");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (prctl(PR_SET_PDEATHSIG, SIGCONT) < 0 || getppid() != host) s->error = ESRCH;
    else start_zygote(s);
    int failed = s->error;
    pid_t zygote = s->zygote;
    if (syscall(SYS_close_range, 0, ~0U, 0) < 0)
        for (int fd = 0; fd <= s->highest; fd++) close(fd);
    call(SYS_chdir, (long)"/", 0, 0, 0); /* or the folder could not be unmounted */
    s->ready = true;
    clear(&s->keeper_starts);
    if (!failed) keeper_watch(zygote, host);
    for (;;) call(SYS_exit_group, KEEPER_FAILED, 0, 0, 0);
    return 0;
}

/* The keeper was killed before it was ready. Its zygote is an orphan, perhaps one in the memory of the
 * host. */
static void end_unkept(struct start *s) {
    s->error = EPIPE;
    if (s->zygote <= 0) return;
    kill(s->zygote, SIGKILL);
    wait_until_clear(&s->zygote_borrows);
    waitpid(s->zygote, NULL, 0); /* where the host adopts orphans */
}

void keeper_start(struct start *s) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    atomic_store(&s->keeper_starts, 1);
    s->keeper = clone(keep, s->keeper_stack + KEEPER_STACK, CLONE_VM | CLONE_CHILD_CLEARTID, s, NULL, NULL,
                      &s->keeper_starts);
    if (s->keeper > 0) {
        wait_until_clear(&s->keeper_starts);
        if (!s->ready) end_unkept(s);
        if (s->error) waitpid(s->keeper, NULL, __WALL);
    } else { /* a sandbox that knows no such processes: then the zygote is a child like any other */
        start_zygote(s);
        s->keeper = s->zygote;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The kernel takes the end of the thread that has cloned the keeper for the death of its parent. */
static void *be_parent(void *arg) {
    struct start *s = arg;
    keeper_start(s);
    set(&s->spawned);
    wait_until_set(&s->finished);
    return NULL;
}

void keeper_start_in_thread(struct start *s) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->error = pthread_create(&s->thread, NULL, be_parent, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (s->error) return;
    s->threaded = true;
    wait_until_set(&s->spawned);
}

void keeper_discard(struct start *s) {
    if (s->threaded) {
        set(&s->finished);
        pthread_join(s->thread, NULL);
    }
    munmap(s, sizeof *s);
}
