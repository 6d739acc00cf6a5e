/* guard.h - the records of a Guard, for guard.c and guard_walk.c. */
#ifndef GP_GUARD_H
#define GP_GUARD_H

#include "pointers.h"

enum kind { LIST, SET, DICT, ENTRIES, OBJECT };

struct record {
    enum kind kind;
    PyObject *container; /* held */
    Py_ssize_t n;        /* elements of `items`, held */
    Py_ssize_t mask;     /* of a set's table */
    /* a list's pointers, a set's table, or the keys and values of a dict by its ENTRIES */
    void *items;
    uint64_t since;      /* a dict's */
    PyObject *first;     /* held, or NULL: a defaultdict's factory, an object's class */
    PyObject *second;    /* held, or NULL: an object's dict */
};

typedef struct {
    PyObject_HEAD
    PyObject *root;
    PyObject *classes; /* of the objects: a dict, class -> whether its objects are but their attributes */
    struct record *v;
    size_t n, cap;
} Guard;

/* ---- guard.c */
bool dict_says(PyObject *dict);                  /* true if the dict tells of each of its changes */
int dict_watch(PyObject *dict, uint64_t *since); /* 0, or -1 and an exception */
void dict_unwatch(PyObject *dict);
/* the default_factory of the dict; None: it has none; NULL: an exception */
PyObject *factory_of(PyObject *dict);

#endif
