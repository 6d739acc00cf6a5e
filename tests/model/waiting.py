"""The wait of a goroutine: chan/select.c, chan/waiter.c, python/wait.c, and core_drain of python/scheduler_calls.c.

A wait may end by its time, or by an exception (Goroutine.cancel), whenever the configuration allows that.
"""

from __future__ import annotations

from model import channels, sync_objects
from model.explorer import Step, Steps
from model.queues import BLOCK, INTERRUPT, IS_CLOSED, OK, TIME, Case, gp_enqueue, gp_enqueue_first, gp_unlink
from model.world import Object, Proc, Sudog, Tag, case_of, epoch_of, gp_lock, gp_unlock, tag_of, waits

# ---- select.c


def step(p: Proc, case: Case, woken: bool = False) -> Steps:
    """One case, under its object's lock: what came of it, and the block that was received."""
    if case.kind == "send":
        return (yield from channels.gp_chan_put(p, case.o, case.block)), 0
    if case.kind == "recv":
        return (yield from channels.gp_chan_take(p, case.o))
    return (yield from sync_objects.gp_sync_step(p, case, woken)), 0


def queue(p: Proc, case: Case, sd: int, number: int, again: bool) -> Steps:
    s, o = p.w.sudog(sd), case.o
    yield s.object.store(o.number)
    yield s.case.store(number)
    state = yield p.waiter.load()
    yield s.epoch.store(epoch_of(state))
    if case.n:
        yield s.n.store(case.n)
    if case.kind == "send":
        yield s.message.store(case.block)
    if again and o.kind == "mutex":
        yield from gp_enqueue_first(p, o, sd)
    else:
        writes = case.kind == "lock" and o.kind == "rwmutex"
        yield from gp_enqueue(p, o, sd, int(case.kind == "send" or writes))


def gp_waiter_arm(p: Proc) -> Steps:
    state = yield p.waiter.load()
    yield p.waiter.store(waits(epoch_of(state) + 1, 0, Tag.WAITING))


def gp_waiter_cancel(p: Proc) -> Steps:
    seen = yield p.waiter.load()
    return tag_of(seen) == Tag.WAITING and (yield p.waiter.cas(seen, waits(epoch_of(seen), 0, Tag.CANCELLED)))


def in_order(cases: tuple[Case, ...]) -> tuple[Object, ...]:
    """Return the distinct objects of some cases, in the order in which their locks are taken."""
    return tuple(sorted({case.o for case in cases}, key=lambda o: o.number))


def gp_select(p: Proc, cases: tuple[Case, ...], sudogs: tuple[int, ...], again: bool) -> Steps:
    """gp_case_try_or_wait and gp_select: the case that was done, or -1; what came of it; a block.

    The cases are looked at in their order. The core shuffles them; a configuration has them the other way round, too.
    """
    objects = in_order(cases)
    chosen, r, block = -1, BLOCK, 0
    for i in range(len(objects)):
        yield from gp_lock(p, objects[i])
    for i in range(len(cases)):
        r, block = yield from step(p, cases[i], again)
        if r != BLOCK:
            chosen = i
            break
    if chosen < 0:
        yield from gp_waiter_arm(p)
        for i in range(len(cases)):
            yield from queue(p, cases[i], sudogs[i], i, again)
    for i in range(len(objects) - 1, -1, -1):
        yield from gp_unlock(p, objects[i])
    return chosen, r, block


def gp_select_due(p: Proc, cases: tuple[Case, ...]) -> Steps:
    for i in range(len(cases)):
        o = cases[i].o
        if not (yield from is_due(p, cases[i])):
            continue
        yield from gp_lock(p, o)
        won = (yield from is_due(p, cases[i])) and (yield from gp_waiter_cancel(p))
        if won:
            yield from step(p, cases[i])
        yield from gp_unlock(p, o)
        if won:
            return i
    return -1


def is_due(p: Proc, case: Case) -> Steps:
    """gp_case_due, and whether that time has come."""
    if case.kind != "recv" or not case.o.timer:
        return False
    due = yield case.o.value.load()
    return due != 0 and (yield p.w.now.load()) >= due


def gp_case_settled(p: Proc, case: Case, sd: int, notified: bool, undone: bool) -> Steps:
    """It was fired: the block that was received. Not notified: rule O2."""
    w, s = p.w, p.w.sudog(sd)
    if not notified and w.keeps("O2: who was not told takes the lock of the fired case"):
        yield from gp_lock(p, case.o)
        yield from gp_unlock(p, case.o)
        if w.keeps("who was not told takes the bit back"):
            yield p.told.store(0)
    yield consume(s, case) if case.kind == "signal" and not undone else s.object.store(0)
    return (yield s.message.load()) if case.kind == "recv" else 0


def consume(s: Sudog, case: Case) -> Step:
    """The store of `object`; the model writes down that a signal has come."""
    o, signals = s.object.at, case.o.inside.at

    def run(m: bytearray, me: int) -> None:
        m[o] = 0
        m[signals] = m[signals] - 1 & 255

    return Step(f"{s.object.name} = -, a signal has come", run)


def gp_case_abandon(p: Proc, case: Case, sd: int) -> Steps:
    s, o = p.w.sudog(sd), case.o
    yield from gp_lock(p, o)
    if (yield s.linked.load()):
        yield from gp_unlink(p.w, o, sd)
        if case.kind in ("lock", "rlock", "acquire", "signal"):
            yield from sync_objects.gp_sync_serve(p, o)
    yield from gp_unlock(p, o)
    yield s.object.store(0)


def abandon_all(p: Proc, cases: tuple[Case, ...], sudogs: tuple[int, ...], but: int = -1) -> Steps:
    for i in range(len(cases)):
        if i != but:
            yield from gp_case_abandon(p, cases[i], sudogs[i])


# ---- wait.c


def sleep(p: Proc, due: int, ends: frozenset[str]) -> Step:
    """Until there is something to drain, or the time, if the wait has one, is over."""
    told, rescan, now = p.told.at, p.rescan.at, p.w.now.at

    def options(s: bytes) -> list[str]:
        work = ["work"] if s[told] or s[rescan] else []
        return work + ([TIME] if due and s[now] >= due and TIME not in ends else []) + sorted(ends)

    return Step(f"{p.name} sleeps", lambda s, me, option: option, options=options)


def park(p: Proc, due: int, ends: frozenset[str]) -> Steps:
    """The scheduler's turn: 1 notified through the inbox; 0 not, time is up or woken some other way; -1 an exception."""
    while True:
        why = yield sleep(p, due, ends)
        if why != "work":
            return 0 if why == TIME else -1
        ready = yield from core_drain(p)
        if ready >= 0:
            return ready


def core_drain(p: Proc) -> Steps:
    """-1: the goroutine is not made ready; else what `notified` is."""
    ready = -1
    if (yield p.told.exchange(0)):
        tag = tag_of((yield p.waiter.load()))
        late = tag == Tag.IDLE or (tag == Tag.WAITING and not (yield p.rethink.exchange(0)))
        if not late:
            ready = 1
    if (yield p.rescan.load()):
        yield p.rescan.store(0)
        tag = tag_of((yield p.waiter.load()))
        if tag not in (Tag.IDLE, Tag.WAITING) and ready < 0:
            ready = 0
    return ready


def earliest_due(cases: tuple[Case, ...]) -> Steps:
    due = 0
    for i in range(len(cases)):
        if cases[i].kind == "recv" and cases[i].o.timer:
            due = yield cases[i].o.value.load()
    return due


def wait_cases(p: Proc, cases: tuple[Case, ...], ends: frozenset[str] = frozenset()) -> Steps:
    """The position of the case that was done, or -1; what came of it, or how the wait ended; a block.

    With a position and INTERRUPT it was done, and an exception is on its way.
    """
    sudogs = tuple(s.number for s in (p.sudogs[:1] if len(cases) == 1 else p.sudogs[1:]))[: len(cases)]
    again = False
    timed = any(case.o.timer for case in cases) and p.w.keeps("a wait with a timer does not count as told")
    while True:
        chosen, r, block = yield from gp_select(p, cases, sudogs, again)
        if chosen >= 0:
            break
        notified = 0
        while tag_of((yield p.waiter.load())) == Tag.WAITING:
            due = yield from earliest_due(cases)
            notified = yield from park(p, due, ends)
            if notified == 0 and due and (yield p.w.now.load()) >= due:
                chosen = yield from gp_select_due(p, cases)
                if chosen >= 0:
                    break
            elif notified != 1:
                break
        if chosen >= 0:
            r = OK
            yield from abandon_all(p, cases, sudogs)
            break
        if (yield from gp_waiter_cancel(p)):
            yield from abandon_all(p, cases, sudogs)
            r = INTERRUPT if notified < 0 else TIME
            break
        end = yield p.waiter.load()
        k = case_of(end)
        block = yield from gp_case_settled(p, cases[k], sudogs[k], notified == 1 and not timed, notified < 0)
        yield from abandon_all(p, cases, sudogs, k)
        if tag_of(end) == Tag.RETRY:
            again = True
            if notified >= 0:
                continue
            if cases[k].kind == "lock":
                yield from sync_objects.gp_mutex_pass(p, cases[k].o)
            r = INTERRUPT
            break
        r = IS_CLOSED if tag_of(end) == Tag.CLOSED and cases[k].kind in ("send", "recv") else OK
        chosen = k
        if notified < 0 and r == OK:
            yield from sync_objects.gp_case_undo(p, cases[k])
            r = INTERRUPT
        break
    if timed:
        yield p.rethink.store(0)
        yield p.told.store(0)
    state = yield p.waiter.load()
    yield p.waiter.store(waits(epoch_of(state), 0, Tag.IDLE))  # gp_waiter_release
    return chosen, r, block
