/* wait.c - operations that may block: perhaps spin, queue, park, and see what became of it.
 *
 * On the scheduler's thread a goroutine parks through the park hook, which runs others meanwhile; any other thread
 * sleeps on its waiter's state word without the GIL.
 */
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <unistd.h>

#include "python.h"
#include <structmember.h>

#define TICKS 512 /* operations in a row without a block, after which a goroutine offers its turn */
#define STACK_NEEDED 40
#define SPINS 4   /* successful looks that were then too late */
#define SPIN_CASES 8

#define FIRED_SPIN_NS 10000
#define FIRED_LOOK_NS 250
#define LOCK_FIRST_NS 200
#define LOCK_LOOK_NS 50
#define LOCK_SPIN_NS 20000ULL
#define LOCK_AWAY_NS 2500
#define LOCK_AWAY_MOST_NS 100000 /* Go, too, lets a mutex be unfair for a while: a millisecond */
#define LOCK_FAST_NS 500         /* a turn in less is over sooner than its lines would have moved to and fro */

unsigned long scheduler_thread;

static int ticks = TICKS;

/* Python's frames left. An error for want of frames in the middle of the scheduler would lose what it has in hand. */
static bool stack_is_short(void) {
    PyThreadState *t = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030C0000
    return t->py_recursion_remaining < STACK_NEEDED;
#else
    return t->recursion_remaining < STACK_NEEDED;
#endif
}

static bool stack_error(void) {
    if (!stack_is_short()) return false;
    PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded: too deep to block in a goproc operation");
    return true;
}

static bool may_park(void) {
    if (!message_in_progress()) return true;
    PyErr_SetString(PyExc_RuntimeError, "a goproc operation that would block, inside a __reduce__ or __getstate__: "
                                        "the message must be complete before anything else can run");
    return false;
}

/* After a wait that the core has no part in */
static PyObject *core_running(PyObject *module, PyObject *id) {
    (void)module;
    unsigned long long number = PyLong_AsUnsignedLongLong(id);
    if (PyErr_Occurred()) return NULL;
    if (gp.base) gp_set(&gp.my->running, number);
    Py_RETURN_NONE;
}

static PyObject *core_check_park(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (stack_error() || !may_park()) return NULL;
    Py_RETURN_NONE;
}

static int offer_turn(PyObject *may_raise) {
    ticks = TICKS;
    if (PyThread_get_thread_ident() != scheduler_thread || stack_is_short() || message_in_progress()) return 0;
    uint64_t run = gp.run;
    bool attached = gp.base != NULL;
    PyObject *r = PyObject_CallOneArg(hooks.offer_turn, may_raise);
    if (!r) return -1;
    Py_DECREF(r);
    if (!attached || (run == gp.run && gp.base)) return 0;
    raise_stopped("the goproc runtime stopped", run); /* the operation may have looked at its object already */
    return -1;
}

int tick(void) { return GP_LIKELY(--ticks > 0) ? 0 : offer_turn(Py_False); }
int checkpoint(void) { return GP_LIKELY(--ticks > 0) ? 0 : offer_turn(Py_True); }

int parse_timeout(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, Py_ssize_t at, const char *name,
                  PyObject **timeout) {
    Py_ssize_t keywords = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    *timeout = NULL;
    if (nargs > at + 1 || nargs < at || keywords > 1 || (keywords == 1 && nargs == at + 1)) {
        PyErr_Format(PyExc_TypeError, "%s takes %zd argument%s and timeout=", name, at, at == 1 ? "" : "s");
        return -1;
    }
    if (nargs == at + 1) *timeout = args[at];
    if (keywords) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "timeout") != 0) {
            PyErr_Format(PyExc_TypeError, "%s got an unexpected keyword argument '%U'", name, PyTuple_GET_ITEM(kwnames, 0));
            return -1;
        }
        *timeout = args[nargs];
    }
    if (*timeout == Py_None) *timeout = NULL;
    if (*timeout && !PyFloat_Check(*timeout) && !PyLong_Check(*timeout)) {
        PyErr_Format(PyExc_TypeError, "timeout must be seconds as a number, or None, not %.100s", Py_TYPE(*timeout)->tp_name);
        return -1;
    }
    if (*timeout) { /* an int may be too large for a float; NaN has no place in the order of timers */
        double seconds = PyFloat_AsDouble(*timeout);
        if (seconds == -1 && PyErr_Occurred()) return -1;
        if (isnan(seconds)) {
            PyErr_SetString(PyExc_ValueError, "timeout must be seconds, not NaN");
            return -1;
        }
    }
    return 0;
}

/* ---- the parts of an operation */

/* The steps of a goroutine that waits. Python has two: `park` finds who runs meanwhile, `parked` comes after it. Between
 * them is no frame of Python's: each would be a part of what a parked goroutine costs. */

/* A new reference: a bool if the wait is over already, else (switch, goroutine, timed). NULL: an exception */
static PyObject *park_begin(struct wait_spec *w, uint32_t waiter, uint64_t until) {
    PyObject *slot = PyLong_FromUnsignedLong(waiter), *when = until ? PyFloat_FromDouble((double)until / 1e9) : Py_NewRef(Py_None);
    PyObject *args[] = {slot, when, w->reason, w->handle ? w->handle : Py_None};
    PyObject *r = slot && when ? PyObject_Vectorcall(hooks.park, args, 4, NULL) : NULL;
    Py_XDECREF(slot);
    Py_XDECREF(when);
    return r;
}

/* The part of hooks.parked for a wait that went well and had no timer, without a bytecode in which a signal could come. */
static int park_end_plain(PyObject *goroutine) {
    static PyObject *scheduling, *told, *waits_on;
    if (!waits_on && (!(scheduling = PyUnicode_InternFromString("scheduling")) || !(told = PyUnicode_InternFromString("told")) ||
                      !(waits_on = PyUnicode_InternFromString("waits_on"))))
        return -1;
    PyObject *r = PyObject_GetAttr(goroutine, told);
    if (!r || PyObject_SetAttr(goroutine, waits_on, Py_None) < 0 || PyDict_SetItem(hooks.scheduler, scheduling, Py_False) < 0) {
        Py_XDECREF(r);
        return -1;
    }
    Py_DECREF(r);
    return r == Py_True;
}

#define ATTEMPTS 8

static int park_end(PyObject *goroutine, PyObject *timed, bool failed) {
    if (!failed && timed == Py_False) return park_end_plain(goroutine);
    PyObject *type, *value, *trace, *r = NULL;
    PyErr_Fetch(&type, &value, &trace); /* of the switch */
    for (int i = 0; !r && i < ATTEMPTS; i++) { /* the handler of a signal may raise in it, and it must be done */
        if (!type) PyErr_Fetch(&type, &value, &trace);
        PyErr_Clear();
        PyObject *args[] = {goroutine, timed, type ? Py_True : Py_False};
        r = PyObject_Vectorcall(hooks.parked, args, 3, NULL);
    }
    int told = r ? PyObject_IsTrue(r) : -1;
    Py_XDECREF(r);
    if (!type) return told;
    PyErr_Restore(type, value, trace);
    return -1;
}

static void note_running(uint32_t waiter) {
    if (gp.base) gp_set(&gp.my->running, gp_get(&gp_waiter_at(gp.proc, waiter)->goroutine));
}

/* 1 told through the inbox, 0 not (time is up, or woken some other way), -1 an exception */
static int park(struct wait_spec *w, uint32_t waiter, uint64_t until) {
    PyObject *begun = park_begin(w, waiter, until);
    if (!begun) return -1;
    if (!PyTuple_Check(begun)) {
        int told = PyObject_IsTrue(begun);
        Py_DECREF(begun);
        note_running(waiter);
        return told;
    }
    PyObject *switch_to = Py_NewRef(PyTuple_GET_ITEM(begun, 0)), *goroutine = Py_NewRef(PyTuple_GET_ITEM(begun, 1));
    PyObject *timed = PyTuple_GET_ITEM(begun, 2); /* a bool */
    Py_DECREF(begun);
    PyObject *r = PyObject_CallNoArgs(switch_to);
    Py_DECREF(switch_to);
    Py_XDECREF(r);
    int told = park_end(goroutine, timed, !r);
    Py_DECREF(goroutine);
    note_running(waiter);
    return told;
}

/* Python threads beside the scheduler's; each may do anything, unless it is blocked in an operation */
static uint32_t foreign_threads(void) {
    uint32_t n = 0;
    for (PyThreadState *t = PyInterpreterState_ThreadHead(PyInterpreterState_Get()); t; t = PyThreadState_Next(t)) n++;
    return n - 1;
}

static int sleep_thread(uint32_t waiter, uint64_t until) {
    struct gp_mapping *mapping = gp.mapping;
    struct gp_waiter *state = gp_waiter_at(gp.proc, waiter);
    uint64_t run = gp.run;
    int result = 0;
    mapping->users++; /* the runtime may stop while we sleep in it */
    if (!until) { /* in this order: a thread that this one has started is counted before this one is not */
        gp_release(&gp.my->foreign, foreign_threads());
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

static bool deadline(PyObject *timeout, uint64_t *until) {
    *until = 0;
    if (!timeout) return true;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1 && PyErr_Occurred()) return false;
    if (seconds < 1e9) *until = gp_now() + (seconds > 0 ? (uint64_t)(seconds * 1e9) : 0);
    return true;
}

static void nap(uint32_t ns) { gp_wait_ns(ns); }

/* A process that takes the mutex again and again pays a third while the cache lines stay with it; each look of ours takes a
 * line away. So while o->tail (it counts the turns) grows fast, look only every LOCK_AWAY_NS. */
static uint64_t stay_away(const struct gp_object *o) {
    uint64_t turn = gp_get(&o->tail), before, spent = 0;
    do {
        before = turn;
        nap(LOCK_AWAY_NS);
        spent += LOCK_AWAY_NS;
        turn = gp_get(&o->tail);
    } while (turn - before >= LOCK_AWAY_NS / LOCK_FAST_NS && spent < LOCK_AWAY_MOST_NS && !gp_inbox_pending());
    return spent;
}

/* Somebody who holds it for longer than between two looks gives no such turns: then be there when it lets go. */
static enum gp_result spin_for_lock(struct gp_case *c) {
    struct gp_object *o = c->o;
    uint64_t until = gp_now() + LOCK_SPIN_NS, turn = gp_get(&o->tail);
    nap(LOCK_FIRST_NS);
    while (gp_may_spin() && gp_now() < until && !gp_inbox_pending()) {
        if (gp_get(&o->tail) != turn) {
            until += stay_away(o);
            turn = gp_get(&o->tail);
        }
        if (gp_get(&o->value) == 0) {
            if (gp_get(&o->lock) == 0) { /* not in the middle of letting go */
                enum gp_result r = gp_case_try(c);
                if (r != GP_BLOCK) return r;
            }
        } else if ((gp_get(&o->owner) & 1023) == gp.proc + 1) {
            break; /* held by a goroutine of this process */
        }
        nap(LOCK_LOOK_NS);
    }
    return GP_BLOCK;
}

/* look again for about what sleeping and waking would cost, if a core is free for that; the case that was done, or -1 */
static int64_t spin(struct gp_select *s, enum gp_result *r) {
    struct gp_case *c = s->cases;
    int64_t chosen = -1;
    if (s->n == 1 && c->kind == GP_LOCK && gp_get(&c->o->kind) != GP_KIND_RWMUTEX) {
        *r = spin_for_lock(c);
        return *r == GP_BLOCK ? -1 : 0;
    }
    for (int i = 0; i < SPINS && chosen < 0 && s->n <= SPIN_CASES && gp_spin_until(c, s->n); i++) {
        if (s->n > 1) chosen = gp_select(s, -1, r);
        else if ((*r = gp_case_try(c)) != GP_BLOCK) chosen = 0;
    }
    return chosen;
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
    if (s->n >= GP_JOURNAL_LOCKS && !s->spill && !(s->spill = alloc_for(GP_FOR_TABLES, 4ULL * s->n, 0))) return -ENOMEM;
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
    return PyErr_Format(hooks.error, "one process can have at most %u %s at once: use more processes "
                        "(--procs, GOPROC_PROCS or runtime(procs=...))",
                        cases > 1 ? gp.selects : gp.waiters, cases > 1 ? "cases of blocked selects" : "blocked goroutines");
}

static PyObject **parked; /* by waiter: the goroutine that waits there, as the scheduler sees it */
static uint32_t parked_cap;

static void unbind(uint32_t waiter) {
    if (waiter < parked_cap) Py_CLEAR(parked[waiter]);
}

static void give_back(struct gp_select *s, uint32_t waiter) {
    unbind(waiter);
    gp_waiter_release(waiter);
    for (uint32_t i = 0; s->n > 1 && i < s->n; i++) {
        if (s->cases[i].sudog) gp_sudog_release(s->cases[i].sudog);
        s->cases[i].sudog = 0;
    }
}

/* The wait ended without its operation: raise why, and return -1. Return 0 if there is no reason: the caller tries again. */
static int expire(struct wait_spec *w, uint64_t until) {
    PyObject *r = PyObject_CallFunctionObjArgs(hooks.expire, w->reason, until && gp_now() >= until ? Py_True : Py_False, NULL);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

/* Return false, with an exception, if the lock was not held in that mode. w->release stays set then, which tells the caller
 * not to lock it again. */
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

int64_t wait_cases(struct gp_select *s, struct wait_spec *w, enum gp_result *r) {
    bool goroutine = PyThread_get_thread_ident() == scheduler_thread;
    uint64_t until, run = gp.run;
    int64_t chosen;
    if (!deadline(w->timeout, &until) || !may_park() || (goroutine && stack_error())) return -1;
    if (goroutine && !w->release && PyObject_Size(hooks.runq) == 0 && (chosen = spin(s, r)) >= 0) return chosen;
    int64_t slot = gp_waiter_alloc(!goroutine);
    if (slot < 0) {
        raise_no_waiter(slot, 1);
        return -1;
    }
    uint32_t waiter = (uint32_t)slot;
    int64_t error = s->n > 1 ? select_prepare(s) : 0;
    if (error < 0) {
        give_back(s, waiter);
        raise_no_waiter(error, s->n);
        return -1;
    }
    for (;;) {
        if (s->n == 1) chosen = (*r = gp_case_try_or_wait(&s->cases[0], waiter)) == GP_BLOCK ? -1 : 0;
        else chosen = gp_select(s, waiter, r);
        if (chosen >= 0) break;
        int told = 0;
        bool ok = !w->release || release_lock(w);
        struct gp_waiter *state = gp_waiter_at(gp.proc, waiter);
        /* told while it still waits: a timer was set anew */
        while (ok && GP_W_TAG(gp_acquire(&state->state)) == GP_W_WAITING) {
            uint64_t due = earliest_due(s), when = due && (!until || due < until) ? due : until;
            if (goroutine) ticks = TICKS;
            told = goroutine ? park(w, waiter, when) : sleep_thread(waiter, when);
            if (run != gp.run || !gp.base) { /* it stopped under us */
                if (!PyErr_Occurred()) raise_stopped("the goproc runtime stopped", run);
                return -1;
            }
            if (told == 0 && due && gp_now() >= due) { /* and whoever is late for it keeps its place in the other queues */
                if ((chosen = gp_select_due(s, waiter)) >= 0) break;
            } else if (told != 1) break;
        }
        if (chosen >= 0) {
            *r = GP_OK;
            for (uint32_t i = 0; i < s->n; i++) gp_case_abandon(&s->cases[i]);
            break;
        }
        if (!ok) told = -1;
        if (gp_case_cancel(&s->cases[0], waiter)) { /* a barrier is always alone */
            for (uint32_t i = 0; i < s->n; i++) gp_case_abandon(&s->cases[i]);
            if (told < 0) break;
            if (expire(w, until) < 0) {
                if (run != gp.run || !gp.base) return -1; /* the exception says that the runtime has ended, and it was left */
                break;
            }
            continue;
        }
        uint64_t end = gp_acquire(&state->state);
        uint32_t k = s->n == 1 ? 0 : GP_W_CASE(end);
        struct gp_case *c = &s->cases[k];
        gp_case_settled(c, waiter, told == 1);
        for (uint32_t i = 0; s->n > 1 && i < s->n; i++)
            if (i != k) gp_case_abandon(&s->cases[i]);
        if (GP_W_TAG(end) == GP_W_RETRY) {
            c->woken = c->kind == GP_LOCK;
            if (!goroutine) gp_thread_runs(state); /* told before it slept: else its next sleep would not count as one */
            if (told >= 0) continue;
            if (c->woken) gp_mutex_pass(c->o);
            break;
        }
        *r = GP_W_TAG(end) == GP_W_CLOSED && c->kind <= GP_RECV ? GP_CLOSED : GP_OK;
        if (told >= 0) {
            chosen = k;
        } else if (*r == GP_OK) { /* it happened, but an exception is on its way */
            gp_case_undo(c);
        }
        break;
    }
    give_back(s, waiter);
    return chosen;
}

/* Look again for about what sleeping and waking would cost, if a core is free for that. */
static void spin_for_fired(const struct gp_waiter *state) {
    if (PyObject_Size(hooks.runq) != 0 || !gp_may_spin()) return;
    for (uint64_t end = gp_now() + FIRED_SPIN_NS; !gp_get(&state->fired) && !gp_inbox_pending() && gp_now() < end;)
        gp_wait_ns(FIRED_LOOK_NS);
}

int wait_fired(uint32_t waiter, struct wait_spec *w) {
    bool goroutine = PyThread_get_thread_ident() == scheduler_thread;
    uint64_t until, run = gp.run;
    if (!deadline(w->timeout, &until) || !may_park() || (goroutine && stack_error())) return -1;
    struct gp_waiter *state = gp_waiter_at(gp.proc, waiter);
    if (goroutine) spin_for_fired(state);
    for (;;) {
        gp_set(&state->thread, goroutine ? GP_GOROUTINE : GP_THREAD);
        gp_waiter_arm(waiter);
        atomic_thread_fence(memory_order_seq_cst); /* armed before the look: see tell_collector() */
        int told = 0;
        if (!gp_get(&state->fired)) {
            if (goroutine) ticks = TICKS;
            told = goroutine ? park(w, waiter, until) : sleep_thread(waiter, until);
        }
        if (run != gp.run || !gp.base) { /* it stopped under us */
            if (!PyErr_Occurred()) PyErr_SetString(hooks.stopped, "the goproc runtime stopped");
            return -1;
        }
        unbind(waiter);
        gp_waiter_cancel(waiter);
        gp_set(&state->state, GP_W(GP_W_EPOCH(gp_get(&state->state)), 0, GP_W_IDLE)); /* a late inbox bit means nothing */
        if (told < 0) return -1;
        if (gp_get(&state->fired)) return 1;
        PyObject *r = PyObject_CallFunctionObjArgs(hooks.expire, w->reason, Py_False, NULL);
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

int wait_done(Handle *h, struct gp_object *o, struct wait_spec *w) {
    (void)h;
    if (gp_is_done(o)) return 0;
    struct gp_case c = {.o = o, .kind = GP_DONE};
    return wait_case(&c, w) == GP_BLOCK ? -1 : 0;
}

void wait_forever(struct wait_spec *w) {
    struct gp_case c = {.o = NULL, .kind = GP_FOREVER};
    if (wait_case(&c, w) != GP_BLOCK) PyErr_SetString(PyExc_SystemError, "something ended an endless wait");
}

/* ---- what the scheduler calls: parking and idling */

/* For reports on this process's death. `id` is a slot of the class, so it is where its descriptor says. */
static uint64_t id_of(PyObject *g) {
    static PyTypeObject *type;
    static Py_ssize_t offset;
    if (GP_UNLIKELY(type != Py_TYPE(g))) {
        PyObject *slot = PyObject_GetAttrString((PyObject *)Py_TYPE(g), "id");
        offset = slot && Py_IS_TYPE(slot, &PyMemberDescr_Type) ? ((PyMemberDescrObject *)slot)->d_member->offset : 0;
        type = Py_TYPE(g);
        Py_XDECREF(slot);
        PyErr_Clear();
    }
    PyObject *id = offset ? *(PyObject **)((char *)g + offset) : NULL;
    return id && PyLong_Check(id) ? PyLong_AsUnsignedLongLongMask(id) : 0;
}

static PyObject *core_bind(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    if (nargs != 2) return PyErr_Format(PyExc_TypeError, "bind(slot, goroutine)");
    unsigned long slot = PyLong_AsUnsignedLong(args[0]);
    if (slot == (unsigned long)-1 && PyErr_Occurred()) return NULL;
    if (slot >= gp.waiters) return PyErr_Format(PyExc_ValueError, "no waiter %lu", slot);
    if (slot >= parked_cap) {
        uint32_t cap = parked_cap ? parked_cap : 256;
        while (cap <= slot) cap *= 2;
        PyObject **v = PyMem_Realloc(parked, cap * sizeof *v);
        if (!v) return PyErr_NoMemory();
        memset(v + parked_cap, 0, (cap - parked_cap) * sizeof *v);
        parked = v;
        parked_cap = cap;
    }
    gp_set(&gp_waiter_at(gp.proc, (uint32_t)slot)->goroutine, id_of(args[1]));
    PyObject *old = parked[slot];
    parked[slot] = Py_NewRef(args[1]);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

/* g.parked: False, g.told, and into the run queue; without a bytecode in between, where a signal could come */
static int make_ready(PyObject *g, bool told, bool next) {
    static PyObject *parked_, *told_;
    if (!told_ && (!(parked_ = PyUnicode_InternFromString("parked")) || !(told_ = PyUnicode_InternFromString("told")))) return -1;
    PyObject *waits = PyObject_GetAttr(g, parked_);
    if (!waits) return -1;
    Py_DECREF(waits);
    if (waits != Py_True) return 0; /* something else was faster */
    if (PyObject_SetAttr(g, parked_, Py_False) < 0 || PyObject_SetAttr(g, told_, told ? Py_True : Py_False) < 0) return -1;
    PyObject *r = PyObject_CallOneArg(next ? hooks.ready_next : hooks.ready, g);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

/* A process has died, perhaps after it fired one of our waiters and before it told. `told` stays false: rule O2. */
static int look_at_waiters(void) {
    static uint64_t run;
    static uint32_t seen;
    uint32_t scans = gp_acquire(&gp.head->scans), n = gp_get(&gp.my->waiters_used);
    if (run != gp.run) seen = 0;
    run = gp.run;
    if (scans == seen) return 0;
    seen = scans;
    gp_threads_recount();
    for (uint32_t i = 0; i < n; i++) {
        struct gp_waiter *w = gp_waiter_at(gp.proc, i);
        unsigned tag = GP_W_TAG(gp_acquire(&w->state));
        if (tag == GP_W_IDLE || tag == GP_W_WAITING) continue;
        if (gp_get(&w->thread) == GP_WATCHED) gp_watched_again(i);
        else if (gp_get(&w->thread)) gp_futex_wake((_Atomic uint32_t *)&w->state, INT_MAX);
        else if (i < parked_cap && parked[i] && make_ready(parked[i], false, false) < 0) return -1;
    }
    return 0;
}

static PyObject *core_drain(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    gp_set(&gp_polls, gp_get(&gp_polls) + 1);
    int64_t heir = -1;
    gp_slice_quiet(0);
    if (gp.base) {
        heir = gp_heir();
        if (heir < 0 || !gp_slice_inherit()) {
            heir = -1;
            gp_set(&gp_slices, gp_get(&gp_slices) + 1);
        }
    }
    if (!gp.base) return PyLong_FromLong(DRAIN_STOPS);
    gp_set(&gp.my->running, 0); /* whoever runs next says so, but for one that has yielded */
    long flags = (gp_slice_ticked() ? DRAIN_TICKED : 0) | (gp_get(&gp.head->stop) ? DRAIN_STOPS : 0);
    if (GP_LIKELY(!gp_inbox_pending() && !gp_get(&gp.my->rescan))) return PyLong_FromLong(flags);
    uint32_t told[1024];
    int n;
    while (gp_inbox_pending() && (n = gp_drain(told, 1024)) > 0)
        for (int i = 0; i < n; i++) {
            unsigned tag = GP_W_TAG(gp_acquire(&gp_waiter_at(gp.proc, told[i])->state));
            /* a late bit may meet a waiter that has gone on to wait for something else, or for nothing */
            if (tag == GP_W_IDLE || told[i] >= parked_cap || !parked[told[i]]) continue;
            if (tag == GP_W_WAITING && !atomic_exchange(&gp_waiter_at(gp.proc, told[i])->rethink, 0)) continue;
            if (make_ready(parked[told[i]], true, told[i] == heir) < 0) return NULL;
        }
    if (gp_get(&gp.my->rescan)) {
        atomic_store(&gp.my->rescan, 0);
        if (look_at_waiters() < 0) return NULL;
        flags |= DRAIN_LOOK;
    }
    return PyLong_FromLong(flags);
}

static uint64_t deadline_ns(PyObject *deadline) { /* time.monotonic() seconds, or None */
    if (deadline == Py_None) return 0;
    double seconds = PyFloat_AsDouble(deadline);
    return seconds <= 0 ? 1 : seconds > 1e9 ? 1000000000000000000ULL : (uint64_t)(seconds * 1e9); /* 0 would be: no timer */
}

/* The process has nothing to do: what is garbage, and what is free, goes back to the system. */
static void trim(void) {
    if (gp_drops_settled()) collect_now();
    if (!gp.base) return;
    if (!gp_get(&gp.my->fenced)) { /* no thread of this process may allocate meanwhile */
        gp_heap_trim(gp_something_to_do);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    gp_heap_trim(gp_something_to_do);
    Py_END_ALLOW_THREADS
}

static PyObject *core_idle(PyObject *module, PyObject *deadline) {
    (void)module;
    uint64_t until = deadline_ns(deadline);
    if (PyErr_Occurred()) return NULL;
    if (!gp.base) Py_RETURN_NONE;
    gp_release(&gp.my->foreign, foreign_threads());
    Py_BEGIN_ALLOW_THREADS
    gp_idle(until);
    Py_END_ALLOW_THREADS
    if (gp.base && gp_heap_look()) trim();
    if (PyErr_CheckSignals() < 0) return NULL;
    Py_RETURN_NONE;
}

/* malloc keeps what is free below its topmost block */
static PyObject *core_trim(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
#ifdef __GLIBC__
    Py_BEGIN_ALLOW_THREADS
    malloc_trim(0);
    Py_END_ALLOW_THREADS
#endif
    Py_RETURN_NONE;
}

static PyObject *core_wake(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (gp.base) gp_nudge(gp.proc);
    Py_RETURN_NONE;
}

static PyObject *core_scheduler_thread(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    scheduler_thread = PyThread_get_thread_ident();
    for (uint32_t i = 0; i < parked_cap; i++) unbind(i); /* goroutines of a runtime that has stopped */
    Py_RETURN_NONE;
}

/* The scheduler keeps one dead greenlet: it is no part of any cycle, and no finding for those who look for dead ones. */
static PyObject *core_untrack(PyObject *module, PyObject *object) {
    (void)module;
    if (PyObject_GC_IsTracked(object)) PyObject_GC_UnTrack(object);
    Py_RETURN_NONE;
}

static PyObject *core_on_scheduler_thread(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyBool_FromLong(PyThread_get_thread_ident() == scheduler_thread);
}

static PyObject *core_park_forever(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    if (nargs != 2 || !PyUnicode_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "park_forever(reason, timeout)");
    if (handle_ready() < 0) return NULL;
    struct wait_spec w = {.timeout = args[1] == Py_None ? NULL : args[1], .reason = args[0]};
    wait_forever(&w);
    return NULL;
}

/* ---- time slices */

static bool somebody_waits(void) { /* called without the GIL: sizes may be stale, and then the next slice sees it */
    return gp_inbox_pending() || gp_get(&gp.my->rescan) || (hooks.runq && Py_SIZE(hooks.runq) > 0) ||
           (hooks.timers && Py_SIZE(hooks.timers) > 0 && gp_slice_timers());
}

static void request(int number) { PyErr_SetInterruptEx(number); }

static PyObject *core_start_monitor(PyObject *module, PyObject *arg) {
    (void)module;
    long number = PyLong_AsLong(arg);
    if (number == -1 && PyErr_Occurred()) return NULL;
    int err = gp_monitor_start((int)number, request, somebody_waits);
    if (err < 0) return PyErr_Format(PyExc_OSError, "cannot start goproc's monitor thread: error %d", -err);
    Py_RETURN_NONE;
}

static PyObject *core_stop_monitor(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    gp_monitor_stop(); /* it never waits for the GIL */
    Py_RETURN_NONE;
}

static PyObject *core_may_switch(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyBool_FromLong(gp.base && PyThread_get_thread_ident() == scheduler_thread && !message_in_progress() &&
                           !stack_is_short());
}

static PyObject *core_slice_end(PyObject *module, PyObject *next) {
    (void)module;
    if (next == Py_None) gp_slice_refused();
    else gp_slice_quiet(deadline_ns(next));
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyObject *core_slice_noted(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    gp_slice_noted();
    Py_RETURN_NONE;
}

/* os.getcwd() without letting go of the GIL: a thread that waits for the GIL asks for it after 5 ms without a release, so
 * a release every few milliseconds, at which this thread takes it back at once, keeps the other one waiting for ever */
static PyObject *core_folder(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    char path[4096];
    return PyUnicode_DecodeFSDefault(getcwd(path, sizeof path) ? path : "");
}

static PyObject *core_take_asleep(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyBool_FromLong(gp.base && gp.proc == 0 && atomic_exchange(&gp.head->asleep, 0) && !gp_worker_ended());
}

static PyObject *core_others_asleep(PyObject *module, PyObject *again) {
    (void)module;
    if (!gp.base) Py_RETURN_FALSE;
    gp_release(&gp.my->foreign, foreign_threads());
    return PyBool_FromLong(gp_others_asleep(again == Py_True));
}

PyMethodDef wait_functions[] = {
    {"bind", METHOD(core_bind), METH_FASTCALL, PyDoc_STR("The goroutine that waits in this slot.")},
    {"drain", core_drain, METH_NOARGS, PyDoc_STR("Queue the goroutines told through the inbox. DRAIN_LOOK: this process was asked to look around; DRAIN_TICKED: "
               "the kernel's clock has ticked since slice_noted(); DRAIN_STOPS: stopping() is true.")},
    {"idle", core_idle, METH_O, PyDoc_STR("Sleep until there may be something to do, or the monotonic deadline.")},
    {"running", core_running, METH_O, PyDoc_STR("The goroutine of this number runs, for reports.")},
    {"check_park", core_check_park, METH_NOARGS, PyDoc_STR("Raise where a goroutine cannot park: too deep a stack, or in the middle of pickling.")},
    {"wake", core_wake, METH_NOARGS, PyDoc_STR("Make this process's scheduler look around; from any thread.")},
    {"use_this_thread", core_scheduler_thread, METH_NOARGS, PyDoc_STR("Goroutines run on the calling thread.")},
    {"trim", core_trim, METH_NOARGS, PyDoc_STR("Give memory that malloc has free back to the system.")},
    {"untrack", core_untrack, METH_O, PyDoc_STR("Hide an object from the garbage collector.")},
    {"on_scheduler_thread", core_on_scheduler_thread, METH_NOARGS, NULL},
    {"park_forever", METHOD(core_park_forever), METH_FASTCALL,
     PyDoc_STR("Block until the timeout: raises TimeoutError or what interrupts it.")},
    {"start_monitor", core_start_monitor, METH_O, PyDoc_STR("Have the handler of a signal called when a goroutine keeps this thread for long.")},
    {"stop_monitor", core_stop_monitor, METH_NOARGS, NULL},
    {"may_switch", core_may_switch, METH_NOARGS, PyDoc_STR("Is this a place, in C, where a goroutine can let others run?")},
    {"slice_noted", core_slice_noted, METH_NOARGS, PyDoc_STR("The state of the process is noted: DRAIN_TICKED comes again after the next tick.")},
    {"folder", core_folder, METH_NOARGS, PyDoc_STR("The working directory, \"\" if it was removed. Keeps the GIL.")},
    {"slice_end", core_slice_end, METH_O, PyDoc_STR("The request for a turn came to nothing: None, not here; else when the next timer is due.")},
    {"others_asleep", core_others_asleep, METH_O,
     PyDoc_STR("Is nothing under way, and all asleep but the caller; True: and were since it was asked with False?")},
    {"take_asleep", core_take_asleep, METH_NOARGS, PyDoc_STR("In the host: were all goroutines found asleep? Once.")},
    {NULL, NULL, 0, NULL},
};
