/* spin.c - waiting without sleeping, only if there is a core for it (ski rental: at most the cost of the
 * sleep). */
#include "mem/mem.h"

static uint32_t pauses_per_us = 20;

void gp_spin_attach(void) {
    uint64_t start = gp_now(); /* a pause takes 5 to 150 ns, by the kind of CPU */
    for (int i = 0; i < 128; i++) gp_pause();
    uint64_t took = gp_now() - start;
    pauses_per_us = took < 640 ? 200 : took > 128000 ? 1 : (uint32_t)(128000 / took);
}

void gp_wait_ns(uint32_t ns) {
    for (uint32_t n = ns * pauses_per_us / 1000; n > 0; n--) gp_pause();
}

uint32_t gp_procs_running(void) {
    uint32_t idle = 0, live = gp_get(&gp.head->live);
    for (unsigned k = 0; k <= (gp.room - 1) / 64; k++)
        idle += (uint32_t)__builtin_popcountll(gp_get(&gp.head->idle[k]));
    return live > idle ? live - idle : 0;
}

bool gp_may_spin(void) { return gp.room > 1 && gp.ncpu > 1 && gp_procs_running() <= gp.ncpu; }
