"""Faults for test_seeded_faults.py: each takes out one rule of the protocol or of its repair, and a scenario has to notice.

A fault is (file under goproc/shm, text, its replacement, scenarios of crash_image.c that fail with it).
"""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    file: str
    text: str
    instead: str
    scenarios: str  # separated by "|"


LOCKS = "proc/repair_locks.c"
TASKS = "proc/repair_tasks.c"
HEAP = "proc/repair_heap.c"
QUEUES = "proc/repair_queues.c"
REPAIR = "proc/repair.c"

FAULTS = {
    # -- the journal: what was to be redone
    "a hand-off is not finished": Fault(
        LOCKS, "case GP_OP_HANDOFF: own(j, gp_tag_of(proc)); break;", "", "send to a receiver"
    ),
    "a promotion does not advance the ring": Fault(
        LOCKS, "gp_release(&o->tail, gp_get(&j->e) + 1);", "", "receive and promote"
    ),
    "a message put belongs to its sender": Fault(
        LOCKS,
        "if (gp_get(&o->tail) == gp_get(&j->d) + 1) own(j, GP_TAG(GP_TAG_CHAN, gp_ref_of(o)));",
        ";",
        "send, buffered",
    ),
    "a message taken belongs to the channel": Fault(
        LOCKS, "if (gp_get(&o->head) == gp_get(&j->d) + 1) own(j, d->tag);", ";", "receive, buffered"
    ),
    "a message taken from a sender is the sender's": Fault(
        LOCKS, "case GP_OP_TAKE: own(j, d->tag); break;", "", "receive from a sender"
    ),
    "what was fired stays in its queue": Fault(
        LOCKS,
        "    if (gp_repair_linked(o, sd)) gp_unlink(o, sd);\n}\n\n/* The task",
        "}\n\n/* The task",
        "send to a receiver",
    ),
    "a grant is forgotten": Fault(
        LOCKS, "gp_set(&o->value, value_in(j));", "", "rwmutex, runlock, writers wait"
    ),
    "a timer is set, and only some are told": Fault(
        LOCKS,
        "if (gp_get(&c->flags) & GP_OBJ_TIMER) tell_of_timer(c);",
        "if (false) tell_of_timer(c);",
        "timer, set",
    ),
    "a place is taken, and its task does not know": Fault(
        LOCKS,
        "uint64_t count = which == GP_TRACK_PLACE ? gp_get(&o->tail) : (uint64_t)gp_get(&o->value);",
        "uint64_t count = (uint64_t)gp_get(&o->value);",
        "place|place, others wait",
    ),
    "the places of tasks are free": Fault(
        LOCKS,
        "gp_set(&o->value, (int64_t)(gp_get(&o->size) - gp_get(&o->tail)) - sum);",
        "gp_set(&o->value, (int64_t)gp_get(&o->size) - sum);",
        "place|place, others wait|limit",
    ),
    "the place of a task that is not made is lost": Fault(
        TASKS, "gp_set(&place->tail, gp_get(&place->tail) - 1);", "", "place|place, others wait"
    ),
    "an outcome is set half": Fault(
        LOCKS, "if (gp_get(&o->state) != gp_get(&j->d)) undo_outcome(d, j, o);", ";", "outcome"
    ),
    "a spare block goes with a task that starts again": Fault(
        LOCKS,
        "own(j, block_in(j) == task ? d->tag : GP_TAG(GP_TAG_PART, task));",
        "own(j, d->tag);",
        "outcome, or again",
    ),
    "an outcome that did not come about is left in the spare block": Fault(
        TASKS, "empty_spare(ref, s);\n    /* if the process", "/* if the process", "outcome, or again"
    ),
    "the old value goes before the new one is there": Fault(
        "chan/channel.c",
        "    gp_chan_put(c, m);\n    if (has_both(c)) gp_chan_take(c, &old[n++]);",
        "    gp_chan_take(c, &old[n++]);\n    gp_chan_put(c, m);",
        "cell, set",
    ),
    "a dead waker lets its sleeper sleep": Fault(
        REPAIR,
        "        gp_futex_wake(&gp_proc_at(p)->park, 1);",
        "",
        "send to one that sleeps",
    ),
    "one that gives up keeps a dead one's mutex from all": Fault(
        "chan/sync.c",
        "if (gp_get(&o->value) == 0 || owner_died(o)) wake_first(o);\n    gp_unlock(o);",
        "if (gp_get(&o->value) == 0) wake_first(o);\n    gp_unlock(o);",
        "mutex, unlock, others wait",
    ),
    "a count and its task differ": Fault(
        LOCKS,
        "if (count == gp_get(&j->d)) gp_set(",
        "if (false) gp_set(",
        "task, counted",
    ),
    "a foreign waiter looks linked": Fault(
        LOCKS,
        "s->linked = 0; /* its owner must not unlink it again */",
        ";",
        "send past one that gave up|close, receivers|cond, broadcast|mutex, hand over",
    ),
    # -- what holds at rest
    "nobody moves up": Fault(
        LOCKS, "else if (!(gp_get(&c->flags) & GP_OBJ_LAZY)) promote(c);", "", "receive and promote"
    ),
    "a close stops half way": Fault(
        LOCKS,
        "if (gp_get(&c->flags) & GP_OBJ_CLOSED) fire_all(c, GP_W_CLOSED);\n    else if",
        "if",
        "close, receivers",
    ),
    "waiters of a count at zero stay": Fault(
        LOCKS, "if (gp_is_done(o)) fire_all(o, GP_W_CLOSED);", "", "wait group"
    ),
    "queues are not rebuilt": Fault(LOCKS, "        rebuild_queues(o);\n", "", "give up in front"),
    "a barrier is not let go": Fault(
        LOCKS, "case GP_KIND_BARRIER: serve_barrier(o); break;", "", "barrier, last"
    ),
    "nobody is woken for a free mutex": Fault(
        LOCKS, "case GP_KIND_ONCE: serve_mutex(o); break;", "case GP_KIND_ONCE: break;", "mutex, hand over"
    ),
    "an rwmutex stays with the dead": Fault(
        LOCKS, "case GP_KIND_RWMUTEX: serve_rwmutex(o); break;", "", "rwmutex, unlock, readers wait"
    ),
    "units that are free are not given": Fault(
        LOCKS, "case GP_KIND_SEMAPHORE: serve_semaphore(o); break;", "", "semaphore, release, others wait"
    ),
    "shares and value differ": Fault(
        LOCKS, "        follow_shares(o);\n", "", "semaphore, acquire|rwmutex, rlock"
    ),
    # -- locks
    "a lock stays held": Fault(LOCKS, "        atomic_exchange(word, 0);\n", "", "send, buffered"),
    "spilled locks are forgotten": Fault(
        LOCKS, "if (spill && gp_block_check(spill, &capacity)) {", "if (false) {", "select over 70"
    ),
    "the tree stays locked": Fault(
        "proc/repair_tree.c", "gp_repair_unlock(&gp.head->tree);", "", "context, cancel"
    ),
    "a cancel stops half way": Fault(
        "proc/repair_tree.c",
        "    if (!parent || !is_done(parent)) return;\n",
        "    return;\n",
        "context, cancel",
    ),
    "a ring is not restored": Fault(
        LOCKS, "if (gp_ref_of(&gp_proc_at(p)->queue) == ref) restore_ring(p);", ";", "task, steal|task, pop"
    ),
    "the collector's lock stays": Fault(REPAIR, "drop_word(&h->collecting, d);", "", "collect"),
    "the reclaimer's lock stays": Fault(REPAIR, "drop_word(&h->reclaiming, d);", "", "reclaim"),
    # -- what the dead one had
    "it stays in its queues": Fault(
        QUEUES, "if (gp_repair_linked(o, sd)) gp_unlink(o, sd);", "if (false) {}", "receive and wait"
    ),
    "a copy that is not finished leaks": Fault(
        HEAP,
        "return GP_TAG_KIND(tag) == GP_TAG_RESULT && gp_object_check(ref) && unfinished(gp_at(ref), d);",
        "return false;",
        "copy",
    ),
    "a copy that is not finished stays": Fault(
        HEAP, "if (kind == 0 || unfinished(o, d)) {", "if (kind == 0) {", "copy"
    ),
    "an end does not reach the collector": Fault(
        "chan/tell.c",
        "bool lost = teller == 0 || (gp_word_died(teller) && !in_stack(c, i));",
        "bool lost = teller == 0;",
        "outcome, watched",
    ),
    "an end that nobody pushes is lost": Fault(
        "chan/tell.c",
        "bool lost = teller == 0 || (gp_word_died(teller) && !in_stack(c, i));",
        "bool lost = teller && gp_word_died(teller) && !in_stack(c, i);",
        "outcome, watched",
    ),
    "an end reaches the collector twice": Fault(
        "chan/tell.c", "(gp_word_died(teller) && !in_stack(c, i))", "gp_word_died(teller)", "outcome, watched"
    ),
    "the collector sleeps on": Fault(
        "chan/tell.c",
        "    fire_collector(gp.proc, gp_get(&w->watch), gp_tell_now);\n",
        "",
        "outcome, watched",
    ),
    "a thread that was told counts as blocked": Fault(
        "chan/tell.c",
        "((seen & ~mask) + (1ULL << 32)) | n))\n",
        "seen))\n",
        "send to a thread",
    ),
    "its blocks leak": Fault(HEAP, "gp_heap_each(free_block, (void *)(uintptr_t)d);", "", "memory"),
    "its handles count": Fault(
        HEAP, "if (held) atomic_fetch_and(&o->holders[d->proc / 64], ~bit);", "", "send, buffered"
    ),
    "a promise that is half claimed stays": Fault(
        HEAP,
        "return gp_acquire(&o->state) < GP_G_OK && gp_get(&o->proc) == d->proc + 1;",
        "return ran_there(o, d);",
        "promise",
    ),
    "its units are lost": Fault(HEAP, "gp_set(&gp_shares(o)[d->proc], 0);", "", "semaphore, release"),
    "pages that it was taking stay so": Fault(
        HEAP, "for (uint32_t p = 0; p < gp_places(); p++) restore_pages(d, p);", "", "reclaim"
    ),
    "a task in its hands is lost": Fault(
        TASKS, "case GP_UNSTARTED: return move(ref, s);", "case GP_UNSTARTED: return true;", "task, steal"
    ),
    "half an object stays": Fault(
        HEAP, "if (gp_acquire(&o->tag) == d->tag) gp_repair_free_object(o);", ";", "memory"
    ),
    # -- orders of stores in the operations themselves
    "the journal says nothing": Fault(
        "mem/mem.h", "    gp_set(&j->op, op);\n", "    gp_set(&j->op, GP_OP_NONE);\n", "send to a receiver"
    ),
    "a lock is not announced": Fault(
        "mem/mem.h", "    gp_set(&j->nlocks, n + 1);\n", "    gp_set(&j->nlocks, n);\n", "send, buffered"
    ),
    "a task is queued before it is in the ring": Fault(
        "proc/tasks.c",
        "            gp_release(tail, t + 1); /* COMMIT */\n            gp_order();\n            gp_own(task, GP_TAG(GP_TAG_QUEUE, proc + 1));",
        "            gp_own(task, GP_TAG(GP_TAG_QUEUE, proc + 1));\n            gp_order();\n            gp_release(tail, t + 1);",
        "task, push",
    ),
    "stolen tasks are nobody's": Fault(
        "proc/taking.c",
        "gp_own(got[i] = checked(*slot(victim, false, head + i)), gp_my_tag());",
        "got[i] = *slot(victim, false, head + i);",
        "task, steal",
    ),
    "an object is freed before it is owned": Fault(
        "mem/heap.c", "    gp_set(&o->tag, gp_my_tag()); /* if this", "    /* if this", "collect"
    ),
}
