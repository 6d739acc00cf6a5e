/* process_calls.c - the processes of the runtime as Python sees them: the watch over them, and the end of the
 * program. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/prctl.h>

#include "python.h"

static PyObject *core_failed(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (GP_LIKELY(!gp.base || !gp_get(&gp.head->failed))) Py_RETURN_NONE;
    return Py_BuildValue("(II)", gp_get(&gp.head->failed_proc), gp_get(&gp.head->failed));
}

static PyObject *core_start_coroner(PyObject *Py_UNUSED(module), PyObject *args) {
    int control, zygote, keeper;
    if (!PyArg_ParseTuple(args, "iii:start_coroner", &control, &zygote, &keeper)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    gp_coroner_await_end();
    Py_END_ALLOW_THREADS
    int err = gp_coroner_start(control, zygote, keeper);
    if (err < 0) return os_error(err, "cannot start goproc's coroner thread");
    Py_RETURN_NONE;
}

static PyObject *core_start_zygotes(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    gp_set(&gp.head->zygotes, 1);
    for (uint32_t p = 1; p < gp_places(); p++) gp_set(&gp_proc_at(p)->claim, 1ULL << 32);
    Py_RETURN_NONE;
}

/* None, or the needs of another zygote: its number, the segment's descriptor, the pids of the workers that it
 * has not forked */
static PyObject *core_zygote_lost(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (!gp.base || gp.proc != 0 || !gp_get(&gp.head->zygote_lost)) Py_RETURN_NONE;
    if (gp_get(&gp.head->stop) || gp_get(&gp.head->fatal) || !atomic_exchange(&gp.head->zygote_lost, 0))
        Py_RETURN_NONE;
    PyObject *pids = PyList_New(0);
    for (uint32_t p = 1; pids && p < gp_places(); p++) {
        uint32_t pid = (uint32_t)gp_get(&gp_proc_at(p)->claim);
        PyObject *one = PyLong_FromUnsignedLong(pid);
        if (!one || (pid && gp_get(&gp_proc_at(p)->state) <= GP_P_LIVE && PyList_Append(pids, one) < 0))
            Py_CLEAR(pids);
        Py_XDECREF(one);
    }
    if (!pids) return NULL;
    return Py_BuildValue("IiN", gp_get(&gp.head->zygotes), gp_memfd_valid() ? gp.memfd : -1, pids);
}

static PyObject *core_lifelines(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    int to_continue, to_end;
    return gp_lifeline_open(&to_continue, &to_end) ? Py_BuildValue("(ii)", to_continue, to_end)
                                                   : PyTuple_New(0);
}

static PyObject *next_zygote; /* () -> None: start another zygote */

static void call_next_zygote(void) {
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallNoArgs(next_zygote);
    if (!result) PyErr_WriteUnraisable(next_zygote);
    Py_XDECREF(result);
    PyGILState_Release(state);
}

static PyObject *core_start_successor(PyObject *Py_UNUSED(module), PyObject *function) {
    Py_XSETREF(next_zygote, Py_NewRef(function));
    int err = gp_successor_start(call_next_zygote);
    if (err < 0) return os_error(err, "cannot start the thread for goproc's zygotes");
    Py_RETURN_NONE;
}

static PyObject *core_stop_successor(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    Py_BEGIN_ALLOW_THREADS
    gp_successor_stop();
    Py_END_ALLOW_THREADS
    Py_CLEAR(next_zygote);
    Py_RETURN_NONE;
}

static PyObject *core_repair_ns(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLongLong(gp.base ? gp_get(&gp.head->repair_ns) : 0);
}

static PyObject *core_zygote_failed(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    gp_coroner_give_up();
    Py_RETURN_NONE;
}

static PyObject *core_stop_coroner(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    Py_BEGIN_ALLOW_THREADS
    gp_coroner_stop();
    gp_lifeline_stop();
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *core_tell_zygote(PyObject *Py_UNUSED(module), PyObject *order) {
    const char *letter = PyBytes_AsString(order);
    return letter ? PyBool_FromLong(gp_coroner_tell(letter)) : NULL;
}

static PyObject *core_say(PyObject *Py_UNUSED(module), PyObject *arg) {
    char *text;
    Py_ssize_t n;
    if (PyBytes_AsStringAndSize(arg, &text, &n) < 0) return NULL;
    Py_BEGIN_ALLOW_THREADS
    gp_say(text, (size_t)n);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *core_fatal_claim(PyObject *Py_UNUSED(module), PyObject *reason) {
    PyObject *text = PyUnicode_AsEncodedString(reason, "utf-8", "backslashreplace");
    if (!text) return NULL;
    bool mine = !gp.base || gp_fatal_claim(PyBytes_AS_STRING(text));
    Py_DECREF(text);
    return PyBool_FromLong(mine);
}

static PyObject *core_fatal_exit(PyObject *Py_UNUSED(module), PyObject *arg) {
    long status = PyLong_AsLong(arg);
    if (status == -1 && PyErr_Occurred()) return NULL;
    if (!gp.base) gp_leave((int)status);
    Py_BEGIN_ALLOW_THREADS
    gp_fatal_exit((int)status);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *core_set_survives(PyObject *Py_UNUSED(module), PyObject *flag) {
    if (gp.base) gp_set(&gp.head->survives, flag == Py_True);
    Py_RETURN_NONE;
}

static PyObject *core_set_on_death(PyObject *Py_UNUSED(module), PyObject *arg) {
    unsigned long policy = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred()) return NULL;
    if (gp.base) gp.head->on_death = (uint32_t)policy;
    Py_RETURN_NONE;
}

static PyObject *core_set_quiet_deaths(PyObject *Py_UNUSED(module), PyObject *flag) {
    if (gp.base) gp.head->quiet_deaths = flag == Py_True ? GP_QUIET_DEATHS : GP_LOUD;
    Py_RETURN_NONE;
}

static PyObject *core_end_quietly(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (gp.base) gp.head->quiet_deaths = GP_QUIET_END;
    Py_RETURN_NONE;
}

static PyObject *core_survives(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(gp.base && gp.proc == 0 && gp_get(&gp.head->survives));
}

static PyObject *core_lost(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (GP_LIKELY(!atomic_load(&gp.lost)) || !gp.base) Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(gp.head->reason, (Py_ssize_t)strnlen(gp.head->reason, GP_REASON), "replace");
}

#ifdef __GLIBC__
static void end_with(int status, void *wanted) {
    if (status != 0) return;
    fflush(NULL);
    gp_leave((int)(intptr_t)wanted);
}
#endif

static PyObject *core_exit_status(PyObject *Py_UNUSED(module), PyObject *arg) {
    long status = PyLong_AsLong(arg);
    if (status == -1 && PyErr_Occurred()) return NULL;
#ifdef __GLIBC__
    if (on_exit(end_with, (void *)(intptr_t)status) == 0) Py_RETURN_TRUE;
#endif
    Py_RETURN_FALSE;
}

static PyObject *core_die_with_parent(PyObject *Py_UNUSED(module), PyObject *args) {
    int ppid, keeper;
    if (!PyArg_ParseTuple(args, "ii:die_with_parent", &ppid, &keeper)) return NULL;
    int err = gp_die_with_parent(ppid, keeper);
    if (err < 0) return os_error(err, "the parent process is gone");
    Py_RETURN_NONE;
}

static PyObject *core_set_name(PyObject *Py_UNUSED(module), PyObject *arg) {
    const char *name = PyBytes_AsString(arg);
    if (!name) return NULL;
    prctl(PR_SET_NAME, name);
    Py_RETURN_NONE;
}

PyMethodDef process_functions[] = {
    {"failed", core_failed, METH_NOARGS, PyDoc_STR("(proc, errno) of a fork that failed, or None.")},
    {"start_coroner", core_start_coroner, METH_VARARGS,
     PyDoc_STR("start_coroner(control, zygote pid, keeper pid): it owns the socket from now on.")},
    {"start_successor", core_start_successor, METH_O,
     PyDoc_STR("start_successor(function): a thread calls the function whenever the zygote has died.")},
    {"stop_successor", core_stop_successor, METH_NOARGS,
     PyDoc_STR("End that thread, after a call that is under way.")},
    {"start_zygotes", core_start_zygotes, METH_NOARGS,
     PyDoc_STR("The first zygote is about to fork the workers.")},
    {"zygote_lost", core_zygote_lost, METH_NOARGS,
     PyDoc_STR("None, or once after the zygote died: (number of the next one, descriptor of the segment or "
               "-1, pids of workers).")},
    {"repair_ns", core_repair_ns, METH_NOARGS, PyDoc_STR("The time of the last repair, ns.")},
    {"zygote_failed", core_zygote_failed, METH_NOARGS,
     PyDoc_STR("There is no other zygote to be had: the program ends.")},
    {"lifelines", core_lifelines, METH_NOARGS,
     PyDoc_STR("Descriptors for a zygote, which the caller closes: (CONTINUE, END) of lifeline.c; () if the "
               "system forbids that.")},
    {"stop_coroner", core_stop_coroner, METH_NOARGS,
     PyDoc_STR("Wait for the coroner, after the zygote has ended; close the control socket.")},
    {"tell_zygote", core_tell_zygote, METH_O,
     PyDoc_STR("Send the zygote a letter; false: the program has closed the socket.")},
    {"say", core_say, METH_O,
     PyDoc_STR("Write bytes to standard error; give up if no reader takes them for some seconds.")},
    {"fatal_claim", core_fatal_claim, METH_O,
     PyDoc_STR("fatal_claim(reason): true if this process may report and end the program: the first may.")},
    {"fatal_exit", core_fatal_exit, METH_O,
     PyDoc_STR("End every process of the program with a status; in a host that survives, the others.")},
    {"set_survives", core_set_survives, METH_O,
     PyDoc_STR("Set if the host goes on when the runtime ends by a panic or a death.")},
    {"set_quiet_deaths", core_set_quiet_deaths, METH_O,
     PyDoc_STR("Say nothing on stderr about a worker that died, where the program goes on.")},
    {"end_quietly", core_end_quietly, METH_NOARGS,
     PyDoc_STR("Say nothing on stderr about any process that dies: the program is about to end.")},
    {"set_on_death", core_set_on_death, METH_O,
     PyDoc_STR("Set the policy for deaths of workers: DEATH_EXIT, DEATH_RESTART or DEATH_CONTINUE.")},
    {"survives", core_survives, METH_NOARGS,
     PyDoc_STR("True in a host that goes on when the runtime ends by a panic or a death.")},
    {"lost", core_lost, METH_NOARGS,
     PyDoc_STR("In a host that survives: why the runtime has ended, else None.")},
    {"exit_status", core_exit_status, METH_O,
     PyDoc_STR("End the program with this status if it would be 0; false: the C library cannot.")},
    {"die_with_parent", core_die_with_parent, METH_VARARGS,
     PyDoc_STR("die_with_parent(ppid, keeper): end when my parent, which must be ppid, dies; if the keeper, "
               "unless that is 0, is my "
               "parent then, when that dies.")},
    {"set_name", core_set_name, METH_O, PyDoc_STR("Name of this process in ps and top, at most 15 bytes.")},
    {NULL, NULL, 0, NULL},
};
