/* deaths.c - the records of workers that died. The coroner writes them; obituary.c shows them to Python. */
#include "repair.h"

struct gp_death *gp_death_at(uint64_t death) {
    return (struct gp_death *)(gp.base + GP_DEATHS_AT + (death - 1) % GP_DEATHS * GP_DEATH_BYTES);
}

uint64_t gp_death_begin(const struct gp_death *how) {
    uint64_t number = gp_get(&gp.head->deaths) + 1;
    if (gp_back(GP_DEATHS_AT + (number - 1) % GP_DEATHS * GP_DEATH_BYTES, GP_DEATH_BYTES) < 0) return 0;
    struct gp_death *r = gp_death_at(number);
    gp_set(&r->number, 0);
    atomic_thread_fence(memory_order_seq_cst);
    r->when = how->when;
    r->memory = how->memory;
    r->pid = how->pid;
    r->status = how->status;
    r->proc = how->proc;
    r->incarnation = how->incarnation;
    r->timed_out = how->timed_out;
    r->lost = r->moved = 0;
    return number;
}

void gp_death_add(uint64_t death, const struct gp_task *task, bool waited) {
    if (!death) return;
    struct gp_death *r = gp_death_at(death);
    if (r->lost < GP_DEATH_GOROUTINES) {
        struct gp_lost *g = &r->goroutine[r->lost];
        g->id = task->id;
        g->started = gp_get(&task->started) == GP_STARTED;
        g->waited = waited;
        memcpy(g->name, task->name, sizeof g->name);
        g->name[sizeof g->name - 1] = 0;
    }
    r->lost++;
}

void gp_death_moved(uint64_t death) {
    if (death) gp_death_at(death)->moved++;
}

void gp_death_end(uint64_t death) {
    if (!death) return;
    gp_release(&gp_death_at(death)->number, death);
    gp_release(&gp.head->deaths, death); /* COMMIT */
}
