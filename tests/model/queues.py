"""Queues of waiters, and who is told: chan/queue.c, and what of chan/tell.c decides over a wait.

An inbox is one bit here, and who has set it has woken its process: doorbell.py has the levels of the inbox, and the sleep.
"""

from __future__ import annotations

from typing import NamedTuple

from model.explorer import Step, Steps, Violation
from model.world import Object, Op, Proc, Sudog, Tag, World, gp_done, gp_intent, waits

BLOCK, OK, IS_CLOSED, OWNER_DIED = "block", "ok", "closed", "owner died"  # enum gp_result
TIME, INTERRUPT = "time", "interrupt"  # how a wait may end that nobody has fired


class Case(NamedTuple):
    """struct gp_case: one operation on one object. `block` is the message of a send; `n` units of a semaphore."""

    kind: str  # "send", "recv", "lock", "rlock", "acquire", "signal", "done"
    o: Object
    block: int = 0
    n: int = 0


def gp_enqueue(p: Proc, o: Object, sd: int, send: int) -> Steps:
    s = p.w.sudog(sd)
    yield not_linked(s)
    tail = yield o.last(send).load()
    yield s.next.store(0)
    yield s.prev.store(tail)
    yield s.send.store(send)
    yield s.linked.store(1)
    yield (p.w.sudog(tail).next if tail else o.first(send)).store(sd)  # COMMIT
    yield o.last(send).store(sd)


def not_linked(s: Sudog) -> Step:
    """The GP_ASSERT of gp_enqueue."""

    def run(m: bytearray, me: int) -> None:
        if m[s.linked.at]:
            raise Violation("a sudog is to be queued that is linked already")

    return Step("it is not linked", run, private=True, pure=True)


def gp_enqueue_first(p: Proc, o: Object, sd: int) -> Steps:
    s = p.w.sudog(sd)
    yield not_linked(s)
    after = yield o.recvq_first.load()
    yield s.next.store(after)
    yield s.prev.store(0)
    yield s.send.store(0)
    yield s.linked.store(1)
    yield o.recvq_first.store(sd)  # COMMIT
    yield (p.w.sudog(after).prev if after else o.recvq_last).store(sd)


def gp_unlink(w: World, o: Object, sd: int) -> Steps:
    s = w.sudog(sd)
    if not (yield s.linked.load()):
        return
    send = yield s.send.load()
    after = yield s.next.load()
    before = yield s.prev.load()
    yield (w.sudog(before).next if before else o.first(send)).store(after)  # COMMIT
    yield (w.sudog(after).prev if after else o.last(send)).store(before)
    yield s.linked.store(0)


def gp_fire(w: World, o: Object, sd: int, tag: Tag, handed: tuple[int, int] = (0, 0)) -> Steps:
    """The one CAS of a waiter. `handed`: for the checks, a block and the process that has it if this wins."""
    won = yield fire_step(w, sd, tag, handed)
    if not won:
        yield from gp_unlink(w, o, sd)
    return won


def fire_step(w: World, sd: int, tag: Tag, handed: tuple[int, int]) -> Step:
    s, p = w.sudog(sd), w.owner(sd)
    state, epoch, case = p.waiter.at, s.epoch.at, s.case.at
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


def gp_tell(w: World, sd: int) -> Steps:
    yield w.owner(sd).told.store(1)


def gp_add_share(w: World, o: Object, sd: int) -> Steps:
    """A granted reader lock, or units, belong to the waiter's process."""
    s = w.sudog(sd)
    if o.kind == "semaphore":
        n = yield s.n.load()
        yield o.shares[s.proc].add(n)
    elif o.kind == "rwmutex" and not (yield s.send.load()):
        yield o.shares[s.proc].add(1)


def gp_grant(p: Proc, o: Object, sd: int, value: int) -> Steps:
    w = p.w
    epoch = yield w.sudog(sd).epoch.load()
    yield from gp_intent(p, Op.GRANT, o, sd, 0, epoch, value)
    won = yield from gp_fire(w, o, sd, Tag.FIRED)  # COMMIT
    if won:
        yield from gp_add_share(w, o, sd)
        yield o.value.store(value)
        if o.kind != "semaphore":
            yield o.owner.store(w.owner(sd).word)
        yield from gp_unlink(w, o, sd)
    yield from gp_done(p)
    if won:
        yield from gp_tell(w, sd)
    return won


def gp_fire_all(p: Proc, o: Object, tag: Tag) -> Steps:
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


def close_and_tell(p: Proc, sd: int, won: bool) -> Steps:
    """Rule O1: the journal is closed before the peer can move on."""
    if p.w.keeps("O1: the journal is closed before the peer is told"):
        yield from gp_done(p)
        if won:
            yield from gp_tell(p.w, sd)
    else:
        if won:
            yield from gp_tell(p.w, sd)
        yield from gp_done(p)
