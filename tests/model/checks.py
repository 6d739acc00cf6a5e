"""Conditions that hold at an end of an execution of goroutines, where no goroutine can go on."""

from __future__ import annotations

from model import contexts, promises, tasks
from model.explorer import Violation
from model.sync_objects import is_done
from model.world import CHAN, CLOSED, Block, Object, Proc, Tag, World, tag_of


def check(w: World, s: bytes, waiting_now: frozenset[str]) -> None:
    """Called where nobody can go on: see Explorer."""
    dead = {p.word for p in w.procs if s[p.dead.at]}
    for o in w.objects:
        if s[o.lock.at]:
            raise Violation(f"{o.name} is locked by {w.show_process(s[o.lock.at])}")
        if o.kind not in ("queue", "tree"):
            check_waiters(w, s, o)
    tasks.check(w, s, dead)
    contexts.check(w, s)
    promises.check(w, s)
    for p in w.procs:
        if p.word not in dead and p.name not in w.idlers and p.name in waiting_now:
            check_asleep(w, s, p)
    for b in w.blocks:
        check_block(w, s, b, dead, waiting_now)


def queued(w: World, s: bytes, first: int) -> list[int]:
    found: list[int] = []
    while first and len(found) <= len(w.sudogs):
        found.append(first)
        first = s[w.sudog(first).next.at]
    return found


def check_asleep(w: World, s: bytes, p: Proc) -> None:
    if tag_of(s[p.waiter.at]) != Tag.WAITING:
        raise Violation(f"{p.name} sleeps for ever: its waiter is {tag_of(s[p.waiter.at]).name}")
    for sd in p.sudogs:
        o = s[sd.object.at]
        if (
            o
            and s[sd.linked.at]
            and sd.number not in queued(w, s, s[w.objects[o - 1].first(s[sd.send.at]).at])
        ):
            raise Violation(f"{p.name} is not in the queue of {w.objects[o - 1].name} any more")
    if not any(s[sd.linked.at] for sd in p.sudogs):
        raise Violation(f"{p.name} waits, and is in no queue")


def check_waiters(w: World, s: bytes, o: Object) -> None:
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
            if tag_of(s[p.waiter.at]) != Tag.WAITING:
                raise Violation(
                    f"{p.name} is in a queue of {o.name}, and its waiter is {tag_of(s[p.waiter.at]).name}"
                )
        if s[o.last(send).at] != (queues[send][-1] if queues[send] else 0):
            raise Violation(
                f"the last of a queue of {o.name} is {w.show_sudog(s[o.last(send).at])}, not the last in its chain"
            )
    if o.kind in ("channel", "timer", "context"):
        check_channel(w, s, o, *queues)
    else:
        check_sync(w, s, o, *queues)


def check_sync(w: World, s: bytes, o: Object, queue: list[int], writers: list[int]) -> None:
    if o.kind in ("group", "outcome"):
        if queue and is_done(o, s[o.value.at]):
            raise Violation(f"{w.owner(queue[0]).name} waits for {o.name}, which is done")
        return
    if o.kind == "semaphore":
        check_semaphore(w, s, o, queue)
    elif o.kind == "cond":
        if queue and 0 < s[o.inside.at] < 128:
            raise Violation(f"a signal of {o.name} is lost, and {w.owner(queue[0]).name} waits")
    elif o.kind == "rwmutex":
        check_rwmutex(w, s, o, queue, writers)
    elif s[o.value.at] and not s[o.owner.at]:
        raise Violation(f"{o.name} is locked, and has no owner")
    elif queue and (not s[o.value.at] or w.is_dead(s, s[o.owner.at])):
        raise Violation(f"{w.owner(queue[0]).name} waits for {o.name}, and nobody alive has it")


def check_rwmutex(w: World, s: bytes, o: Object, readers: list[int], writers: list[int]) -> None:
    value, shares = s[o.value.at], [s[share.at] for share in o.shares]
    read = [int(s[p.units.at] == 1 and not s[p.dead.at]) for p in w.procs]
    if shares != read or (value != 255 and value != sum(read)):
        raise Violation(
            f"{value} have {o.name} at the end, the shares are {shares}, and it is read by {read}"
        )
    free = not value or (value == 255 and w.is_dead(s, s[o.owner.at]))
    if value == 255 and not free:
        raise Violation(f"{o.name} is locked at the end")
    if free and (readers or writers):
        raise Violation(
            f"{w.owner((readers or writers)[0]).name} waits for {o.name}, and nobody alive has it"
        )
    if readers and not writers:
        raise Violation(f"{w.owner(readers[0]).name} waits to read with {o.name}, and others do")


def check_semaphore(w: World, s: bytes, o: Object, queue: list[int]) -> None:
    free, shares = s[o.value.at], [s[share.at] for share in o.shares]
    has = [0 if s[p.dead.at] else s[p.units.at] for p in w.procs]
    if shares != has or free != o.size - sum(has):
        raise Violation(
            f"{free} of {o.size} units of {o.name} are free, processes have {has}, and the shares are {shares}"
        )
    if queue and s[w.sudog(queue[0]).n.at] <= free:
        raise Violation(f"{w.owner(queue[0]).name} waits for units of {o.name} that are free")


def check_channel(w: World, s: bytes, c: Object, receivers: list[int], senders: list[int]) -> None:
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
        if c.kind == "channel"
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
