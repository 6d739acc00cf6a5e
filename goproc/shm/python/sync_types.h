/* sync_types.h - the common parts of the types over sync.c. */
#ifndef GP_SYNC_TYPES_H
#define GP_SYNC_TYPES_H

#include "python.h"

/* The initializer of a type; the type's own slots follow the name. */
#define SYNC_TYPE(name, ...)                                                                    \
    {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goproc.shm._core." name, .tp_base = &HandleType, \
     .tp_basicsize = sizeof(Handle), .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, __VA_ARGS__}

PyObject *sync_try_take(Handle *self, enum gp_op_kind kind, uint64_t n); /* whether it was free, a bool */
PyObject *sync_with_shares(PyObject *handle, const char *what);          /* takes the reference; see sync.c */
int semaphore_type_ready(void);

#endif
