"""Shared memory is full but for n blocks, for n = 0, 1, ... until an operation succeeds.

Each attempt before that ends with OutOfSharedMemory, and leaves all as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from full_memory import SIZES, drain, fill

import goproc
from goproc import Group, OutOfSharedMemory, chan, context, go, select, sync
from goproc.shm import _core

MOST = 200  # blocks


class Full:
    """A runtime whose memory is full; what each size of blocks takes is in a channel of its own."""

    def __init__(self) -> None:
        self.boxes = {size: chan(4096) for size in SIZES}

    def fill(self) -> None:
        for size, box in self.boxes.items():
            fill(box, (size,))

    def free_one(self, step: int) -> None:
        """Free a block: of the smallest size, of the next one, ... and again."""
        box = self.boxes[SIZES[-1 - step % len(SIZES)]]
        if len(box):
            box.recv()

    def drain(self) -> None:
        for box in self.boxes.values():
            drain(box)


@pytest.fixture
def full(runtimes: Any) -> Iterator[Full]:
    runtimes.stop()
    with goproc.runtime(procs=2, memory="16M"):
        go.on(1)(int).result(20)
        go.on(2)(int).result(20)
        yield Full()


def send_and_receive(value: Any) -> None:
    ch = chan(1)
    ch.send(value)
    assert ch.recv() == value


def by_select() -> None:
    ch = chan(1)
    assert select((ch.send, "s" * 300)).index == 0
    assert ch.recv() == "s" * 300


def many_channels() -> None:
    held = [chan(4) for _ in range(8)]
    for number, ch in enumerate(held):
        ch.send(number)
    assert [ch.recv() for ch in held] == list(range(8))


def a_group() -> None:
    try:
        with Group() as group:
            for number in range(4):
                group.go(pow, number, 2)
    except ExceptionGroup as errors:
        raise OutOfSharedMemory(str(errors)) if errors.subgroup(OutOfSharedMemory) else errors from None


def a_context() -> None:
    ctx, cancel = context.with_timeout(context.with_value(context.background(), "key", "v" * 100), 60)
    cancel()
    assert ctx.err() is not None


def a_result() -> None:
    assert go.on(1)(lambda: "r" * 5000).result(20) == "r" * 5000


def locks() -> None:
    mutex, rw, semaphore, once = sync.Mutex(), sync.RWMutex(), sync.Semaphore(2), sync.Once()
    with mutex, rw.writer, semaphore:
        once.do(int)


OPERATIONS: dict[str, Callable[[], None]] = {
    "a channel": lambda: send_and_receive(1),
    "a short text": lambda: send_and_receive("x" * 60),
    "a text": lambda: send_and_receive("x" * 1000),
    "a long text": lambda: send_and_receive("x" * 30_000),
    "an extent": lambda: send_and_receive(b"x" * 90_000),
    "a nested value": lambda: send_and_receive([("a" * 40, {"b": [1, 2, "c" * 300]})] * 3),
    "a pickle": lambda: send_and_receive({frozenset({1, 2}), "p" * 400}),
    "a channel in a message": lambda: send_and_receive((chan(3), chan(2), "x" * 100)),
    "a buffer": lambda: send_and_receive(bytearray(20_000)),
    "a select": by_select,
    "channels": many_channels,
    "a goroutine": lambda: go(int).result(20),
    "a goroutine of a process": lambda: go.on(2)(abs, -1).result(20),
    "a goroutine here": lambda: go.local(int).result(20),
    "a goroutine with a large argument": lambda: go(len, "x" * 20_000).result(20),
    "a large result": a_result,
    "a group": a_group,
    "a context": a_context,
    "locks": locks,
    "a wait group": lambda: sync.WaitGroup().go(int).join(20),
    "an atomic": lambda: sync.Atomic(1).add(1),
    "a barrier": lambda: sync.Barrier(1).wait(),
    "a timer": lambda: goproc.after(0.001).recv(timeout=20),
}


def failures(full: Full, operation: Callable[[], Any]) -> int:
    """Fill the memory, and return how often the operation found too little until it succeeded."""
    full.fill()
    for failed in range(MOST):
        try:
            operation()
            return failed
        except OutOfSharedMemory:
            full.free_one(failed)
    raise AssertionError(f"{MOST} times no memory")


def test_every_nth_allocation(full: Full) -> None:
    """Small objects fit into a page that has some already, and a goroutine may take from the reserve."""
    before = _core.census()
    failed = {}
    for name, operation in OPERATIONS.items():
        try:
            failed[name] = failures(full, operation)
            full.drain()
            operation()
            send_and_receive("x" * 100_000)
        except Exception as error:
            raise AssertionError(name) from error
    print(failed, flush=True)
    assert sum(times > 0 for times in failed.values()) >= 10, failed
    _core.collect()
    census = _core.census()
    assert census["missed_wakeups"] == census["queued"] == 0, census
    assert census["blocks"] <= before["blocks"] + 20, (before, census)
