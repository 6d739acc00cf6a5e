/* promises.c - results without a goroutine: each is set once, and read by any number of processes. */
#include "python.h"

static PyObject *new_promise(PyObject *type, enum gp_goroutine_state state, uint32_t proc) {
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, &OutcomeType))
        return PyErr_Format(PyExc_TypeError, "a promise is made of a subclass of Outcome");
    Handle *h = (Handle *)handle_new((PyTypeObject *)type, GP_KIND_OUTCOME);
    if (!h) return NULL;
    /* set aside now: the outcome must not fail for want of memory */
    gp_ref block = alloc_or_collect(sizeof(struct gp_message), 0);
    if (!block) {
        Py_DECREF(h);
        return raise_memory(sizeof(struct gp_message), "a promise");
    }
    struct gp_object *o = gp_at(h->ref);
    gp_set(&o->id, next_id());
    gp_set(&o->value, 1); /* it need not be read */
    memset(gp_payload(block), 0, sizeof(struct gp_message));
    gp_own(block, GP_TAG(GP_TAG_RESULT, h->ref)); /* it outlives its creator */
    o->task = block;
    gp_set(&o->proc, proc);
    atomic_fetch_or(&o->flags, GP_OBJ_PROMISE);
    gp_release(&o->state, state);
    return (PyObject *)h;
}

static PyObject *promise_new(PyObject *Py_UNUSED(module), PyObject *type) {
    return new_promise(type, GP_G_RUNNING, 0);
}

static PyObject *promise_here(PyObject *Py_UNUSED(module), PyObject *type) {
    return new_promise(type, GP_G_RUNNING, gp.proc + 1);
}

static PyObject *promise_queued(PyObject *Py_UNUSED(module), PyObject *type) {
    return new_promise(type, GP_G_QUEUED, 0);
}

static PyObject *promise_claim(PyObject *Py_UNUSED(module), PyObject *promise) {
    if (!PyObject_TypeCheck(promise, &OutcomeType))
        return PyErr_Format(PyExc_TypeError, "promise_claim(promise)");
    struct gp_object *o = handle_object((Handle *)promise);
    return o ? PyBool_FromLong(gp_promise_claim(o)) : NULL;
}

static PyObject *promise_break(PyObject *Py_UNUSED(module), PyObject *promise) {
    if (!PyObject_TypeCheck(promise, &OutcomeType))
        return PyErr_Format(PyExc_TypeError, "promise_break(promise)");
    struct gp_object *o = handle_object((Handle *)promise);
    return o ? PyBool_FromLong(gp_promise_keep(o, GP_G_DEAD, NULL)) : NULL;
}

static PyObject *promise_set(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 3 || !PyObject_TypeCheck(args[0], &OutcomeType))
        return PyErr_Format(PyExc_TypeError, "promise_set(promise, failed, value)");
    int failed = PyObject_IsTrue(args[1]);
    struct gp_object *o = failed < 0 ? NULL : handle_object((Handle *)args[0]);
    if (!o) return NULL;
    if (gp_acquire(&o->state) >= GP_G_OK)
        return PyErr_Format(PyExc_RuntimeError, "the promise is kept already");
    if (!(gp_get(&o->flags) & GP_OBJ_PROMISE))
        return PyErr_Format(PyExc_RuntimeError, "promise_set() needs a promise");
    struct gp_message m;
    if (encode_outcome(args[2], failed, &m) < 0) return NULL;
    if (!gp_promise_keep(o, failed ? GP_G_FAILED : GP_G_OK, &m)) {
        gp_message_drop(&m);
        return PyErr_Format(PyExc_RuntimeError, "the promise is kept already");
    }
    Py_RETURN_NONE;
}

PyMethodDef promise_functions[] = {
    {"promise_new", promise_new, METH_O, PyDoc_STR("A result without a goroutine.")},
    {"promise_here", promise_here, METH_O,
     PyDoc_STR("A promise that this process is to keep: its death breaks the promise.")},
    {"promise_queued", promise_queued, METH_O, PyDoc_STR("A promise that is not claimed.")},
    {"promise_claim", promise_claim, METH_O,
     PyDoc_STR("Claim a queued promise; False: it is claimed, or has an outcome.")},
    {"promise_break", promise_break, METH_O,
     PyDoc_STR("End a promise without a value, as a death does; False: it has an outcome.")},
    {"promise_set", METHOD(promise_set), METH_FASTCALL,
     PyDoc_STR("promise_set(promise, failed, value): once.")},
    {NULL, NULL, 0, NULL},
};
