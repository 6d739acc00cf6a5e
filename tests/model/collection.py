"""Handles in messages and the collector: python/handles.c, proc/collector.c, the part of proc/repair_heap.c about objects.

M is a channel that lives as long as all. What goes through a channel is one block here, and to put or take it is one step:
channels.py has the rest. A block lists at most one object.
"""

from __future__ import annotations

from collections.abc import Callable

from model.explorer import Step, Steps, Violation
from model.memory import Memory

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
        self.share = memory.cell(f"{name}.share")  # units of a semaphore that a process has: its number
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


def lock(thing: Thing, me: int) -> Step:
    lock, gen = thing.lock.at, thing.gen.at

    def run(s: bytearray, _: int) -> None:
        if s[gen]:
            raise Violation(f"{thing.name} is locked, and is freed")
        s[lock] = me + 1

    return Step(f"lock {thing.name}", run, ready=lambda s: not s[lock])


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
            yield from gp_chan_drop(h, thing)
            locks = h.keeps("the collector frees an object under its lock")
            if locks:
                yield lock(thing, me)
            yield from gp_object_free(h, me, thing)
            if locks:
                yield thing.lock.store(0)
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
                yield h.things[k].lock.cas(i + 1, 0)
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
    yield from take_back(h, len(h.names) + 1, dead, thing)
    alone = (yield thing.tag.load()) == dead + 1 and not (yield thing.flags.load()) & SHARED
    alone = alone and h.keeps("an object that only the dead one knew is the collector's")
    if not (yield thing.holders.load()) and (held or alone):
        yield thing.flags.set_bits(SHARED)


def take_back(h: Heap, me: int, dead: int, thing: Thing) -> Steps:
    """A unit that the dead one had; the counts are in a block that is freed with the object."""
    if (yield thing.share.load()) != dead + 1:
        return
    at, gen = thing.lock.at, thing.gen.at

    def take(s: bytearray, _: int) -> None:
        s[at] = me + 1

    def run(s: bytearray, _: int) -> None:
        if s[gen]:
            raise Violation(f"the coroner writes to {thing.name}, which is freed")

    yield Step(f"lock {thing.name}", take, ready=lambda s: not s[at])
    again = h.keeps("a repair looks at an object once more under its lock")
    if not again or ((yield thing.kind.load()) and (yield thing.share.load()) == dead + 1):
        yield Step(f"take a unit of {thing.name} back", run)
        yield thing.share.store(0)
    yield thing.lock.store(0)


def gp_repair_free_object(thing: Thing) -> Steps:
    yield thing.gen.store(1)
    yield thing.kind.store(0)
    yield thing.flags.store(0)
    yield thing.tag.store(FREE)
