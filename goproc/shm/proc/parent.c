/* parent.c - a process of goproc dies with its parent.
 *
 * The parent of a worker is its zygote, and the heir of a dead zygote is the keeper.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "proc/proc.h"

/* of a process that is to die with them: its parent, and its parent after that one's death */
static _Atomic int parent, heir;

/* The kernel sends PDEATHSIG at the death of any parent, also if another one follows: so there is none while
 * there is an heir. The keeper kills its children when the host dies, and so does the zygote; if both were
 * killed, the child itself notices. */
int gp_die_with_parent(int ppid, int keeper) {
    if (prctl(PR_SET_PDEATHSIG, keeper ? 0 : SIGKILL) < 0) return -errno;
    atomic_store(&parent, ppid);
    atomic_store(&heir, keeper); /* in this order: see follow_parent() */
    return getppid() == ppid ? 0 : -ESRCH; /* the parent died before the prctl */
}

/* See whether the keeper is the parent now, and die with it from then on. Two threads may be here at once. */
static void follow_parent(void) {
    int before = atomic_load(&parent), next = atomic_load(&heir), now = getppid();
    if (!next || now == before) return;
    if (now != next || gp_die_with_parent(next, 0) < 0) _exit(0);
}

void gp_still_die_with_parent(void) {
    int number, mine = atomic_load(&parent);
    if (!mine) return;
    follow_parent();
    if (atomic_load(&heir) || prctl(PR_GET_PDEATHSIG, &number) < 0 || number == SIGKILL) return;
    if (gp_die_with_parent(atomic_load(&parent), 0) == -ESRCH) _exit(0);
}
