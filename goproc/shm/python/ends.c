/* ends.c - the end of main, and the process that ends the program. */
#include "python.h"

/* Main has no task. Its outcome is made when a handle on main is asked for. */
static PyObject *main_handle(PyObject *Py_UNUSED(module), PyObject *type) {
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, &OutcomeType))
        return PyErr_Format(PyExc_TypeError, "the argument must be a subclass of Outcome");
    Handle *h = (Handle *)handle_new((PyTypeObject *)type, GP_KIND_OUTCOME);
    if (!h) return NULL;
    struct gp_object *o = gp_at(h->ref);
    gp_set(&o->id, 1);
    gp_set(&o->proc, gp.proc + 1);
    gp_release(&o->state, GP_G_RUNNING);
    return (PyObject *)h;
}

/* Main called goexit(). `object` is the outcome of the handle on main, or 0. */
static PyObject *main_ended(PyObject *Py_UNUSED(module), PyObject *object) {
    gp_ref ref = (gp_ref)PyLong_AsUnsignedLong(object);
    if (PyErr_Occurred()) return NULL;
    if (!gp.base) Py_RETURN_NONE;
    atomic_store(&gp.head->main_gone, 1);
    if (ref) gp_outcome_set(gp_at(ref), GP_G_OK, 0);
    Py_RETURN_NONE;
}

static PyObject *main_gone(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(gp.base && gp_get(&gp.head->main_gone));
}

static PyObject *fatal_reported(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (gp.base) atomic_store(&gp.head->ending, 1);
    Py_RETURN_NONE;
}

static PyObject *fatal_ending(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(gp.base && gp_get(&gp.head->ending));
}

static PyObject *fatal_take(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    uint32_t mains = 1;
    return PyBool_FromLong(gp.base && atomic_compare_exchange_strong(&gp.head->fatal, &mains, gp.proc + 1));
}

PyMethodDef end_functions[] = {
    {"main_handle", main_handle, METH_O, PyDoc_STR("main_handle(type): make the outcome of main.")},
    {"main_ended", main_ended, METH_O, PyDoc_STR("Main called goexit().")},
    {"main_gone", main_gone, METH_NOARGS, NULL},
    {"fatal_reported", fatal_reported, METH_NOARGS,
     PyDoc_STR("Main's panic is out; now its exit handlers run.")},
    {"fatal_ending", fatal_ending, METH_NOARGS, PyDoc_STR("True if main's exit handlers run.")},
    {"fatal_take", fatal_take, METH_NOARGS,
     PyDoc_STR("Take the end of the program over from main; the first may.")},
    {NULL, NULL, 0, NULL},
};
