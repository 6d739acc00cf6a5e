/* output.c - the lock around a line that is written to a pipe: flock on the segment, by a descriptor of each
 * process.
 *
 * The program may have closed that descriptor, or opened a file of its own under its number, and locked that.
 * So the number is checked before each use. If it leads elsewhere there is no lock any more.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>

#include "python.h"

static struct gp_fd lock = {.fd = -1};

static PyObject *output_lock_note(PyObject *Py_UNUSED(module), PyObject *arg) {
    long fd = PyLong_AsLong(arg);
    if (fd == -1 && PyErr_Occurred()) return NULL;
    if (fd < 0) lock.fd = -1;
    else gp_fd_note(&lock, (int)fd);
    Py_RETURN_NONE;
}

static PyObject *output_lock_close(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    gp_fd_close(&lock);
    Py_RETURN_NONE;
}

/* flock belongs to the open file, which a forked child shares with its parent: so it opens the segment once
 * more. */
static PyObject *output_lock_again(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", lock.fd);
    return PyLong_FromLong(gp_fd_is(&lock) ? open(path, O_RDWR | O_CLOEXEC) : -1);
}

static int lock_now(int flags) { return flock(lock.fd, LOCK_EX | flags) == 0 ? 0 : -errno; }

static PyObject *output_lock(PyObject *Py_UNUSED(module), PyObject *wait) {
    if (!gp_fd_is(&lock)) Py_RETURN_FALSE;
    int err = lock_now(LOCK_NB);
    while (wait == Py_True && (err == -EWOULDBLOCK || err == -EINTR)) {
        Py_BEGIN_ALLOW_THREADS
        err = lock_now(0);
        Py_END_ALLOW_THREADS
        /* handlers of signals may print, too, or close the descriptor */
        if (err == -EINTR && PyErr_CheckSignals() < 0) return NULL;
        if (err == -EINTR && !gp_fd_is(&lock)) break;
    }
    if (err == -EWOULDBLOCK) Py_RETURN_NONE;
    return PyBool_FromLong(err == 0);
}

static PyObject *output_lock_there(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(gp_fd_is(&lock));
}

static PyObject *output_unlock(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (gp_fd_is(&lock)) flock(lock.fd, LOCK_UN);
    Py_RETURN_NONE;
}

PyMethodDef output_functions[] = {
    {"output_lock_note", output_lock_note, METH_O,
     PyDoc_STR("The descriptor of the lock for output from now on; -1: none.")},
    {"output_lock_close", output_lock_close, METH_NOARGS,
     PyDoc_STR("Close it, unless the program has put a file of its own there.")},
    {"output_lock_again", output_lock_again, METH_NOARGS,
     PyDoc_STR("Another descriptor of the same kind; -1: there is none.")},
    {"output_lock", output_lock, METH_O,
     PyDoc_STR("output_lock(wait): true: it is locked; None: another has it; false: there is no lock.")},
    {"output_lock_there", output_lock_there, METH_NOARGS,
     PyDoc_STR("True if the descriptor is still that of the lock.")},
    {"output_unlock", output_unlock, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
