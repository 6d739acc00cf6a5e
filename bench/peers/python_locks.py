"""multiprocessing's and threading's locks: alone, and multiprocessing's between two processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from time import perf_counter
from typing import Any

from bench.peers.hammer import Counter, hammer, wall

_context = multiprocessing.get_context("fork")


def _alone(lock: Any, count: int) -> dict[str, Any]:
    acquire, release = lock.acquire, lock.release
    elapsed = 0.0
    for number in (count // 10 + 1, count):
        start = perf_counter()
        for _ in range(number):
            acquire()
            release()
        elapsed = perf_counter() - start
    return {"value": elapsed / count}


def process_lock(count: int) -> dict[str, Any]:
    """``multiprocessing.Lock``: a POSIX semaphore."""
    return _alone(_context.Lock(), count)


def thread_lock(count: int) -> dict[str, Any]:
    """``threading.Lock``, which knows no other process."""
    return _alone(threading.Lock(), count)


def nothing(count: int, inside: int, outside: int) -> dict[str, Any]:
    """The loop with calls that do nothing in place of a lock: no lock that lets in one at a time can be faster."""
    nothing: dict[str, int] = {}
    with Counter() as counter:
        span = hammer(nothing.clear, nothing.clear, counter.name, 2 * count, inside, outside)
        counter.check(2 * count)
    return {"value": wall([span]) / (2 * count)}


def _side(
    cpu: int | None,
    lock: Any,
    together: Any,
    name: str,
    counts: list[int],
    inside: int,
    outside: int,
    spans: Any,
) -> None:
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    span = (0.0, 0.0)
    for count in counts:
        together.wait()
        span = hammer(lock.acquire, lock.release, name, count, inside, outside)
    spans.put(span)


def contended(count: int, inside: int, outside: int, pinned: bool) -> dict[str, Any]:
    """Two processes which start together.

    Args:
        count: locks of each.
        inside: work with the lock.
        outside: work without.
        pinned: keep each on a CPU of its own, as goproc does; otherwise they may share one, and then hardly meet.
    """
    lock, together, spans = _context.Lock(), _context.Barrier(2), _context.SimpleQueue()
    counts = [count // 10 + 1, count]
    cpus = sorted(os.sched_getaffinity(0))
    with Counter() as counter:
        processes = [
            _context.Process(
                target=_side,
                args=(
                    cpus[i % len(cpus)] if pinned else None,
                    lock,
                    together,
                    counter.name,
                    counts,
                    inside,
                    outside,
                    spans,
                ),
                daemon=True,
            )
            for i in range(2)
        ]
        for process in processes:
            process.start()
        elapsed = wall([spans.get() for _ in processes])
        for process in processes:
            process.join()
        counter.check(2 * sum(counts))
    return {"value": elapsed / (2 * count)}
