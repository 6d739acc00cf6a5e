/* world.h - a small program over the core, without Python: workers whose fibers send, receive, select, lock, count units, push,
 * take and join tasks. Each notes what it did in a ledger outside the segment, so that after any number of deaths it can be
 * told whether something was lost, came twice, or stayed behind.
 */
#ifndef WORLD_H
#define WORLD_H

#include "mem/pages.h"
#include "proc/repair.h"

enum { HOST = 0, WORKERS = 4, PROCS = 5, FIBERS = 5, CHANNELS = 5, MUTEXES = 2, MESSAGES = 1 << 18 };
enum { OFFERED = 1, SENT = 2, DEAD = 4 /* it died with the process that had it */ };

struct ledger { /* shared by all processes */
    gp_ref channel[CHANNELS], mutex[MUTEXES], rwmutex, semaphore;
    _Atomic uint32_t ids;                /* of messages and tasks */
    _Atomic uint8_t state[MESSAGES];     /* of each: the flags above */
    _Atomic uint8_t came[MESSAGES];      /* how often it was received, or a task begun */
    _Atomic uint32_t held[MUTEXES];      /* proc + 1 of the one that has the mutex */
    _Atomic uint32_t writer;             /* the same for the rwmutex */
    _Atomic int32_t reads[PROCS], units[PROCS];
    _Atomic uint32_t stop;               /* no fiber begins anything more */
    _Atomic uint64_t beats[PROCS];       /* +1 at every turn */
    _Atomic uint64_t joined, received, began, stolen;
    _Atomic uint32_t wrongs;
    char wrong[16][160];
};
extern struct ledger *ledger;

void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
void world_make(void);           /* by the host, which is attached */
bool world_attach(int memfd, uint32_t proc);
void world_enter(uint64_t seed); /* a worker that has just attached */
bool world_turn(void);           /* false: it has nothing more to do */
void world_died(uint32_t proc);  /* before its repair: it has no lock any more */
void world_mark_dead(const struct gp_dead *d); /* during its repair, before its blocks are freed */
void world_check(void);          /* at rest, with no worker left: drains the channels */

#endif
