"""Goroutines that compute, and those that have not started: what the end of a time slice starts, and what it leaves."""

from __future__ import annotations

import asyncio
import concurrent.futures
import csv
import json
import logging
import os
import queue
import statistics
import subprocess
import sys
import textwrap
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from goproc import Atomic, WaitGroup, chan, go, goroutine, safepoint, scheduler, sleep, stdio


@pytest.fixture
def clock(monkeypatch):
    """Ends slices by hand: ``clock.tick(g)`` is what on_tick() asks; how many may start is `clock.waiting`."""

    class Core:
        def procs(self):
            return clock.procs

        def task_pinned(self):
            return clock.pinned

        def slice_computes(self):
            return clock.computes

        def task_next(self, claimed, newest, steal):
            assert not steal
            clock.waiting -= 1
            return clock.waiting >= 0

    class Clock:
        now, procs, pinned, computes, waiting = 1000.0, 2, False, True, 1000

        def tick(self, g, after=0.0):
            self.now += after
            return scheduler._visit(g)

        def start(self):
            g = scheduler.G(7, "")
            monkeypatch.setattr(scheduler, "_newcomer", g)
            return g

        def until_one_starts(self, g):
            began = self.now
            while not self.tick(g, 0.01):
                assert self.now < began + 10
            return round(self.now - began, 2)

    clock = Clock()
    monkeypatch.setattr(scheduler, "_core", Core())
    monkeypatch.setattr(scheduler, "monotonic", lambda: clock.now)
    monkeypatch.setattr(scheduler, "_hungry", set())
    for name, value in {"_newcomer": None, "_next_visit": 0.0, "_visits_until": 0.0}.items():
        monkeypatch.setattr(scheduler, name, value)
    return clock


def test_the_more_compute_the_longer_the_next_waits(clock):
    computing, waits = [], []
    for _ in range(6):
        g = clock.start()
        computing.append(g)
        assert not clock.tick(g)
        waits.append(clock.until_one_starts(g))
    assert waits == pytest.approx([0.04, 0.16, 0.64, 1.0, 1.0, 1.0], abs=0.011)
    scheduler._hungry.difference_update(computing[1:])  # they have ended
    g = clock.start()
    assert not clock.tick(g)
    assert clock.until_one_starts(g) == pytest.approx(0.16, abs=0.011)


def test_what_computed_and_waits_for_something_does_not_count(clock):
    for reason in ("chan receive", "runnable"):
        g = clock.start()
        clock.tick(g)
        g.parked, g.reason = True, reason
    g = clock.start()
    assert not clock.tick(g)
    assert clock.until_one_starts(g) == pytest.approx(0.16, abs=0.011)


def test_short_ones_have_every_second_slice(clock):
    g = clock.start()
    assert not clock.tick(g)
    clock.until_one_starts(g)  # it is short: the next to use up its slice is g again
    assert [clock.tick(g, 0.0101) for _ in range(6)] == [False, True] * 3


def test_what_nobody_else_can_run_starts_at_once(clock):
    clock.pinned = True
    for _ in range(6):
        assert clock.tick(clock.start(), 0.01)
    clock.pinned = False
    assert not clock.tick(clock.start(), 0.01)


def test_nothing_waits_for_what_blocks_the_thread(clock):
    g = clock.start()
    assert not clock.tick(g)
    clock.computes = False
    for _ in range(6):
        assert clock.tick(clock.start(), 0.01)
    clock.computes = True
    g = clock.start()
    assert not clock.tick(g)
    assert clock.until_one_starts(g) == pytest.approx(0.16, abs=0.011)


def test_a_process_alone_lets_each_start_soon(clock):
    clock.procs = 1
    for _ in range(6):
        assert clock.tick(clock.start(), 0.0201)


def test_nothing_waits(clock):
    clock.waiting = 0
    assert not clock.tick(clock.start(), 100)
    assert not clock.tick(clock.start(), 100)


@pytest.mark.parametrize("hogs", [1, 3])
def test_short_goroutines_run_beside_those_that_compute(runtime2, hogs):
    """Every process computes without an end, and without an operation of goproc."""
    ends = [chan() for _ in range(2 * hogs)]
    started = WaitGroup()
    started.add(2 * hogs)

    def hog(started, end):
        over = []

        def wait():
            over.append(end.recv_ok(timeout=50)[1])

        go.local(wait)
        started.done()
        x = 1
        while not over:
            x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        return over

    gs = [go.on(i % 2)(hog, started, end) for i, end in enumerate(ends)]
    started.wait(timeout=50)
    assert [g.result(50) for g in [go(int, i) for i in range(100)]] == list(range(100))
    assert [g.result(50) for g in [go.on(i % 2)(int, i) for i in range(100)]] == list(range(100))
    assert all(g.state != "done" for g in gs)
    for end in ends:
        end.close()
    assert [g.result(50) for g in gs] == [[False]] * (2 * hogs)


def test_all_start_although_each_blocks_its_thread(runtime2, tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)

    def block(path, started):
        with open(path, "r+b", buffering=0) as pipe:
            started.done()
            return pipe.read(1)

    started = WaitGroup()
    started.add(12)
    with open(path, "r+b", buffering=0) as pipe:
        gs = [go(block, path, started) for _ in range(12)]
        started.wait(timeout=50)
        pipe.write(b"x" * 12)
        assert [g.result(50) for g in gs] == [b"x"] * 12


# -- where a goroutine can be left --------------------------------------------------------------------------------------


def test_libraries_that_know_no_locks(clock):
    """A goroutine is left in json or NumPy, but not where a lock of the whole thread may be held."""

    def kind(module):
        code = compile("", module.__file__, "exec")
        return safepoint._kind(SimpleNamespace(f_code=code, f_globals=vars(module)))

    for module in (
        json,
        statistics,
        textwrap,
        csv,
        np._core.numeric if hasattr(np, "_core") else np.core.numeric,
    ):
        assert kind(module) == "lockless", module
    for module in (logging, queue, threading, subprocess, concurrent.futures._base, asyncio.runners):
        assert kind(module) == "library", module
    assert kind(scheduler) == "scheduler" and kind(stdio) == "tool" and kind(goroutine) == "goproc"
    assert kind(sys.modules[__name__]) == "user"


def frames(*functions):
    """A stack of these, the innermost first."""
    frame = None
    for f in reversed(functions):
        frame = SimpleNamespace(f_code=f.__code__, f_globals=f.__globals__, f_back=frame)
    return frame


@pytest.mark.parametrize(
    "stack, left, raised",
    [
        ([frames], True, True),
        ([json.loads, frames], True, True),
        ([logging.info, frames], False, True),
        ([json.loads, logging.info, frames], False, True),
        ([goroutine.origin, frames], False, False),
        ([json.loads, goroutine.origin, frames], False, False),
        ([frames, goroutine.origin, frames], True, True),
        ([stdio.flush_all, frames], False, True),
        ([json.loads, stdio.flush_all, frames], False, True),
        ([scheduler.sleep, frames], False, False),
        ([frames, scheduler._run_goroutines], True, True),
        ([scheduler._run_goroutines], False, False),
        ([frames, logging.info, frames], False, True),
    ],
    ids=lambda x: "-".join(f.__name__ for f in x) if isinstance(x, list) else "",
)
def test_where_a_goroutine_can_be_left(stack, left, raised):
    frame = frames(*stack)
    assert safepoint.is_safepoint(frame, scheduler._run_goroutines.__code__) == left
    assert safepoint.may_raise(frame) == raised


NUMBERS = [float(i) for i in range(300)]
CALLS = {
    "json": lambda: json.loads(json.dumps(NUMBERS)),
    "statistics": lambda: statistics.mean(NUMBERS),
    "numpy": lambda: np.mean(np.ones(1000)),
    "logging": lambda: logging.getLogger("of this test").debug(
        "not shown"
    ),  # knows locks: left outside of it
}


@pytest.mark.parametrize("library", list(CALLS))
def test_a_loop_of_library_calls_lets_others_run(runtime2, library):
    def computes(call, begun, stop):
        begun.send(1)
        while not stop.load():
            call()

    begun, stop = chan(), Atomic(0)
    g = go.on(0)(computes, CALLS[library], begun, stop)
    begun.recv()
    for _ in range(5):
        sleep(0.001)  # comes back although the other computes for ever
    stop.store(1)
    g.join(20)
