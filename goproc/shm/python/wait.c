/* wait.c - operations that may block: perhaps spin, queue, park, then settle the outcome.
 *
 * On the scheduler's thread a goroutine parks through the park hook, which runs others meanwhile; any other
 * thread sleeps on its waiter's state word without the GIL.
 */
#include "python.h"

#define TICKS 512 /* operations in a row without a block, after which a goroutine offers its turn */
#define STACK_NEEDED 40 /* frames of Python for the scheduler */

unsigned long scheduler_thread;

static int ticks = TICKS;

/* An error for want of frames in the middle of the scheduler would lose the goroutine in hand. */
bool wait_stack_short(void) {
    PyThreadState *t = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030C0000
    return t->py_recursion_remaining < STACK_NEEDED;
#else
    return t->recursion_remaining < STACK_NEEDED;
#endif
}

static bool stack_error(void) {
    if (!wait_stack_short()) return false;
    PyErr_SetString(PyExc_RecursionError,
                    "maximum recursion depth exceeded: too deep to block in a goproc operation");
    return true;
}

/* True, with an exception, if the running goroutine has no room to wait. */
static bool no_room(void) { return stack_error() || !cushion_check(); }

static bool may_park(void) {
    if (!message_in_progress()) return true;
    PyErr_SetString(PyExc_RuntimeError,
                    "a goproc operation that would block, inside a __reduce__ or __getstate__: "
                    "the message must be complete before anything else can run");
    return false;
}

static int offer_turn(PyObject *may_raise) {
    ticks = TICKS;
    if (PyThread_get_thread_ident() != scheduler_thread || wait_stack_short() || message_in_progress() ||
        !cushion_ready())
        return 0;
    uint64_t run = gp.run;
    bool attached = gp.base != NULL;
    PyObject *r = PyObject_CallOneArg(hooks.offer_turn, may_raise);
    if (!r) return -1;
    Py_DECREF(r);
    if (!attached || (run == gp.run && gp.base)) return 0;
    /* the operation may have looked at its object already */
    raise_stopped("the goproc runtime stopped", run);
    return -1;
}

int tick(void) { return GP_LIKELY(--ticks > 0) ? 0 : offer_turn(Py_False); }
int checkpoint(void) { return GP_LIKELY(--ticks > 0) ? 0 : offer_turn(Py_True); }

bool wait_allowed(void) { return !stack_error() && may_park(); }

/* ---- the parts of an operation */

/* The steps of a goroutine that waits. Python has two: `park` finds the goroutine to run meanwhile, `parked`
 * comes after it. No frame of Python's lies between them: it would add to the cost of each parked
 * goroutine. */

/* A new reference: a bool if the wait is over already, else (greenlet, goroutine, timed). NULL: an
 * exception */
static PyObject *park_begin(struct wait_spec *w, uint32_t waiter, uint64_t until) {
    PyObject *slot = PyLong_FromUnsignedLong(waiter),
             *when = until ? PyFloat_FromDouble((double)until / 1e9) : Py_NewRef(Py_None);
    PyObject *args[] = {slot, when, w->reason, w->handle ? w->handle : Py_None};
    PyObject *r = slot && when ? PyObject_Vectorcall(hooks.park, args, 4, NULL) : NULL;
    Py_XDECREF(slot);
    Py_XDECREF(when);
    return r;
}

/* The part of hooks.parked for a wait that went well and had no timer, without a bytecode in which a signal
 * could come. */
static int park_end_plain(PyObject *goroutine) {
    static PyObject *scheduling, *notified, *waits_on;
    if (!waits_on && (!(scheduling = PyUnicode_InternFromString("scheduling")) ||
                      !(notified = PyUnicode_InternFromString("notified")) ||
                      !(waits_on = PyUnicode_InternFromString("waits_on"))))
        return -1;
    PyObject *r = PyObject_GetAttr(goroutine, notified);
    if (!r || PyObject_SetAttr(goroutine, waits_on, Py_None) < 0 ||
        PyDict_SetItem(hooks.scheduler, scheduling, Py_False) < 0) {
        Py_XDECREF(r);
        return -1;
    }
    Py_DECREF(r);
    return r == Py_True;
}

#define ATTEMPTS 8 /* to call hooks.parked: a signal's handler may raise in each */

static int park_end(PyObject *goroutine, PyObject *timed, bool failed) {
    if (!failed && timed == Py_False) return park_end_plain(goroutine);
    PyObject *type, *value, *trace, *r = NULL;
    PyErr_Fetch(&type, &value, &trace); /* of the switch */
    /* hooks.parked must run to its end, and the handler of a signal may raise in it */
    for (int i = 0; !r && i < ATTEMPTS; i++) {
        if (!type) PyErr_Fetch(&type, &value, &trace);
        PyErr_Clear();
        PyObject *args[] = {goroutine, timed, type ? Py_True : Py_False};
        r = PyObject_Vectorcall(hooks.parked, args, 3, NULL);
    }
    int notified = r ? PyObject_IsTrue(r) : -1;
    Py_XDECREF(r);
    if (!type) return notified;
    PyErr_Restore(type, value, trace);
    return -1;
}

static void note_running(uint32_t waiter) {
    if (gp.base) gp_set(&gp.my->running, gp_get(&gp_waiter_at(gp.proc, waiter)->goroutine));
}

static PyObject *switch_to(PyObject *greenlet) {
    static PyObject *name;
    if (!name && !(name = PyUnicode_InternFromString("switch"))) return NULL;
    return PyObject_VectorcallMethod(name, &greenlet, 1, NULL); /* no bound method is made */
}

/* 1 notified through the inbox, 0 not (time is up, or woken some other way), -1 an exception */
static int park(struct wait_spec *w, uint32_t waiter, uint64_t until) {
    if (!cushion_check()) return -1; /* another park of the same operation may have used the room */
    PyObject *begun = park_begin(w, waiter, until);
    if (!begun) return -1;
    if (!PyTuple_Check(begun)) {
        int notified = PyObject_IsTrue(begun);
        Py_DECREF(begun);
        note_running(waiter);
        return notified;
    }
    PyObject *greenlet = Py_NewRef(PyTuple_GET_ITEM(begun, 0)),
             *goroutine = Py_NewRef(PyTuple_GET_ITEM(begun, 1));
    PyObject *timed = PyTuple_GET_ITEM(begun, 2); /* a bool */
    Py_DECREF(begun);
    PyObject *r = switch_to(greenlet);
    Py_DECREF(greenlet);
    Py_XDECREF(r);
    int notified = park_end(goroutine, timed, !r);
    Py_DECREF(goroutine);
    note_running(waiter);
    return notified;
}

static int sleep_thread(uint32_t waiter, uint64_t until) {
    struct gp_mapping *mapping = gp.mapping;
    struct gp_waiter *state = gp_waiter_at(gp.proc, waiter);
    uint64_t run = gp.run;
    int result = 0;
    mapping->users++; /* the runtime may stop while we sleep in it */
    if (!until) { /* in this order: a thread that this one has started is counted before this one is not */
        gp_release(&gp.my->foreign, threads_beside());
        gp_thread_blocks(state);
    }
    for (;;) {
        bool fired;
        Py_BEGIN_ALLOW_THREADS
        fired = gp_thread_wait(state, until);
        Py_END_ALLOW_THREADS
        if (run != gp.run || !gp.base || fired || (until && gp_now() >= until)) break;
        if ((result = PyErr_CheckSignals()) < 0) break;
    }
    if (run == gp.run && gp.base) gp_thread_runs(state);
    gp_mapping_release(mapping);
    return result;
}

static uint64_t earliest_due(const struct gp_select *s) {
    uint64_t due = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        uint64_t t = gp_case_due(&s->cases[i]);
        if (t && (!due || t < due)) due = t;
    }
    return due;
}

/* Several cases need more than a waiter: set that up. 0, or -ENOMEM or -ENOSPC. */
int64_t select_prepare(struct gp_select *s) {
    if (s->n >= GP_JOURNAL_LOCKS && !s->spill && !(s->spill = alloc_for(GP_FOR_TABLES, 4ULL * s->n, 0)))
        return -ENOMEM;
    for (uint32_t i = 0; i < s->n; i++) {
        if (!s->cases[i].o) continue;
        int64_t sudog = gp_sudog_alloc();
        if (sudog < 0) return sudog;
        s->cases[i].sudog = (uint32_t)sudog;
    }
    return 0;
}

PyObject *raise_no_waiter(int64_t error, uint32_t cases) {
    if (error == -ENOMEM) return raise_memory(192ULL * cases, "blocking one more goroutine");
    return PyErr_Format(hooks.error,
                        "one process can have at most %u %s at once: use more processes "
                        "(--procs, GOPROC_PROCS or runtime(procs=...))",
                        cases > 1 ? gp.selects : gp.waiters,
                        cases > 1 ? "cases of blocked selects" : "blocked goroutines");
}

static void give_back(struct gp_select *s, uint32_t waiter) {
    scheduler_unbind(waiter);
    gp_waiter_release(waiter);
    for (uint32_t i = 0; s->n > 1 && i < s->n; i++) {
        if (s->cases[i].sudog) gp_sudog_release(s->cases[i].sudog);
        s->cases[i].sudog = 0;
    }
}

/* The wait ended without its operation: raise why, and return -1. Return 0 if there is no reason: the caller
 * tries again. */
static int raise_failure(struct wait_spec *w, uint64_t until) {
    PyObject *r = PyObject_CallFunctionObjArgs(hooks.raise_wait_failure, w->reason,
                                               until && gp_now() >= until ? Py_True : Py_False, NULL);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

/* Return false, with an exception, if the lock was not held in that mode. w->release stays set then, which
 * tells the caller not to lock it again. */
static bool release_lock(struct wait_spec *w) {
    struct gp_object *lock = w->release;
    bool rw = gp_get(&lock->kind) == GP_KIND_RWMUTEX;
    if (rw ? gp_rwmutex_unlock(lock, w->reader) : gp_mutex_unlock(lock)) {
        w->release = NULL;
        return true;
    }
    PyErr_SetString(PyExc_RuntimeError, !rw         ? "sync: unlock of unlocked mutex"
                                        : w->reader ? "sync: RUnlock of unlocked RWMutex"
                                                    : "sync: Unlock of unlocked RWMutex");
    return false;
}

/* ---- the operation: queue_or_take, park_until_fired, settle; again where a mutex or a timer says so */

struct wait {
    struct gp_select *s;
    struct wait_spec *w;
    enum gp_result *r;    /* of the case that was done */
    int64_t chosen;       /* its position */
    uint32_t waiter;
    bool goroutine;       /* else it is a plain thread */
    uint64_t until, run;  /* ns, 0: for ever; the runtime in which the wait began */
};

enum park_end {
    PARK_NOTIFIED, /* the waiter was fired, and notified */
    PARK_ENDED,    /* something else: time is up, an interrupt, or the waiter was fired before it slept */
    PARK_RAISED,   /* an exception is set */
    PARK_TIMER,    /* the clock: a timer's case is done, `chosen` */
    PARK_STOPPED,  /* the runtime has stopped, and an exception is set */
};

enum wait_end { WAIT_DONE, WAIT_AGAIN, WAIT_FAILED, WAIT_STOPPED };

static bool stopped(const struct wait *x) { return x->run != gp.run || !gp.base; }

/* Take a waiter, and for several cases more records. False: there is none, and an exception is set. */
static bool take_waiter(struct wait *x) {
    struct gp_select *s = x->s;
    int64_t slot = gp_waiter_alloc(!x->goroutine);
    if (slot < 0) {
        raise_no_waiter(slot, 1);
        return false;
    }
    x->waiter = (uint32_t)slot;
    int64_t error = s->n > 1 ? select_prepare(s) : 0;
    if (error == 0) return true;
    give_back(s, x->waiter);
    raise_no_waiter(error, s->n);
    return false;
}

/* One step over all queues: do a case that can be done, else wait in each. True: it is done. */
static bool queue_or_take(struct wait *x) {
    struct gp_select *s = x->s;
    if (s->n == 1) x->chosen = (*x->r = gp_case_try_or_wait(&s->cases[0], x->waiter)) == GP_BLOCK ? -1 : 0;
    else x->chosen = gp_select(s, x->waiter, x->r);
    return x->chosen >= 0;
}

static enum park_end park_until_fired(struct wait *x) {
    if (x->w->release && !release_lock(x->w)) return PARK_RAISED;
    const struct gp_waiter *state = gp_waiter_at(gp.proc, x->waiter);
    int notified = 0;
    /* a waiter is also notified while it still waits: a timer was set anew */
    while (GP_W_TAG(gp_acquire(&state->state)) == GP_W_WAITING) {
        uint64_t due = earliest_due(x->s), when = due && (!x->until || due < x->until) ? due : x->until;
        if (x->goroutine) ticks = TICKS;
        notified = x->goroutine ? park(x->w, x->waiter, when) : sleep_thread(x->waiter, when);
        if (stopped(x)) {
            if (!PyErr_Occurred()) raise_stopped("the goproc runtime stopped", x->run);
            return PARK_STOPPED;
        }
        /* a waiter that is late for the timer keeps its place in the other queues */
        if (notified == 0 && due && gp_now() >= due) {
            if ((x->chosen = gp_select_due(x->s, x->waiter)) >= 0) return PARK_TIMER;
        } else if (notified != 1) {
            break;
        }
    }
    return notified == 1 ? PARK_NOTIFIED : notified == 0 ? PARK_ENDED : PARK_RAISED;
}

static void abandon(struct gp_select *s, int64_t but) {
    for (uint32_t i = 0; i < s->n; i++)
        if (i != but) gp_case_abandon(&s->cases[i]);
}

/* The waiter was not fired, and now it cannot be. */
static enum wait_end give_up(struct wait *x, enum park_end how) {
    abandon(x->s, -1);
    if (how == PARK_RAISED) return WAIT_FAILED;
    if (raise_failure(x->w, x->until) == 0) return WAIT_AGAIN;
    /* if the runtime has stopped, the exception says so */
    return stopped(x) ? WAIT_STOPPED : WAIT_FAILED;
}

/* The waiter was fired: take the result of the operation, or try again if the teller asks for that. */
static enum wait_end take_fired(struct wait *x, enum park_end how) {
    struct gp_waiter *state = gp_waiter_at(gp.proc, x->waiter);
    uint64_t end = gp_acquire(&state->state);
    uint32_t k = gp_won(end, x->s->n);
    struct gp_case *c = &x->s->cases[k];
    gp_case_settled(c, x->waiter, how == PARK_NOTIFIED && !gp_select_rethinks(x->s));
    abandon(x->s, k);
    if (GP_W_TAG(end) == GP_W_RETRY) {
        c->woken = c->kind == GP_LOCK;
        /* drop the mark of a thread that was notified before it slept: else its next sleep would not count */
        if (!x->goroutine) gp_thread_runs(state);
        if (how != PARK_RAISED) return WAIT_AGAIN;
        if (c->woken) gp_mutex_pass(c->o);
        return WAIT_FAILED;
    }
    *x->r = GP_W_TAG(end) == GP_W_CLOSED && c->kind <= GP_RECV ? GP_CLOSED : GP_OK;
    if (how != PARK_RAISED) {
        x->chosen = k;
        return WAIT_DONE;
    }
    if (*x->r == GP_OK) gp_case_undo(c); /* it happened, but an exception is on its way */
    return WAIT_FAILED;
}

static enum wait_end settle(struct wait *x, enum park_end how) {
    if (how == PARK_STOPPED) return WAIT_STOPPED;
    if (how == PARK_TIMER) {
        *x->r = GP_OK;
        abandon(x->s, -1);
        return WAIT_DONE;
    }
    /* the waiter is that of all cases; a barrier, which counts its waiters, is always alone */
    return gp_case_cancel(&x->s->cases[0], x->waiter) ? give_up(x, how) : take_fired(x, how);
}

int64_t wait_cases(struct gp_select *s, struct wait_spec *w, enum gp_result *r) {
    struct wait x = {
        .s = s, .w = w, .r = r, .run = gp.run, .goroutine = PyThread_get_thread_ident() == scheduler_thread};
    if (!timeout_until(w->timeout, &x.until) || !may_park() || (x.goroutine && no_room())) return -1;
    if (x.goroutine && !w->release && PyObject_Size(hooks.runq) == 0 && (x.chosen = spin_for_case(s, r)) >= 0)
        return x.chosen;
    if (!take_waiter(&x)) return -1;
    enum wait_end end;
    do end = queue_or_take(&x) ? WAIT_DONE : settle(&x, park_until_fired(&x));
    while (end == WAIT_AGAIN);
    if (end == WAIT_STOPPED) return -1; /* the waiter has gone with the runtime */
    give_back(s, x.waiter);
    return end == WAIT_DONE ? x.chosen : -1;
}

int wait_fired(uint32_t waiter, struct wait_spec *w) {
    bool goroutine = PyThread_get_thread_ident() == scheduler_thread;
    uint64_t until, run = gp.run;
    if (!timeout_until(w->timeout, &until) || !may_park() || (goroutine && no_room())) return -1;
    struct gp_waiter *state = gp_waiter_at(gp.proc, waiter);
    if (goroutine) spin_for_fired(state);
    for (;;) {
        gp_set(&state->thread, goroutine ? GP_GOROUTINE : GP_THREAD);
        gp_waiter_arm(waiter);
        atomic_thread_fence(memory_order_seq_cst); /* armed before the look: see tell_collector() */
        int notified = 0;
        if (!gp_get(&state->fired)) {
            if (goroutine) ticks = TICKS;
            notified = goroutine ? park(w, waiter, until) : sleep_thread(waiter, until);
        }
        if (run != gp.run || !gp.base) { /* it stopped under us */
            if (!PyErr_Occurred()) PyErr_SetString(hooks.stopped, "the goproc runtime stopped");
            return -1;
        }
        scheduler_unbind(waiter);
        gp_waiter_cancel(waiter);
        /* a late inbox bit means nothing */
        gp_set(&state->state, GP_W(GP_W_EPOCH(gp_get(&state->state)), 0, GP_W_IDLE));
        if (notified < 0) return -1;
        if (gp_get(&state->fired)) return 1;
        PyObject *r = PyObject_CallFunctionObjArgs(hooks.raise_wait_failure, w->reason, Py_False, NULL);
        Py_XDECREF(r);
        if (!r) return -1;
        if (until && gp_now() >= until) return 0;
    }
}

enum gp_result wait_case(struct gp_case *c, struct wait_spec *w) {
    struct gp_select s = {.cases = c, .n = 1};
    enum gp_result r;
    return wait_cases(&s, w, &r) < 0 ? GP_BLOCK : r;
}

int wait_done(struct gp_object *o, struct wait_spec *w) {
    if (gp_is_done(o)) return 0;
    struct gp_case c = {.o = o, .kind = GP_DONE};
    return wait_case(&c, w) == GP_BLOCK ? -1 : 0;
}

void wait_forever(struct wait_spec *w) {
    struct gp_case c = {.o = NULL, .kind = GP_FOREVER};
    if (wait_case(&c, w) != GP_BLOCK) PyErr_SetString(PyExc_SystemError, "something ended an endless wait");
}
