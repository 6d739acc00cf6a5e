"""Freed memory can be used again: by every size, every process, and the system."""

from __future__ import annotations

import gc
import random
import zlib
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
from full_memory import drain, fill, resident
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peek import until

import goproc
from goproc import OutOfSharedMemory, chan, go
from goproc.futures import Executor
from goproc.shm import _core

MIB = 1 << 20
SIZES = (57, 100, 200, 500, 1_000, 3_000, 12_000, 32_700, 40_000, 200_000, 3_000_000)
WAYS = pytest.mark.parametrize("ends", [(0, 0), (1, 1), (0, 1), (1, 0), (1, 2)], ids=str)


@pytest.fixture
def small(runtimes: Any) -> Iterator[None]:
    runtimes.stop()
    with goproc.runtime(procs=2, memory="24M"):
        yield


@pytest.fixture
def alone(runtimes: Any) -> Iterator[None]:
    runtimes.stop()
    with goproc.runtime(procs=0, memory="24M"):
        yield


@WAYS
def test_each_size_after_each_other(small: None, ends: tuple[int, int]) -> None:
    """The heap is filled with one size, drained, and filled with the next: as much goes in as at first."""
    box = chan(1 << 17)
    sizes = [*SIZES, *reversed(SIZES)]
    filled = []
    for size in sizes:
        n = go.on(ends[0])(fill, box, (size,)).result(50)
        assert go.on(ends[1])(drain, box).result(50) == n
        filled.append(n * size)
    for size, n in zip(sizes, filled, strict=True):
        assert n > 5 * MIB, (size, filled)  # of 24: the ring takes 8, and a block of 57 bytes has 128


@WAYS
def test_freed_memory_goes_back_to_the_system(small: None, ends: tuple[int, int]) -> None:
    box = chan(1 << 14)
    until(lambda: resident() < 4 * MIB)
    for size in (1_000, 100_000):
        assert go.on(ends[0])(fill, box, (size,)).result(50) > 0
        assert resident() > 12 * MIB
        go.on(ends[1])(drain, box).result(50)
        until(lambda: resident() < 4 * MIB, 20, lambda: f"{resident()} bytes; {_core.census()}")


def test_another_process_gets_freed_memory_at_once(small: None) -> None:
    """Nobody waits for the owner of the memory, which computes."""

    def hold(box: Any, ready: Any, go_on: Any) -> int:
        n = fill(box, (1_000, 100_000))
        ready.send(n)
        while not go_on.load():  # without any operation that blocks
            pass
        return n

    box, ready, go_on = chan(1 << 14), chan(1), goproc.sync.Atomic(False)
    g = go.on(1)(hold, box, ready, go_on)
    n = ready.recv(timeout=50)
    assert drain(box) == n
    assert fill(box, (100_000,)) > 160  # two pages each, of 24 MiB
    go_on.store(True)
    assert g.result(50) == n
    assert drain(box) > 0


def test_arrays_that_live_stay_as_they_are(small: None) -> None:
    box = chan(1 << 14)
    for i in range(20):
        box.send(numpy.full(20_000, i))
    kept = [box.recv() for _ in range(20)]
    del kept[::2]
    n = go.on(1)(fill, box, (3_000, 40_000)).result(50)
    go.on(2)(drain, box).result(50)
    assert n > 0 and [int(a[0]) for a in kept] == list(range(1, 20, 2))
    assert all((a == a[0]).all() for a in kept)


def test_a_stale_handle_is_recognised_after_its_page_was_something_else(alone: None) -> None:
    """Objects that are made where others have been, with messages in between, never have a number of those."""
    box = chan(1 << 14)
    seen: set[int] = set()
    for _ in range(4):
        handles = [chan() for _ in range(5_000)]
        numbers = {hash(c) for c in handles}
        assert len(numbers) == 5_000 and seen.isdisjoint(numbers)
        seen |= numbers
        del handles
        fill(box, (300, 30_000))
        drain(box)


def test_channels_of_many_capacities(alone: None) -> None:
    rng = random.Random(1)
    for _ in range(300):
        chans = [chan(rng.randrange(3_000)) for _ in range(10)]
        for c in chans:
            for i in range(min(c.cap, 3)):
                c.send((i, "x" * rng.randrange(200)))
        for c in chans:
            assert [c.recv()[0] for _ in range(len(c))] == list(range(min(c.cap, 3)))
    del c, chans
    gc.collect()
    until(lambda: resident() < 4 * MIB, 20, lambda: f"{resident()} bytes; {_core.census()}")


def checked(rng: random.Random) -> tuple[int, Any]:
    size = int(2 ** rng.uniform(3, rng.choice((8, 12, 16, 20))))
    data = rng.randbytes(size)
    return zlib.crc32(data), data if rng.random() < 0.7 else {1: data, 2: chan(rng.randrange(5))}


def work(seed: int, box: Any, rounds: int) -> tuple[int, int]:
    """Send and receive at random, and check what arrives; return what was sent and received."""
    rng = random.Random(seed)
    sent = received = 0
    for i in range(rounds):
        filling = (i // 200 + seed) % 2 == 0
        try:
            if rng.random() < (0.8 if filling else 0.2):
                sent += box.try_send(checked(rng))
            else:
                message, ok = box.try_recv()
                if ok:
                    received += 1
                    crc, data = message
                    data = data[1] if isinstance(data, dict) else data
                    assert zlib.crc32(data) == crc
        except OutOfSharedMemory:
            pass
        if rng.random() < 0.01:
            goproc.yield_now()
    return sent, received


@pytest.mark.parametrize("seed", range(3))
def test_many_sizes_from_several_processes_at_once(small: None, seed: int) -> None:
    box = chan(2_000)
    gs = [go.on(p % 3)(work, 10 * seed + p, box, 1_500) for p in range(6)]
    counts = [g.result(50) for g in gs]
    assert sum(sent for sent, _ in counts) == sum(received for _, received in counts) + drain(box)
    del box, gs
    gc.collect()
    until(lambda: resident() < 8 * MIB, 20, lambda: f"{resident()} bytes; {_core.census()}")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "recv", "drop", "chan"]), st.integers(3, 21), st.integers(1, 40)),
        max_size=60,
    )
)
def test_any_order_of_sizes(alone: None, steps: list[tuple[str, int, int]]) -> None:
    """A model of the channel, message by message, while memory is short."""
    box = chan(1 << 12)
    model: list[int] = []
    kept: list[Any] = []
    number = 0
    for what, power, times in steps:
        for _ in range(times):
            try:
                if what == "send" and len(model) < box.cap:
                    number += 1
                    box.send((number, bytes([number % 256]) * (1 << power)))
                    model.append(number)
                elif what == "chan":
                    kept.append(chan(1 << power % 12))
                elif what == "drop" and kept:
                    kept.pop()
            except OutOfSharedMemory:
                break
            if what == "recv" and model:
                got, data = box.recv()
                assert got == model.pop(0) and data.count(got % 256) == len(data)
    assert [box.recv()[0] for _ in range(len(box))] == model


def test_garbage_goes_back_without_help(small: None) -> None:
    """Few channels with much in them, which were in messages once: too few for a collection that counts them."""
    until(lambda: resident() < 4 * MIB)
    box = chan(10)
    for _ in range(3):
        c = chan(10)
        for _ in range(4):
            c.send(b"x" * 1_000_000)
        box.send(c)
    del c
    assert resident() > 12 * MIB
    drain(box)
    until(lambda: resident() < 4 * MIB, 20, lambda: f"{resident()} bytes; {_core.census()}")


def test_memory_is_taken_beside_an_owner_that_allocates(small: None) -> None:
    """Another process gives back what it can, over and over, while the pages of the owner fill and empty."""

    def bursts(seed: int, n: int) -> int:
        rng = random.Random(seed)
        box = chan(400)
        for _ in range(n):
            size, times = rng.choice((57, 150, 700, 3_000, 20_000)), rng.randrange(1, 160)
            for i in range(times):
                box.send((i, bytes([i % 256]) * size, chan() if i % 7 == 0 else None))
            for i in range(times):
                got, data, _ = box.recv()
                assert got == i and data == bytes([i % 256]) * size
        return n

    def press(done: Any) -> int:
        large, box, n = b"x" * (100 << 20), chan(1), 0
        while not done.load():
            try:
                box.send(large)
            except OutOfSharedMemory:
                n += 1
        return n

    done = goproc.sync.Atomic(False)
    pressing = [go.on(proc)(press, done) for proc in (1, 2)]
    owners = [go.local(bursts, 1, 150), go.on(1)(bursts, 2, 150), go.on(2)(bursts, 3, 150)]
    assert [g.result(50) for g in owners] == [150] * 3
    done.store(True)
    assert all(g.result(50) > 0 for g in pressing)


# -- memory of malloc ------------------------------------------------------------------------------------------------


def _faults_of_arrays() -> int:
    """Pages that the kernel gives to a function that makes and drops three arrays of 1 MB, over and over."""
    import resource

    for _ in range(3):
        [bytearray(1 << 20) for _ in range(3)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        [bytearray(1 << 20) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_arrays_that_a_worker_drops_are_used_for_the_next(runtime2: Any) -> None:
    assert go.on(1)(_faults_of_arrays).result() < 3 * 256  # fewer than one round has pages


class Table:
    """An object that a worker might be unable to read: it travels apart from the message about it."""

    def __init__(self) -> None:
        self.column = numpy.ones(400_000)  # 3.2 MB


@pytest.mark.parametrize("way", ["executor", "pmap", "group"])
def test_the_memory_of_a_call_is_free_once_a_worker_has_read_it(runtimes: Any, way: str) -> None:
    """No collector has to find it: each call would be copied to memory that the system has to supply first."""
    runtimes.stop()
    with goproc.runtime(procs=1, memory="512M"):
        if way == "pmap":
            made = goproc.pmap(type, (Table() for _ in range(40)), chunk=1, ahead=2)
        elif way == "group":
            group = goproc.Group()
            made = (group.go(type, Table()).result() for _ in range(40))
        else:
            executor = Executor(1)
            made = (executor.submit(type, Table()).result() for _ in range(40))
        most = max(_core.census()["committed"] for _ in made)
        if way == "executor":
            executor.shutdown()
    assert most < 60 * MIB, most / MIB  # 190 where the collector has to find it
