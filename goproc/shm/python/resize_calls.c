/* resize_calls.c - more or fewer workers, and their CPUs, for Python: _proc/resizing.py. */
#include "python.h"

static PyObject *core_places(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLong(gp.base ? gp_places() : 0);
}

static PyObject *core_room(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromUnsignedLong(gp.base ? gp.room : 0);
}

static PyObject *core_resize(PyObject *Py_UNUSED(module), PyObject *arg) {
    unsigned long workers = PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred() || handle_ready() < 0) return NULL;
    if (gp.proc != 0 || workers < 1 || workers >= gp.room)
        return PyErr_Format(PyExc_ValueError, "resize(%lu)", workers);
    int err = gp_resize((uint32_t)workers);
    if (err < 0) return raise_memory(GP_PROC_BYTES, "one more worker");
    Py_RETURN_NONE;
}

static PyObject *core_resized(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyBool_FromLong(!gp.base || gp.proc != 0 || gp_resized());
}

static PyObject *core_unborn(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    uint32_t proc, error;
    if (!gp.base || !gp_unborn(&proc, &error)) Py_RETURN_NONE;
    return Py_BuildValue("(II)", proc, error);
}

static PyObject *core_set_cpu(PyObject *Py_UNUSED(module), PyObject *args) {
    unsigned proc;
    PyObject *cpu;
    if (!PyArg_ParseTuple(args, "IO:set_cpu", &proc, &cpu)) return NULL;
    unsigned long number = cpu == Py_None ? 0 : PyLong_AsUnsignedLong(cpu) + 1;
    if (PyErr_Occurred() || handle_ready() < 0) return NULL;
    if (proc >= gp_places()) return PyErr_Format(PyExc_ValueError, "no proc %u", proc);
    gp_set(&gp_proc_at(proc)->cpu, (uint32_t)number);
    Py_RETURN_NONE;
}

static PyObject *core_cpu(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    uint32_t cpu = gp.base ? gp_get(&gp.my->cpu) : 0;
    if (cpu == 0) Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(cpu - 1);
}

PyMethodDef resize_functions[] = {
    {"places", core_places, METH_NOARGS,
     PyDoc_STR("Return one more than the highest number that a proc has, or has had.")},
    {"room", core_room, METH_NOARGS,
     PyDoc_STR("Return the number of procs that shared memory has room for.")},
    {"resize", core_resize, METH_O, PyDoc_STR("Begin to have so many workers.")},
    {"resized", core_resized, METH_NOARGS,
     PyDoc_STR("Go on with a resize; return True if there are as many workers as wanted.")},
    {"unborn", core_unborn, METH_NOARGS,
     PyDoc_STR("Return None, or a worker whose fork for a resize has failed, and errno.")},
    {"set_cpu", core_set_cpu, METH_VARARGS,
     PyDoc_STR("set_cpu(proc, cpu): the CPU that a worker is to be bound to; None: no CPU.")},
    {"cpu", core_cpu, METH_NOARGS, PyDoc_STR("Return the CPU that this process is to be bound to, or None.")},
    {NULL, NULL, 0, NULL},
};
