"""How one waits: chan/queue.c, chan/waiter.c, chan/select.c, and what of chan/tell.c and python/wait.c decides over a wait.

An inbox is one bit here, and who has set it has woken its process: doorbell.py has the levels of the inbox and the sleep. A
wait may end by its time, or by an exception (Goroutine.cancel), whenever the configuration allows that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from model import channels, sync_objects
from model.explorer import Step
from model.world import (
    Object,
    Op,
    Proc,
    Tag,
    case_of,
    epoch_of,
    gp_done,
    gp_intent,
    gp_lock,
    gp_unlock,
    tag_of,
    waits,
)

BLOCK, OK, IS_CLOSED, OWNER_DIED = "block", "ok", "closed", "owner died"  # enum gp_result
TIME, INTERRUPT = "time", "interrupt"  # how a wait may end that nobody has fired


class Case(NamedTuple):
    """struct gp_case: one operation on one object. `block` is the message of a send; `n` units of a semaphore."""

    kind: str  # "send", "recv", "lock", "acquire", "done"
    o: Object
    block: int = 0
    n: int = 0


# ---- queue.c


def gp_enqueue(p: Proc, o: Object, sd: int, send: int):
    s = p.w.sudog(sd)
    tail = yield o.last(send).load()
    yield s.next.store(0)
    yield s.prev.store(tail)
    yield s.send.store(send)
    yield s.linked.store(1)
    yield (p.w.sudog(tail).next if tail else o.first(send)).store(sd)  # COMMIT
    yield o.last(send).store(sd)


def gp_enqueue_first(p: Proc, o: Object, sd: int):
    s = p.w.sudog(sd)
    after = yield o.recvq_first.load()
    yield s.next.store(after)
    yield s.prev.store(0)
    yield s.send.store(0)
    yield s.linked.store(1)
    yield o.recvq_first.store(sd)  # COMMIT
    yield (p.w.sudog(after).prev if after else o.recvq_last).store(sd)


def gp_unlink(w: Any, o: Object, sd: int):
    s = w.sudog(sd)
    if not (yield s.linked.load()):
        return
    send = yield s.send.load()
    after = yield s.next.load()
    before = yield s.prev.load()
    yield (w.sudog(before).next if before else o.first(send)).store(after)  # COMMIT
    yield (w.sudog(after).prev if after else o.last(send)).store(before)
    yield s.linked.store(0)


def gp_fire(w: Any, o: Object, sd: int, tag: Tag, handed: tuple[int, int] = (0, 0)):
    """The one CAS of a waiter. `handed`: for the checks, a block and the process that has it if this wins."""
    won = yield fire_step(w, sd, tag, handed)
    if not won:
        yield from gp_unlink(w, o, sd)
    return won


def fire_step(w: Any, sd: int, tag: Tag, handed: tuple[int, int]) -> Step:
    s, p = w.sudog(sd), w.owner(sd)
    state, epoch, case = p.state.at, s.epoch.at, s.case.at
    block, to = handed
    note = w.blocks[block - 1].to.at if block else 0

    def run(m: bytearray, me: int) -> bool:
        if m[state] != waits(m[epoch], 0, Tag.WAITING):
            return False
        m[state] = waits(m[epoch], m[case], tag)
        if block:
            m[note] = to
        return True

    return Step(f"waiter of {p.name}: WAITING => {tag.name}, for sudog {w.show_sudog(sd)}?", run)


def gp_tell(w: Any, sd: int):
    yield w.owner(sd).told.store(1)


def gp_grant(p: Proc, o: Object, sd: int, value: int):
    w = p.w
    epoch = yield w.sudog(sd).epoch.load()
    yield from gp_intent(p, Op.GRANT, o, sd, 0, epoch, value)
    won = yield from gp_fire(w, o, sd, Tag.FIRED)  # COMMIT
    if won:
        yield from sync_objects.gp_add_share(w, o, sd)
        yield o.value.store(value)
        if o.kind != "semaphore":
            yield o.owner.store(w.owner(sd).word)
        yield from gp_unlink(w, o, sd)
    yield from gp_done(p)
    if won:
        yield from gp_tell(w, sd)
    return won


def gp_fire_all(p: Proc, o: Object, tag: Tag):
    w = p.w
    while True:
        sd = yield o.recvq_first.load()
        if not sd:
            sd = yield o.sendq_first.load()
        if not sd:
            return
        epoch = yield w.sudog(sd).epoch.load()
        yield from gp_intent(p, Op.FIRE, o, sd, 0, epoch)
        won = yield from gp_fire(w, o, sd, tag)
        if won:
            yield from gp_unlink(w, o, sd)
        yield from close_and_tell(p, sd, won)


def close_and_tell(p: Proc, sd: int, won: bool):
    """Rule O1: the journal is closed before the peer can move on."""
    if p.w.keeps("O1: the journal is closed before the peer is told"):
        yield from gp_done(p)
        if won:
            yield from gp_tell(p.w, sd)
    else:
        if won:
            yield from gp_tell(p.w, sd)
        yield from gp_done(p)


# ---- select.c


def step(p: Proc, case: Case, woken: bool = False):
    """One case, under its object's lock: what came of it, and the block that was received."""
    if case.kind == "send":
        return (yield from channels.gp_chan_put(p, case.o, case.block)), 0
    if case.kind == "recv":
        return (yield from channels.gp_chan_take(p, case.o))
    return (yield from sync_objects.gp_sync_step(p, case, woken)), 0


def queue(p: Proc, case: Case, sd: int, number: int, again: bool):
    s, o = p.w.sudog(sd), case.o
    yield s.object.store(o.number)
    yield s.case.store(number)
    state = yield p.state.load()
    yield s.epoch.store(epoch_of(state))
    if case.n:
        yield s.n.store(case.n)
    if case.kind == "send":
        yield s.message.store(case.block)
    if again and o.kind == "mutex":
        yield from gp_enqueue_first(p, o, sd)
    else:
        yield from gp_enqueue(p, o, sd, int(case.kind == "send"))


def gp_waiter_arm(p: Proc):
    state = yield p.state.load()
    yield p.state.store(waits(epoch_of(state) + 1, 0, Tag.WAITING))


def gp_waiter_cancel(p: Proc):
    seen = yield p.state.load()
    return tag_of(seen) == Tag.WAITING and (yield p.state.cas(seen, waits(epoch_of(seen), 0, Tag.CANCELLED)))


def in_order(cases: tuple[Case, ...]) -> tuple[Object, ...]:
    """Return the distinct objects of some cases, in the order in which their locks are taken."""
    return tuple(sorted({case.o for case in cases}, key=lambda o: o.number))


def gp_select(p: Proc, cases: tuple[Case, ...], sudogs: tuple[int, ...], again: bool):
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


def gp_select_due(p: Proc, cases: tuple[Case, ...]):
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


def is_due(p: Proc, case: Case):
    """gp_case_due, and whether that time has come."""
    if case.kind != "recv" or not case.o.timer:
        return False
    due = yield case.o.value.load()
    return due != 0 and (yield p.w.now.load()) >= due


def gp_case_settled(p: Proc, case: Case, sd: int, told: bool):
    """It was fired: the block that was received. Not told: rule O2."""
    w, s = p.w, p.w.sudog(sd)
    if not told and w.keeps("O2: who was not told takes the lock of the fired case"):
        yield from gp_lock(p, case.o)
        yield from gp_unlock(p, case.o)
        if w.keeps("who was not told takes the bit back"):
            yield p.told.store(0)
    yield s.object.store(0)
    return (yield s.message.load()) if case.kind == "recv" else 0


def gp_case_abandon(p: Proc, case: Case, sd: int):
    s, o = p.w.sudog(sd), case.o
    yield from gp_lock(p, o)
    if (yield s.linked.load()):
        yield from gp_unlink(p.w, o, sd)
        if case.kind in ("lock", "acquire"):
            yield from sync_objects.gp_sync_settle(p, o)
    yield from gp_unlock(p, o)
    yield s.object.store(0)


def abandon_all(p: Proc, cases: tuple[Case, ...], sudogs: tuple[int, ...], but: int = -1):
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


def park(p: Proc, due: int, ends: frozenset[str]):
    """The scheduler's turn: 1 told through the inbox; 0 not, time is up or woken some other way; -1 an exception."""
    while True:
        why = yield sleep(p, due, ends)
        if why != "work":
            return 0 if why == TIME else -1
        ready = yield from core_drain(p)
        if ready >= 0:
            return ready


def core_drain(p: Proc):
    """-1: the goroutine is not made ready; else what `told` is."""
    ready = -1
    if (yield p.told.exchange(0)):
        tag = tag_of((yield p.state.load()))
        late = tag == Tag.IDLE or (tag == Tag.WAITING and not (yield p.rethink.exchange(0)))
        if not late:
            ready = 1
    if (yield p.rescan.load()):
        yield p.rescan.store(0)
        tag = tag_of((yield p.state.load()))
        if tag not in (Tag.IDLE, Tag.WAITING) and ready < 0:
            ready = 0
    return ready


def earliest_due(cases: tuple[Case, ...]):
    due = 0
    for i in range(len(cases)):
        if cases[i].kind == "recv" and cases[i].o.timer:
            due = yield cases[i].o.value.load()
    return due


def wait_cases(p: Proc, cases: tuple[Case, ...], ends: frozenset[str] = frozenset()):
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
        told = 0
        while tag_of((yield p.state.load())) == Tag.WAITING:
            due = yield from earliest_due(cases)
            told = yield from park(p, due, ends)
            if told == 0 and due and (yield p.w.now.load()) >= due:
                chosen = yield from gp_select_due(p, cases)
                if chosen >= 0:
                    break
            elif told != 1:
                break
        if chosen >= 0:
            r = OK
            yield from abandon_all(p, cases, sudogs)
            break
        if (yield from gp_waiter_cancel(p)):
            yield from abandon_all(p, cases, sudogs)
            r = INTERRUPT if told < 0 else TIME
            break
        end = yield p.state.load()
        k = case_of(end)
        block = yield from gp_case_settled(p, cases[k], sudogs[k], told == 1 and not timed)
        yield from abandon_all(p, cases, sudogs, k)
        if tag_of(end) == Tag.RETRY:
            again = True
            if told >= 0:
                continue
            yield from sync_objects.gp_mutex_pass(p, cases[k].o)
            r = INTERRUPT
            break
        r = IS_CLOSED if tag_of(end) == Tag.CLOSED and cases[k].kind in ("send", "recv") else OK
        chosen = k
        if told < 0 and r == OK:
            yield from sync_objects.gp_case_undo(p, cases[k])
            r = INTERRUPT
        break
    if timed:
        yield p.rethink.store(0)
        yield p.told.store(0)
    state = yield p.state.load()
    yield p.state.store(waits(epoch_of(state), 0, Tag.IDLE))  # gp_waiter_release
    return chosen, r, block
