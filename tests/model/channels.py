"""Channels and timers: chan/channel.c and chan/timer.c, and the programs of goroutines that use them."""

from __future__ import annotations

from typing import NamedTuple

from model import waiting
from model.explorer import Step, Violation
from model.memory import note
from model.waiting import (
    BLOCK,
    INTERRUPT,
    IS_CLOSED,
    OK,
    Case,
    close_and_tell,
    gp_fire,
    gp_fire_all,
    gp_tell,
    gp_unlink,
)
from model.world import (
    CHAN,
    CLOSED,
    FREE,
    Block,
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


def gp_own(w: World, block: int, tag: int):
    yield w.blocks[block - 1].tag.store(tag)


def gp_chan_put(p: Proc, c: Object, block: int):
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


def promote(p: Proc, c: Object):
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


def first_sender(c: Object):
    if (yield c.flags.load()) & CLOSED:
        return 0
    return (yield c.sendq_first.load())


def gp_chan_take(p: Proc, c: Object):
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


def gp_chan_close(p: Proc, c: Object):
    yield from gp_lock(p, c)
    flags = yield c.flags.load()
    if not flags & CLOSED:
        yield c.flags.store(flags | CLOSED)  # COMMIT
        yield from gp_fire_all(p, c, Tag.CLOSED)
    yield from gp_unlock(p, c)


# ---- timer.c


def gp_timer_take(p: Proc, c: Object):
    due = yield c.value.load()
    if not due or (yield p.w.now.load()) < due:
        return BLOCK
    yield c.value.store(0)  # COMMIT
    return OK


def gp_timer_set(p: Proc, c: Object, due: int):
    w = p.w
    yield from gp_lock(p, c)
    yield c.value.store(due)  # COMMIT
    sd = yield c.recvq_first.load()
    while sd:
        after = yield w.sudog(sd).next.load()
        yield w.owner(sd).rethink.store(1)
        yield from gp_tell(w, sd)
        sd = after
    yield from gp_unlock(p, c)


def clock(w: World, ticks: int):
    for now in range(1, ticks + 1):
        yield w.now.store(now)


# ---- programs


class Do(NamedTuple):
    """An operation of a program.

    `cases`: one, or those of a select. `ends`: how the wait may end by itself. `then`: a channel on which the block that
    was received is sent on.
    """

    what: str  # "wait", "close", "set"
    cases: tuple[Case, ...] = ()
    o: Object | None = None
    due: int = 0
    ends: frozenset[str] = frozenset()
    then: Object | None = None


def goroutine(p: Proc, program: tuple[Do, ...]):
    """Run a program, and look after its blocks as Python code would."""
    for i in range(len(program)):
        do = program[i]
        if do.what == "close":
            yield from gp_chan_close(p, do.o)
        elif do.what == "set":
            yield from gp_timer_set(p, do.o, do.due)
        else:
            yield from wait(p, do.cases, do.ends, do.then)


def wait(p: Proc, cases: tuple[Case, ...], ends: frozenset[str], then: Object | None):
    w = p.w
    yield note(f"{p.name} fills its blocks", lambda s: own_all(w, p, cases, s))
    chosen, r, block = yield from waiting.wait_cases(p, cases, ends)
    sent = cases[chosen].block if chosen >= 0 and r in (OK, INTERRUPT) else 0
    if sent and r == OK:
        yield note(f"{p.name} has sent block {sent}", lambda s: put(s, w.blocks[sent - 1].sent, p.word))
    for i in range(len(cases)):
        if cases[i].block and cases[i].block != sent:
            yield from drop(p, w.blocks[cases[i].block - 1])
    if r == IS_CLOSED:
        block = 0  # a sender that died before its COMMIT may have left one
    if block and then is None:
        yield from use(p, w.blocks[block - 1])
    if block and then is not None:
        yield from wait(p, (Case("send", then, block),), frozenset(), None)


def put(s: bytearray, cell: object, value: int) -> None:
    s[cell.at] = value  # type: ignore[attr-defined]


def own_all(w: World, p: Proc, cases: tuple[Case, ...], s: bytearray) -> None:
    for case in cases:
        if case.block:
            s[w.blocks[case.block - 1].tag.at] = p.word


def check_mine(p: Proc, b: Block, s: bytes) -> None:
    if s[b.tag.at] != p.word:
        raise Violation(f"{p.name} has {b.name}, whose tag says {p.w.show_tag(s[b.tag.at])}")


def use(p: Proc, b: Block):
    """The receiver decodes the message and frees its block."""

    def run(s: bytearray, me: int) -> None:
        if s[b.got.at]:
            raise Violation(f"{b.name} comes twice: to {p.w.show_process(s[b.got.at])} and to {p.name}")
        if s[b.kept.at]:
            raise Violation(f"{b.name} comes to {p.name}, and its sender was told that it does not")
        check_mine(p, b, s)
        s[b.got.at] = p.word

    yield Step(f"{p.name} has received {b.name}", run)
    yield b.tag.store(FREE)


def drop(p: Proc, b: Block):
    """The sender still has the block, and frees it."""

    def run(s: bytearray, me: int) -> None:
        check_mine(p, b, s)
        s[b.kept.at] = 1

    yield Step(f"{p.name} drops {b.name}", run)
    yield b.tag.store(FREE)


# ---- what must hold at an end


def check(w: World, s: bytes, waiting_now: frozenset[str]) -> None:
    """Called where nobody can go on: see Explorer."""
    dead = {p.word for p in w.procs if s[p.dead.at]}
    for o in w.objects:
        if s[o.lock.at]:
            raise Violation(f"{o.name} is locked by {w.show_process(s[o.lock.at])}")
        check_waiters(w, s, o)
    for p in w.procs:
        if p.word not in dead and p.name in waiting_now:
            check_asleep(w, s, p)
    for b in w.blocks:
        check_block(w, s, b, dead, waiting_now)


def queued(w: World, s: bytes, first: int) -> list[int]:
    found = []
    while first and len(found) <= len(w.sudogs):
        found.append(first)
        first = s[w.sudog(first).next.at]
    return found


def check_asleep(w: World, s: bytes, p: Proc) -> None:
    from model.world import tag_of

    if tag_of(s[p.state.at]) != Tag.WAITING:
        raise Violation(f"{p.name} sleeps for ever: its waiter is {tag_of(s[p.state.at]).name}")
    if not any(s[sd.linked.at] for sd in p.sudogs):
        raise Violation(f"{p.name} waits, and is in no queue")


def check_waiters(w: World, s: bytes, o: Object) -> None:
    from model.world import tag_of

    queues = [queued(w, s, s[o.first(send).at]) for send in (0, 1)]
    for send in (0, 1):
        for sd in queues[send]:
            p = w.owner(sd)
            if s[p.dead.at]:
                raise Violation(f"{p.name} is dead, and in a queue of {o.name}")
            if (
                not s[w.sudog(sd).linked.at]
                or s[w.sudog(sd).object.at] != o.number
                or s[w.sudog(sd).send.at] != send
            ):
                raise Violation(f"sudog {w.show_sudog(sd)} is in a queue of {o.name}, and says otherwise")
            if tag_of(s[p.state.at]) != Tag.WAITING:
                raise Violation(
                    f"{p.name} is in a queue of {o.name}, and its waiter is {tag_of(s[p.state.at]).name}"
                )
        if s[o.last(send).at] != (queues[send][-1] if queues[send] else 0):
            raise Violation(
                f"the last of a queue of {o.name} is {w.show_sudog(s[o.last(send).at])}, not the last in its chain"
            )
    if o.kind in ("channel", "timer"):
        check_stuck(w, s, o, *queues)


def check_stuck(w: World, s: bytes, c: Object, receivers: list[int], senders: list[int]) -> None:
    used = s[c.tail.at] - s[c.head.at]
    if not 0 <= used <= c.cap:
        raise Violation(f"{c.name} holds {used} messages of {c.cap}")
    if receivers and used:
        raise Violation(f"{w.owner(receivers[0]).name} waits to receive, and {c.name} holds a message")
    if senders and used < c.cap:
        raise Violation(f"{w.owner(senders[0]).name} waits to send, and {c.name} has room")
    if any(w.owner(r) is not w.owner(x) for r in receivers for x in senders):
        raise Violation(f"a sender and a receiver wait for {c.name}")
    if s[c.flags.at] & CLOSED and (receivers or senders):
        raise Violation(f"{c.name} is closed, and somebody waits for it")
    if c.timer and receivers and 0 < s[c.value.at] <= s[w.now.at]:
        raise Violation(f"{w.owner(receivers[0]).name} waits for {c.name}, which is due")


def check_block(w: World, s: bytes, b: Block, dead: set[int], waiting_now: frozenset[str]) -> None:
    tag = s[b.tag.at]
    places = [
        (c, i)
        for c in w.objects
        if c.cap
        for i in range(s[c.head.at], s[c.tail.at])
        if s[c.slots[i % c.cap].at] == b.number
    ]
    if len(places) > 1:
        raise Violation(f"{b.name} is in the buffer twice")
    if places and tag != CHAN + places[0][0].number:
        raise Violation(
            f"{b.name} is in the buffer of {places[0][0].name}, and its tag says {w.show_tag(tag)}"
        )
    if tag > CHAN and not places:
        raise Violation(f"{b.name} leaks: its tag says {w.show_tag(tag)}, which does not hold it")
    if tag in dead:
        raise Violation(f"{b.name} leaks: it belongs to {w.show_process(tag)}, who is dead")
    if 0 < tag < CHAN and w.names[tag - 1] not in waiting_now:
        raise Violation(f"{b.name} leaks: {w.show_process(tag)} has ended and still has it")
    sent, to = s[b.sent.at], s[b.to.at]
    if sent and sent not in dead and not places and not s[b.got.at] and to not in dead:
        raise Violation(f"{b.name} is lost: {w.show_process(sent)} was told that it is sent")
