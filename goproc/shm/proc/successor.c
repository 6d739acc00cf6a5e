/* successor.c - the thread of the host that starts another zygote when one has died.
 *
 * Main cannot be the one that does so: it may be in a library for hours, in a loop of sleeps or in C code,
 * where nothing of goproc's runs. The coroner cannot either: it must not wait for the GIL, and has
 * descriptors of its own. So this thread waits from the start of the runtime on. It is made then, since a
 * thread that the coroner made would have the coroner's descriptors.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/prctl.h>

#include "proc/proc.h"

enum order { WAIT, START, END };

static struct {
    pthread_t thread;
    bool running;
    void (*start_zygote)(void);
    _Atomic uint32_t order; /* enum order: the coroner stores START by CAS, so that END stays */
} successor;

static void *wait_for_order(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "goproc-starter");
    gp_own_thread(GP_OWN_SUCCESSOR, true);
    for (;;) {
        uint32_t order = START;
        if (atomic_compare_exchange_strong(&successor.order, &order, WAIT)) successor.start_zygote();
        else if (order == END) break;
        else gp_futex_wait(&successor.order, WAIT, 0);
    }
    gp_own_thread(GP_OWN_SUCCESSOR, false);
    return NULL;
}

int gp_successor_start(void (*start_zygote)(void)) {
    if (successor.running) return 0;
    successor.start_zygote = start_zygote;
    atomic_store(&successor.order, WAIT);
    int err = gp_thread_start(&successor.thread, wait_for_order, NULL);
    successor.running = err == 0;
    return err;
}

void gp_successor_call(void) {
    uint32_t order = WAIT;
    if (atomic_compare_exchange_strong(&successor.order, &order, START)) gp_futex_wake(&successor.order, 1);
}

void gp_successor_stop(void) {
    if (!successor.running) return;
    atomic_store(&successor.order, END);
    gp_futex_wake(&successor.order, 1);
    pthread_join(successor.thread, NULL);
    successor.running = false;
}
