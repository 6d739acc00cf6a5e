"""The loop of two processes that want one lock, the same for every kind of lock.

The lock guards a number in plain shared memory: an update that is lost shows that it let two in.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from bench.burn import burn

#: When a process's loop began and ended, by `perf_counter`, which on Linux is one clock for all processes.
Span = tuple[float, float]


@contextmanager
def _number(name: str) -> Iterator[memoryview]:
    with (
        open(name, "r+b") as file,
        mmap.mmap(file.fileno(), mmap.PAGESIZE) as memory,
        memoryview(memory) as view,
        view.cast("q") as cell,
    ):
        yield cell


def hammer(
    acquire: Callable[[], Any], release: Callable[[], Any], name: str, count: int, inside: int, outside: int
) -> Span:
    """Takes and releases the lock `count` times: inside it an increment and ``burn(inside)``, then ``burn(outside)``."""
    with _number(name) as cell:
        start = perf_counter()
        for _ in range(count):
            acquire()
            value = cell[0]
            if inside:
                burn(inside)
            cell[0] = value + 1
            release()
            if outside:
                burn(outside)
        end = perf_counter()
    return start, end


def hammer_with(lock: Any, name: str, count: int) -> Span:
    """As hammer() without work, written ``with lock:``."""
    with _number(name) as cell:
        start = perf_counter()
        for _ in range(count):
            with lock:
                cell[0] += 1
        end = perf_counter()
    return start, end


def wall(spans: Iterable[Span]) -> float:
    """From the first start to the last end."""
    starts, ends = zip(*spans, strict=True)
    return max(ends) - min(starts)


class Counter:
    """The number that the lock guards; ``with`` makes it."""

    def __enter__(self) -> Counter:
        file, self.name = tempfile.mkstemp(prefix="goproc-bench-", dir="/dev/shm")
        os.truncate(file, mmap.PAGESIZE)
        os.close(file)
        return self

    def __exit__(self, *error: object) -> None:
        os.unlink(self.name)

    def check(self, expected: int) -> None:
        """Raises AssertionError if an increment was lost."""
        with open(self.name, "rb") as file:
            found = int.from_bytes(file.read(8), "little")
        if found != expected:
            raise AssertionError(f"the lock let two in: {found} increments of {expected}")
