/* race.h - what the procs of races.c have in common. */
#ifndef RACE_H
#define RACE_H

#include "extras.h"
#include "world.h"

struct race {
    struct ledger *ledger;
    struct extras extras;
    int memfd;
    uint64_t seed;                /* the host's */
    uint64_t seeds[PROCS];        /* of the world of each worker */
    long dies_after[PROCS];       /* of each: accesses until it dies; -1: it lives */
    _Atomic uint32_t ended[PROCS]; /* 1: its thread has ended, dead or in order */
    void (*start)(struct race *r, uint32_t proc); /* a thread for this proc */
    void (*join)(struct race *r, uint32_t proc);  /* wait for its end */
    uint64_t until;               /* ns: when the host tells all to stop */
    bool deaths;                  /* workers die now and then */
    long died;
};

#endif
