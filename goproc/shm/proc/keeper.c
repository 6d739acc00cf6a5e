/* keeper.c - starts the zygote as a child of the keeper, which is a child of the host that the program cannot see.
 *
 * The program may wait for any child (os.wait(), waitpid(-1)), count SIGCHLD, or have a library do both. A zygote that
 * was a child of the host would show there. A zygote whose parent has ended would not die with the host: a process can
 * ask the kernel for a signal only at the death of its parent, and a stopped zygote cannot see by itself that the host is
 * gone.
 *
 *     host --- keeper --- zygote --- workers
 *
 * The keeper is cloned without a signal for its end: the kernel hides such a child from wait() and sends no SIGCHLD. It
 * runs in the memory of the host, as a child of vfork() does, and costs none of its own. It has no open files. All
 * signals are blocked; it waits for three of them:
 *
 *     SIGCHLD   The zygote has ended. If that was not in order, its workers are the keeper's children now, and go on.
 *     SIGCONT   The host may be dead. If so, the keeper continues the zygote, which then ends the program. Without a zygote
 *               the keeper itself kills the workers, and the programs that they have left.
 *     SIGUSR1   The host ends the program: the keeper does the same, once there is no zygote.
 *
 * If the keeper dies, the zygote goes on without one (goproc/_proc/zygote.py). If the zygote dies after that, the coroner kills
 * the workers.
 *
 * The keeper ends when it has no child any more. The coroner reads in /proc how a worker of the keeper has ended: the
 * keeper waits for that before it reaps.
 *
 * The kernel sends SIGCONT to the keeper and to the zygote when their parent dies. It reaches a stopped process, too.
 *
 * The keeper has the thread-local storage of the thread that cloned it. While that thread waits for it, the keeper may
 * use the C library. After that it makes system calls by itself: those of the library could write errno.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define STACK 65536u
#define FIRST_FREE 10 /* descriptors from here on are none of the zygote's */
#define REAP_NS 300000000 /* for the coroner to read how a worker has ended */
#define KILL_ROUNDS 2000
#define FAILED 70

struct start {
    const char *path;
    char **argv, **envp;
    int control, source;
    int *close; /* descriptors that the zygote is not to inherit */
    size_t n_close;
    int highest; /* descriptor that is open */
    unsigned null; /* bits: standard streams that lead to /dev/null */
    pid_t host, keeper, zygote;
    int error;
    /* The kernel clears each of these two words when its process ends, and the second one also at its exec. */
    _Atomic uint32_t keeper_starts;  /* the keeper has neither started the zygote nor failed to */
    _Atomic uint32_t zygote_borrows; /* the zygote runs in this memory */
    bool ready;                      /* the keeper itself has cleared the first word: it was not killed before */
    _Atomic uint32_t spawned;        /* the thread that starts the keeper has done so, or failed to */
    _Atomic uint32_t finished;       /* the thread may end */
    bool threaded;                   /* a thread of its own is the keeper's parent */
    pthread_t thread;
    struct start *next;
    char keeper_stack[STACK] __attribute__((aligned(64)));
    char zygote_stack[STACK] __attribute__((aligned(64)));
};

static struct start *started; /* keepers that live */

/* ---- system calls without the C library */

static inline long call5(long number, long a, long b, long c, long d, long e) {
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
#else
#error "goproc runs on x86-64 and AArch64"
#endif
}

static inline long call(long number, long a, long b, long c, long d) { return call5(number, a, b, c, d, 0); }

static void wait_until_set(_Atomic uint32_t *word) {
    while (!atomic_load(word)) call(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, 0, 0);
}

static void set(_Atomic uint32_t *word) {
    atomic_store(word, 1);
    call(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, 1, 0);
}

/* No private futex: the wake by the kernel, at the end of a process, is none either, and would not be noticed. */
static void wait_until_clear(_Atomic uint32_t *word) {
    while (atomic_load(word)) call(SYS_futex, (long)word, FUTEX_WAIT, 1, 0);
}

static void clear(_Atomic uint32_t *word) {
    atomic_store(word, 0);
    call(SYS_futex, (long)word, FUTEX_WAKE, 1, 0);
}

/* ---- the keeper, once the zygote runs */

/* Kill the children of this session in a text of pids; return how many there were. Others are daemons, started as such. */
static int kill_listed(const char *text, long n, long session) {
    int found = 0;
    long pid = 0;
    for (long i = 0; i < n; i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            pid = 10 * pid + (text[i] - '0');
            continue;
        }
        if (pid > 0 && call(SYS_getsid, pid, 0, 0, 0) == session && call(SYS_kill, pid, SIGKILL, 0, 0) == 0) found++;
        pid = 0;
    }
    return found;
}

/* The zygote was killed: the workers die of it, and the programs that they had started are children of the keeper. */
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

static long next_signal(const struct timespec *limit) { return call(SYS_rt_sigtimedwait, (long)&signals, 0, (long)limit, 8); }

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
        if (call5(SYS_waitid, P_ALL, 0, (long)&info, WEXITED | WNOHANG | WNOWAIT | __WALL, 0) < 0) return; /* none is left */
        if (info.si_pid) {
            call(SYS_nanosleep, (long)&shown, 0, 0, 0);
            call(SYS_wait4, info.si_pid, 0, WNOHANG | __WALL, 0);
        }
        over = next_signal(info.si_pid ? &at_once : 0) == SIGUSR1;
    }
}

static void watch(pid_t zygote, pid_t host) {
    bool over = false;
    int status = await_zygote(zygote, host, &over);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) keep_workers(host, over);
    for (;;) call(SYS_exit_group, WIFEXITED(status) ? WEXITSTATUS(status) : FAILED, 0, 0, 0);
}

/* ---- the start: its parent waits */

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

/* A zygote without a keeper may be stopped before it has its lifelines: lifeline.c. Until then the kernel continues it when the
 * host's end of the control socket is closed. A system that knows no such signals goes without. */
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
    pid_t pid = clone(become_zygote, s->zygote_stack + STACK, flags, s, &s->zygote, NULL, &s->zygote_borrows);
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
    if (!failed) watch(zygote, host);
    for (;;) call(SYS_exit_group, FAILED, 0, 0, 0);
    return 0;
}

/* The keeper was killed before it was ready. Its zygote is an orphan, perhaps one in the memory of the host. */
static void end_unkept(struct start *s) {
    s->error = EPIPE;
    if (s->zygote <= 0) return;
    kill(s->zygote, SIGKILL);
    wait_until_clear(&s->zygote_borrows);
    waitpid(s->zygote, NULL, 0); /* where the host adopts orphans */
}

static void start_keeper(struct start *s) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    atomic_store(&s->keeper_starts, 1);
    s->keeper = clone(keep, s->keeper_stack + STACK, CLONE_VM | CLONE_CHILD_CLEARTID, s, NULL, NULL, &s->keeper_starts);
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
    start_keeper(s);
    set(&s->spawned);
    wait_until_set(&s->finished);
    return NULL;
}

static void start_in_thread(struct start *s) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->error = pthread_create(&s->thread, NULL, be_parent, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (s->error) return;
    s->threaded = true;
    wait_until_set(&s->spawned);
}

static void discard(struct start *s) {
    if (s->threaded) {
        set(&s->finished);
        pthread_join(s->thread, NULL);
    }
    munmap(s, sizeof *s);
}

/* ---- for Python */

/* the strings of a tuple of bytes, ended by NULL */
static char **strings(PyObject *tuple) {
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    char **found = PyMem_Calloc((size_t)n + 1, sizeof *found);
    if (!found) return (char **)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < n; i++) {
        if (!(found[i] = PyBytes_AsString(PyTuple_GET_ITEM(tuple, i)))) {
            PyMem_Free(found);
            return NULL;
        }
    }
    return found;
}

static int *numbers(PyObject *tuple) {
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    int *found = PyMem_Calloc((size_t)n + 1, sizeof *found);
    if (!found) return (int *)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < n; i++) found[i] = (int)PyLong_AsLong(PyTuple_GET_ITEM(tuple, i));
    if (PyErr_Occurred()) {
        PyMem_Free(found);
        return NULL;
    }
    return found;
}

static PyObject *result_of(struct start *s) {
    if (!s->error) {
        s->next = started;
        started = s;
        return Py_BuildValue("ii", (int)s->zygote, (int)s->keeper);
    }
    errno = s->error;
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, s->path);
    discard(s);
    return NULL;
}

static PyObject *spawn(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *argv, *env, *closed;
    const char *path;
    int control, source, highest, threaded;
    unsigned null;
    if (!PyArg_ParseTuple(args, "yO!O!iiO!iIp:spawn", &path, &PyTuple_Type, &argv, &PyTuple_Type, &env, &control, &source,
                          &PyTuple_Type, &closed, &highest, &null, &threaded))
        return NULL;
    char **words = strings(argv), **variables = words ? strings(env) : NULL;
    int *fds = variables ? numbers(closed) : NULL;
    PyObject *result = NULL;
    if (fds) {
        struct start *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (s == MAP_FAILED) {
            PyErr_SetFromErrno(PyExc_OSError);
        } else {
            s->path = path;
            s->argv = words;
            s->envp = variables;
            s->control = control;
            s->source = source;
            s->close = fds;
            s->n_close = (size_t)PyTuple_GET_SIZE(closed);
            s->highest = highest;
            s->null = null;
            s->host = getpid();
            if (threaded) start_in_thread(s);
            else start_keeper(s);
            result = result_of(s);
        }
    }
    PyMem_Free(words);
    PyMem_Free(variables);
    PyMem_Free(fds);
    return result;
}

static PyObject *ended(PyObject *module, PyObject *arg) {
    (void)module;
    int status = 0;
    pid_t pid = (pid_t)PyLong_AsLong(arg), found;
    if (pid == -1 && PyErr_Occurred()) return NULL;
    do found = waitpid(pid, &status, WNOHANG | __WALL);
    while (found < 0 && errno == EINTR);
    if (found == 0) Py_RETURN_NONE;
    for (struct start **at = &started; *at; at = &(*at)->next) {
        struct start *s = *at;
        if (s->keeper != pid) continue;
        *at = s->next;
        discard(s);
        break;
    }
    return PyLong_FromLong(found == pid && WIFEXITED(status) ? WEXITSTATUS(status) : FAILED);
}

static struct sigaction held; /* the program's answer to SIGCHLD */
static bool holds;

/* The kernel sends SIGCHLD for any child to a parent that has called exec since, as that of an early zygote has. */
static PyObject *hold_sigchld(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    struct sigaction none = {.sa_handler = SIG_DFL};
    if (holds || sigaction(SIGCHLD, NULL, &held) < 0 || held.sa_handler == SIG_DFL || held.sa_handler == SIG_IGN)
        Py_RETURN_NONE;
    holds = sigaction(SIGCHLD, &none, NULL) == 0;
    Py_RETURN_NONE;
}

static PyObject *release_sigchld(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    siginfo_t child = {0};
    if (!holds) Py_RETURN_NONE;
    holds = false;
    sigaction(SIGCHLD, &held, NULL);
    if (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) == 0 && child.si_pid) kill(getpid(), SIGCHLD);
    Py_RETURN_NONE;
}

static PyObject *adopt_orphans(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyBool_FromLong(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
}

static PyMethodDef functions[] = {
    {"spawn", spawn, METH_VARARGS,
     PyDoc_STR("spawn(path, argv, env, control, source, fds to close, highest fd, bits of streams to nowhere, threaded)\n\n"
               "Start a zygote and its keeper: (pid of the zygote, pid of the keeper).")},
    {"ended", ended, METH_O, PyDoc_STR("None while the keeper with this pid lives, then the status of the zygote, once.")},
    {"hold_sigchld", hold_sigchld, METH_NOARGS, PyDoc_STR("Keep SIGCHLD from the program: a keeper is about to end.")},
    {"release_sigchld", release_sigchld, METH_NOARGS,
     PyDoc_STR("Let the program have SIGCHLD again. It gets one if a child of its own has ended.")},
    {"adopt_orphans", adopt_orphans, METH_NOARGS,
     PyDoc_STR("Become the parent of processes that descend from this one when theirs ends.")},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "goproc.shm._keeper", "The start of the zygote.", -1, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__keeper(void) { return PyModule_Create(&definition); }
