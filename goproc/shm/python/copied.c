/* copied.c - the table of the objects that this process has copies of. The pickler asks it about every object
 * of a message. */
#include "pointers.h"

static struct pointers copied;

static PyObject *copied_add(PyObject *Py_UNUSED(module), PyObject *id) {
    void *key = PyLong_AsVoidPtr(id);
    if (!key && PyErr_Occurred()) return NULL;
    if (!pointer_find(&copied, key) && !pointer_put(&copied, key)) return NULL;
    Py_RETURN_NONE;
}

static PyObject *copied_remove(PyObject *Py_UNUSED(module), PyObject *id) {
    void *key = PyLong_AsVoidPtr(id);
    if (!key && PyErr_Occurred()) return NULL;
    struct pointer *p = pointer_find(&copied, key);
    if (p) pointer_remove(&copied, p);
    Py_RETURN_NONE;
}

static PyObject *copied_clear(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    pointers_free(&copied);
    Py_RETURN_NONE;
}

/* persistent_id of the pickler of messages: the hook returns the stand-in for an object that has a copy */
static PyObject *copied_id(PyObject *Py_UNUSED(module), PyObject *object) {
    if (GP_LIKELY(!pointer_find(&copied, object))) Py_RETURN_NONE;
    return PyObject_CallOneArg(hooks.refer, object);
}

/* persistent_id of a pickler that leaves out objects that have copies */
static PyObject *copied_known(PyObject *Py_UNUSED(module), PyObject *object) {
    return Py_NewRef(pointer_find(&copied, object) ? Py_True : Py_None);
}

PyMethodDef copied_functions[] = {
    {"copied_add", copied_add, METH_O, PyDoc_STR("There is a copy of the object with this id.")},
    {"copied_remove", copied_remove, METH_O, PyDoc_STR("There is none any more.")},
    {"copied_clear", copied_clear, METH_NOARGS, PyDoc_STR("There are none any more.")},
    {"copied_known", copied_known, METH_O, PyDoc_STR("True if there is a copy of the object, else None.")},
    {"copied_id", copied_id, METH_O,
     PyDoc_STR("The stand-in for an object in a message; None: it is pickled.")},
    {NULL, NULL, 0, NULL},
};
