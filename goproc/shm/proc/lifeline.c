/* lifeline.c - two pipes by which the kernel ends the program when nobody else is left who could.
 *
 * The keeper and the zygote end the workers when the host dies. Both may be dead by then, or the zygote may
 * be stopped. A stopped process runs no code, so no check of its own helps. But the kernel sends a signal to
 * a reader of a pipe (O_ASYNC, F_SETSIG) when the last writer has closed the pipe, and closes the pipes of a
 * process that dies:
 *
 *     pipe       writers                   reader       signal
 *     CONTINUE   the host                  the zygote   SIGCONT: a stopped zygote goes on, and ends all
 *     END        the host and the zygotes  each worker  SIGKILL
 *
 * So a zygote ends the workers in its own way as long as there is one. Before it has its order to fork, the
 * control socket stands for the first pipe (keeper/start.c). goproc/_proc/lifeline.py is the side of the
 * readers.
 *
 * The program may close any descriptor of the host, and a child that it forks inherits them all. So a thread
 * with a table of its own holds the host's ends. Whoever starts a zygote opens them once more, by the
 * thread's folder in /proc.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proc/proc.h"

enum { BEGINS, HOLDS, FAILED, ENDS };

static struct {
    pthread_t thread;
    bool running;
    pid_t tid;
    int to_continue, to_end; /* numbers in the table of the thread */
    _Atomic uint32_t state;
} lifeline;

static bool open_pipes(void) {
    int ends[2], *kept[2] = {&lifeline.to_continue, &lifeline.to_end};
    for (int i = 0; i < 2; i++) {
        if (pipe2(ends, O_CLOEXEC) < 0) return false;
        close(ends[0]); /* each reader opens one for itself */
        *kept[i] = ends[1];
    }
    return true;
}

static void *hold(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "goproc-lifeline");
    gp_own_thread(GP_OWN_LIFELINE, true);
    lifeline.tid = (pid_t)syscall(SYS_gettid);
    atomic_store(&lifeline.state, gp_fd_own_table(-1) && open_pipes() ? HOLDS : FAILED);
    gp_futex_wake(&lifeline.state, 1);
    while (atomic_load(&lifeline.state) == HOLDS) gp_futex_wait(&lifeline.state, HOLDS, 0);
    gp_own_thread(GP_OWN_LIFELINE, false);
    return NULL;
}

static bool start(void) {
    atomic_store(&lifeline.state, BEGINS);
    lifeline.running = gp_thread_start(&lifeline.thread, hold, NULL) == 0;
    while (lifeline.running && atomic_load(&lifeline.state) == BEGINS)
        gp_futex_wait(&lifeline.state, BEGINS, 0);
    return lifeline.running;
}

static int open_once_more(int fd, int mode) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/fd/%d", (int)lifeline.tid, fd);
    return open(path, mode | O_NONBLOCK | O_CLOEXEC);
}

bool gp_lifeline_open(int *to_continue, int *to_end) {
    if ((!lifeline.running && !start()) || atomic_load(&lifeline.state) != HOLDS) return false;
    *to_continue = open_once_more(lifeline.to_continue, O_RDONLY);
    *to_end = *to_continue < 0 ? -1 : open_once_more(lifeline.to_end, O_WRONLY);
    if (*to_end < 0 && *to_continue >= 0) close(*to_continue);
    return *to_end >= 0;
}

void gp_lifeline_stop(void) {
    if (!lifeline.running) return;
    atomic_store(&lifeline.state, ENDS);
    gp_futex_wake(&lifeline.state, 1);
    pthread_join(lifeline.thread, NULL);
    lifeline.running = false;
}
