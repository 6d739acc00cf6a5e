"""Channels and timers: chan/channel.c and chan/timer.c."""

from __future__ import annotations

from model.explorer import Step, Steps, Violation
from model.queues import (
    BLOCK,
    IS_CLOSED,
    OK,
    close_and_tell,
    gp_fire,
    gp_fire_all,
    gp_tell,
    gp_unlink,
)
from model.world import (
    CHAN,
    CLOSED,
    Object,
    Op,
    Proc,
    Tag,
    World,
    gp_done,
    gp_intent,
    gp_lock,
    gp_unlock,
)

# ---- one step each, under the lock


def gp_own(w: World, block: int, tag: int) -> Steps:
    yield w.blocks[block - 1].tag.store(tag)


def gp_chan_put(p: Proc, c: Object, block: int) -> Steps:
    w = p.w
    if (yield c.flags.load()) & CLOSED:
        return IS_CLOSED
    while True:
        sd = yield c.recvq_first.load()
        if not sd:
            break
        s, receiver = w.sudog(sd), w.owner(sd)
        epoch = yield s.epoch.load()
        yield from gp_intent(p, Op.HANDOFF, c, sd, block, epoch)
        yield s.message.store(block)
        won = yield from gp_fire(w, c, sd, Tag.FIRED, (block, receiver.word))  # COMMIT
        if won:
            yield from gp_own(w, block, receiver.word)
            yield from gp_unlink(w, c, sd)
        yield from close_and_tell(p, sd, won)
        if won:
            return OK
    head = yield c.head.load()
    tail = yield c.tail.load()
    if tail - head >= c.cap:
        return BLOCK
    yield c.slots[tail % c.cap].store(block)
    yield from gp_intent(p, Op.BUFPUT, c, 0, block, tail)
    if w.keeps("a put is committed before its block is the channel's"):
        yield c.tail.store(tail + 1)  # COMMIT
        yield from gp_own(w, block, CHAN + c.number)
    else:
        yield from gp_own(w, block, CHAN + c.number)
        yield c.tail.store(tail + 1)
    yield from gp_done(p)
    return OK


def promote(p: Proc, c: Object) -> Steps:
    """After a receive made room."""
    w = p.w
    while True:
        sd = yield from first_sender(c)
        if not sd:
            return
        tail = yield c.tail.load()
        if tail - (yield c.head.load()) >= c.cap:
            return
        s = w.sudog(sd)
        block = yield s.message.load()
        yield c.slots[tail % c.cap].store(block)
        epoch = yield s.epoch.load()
        yield from gp_intent(p, Op.PROMOTE, c, sd, block, epoch, tail)
        won = yield from gp_fire(w, c, sd, Tag.FIRED)  # COMMIT
        if won:
            yield c.tail.store(tail + 1)
            yield from gp_own(w, block, CHAN + c.number)
            yield from gp_unlink(w, c, sd)
        yield from close_and_tell(p, sd, won)


def first_sender(c: Object) -> Steps:
    if (yield c.flags.load()) & CLOSED:
        return 0
    return (yield c.sendq_first.load())


def gp_chan_take(p: Proc, c: Object) -> Steps:
    w = p.w
    if c.timer:
        return (yield from gp_timer_take(p, c)), 0
    head = yield c.head.load()
    if head != (yield c.tail.load()):
        block = yield c.slots[head % c.cap].load()
        yield from gp_intent(p, Op.BUFGET, c, 0, block, head)
        yield store_and_hand(w, c, head + 1, block, p.word)  # COMMIT
        yield from gp_own(w, block, p.word)
        yield from gp_done(p)
        yield from promote(p, c)
        return OK, block
    while True:
        sd = yield from first_sender(c)
        if not sd:
            break
        s = w.sudog(sd)
        block = yield s.message.load()
        epoch = yield s.epoch.load()
        yield from gp_intent(p, Op.TAKE, c, sd, block, epoch)
        won = yield from gp_fire(w, c, sd, Tag.FIRED, (block, p.word))  # COMMIT
        if won:
            yield from gp_own(w, block, p.word)
            yield from gp_unlink(w, c, sd)
        yield from close_and_tell(p, sd, won)
        if won:
            return OK, block
    return (IS_CLOSED if (yield c.flags.load()) & CLOSED else BLOCK), 0


def store_and_hand(w: World, c: Object, head: int, block: int, word: int) -> Step:
    """The store of `head`; the model writes down who has the block from then on."""
    to, step = w.blocks[block - 1].to.at, c.head.store(head)

    def run(s: bytearray, me: int) -> None:
        step.run(s, me)
        s[to] = word

    return Step(step.text, run, private=step.private)


# ---- operations


def gp_chan_close(p: Proc, c: Object) -> Steps:
    yield from gp_lock(p, c)
    flags = yield c.flags.load()
    if not flags & CLOSED:
        yield c.flags.store(flags | CLOSED)  # COMMIT
        yield from gp_fire_all(p, c, Tag.CLOSED)
    yield from gp_unlock(p, c)


# ---- a look without the lock


def gp_chan_seems_empty(w: World, c: Object) -> Steps:
    head = yield c.head.load()
    early = w.keeps("the queue is read between the ends of the buffer")
    waits = (yield c.sendq_first.load()) if early else 0
    tail = yield c.tail.load()
    if not early:
        waits = yield c.sendq_first.load()
    return not waits and head == tail


def has_two(c: Object) -> Step:
    """Go on when there are two messages: in the buffer, which has one place, and at a sender that waits."""
    tail, waits = c.tail.at, c.sendq_first.at

    def ready(s: bytes) -> bool:
        return s[tail] == 2 or (s[tail] == 1 and s[waits] != 0)

    return Step(f"{c.name} has two messages", lambda s, me: None, ready=ready)


def poll(p: Proc, c: Object) -> Steps:
    """Look for one of two messages, of which another process takes one at most."""
    yield has_two(c)
    if (yield from gp_chan_seems_empty(p.w, c)):
        raise Violation(f"{c.name} has a message, and {p.name} sees none")


# ---- timer.c


def gp_timer_take(p: Proc, c: Object) -> Steps:
    due = yield c.value.load()
    if not due or (yield p.w.now.load()) < due:
        return BLOCK
    yield c.value.store(0)  # COMMIT
    return OK


def tell_all(w: World, c: Object) -> Steps:
    """Those who wait go on waiting, and learn that the time is another."""
    sd = yield c.recvq_first.load()
    while sd:
        after = yield w.sudog(sd).next.load()
        yield w.owner(sd).rethink.store(1)
        yield from gp_tell(w, sd)
        sd = after


def gp_timer_set(p: Proc, c: Object, due: int) -> Steps:
    w = p.w
    yield from gp_lock(p, c)
    yield c.value.store(due)  # COMMIT
    yield from tell_all(w, c)
    yield from gp_unlock(p, c)


def clock(w: World, ticks: int) -> Steps:
    for now in range(1, ticks + 1):
        yield w.now.store(now)
