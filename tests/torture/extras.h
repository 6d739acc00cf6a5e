/* extras.h - more operations of the core for races.c, beside those of world.h: handles that travel, ends, memory. */
#ifndef EXTRAS_H
#define EXTRAS_H

#include "proc/repair.h"

struct extras { /* objects that live as long as the segment */
    gp_ref carrier;   /* channel: its messages list handles */
    gp_ref bulk;      /* channel: its messages are large */
    gp_ref waitgroup, once, condition, barrier, root, timer;
    _Atomic uint32_t ran; /* how often the function of `once` was run */
    _Atomic uint64_t passed, collected, cancelled, waits;
};
extern struct extras *extras;

void extras_make(void);          /* by the host, which is attached */
void extras_enter(uint64_t seed); /* a worker that has just attached */
void extras_turn(void);
void extras_leave(void);         /* drops its handles */

#endif
