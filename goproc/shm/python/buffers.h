/* buffers.h - Buffers and Views, for buffers.c and references.c. */
#ifndef GP_BUFFERS_H
#define GP_BUFFERS_H

#include "python.h"

typedef struct shown {
    PyObject_HEAD
    struct gp_held held;
    struct gp_mapping *mapping; /* of the segment, where the memory is, or has its place; else NULL */
    PyObject *copy;             /* it keeps the block; NULL: the block is this object's own */
    uint64_t run;
    gp_ref block;
    uint64_t offset;            /* of the memory in the payload of the block */
    char *data;
    Py_ssize_t len;
    bool readonly;
    char *map;                  /* a private mapping of the block's pages, or of some */
    size_t map_bytes;
    /* of a Buffer with a private mapping in the place of the segment: the segment's pages */
    char *original;
    struct shown *next, **at;   /* in the list of large ones */
} Shown;

static inline bool shown_is_current(const Shown *s) { return gp.base && s->run == gp.run; }

/* ---- buffers.c */
/* the large Buffer or View in which the memory lies; NULL: none */
Shown *shown_find(const char *at, Py_ssize_t len);
/* put a private mapping in the place of the block; false: the system does not allow it, and nothing has
 * changed */
bool shown_replace_segment(Shown *s);

#endif
