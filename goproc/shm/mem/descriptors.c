/* descriptors.c - descriptors that the program may have closed or replaced, and writes that end even without
 * a reader.
 *
 * Once the program has closed a descriptor, its number may lead to another file. So a kept number is used
 * only after fstat() has shown that it still leads to the file it was noted for (gp_fd_is).
 *
 * A thread of goproc may have a table of descriptors of its own (gp_fd_own_table), in which no number
 * changes. Such a thread holds none of the program's files open, and gets the process's standard error stream
 * when it needs that.
 *
 * Nothing here allocates, and a signal's handler may call it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "mem/mem.h"

#define PF_EXITING 0x4 /* the kernel's, in the flags of a process */

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

#define SAY_NS 3000000000ULL /* for the readers of stderr, all texts of a process together */
#define SAY_BYTES 4096       /* PIPE_BUF: such a piece is written to a pipe as a whole or not at all */

static __thread bool own_table;

/* ---- numbers that are kept */

int gp_fd_note(struct gp_fd *f, int fd) {
    struct stat st;
    *f = (struct gp_fd){.fd = -1};
    if (fstat(fd, &st) < 0) return -errno;
    *f = (struct gp_fd){.fd = fd, .device = st.st_dev, .inode = st.st_ino};
    return 0;
}

bool gp_fd_is(const struct gp_fd *f) {
    struct stat st;
    return f->fd >= 0 && fstat(f->fd, &st) == 0 && st.st_dev == f->device && st.st_ino == f->inode;
}

void gp_fd_close(struct gp_fd *f) {
    if (gp_fd_is(f)) close(f->fd);
    f->fd = -1;
}

/* ---- a table of its own */

static void close_between(unsigned first, unsigned last) {
    if (first > last || syscall(SYS_close_range, first, last, 0) == 0) return;
    long most = sysconf(_SC_OPEN_MAX); /* before Linux 5.9 */
    for (unsigned fd = first; fd <= last && (long)fd < most; fd++) close((int)fd);
}

bool gp_fd_own_table(int kept) {
    if (unshare(CLONE_FILES) < 0) return false; /* some containers forbid it */
    own_table = true;
    if (kept > 0) close_between(0, (unsigned)kept - 1);
    close_between((unsigned)kept + 1, ~0U);
    return true;
}

int gp_pidfd(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

/* True if a process has ended, or will end before its next step. First a signal that kills is pending. Then
 * the process is exiting for a while. Only then does its descriptor tell of the end. */
static bool ends(pid_t pid) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT && access("/proc/self", F_OK) == 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return true;
    text[n] = 0;
    const char *at = strrchr(text, ')'); /* field 2 is the name; then fields are apart by spaces */
    if (!at || !at[1]) return false;
    char state = at[2];
    unsigned long flags = 0, pending = 0;
    for (int field = 2; at && field <= 31; at = strchr(at + 1, ' '), field++) {
        if (field == 9) flags = strtoul(at + 1, NULL, 10);
        if (field == 31) pending = strtoul(at + 1, NULL, 10);
    }
    return state == 'Z' || state == 'X' || flags & PF_EXITING || pending & 1UL << (SIGKILL - 1);
}

bool gp_worker_ended(void) {
    for (uint32_t p = 1; p < gp_places(); p++) {
        const struct gp_proc *w = gp_proc_at(p);
        pid_t pid = gp_get(&w->pid);
        if (pid > 0 && (gp_get(&w->state) == GP_P_DEAD || (gp_get(&w->state) == GP_P_LIVE && ends(pid))))
            return true;
    }
    return false;
}

/* A descriptor of standard error: the process's own, or a copy of it in the table of this thread. */
static int standard_error(void) {
    if (!own_table) return STDERR_FILENO;
    int self = gp_pidfd(getpid());
    int fd = self < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, self, STDERR_FILENO, 0);
    if (self >= 0) close(self);
    if (fd >= 0 || errno == EBADF) return fd;
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), STDERR_FILENO);
    return open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* ---- writing with a limit */

/* Open the file once more: the flag O_NONBLOCK belongs to an open file, which other programs share. -1: use
 * `fd` itself. */
static int open_unblocked(int fd) {
    struct stat st;
    if (fstat(fd, &st) < 0 || !(S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))) return -1;
    char path[40];
    snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fd);
    return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static ssize_t write_piece(int fd, const char *data, size_t n) {
    ssize_t done = send(fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    return done < 0 && errno == ENOTSOCK ? write(fd, data, n) : done;
}

/* Return the number of bytes that are not written. After an error that waiting does not end, the rest is
 * lost: return 0. */
static size_t write_until(int fd, const char *data, size_t n, uint64_t until_ns) {
    while (n > 0) {
        uint64_t now = gp_now();
        struct pollfd room = {.fd = fd, .events = POLLOUT};
        int ready = poll(&room, 1, now < until_ns ? (int)((until_ns - now) / 1000000) + 1 : 0);
        if (ready == 0) break;
        if (ready < 0 && errno == EINTR) continue;
        ssize_t done = write_piece(fd, data, n < SAY_BYTES ? n : SAY_BYTES);
        if (done < 0 && errno == EAGAIN && now >= until_ns) break;
        if (done < 0 && errno != EINTR && errno != EAGAIN) return 0;
        if (done > 0) {
            data += done;
            n -= (size_t)done;
        }
    }
    return n;
}

static size_t say(const char *text, size_t n, uint64_t until_ns) {
    int fd = standard_error();
    if (fd < 0) return 0;
    int unblocked = open_unblocked(fd);
    size_t left = write_until(unblocked >= 0 ? unblocked : fd, text, n, until_ns);
    if (unblocked >= 0) close(unblocked);
    if (own_table) close(fd);
    return left;
}

void gp_say(const char *text, size_t n) {
    static _Atomic uint64_t waited_ns;
    uint64_t begun = gp_now(), waited = atomic_load(&waited_ns);
    say(text, n, begun + (waited < SAY_NS ? SAY_NS - waited : 0));
    atomic_fetch_add(&waited_ns, gp_now() - begun);
}

size_t gp_say_now(const char *text, size_t n) { return n - say(text, n, 0); }
