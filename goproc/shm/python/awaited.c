/* awaited.c - one operation that a loop of asyncio waits for. Its set, and the idea, are in await.c. */
#include "await.h"

void *awaited_stopped(void) {
    PyErr_SetString(hooks.stopped, "the goproc runtime of this operation stopped");
    return NULL;
}

void awaited_leave(Awaited *op) {
    Awaits *self = op->set;
    Awaited *last = self->pending[--self->n];
    self->pending[op->place] = last;
    last->place = op->place;
    gp_waiter_at(gp.proc, last->waiter)->place = last->place;
    op->set = NULL;
    Py_DECREF(op);
}

/* ---- the steps of an operation */

void awaited_give_back(Awaited *op) {
    gp_waiter_release(op->waiter);
    for (uint32_t i = 0; op->s.n > 1 && i < op->s.n; i++) {
        if (op->s.cases[i].sudog) gp_sudog_release(op->s.cases[i].sudog);
        op->s.cases[i].sudog = 0;
    }
    if (op->s.spill) gp_free(op->s.spill);
    op->s.spill = 0;
}

void awaited_finish(Awaited *op, int64_t chosen, enum gp_result r) {
    op->chosen = chosen;
    op->r = r;
    awaited_give_back(op);
    select_drop_values(op->s.cases, op->s.n, r == GP_OK ? chosen : -1);
    op->state = OP_DONE;
}

int64_t awaited_try(Awaited *op, enum gp_result *r) {
    if (op->s.n == 1) return (*r = gp_case_try_or_wait(&op->s.cases[0], op->waiter)) == GP_BLOCK ? -1 : 0;
    return gp_select(&op->s, op->waiter, r);
}

static void abandon(Awaited *op, int64_t but) {
    for (uint32_t i = 0; i < op->s.n; i++)
        if (i != but) gp_case_abandon(&op->s.cases[i]);
}

/* An operation that was fired since a timer was set anew is queued again. */
void awaited_settle(Awaited *op) {
    uint64_t end = gp_acquire(&gp_waiter_at(gp.proc, op->waiter)->state);
    uint32_t k = gp_won(end, op->s.n);
    struct gp_case *c = &op->s.cases[k];
    enum gp_result r = GP_W_TAG(end) == GP_W_CLOSED && c->kind <= GP_RECV ? GP_CLOSED : GP_OK;
    int64_t chosen = k;
    gp_case_settled(c, op->waiter, false);
    if (op->s.n > 1) abandon(op, k);
    if (GP_W_TAG(end) == GP_W_RETRY) chosen = awaited_try(op, &r);
    if (chosen < 0) return;
    awaited_leave(op);
    awaited_finish(op, chosen, r);
}

bool awaited_cancel(Awaited *op) {
    while (op->state == OP_PENDING) {
        Awaits *set = op->set;
        if (gp_waiter_cancel(op->waiter)) {
            abandon(op, -1);
            Py_INCREF(op);
            awaited_leave(op);
            awaited_give_back(op);
            select_drop_values(op->s.cases, op->s.n, -1);
            op->state = OP_CANCELLED;
            Py_DECREF(op);
            return true;
        }
        uint64_t end = gp_acquire(&gp_waiter_at(gp.proc, op->waiter)->state);
        struct gp_object *o = op->s.cases[gp_won(end, op->s.n)].o;
        gp_lock(o); /* then it is on the stack */
        gp_unlock(o);
        awaits_collect(set);
    }
    return op->state == OP_CANCELLED;
}

/* ---- Awaited */

static void op_forget(Awaited *op) { /* drop a received value that result() has not given away */
    if (op->state == OP_DONE && awaits_live(op->run) && op->r == GP_OK &&
        op->s.cases[op->chosen].kind == GP_RECV)
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
    if (!awaits_live(op->run)) return awaited_stopped();
    op->state = OP_READ;
    return select_result(op->items, &op->s, op->chosen, op->r);
}

static PyObject *op_cancel(Awaited *op, PyObject *Py_UNUSED(unused)) {
    if (op->state == OP_PENDING && !awaits_live(op->run)) Py_RETURN_TRUE;
    bool cancelled = awaited_cancel(op);
    if (cancelled) Py_CLEAR(op->token);
    return PyBool_FromLong(cancelled);
}

static PyObject *op_look(Awaited *op, PyObject *Py_UNUSED(unused)) {
    if (op->state == OP_PENDING && !awaits_live(op->run)) return awaited_stopped();
    if (op->state == OP_PENDING) {
        int64_t chosen = gp_select_due(&op->s, op->waiter);
        if (chosen >= 0) {
            abandon(op, -1);
            Py_INCREF(op);
            awaited_leave(op);
            awaited_finish(op, chosen, GP_OK);
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
    for (uint32_t i = 0; op->state == OP_PENDING && awaits_live(op->run) && i < op->s.n; i++) {
        uint64_t t = gp_case_due(&op->s.cases[i]);
        if (t && (!due || t < due)) due = t;
    }
    if (!due) Py_RETURN_NONE;
    return PyFloat_FromDouble((double)due / 1e9);
}

static PyMethodDef op_methods[] = {
    {"result", (PyCFunction)op_result, METH_NOARGS,
     PyDoc_STR("Return the Selected, once. Raises as select().")},
    {"cancel", (PyCFunction)op_cancel, METH_NOARGS,
     PyDoc_STR("True: nothing was done, nor will be. False: it was done before.")},
    {"look", (PyCFunction)op_look, METH_NOARGS,
     PyDoc_STR("Do the cases that are due by the clock; True if the operation is done.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef op_getset[] = {
    {"done", (getter)op_done, NULL, PyDoc_STR("True if it does not wait any more."), NULL},
    {"due", (getter)op_due, NULL,
     PyDoc_STR("When look() has something to do, in monotonic seconds, or None."), NULL},
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

/* ---- making one */

int awaited_parse(Awaited *op) {
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

Awaited *awaited_new(PyObject *cases, PyObject *token) {
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
