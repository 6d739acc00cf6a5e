/* threads.c - tell whether all other threads of this process sleep until another thread of this process wakes
 * them.
 *
 * A thread in a futex wait that is private to the process and has no time-out can be woken by a running
 * thread of its process only. So the idle threads of a pool need not hold off the report of a deadlock.
 * Python's locks, conditions, queues and joins wait that way. The following do not, and count as running:
 * sleeps and timed waits, reads and polls, waits for a child or a signal, and locks of multiprocessing, which
 * another process may release (their futex is shared).
 *
 * One instant. /proc/self/task/N/syscall shows the system call of thread N, and only while N has left the
 * CPU. The count of its context switches grows whenever N leaves the CPU. A look has three steps:
 *
 *     1. read the count of each thread;
 *     2. compare the number of threads, exact in the link count of /proc/self/task, with those of step 1;
 *     3. read the system call of each thread, then its state and count again.
 *
 * A thread that is off the CPU in step 3, with the count of step 1, has slept through step 2, always in the
 * system call that step 3 shows. So at step 2 all threads were asleep, but for the scheduler's thread, which
 * looks, and goproc's own threads in C, which wake no other thread. The state must be S: a page fault inside
 * the system call shows as D. Threads that Python does not know count too: a Python thread may wait for one
 * of them.
 *
 * A plain thread that is blocked for ever in an operation of goproc waits for a futex in shared memory. Its
 * waiter says GP_THREAD_BLOCKED, and gp_proc.threads changes when it is told.
 *
 * How long that holds: after that instant only two things can start a thread of this process. The scheduler's
 * thread changes `act` before it does anything, and an operation that tells a blocked plain thread changes
 * `threads` before its process can go idle. So a look is published with the values of both words that it has
 * seen, and is true for as long as they have these values (deadlock.c compares). No process has to withdraw
 * it. Signals start only Python's handlers; the host asks for those before it reports.
 *
 * A look costs some 70 us for each thread. So a process looks when it has been idle for FIRST_PAUSE_NS, and
 * waits for twice as long after a look in vain. The longest sleep of gp_idle() ends a published look. Then
 * the process looks again at once: with many processes the times without a published look must be short, or
 * there is never a moment at which all have one.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proc/proc.h"

#define MOST_THREADS 1024
#define FIRST_PAUSE_NS 100000000ULL
#define NEXT_PAUSE_NS 1000000ULL /* after a look that has seen all asleep */
/* below the longest sleep of gp_idle(), so that each has room for a look */
#define LONGEST_PAUSE_NS 800000000ULL

struct task {
    pid_t tid;
    uint64_t switches;
};

struct look {
    int folder; /* /proc/self/task */
    uint64_t n, skipped; /* threads in `tasks`; the scheduler's and goproc's own */
};

static struct task tasks[MOST_THREADS]; /* only the scheduler's thread looks */
static _Atomic pid_t own[GP_OWN_THREADS];
static pid_t caller;            /* the scheduler's thread */
static uint64_t pause_ns = FIRST_PAUSE_NS;
static pid_t ignored[GP_MOST_IGNORED]; /* threads of a notebook's kernel, which wake no goroutine */
static int n_ignored;

void gp_own_thread(enum gp_own_thread which, bool runs) {
    gp_set(&own[which], runs ? (pid_t)syscall(SYS_gettid) : 0);
}

/* Signals are for the program's threads: a futex wait of the main thread must end with EINTR. */
int gp_thread_start(pthread_t *thread, void *(*run)(void *), void *arg) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

void gp_ignore_threads(const pid_t *tids, int n) {
    for (n_ignored = 0; n_ignored < n && n_ignored < GP_MOST_IGNORED; n_ignored++)
        ignored[n_ignored] = tids[n_ignored];
}

static bool is_own(pid_t tid) {
    for (int i = 0; i < n_ignored; i++)
        if (ignored[i] == tid) return true;
    for (int i = 0; i < GP_OWN_THREADS; i++)
        if (gp_get(&own[i]) == tid) return true;
    return tid == caller;
}

/* ---- files of one thread */

static bool read_file(const struct look *look, pid_t tid, const char *name, char *text, size_t size) {
    char path[32];
    snprintf(path, sizeof path, "%d/%s", (int)tid, name);
    int fd = openat(look->folder, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = 0;
    return true;
}

static bool number_after(const char *text, const char *name, uint64_t *number) {
    const char *at = strstr(text, name);
    if (!at) return false;
    *number = strtoull(at + strlen(name), NULL, 10);
    return true;
}

/* True for a thread of ZeroMQ in a notebook's kernel: a thread that waits for such a one does so in
 * poll(). */
static bool serves_kernel(const struct look *look, pid_t tid) {
    char name[32];
    return n_ignored > 0 && read_file(look, tid, "comm", name, sizeof name) &&
           strncmp(name, "ZMQbg/", 6) == 0;
}

/* The name of a thread stands first in its status, with newlines escaped: no name can forge a line. */
static bool read_status(const struct look *look, pid_t tid, char *state, uint64_t *switches) {
    char text[8192];
    uint64_t voluntary, forced;
    if (!read_file(look, tid, "status", text, sizeof text)) return false;
    const char *at = strstr(text, "\nState:\t");
    if (!at || !number_after(text, "\nvoluntary_ctxt_switches:\t", &voluntary) ||
        !number_after(text, "\nnonvoluntary_ctxt_switches:\t", &forced))
        return false;
    *state = at[8];
    *switches = voluntary + forced;
    return true;
}

static bool blocked_in_operation(uint64_t address) {
    uint64_t first = (uint64_t)(uintptr_t)gp_waiter_at(gp.proc, 0);
    if (address < first || address - first >= gp.waiters * sizeof(struct gp_waiter)) return false;
    struct gp_waiter *w = gp_waiter_at(gp.proc, (uint32_t)((address - first) / sizeof *w));
    return address == (uint64_t)(uintptr_t)&w->state && atomic_load(&w->thread) == GP_THREAD_BLOCKED;
}

static bool in_endless_wait(const struct look *look, pid_t tid) {
    char text[256];
    long number;
    unsigned long address, op, value, timeout;
    if (!read_file(look, tid, "syscall", text, sizeof text)) return false;
    /* the text is "running" while the thread has a CPU */
    if (sscanf(text, "%ld %lx %lx %lx %lx", &number, &address, &op, &value, &timeout) != 5) return false;
    int command = (int)op & FUTEX_CMD_MASK;
    if (number != SYS_futex || (command != FUTEX_WAIT && command != FUTEX_WAIT_BITSET)) return false;
    return op & FUTEX_PRIVATE_FLAG ? timeout == 0 : blocked_in_operation(address);
}

/* ---- the three steps */

static bool count_switches(struct look *look, DIR *folder) {
    for (struct dirent *entry; (entry = readdir(folder));) {
        pid_t tid = (pid_t)atoi(entry->d_name);
        char state;
        if (tid <= 0) continue; /* . and .. */
        if (is_own(tid) || serves_kernel(look, tid)) {
            look->skipped++;
            continue;
        }
        struct task *task = &tasks[look->n];
        if (look->n == MOST_THREADS || !read_status(look, tid, &state, &task->switches) || state != 'S')
            return false;
        task->tid = tid;
        look->n++;
    }
    return true;
}

static bool all_counted(const struct look *look) {
    struct stat folder;
    return fstat(look->folder, &folder) == 0 && folder.st_nlink == 2 + look->n + look->skipped;
}

static bool slept(const struct look *look, const struct task *task) {
    char state;
    uint64_t switches;
    return in_endless_wait(look, task->tid) && read_status(look, task->tid, &state, &switches) &&
           state == 'S' && switches == task->switches;
}

/* 0 or -errno */
static int look(bool *asleep) {
    DIR *folder = opendir("/proc/self/task");
    if (!folder) return -errno;
    struct look look = {.folder = dirfd(folder)};
    *asleep = count_switches(&look, folder) && all_counted(&look);
    for (uint64_t i = 0; *asleep && i < look.n; i++) *asleep = slept(&look, &tasks[i]);
    closedir(folder);
    return 0;
}

static void *look_apart(void *asleep) {
    gp_own_thread(GP_OWN_LOOK, true);
    if (!gp_fd_own_table(-1) || look(asleep) < 0) *(bool *)asleep = false;
    gp_own_thread(GP_OWN_LOOK, false);
    return NULL;
}

/* The program has used up its descriptors: a thread with a table of its own looks. */
static bool look_without_descriptors(void) {
    pthread_t thread;
    bool asleep = false;
    if (gp_thread_start(&thread, look_apart, &asleep) == 0) pthread_join(thread, NULL);
    return asleep;
}

bool gp_threads_asleep(void) {
    uint64_t threads = atomic_load(&gp.my->threads);
    bool asleep = false;
    caller = (pid_t)syscall(SYS_gettid);
    int err = look(&asleep);
    if (err == -EMFILE || err == -ENFILE) asleep = look_without_descriptors();
    return asleep && atomic_load(&gp.my->threads) == threads;
}

/* ---- while the process is idle */

static bool published(void) {
    struct gp_proc *my = gp.my;
    return gp_get(&my->asleep_act) == gp_get(&my->act) &&
           gp_get(&my->asleep_threads) == atomic_load(&my->threads);
}

static bool look_and_publish(void) {
    struct gp_proc *my = gp.my;
    uint64_t threads = atomic_load(&my->threads);
    if (!gp_threads_asleep() || atomic_load(&my->threads) != threads) return false;
    atomic_store(&my->asleep_threads, threads);
    /* stored before this process looks at the others, as `act` itself */
    atomic_store(&my->asleep_act, gp_get(&my->act));
    return true;
}

static uint64_t next_pause(bool asleep) {
    if (asleep) return NEXT_PAUSE_NS;
    if (pause_ns < FIRST_PAUSE_NS) return FIRST_PAUSE_NS;
    return pause_ns < LONGEST_PAUSE_NS ? 2 * pause_ns : pause_ns;
}

long gp_idle_wait(uint64_t until_ns) {
    struct gp_proc *my = gp.my;
    long r = -ETIMEDOUT;
    while (r == -ETIMEDOUT && gp_threads_run(gp.proc) && !published()) {
        uint64_t look_at = gp_now() + pause_ns;
        if (look_at >= until_ns) break;
        r = gp_futex_wait(&my->park, GP_PARKED, look_at);
        if (r != -ETIMEDOUT || !gp_threads_run(gp.proc)) break;
        bool asleep = look_and_publish();
        if (asleep) gp_report_if_asleep();
        pause_ns = next_pause(asleep);
    }
    if (r == -ETIMEDOUT) r = gp_futex_wait(&my->park, GP_PARKED, until_ns);
    if (r != -ETIMEDOUT) pause_ns = FIRST_PAUSE_NS;
    return r;
}
