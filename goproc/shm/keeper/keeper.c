/* keeper.c - starts the zygote as a child of the keeper, which is a child of the host that the program cannot
 * see.
 *
 * The program may wait for any child (os.wait(), waitpid(-1)), count SIGCHLD, or have a library do both. A
 * zygote that was a child of the host would show there. A zygote whose parent has ended would not die with
 * the host: a process can ask the kernel for a signal only at the death of its parent, and a stopped zygote
 * cannot see by itself that the host is gone.
 *
 *     host --- keeper --- zygote --- workers
 *
 * The keeper is cloned without a signal for its end: the kernel hides such a child from wait() and sends no
 * SIGCHLD. It runs in the memory of the host, as a child of vfork() does, and costs none of its own. It has
 * no open files. All signals are blocked; it waits for three of them:
 *
 *     SIGCHLD   The zygote has ended. If that was not in order, its workers are the keeper's children now,
 *               and go on.
 *     SIGCONT   The host may be dead. If so, the keeper continues the zygote, which then ends the program.
 *               Without a zygote the keeper itself kills the workers, and the programs that they have left.
 *     SIGUSR1   The host ends the program: the keeper does the same, once there is no zygote.
 *
 * If the keeper dies, the zygote goes on without one (goproc/_proc/zygote.py). If the zygote dies after that,
 * the coroner kills the workers.
 *
 * The keeper ends when it has no child any more. The coroner reads in /proc how a worker of the keeper has
 * ended: the keeper waits for that before it reaps.
 *
 * The kernel sends SIGCONT to the keeper and to the zygote when their parent dies. It reaches a stopped
 * process, too.
 *
 * The keeper has the thread-local storage of the thread that cloned it. While that thread waits for it, the
 * keeper may use the C library. After that it makes system calls by itself: those of the library could write
 * errno.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>

#include "keeper.h"

#define REAP_NS 300000000 /* for the coroner to read how a worker has ended */
#define KILL_ROUNDS 2000

/* Kill the children of this session in a text of pids; return how many there were. Others are daemons,
 * started as such. */
static int kill_listed(const char *text, long n, long session) {
    int found = 0;
    long pid = 0;
    for (long i = 0; i < n; i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            pid = 10 * pid + (text[i] - '0');
            continue;
        }
        if (pid > 0 && call(SYS_getsid, pid, 0, 0, 0) == session && call(SYS_kill, pid, SIGKILL, 0, 0) == 0)
            found++;
        pid = 0;
    }
    return found;
}

/* The zygote was killed: the workers die of it, and the programs that they had started are children of the
 * keeper. */
static void end_orphans(void) {
    char text[4096];
    const struct timespec pause = {0, 1000000};
    long session = call(SYS_getsid, 0, 0, 0, 0);
    for (int round = 0; round < KILL_ROUNDS; round++) {
        while (call(SYS_wait4, -1, 0, WNOHANG | __WALL, 0) > 0) continue;
        long fd = call(SYS_openat, AT_FDCWD, (long)"/proc/thread-self/children", O_RDONLY | O_CLOEXEC, 0);
        if (fd < 0) return;
        long n = call(SYS_read, fd, (long)text, sizeof text, 0);
        call(SYS_close, fd, 0, 0, 0);
        if (n <= 0 || kill_listed(text, n, session) == 0) return;
        call(SYS_nanosleep, (long)&pause, 0, 0, 0);
    }
}

static const uint64_t signals = 1ULL << (SIGCHLD - 1) | 1ULL << (SIGCONT - 1) | 1ULL << (SIGUSR1 - 1);
static const struct timespec shown = {0, REAP_NS}, at_once = {0, 0};

static long next_signal(const struct timespec *limit) {
    return call(SYS_rt_sigtimedwait, (long)&signals, 0, (long)limit, 8);
}

static bool is_gone(pid_t host) { return call(SYS_getppid, 0, 0, 0, 0) != host; }

/* Until the zygote has ended; its status. `over`: the program is to end */
static int await_zygote(pid_t zygote, pid_t host, bool *over) {
    int status = 0;
    for (;;) {
        long ended = call(SYS_wait4, zygote, (long)&status, WNOHANG, 0);
        if (ended == zygote || ended == -ECHILD) return status;
        if (!*over && is_gone(host)) {
            *over = true;
            call(SYS_kill, zygote, SIGTERM, 0, 0);
            call(SYS_kill, zygote, SIGCONT, 0, 0);
        }
        if (next_signal(0) == SIGUSR1) *over = true;
    }
}

/* With the workers of a zygote that has died, until they have ended. */
static void keep_workers(pid_t host, bool over) {
    for (;;) {
        siginfo_t info = {0};
        if (over || is_gone(host)) {
            end_orphans();
            return;
        }
        /* no child is left */
        if (call5(SYS_waitid, P_ALL, 0, (long)&info, WEXITED | WNOHANG | WNOWAIT | __WALL, 0) < 0) return;
        if (info.si_pid) {
            call(SYS_nanosleep, (long)&shown, 0, 0, 0);
            call(SYS_wait4, info.si_pid, 0, WNOHANG | __WALL, 0);
        }
        over = next_signal(info.si_pid ? &at_once : 0) == SIGUSR1;
    }
}

void keeper_watch(pid_t zygote, pid_t host) {
    bool over = false;
    int status = await_zygote(zygote, host, &over);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) keep_workers(host, over);
    for (;;) call(SYS_exit_group, WIFEXITED(status) ? WEXITSTATUS(status) : KEEPER_FAILED, 0, 0, 0);
}
