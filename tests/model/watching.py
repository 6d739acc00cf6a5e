"""Many waits of one goroutine (as_completed, asyncio): tell_collector and gp_watched_again of chan/tell.c, wait_fired of
python/wait.c, collect of python/await.c.

Nobody sleeps in a watched waiter: whoever fires it pushes it on the stack of a collecting waiter, and fires that. S has two watched
waiters and the collecting one. A and B fire one each, under the lock of what is waited for, and may die at any step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from model.configurations import register
from model.explorer import Explorer, Process, Step, Steps, Violation
from model.memory import Memory

IDLE, WAITING, FIRED = 0, 1, 2
TAGS = ("IDLE", "WAITING", "FIRED").__getitem__
S = 3  # its word; that of A is 1, that of B is 2


class Stack:
    """The memory that A, B and S share."""

    def __init__(self, faults: frozenset[str]) -> None:
        self.faults = faults
        memory = self.memory = Memory()
        self.locks = [memory.cell(f"lock {i}") for i in range(2)]
        self.states = [memory.cell(f"waiter {i}", WAITING, show=TAGS) for i in range(2)]
        self.teller = [memory.cell(f"teller of {i}") for i in range(2)]
        self.next = [memory.cell(f"next of {i}") for i in range(2)]
        self.fired = memory.cell("fired")
        self.collector = memory.cell("collector", show=TAGS)
        self.told = memory.cell("inbox of S")
        self.rescan = memory.cell("rescan")
        self.collected = [memory.cell(f"{i} is collected") for i in range(2)]
        self.dead = [memory.cell(f"{name}: is dead") for name in "AB"]
        self.repaired = [memory.cell(f"{name} is repaired") for name in "AB"]

    def keeps(self, rule: str) -> bool:
        return rule not in self.faults


def take(w: Stack, i: int, word: int) -> Step:
    at = w.locks[i].at

    def run(s: bytearray, me: int) -> None:
        s[at] = word

    return Step(f"lock {i}", run, ready=lambda s: not s[at])


# ---- tell.c


def push(w: Stack, i: int) -> Steps:
    while True:
        top = yield w.fired.load()
        yield w.next[i].store(top)
        if (yield w.fired.cas(top, i + 1)):  # COMMIT
            return


def fire_collector(w: Stack) -> Steps:
    if (yield w.collector.load()) == WAITING and (yield w.collector.cas(WAITING, FIRED)):
        yield w.told.store(1)


def tell_collector(w: Stack, i: int, word: int) -> Steps:
    if w.keeps("a waiter is pushed before its collector is fired"):
        if (yield w.teller[i].cas(0, word)):
            yield from push(w, i)
        yield from fire_collector(w)
    else:
        yield from fire_collector(w)
        if (yield w.teller[i].cas(0, word)):
            yield from push(w, i)


def in_stack(w: Stack, i: int) -> Steps:
    at = yield w.fired.load()
    while at and at != i + 1:
        at = yield w.next[at - 1].load()
    return at != 0


def gp_watched_again(w: Stack, i: int) -> Steps:
    teller = yield w.teller[i].load()
    lost = teller == 0
    if teller in (1, 2) and w.keeps("what a dead teller has not pushed is pushed"):
        lost = (yield w.dead[teller - 1].load()) == 1
        if lost and w.keeps("what a dead teller has pushed is not pushed again"):
            lost = not (yield from in_stack(w, i))
    if lost and (yield w.teller[i].cas(teller, S)):
        yield from push(w, i)
    yield from fire_collector(w)


def teller(w: Stack, i: int) -> Steps:
    yield take(w, i, i + 1)
    yield w.states[i].store(FIRED)
    yield from tell_collector(w, i, i + 1)
    yield w.locks[i].store(0)


# ---- S


def core_drain(w: Stack) -> Steps:
    yield w.told.store(0)
    if (yield w.rescan.load()):
        yield w.rescan.store(0)
        for i in range(2):
            if (yield w.states[i].load()) == FIRED:
                yield from gp_watched_again(w, i)


def collect(w: Stack) -> Steps:
    top = yield w.fired.exchange(0)
    while top:
        i = top - 1
        top = yield w.next[i].load()
        if w.keeps("who collects takes the lock of what was fired"):
            yield take(w, i, S)
            yield w.locks[i].store(0)
        yield done(w, i)


def done(w: Stack, i: int) -> Step:
    """The waiter is released, and would be somebody else's."""

    def run(s: bytearray, me: int) -> None:
        if s[w.collected[i].at]:
            raise Violation(f"{i} is collected twice")
        if s[w.locks[i].at]:
            raise Violation(f"waiter {i} is released while {'AB'[s[w.locks[i].at] - 1]} tells of it")
        s[w.collected[i].at] = 1
        s[w.states[i].at] = IDLE

    return Step(f"{i} is collected", run)


def watcher(w: Stack) -> Steps:
    told, rescan = w.told.at, w.rescan.at
    while True:
        if w.keeps("a collector is armed before it looks"):
            yield w.collector.store(WAITING)
            some = yield w.fired.load()
        else:
            some = yield w.fired.load()
            yield w.collector.store(WAITING)
        while not some:
            yield Step("S sleeps", lambda s, me: None, ready=lambda s: s[told] + s[rescan] > 0)
            yield from core_drain(w)
            some = (yield w.collector.load()) == FIRED
        yield w.collector.store(IDLE)
        yield from collect(w)


def coroner(w: Stack) -> Steps:
    places = tuple((dead.at, done.at) for dead, done in zip(w.dead, w.repaired, strict=True))

    def any_left(s: bytes) -> bool:
        return any(s[dead] and not s[done] for dead, done in places)

    while True:
        yield Step("a process has died", lambda s, me: None, ready=any_left)
        for i in range(2):
            if not (yield w.dead[i].load()) or (yield w.repaired[i].load()):
                continue
            yield w.locks[i].cas(i + 1, 0)
            yield w.rescan.store(1)
            yield w.repaired[i].store(1)


def check(w: Stack, s: bytes, waiting: frozenset[str]) -> None:
    for i in range(2):
        if s[w.states[i].at] == FIRED:
            raise Violation(f"waiter {i} is fired, and S does not hear of it")
        if s[w.collected[i].at] == 0 and s[w.dead[i].at] == 0:
            raise Violation(f"waiter {i} is not collected")


def on_stack(name: str, kills: int) -> None:
    def explorer(faults: frozenset[str]) -> Explorer:
        w = Stack(faults)

        def dies(i: int) -> Callable[[bytearray], None]:
            def run(s: bytearray) -> None:
                s[w.dead[i].at] = 1

            return run

        processes = [Process("AB"[i], partial(teller, w, i), dies(i)) for i in range(2)]
        processes += [Process("S", partial(watcher, w)), Process("coroner", partial(coroner, w))]
        return Explorer(bytes(w.memory.start), processes, kills, partial(check, w))

    register(name, explorer)


on_stack("watching: two that end, 2 die", 2)
