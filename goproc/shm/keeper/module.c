/* module.c - the extension module goproc.shm._keeper. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "keeper.h"

static struct start *started; /* keepers that live */

/* the strings of a tuple of bytes, ended by NULL */
static char **strings(PyObject *tuple) {
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    char **found = PyMem_Calloc((size_t)n + 1, sizeof *found);
    if (!found) return (char **)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < n; i++) {
        if (!(found[i] = PyBytes_AsString(PyTuple_GET_ITEM(tuple, i)))) {
            PyMem_Free(found);
            return NULL;
        }
    }
    return found;
}

static int *numbers(PyObject *tuple) {
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    int *found = PyMem_Calloc((size_t)n + 1, sizeof *found);
    if (!found) return (int *)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < n; i++) found[i] = (int)PyLong_AsLong(PyTuple_GET_ITEM(tuple, i));
    if (PyErr_Occurred()) {
        PyMem_Free(found);
        return NULL;
    }
    return found;
}

static PyObject *result_of(struct start *s) {
    if (!s->error) {
        s->next = started;
        started = s;
        return Py_BuildValue("ii", (int)s->zygote, (int)s->keeper);
    }
    errno = s->error;
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, s->path);
    keeper_discard(s);
    return NULL;
}

static PyObject *spawn(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *argv, *env, *closed;
    const char *path;
    int control, source, highest, threaded;
    unsigned null;
    if (!PyArg_ParseTuple(args, "yO!O!iiO!iIp:spawn", &path, &PyTuple_Type, &argv, &PyTuple_Type, &env,
                          &control, &source, &PyTuple_Type, &closed, &highest, &null, &threaded))
        return NULL;
    char **words = strings(argv), **variables = words ? strings(env) : NULL;
    int *fds = variables ? numbers(closed) : NULL;
    PyObject *result = NULL;
    if (fds) {
        struct start *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (s == MAP_FAILED) {
            PyErr_SetFromErrno(PyExc_OSError);
        } else {
            s->path = path;
            s->argv = words;
            s->envp = variables;
            s->control = control;
            s->source = source;
            s->close = fds;
            s->n_close = (size_t)PyTuple_GET_SIZE(closed);
            s->highest = highest;
            s->null = null;
            s->host = getpid();
            if (threaded) keeper_start_in_thread(s);
            else keeper_start(s);
            result = result_of(s);
        }
    }
    PyMem_Free(words);
    PyMem_Free(variables);
    PyMem_Free(fds);
    return result;
}

static PyObject *ended(PyObject *module, PyObject *arg) {
    (void)module;
    int status = 0;
    pid_t pid = (pid_t)PyLong_AsLong(arg), found;
    if (pid == -1 && PyErr_Occurred()) return NULL;
    do found = waitpid(pid, &status, WNOHANG | __WALL);
    while (found < 0 && errno == EINTR);
    if (found == 0) Py_RETURN_NONE;
    for (struct start **at = &started; *at; at = &(*at)->next) {
        struct start *s = *at;
        if (s->keeper != pid) continue;
        *at = s->next;
        keeper_discard(s);
        break;
    }
    return PyLong_FromLong(found == pid && WIFEXITED(status) ? WEXITSTATUS(status) : KEEPER_FAILED);
}

static struct sigaction held; /* the program's answer to SIGCHLD */
static bool holds;

/* The kernel sends SIGCHLD for any child to a parent that has called exec since, as that of an early zygote
 * has. */
static PyObject *hold_sigchld(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    struct sigaction none = {.sa_handler = SIG_DFL};
    if (holds || sigaction(SIGCHLD, NULL, &held) < 0 || held.sa_handler == SIG_DFL ||
        held.sa_handler == SIG_IGN)
        Py_RETURN_NONE;
    holds = sigaction(SIGCHLD, &none, NULL) == 0;
    Py_RETURN_NONE;
}

static PyObject *release_sigchld(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    siginfo_t child = {0};
    if (!holds) Py_RETURN_NONE;
    holds = false;
    sigaction(SIGCHLD, &held, NULL);
    if (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) == 0 && child.si_pid) kill(getpid(), SIGCHLD);
    Py_RETURN_NONE;
}

static PyObject *adopt_orphans(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyBool_FromLong(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
}

static PyMethodDef functions[] = {
    {"spawn", spawn, METH_VARARGS,
     PyDoc_STR("spawn(path, argv, env, control, source, fds to close, highest fd, bits of streams to "
               "nowhere, threaded)\n\n"
               "Start a zygote and its keeper: (pid of the zygote, pid of the keeper).")},
    {"ended", ended, METH_O,
     PyDoc_STR("None while the keeper with this pid lives, then the status of the zygote, once.")},
    {"hold_sigchld", hold_sigchld, METH_NOARGS,
     PyDoc_STR("Keep SIGCHLD from the program: a keeper is about to end.")},
    {"release_sigchld", release_sigchld, METH_NOARGS,
     PyDoc_STR("Let the program have SIGCHLD again. It gets one if a child of its own has ended.")},
    {"adopt_orphans", adopt_orphans, METH_NOARGS,
     PyDoc_STR("Become the parent of processes that descend from this one when theirs ends.")},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                        "goproc.shm._keeper",
                                        "The start of the zygote.",
                                        -1,
                                        functions,
                                        NULL,
                                        NULL,
                                        NULL,
                                        NULL};

PyMODINIT_FUNC PyInit__keeper(void) { return PyModule_Create(&definition); }
