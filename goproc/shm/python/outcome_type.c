/* outcome_type.c - the Python types of wait groups, and of outcomes of goroutines: objects that one waits for
 * until they are done. */
#include "python.h"

/* ---- WaitGroup */

static PyObject *wg_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":WaitGroup", names)) return NULL;
    return handle_new(type, GP_KIND_WAITGROUP);
}

static PyObject *wg_change(Handle *self, int64_t n) {
    struct gp_object *o = handle_object(self);
    int64_t now;
    if (!o || tick() < 0) return NULL;
    switch (gp_waitgroup_add(o, n, &now)) {
    case 0: break;
    case -ERANGE: return PyErr_Format(PyExc_ValueError, "sync: negative WaitGroup counter");
    default: return PyErr_Format(PyExc_OverflowError, "sync: WaitGroup counter overflow");
    }
    Py_RETURN_NONE;
}

static PyObject *wg_add(Handle *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n", NULL};
    long long n = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|L:add", names, &n)) return NULL;
    return wg_change(self, n);
}

static PyObject *wg_done(Handle *self, PyObject *Py_UNUSED(unused)) { return wg_change(self, -1); }

static PyObject *wg_wait(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout;
    if (parse_timeout(args, nargs, kwnames, 0, "wait()", &timeout) < 0 || checkpoint() < 0) return NULL;
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    struct wait_spec w = {.handle = (PyObject *)self, .timeout = timeout, .reason = reason_waitgroup};
    if (wait_done(o, &w) < 0) return NULL;
    Py_RETURN_NONE;
}

PyCFunction waitgroup_wait_method = METHOD(wg_wait);

static PyObject *wg_count(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    return o && tick() == 0 ? PyLong_FromLongLong(gp_acquire(&o->value)) : NULL;
}

static PyObject *wg_lost(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    return o ? Py_BuildValue("(KK)", (unsigned long long)gp_acquire(&o->head),
                             (unsigned long long)gp_get(&o->tail))
             : NULL;
}

static PyMethodDef wg_methods[] = {
    {"add", METHOD(wg_add), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("add($self, /, n=1)\n"
               "--\n\n"
               "Add n (may be negative) to the counter; at zero every waiter is released.\n\n"
               "Raises:\n    ValueError: the counter would become negative; it keeps its value.")},
    {"done", (PyCFunction)wg_done, METH_NOARGS, PyDoc_STR("done($self, /)\n--\n\nadd(-1).")},
    {"wait", METHOD(wg_wait), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("wait($self, /, timeout=None)\n--\n\nBlock until the counter is zero.\n\n"
               "Args:\n    timeout: seconds to wait at most; None waits for ever.\n\n"
               "Raises:\n    TimeoutError: time is up.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef wg_getset[] = {
    {"_lost", (getter)wg_lost, NULL,
     PyDoc_STR(
         "(number of the last death that took counted goroutines along, number of all goroutines lost)."),
     NULL},
    {"count", (getter)wg_count, NULL, PyDoc_STR("The counter, at some instant."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject WaitGroupType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.WaitGroup",
    .tp_base = &HandleType,
    .tp_basicsize = sizeof(Handle),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = wg_new,
    .tp_methods = wg_methods,
    .tp_getset = wg_getset,
};

/* ---- Outcome: the base of a Goroutine handle */

static PyObject *outcome_wait(Handle *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout;
    if (parse_timeout(args, nargs, kwnames, 0, "join()", &timeout) < 0 || checkpoint() < 0) return NULL;
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    struct wait_spec w = {.handle = (PyObject *)self, .timeout = timeout, .reason = reason_join};
    if (wait_done(o, &w) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *outcome_take(Handle *self, PyObject *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    uint32_t state = gp_acquire(&o->state);
    if (state < GP_G_OK) return PyErr_Format(PyExc_RuntimeError, "the goroutine has not ended");
    atomic_store(&o->value, 1); /* the outcome was read */
    PyObject *v = o->ring ? message_decode(gp_stored(o->ring), true) : Py_NewRef(Py_None);
    return v ? Py_BuildValue("(IN)", state, v) : NULL;
}

static PyObject *outcome_id(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromUnsignedLongLong(gp_get(&o->id)) : NULL;
}

static PyObject *outcome_state(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    return o && tick() == 0 ? PyLong_FromUnsignedLong(gp_acquire(&o->state)) : NULL;
}

static PyObject *outcome_proc(Handle *self, void *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    return o ? PyLong_FromLong((long)gp_acquire(&o->proc) - 1) : NULL;
}

static PyObject *outcome_cancel(Handle *self, PyObject *Py_UNUSED(unused)) {
    struct gp_object *o = handle_object(self);
    if (!o) return NULL;
    uint16_t before = atomic_fetch_or(&o->flags, GP_OBJ_CANCEL);
    if (before & GP_OBJ_CANCEL || gp_acquire(&o->state) >= GP_G_OK) Py_RETURN_FALSE;
    uint32_t proc = gp_get(&o->proc); /* 0: not started; the process that starts it sees the flag */
    if (proc && proc <= gp_places()) gp_nudge(proc - 1);
    Py_RETURN_TRUE;
}

static PyMethodDef outcome_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {"cancel", (PyCFunction)outcome_cancel, METH_NOARGS,
     PyDoc_STR("cancel($self, /)\n--\n\nRaise Cancelled in the goroutine at its next blocking point.\n\n"
               "Returns:\n"
               "    True if this call cancelled it; False if it has ended, or was cancelled before.")},
    {"_join", METHOD(outcome_wait), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("Block until the goroutine ended.")},
    {"_take", (PyCFunction)outcome_take, METH_NOARGS,
     PyDoc_STR("(state, value) of an ended goroutine; marks it as read.")},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef outcome_getset[] = {
    {"id", (getter)outcome_id, NULL, PyDoc_STR("The goroutine's number; main is 1."), NULL},
    {"_state", (getter)outcome_state, NULL, NULL, NULL},
    {"_proc", (getter)outcome_proc, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject OutcomeType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "goproc.shm._core.Outcome",
    .tp_base = &HandleType,
    .tp_basicsize = sizeof(Handle),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_methods = outcome_methods,
    .tp_getset = outcome_getset,
};
