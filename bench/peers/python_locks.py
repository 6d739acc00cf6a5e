"""multiprocessing's and threading's locks: alone, and multiprocessing's between two processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

from bench.peers.hammer import Counter, Span, hammer, hammer_with, wall

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


def _hammer(lock: Any, name: str, count: int, inside: int, outside: int) -> Span:
    return hammer(lock.acquire, lock.release, name, count, inside, outside)


def _side(
    cpu: int | None,
    lock: Any,
    together: Any,
    loop: Callable[..., Span],
    name: str,
    counts: list[int],
    work: tuple[int, ...],
    spans: Any,
) -> None:
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    span = (0.0, 0.0)
    for count in counts:
        together.wait()
        span = loop(lock, name, count, *work)
    spans.put(span)


def _on_both(loop: Callable[..., Span], count: int, work: tuple[int, ...], pinned: bool) -> dict[str, Any]:
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
                    loop,
                    counter.name,
                    counts,
                    work,
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


def contended(count: int, inside: int, outside: int, pinned: bool) -> dict[str, Any]:
    """Two processes which start together: ``acquire()`` and ``release()``.

    Args:
        count: locks of each.
        inside: work with the lock.
        outside: work without.
        pinned: keep each on a CPU of its own, as goproc does; otherwise they may share one, and then hardly meet.
    """
    return _on_both(_hammer, count, (inside, outside), pinned)


def contended_with(count: int, pinned: bool) -> dict[str, Any]:
    """The same without work, ``with lock:``."""
    return _on_both(hammer_with, count, (), pinned)
