"""The coroner: the steps of proc/repair.h for objects that one waits for (repair_locks.c, repair_queues.c, repair_heap.c)."""

from __future__ import annotations

from model import contexts, promises, sync_objects, tasks
from model.channels import gp_own, tell_all
from model.explorer import Step, Steps
from model.memory import note
from model.queues import gp_fire, gp_tell, gp_unlink
from model.world import (
    CHAN,
    CLOSED,
    DEAD,
    FREE,
    GONE,
    LIVE,
    Object,
    Op,
    Proc,
    Sudog,
    Tag,
    World,
    case_of,
    epoch_of,
    tag_of,
    waits,
)

# ---- firing


def fire_all(w: World, o: Object, tag: Tag) -> Steps:
    while True:
        sd = yield o.recvq_first.load()
        if not sd:
            sd = yield o.sendq_first.load()
        if not sd:
            return
        yield from sync_objects.fire(w, o, sd, tag)


# ---- queues


def rebuild(w: World, o: Object, send: int) -> Steps:
    before = 0
    sd = yield o.first(send).load()
    while sd:
        yield w.sudog(sd).prev.store(before)
        yield w.sudog(sd).linked.store(1)
        before = sd
        sd = yield w.sudog(sd).next.load()
    yield o.last(send).store(before)


def gp_repair_linked(w: World, o: Object, sd: int) -> Steps:
    s = w.sudog(sd)
    before = yield s.prev.peek()
    if (yield o.recvq_first.load()) == sd or (yield o.sendq_first.load()) == sd:
        return True
    if not before:
        return False
    other = w.sudog(before)
    number = yield s.object.load()
    if (yield other.object.load()) != number or not (yield other.linked.peek()):
        return False
    return (yield other.next.peek()) == sd


# ---- what can go on


def promote(w: World, c: Object) -> Steps:
    while True:
        sd = yield c.sendq_first.load()
        if not sd:
            return
        tail = yield c.tail.load()
        if tail - (yield c.head.load()) >= c.cap:
            return
        s = w.sudog(sd)
        block = yield s.message.load()
        yield c.slots[tail % c.cap].store(block)
        if not (yield from gp_fire(w, c, sd, Tag.FIRED)):
            continue
        yield c.tail.store(tail + 1)
        yield from gp_own(w, block, CHAN + c.number)
        yield from gp_unlink(w, c, sd)
        yield from gp_tell(w, sd)


def gp_repair_serve(w: World, o: Object) -> Steps:
    if not w.keeps("a repair makes true what holds at rest"):
        return
    if o.kind in ("channel", "context"):
        if (yield o.flags.load()) & CLOSED:
            yield from fire_all(w, o, Tag.CLOSED)
        elif o.kind == "channel":
            yield from promote(w, o)
    elif o.kind == "timer":
        if w.keeps("a repair tells those who wait for a timer"):
            yield from tell_all(w, o)
    else:
        yield from sync_objects.repair_serve(w, o)


# ---- the journal


def fired(w: World, p: Proc, sd: int) -> Steps:
    s = w.sudog(sd)
    state = yield w.owner(sd).waiter.load()
    epoch = yield p.d.load()
    case = yield s.case.load()
    return (
        epoch_of(state) == epoch
        and case_of(state) == case
        and tag_of(state) in (Tag.FIRED, Tag.CLOSED, Tag.RETRY)
    )


def redo_fired(w: World, p: Proc, o: Object, op: Op, sd: int) -> Steps:
    block = yield p.c.load()
    if op == Op.HANDOFF and w.keeps("redo: a block that was handed off is the receiver's"):
        if block:
            yield from gp_own(w, block, w.owner(sd).word)
    elif op == Op.TAKE and w.keeps("redo: a block that was taken is the dead one's"):
        if block:
            yield from gp_own(w, block, p.word)
    elif op == Op.PROMOTE:
        tail = yield p.e.load()
        if w.keeps("redo: the tail goes on when a sender has moved up"):
            yield o.tail.store(tail + 1)
        if block and w.keeps("redo: a block that moved up is the channel's"):
            yield from gp_own(w, block, CHAN + o.number)
    elif op == Op.GRANT:
        yield from sync_objects.redo_grant(w, p, o, sd)
    if w.keeps("redo: who was fired leaves the queue") and (yield from gp_repair_linked(w, o, sd)):
        yield from gp_unlink(w, o, sd)


def redo(w: World, p: Proc, o: Object) -> Steps:
    op = Op((yield p.op.load()))
    block = yield p.c.load()
    count = yield p.d.load()
    if op == Op.BUFPUT:
        if (
            (yield o.tail.load()) == count + 1
            and block
            and w.keeps("redo: a block that was put is the channel's")
        ):
            yield from gp_own(w, block, CHAN + o.number)
    elif op == Op.BUFGET:
        if (
            (yield o.head.load()) == count + 1
            and block
            and w.keeps("redo: a block that was got is the dead one's")
        ):
            yield from gp_own(w, block, p.word)
    elif op in (Op.TRACK, Op.OUTCOME):
        yield from tasks.redo(w, p, o, op)
    elif op != Op.NONE:
        sd = yield p.b.load()
        if not sd:
            return
        won = yield from fired(w, p, sd)
        if won:
            yield from redo_fired(w, p, o, op, sd)
        if w.keeps("redo: who is in no queue is not linked") and not (yield from gp_repair_linked(w, o, sd)):
            yield w.sudog(sd).linked.store(0)
        if won:
            yield from gp_tell(w, sd)


# ---- the steps


def make_sound(w: World, p: Proc, o: Object) -> Steps:
    if o.kind == "queue":
        if w.keeps("a repair restores the ring"):
            yield from tasks.restore_ring(w, o)
        return
    if w.keeps("a repair rebuilds the queues"):
        yield from rebuild(w, o, 0)
        yield from rebuild(w, o, 1)
    if (yield p.a.load()) == o.number and w.keeps("a repair redoes what was committed"):
        yield from redo(w, p, o)
    yield from sync_objects.follow_shares(w, o)
    yield from gp_repair_serve(w, o)


def gp_repair_locks(w: World, p: Proc) -> Steps:
    n = yield p.nlocks.load()
    for i in range(n - 1, -1, -1):
        number = yield p.locks[i].load()
        if not number:
            continue
        o = w.objects[number - 1]
        if (yield o.lock.load()) == p.word and o.kind == "tree":
            yield o.lock.store(w.coroner + 1)  # its repair takes other locks: it is for a later step
        elif (yield o.lock.load()) == p.word:
            yield from make_sound(w, p, o)
            yield o.lock.store(0)
    places = (p.op.at, p.a.at, p.b.at, p.c.at, p.d.at, p.e.at, p.nlocks.at, *(lock.at for lock in p.locks))

    def run(s: bytearray) -> None:
        for at in places:
            s[at] = 0

    yield note(f"the journal of {p.name} is emptied", run)


def gp_repair_ring(w: World, dead: Proc) -> Steps:
    if not w.keeps("all look at their waiters after a death"):
        return
    for i in range(len(w.procs)):
        if w.procs[i] is not dead:
            yield w.procs[i].rescan.store(1)


def notice_deaths(w: World) -> Steps:
    """Step 1 for every process that has died by now."""
    for i in range(len(w.procs)):
        p = w.procs[i]
        if (yield p.dead.load()) and not (yield w.noted[i].load()):
            yield w.noted[i].store(1)
            yield p.state.store(DEAD)
            yield from gp_repair_locks(w, p)
            yield from gp_repair_ring(w, p)


def unnoted(w: World, s: bytes) -> bool:
    return any(s[p.dead.at] and not s[w.noted[p.index].at] for p in w.procs)


def gp_repair_lock(w: World, o: Object) -> Steps:
    """Rule R1: while it waits it looks for further deaths."""
    at = o.lock.at

    def run(s: bytearray, me: int) -> bool:
        if s[at]:
            return False
        s[at] = me + 1
        return True

    def ready(s: bytes) -> bool:
        return not s[at] or (w.keeps("R1: step 1 of all deaths comes before any wait") and unnoted(w, s))

    while not (yield Step(f"lock {o.name}", run, ready)):
        yield from notice_deaths(w)


def end_waiter(w: World, p: Proc) -> Steps:
    state = yield p.waiter.load()
    if tag_of(state) == Tag.WAITING:
        yield p.waiter.cas(state, waits(epoch_of(state), 0, Tag.DEAD))


def signal_is_lost(w: World, s: Sudog) -> Steps:
    """It was signalled, and has not gone on: another one is to."""
    state = yield w.procs[s.proc].waiter.load()
    epoch = yield s.epoch.load()
    case = yield s.case.load()
    return state == waits(epoch, case, Tag.FIRED) and w.keeps(
        "a signal that the dead one has got goes to another"
    )


def leave(w: World, sd: int) -> Steps:
    s = w.sudog(sd)
    number = yield s.object.load()
    if not number:
        return
    o = w.objects[number - 1]
    yield from gp_repair_lock(w, o)
    if (yield from gp_repair_linked(w, o, sd)):
        yield from gp_unlink(w, o, sd)
    elif o.kind == "cond" and (yield from signal_is_lost(w, s)):
        somebody = yield from sync_objects.fire_first(w, o, Tag.FIRED)
        yield o.inside.add(0 if somebody else -1)  # for the checks
    yield from gp_repair_serve(w, o)
    yield o.lock.store(0)
    yield s.object.store(0)


def gp_repair_queues(w: World, p: Proc) -> Steps:
    yield from end_waiter(w, p)
    for i in range(len(p.sudogs)):
        yield from leave(w, p.sudogs[i].number)


def gp_repair_heap(w: World, p: Proc) -> Steps:
    for i in range(len(w.blocks)):
        if (yield w.blocks[i].tag.load()) == p.word:
            yield w.blocks[i].tag.store(FREE)
    yield from tasks.gp_repair_heap(w, p)
    yield from promises.break_promises(w, p, gp_repair_lock)
    for i in range(len(w.objects)):
        yield from sync_objects.take_back(w, p, w.objects[i], gp_repair_lock)


def coroner(w: World) -> Steps:
    """coroner.c, verdict.c: step 1 of whoever has died, then the other steps, one process after the other."""
    places = tuple((p.dead.at, w.repaired[p.index].at) for p in w.procs)

    def any_left(s: bytes) -> bool:
        return any(s[dead] and not s[done] for dead, done in places)

    while True:
        yield Step("a process has died", lambda s, me: None, ready=any_left)
        yield from notice_deaths(w)
        for i in range(len(w.procs)):
            if not (yield w.noted[i].load()) or (yield w.repaired[i].load()):
                continue
            p = w.procs[i]
            if not w.replaces:
                yield p.state.store(GONE)
            if w.keeps("blocks of the dead are freed after its queues"):
                yield from gp_repair_queues(w, p)
                yield from contexts.gp_repair_tree(w, gp_repair_lock)
                yield from tasks.gp_repair_tasks(w, p, gp_repair_lock)
                yield from contexts.tell_node(w, p, gp_repair_lock)
                yield from gp_repair_heap(w, p)
            else:
                yield from gp_repair_heap(w, p)
                yield from gp_repair_queues(w, p)
            yield p.incarnation.store(1)
            yield p.state.store(LIVE if w.replaces else GONE)
            yield from gp_repair_ring(w, p)
            yield w.repaired[i].store(1)
