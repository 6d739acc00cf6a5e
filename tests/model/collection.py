"""Handles in messages and the collector: python/handles.c, proc/collector.c, the part of proc/repair_heap.c about objects.

M is a channel that lives as long as all. What goes through a channel is one block here, and to put or take it is one step:
channels.py has the rest. A block lists at most one object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from model.configurations import register
from model.explorer import Explorer, Process, Step, Steps, Violation
from model.memory import Memory, note

FREE, CHAN = 0, 64  # tags: else the number of a process, or CHAN + the number of an object
SHARED = 1  # GP_OBJ_SHARED
M = 63  # the number of the channel M


class Thing:
    """struct gp_object: a channel to which handles refer. `gen` is 0 while the object of the configuration lives.

    One that nobody holds at the start is made by a process.
    """

    def __init__(self, memory: Memory, number: int, name: str, held_by: int) -> None:
        self.number = number
        self.name = name
        self.tag = memory.cell(f"{name}.tag", int(held_by > 0))
        self.gen = memory.cell(f"{name}.gen")
        self.kind = memory.cell(f"{name}.kind", int(held_by > 0))
        self.flags = memory.cell(f"{name}.flags", SHARED if held_by.bit_count() > 1 else 0)
        self.holders = memory.cell(f"{name}.holders", held_by, show=bin)
        self.version = memory.cell(f"{name}.holders_version")
        self.lock = memory.cell(f"{name}.lock")
        self.over = memory.cell(f"{name} has ended")  # the goroutine whose outcome it is


class Message:
    """A block that lists an object, once it is filled."""

    def __init__(self, memory: Memory, number: int) -> None:
        self.name = f"block {number}"
        self.tag = memory.cell(f"{self.name}.tag")
        self.lists = memory.cell(f"{self.name} lists")


class Heap:
    """Objects, blocks, and the collector's lock."""

    def __init__(self, names: str, held_by: dict[str, int], blocks: int, faults: frozenset[str]) -> None:
        self.names = names
        self.faults = faults
        memory = self.memory = Memory()
        self.things = [Thing(memory, i + 1, name, bits) for i, (name, bits) in enumerate(held_by.items())]
        self.blocks = [Message(memory, i + 1) for i in range(blocks)]
        self.collecting = memory.cell("header.collecting")
        self.dead = [memory.cell(f"{name}: is dead, as the kernel knows") for name in names]
        self.repaired = [memory.cell(f"{name} is repaired") for name in names]
        self.over = [memory.cell(f"{name} is done") for name in names]

    def keeps(self, rule: str) -> bool:
        return rule not in self.faults

    def reachable(self, s: bytes | bytearray, thing: Thing) -> bool:
        """Return True if a live process holds it, or a message lists it that somebody has or can take."""
        if any(s[thing.holders.at] >> i & 1 and not s[dead.at] for i, dead in enumerate(self.dead)):
            return True
        for block in self.blocks:
            tag = s[block.tag.at]
            if s[block.lists.at] != thing.number or tag == FREE:
                continue
            if tag <= CHAN or tag == CHAN + M:
                return True
            inside = self.things[tag - CHAN - 1]
            if inside is not thing and s[inside.kind.at] and self.reachable(s, inside):
                return True
        return False


# ---- handles.c


def hold(h: Heap, me: int, thing: Thing) -> Steps:
    yield thing.holders.set_bits(1 << me)
    if h.keeps("a holder raises the version"):
        yield thing.version.add(1)


def make(h: Heap, me: int, thing: Thing) -> Steps:
    """gp_object_alloc and handle_new."""
    yield thing.tag.store(me + 1)
    yield thing.kind.store(1)
    yield from hold(h, me, thing)


def use(h: Heap, me: int, thing: Thing) -> Step:
    def run(s: bytearray, _: int) -> None:
        if s[thing.gen.at] or not s[thing.kind.at]:
            raise Violation(f"{h.names[me]} has a handle of {thing.name}, which is freed")

    return Step(f"use {thing.name}", run)


def drop(h: Heap, me: int, thing: Thing) -> Steps:
    """handle_dealloc."""
    if (yield thing.flags.load()) & SHARED:
        yield thing.holders.clear_bits(1 << me)
    else:
        yield from gp_object_free(h, me, thing)


def send(h: Heap, me: int, thing: Thing, block: Message, channel: int) -> Steps:
    """Make a message that lists the object, and put it into a channel."""
    if h.keeps("an object in a message is the collector's"):
        yield thing.flags.set_bits(SHARED)
    yield block.tag.store(me + 1)
    early = not h.keeps("a sender holds an object until its message is complete")
    if early:
        yield from drop(h, me, thing)
    yield block.lists.store(thing.number)
    yield block.tag.store(CHAN + channel)
    if not early:
        yield from drop(h, me, thing)


def receive(h: Heap, me: int, channel: int, then: Callable[[], Steps] | None = None) -> Steps:
    """Take a message from a channel, make a handle of what it lists, use it, and drop it, unless `then` has sent it on."""
    places = tuple((i, block.tag.at) for i, block in enumerate(h.blocks))

    def options(s: bytes) -> list[int]:
        return [i for i, at in places if s[at] == CHAN + channel] or [-1]

    def run(s: bytearray, _: int, i: int) -> int:
        if i >= 0:
            s[places[i][1]] = me + 1
        return i

    i = yield Step("take a message", run, options=options)
    if i < 0:
        return
    thing = h.things[(yield h.blocks[i].lists.load()) - 1]
    yield use(h, me, thing)
    if h.keeps("a receiver holds an object before it frees the message"):
        yield from hold(h, me, thing)
        yield from free_block(h.blocks[i])
    else:
        yield from free_block(h.blocks[i])
        yield from hold(h, me, thing)
    yield use(h, me, thing)
    if then is not None:
        yield from then()
    if (yield thing.holders.load()) >> me & 1:
        yield from drop(h, me, thing)


def discard(h: Heap, me: int, block: Message) -> Steps:
    """gp_message_drop of a message that lists a failed goroutine, and what follows."""
    thing = h.things[(yield block.lists.load()) - 1]
    if h.keeps("a message lists nothing when its handles are looked at"):
        yield block.lists.store(0)
    garbage = not (yield thing.holders.load())
    yield from free_block(block)
    if garbage:
        yield from gp_collect(h, me, wait=True)


def drop_failed(h: Heap, me: int, thing: Thing) -> Steps:
    """handle_dealloc of a goroutine that has failed, unread."""
    yield thing.holders.clear_bits(1 << me)
    if not (yield thing.holders.load()):
        yield from gp_collect(h, me, wait=True)


def free_block(block: Message) -> Steps:
    tag, lists = block.tag.at, block.lists.at

    def run(s: bytearray, _: int) -> None:
        s[tag] = s[lists] = 0

    yield Step(f"free {block.name}", run)


def gp_object_free(h: Heap, me: int, thing: Thing) -> Steps:
    def check(s: bytearray, _: int) -> None:
        if h.reachable(s, thing) and not s[thing.holders.at] == 1 << me:
            raise Violation(f"{(*h.names, 'last')[me]} frees {thing.name}, and there is a way to it")
        s[thing.holders.at] = 0

    yield Step(f"free {thing.name}", check)
    if h.keeps("who frees an object owns it"):
        yield thing.tag.store(me + 1)
    yield thing.gen.store(1)
    yield thing.kind.store(0)
    yield thing.flags.store(0)
    yield thing.tag.store(FREE)


# ---- collector.c


def gp_collect(h: Heap, me: int, wait: bool = False) -> Steps:
    if wait and h.keeps("who comes upon an unread failure waits for the collector's lock"):
        yield wait_for(h, me)
    elif not (yield h.collecting.cas(0, me + 1)):
        return
    candidates = yield from find_candidates(h)
    lives, edges = yield from mark(h, candidates)
    for i in range(len(candidates)):
        if not (yield from unchanged(h, candidates[i])):
            lives = lives | {candidates[i][0]}
    lives = follow(lives, edges) if h.keeps("what is in an object that lives, lives") else lives
    for i in range(len(candidates) - 1, -1, -1):
        thing = h.things[candidates[i][0] - 1]
        if thing.number not in lives and (yield from unchanged(h, candidates[i])):
            if h.keeps("the collector waits for the lock of an outcome"):
                yield lock_once(thing)
            yield from gp_chan_drop(h, thing)
            yield from gp_object_free(h, me, thing)
    yield h.collecting.store(0)


def wait_for(h: Heap, me: int) -> Step:
    at = h.collecting.at

    def run(s: bytearray, _: int) -> None:
        s[at] = me + 1

    return Step("wait for the collector's lock, and take it", run, ready=lambda s: not s[at])


def find_candidates(h: Heap) -> Steps:
    """Numbers of objects without a holder, with their versions."""
    found: tuple[tuple[int, int], ...] = ()
    for i in range(len(h.things)):
        thing = h.things[i]
        if not (yield thing.kind.load()):
            continue
        early = h.keeps("the version is read before the holders")
        version = (yield thing.version.load()) if early else 0
        if not (yield thing.flags.load()) & SHARED or (yield thing.holders.load()):
            continue
        if not early:
            version = yield thing.version.load()
        found = (*found, (thing.number, version))
    return found


def mark(h: Heap, candidates: tuple[tuple[int, int], ...]) -> Steps:
    """Those that a block lists which is in no candidate; and (candidate, what is in it)."""
    numbers = tuple(number for number, _ in candidates)
    lives: frozenset[int] = frozenset()
    edges: tuple[tuple[int, int], ...] = ()
    for i in range(len(h.blocks)):
        tag = yield h.blocks[i].tag.load()
        to = yield h.blocks[i].lists.load()
        if not tag or to not in numbers:
            continue
        if tag - CHAN in numbers:
            edges = (*edges, (tag - CHAN, to))
        else:
            lives = lives | {to}
    return lives, edges


def unchanged(h: Heap, candidate: tuple[int, int]) -> Steps:
    thing = h.things[candidate[0] - 1]
    if not h.keeps("the collector looks twice"):
        return True
    return not (yield thing.holders.load()) and (yield thing.version.load()) == candidate[1]


def follow(lives: frozenset[int], edges: tuple[tuple[int, int], ...]) -> frozenset[int]:
    for _ in edges:
        lives = lives | {to for a, to in edges if a in lives}
    return lives


def gp_chan_drop(h: Heap, thing: Thing) -> Steps:
    for i in range(len(h.blocks)):
        if (yield h.blocks[i].tag.load()) == CHAN + thing.number:
            yield from free_block(h.blocks[i])


# ---- repair.c, repair_heap.c


def coroner(h: Heap) -> Steps:
    places = tuple((dead.at, done.at) for dead, done in zip(h.dead, h.repaired, strict=True))

    def any_left(s: bytes) -> bool:
        return any(s[dead] and not s[done] for dead, done in places)

    while True:
        yield Step("a process has died", lambda s, _: None, ready=any_left)
        for i in range(len(h.names)):
            if not (yield h.dead[i].load()) or (yield h.repaired[i].load()):
                continue
            if h.keeps("the collector's lock goes with the dead"):
                yield h.collecting.cas(i + 1, 0)
            for k in range(len(h.blocks)):
                if (yield h.blocks[k].tag.load()) == i + 1:
                    yield from free_block(h.blocks[k])
            for k in range(len(h.things)):
                yield from forget_holder(h, i, h.things[k])
            yield h.repaired[i].store(1)


def forget_holder(h: Heap, dead: int, thing: Thing) -> Steps:
    if not (yield thing.kind.load()):
        mine = (yield thing.tag.load()) == dead + 1
        if mine and h.keeps("half an object of the dead is freed"):
            yield from gp_repair_free_object(thing)
        return
    if (yield thing.tag.load()) == dead + 1 and (yield thing.gen.load()):
        yield from gp_repair_free_object(thing)
        return
    held = (yield thing.holders.load()) >> dead & 1
    if held and h.keeps("handles of the dead are forgotten"):
        yield thing.holders.clear_bits(1 << dead)
    alone = (yield thing.tag.load()) == dead + 1 and not (yield thing.flags.load()) & SHARED
    alone = alone and h.keeps("an object that only the dead one knew is the collector's")
    if not (yield thing.holders.load()) and (held or alone):
        yield thing.flags.set_bits(SHARED)


def gp_repair_free_object(thing: Thing) -> Steps:
    yield thing.gen.store(1)
    yield thing.kind.store(0)
    yield thing.flags.store(0)
    yield thing.tag.store(FREE)


# ---- who does what

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


def lock(thing: Thing, me: int) -> Step:
    lock, gen = thing.lock.at, thing.gen.at

    def run(s: bytearray, _: int) -> None:
        if s[gen]:
            raise Violation(f"{thing.name} is locked, and is freed")
        s[lock] = me + 1

    return Step(f"lock {thing.name}", run, ready=lambda s: not s[lock])


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


def lock_once(thing: Thing) -> Step:
    """Wait until nobody has the lock. The coroner releases it for the dead: channels.py has that."""
    at = thing.lock.at
    return Step(f"lock and unlock {thing.name}", lambda s, _: None, ready=lambda s: not s[at])


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
