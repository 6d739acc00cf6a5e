/* await.c - operations that a loop of asyncio waits for: many at once, each the first of several cases.
 *
 * A goroutine or a thread that waits sleeps in the waiter of its operation. A task of a loop must not sleep, so its
 * operation waits by itself. No goroutine sleeps in its waiter (GP_WATCHED, see watch.c): the process that fires it
 * pushes it on the stack of the set's one collecting waiter. A thread sleeps there, and has the loop take the operations
 * that are done.
 *
 * An operation is done when it is fired. From then on a received value belongs to the operation, until result() gives it
 * away or the operation is dropped. cancel() tells which came first.
 *
 * Everything here runs under the GIL, in any thread of the process.
 */
#include "python.h"

enum op_state { OP_NEW, OP_PENDING, OP_DONE, OP_CANCELLED, OP_READ };

typedef struct awaited {
    PyObject_HEAD
    struct awaits *set;       /* while it is pending */
    PyObject *token;          /* the caller's: take() gives it back */
    PyObject *given, *kept;   /* the cases as they were given, and their objects: they keep the targets alive */
    struct item *items;
    struct gp_select s;
    uint64_t run;             /* of the runtime it belongs to */
    uint32_t waiter, place;   /* its waiter; index in the set */
    int64_t chosen;           /* the case that was done */
    enum gp_result r;
    enum op_state state;
    bool listed;              /* among those to be taken, where `next` leads on */
    struct awaited *next;
} Awaited;

typedef struct awaits {
    PyObject_HEAD
    uint64_t run;
    int64_t collector;        /* the waiter that the thread sleeps in; -1: none yet */
    Awaited **pending;        /* by their `place`; each reference is the set's */
    Awaited *touched;         /* done, or to be looked at again; not taken yet, the oldest first */
    uint32_t n, room;
    bool busy;
} Awaits;

static bool live(uint64_t run) { return gp.base && run == gp.run; }

static void *stopped(void) {
    PyErr_SetString(hooks.stopped, "the goproc runtime of this operation stopped");
    return NULL;
}

/* ---- the set */

static int awaits_ready(Awaits *self) {
    if (self->collector >= 0) return live(self->run) || stopped() ? 0 : -1;
    if (handle_ready() < 0) return -1;
    int64_t slot = gp_waiter_alloc(false);
    if (slot < 0) {
        raise_no_waiter(slot, 1);
        return -1;
    }
    self->run = gp.run;
    self->collector = slot;
    gp_set(&gp_waiter_at(gp.proc, (uint32_t)slot)->fired, 0);
    return 0;
}

static int make_room(Awaits *self) {
    if (self->n < self->room) return 0;
    uint32_t room = self->room ? 2 * self->room : 16;
    Awaited **pending = PyMem_Realloc(self->pending, room * sizeof *pending);
    if (!pending) {
        PyErr_NoMemory();
        return -1;
    }
    self->pending = pending;
    self->room = room;
    return 0;
}

static void enter(Awaits *self, Awaited *op) {
    op->set = self;
    op->place = self->n;
    gp_waiter_at(gp.proc, op->waiter)->place = op->place;
    self->pending[self->n++] = (Awaited *)Py_NewRef(op);
    op->state = OP_PENDING;
}

static void leave(Awaited *op) { /* gives up the set's reference: the caller has one */
    Awaits *self = op->set;
    Awaited *last = self->pending[--self->n];
    self->pending[op->place] = last;
    last->place = op->place;
    gp_waiter_at(gp.proc, last->waiter)->place = last->place;
    op->set = NULL;
    Py_DECREF(op);
}

static void touch(Awaits *self, Awaited *op) {
    if (op->listed) return;
    op->listed = true;
    op->next = self->touched;
    self->touched = (Awaited *)Py_NewRef(op);
}

/* ---- one operation */

static void give_back(Awaited *op) {
    gp_waiter_release(op->waiter);
    for (uint32_t i = 0; op->s.n > 1 && i < op->s.n; i++) {
        if (op->s.cases[i].sudog) gp_sudog_release(op->s.cases[i].sudog);
        op->s.cases[i].sudog = 0;
    }
    if (op->s.spill) gp_free(op->s.spill);
    op->s.spill = 0;
}

static void finish(Awaited *op, int64_t chosen, enum gp_result r) {
    op->chosen = chosen;
    op->r = r;
    give_back(op);
    select_drop_values(op->s.cases, op->s.n, r == GP_OK ? chosen : -1);
    op->state = OP_DONE;
}

/* Try it, and queue it if nothing is ready. The case that was done, or -1. */
static int64_t try_or_wait(Awaited *op, enum gp_result *r) {
    if (op->s.n == 1) return (*r = gp_case_try_or_wait(&op->s.cases[0], op->waiter)) == GP_BLOCK ? -1 : 0;
    return gp_select(&op->s, op->waiter, r);
}

static void abandon(Awaited *op, int64_t but) {
    for (uint32_t i = 0; i < op->s.n; i++)
        if (i != but) gp_case_abandon(&op->s.cases[i]);
}

/* It was fired: done, or (a timer was set anew) queued again. */
static void settle(Awaited *op) {
    uint64_t end = gp_acquire(&gp_waiter_at(gp.proc, op->waiter)->state);
    uint32_t k = gp_won(end, op->s.n);
    struct gp_case *c = &op->s.cases[k];
    enum gp_result r = GP_W_TAG(end) == GP_W_CLOSED && c->kind <= GP_RECV ? GP_CLOSED : GP_OK;
    int64_t chosen = k;
    gp_case_settled(c, op->waiter, false);
    if (op->s.n > 1) abandon(op, k);
    if (GP_W_TAG(end) == GP_W_RETRY) chosen = try_or_wait(op, &r);
    if (chosen < 0) return;
    leave(op);
    finish(op, chosen, r);
}

static void collect(Awaits *self) {
    struct gp_waiter *collector = gp_waiter_at(gp.proc, (uint32_t)self->collector);
    for (uint32_t top = atomic_exchange(&collector->fired, 0); top;) {
        struct gp_waiter *waiter = gp_waiter_at(gp.proc, top - 1);
        if (waiter->place >= self->n) gp_damaged("a place in a set of waiters", waiter->place);
        Awaited *op = self->pending[waiter->place];
        top = gp_get(&waiter->next);
        touch(self, op);
        settle(op);
    }
}

/* True: the operation has not happened, and will not happen. False: it is done. */
static bool cancel(Awaited *op) {
    while (op->state == OP_PENDING) {
        Awaits *set = op->set;
        if (gp_waiter_cancel(op->waiter)) {
            abandon(op, -1);
            Py_INCREF(op);
            leave(op);
            give_back(op);
            select_drop_values(op->s.cases, op->s.n, -1);
            op->state = OP_CANCELLED;
            Py_DECREF(op);
            return true;
        }
        uint64_t end = gp_acquire(&gp_waiter_at(gp.proc, op->waiter)->state);
        struct gp_object *o = op->s.cases[gp_won(end, op->s.n)].o;
        gp_lock(o); /* then it is on the stack */
        gp_unlock(o);
        collect(set);
    }
    return op->state == OP_CANCELLED;
}

/* ---- Awaited */

static void op_forget(Awaited *op) { /* its parts of shared memory */
    if (op->state == OP_DONE && live(op->run) && op->r == GP_OK && op->s.cases[op->chosen].kind == GP_RECV)
        gp_message_drop(&op->s.cases[op->chosen].m);
    op->state = op->state == OP_CANCELLED ? OP_CANCELLED : OP_READ;
}

static int op_clear(Awaited *op) {
    Py_CLEAR(op->token);
    Py_CLEAR(op->given);
    Py_CLEAR(op->kept);
    return 0;
}

static int op_traverse(Awaited *op, visitproc visit, void *arg) {
    Py_VISIT(op->token);
    Py_VISIT(op->given);
    Py_VISIT(op->kept);
    return 0;
}

static void op_dealloc(Awaited *op) {
    PyObject_GC_UnTrack(op);
    op_forget(op);
    op_clear(op);
    PyMem_Free(op->items);
    PyMem_Free(op->s.cases);
    PyMem_Free(op->s.poll);
    Py_TYPE(op)->tp_free(op);
}

static PyObject *op_result(Awaited *op, PyObject *Py_UNUSED(unused)) {
    if (op->state != OP_DONE) {
        PyErr_SetString(PyExc_RuntimeError, "the operation has no result to give");
        return NULL;
    }
    if (!live(op->run)) return stopped();
    op->state = OP_READ;
    return select_result(op->items, &op->s, op->chosen, op->r);
}

static PyObject *op_cancel(Awaited *op, PyObject *Py_UNUSED(unused)) {
    if (op->state == OP_PENDING && !live(op->run)) Py_RETURN_TRUE;
    bool cancelled = cancel(op);
    if (cancelled) Py_CLEAR(op->token);
    return PyBool_FromLong(cancelled);
}

static PyObject *op_look(Awaited *op, PyObject *Py_UNUSED(unused)) {
    if (op->state == OP_PENDING && !live(op->run)) return stopped();
    if (op->state == OP_PENDING) {
        int64_t chosen = gp_select_due(&op->s, op->waiter);
        if (chosen >= 0) {
            abandon(op, -1);
            Py_INCREF(op);
            leave(op);
            finish(op, chosen, GP_OK);
            Py_CLEAR(op->token);
            Py_DECREF(op);
        }
    }
    return PyBool_FromLong(op->state >= OP_DONE);
}

static PyObject *op_done(Awaited *op, void *Py_UNUSED(unused)) {
    return PyBool_FromLong(op->state >= OP_DONE);
}

static PyObject *op_due(Awaited *op, void *Py_UNUSED(unused)) {
    uint64_t due = 0;
    for (uint32_t i = 0; op->state == OP_PENDING && live(op->run) && i < op->s.n; i++) {
        uint64_t t = gp_case_due(&op->s.cases[i]);
        if (t && (!due || t < due)) due = t;
    }
    if (!due) Py_RETURN_NONE;
    return PyFloat_FromDouble((double)due / 1e9);
}

static PyMethodDef op_methods[] = {
    {"result", (PyCFunction)op_result, METH_NOARGS, PyDoc_STR("Return the Selected, once. Raises as select().")},
    {"cancel", (PyCFunction)op_cancel, METH_NOARGS, PyDoc_STR("True: nothing was done, nor will be. False: it was done before.")},
    {"look", (PyCFunction)op_look, METH_NOARGS, PyDoc_STR("Do the cases that are due by the clock; True if the operation is done.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef op_getset[] = {
    {"done", (getter)op_done, NULL, PyDoc_STR("True if it does not wait any more."), NULL},
    {"due", (getter)op_due, NULL, PyDoc_STR("When look() has something to do, in monotonic seconds, or None."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject AwaitedType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Awaited",
    .tp_doc = PyDoc_STR("An operation that a loop waits for."),
    .tp_basicsize = sizeof(Awaited),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)op_dealloc,
    .tp_traverse = (traverseproc)op_traverse,
    .tp_clear = (inquiry)op_clear,
    .tp_methods = op_methods,
    .tp_getset = op_getset,
};

/* ---- starting one */

static int parse_all(Awaited *op) {
    Py_ssize_t count = PyTuple_GET_SIZE(op->given);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *keep = NULL;
        int r = select_parse(PyTuple_GET_ITEM(op->given, i), i, &op->items[op->s.n], &keep);
        bool kept = !keep || PyList_Append(op->kept, keep) == 0;
        Py_XDECREF(keep);
        if (r < 0 || !kept) return -1;
        if (r == 1) {
            PyErr_SetString(PyExc_ValueError, "aselect() waits: goproc.default is for select()");
            return -1;
        }
        op->s.n++;
    }
    return 0;
}

static Awaited *op_new(PyObject *cases, PyObject *token) {
    Awaited *op = PyObject_GC_New(Awaited, &AwaitedType);
    if (!op) return NULL;
    memset((char *)op + offsetof(Awaited, set), 0, sizeof *op - offsetof(Awaited, set));
    size_t room = PyTuple_GET_SIZE(cases) ? (size_t)PyTuple_GET_SIZE(cases) : 1;
    op->token = Py_NewRef(token);
    op->given = Py_NewRef(cases);
    op->kept = PyList_New(0);
    op->items = PyMem_Calloc(room, sizeof *op->items);
    op->s.cases = PyMem_Calloc(room, sizeof *op->s.cases);
    op->s.poll = PyMem_Calloc(2 * room, sizeof *op->s.poll);
    op->s.lock = op->s.poll + room;
    PyObject_GC_Track(op);
    if (!op->kept || !op->items || !op->s.cases || !op->s.poll) {
        if (!PyErr_Occurred()) PyErr_NoMemory();
        Py_CLEAR(op);
    }
    return op;
}

/* 0, or -1 and an exception, with nothing queued */
static int begin(Awaits *self, Awaited *op) {
    if (op->s.n == 0) op->s.n = 1; /* a case without an object: never ready */
    else if (select_fill(op->items, &op->s) < 0) return -1;
    int64_t slot = gp_waiter_alloc(false);
    if (slot < 0) {
        select_drop_values(op->s.cases, op->s.n, -1);
        raise_no_waiter(slot, 1);
        return -1;
    }
    op->run = gp.run;
    op->waiter = (uint32_t)slot;
    int64_t error = op->s.n > 1 ? select_prepare(&op->s) : 0;
    if (error < 0 || make_room(self) < 0) { /* room last: the steps before may run any code, also another start() */
        give_back(op);
        select_drop_values(op->s.cases, op->s.n, -1);
        if (error < 0) raise_no_waiter(error, op->s.n);
        return -1;
    }
    gp_watched(op->waiter, (uint32_t)self->collector);
    enter(self, op); /* its place is known before it can be fired */
    enum gp_result r = GP_BLOCK;
    int64_t chosen = try_or_wait(op, &r);
    if (chosen < 0) return 0;
    leave(op);
    finish(op, chosen, r);
    Py_CLEAR(op->token);
    return 0;
}

static PyObject *awaits_start(Awaits *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 2 || !PyTuple_Check(args[0])) return PyErr_Format(PyExc_TypeError, "start(cases, token)");
    if (tick() < 0 || awaits_ready(self) < 0) return NULL;
    Awaited *op = op_new(args[0], args[1]);
    if (!op) return NULL;
    if (parse_all(op) < 0 || begin(self, op) < 0) Py_CLEAR(op);
    return (PyObject *)op;
}

/* ---- taking */

static PyObject *awaits_take(Awaits *self, PyObject *Py_UNUSED(unused)) {
    if (self->collector < 0) Py_RETURN_NONE;
    if (!live(self->run)) return stopped();
    if (!self->touched) collect(self);
    Awaited *op = self->touched;
    if (!op) Py_RETURN_NONE;
    self->touched = op->next;
    op->next = NULL;
    op->listed = false;
    PyObject *token = op->token ? Py_NewRef(op->token) : Py_NewRef(Py_None);
    if (op->state >= OP_DONE) Py_CLEAR(op->token);
    return Py_BuildValue("(NN)", op, token);
}

static PyObject *awaits_wait(Awaits *self, PyObject *Py_UNUSED(unused)) {
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "another thread waits in this set");
        return NULL;
    }
    if (awaits_ready(self) < 0) return NULL;
    struct wait_spec w = {.reason = reason_select};
    self->busy = true;
    int r = self->touched ? 1 : wait_fired((uint32_t)self->collector, &w);
    self->busy = false;
    if (r < 0 && !live(self->run)) {
        PyErr_Clear();
        raise_stopped("the goproc runtime stopped", self->run); /* and why */
    }
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *awaits_len(Awaits *self, void *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLong(self->n);
}

/* The tokens of all that are pending: after the end of the runtime, which left them behind. */
static PyObject *awaits_drop(Awaits *self, PyObject *Py_UNUSED(unused)) {
    PyObject *tokens = PyList_New(0);
    for (uint32_t i = 0; tokens && i < self->n; i++)
        if (self->pending[i]->token && PyList_Append(tokens, self->pending[i]->token) < 0) Py_CLEAR(tokens);
    if (!tokens) return NULL;
    while (self->n) {
        Awaited *op = self->pending[self->n - 1];
        if (live(self->run)) {
            Py_INCREF(op);
            cancel(op); /* done before, or not: it is in the set no more */
            Py_DECREF(op);
            continue;
        }
        self->n--;
        op->set = NULL;
        op->state = OP_CANCELLED;
        Py_DECREF(op);
    }
    return tokens;
}

static int awaits_clear(Awaits *self) {
    PyObject *tokens = awaits_drop(self, NULL);
    Py_XDECREF(tokens);
    for (Awaited *op; (op = self->touched);) {
        self->touched = op->next;
        op->next = NULL;
        Py_DECREF(op);
    }
    return 0;
}

static int awaits_traverse(Awaits *self, visitproc visit, void *arg) {
    for (uint32_t i = 0; i < self->n; i++) Py_VISIT(self->pending[i]);
    for (Awaited *op = self->touched; op; op = op->next) Py_VISIT(op);
    return 0;
}

static void awaits_dealloc(Awaits *self) {
    PyObject_GC_UnTrack(self);
    awaits_clear(self);
    if (self->collector >= 0 && live(self->run)) {
        gp_set(&gp_waiter_at(gp.proc, (uint32_t)self->collector)->fired, 0);
        gp_waiter_release((uint32_t)self->collector);
    }
    PyMem_Free(self->pending);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *awaits_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) || (kwargs && PyDict_GET_SIZE(kwargs)))
        return PyErr_Format(PyExc_TypeError, "Awaits() takes no arguments");
    Awaits *self = (Awaits *)type->tp_alloc(type, 0);
    if (self) self->collector = -1;
    return (PyObject *)self;
}

static PyMethodDef awaits_methods[] = {
    {"start", METHOD(awaits_start), METH_FASTCALL,
     PyDoc_STR("start(cases, token): begin an operation, done at once or pending. Raises as select().")},
    {"take", (PyCFunction)awaits_take, METH_NOARGS,
     PyDoc_STR("(operation, token) of an operation that is done, or has a new `due`; None if there is none.")},
    {"wait", (PyCFunction)awaits_wait, METH_NOARGS, PyDoc_STR("Sleep until take() has something to return. For one thread.")},
    {"drop", (PyCFunction)awaits_drop, METH_NOARGS, PyDoc_STR("Give all pending operations up; return their tokens.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef awaits_getset[] = {
    {"pending", (getter)awaits_len, NULL, PyDoc_STR("The number of pending operations."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject AwaitsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Awaits",
    .tp_doc = PyDoc_STR("The operations that a loop waits for."),
    .tp_basicsize = sizeof(Awaits),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = awaits_new,
    .tp_dealloc = (destructor)awaits_dealloc,
    .tp_traverse = (traverseproc)awaits_traverse,
    .tp_clear = (inquiry)awaits_clear,
    .tp_methods = awaits_methods,
    .tp_getset = awaits_getset,
};
