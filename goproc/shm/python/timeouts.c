/* timeouts.c - reads and checks the times that callers give, and turns them into nanoseconds. */
#include <math.h>

#include "python.h"

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
            PyErr_Format(PyExc_TypeError, "%s got an unexpected keyword argument '%U'", name,
                         PyTuple_GET_ITEM(kwnames, 0));
            return -1;
        }
        *timeout = args[nargs];
    }
    if (*timeout == Py_None) *timeout = NULL;
    if (*timeout && !PyFloat_Check(*timeout) && !PyLong_Check(*timeout)) {
        PyErr_Format(PyExc_TypeError, "timeout must be seconds as a number, or None, not %.100s",
                     Py_TYPE(*timeout)->tp_name);
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

bool timeout_until(PyObject *timeout, uint64_t *until) {
    *until = 0;
    if (!timeout) return true;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1 && PyErr_Occurred()) return false;
    if (seconds < FOR_EVER) *until = gp_now() + (seconds > 0 ? (uint64_t)(seconds * 1e9) : 0);
    return true;
}

uint64_t time_ns(PyObject *deadline) { /* time.monotonic() seconds, or None */
    if (deadline == Py_None) return 0;
    double seconds = PyFloat_AsDouble(deadline);
    /* never 0, which means no timer */
    return seconds <= 0 ? 1 : (uint64_t)((seconds < LATEST ? seconds : LATEST) * 1e9);
}
