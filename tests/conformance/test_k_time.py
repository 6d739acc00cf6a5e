"""Timers: cases K01 to K14 of the conformance list."""

from __future__ import annotations

import gc
from time import monotonic

import pytest
from peek import until, until_waiting, waiters

import goproc
from goproc import chan, default, go, select
from goproc._timer import Ticker, Timer, after, after_func, tick
from goproc.shm import _core

INFINITY = float("inf")
LONGEST = 2.0**63 / 1e9  # what a Go duration can hold, in seconds


def pending(c):
    """Receive a value if one is there now; return True then."""
    return select(c, default).index == 0


@pytest.fixture(params=["local", "on1"])
def spawn(request, runtime2):
    return {"local": go.local, "on1": go.on(1)}[request.param]


def test_K01_after(spawn):
    def waits(c):
        due = c.recv()
        return due, monotonic()

    start = monotonic()
    due, now = spawn(waits, after(0.1)).result(20)
    assert start + 0.1 <= due <= now


def test_K02_ordering(runtime0):
    delta, slots = 0.02, (5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0)

    def arrivals():
        """Return the times in the order of their arrival, and True if all waits had begun before the first of them."""
        arrived, due = [], monotonic() + 5 * delta
        channels = [after((5 + slot) * delta) for slot in slots]
        gs = [go.local(lambda c=c: arrived.append(c.recv())) for c in channels]
        while not (all_wait := all(waiters(c) == (1, 0) for c in channels)) and monotonic() < due:
            goproc.yield_now()
        in_time = all_wait and monotonic() < due
        for g in gs:
            g.result(20)
        return arrived, in_time

    in_time = False
    while not in_time:
        times, in_time = arrivals()
        assert len(times) == len(slots)
    assert times == sorted(times)


def test_K03_stop(spawn):
    def stopped():
        """Return what both stop() returned, the timers, the channel of the function, and True if all was in time."""
        called, due = chan(1), monotonic() + 0.3
        func = after_func(0.3, called.send, True)
        timer = Timer(0.3)
        won = timer.stop(), func.stop()
        return won, timer, func, called, monotonic() < due

    in_time = False
    while not in_time:
        won, timer, func, called, in_time = stopped()
    assert won == (True, True)

    def listens(c, called):
        after(0.3).recv()  # begins after those that were stopped
        return select(c, called, default).index

    assert spawn(listens, timer.c, called).result(20) == 2
    assert not timer.stop()
    assert not func.stop()
    # One that has fired, with its value not received yet, is stopped, and the value is gone.
    timer = Timer(0)
    goproc.sleep(0.01)  # past its time
    assert timer.stop()
    assert not pending(timer.c)
    assert not timer.stop()
    # Once it is received, there is nothing to stop.
    timer = Timer(0)
    timer.c.recv(timeout=20)
    assert not timer.stop()


def test_K04_reset(runtime0):
    delta = 0.05
    timer = Timer(2 * delta)
    goproc.sleep(delta)
    reset_at = monotonic()
    assert timer.reset(3 * delta)  # also if we were late and it has fired: its value was not received
    goproc.sleep(2 * delta)
    if not pending(timer.c):
        assert timer.c.recv(timeout=20) >= reset_at + 3 * delta
    assert monotonic() >= reset_at + 3 * delta
    assert not timer.reset(0.05)
    assert timer.c.recv(timeout=20) >= reset_at + 3 * delta
    assert not pending(timer.c)


def test_K04_reset_leaves_no_stale_value(runtime0):
    timer = Timer(0)
    goproc.sleep(0.01)  # past its time
    assert timer.reset(3600)
    assert not pending(timer.c)
    assert timer.stop()


def test_K06_len_cap_zero(runtime0):
    timer, ticker = Timer(0.001), Ticker(0.001)
    channels = (timer.c, ticker.c, after(0.001), tick(0.001), Timer(3600).c)
    for _ in range(2):
        for c in channels:
            assert len(c) == 0
            assert c.cap == 0
        goproc.sleep(0.02)  # past the times of all but the last
    assert pending(timer.c)
    assert ticker.stop()


def test_K07_waiter_then_reset(spawn):
    timer = Timer(10_000)
    g = spawn(lambda c: c.recv(), timer.c)
    until_waiting(timer.c, receivers=1)
    assert timer.reset(20_000)
    goproc.sleep(0.05)  # nothing is to happen
    assert g.state == "running"
    before = monotonic()
    assert timer.reset(1e-9)
    assert before <= g.result(20) <= monotonic()


def test_K07_two_waiters_one_value(runtime4):
    for first, second in ((0, 0), (0, 1), (1, 2)):
        timer, never, stop = Timer(10_000), chan(), chan()

        def waiter(c, never, stop):
            return select(c, never, stop).index

        gs = [go.on(p)(waiter, timer.c, never, stop) for p in (first, second)]
        until_waiting(timer.c, receivers=2)
        timer.reset(0)
        until(lambda gs=gs: any(g.state == "done" for g in gs))
        goproc.sleep(0.02)  # nothing is to happen
        stop.close()
        assert sorted(g.result(20) for g in gs) == [0, 2]


@pytest.mark.parametrize("make", [after, tick])
def test_K09_value_time(runtime0, make):
    start = monotonic()
    c = make(0.01)
    made = monotonic()
    goproc.sleep(0.05)  # the value has been there for a while when it is received
    assert start + 0.01 <= c.recv(timeout=20) <= made + 0.01


def test_K10_negative_and_overflow(runtime0):
    goproc.sleep(-LONGEST)
    for seconds in (-LONGEST, -INFINITY, -1, 0, 0.0):
        before = monotonic()
        assert before <= after(seconds).recv(timeout=20) <= monotonic()
    never = [after(LONGEST), after(1e300), after(INFINITY), Timer(INFINITY).c, tick(INFINITY), after(10**400)]
    goproc.sleep(0.02)  # nothing is to happen
    assert select(*never, default).index == len(never)
    assert tick(-1) == goproc.nil
    assert tick(0) == goproc.nil
    with pytest.raises(ValueError, match=r"^non-positive interval for NewTicker$"):
        Ticker(-1)
    ticker = Ticker(3600)
    with pytest.raises(ValueError, match=r"^non-positive interval for Ticker\.Reset$"):
        ticker.reset(0)
    assert ticker.stop()
    with pytest.raises(RuntimeError, match=r"^time: Stop called on uninitialized Timer$"):
        Timer.__new__(Timer).stop()
    with pytest.raises(RuntimeError, match=r"^time: Reset called on uninitialized Timer$"):
        Timer.__new__(Timer).reset(1)
    with pytest.raises(RuntimeError, match=r"^time: Reset called on uninitialized Ticker$"):
        Ticker.__new__(Ticker).reset(1)
    Ticker.__new__(Ticker).stop()


def test_K11_ticker_drop(spawn):
    def late(c, period):
        goproc.sleep(10.4 * period)
        woke = monotonic()
        return woke, c.recv(), c.recv()

    period = 0.02
    start = monotonic()
    ticker = Ticker(period)
    made = monotonic()
    woke, first, second = spawn(late, ticker.c, period).result(20)
    assert start + period <= first <= made + period  # the tick that waited is the first
    assert second > woke  # and the only one
    ticks = (second - first) / period
    assert ticks == pytest.approx(round(ticks), abs=0.01)
    assert ticker.stop()
    assert not pending(ticker.c)


def test_K12_ticker_stress(runtime4):
    ticker = Ticker(1e-9)

    def receives(c):
        for _ in range(100):
            c.recv()
        return True

    gs = [go.on(i % 4)(receives, ticker.c) for i in range(10)]
    assert all(g.result(30) for g in gs)
    assert ticker.stop()


def test_K13_afterfunc_chain(runtime0):
    ended = chan(1)
    left = 10

    def f():
        nonlocal left
        left -= 1
        if left >= 0:
            after_func(0, f)
            goproc.sleep(0.001)
        else:
            ended.send(True)

    after_func(0, f)
    assert ended.recv(timeout=20)


@pytest.mark.parametrize(
    "make",
    [
        lambda: after(3600),
        lambda: tick(3600),
        lambda: Timer(3600),
        lambda: Ticker(3600),
        lambda: Timer(3600).reset(7200),
    ],
    ids=["after", "tick", "Timer", "Ticker", "reset"],
)
def test_K14_unreferenced_timers(runtime0, make):
    make()
    gc.collect()
    _core.collect()
    before = _core.census()
    for _ in range(10_000):
        make()
    gc.collect()
    _core.collect()
    after_ = _core.census()
    for name in ("objects", "handles", "blocks"):
        assert after_.get(name, 0) <= before.get(name, 0)
