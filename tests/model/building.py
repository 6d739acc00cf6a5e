"""Configurations of goroutines that wait for each other, in words as short as the programs are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from model import channels, checks, programs, repair
from model.configurations import register
from model.explorer import Explorer, Process
from model.programs import Do
from model.queues import Case
from model.world import Object, World

Bodies = list[tuple[Do, ...]]


def send(c: Object, block: int, *ends: str) -> Do:
    return Do("wait", (Case("send", c, block),), ends=frozenset(ends))


def recv(c: Object, *ends: str, then: Object | None = None) -> Do:
    return Do("wait", (Case("recv", c),), ends=frozenset(ends), then=then)


def select(*cases: Case, ends: frozenset[str] = frozenset()) -> Do:
    return Do("wait", cases, ends=ends)


def close(c: Object) -> Do:
    return Do("close", o=c)


def set_timer(c: Object, due: int) -> Do:
    return Do("set", o=c, n=due)


def lock(o: Object, *ends: str) -> Do:
    return Do("wait", (Case("lock", o),), ends=frozenset(ends))


def rlock(o: Object, *ends: str) -> Do:
    return Do("wait", (Case("rlock", o),), ends=frozenset(ends))


def signalled(o: Object, *ends: str) -> Do:
    return Do("wait", (Case("signal", o),), ends=frozenset(ends))


def acquire(o: Object, n: int, *ends: str) -> Do:
    return Do("wait", (Case("acquire", o, n=n),), ends=frozenset(ends))


def done(o: Object, *ends: str) -> Do:
    return Do("wait", (Case("done", o),), ends=frozenset(ends))


def add(o: Object, n: int) -> Do:
    return Do("add", o=o, n=n)


def waiting_on(
    name: str,
    bodies: Callable[[World], Bodies],
    kills: int,
    sudogs: int = 1,
    locks: int = 1,
    blocks: int = 0,
    ticks: int = 0,
    replaces: bool = True,
    mortal: str = "ABC",
    workers: int = 2,
    long: bool = False,
) -> None:
    """Register a configuration.

    Args:
        name: what happens in it.
        bodies: makes its objects, and returns the program of each process.
        kills: how many processes may die.
        sudogs: of each process: 1, or 1 more than a select has cases.
        locks: that a process holds at once, at most.
        blocks: of messages.
        ticks: how often the clock goes on.
        replaces: False: the policy is `continue`.
        mortal: the processes that may die.
        workers: how many processes.
        long: it has too many states for the short form.
    """

    def explorer(faults: frozenset[str]) -> Explorer:
        w = World(workers, sudogs, locks, blocks, faults, replaces)
        processes = [
            Process(p.name, partial(programs.goroutine, p, program), w.dies(p) if p.name in mortal else None)
            for p, program in zip(w.procs, bodies(w), strict=True)
        ]
        processes.append(Process("coroner", partial(repair.coroner, w)))
        if ticks:
            processes.append(Process("clock", partial(channels.clock, w, ticks)))
        return Explorer(bytes(w.memory.start), processes, kills, partial(checks.check, w))

    register(name, explorer, long)
