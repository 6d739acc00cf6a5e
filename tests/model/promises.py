"""Promises: outcomes without a goroutine. gp_promise_claim and gp_promise_keep of chan/outcome.c, break_promise of
proc/repair_heap.c.

A promise is queued until a process claims it; that process keeps it, and who breaks it first ends it without a value. Any
other process that has a handle may keep it, too.
"""

from __future__ import annotations

from collections.abc import Callable

from model.explorer import Step, Steps, Violation
from model.queues import gp_fire_all
from model.tasks import DONE, LOST, QUEUED, RUNNING
from model.world import Object, Op, Proc, Tag, World, gp_done, gp_intent, gp_lock, gp_unlock


def new_promise(w: World) -> Object:
    o = w.new("outcome")
    o.claimed = w.memory.cell(f"{o.name}.proc", show=w.show_process)
    o.content = w.memory.cell(f"the block of {o.name}", show=w.show_process)  # whose value it has
    o.kept_by = w.memory.cell(f"{o.name} was kept by", show=w.show_process)  # for the checks
    return o


def claim_state(o: Object) -> Step:
    """The CAS of `state`, without the lock."""
    at = o.value.at

    def run(s: bytearray, me: int) -> bool:
        if s[at] != QUEUED:
            return False
        s[at] = RUNNING
        return True

    return Step(f"{o.name}.state: QUEUED => RUNNING?", run)


def gp_promise_claim(p: Proc, o: Object) -> Steps:
    if not (yield o.claimed.cas(0, p.word)):  # COMMIT: it ends with this process
        return False
    return (yield claim_state(o))  # unless it has been broken


def gp_promise_keep(p: Proc, o: Object, state: int) -> Steps:
    late = p.w.keeps("the value of a promise is stored under its lock")
    if state == DONE and not late:
        yield o.content.store(p.word)
    yield from gp_lock(p, o)
    first = (yield o.value.peek()) < DONE
    if first:
        if state == DONE and late:
            yield o.content.store(p.word)
        yield from gp_intent(p, Op.OUTCOME, o, 0, 0, state, 0)
        yield set_state(o, state)  # COMMIT
        yield from gp_done(p)
        yield from gp_fire_all(p, o, Tag.CLOSED)
    yield from gp_unlock(p, o)
    return first


def set_state(o: Object, state: int) -> Step:
    """A store of `state`, which a process that claims looks at without the lock."""
    at = o.value.at

    def run(s: bytearray, me: int) -> None:
        if s[at] >= DONE:
            raise Violation(f"{o.name} ends twice")
        s[at] = state
        s[o.kept_by.at] = me + 1

    return Step(f"{o.name}.state = {state}", run)


def run(p: Proc, o: Object) -> Steps:
    """Claim it and keep it."""
    if (yield from gp_promise_claim(p, o)):
        yield from gp_promise_keep(p, o, DONE)


def give_up(p: Proc, o: Object) -> Steps:
    """Break it, as a cancelled future is: claim it first, so that it does not run."""
    if (yield from gp_promise_claim(p, o)):
        yield from gp_promise_keep(p, o, LOST)


# ---- repair_heap.c


def break_promises(w: World, p: Proc, lock: Callable[[World, Object], Steps]) -> Steps:
    for i in range(len(w.objects)):
        o = w.objects[i]
        if o.claimed is None or (yield o.claimed.load()) != p.word:
            continue
        state = yield o.value.peek()
        early = w.keeps("a promise that the dead one had begun to claim is broken")
        if state >= DONE or (state == QUEUED and not early):
            continue
        yield from lock(w, o)
        again = w.keeps("a repair looks at a promise once more under its lock")
        if not again or (yield o.value.peek()) < DONE:
            yield set_state(o, LOST)  # COMMIT
        yield from w.serve(o)
        yield o.lock.store(0)


def check(w: World, s: bytes) -> None:
    for o in w.objects:
        if o.claimed is not None and s[o.claimed.at] and s[o.value.at] < DONE:
            raise Violation(f"{o.name} was claimed by {w.show_process(s[o.claimed.at])}, and does not end")
        if o.claimed is not None and s[o.value.at] == DONE and s[o.content.at] != s[o.kept_by.at]:
            raise Violation(f"{o.name} has not the value of who has kept it")
