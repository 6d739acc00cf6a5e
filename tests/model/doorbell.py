"""The waking of a process that sleeps: chan/tell.c and proc/idle.c, with the levels of the inbox, the park word and the nudge.

S has goroutines that wait; others fire their waiters, set their bits and ring, and may die at any step. S sleeps without its
belt of a second: every wake-up has to come.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from model.configurations import register
from model.explorer import Explorer, Process, Step, Steps, Violation
from model.futex_lock import Futex
from model.memory import Memory

RUN, PARKED, NOTIFIED = 0, 1, 2  # enum gp_park
FIRED = 1


class Bell:
    """S, whose `waiters` are each in a line of the inbox of their own, and the tellers."""

    def __init__(self, tellers: str, waiters: int, faults: frozenset[str]) -> None:
        self.tellers = tellers
        self.faults = faults
        memory = self.memory = Memory()
        self.top = memory.cell("inbox", show=bin)
        self.mid = memory.cell("middle word", show=bin)
        self.words = [memory.cell(f"word {i}") for i in range(waiters)]
        self.states = [
            memory.cell(f"waiter {i}", show=("WAITING", "FIRED").__getitem__) for i in range(waiters)
        ]
        self.park = memory.cell("park", show=("RUN", "PARKED", "NOTIFIED").__getitem__)
        self.futex = Futex(memory, self.park, "S")
        self.rescan = memory.cell("rescan")
        self.scans = memory.cell("scans")
        self.ready = [memory.cell(f"goroutine {i} runs") for i in range(waiters)]
        self.dead = [memory.cell(f"{name}: is dead, as the kernel knows") for name in tellers]
        self.repaired = [memory.cell(f"{name} is repaired") for name in tellers]

    def keeps(self, rule: str) -> bool:
        return rule not in self.faults


# ---- tell.c


def set_bit(w: Bell, i: int) -> Steps:
    if w.keeps("the lower levels of an inbox come before the upper"):
        yield w.words[i].set_bits(1)
        yield w.mid.set_bits(1 << i)
        yield w.top.set_bits(1)
    else:
        yield w.top.set_bits(1)
        yield w.mid.set_bits(1 << i)
        yield w.words[i].set_bits(1)


def gp_ring_proc(w: Bell) -> Steps:
    if (yield w.park.load()) == PARKED and (yield w.park.cas(PARKED, NOTIFIED)):
        yield w.futex.wake()


def gp_nudge(w: Bell) -> Steps:
    yield w.rescan.store(1)
    yield from gp_ring_proc(w)


def gp_drain(w: Bell) -> Steps:
    """The waiters that were told."""
    told: tuple[int, ...] = ()
    if w.keeps("an inbox is drained from the upper level down"):
        if not (yield w.top.exchange(0)):
            return told
        mid = yield w.mid.exchange(0)
    else:
        mid = yield w.mid.exchange(0)
        if not (yield w.top.exchange(0)):
            return told
    for i in range(len(w.words)):
        if mid >> i & 1 and (yield w.words[i].exchange(0)):
            told = (*told, i)
    return told


def teller(w: Bell, i: int) -> Steps:
    """Fire a waiter, tell, ring: what comes of a channel operation."""
    yield w.states[i].store(FIRED)
    yield from set_bit(w, i)
    yield from gp_ring_proc(w)


# ---- S: core_drain of python/scheduler_calls.c, and proc/idle.c


def core_drain(w: Bell, seen: int) -> Steps:
    """Make those ready that were told; return the number of the scan that was looked for last."""
    if (yield w.top.load()):
        told = yield from gp_drain(w)
        for i in range(len(told)):
            yield w.ready[told[i]].store(1)
    if (yield w.rescan.load()):
        yield w.rescan.store(0)
        scans = yield w.scans.load()
        if scans != seen:
            seen = scans
            for i in range(len(w.states)):
                if (yield w.states[i].load()) == FIRED:
                    yield w.ready[i].store(1)
    return seen


def gp_something_to_do(w: Bell) -> Steps:
    return (yield w.top.load()) or (yield w.rescan.load())


def gp_idle(w: Bell) -> Steps:
    if (yield from gp_something_to_do(w)):
        return
    late = not w.keeps("park is set before the last look")
    if not late:
        yield w.park.exchange(PARKED)
    nothing = not w.keeps("who parks looks once more") or not (yield from gp_something_to_do(w))
    if late:
        yield w.park.exchange(PARKED)
    if nothing and (yield w.futex.wait(0, PARKED)):
        yield w.futex.woken(0)
    yield w.park.store(RUN)


def sleeper(w: Bell) -> Steps:
    places = tuple(cell.at for cell in w.ready)
    seen = 0
    while True:
        seen = yield from core_drain(w, seen)
        if (yield Step("do all run?", lambda s, me: all(s[at] for at in places), private=True, pure=True)):
            return
        yield from gp_idle(w)


def gp_repair_ring(w: Bell) -> Steps:
    if not w.keeps("all processes are nudged after a death"):
        return
    if w.keeps("the number of a scan is raised before the nudge"):
        yield w.scans.add(1)
        yield from gp_nudge(w)
    else:
        yield from gp_nudge(w)
        yield w.scans.add(1)
    if w.keeps("a process is woken after a death whatever its park word says"):
        yield w.futex.wake()  # who has made it NOTIFIED may be the dead one


def coroner(w: Bell) -> Steps:
    """gp_repair_ring, after step 1 and after the last."""
    places = tuple((dead.at, done.at) for dead, done in zip(w.dead, w.repaired, strict=True))

    def any_left(s: bytes) -> bool:
        return any(s[dead] and not s[done] for dead, done in places)

    while True:
        yield Step("a process has died", lambda s, me: None, ready=any_left)
        for i in range(len(w.tellers)):
            if not (yield w.dead[i].load()) or (yield w.repaired[i].load()):
                continue
            yield from gp_repair_ring(w)
            yield w.repaired[i].store(1)


def check(w: Bell, s: bytes, waiting: frozenset[str]) -> None:
    for i, state in enumerate(w.states):
        if s[state.at] == FIRED and not s[w.ready[i].at]:
            raise Violation(
                f"waiter {i} is fired, and S sleeps: park is {s[w.park.at]}, the inbox {s[w.top.at]}"
            )


def on_bell(name: str, tellers: str, waiters: int, kills: int) -> None:
    def explorer(faults: frozenset[str]) -> Explorer:
        w = Bell(tellers, waiters, faults)

        def dies(i: int) -> Callable[[bytearray], None]:
            def run(s: bytearray) -> None:
                s[w.dead[i].at] = 1

            return run

        processes = [
            Process(tellers[i], partial(teller, w, i % waiters), dies(i)) for i in range(len(tellers))
        ]
        processes += [Process("S", partial(sleeper, w)), Process("coroner", partial(coroner, w))]
        return Explorer(bytes(w.memory.start), processes, kills, partial(check, w))

    register(name, explorer)


on_bell("doorbell: two tellers, 2 die", "AB", 2, 2)
on_bell("doorbell: three tellers, no death", "ABC", 3, 0)
