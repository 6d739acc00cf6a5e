/* crash_image.h - a segment with a victim and a peer, which are stopped somewhere: see crash_image.c.
 *
 * crash_image.c steps through an operation, crash_scenarios.c has the operations, crash_checks.c the invariants.
 */
#pragma once
#include "../../goproc/shm/mem/pages.h"
#include "../../goproc/shm/proc/repair.h"

enum { VICTIM = 1, PEER = 2, PROCS = 3, MANY = 70 };

struct shared { /* by all processes of a scenario */
    gp_ref object[MANY + 8];
    gp_ref task[8];
    uint64_t ids; /* of messages made */
    uint32_t waiter[8];
    int peers;
    uint32_t tasks;     /* that are in queues whatever the victim does; 0: not known */
    uint32_t collector; /* the peer's waiter that collects ends */
    bool watches;       /* the peer collects ends */
    bool threads;       /* plain threads of the peer wait */
    bool counted;       /* object 0 counts one, and the tasks that it tracks */
    bool places;        /* object 0 is a semaphore: `tail` counts the tasks that have a unit */
    bool again;         /* the goroutine of object 0 has an outcome, or starts again */
    bool sleeps;        /* the peer does */
    bool cell;          /* object 0 is one, and is never empty */
};

extern struct shared *shared;
extern int failures;
void wrong(const char *format, ...); /* reports a state that must not be */

static inline struct gp_object *object(int i) { return gp_at(shared->object[i]); }

/* ---- what the processes do */

gp_ref new_object(enum gp_kind kind, uint32_t cap);
struct gp_message message(void); /* each has a number of its own */
void put(int i);
void wait_in(struct gp_case *cases, uint32_t n);
void wait_for(int i, enum gp_op_kind kind, uint64_t n);
void select_for(enum gp_op_kind kind, uint32_t n);
gp_ref new_task(bool pinned);

/* ---- crash_checks.c */

void check(uint64_t dead);   /* the invariants of a repaired image; dead: the tag of the victim's blocks */
void use(bool may_allocate); /* the channels of an image: each message comes out once, new ones go through */

/* ---- crash_scenarios.c */

struct scenario {
    const char *name;
    void (*host)(void);   /* makes the objects */
    void (*peer)(void);   /* waits */
    void (*before)(void); /* the victim's, at full speed */
    void (*op)(void);     /* step by step */
};

extern const struct scenario scenarios[];
extern const int n_scenarios, first_late; /* from first_late on the victim is first */

void keep_outcome(struct gp_object *o); /* for gp_collect() */
