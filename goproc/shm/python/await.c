/* await.c - operations that a loop of asyncio waits for: a set of many, each the first of several cases.
 *
 * A goroutine or a thread that waits sleeps in the waiter of its operation. A task of a loop must not sleep,
 * so its operation waits by itself. No goroutine sleeps in its waiter (GP_WATCHED, see watch.c): the process
 * that fires it pushes it on the stack of the set's one collecting waiter. A thread sleeps there, and has the
 * loop take the operations that are done.
 *
 * An operation is done when it is fired. From then on a received value belongs to the operation, until
 * result() gives it away or the operation is dropped. cancel() tells which came first. awaited.c has the
 * steps of one operation.
 *
 * Everything in both files runs under the GIL, in any thread of the process.
 */
#include "await.h"

/* ---- the set */

static int awaits_ready(Awaits *self) {
    if (self->collector >= 0) return awaits_live(self->run) || awaited_stopped() ? 0 : -1;
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

static void touch(Awaits *self, Awaited *op) {
    if (op->listed) return;
    op->listed = true;
    op->next = self->touched;
    self->touched = (Awaited *)Py_NewRef(op);
}

void awaits_collect(Awaits *self) {
    struct gp_waiter *collector = gp_waiter_at(gp.proc, (uint32_t)self->collector);
    for (uint32_t top = atomic_exchange(&collector->fired, 0); top;) {
        struct gp_waiter *waiter = gp_waiter_at(gp.proc, top - 1);
        if (waiter->place >= self->n) gp_damaged("a place in a set of waiters", waiter->place);
        Awaited *op = self->pending[waiter->place];
        top = gp_get(&waiter->next);
        touch(self, op);
        awaited_settle(op);
    }
}

/* ---- starting an operation */

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
    /* room last: the steps before may run any code, also another start() */
    if (error < 0 || make_room(self) < 0) {
        awaited_give_back(op);
        select_drop_values(op->s.cases, op->s.n, -1);
        if (error < 0) raise_no_waiter(error, op->s.n);
        return -1;
    }
    gp_watched(op->waiter, (uint32_t)self->collector);
    enter(self, op); /* its place is known before it can be fired */
    enum gp_result r = GP_BLOCK;
    int64_t chosen = awaited_try(op, &r);
    if (chosen < 0) return 0;
    awaited_leave(op);
    awaited_finish(op, chosen, r);
    Py_CLEAR(op->token);
    return 0;
}

static PyObject *awaits_start(Awaits *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 2 || !PyTuple_Check(args[0])) return PyErr_Format(PyExc_TypeError, "start(cases, token)");
    if (tick() < 0 || awaits_ready(self) < 0) return NULL;
    Awaited *op = awaited_new(args[0], args[1]);
    if (!op) return NULL;
    if (awaited_parse(op) < 0 || begin(self, op) < 0) Py_CLEAR(op);
    return (PyObject *)op;
}

/* ---- taking */

static PyObject *awaits_take(Awaits *self, PyObject *Py_UNUSED(unused)) {
    if (self->collector < 0) Py_RETURN_NONE;
    if (!awaits_live(self->run)) return awaited_stopped();
    if (!self->touched) awaits_collect(self);
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
    if (r < 0 && !awaits_live(self->run)) {
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
        if (awaits_live(self->run)) {
            Py_INCREF(op);
            awaited_cancel(op); /* done before, or not: it is in the set no more */
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
    if (self->collector >= 0 && awaits_live(self->run)) {
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
     PyDoc_STR(
         "(operation, token) of an operation that is done, or has a new `due`; None if there is none.")},
    {"wait", (PyCFunction)awaits_wait, METH_NOARGS,
     PyDoc_STR("Sleep until take() has something to return. For one thread.")},
    {"drop", (PyCFunction)awaits_drop, METH_NOARGS,
     PyDoc_STR("Give all pending operations up; return their tokens.")},
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
