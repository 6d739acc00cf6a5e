/* clock_types.c - timers and contexts as Python calls them: functions on channel handles; goproc/_timer.py
 * and goproc/context.py make classes of them. Times are time.monotonic() seconds there, nanoseconds here. */
#include <math.h>

#include "python.h"

/* Read a time of time.monotonic(), or None. *ns: 0 is never, for None and from LATEST on; 1 is a time in the
 * past. */
static bool parse_time(PyObject *v, int64_t *ns) {
    *ns = 0;
    if (v == Py_None) return true;
    double seconds = PyFloat_AsDouble(v);
    if (seconds == -1 && PyErr_Occurred()) return false;
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "a time is seconds, not NaN");
        return false;
    }
    *ns = seconds <= 0 ? 1 : seconds >= LATEST ? 0 : (int64_t)(seconds * 1e9);
    return true;
}

static PyObject *seconds_or_none(int64_t ns) {
    return ns ? PyFloat_FromDouble((double)ns / 1e9) : Py_NewRef(Py_None);
}

static struct gp_object *object_of(PyObject *v, unsigned flag, const char *what) {
    if (!PyObject_TypeCheck(v, &ChannelType) || ((Handle *)v)->ref == 0) {
        PyErr_Format(PyExc_TypeError, "%.100s is not %s", Py_TYPE(v)->tp_name, what);
        return NULL;
    }
    struct gp_object *o = handle_object((Handle *)v);
    if (o && !(gp_get(&o->flags) & flag)) {
        PyErr_Format(PyExc_TypeError, "this channel is not %s", what);
        return NULL;
    }
    return o;
}

/* ---- timers */

static PyObject *timer_new(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs) {
    static char *names[] = {"when", "period", "func", NULL};
    PyObject *at;
    double period = 0;
    int func = 0;
    int64_t when;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|dp:timer_new", names, &at, &period, &func) ||
        !parse_time(at, &when))
        return NULL;
    Handle *h = (Handle *)handle_new((PyTypeObject *)hooks.types[GP_KIND_CHAN], GP_KIND_CHAN);
    if (!h) return NULL;
    struct gp_object *o = gp_at(h->ref);
    gp_set(&o->period, period > 0 && period < LATEST ? (uint64_t)(period * 1e9) : 0);
    gp_set(&o->value, when);
    if (func) gp_set(&o->owner, gp.proc + 1);
    gp_release(&o->flags, (uint16_t)(GP_OBJ_TIMER | (func ? GP_OBJ_FUNC : 0)));
    return (PyObject *)h;
}

static PyObject *timer_set(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *timer, *at;
    double period = 0;
    int64_t when;
    if (!PyArg_ParseTuple(args, "OO|d:timer_set", &timer, &at, &period) || !parse_time(at, &when))
        return NULL;
    struct gp_object *o = object_of(timer, GP_OBJ_TIMER, "a timer");
    if (!o) return NULL;
    return PyBool_FromLong(
        gp_timer_set(o, when, period > 0 && period < LATEST ? (uint64_t)(period * 1e9) : 0));
}

static PyObject *timer_when(PyObject *Py_UNUSED(module), PyObject *timer) {
    struct gp_object *o = object_of(timer, GP_OBJ_TIMER, "a timer");
    return o ? seconds_or_none(gp_get(&o->value)) : NULL;
}

static PyObject *timer_take(PyObject *Py_UNUSED(module), PyObject *timer) {
    struct gp_object *o = object_of(timer, GP_OBJ_TIMER, "a timer");
    if (!o) return NULL;
    struct gp_case c = {.o = o, .kind = GP_RECV};
    return gp_case_try(&c) == GP_OK ? message_decode(&c.m, false) : Py_NewRef(Py_None);
}

/* ---- contexts */

#define CONTEXT "a context's channel"

static PyObject *context_new(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *above, *at;
    int64_t due;
    struct gp_object *parent = NULL;
    if (!PyArg_ParseTuple(args, "OO:context_new", &above, &at) || !parse_time(at, &due)) return NULL;
    if (above != Py_None && !(parent = object_of(above, GP_OBJ_CONTEXT, CONTEXT))) return NULL;
    Handle *h = (Handle *)handle_new((PyTypeObject *)hooks.types[GP_KIND_CHAN], GP_KIND_CHAN);
    if (!h) return NULL;
    if (parent) gp_context_expire(parent);
    gp_context_link(gp_at(h->ref), parent, (uint64_t)due);
    gp_context_expire(gp_at(h->ref));
    return (PyObject *)h;
}

static PyObject *context_cancel(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *node, *cause;
    int code;
    if (!PyArg_ParseTuple(args, "OiO:context_cancel", &node, &code, &cause)) return NULL;
    struct gp_object *o = tick() < 0 ? NULL : object_of(node, GP_OBJ_CONTEXT, CONTEXT);
    if (!o) return NULL;
    if (gp_context_expire(o)) Py_RETURN_FALSE; /* by its own deadline, before */
    gp_ref block = 0;
    struct gp_message m;
    if (cause != Py_None && message_encode_for(GP_FOR_ENDS, cause, &m) < 0) {
        if (!only_memory_is_short()) return NULL; /* else it is cancelled without the cause */
    } else if (cause != Py_None && !(block = alloc_for(GP_FOR_ENDS, sizeof m, 0))) {
        gp_message_drop(&m);
    } else if (block) {
        result_store(block, gp_ref_of(o), &m);
    }
    bool first = gp_context_cancel(o, code, block);
    if (!first && block) result_drop(block);
    return PyBool_FromLong(first);
}

static PyObject *context_state(PyObject *Py_UNUSED(module), PyObject *node) {
    struct gp_object *o = tick() < 0 ? NULL : object_of(node, GP_OBJ_CONTEXT, CONTEXT);
    if (!o) return NULL;
    return PyLong_FromLongLong(gp_context_expire(o) ? gp_get(&o->value) : GP_LIVE);
}

static PyObject *context_cause(PyObject *Py_UNUSED(module), PyObject *node) {
    struct gp_object *o = object_of(node, GP_OBJ_CONTEXT, CONTEXT);
    if (!o) return NULL;
    o = gp_context_origin(o);
    gp_ref ring = gp_acquire(&o->flags) & GP_OBJ_CLOSED ? o->ring : 0;
    return ring ? message_decode(gp_stored(ring), true) : Py_NewRef(Py_None);
}

static PyObject *context_deadline(PyObject *Py_UNUSED(module), PyObject *node) {
    struct gp_object *o = object_of(node, GP_OBJ_CONTEXT, CONTEXT);
    return o ? seconds_or_none((int64_t)gp_get(&o->due)) : NULL;
}

static PyObject *context_children(PyObject *Py_UNUSED(module), PyObject *node) {
    struct gp_object *o = object_of(node, GP_OBJ_CONTEXT, CONTEXT);
    if (!o) return NULL;
    unsigned long n = 0;
    gp_lock(&gp.head->tree);
    for (uint32_t ref = gp_get(&o->ctx_child); ref && gp_object_check(ref);
         ref = gp_get(&((struct gp_object *)gp_at(ref))->ctx_next))
        n++;
    gp_unlock(&gp.head->tree);
    return PyLong_FromUnsignedLong(n);
}

PyMethodDef clock_functions[] = {
    {"timer_new", METHOD(timer_new), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR(
         "timer_new(when, period=0, func=False): a channel that gives the time `when` once that has come.")},
    {"timer_set", timer_set, METH_VARARGS,
     PyDoc_STR("timer_set(timer, when, period=0): stop (None) or reset; True if it was active.")},
    {"timer_when", timer_when, METH_O, PyDoc_STR("When the timer is due; None: it is not active.")},
    {"timer_take", timer_take, METH_O, PyDoc_STR("The value of a timer that is due, else None.")},
    {"context_new", context_new, METH_VARARGS,
     PyDoc_STR("context_new(parent, deadline): a node of the tree, which is its done channel.")},
    {"context_cancel", context_cancel, METH_VARARGS,
     PyDoc_STR("context_cancel(node, code, cause): end a node and all below; False: it had ended before.")},
    {"context_state", context_state, METH_O,
     PyDoc_STR("The code with which a node has ended; 0: it is live.")},
    {"context_cause", context_cause, METH_O,
     PyDoc_STR("The cause that was given where the end of a node began, or None.")},
    {"context_deadline", context_deadline, METH_O,
     PyDoc_STR("The earliest deadline of a node and its ancestors, or None.")},
    {"context_children", context_children, METH_O,
     PyDoc_STR("The number of children of a node that are not done.")},
    {NULL, NULL, 0, NULL},
};
