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
    r->overdue = how->overdue;
    r->running = how->running;
    r->late = 0;
    r->lost = r->moved = r->again = r->candidates = 0;
    r->call[0] = 0;
    return number;
}

/* Note a lost goroutine as the one that ran, if it may be; its call is shown if no other may have run. */
static void note_running(struct gp_death *r, const struct gp_task *task, bool waited) {
    bool late = r->overdue && r->overdue == task->object;
    if (gp_get(&task->started) != GP_STARTED || (r->late && !late)) return;
    if (!late && (waited || (r->running && r->running != task->id))) return;
    if (late) r->late = task->id;
    if (!r->running) r->candidates++;
    if (r->candidates > 1 && !late) return;
    struct gp_text t = {r->call, r->call + sizeof r->call};
    gp_task_short_form(&t, task);
    r->candidate = task->id;
}

void gp_death_again(uint64_t death, const struct gp_task *task, bool waited) {
    if (!death) return;
    note_running(gp_death_at(death), task, waited);
    gp_death_at(death)->again++;
}

void gp_death_add(uint64_t death, const struct gp_task *task, bool waited) {
    if (!death) return;
    struct gp_death *r = gp_death_at(death);
    note_running(r, task, waited);
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
    struct gp_death *r = gp_death_at(death);
    if (r->candidates == 1) r->running = r->candidate;
    if (!r->call[0]) r->running = 0; /* main, or a goroutine that had just ended */
    gp_release(&r->number, death);
    gp_release(&gp.head->deaths, death); /* COMMIT */
}
