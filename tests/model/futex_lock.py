"""The lock itself, with those who sleep for it: gp_lock and gp_unlock of mem/mem.h, mem/lock.c, let_go of proc/repair_locks.c.

A sleeper wakes when it is woken, and not by time: the belts of the core are not here. Who spins is like one who tries again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from model.configurations import register
from model.explorer import Explorer, Process, Step, Steps, Violation
from model.memory import Cell, Memory

WAITERS = 0x80  # GP_LOCK_WAITERS


class Futex:
    """A word on which processes sleep, as the kernel has it. A process that dies sleeps no more."""

    def __init__(self, memory: Memory, word: Cell, names: str) -> None:
        self.word = word
        self.sleeps = [memory.cell(f"{name} sleeps for {word.name}") for name in names]

    def wait(self, me: int, expect: int) -> Step:
        """gp_futex_wait, its first half: fall asleep if the word has this value."""
        word, sleeps = self.word.at, self.sleeps[me].at

        def run(s: bytearray, _: int) -> bool:
            s[sleeps] = s[word] == expect
            return s[word] == expect

        return Step(f"sleep while {self.word.name} is {expect}", run)

    def woken(self, me: int) -> Step:
        sleeps = self.sleeps[me].at
        return Step("wake up", lambda s, _: None, ready=lambda s: not s[sleeps])

    def wake(self, all_of_them: bool = False) -> Step:
        """gp_futex_wake: of several sleepers any one may be the first."""
        places = tuple(cell.at for cell in self.sleeps)

        def options(s: bytes) -> list[int]:
            asleep = [i for i, at in enumerate(places) if s[at]]
            return asleep if asleep and not all_of_them else [-1]

        def run(s: bytearray, _: int, option: int) -> None:
            for i, at in enumerate(places):
                if all_of_them or i == option:
                    s[at] = 0

        return Step("wake all" if all_of_them else "wake one", run, options=options)


class Locked:
    """One lock, and processes that take it."""

    def __init__(self, names: str, faults: frozenset[str]) -> None:
        self.names = names
        self.faults = faults
        memory = self.memory = Memory()
        self.lock = memory.cell("lock", show=self.show)
        self.futex = Futex(memory, self.lock, names)
        self.announced = [memory.cell(f"{name}.journal.nlocks", private=True) for name in names]
        self.dead = [memory.cell(f"{name}: is dead, as the kernel knows") for name in names]
        self.repaired = [memory.cell(f"{name} is repaired") for name in names]
        self.inside = memory.cell("has the lock")

    def keeps(self, rule: str) -> bool:
        return rule not in self.faults

    def show(self, word: int) -> str:
        return (self.names[(word & 127) - 1] if word & 127 else "free") + (
            " + WAITERS" if word & WAITERS else ""
        )

    def dies(self, me: int) -> Callable[[bytearray], None]:
        def run(s: bytearray) -> None:
            s[self.dead[me].at] = 1
            s[self.futex.sleeps[me].at] = 0

        return run


def gp_lock(w: Locked, me: int) -> Steps:
    yield w.announced[me].store(1)  # before the attempt
    if not (yield w.lock.cas(0, me + 1)):
        yield from gp_lock_slow(w, me)


def gp_lock_slow(w: Locked, me: int) -> Steps:
    mine = me + 1 + (WAITERS if w.keeps("who waited for a lock takes it with WAITERS") else 0)
    while True:
        seen = yield w.lock.load()
        if not seen:
            if (yield w.lock.cas(0, mine)):
                return
            continue
        if not seen & WAITERS and w.keeps("who sleeps for a lock says so"):
            if not (yield w.lock.cas(seen, seen | WAITERS)):
                continue
            seen |= WAITERS
        if (yield w.futex.wait(me, seen)):
            yield w.futex.woken(me)


def gp_unlock(w: Locked, me: int) -> Steps:
    before = yield w.lock.exchange(0)
    early = not w.keeps("a lock is forgotten after its sleepers are woken")
    if early:
        yield w.announced[me].store(0)
    if before & WAITERS:
        yield w.futex.wake()
    if not early:
        yield w.announced[me].store(0)


def enter(w: Locked, me: int) -> Step:
    inside, dead = w.inside.at, tuple(cell.at for cell in w.dead)

    def run(s: bytearray, _: int) -> None:
        if s[inside] and not s[dead[s[inside] - 1]]:
            raise Violation(f"{w.names[s[inside] - 1]} and {w.names[me]} have the lock at once")
        s[inside] = me + 1

    return Step("has the lock", run)


def body(w: Locked, me: int, times: int) -> Steps:
    for _ in range(times):
        yield from gp_lock(w, me)
        yield enter(w, me)
        yield w.inside.store(0)
        yield from gp_unlock(w, me)


def coroner(w: Locked) -> Steps:
    places = tuple((dead.at, done.at) for dead, done in zip(w.dead, w.repaired, strict=True))

    def any_left(s: bytes) -> bool:
        return any(s[dead] and not s[done] for dead, done in places)

    while True:
        yield Step("a process has died", lambda s, _: None, ready=any_left)
        for i in range(len(w.names)):
            if not (yield w.dead[i].load()) or (yield w.repaired[i].load()):
                continue
            if (yield w.announced[i].load()):
                if ((yield w.lock.load()) & 127) == i + 1:
                    yield w.lock.exchange(0)
                if w.keeps("all who sleep for a lock of the dead are woken"):
                    yield w.futex.wake(all_of_them=True)
            yield w.repaired[i].store(1)


def check(w: Locked, s: bytes, waiting: frozenset[str]) -> None:
    alive = [name for name in waiting if name != "coroner"]
    if alive:
        raise Violation(f"{sorted(alive)} sleep for ever, and the lock is: {w.show(s[w.lock.at])}")
    if s[w.lock.at] & 127:
        raise Violation(f"the lock is held by {w.show(s[w.lock.at])}")


def on_lock(name: str, names: str, times: int, kills: int, long: bool = False) -> None:
    def explorer(faults: frozenset[str]) -> Explorer:
        w = Locked(names, faults)
        processes = [Process(names[i], partial(body, w, i, times), w.dies(i)) for i in range(len(names))]
        processes.append(Process("coroner", partial(coroner, w)))
        return Explorer(bytes(w.memory.start), processes, kills, partial(check, w))

    register(name, explorer, long)


on_lock("lock: three processes, 2 die", "ABC", 1, 2)
on_lock("lock: two processes, twice, 1 dies", "AB", 2, 1)
on_lock("lock: three processes, twice, 2 die", "ABC", 2, 2, long=True)
