/* await.h - the two types of await.c and awaited.c: a set of operations, and one of them. */
#ifndef GP_AWAIT_H
#define GP_AWAIT_H

#include "python.h"

enum op_state { OP_NEW, OP_PENDING, OP_DONE, OP_CANCELLED, OP_READ };

typedef struct awaited {
    PyObject_HEAD
    struct awaits *set;       /* while it is pending */
    PyObject *token;          /* the caller's: take() gives it back */
    /* the cases as they were given, and their objects: they keep the targets alive */
    PyObject *given, *kept;
    struct item *items;
    struct gp_select s;
    uint64_t run;             /* of the runtime it belongs to */
    uint32_t waiter, place;   /* its waiter; index in the set */
    int64_t chosen;           /* the case that was done */
    enum gp_result r;
    enum op_state state;
    bool listed;              /* among those to be taken, where `next` leads on */
    struct awaited *next;
} Awaited;

typedef struct awaits {
    PyObject_HEAD
    uint64_t run;
    int64_t collector;        /* the waiter that the thread sleeps in; -1: none yet */
    Awaited **pending;        /* by their `place`; each reference is the set's */
    Awaited *touched;         /* done, or to be looked at again; not taken yet, the oldest first */
    uint32_t n, room;
    bool busy;
} Awaits;

static inline bool awaits_live(uint64_t run) { return gp.base && run == gp.run; }

/* ---- await.c */
void awaits_collect(Awaits *self); /* settle the operations that were fired, and list them for take() */

/* ---- awaited.c */
Awaited *awaited_new(PyObject *cases, PyObject *token);
int awaited_parse(Awaited *op);      /* read the cases of the operation: 0, or -1 and an exception */
/* do a case that is ready, or queue all: the case, or -1 */
int64_t awaited_try(Awaited *op, enum gp_result *r);
void awaited_finish(Awaited *op, int64_t chosen, enum gp_result r); /* the operation is done, by this case */
void awaited_settle(Awaited *op);    /* the operation was fired: it is done, or queued again */
/* true: the operation has not happened, and will not; false: it is done */
bool awaited_cancel(Awaited *op);
void awaited_give_back(Awaited *op); /* give back the waiter, and the records of the cases */
/* take the operation out of its set; the caller has a reference of its own */
void awaited_leave(Awaited *op);
void *awaited_stopped(void);         /* raise RuntimeStopped; always NULL */

#endif
