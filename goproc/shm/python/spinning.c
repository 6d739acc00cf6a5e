/* spinning.c - to look again for a while before a wait: for about as long as sleeping and waking would cost,
 * and only while a core is free for that.
 */
#include "python.h"

#define SPINS 4                  /* looks that found a case ready, which others then took */
#define SPIN_CASES 8             /* a select over more cases does not spin */
#define FIRED_SPIN_NS 10000      /* for a watched waiter that fires */
#define FIRED_LOOK_NS 250
#define LOCK_FIRST_NS 200        /* before the first look at a mutex */
#define LOCK_LOOK_NS 50          /* between two looks */
#define LOCK_SPIN_NS 20000ULL    /* for a mutex, about the cost of sleeping and waking */
#define LOCK_AWAY_NS 2500        /* between two looks at a mutex whose turns come fast */
#define LOCK_AWAY_MOST_NS 100000 /* the most in a row; mutexes of Go are unfair for a millisecond */
/* a turn in less is over sooner than its lines would have moved to and fro */
#define LOCK_FAST_NS 500

static void nap(uint32_t ns) { gp_wait_ns(ns); }

/* A process that takes the mutex again and again pays a third while the cache lines stay with it; each look
 * of this one takes a line away. So while o->tail (it counts the turns) grows fast, look only every
 * LOCK_AWAY_NS. */
static uint64_t stay_away(const struct gp_object *o) {
    uint64_t turn = gp_get(&o->tail), before, spent = 0;
    do {
        before = turn;
        nap(LOCK_AWAY_NS);
        spent += LOCK_AWAY_NS;
        turn = gp_get(&o->tail);
    } while (turn - before >= LOCK_AWAY_NS / LOCK_FAST_NS && spent < LOCK_AWAY_MOST_NS &&
             !gp_inbox_pending());
    return spent;
}

/* A holder that keeps the mutex for longer than between two looks gives no fast turns: then look until it
 * lets go. */
static enum gp_result spin_for_lock(struct gp_case *c) {
    struct gp_object *o = c->o;
    uint64_t until = gp_now() + LOCK_SPIN_NS, turn = gp_get(&o->tail);
    nap(LOCK_FIRST_NS);
    while (gp_may_spin() && gp_now() < until && !gp_inbox_pending()) {
        if (gp_get(&o->tail) != turn) {
            until += stay_away(o);
            turn = gp_get(&o->tail);
        }
        if (gp_get(&o->value) == 0) {
            if (gp_get(&o->lock) == 0) { /* not in the middle of letting go */
                enum gp_result r = gp_case_try(c);
                if (r != GP_BLOCK) return r;
            }
        } else if (gp_word_proc(gp_get(&o->owner)) == gp.proc) {
            break; /* held by a goroutine of this process */
        }
        nap(LOCK_LOOK_NS);
    }
    return GP_BLOCK;
}

int64_t spin_for_case(struct gp_select *s, enum gp_result *r) {
    struct gp_case *c = s->cases;
    int64_t chosen = -1;
    if (s->n == 1 && c->kind == GP_LOCK && gp_get(&c->o->kind) != GP_KIND_RWMUTEX) {
        *r = spin_for_lock(c);
        return *r == GP_BLOCK ? -1 : 0;
    }
    for (int i = 0; i < SPINS && chosen < 0 && s->n <= SPIN_CASES && gp_spin_until(c, s->n); i++) {
        if (s->n > 1) chosen = gp_select(s, -1, r);
        else if ((*r = gp_case_try(c)) != GP_BLOCK) chosen = 0;
    }
    return chosen;
}

void spin_for_fired(const struct gp_waiter *state) {
    if (PyObject_Size(hooks.runq) != 0 || !gp_may_spin()) return;
    for (uint64_t end = gp_now() + FIRED_SPIN_NS;
         !gp_get(&state->fired) && !gp_inbox_pending() && gp_now() < end;)
        gp_wait_ns(FIRED_LOOK_NS);
}
