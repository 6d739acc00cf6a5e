/* interrupt.c - Ctrl-C that Python does not come to see.
 *
 * Python calls its handlers between two bytecodes of the main thread. While a call of C code does not return,
 * or goes on after EINTR, none of them runs: the program would go on at any key. So a handler in C stands
 * before Python's. It counts the presses of Ctrl-C, and Python's handler (goproc/_proc/sigint.py) reports
 * those that it has seen. The program ends with status 130 if a press was not seen for two seconds, or at a
 * second press. A program that answers Ctrl-C in Python, however long it takes, sees it, and is left alone.
 *
 * A timer of the system keeps the time, and its signal is SIGINT with a mark: that needs no thread and no
 * descriptor. It ticks often and counts, since a program that was stopped meanwhile has not had the time. The
 * repetitions of sigint.py have the same mark, so that none is taken for a press.
 *
 * A handler that the program has installed replaces this one, and nothing is watched any more.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "python.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define TICK_NS 100000000L
#define TICKS 20                   /* for Python to see a press */
/* two signals that come closer are one press, as seen by a group and by a process */
#define SECOND_NS 300000000ULL
/* for exit handlers after Ctrl-C: a press after that ends the program at once */
#define EXIT_NS 2000000000ULL

enum mode { OFF, WATCHED, EXITS };

static struct {
    pid_t pid;                     /* of the process that watches: a forked child does not */
    struct sigaction before;       /* Python's */
    /* the system calls are made as such: the C library's are not safe in a handler */
    int timer;
    bool timed;
    _Atomic int mode;
    _Atomic uint32_t presses, seen, repeats, ticks;
    _Atomic uint64_t since;        /* ns; of the first press that is not seen, or of the end's beginning */
} watch;

/* ---- in the handler: nothing but calls that are safe in one */

static void end_program(void) {
    static const char text[] =
        "goproc: interrupted (Ctrl-C); main was in C code and did not answer: no exit handler has run\n";
    static const char late[] = "goproc: interrupted (Ctrl-C); exit handlers were still running\n";
    if (!gp.base) return;
    if (atomic_load(&watch.mode) == EXITS) gp_interrupted_exit(late, sizeof late - 1);
    else gp_interrupted_exit(text, sizeof text - 1);
}

static void set_timer(long ns) {
    struct itimerspec t = {.it_interval = {0, ns}, .it_value = {0, ns}};
    if (watch.timed) syscall(SYS_timer_settime, watch.timer, 0, &t, NULL);
}

static bool pressed_twice(void) {
    return atomic_load(&watch.presses) - atomic_load(&watch.seen) > 1 &&
           gp_now() - atomic_load(&watch.since) >= SECOND_NS;
}

static void on_press(void) {
    if (atomic_load(&watch.mode) == EXITS) {
        if (gp_now() - atomic_load(&watch.since) >= EXIT_NS) end_program();
        return;
    }
    if (atomic_fetch_add(&watch.presses, 1) == atomic_load(&watch.seen)) {
        atomic_store(&watch.since, gp_now());
        atomic_store(&watch.ticks, 0);
        set_timer(TICK_NS);
    }
    if (pressed_twice()) end_program();
}

static void on_timer(void) {
    bool unseen = atomic_load(&watch.presses) != atomic_load(&watch.seen);
    bool over = unseen && (atomic_fetch_add(&watch.ticks, 1) + 1 >= TICKS || pressed_twice());
    if (over) end_program();
    if (over || !unseen) set_timer(0);
}

static void on_signal(int number, siginfo_t *info, void *context) {
    int err = errno;
    bool marked = info->si_value.sival_ptr == (void *)&watch, passed = true;
    if (getpid() == watch.pid) {
        passed = atomic_load(&watch.mode) != EXITS;
        if (info->si_code == SI_TIMER && marked) {
            on_timer();
            passed = false;
        } else if (info->si_code == SI_QUEUE && marked) {
            atomic_fetch_add(&watch.repeats, 1);
        } else {
            on_press();
        }
    }
    errno = err;
    if (!passed) return;
    if (watch.before.sa_flags & SA_SIGINFO) watch.before.sa_sigaction(number, info, context);
    else if (watch.before.sa_handler != SIG_IGN && watch.before.sa_handler != SIG_DFL)
        watch.before.sa_handler(number);
}

/* ---- functions for sigint.py */

static bool is_ours(const struct sigaction *action) {
    return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_signal;
}

/* In front of Python's handler, which the program may have taken away for a while and put back. */
static void stand_before(void) {
    struct sigaction now;
    if (sigaction(SIGINT, NULL, &now) < 0 || is_ours(&now)) return;
    watch.before = now;
    now.sa_sigaction = on_signal;
    now.sa_flags |= SA_SIGINFO;
    sigaction(SIGINT, &now, NULL);
}

static void make_timer(void) {
    struct sigevent event = {
        .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGINT, .sigev_value.sival_ptr = &watch};
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    watch.timed = syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &watch.timer) == 0;
}

static void forget_timer(void) {
    /* a forked child has no timer */
    if (watch.timed && getpid() == watch.pid) syscall(SYS_timer_delete, watch.timer);
    watch.timed = false;
}

static PyObject *interrupts_watch(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    forget_timer();
    watch.pid = getpid();
    atomic_store(&watch.presses, 0);
    atomic_store(&watch.seen, 0);
    atomic_store(&watch.repeats, 0);
    make_timer();
    atomic_store(&watch.mode, WATCHED);
    stand_before();
    Py_RETURN_NONE;
}

static PyObject *interrupts_leave(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    struct sigaction now;
    if (atomic_exchange(&watch.mode, OFF) == OFF) Py_RETURN_NONE;
    forget_timer();
    if (sigaction(SIGINT, NULL, &now) == 0 && is_ours(&now)) sigaction(SIGINT, &watch.before, NULL);
    watch.pid = 0;
    Py_RETURN_NONE;
}

static PyObject *interrupts_exit(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    set_timer(0);
    atomic_store(&watch.since, gp_now());
    atomic_store(&watch.mode, EXITS);
    watch.pid = getpid();
    stand_before();
    Py_RETURN_NONE;
}

static PyObject *interrupts_take(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (atomic_load(&watch.mode) == WATCHED) stand_before();
    set_timer(0);
    uint32_t presses = atomic_load(&watch.presses), new = presses - atomic_exchange(&watch.seen, presses);
    uint32_t repeats = atomic_exchange(&watch.repeats, 0);
    return PyBool_FromLong(new > 0 || repeats == 0);
}

static PyObject *interrupts_repeat(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (atomic_load(&watch.mode) != WATCHED || getpid() != watch.pid) Py_RETURN_NONE;
    stand_before();
    siginfo_t info = {.si_signo = SIGINT, .si_code = SI_QUEUE};
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = &watch;
    /* the main thread has the number of the process */
    syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGINT, &info);
    Py_RETURN_NONE;
}

PyMethodDef interrupt_functions[] = {
    {"interrupts_watch", interrupts_watch, METH_NOARGS,
     PyDoc_STR("End the program at a Ctrl-C that Python does not see. In the main thread, after Python's "
               "handler is there.")},
    {"interrupts_leave", interrupts_leave, METH_NOARGS, PyDoc_STR("Undo interrupts_watch().")},
    {"interrupts_exit", interrupts_exit, METH_NOARGS,
     PyDoc_STR("Exit handlers run: ignore Ctrl-C for two seconds, then end the program at one.")},
    {"interrupts_take", interrupts_take, METH_NOARGS,
     PyDoc_STR("Note that Python's handler has seen the signal. False: there were only signals of "
               "interrupts_repeat().")},
    {"interrupts_repeat", interrupts_repeat, METH_NOARGS,
     PyDoc_STR("Have Python's handler called once more.")},
    {NULL, NULL, 0, NULL},
};
