"""goproc: a mutex that nobody else wants, and one that two processes want."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import goproc
from bench.peers.hammer import Counter, Span, hammer, hammer_with, wall
from goproc import chan, go
from goproc.sync import Barrier, Mutex


def mutex(count: int) -> dict[str, Any]:
    """``lock()`` and ``unlock()``."""
    with goproc.runtime(procs=0):
        m = Mutex()
        lock, unlock = m.lock, m.unlock
        elapsed = 0.0
        for number in (count // 10 + 1, count):
            start = perf_counter()
            for _ in range(number):
                lock()
                unlock()
            elapsed = perf_counter() - start
    return {"value": elapsed / count}


def mutex_with(count: int) -> dict[str, Any]:
    """``with m:``."""
    with goproc.runtime(procs=0):
        m = Mutex()
        elapsed = 0.0
        for number in (count // 10 + 1, count):
            start = perf_counter()
            for _ in range(number):
                with m:
                    pass
            elapsed = perf_counter() - start
    return {"value": elapsed / count}


def channel(count: int) -> dict[str, Any]:
    """``send()`` and ``recv()`` on a channel with room for one value: it works as a lock, too."""
    with goproc.runtime(procs=0):
        ch = chan(1)
        send, recv = ch.send, ch.recv
        elapsed = 0.0
        for number in (count // 10 + 1, count):
            start = perf_counter()
            for _ in range(number):
                send(None)
                recv()
            elapsed = perf_counter() - start
    return {"value": elapsed / count}


def _hammer(m: Mutex, name: str, count: int, inside: int, outside: int) -> Span:
    return hammer(m.lock, m.unlock, name, count, inside, outside)


def _side(
    m: Mutex,
    together: Barrier,
    loop: Callable[..., Span],
    name: str,
    counts: list[int],
    work: tuple[int, ...],
) -> Span:
    span = (0.0, 0.0)
    for count in counts:
        together.wait()
        span = loop(m, name, count, *work)
    return span


def _on_both(loop: Callable[..., Span], count: int, *work: int) -> dict[str, Any]:
    with Counter() as counter, goproc.runtime(procs=2):
        m, together = Mutex(), Barrier(2)
        counts = [count // 10 + 1, count]
        sides = [go.on(i)(_side, m, together, loop, counter.name, counts, work) for i in range(2)]
        elapsed = wall([side.result() for side in sides])
        counter.check(2 * sum(counts))
    return {"value": elapsed / (2 * count)}


def contended(count: int, inside: int, outside: int) -> dict[str, Any]:
    """A goroutine on each of two processes, which start together: ``lock()`` and ``unlock()``."""
    return _on_both(_hammer, count, inside, outside)


def contended_with(count: int) -> dict[str, Any]:
    """The same, ``with m:``."""
    return _on_both(hammer_with, count)
