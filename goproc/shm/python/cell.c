/* cell.c - the value of a shared variable (_shared_value.py): a channel of two, which always has one message.
 * Its owner, who has the lock of the variable, reads the message in place, and puts the next one behind it
 * before the old one goes: if the owner dies at any moment, the newest is a whole value. A death between the
 * two steps leaves both; the next owner drops the old one.
 */
#include "python.h"

static struct gp_object *cell_of(PyObject *arg) {
    struct gp_object *o = PyObject_TypeCheck(arg, &HandleType) ? handle_object((Handle *)arg) : NULL;
    if (o && (gp_get(&o->kind) != GP_KIND_CHAN || o->cap != 2 || gp_get(&o->flags) & GP_OBJ_LAZY)) o = NULL;
    if (!o && !PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a cell is a channel of two");
    return o;
}

static PyObject *cell_get(PyObject *Py_UNUSED(module), PyObject *arg) {
    struct gp_object *o = cell_of(arg);
    if (!o) return NULL;
    struct gp_message m;
    gp_cell_get(o, &m);
    return message_decode(&m, true); /* no process but the caller, the owner, replaces it */
}

static PyObject *cell_set(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 2) return PyErr_Format(PyExc_TypeError, "cell_set(channel, value)");
    struct gp_object *o = cell_of(args[0]);
    struct gp_message m, old[2];
    unsigned n;
    if (!o || message_encode_for(gp_purpose == GP_FOR_VALUES ? GP_FOR_TASKS : gp_purpose, args[1], &m) < 0)
        return NULL;
    n = gp_cell_set(o, &m, old);
    for (unsigned i = 0; i < n; i++) gp_message_drop(&old[i]);
    Py_RETURN_NONE;
}

PyMethodDef cell_functions[] = {
    {"cell_get", cell_get, METH_O, PyDoc_STR("The value of a cell.")},
    {"cell_set", (PyCFunction)(void (*)(void))cell_set, METH_FASTCALL,
     PyDoc_STR("cell_set(channel, value): replace the value of a cell, or set its first.")},
    {NULL, NULL, 0, NULL},
};
