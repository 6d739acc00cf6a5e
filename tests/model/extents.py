"""Free memory goes back to the system, in whoever's arena it is: mem/heap.c, mem/pages.c, mem/reclaim.c, and restore_pages of
proc/repair_heap.c.

There is one page. O, its owner, hands it out as an extent, or as a page of blocks of which there is one; R gets what it
holds, reads it, and frees it; X takes what is free and gives it to the system, and may die at any step.

Here alone memory is not sequentially consistent: the store with which O allocates a small block may stay in the buffer of O's
processor, while O reads on, until the processor writes it, or a fence has it written. So the rule of the fence can be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from model.configurations import register
from model.explorer import Explorer, Process, Step, Steps, Violation
from model.memory import Memory

# classes of the page; TAKING + what it was: X takes it, or O with BY_OWNER
IDLE, HOLE, INNER, SMALL, EXTENT, TAKING, BY_OWNER = 0, 1, 2, 3, 4, 8, 16
NAMES = ("IDLE", "HOLE", "INNER", "SMALL", "EXTENT")
FREE, OWNED, READ, TAKEN = 0, 1, 2, 3  # tags: O's, R's


class Page:
    """A page, its only block, and what of it is backed with memory."""

    def __init__(self, faults: frozenset[str]) -> None:
        self.faults = faults
        memory = self.memory = Memory()
        self.cls = memory.cell("page.cls", show=lambda n: ("TAKING " if n & TAKING else "") + NAMES[n & 7])
        self.tag = memory.cell("block.tag", show=("FREE", "O", "R", "TAKEN").__getitem__)
        self.buffer = memory.cell("buffer of O's processor")  # 0: empty; else a tag + 1
        self.backed = memory.cell("page is backed", 1)
        self.content = memory.cell("content")
        self.given = memory.cell("R has the extent before, and this page in it")
        self.reclaiming = memory.cell("header.reclaiming")
        self.dead = [memory.cell(f"{name}: is dead, as the kernel knows") for name in "RX"]
        self.repaired = [memory.cell(f"{name} is repaired") for name in "RX"]

    def keeps(self, rule: str) -> bool:
        return rule not in self.faults


# ---- the processor of O


def store_later(w: Page, tag: int) -> Step:
    """A plain store: to the buffer. One store has room in it."""
    buffer = w.buffer.at

    def run(s: bytearray, me: int) -> None:
        s[buffer] = tag + 1

    return Step(f"block.tag = {tag}, in O's buffer", run, ready=lambda s: not s[buffer])


def flushed(w: Page) -> Callable[[bytearray], None]:
    buffer, tag = w.buffer.at, w.tag.at

    def run(s: bytearray) -> None:
        if s[buffer]:
            s[tag] = s[buffer] - 1
            s[buffer] = 0

    return run


def processor(w: Page) -> Steps:
    buffer, flush = w.buffer.at, flushed(w)
    while True:
        yield Step("O's buffer is written", lambda s, me: flush(s), ready=lambda s: s[buffer] != 0)


def barrier(w: Page) -> Step:
    """membarrier: a fence in every process."""
    flush = flushed(w)
    return Step("a fence in all processes", lambda s, me: flush(s))


def fence(w: Page) -> Step:
    flush = flushed(w)
    return Step("O's buffer is empty", lambda s, me: flush(s), private=False)


# ---- the owner


def take_small(w: Page) -> Steps:
    """take() of heap.c: True if the block is O's."""
    if (yield w.cls.load()) != SMALL or (yield w.tag.load()) != FREE:
        return False
    yield store_later(w, OWNED)  # COMMIT of the allocation
    if not w.keeps("who allocates a block looks at its page once more") or (yield w.cls.load()) == SMALL:
        return True
    yield fence(w)
    yield w.tag.store(FREE)
    return False


def claim(w: Page) -> Steps:
    """gp_pages_reuse: a free page becomes INNER, with memory. False: X is taking it, so O would wait."""
    cls = yield w.cls.load()
    if cls == IDLE and not (yield w.cls.cas(IDLE, INNER)):
        return False
    if cls == HOLE:
        if w.keeps("a hole gets memory before it is used"):
            yield w.backed.store(1)
        yield w.cls.store(INNER)
    return cls in (IDLE, HOLE)


def extent(w: Page) -> Steps:
    if w.keeps("an extent has its owner before it is one"):
        yield w.tag.store(OWNED)
        yield w.cls.store(EXTENT)
    else:
        yield w.cls.store(EXTENT)
        yield w.tag.store(OWNED)


def gp_extent_take(w: Page, taking: int) -> Steps:
    if (yield w.cls.load()) != EXTENT or (yield w.tag.load()) != FREE:
        return False
    if not w.keeps("a free extent is claimed by its class, not by its tag"):
        return (yield from take_by_tag(w, taking))
    if not (yield w.cls.cas(EXTENT, taking)):
        return False
    if not w.keeps("who takes an extent looks at it once more") or (yield w.tag.load()) == FREE:
        return True
    yield w.cls.store(EXTENT)  # it is another one
    return False


def take_by_tag(w: Page, taking: int) -> Steps:
    """The place of the tag may be in the middle of a payload by now, and be zero."""
    if not (yield w.tag.cas(FREE, TAKEN)):
        return False
    if (yield w.cls.load()) == EXTENT and (yield w.tag.load()) == TAKEN:
        yield w.cls.store(taking)
        yield w.tag.store(FREE)
        return True
    yield w.tag.cas(TAKEN, FREE)
    return False


def harvest(w: Page) -> Steps:
    """gp_pages_harvest: an extent that R has freed becomes a free page."""
    if (yield from gp_extent_take(w, TAKING + EXTENT + BY_OWNER)):
        yield w.cls.store(IDLE)


def write(w: Page, value: int) -> Step:
    cls, backed, content = w.cls.at, w.backed.at, w.content.at

    def run(s: bytearray, me: int) -> None:
        if not s[backed] or s[cls] == HOLE:
            raise Violation("O writes where there is no memory")
        s[content] = value

    return Step(f"write {value}", run)


def read(w: Page, who: str, value: int) -> Step:
    def run(s: bytearray, me: int) -> None:
        if s[w.given.at] and s[w.tag.at] != 0:
            raise Violation(f"{who} reads {s[w.tag.at]} where its payload is 0")
        if s[w.content.at] != value or not s[w.backed.at]:
            raise Violation(f"{who} reads {s[w.content.at]}, and has {value}")

    return Step(f"read {value}", run)


def owner_of_extents(w: Page, rounds: int) -> Steps:
    """Hand the page out to R, and have it back: as an extent, and as a page in the middle of another."""
    cls, tag, given = w.cls.at, w.tag.at, w.given.at
    for n in range(1, rounds + 1):
        while not (yield from claim(w)):
            yield Step(
                "the page may be free",
                lambda s, me: None,
                ready=lambda s: s[cls] != EXTENT or s[tag] == FREE,
            )
            yield from harvest(w)
        if n % 2:
            yield from extent(w)
            yield write(w, n)
            yield w.tag.store(READ)
        else:
            yield write(w, n)
            yield w.given.store(1)
            yield Step("R has read it", lambda s, me: None, ready=lambda s: not s[given])
            yield w.cls.store(IDLE)


def owner_of_blocks(w: Page, rounds: int) -> Steps:
    """Take the block of a small page, use it, free it."""
    cls = w.cls.at
    for n in range(1, rounds + 1):
        while not (yield from take_small(w)):
            yield Step("the page is not being taken", lambda s, me: None, ready=lambda s: not s[cls] & TAKING)
            if (yield from claim(w)):
                yield w.cls.store(SMALL)
        yield write(w, n)
        yield read(w, "O", n)
        yield fence(w)
        yield w.tag.store(FREE)


# ---- the others


def reader(w: Page, rounds: int) -> Steps:
    tag, given = w.tag.at, w.given.at
    for n in range(1, rounds + 1):
        yield Step("R has the page", lambda s, me: None, ready=lambda s: s[tag] == READ or s[given] == 1)
        yield read(w, "R", n)
        if n % 2:
            yield w.tag.store(FREE)
        else:
            yield w.given.store(0)


def reclaimer(w: Page, rounds: int) -> Steps:
    """gp_heap_trim: what seems free is marked, looked at, and given to the system."""
    for _ in range(rounds):
        if not (yield w.reclaiming.cas(0, 1)):
            return
        origin = yield from mark(w)
        if origin == SMALL:
            if w.keeps("the taker puts a fence into all processes"):
                yield barrier(w)
            if w.keeps("the taker looks at the blocks once more") and (yield w.tag.load()) != FREE:
                yield w.cls.store(SMALL)  # the owner was first
                origin = -1
        if origin >= 0:
            yield unback(w)
            yield w.cls.store(HOLE)
        yield w.reclaiming.store(0)


def mark(w: Page) -> Steps:
    """The class that the page had before X began to take it; -1: it is in use."""
    cls = yield w.cls.load()
    if cls == EXTENT and (yield from gp_extent_take(w, TAKING + EXTENT)):
        return EXTENT
    free = cls == IDLE or (cls == SMALL and (yield w.tag.load()) == FREE)
    return cls if free and (yield w.cls.cas(cls, TAKING + cls)) else -1


def unback(w: Page) -> Step:
    places = w.backed.at, w.content.at, w.tag.at

    def run(s: bytearray, me: int) -> None:
        for at in places:
            s[at] = 0  # FREE, where there was a tag

    return Step("give the page to the system", run)


# ---- repair_heap.c


def coroner(w: Page) -> Steps:
    places = tuple((dead.at, done.at) for dead, done in zip(w.dead, w.repaired, strict=True))

    def any_left(s: bytes) -> bool:
        return any(s[dead] and not s[done] for dead, done in places)

    while True:
        yield Step("a process has died", lambda s, me: None, ready=any_left)
        if (yield w.dead[1].load()) and not (yield w.repaired[1].load()):
            if w.keeps("the reclaimer's lock goes with the dead"):
                yield w.reclaiming.store(0)
            yield from restore_pages(w)
            yield w.repaired[1].store(1)
        if (yield w.dead[0].load()) and not (yield w.repaired[0].load()):
            yield w.tag.cas(READ, FREE)
            yield w.given.store(0)
            yield w.repaired[0].store(1)


def restore_pages(w: Page) -> Steps:
    """Pages that X was giving back become what they were."""
    cls = yield w.cls.load()
    if cls & TAKING and not cls & BY_OWNER and w.keeps("a page that the dead one was taking is restored"):
        if w.keeps("a page gets its memory back before it is restored"):
            yield w.backed.store(1)
        yield w.cls.store(cls - TAKING)


def check(w: Page, s: bytes, waiting: frozenset[str]) -> None:
    if s[w.cls.at] & TAKING:
        raise Violation("the page leaks: it is being taken, by a process that is dead")
    if s[w.reclaiming.at]:
        raise Violation("nobody can give memory back any more")
    if "O" in waiting and s[w.cls.at] not in (EXTENT, INNER):
        raise Violation("O waits for a page that is free")
    if s[w.cls.at] in (IDLE, SMALL, EXTENT) and not s[w.backed.at]:
        raise Violation("the page has no memory, and does not say so")


def on_page(
    name: str, owner: Callable[[Page, int], Steps], rounds: int, kills: int, readers: bool = True
) -> None:
    def explorer(faults: frozenset[str]) -> Explorer:
        w = Page(faults)
        w.memory.start[w.cls.at] = IDLE if readers else SMALL

        def dies(i: int) -> Callable[[bytearray], None]:
            def run(s: bytearray) -> None:
                s[w.dead[i].at] = 1

            return run

        processes = [
            Process("O", partial(owner, w, rounds)),
            Process("X", partial(reclaimer, w, rounds), dies(1)),
        ]
        processes += [Process("coroner", partial(coroner, w)), Process("processor", partial(processor, w))]
        if readers:
            processes.append(Process("R", partial(reader, w, rounds), dies(0)))
        return Explorer(bytes(w.memory.start), processes, kills, partial(check, w))

    register(name, explorer)


on_page("pages: an extent that is given back, 2 die", owner_of_extents, 3, 2)
on_page("pages: a page of blocks", owner_of_blocks, 2, 1, readers=False)
