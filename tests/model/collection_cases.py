"""Handles in messages, outcomes and the collector: who does what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from model.collection import (
    CHAN,
    FREE,
    SHARED,
    Heap,
    M,
    Thing,
    coroner,
    discard,
    drop_failed,
    gp_collect,
    gp_object_free,
    hold,
    lock,
    make,
    receive,
    send,
)
from model.configurations import register
from model.explorer import Explorer, Process, Step, Steps, Violation
from model.memory import note

Doing = Callable[[Heap, int], Steps]


def body(h: Heap, me: int, doing: Doing) -> Steps:
    yield from doing(h, me)
    yield note(f"{h.names[me]} is done", lambda s: over(s, h, me))


def over(s: bytearray, h: Heap, me: int) -> None:
    s[h.over[me].at] = 1


def at_last(h: Heap, me: int, failed: bool) -> Steps:
    """When all are done, or dead and repaired, somebody collects: then nothing that cannot be reached is left.

    A goroutine that has failed is not left to that collection.
    """
    places = tuple((a.at, b.at) for a, b in zip(h.over, h.repaired, strict=True))

    def run(s: bytearray, _: int) -> None:
        if failed and s[h.things[0].kind.at] and not h.reachable(s, h.things[0]):
            raise Violation(f"{h.things[0].name} has failed, and nobody reports that")

    yield Step("all are done", run, ready=lambda s: all(s[a] or s[b] for a, b in places))
    yield from gp_collect(h, me)


def check(h: Heap, s: bytes, waiting: frozenset[str]) -> None:
    if s[h.collecting.at]:
        raise Violation("nobody can collect any more")
    for thing in h.things:
        freed = s[thing.tag.at] == FREE and not s[thing.kind.at]
        if not freed and not h.reachable(s, thing):
            raise Violation(f"{thing.name} leaks")
        if s[thing.gen.at] and not freed:
            raise Violation(f"{thing.name} is half freed")
    for block in h.blocks:
        if FREE < s[block.tag.at] <= CHAN:
            raise Violation(f"{block.name} leaks: its tag is {s[block.tag.at]}")


def on_heap(
    name: str,
    held_by: dict[str, int],
    blocks: int,
    doings: list[Doing],
    kills: int,
    mortal: str = "ABC",
    failed: bool = False,
) -> None:
    def explorer(faults: frozenset[str]) -> Explorer:
        names = "ABC"[: len(doings)]
        h = Heap(names, held_by, blocks, faults)

        def dies(i: int) -> Callable[[bytearray], None]:
            def run(s: bytearray) -> None:
                s[h.dead[i].at] = 1

            return run

        processes = [
            Process(n, partial(body, h, i, doings[i]), dies(i) if n in mortal else None)
            for i, n in enumerate(names)
        ]
        processes += [
            Process("coroner", partial(coroner, h)),
            Process("last", partial(at_last, h, len(names), failed)),
        ]
        return Explorer(bytes(h.memory.start), processes, kills, partial(check, h))

    register(name, explorer)


def sends(h: Heap, me: int) -> Steps:
    yield from send(h, me, h.things[0], h.blocks[0], M)


def makes(h: Heap, me: int) -> Steps:
    yield from make(h, me, h.things[0])
    yield from send(h, me, h.things[0], h.blocks[0], M)


def receives(h: Heap, me: int) -> Steps:
    yield from receive(h, me, M)


def fills(h: Heap, me: int) -> Steps:
    """Put O into the buffer of P, and P into a message."""
    yield from send(h, me, h.things[1], h.blocks[0], h.things[0].number)
    yield from send(h, me, h.things[0], h.blocks[1], M)


def takes_out(h: Heap, me: int) -> Steps:
    """Receive P, take what is in it, drop P, and go on with that."""
    yield from receive(h, me, M, then=lambda: receive(h, me, h.things[0].number))


def passes_on(h: Heap, me: int) -> Steps:
    """Receive O, and put it into a message that a scan may have passed by."""
    yield from receive(h, me, M, then=lambda: send(h, me, h.things[0], h.blocks[0], M))


def sends_last(h: Heap, me: int) -> Steps:
    yield from send(h, me, h.things[0], h.blocks[1], M)


def sends_failed(h: Heap, me: int) -> Steps:
    """Send a handle of a goroutine that has failed, and drop the handle later."""
    thing, block = h.things[0], h.blocks[0]
    yield thing.flags.set_bits(SHARED)
    yield block.tag.store(me + 1)
    yield block.lists.store(thing.number)
    yield block.tag.store(CHAN + M)
    yield from drop_failed(h, me, thing)


def discards(h: Heap, me: int) -> Steps:
    block = h.blocks[0]
    if (yield block.tag.cas(CHAN + M, me + 1)):
        yield from discard(h, me, block)


def ends(h: Heap, me: int) -> Steps:
    """gp_outcome_set of a goroutine whose outcome is O: an outcome that nobody can read is freed."""
    if not (yield from gp_held(h, h.things[0])):
        yield from gp_object_free(h, me, h.things[0])


def acquires(h: Heap, me: int) -> Steps:
    """Receive a semaphore, take a unit, and drop the handle."""
    thing = h.things[0]
    yield from receive(h, me, M, then=lambda: acquire(thing, me))


def acquire(thing: Thing, me: int) -> Steps:
    yield thing.share.store(me + 1)


def tells_waiters(h: Heap, me: int) -> Steps:
    """gp_outcome_set of a goroutine with many waiters: the lock is let go in between."""
    thing = h.things[0]
    yield lock(thing, me)
    shared = bool((yield thing.flags.load()) & SHARED)
    holds = shared and h.keeps("who lets the lock of an outcome go in between is a holder")
    early = h.keeps("who ends a goroutine is a holder before its outcome is over")
    if holds and early:
        yield from hold(h, me, thing)
    yield thing.over.store(1)  # COMMIT; and all are told, one after the other
    if holds and not early:
        yield from hold(h, me, thing)
    if shared or not h.keeps("the lock of an outcome that is not shared is not let go in between"):
        yield thing.lock.store(0)
        yield lock(thing, me)
    if holds:
        yield thing.holders.clear_bits(1 << me)
    yield unlock(thing)


def unlock(thing: Thing) -> Step:
    lock, gen = thing.lock.at, thing.gen.at

    def run(s: bytearray, _: int) -> None:
        if s[gen]:
            raise Violation(f"{thing.name} is unlocked, and is freed")
        s[lock] = 0

    return Step(f"unlock {thing.name}", run)


def joins(h: Heap, me: int) -> Steps:
    """Wait for the end, and drop the handle: gp_outcome_release if the outcome is not shared."""
    thing = h.things[0]
    over = thing.over.at
    yield Step(f"{thing.name} has ended", lambda s, _: None, ready=lambda s: s[over] != 0)
    if (yield thing.flags.load()) & SHARED:
        yield thing.holders.clear_bits(1 << me)
        return
    yield lock(thing, me)
    yield thing.lock.store(0)
    yield from gp_object_free(h, me, thing)


def joins_and_sends(h: Heap, me: int) -> Steps:
    over = h.things[0].over.at
    yield Step("the goroutine has ended", lambda s, _: None, ready=lambda s: s[over] != 0)
    yield from send(h, me, h.things[0], h.blocks[0], M)


def receives_and_collects(h: Heap, me: int) -> Steps:
    yield from receive(h, me, M)
    yield from gp_collect(h, me)


def joins_and_collects(h: Heap, me: int) -> Steps:
    yield from joins(h, me)
    yield from gp_collect(h, me)


def gp_held(h: Heap, thing: Thing) -> Steps:
    if h.keeps("the holders are read before the flag"):
        return bool((yield thing.holders.load())) or bool((yield thing.flags.load()) & SHARED)
    return bool((yield thing.flags.load()) & SHARED) or bool((yield thing.holders.load()))


on_heap("collector: a handle in a message", {"O": 0b001}, 1, [sends, receives, gp_collect], 1)
on_heap("collector: an outcome whose handle is sent", {"O": 0b001}, 1, [sends, ends, receives], 0)
on_heap("collector: an outcome with waiters", {"O": 0b001}, 0, [joins, tells_waiters], 0)
on_heap(
    "collector: a shared outcome with waiters", {"O": 0b101}, 0, [joins, tells_waiters, joins_and_collects], 0
)
on_heap(
    "collector: an outcome with waiters is sent",
    {"O": 0b001},
    1,
    [joins_and_sends, tells_waiters, receives_and_collects],
    0,
)
on_heap("collector: units of the dead", {"O": 0b001}, 1, [sends, acquires, gp_collect], 1, "B")
on_heap("collector: an unread failure", {"O": 0b001}, 1, [sends_failed, discards, gp_collect], 0, failed=True)
on_heap("collector: an object that is made, 2 die", {"O": 0}, 1, [makes, receives], 2)
on_heap("collector: a handle that is passed on", {"O": 0b001}, 2, [sends_last, passes_on, gp_collect], 1)
on_heap(
    "collector: an object in another's buffer",
    {"P": 0b001, "O": 0b001},
    2,
    [fills, takes_out, gp_collect],
    1,
    "C",
)
