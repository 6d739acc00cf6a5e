"""Every kind of case, and every kind of value through one: handles, locks, timers, contexts."""

from __future__ import annotations

import gc
from collections import Counter

import numpy
import pytest
from peek import until, until_waiting, until_waits_or_ended, waiters

import goproc
from goproc import (
    Cancelled,
    Selector,
    Ticker,
    Timer,
    WaitGroup,
    after,
    chan,
    context,
    default,
    go,
    nil,
    select,
    sleep,
    yield_now,
)
from goproc.shm import _core
from goproc.sync import Semaphore

FAR = 1000.0


class Thing:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is type(self) and other.x == self.x

    def __hash__(self):
        return 1


VALUES = [
    None, True, 0, -1, 2**63, -(2**200), 1.5, "", "x" * 56, "x" * 57, "ä" * 5000, b"", b"b" * 100_000, (), [], {}, [1, ["x", {"k": (None,)}]],
    {"a": {"b": [1] * 300}}, {1, 2}, frozenset("ab"), range(5), 1j, bytearray(b"abc"), Thing([1, "y" * 300]), int, len, ...,
]  # fmt: skip


@pytest.mark.parametrize("cap", [0, 3])
def test_values(place, cap):
    """Through a send case that is ready, one that blocks, and the same for receives."""

    def send(c, other, values):
        for v in values:
            select((c.send, v), other)

    def recv(c, other, n):
        return [select(other, c) for _ in range(n)]

    c, other = chan(cap), chan()
    s, r = place.sender(send, c, other, VALUES), place.receiver(recv, c, other, len(VALUES))
    got = r.result(20)
    s.result(20)
    assert [s.value for s in got] == VALUES
    assert [type(s.value) for s in got] == [type(v) for v in VALUES]
    assert {s.index for s in got} == {1}


@pytest.mark.parametrize("shape", [(3,), (10_000,), (0,), (50, 60), (500, 300)], ids=str)
def test_arrays(place, shape):
    def send(c, other, shape):
        for i in range(3):
            select((nil.send, i), (c.send, numpy.full(shape, i)), other)

    c, other = chan(), chan()
    s = place.sender(send, c, other, shape)
    arrays = [select(other, c).value for _ in range(3)]
    s.result(10)
    for i, a in enumerate(arrays):
        assert a.shape == shape and (a == i).all()
        a[...] = 7  # mine


def test_channels_of_channels(place):
    def reply(c, other):
        got = select(other, c).value
        return select((got["back"].send, got["v"] * 2), nil).index

    c, other, back = chan(), chan(), chan()
    g = place.receiver(reply, c, other)
    assert select(other, (c.tx.send, {"back": back.tx, "v": 21}), timeout=10).index == 1
    assert select(other, back, timeout=10) == (1, 42, True)
    assert g.result(10) == 0


def test_channel_as_value_is_the_same(place):
    c, other, sent = chan(), chan(), chan(1)
    g = place.sender(lambda c, other, sent: select((c.send, sent), other).index, c, other, sent)
    assert select(other, c).value is sent
    assert g.result(10) == 0


BIG = {
    "string": lambda: "x" * 100_000,
    "array": lambda: numpy.ones(50_000),
    "nested": lambda: [{"k": "y" * 1000}] * 30,
    "channel": lambda: chan(5),
    "channel in a dict": lambda: {"c": chan(1), "big": "z" * 1000},
    "array and channel": lambda: [numpy.zeros(1000), chan(), chan().rx],
}


@pytest.mark.parametrize("big", BIG)
def test_losing_sends_free_their_values(place, big):
    """By default, by another case at once or later, by time-out, by an error, by close."""

    def lose(make, full, ready, closed, later):
        for form in (select, lambda *cases, **kw: Selector(*cases).select(**kw)):
            v = make()
            assert form((full.send, v), default).index == 1
            assert form((full.send, v), (full.send, v), ready).index == 2
            try:
                form((full.send, v), nil, timeout=0.001)
            except TimeoutError:
                pass
            else:
                raise AssertionError("it was full")
            try:
                form((full.send, v), (closed.send, v))
            except goproc.ChanClosed:
                pass
            assert form((full.send, v), (nil.send, v), later.recv).index == 2

    full, ready, closed, later = chan(1), chan(), chan(), chan()
    full.send("first")
    ready.close()
    closed.close()
    gc.collect()
    _core.collect()
    before = _core.census()["blocks"]
    g = place.sender(lose, BIG[big], full, ready, closed, later)
    for _ in range(2):
        later.send(None, timeout=10)
    g.result(10)
    del g
    gc.collect()
    until(lambda: [_core.collect(), gc.collect(), _core.census()["blocks"] <= before][2])
    assert (len(full), waiters(full)) == (1, (0, 0))
    assert full.recv() == "first"


def test_sends_that_lose_to_a_close_free_their_values(place):
    full, other = chan(), chan()

    def blocked(full, other):
        try:
            select((full.send, "x" * 100_000), (other.send, numpy.ones(10_000)))
        except goproc.ChanClosed:
            return True

    g = place.sender(blocked, full, other)
    until_waiting(full, senders=1)
    full.close()
    assert g.result(10)
    assert waiters(other) == (0, 0)


# -- goroutines, wait groups -----------------------------------------------------------------------------------------


def test_goroutine(place):
    c, other = chan(), chan()
    g = place.anyone(lambda c: c.recv(), c)
    assert select(g, default).index == 1
    waits = place.receiver(lambda g, other: select(other, g), g, other)
    until_waiting(other, receivers=1)
    c.send("result")
    assert waits.result(10) == (1, None, True)
    assert select(other, g) == (1, None, True)
    assert g.result(10) == "result"


def test_goroutine_that_fails(place):
    """Ready all the same; result() tells."""
    c = chan()
    g = place.anyone(lambda c: 1 // c.recv(), c)
    waits = place.receiver(lambda g: select(g, nil).ok, g)
    c.send(0)
    assert waits.result(10) is True
    assert isinstance(g.exception(10), ZeroDivisionError)


def test_goroutine_selects_on_itself_and_on_one_that_is_cancelled(place):
    c = chan()
    g = place.anyone(lambda c: c.recv(), c)
    until_waiting(c, receivers=1)
    g.cancel()
    assert select(c, g, timeout=10) == (1, None, True)
    assert isinstance(g.exception(10), Cancelled)

    def alone():
        try:
            select(goproc.current(), timeout=0.002)
        except TimeoutError:
            return "still here"

    assert place.anyone(alone).result(10) == "still here"


def test_first_of_many_goroutines(place):
    cs = [chan() for _ in range(20)]
    gs = [place.anyone(lambda c: c.recv(), c) for c in cs]
    order, left = [], list(gs)
    for i in (7, 0, 19, 3):
        cs[i].send(i)
        at = select(*left, timeout=10).index
        order.append(left.pop(at).result())
    assert order == [7, 0, 19, 3]
    for i, c in enumerate(cs):
        if i not in order:
            c.send(i)
    assert sorted(g.result(10) for g in left) == sorted(set(range(20)) - set(order))


@pytest.mark.parametrize("form", ["wait", "object"])
def test_waitgroup(place, form):
    def waits(wg, other, form):
        return select(other, wg.wait if form == "wait" else wg)

    wg, other = WaitGroup(), chan()
    assert select(wg.wait, nil) == (0, None, True)
    wg.add(2)
    assert select(wg.wait, default).index == 1
    g = place.receiver(waits, wg, other, form)
    until_waiting(other, receivers=1)
    wg.done()
    place.sender(lambda wg: wg.done(), wg).join(10)
    assert g.result(10) == (1, None, True)
    assert waiters(wg) == waiters(other) == (0, 0)
    wg.add(1)
    g = place.receiver(waits, wg, other, form)
    until_waiting(wg, receivers=1)
    other.send("first")
    assert g.result(10) == (0, "first", True)
    assert waiters(wg) == (0, 0)
    wg.done()


# -- semaphores ------------------------------------------------------------------------------------------------------


def test_semaphore(place):
    sem, other = Semaphore(2), chan()
    assert select(sem.acquire, other) == (0, None, True)
    assert select((sem.acquire, 1), other) == (0, None, True)
    assert select(sem.acquire, default).index == 1
    g = place.receiver(lambda sem, other: select(other, (sem.acquire, 2)), sem, other)
    until_waiting(other, receivers=1)
    sem.release()
    assert waiters(other) == (1, 0)
    sem.release()
    assert g.result(10) == (1, None, True)
    assert not sem.try_acquire()
    sem.release(2)
    assert sem.try_acquire(2)
    sem.release(2)


def test_semaphore_that_loses_takes_no_units(place):
    sem, other = Semaphore(3), chan()
    sem.acquire(2)
    for end in ("value", "timeout", "cancel"):
        g = place.receiver(
            lambda sem, other, t: select(other, (sem.acquire, 2), timeout=t),
            sem,
            other,
            0.003 if end == "timeout" else None,
        )
        if end != "timeout":
            until_waiting(other, receivers=1)
        if end == "value":
            other.send(1)
            assert g.result(10).index == 0
        else:
            if end == "cancel":
                g.cancel()
            assert isinstance(g.exception(10), (TimeoutError, Cancelled))
        assert sem.try_acquire(1) and not sem.try_acquire(1)
        sem.release(1)
    sem.release(2)
    assert sem.try_acquire(3)
    sem.release(3)


@pytest.mark.parametrize("end", ["value", "timeout", "cancel"])
def test_large_request_that_leaves_lets_the_small_one_behind_it_go(place, end):
    """Semaphores are fair: one unit is free, but not for who comes after one that waits for two."""
    sem, other = Semaphore(2), chan()
    sem.acquire()
    large = place.receiver(
        lambda sem, other, t: select((sem.acquire, 2), other, timeout=t),
        sem,
        other,
        0.05 if end == "timeout" else None,
    )
    until_waits_or_ended(other, large)
    small = place.anyone(lambda sem: sem.acquire(), sem)
    if end == "value":
        other.send("go away")
    elif end == "cancel":
        large.cancel()
    small.result(10)
    large.exception(10)
    sem.release(2)
    assert waiters(other) == (0, 0)


@pytest.mark.watchdog(120)
def test_semaphores_under_load(place, long):
    """Never more than its size at once, and all units are there in the end."""

    def worker(sem, held, n, units, quit):
        done = 0
        while done < n:
            try:
                at = select((sem.acquire, units), quit, timeout=0.001 if done % 7 == 0 else None).index
            except TimeoutError:
                continue
            assert at == 0
            assert held.add(units) <= 3
            if done % 3 == 0:
                yield_now()
            held.add(-units)
            sem.release(units)
            done += 1

    sem, held, quit = Semaphore(3), goproc.Atomic(0), chan()
    n = 2000 if long else 150
    gs = [place.anyone(worker, sem, held, n, 1 + i % 3, quit) for i in range(6)]
    for g in gs:
        g.result(60)
    assert held.load() == 0 and sem.try_acquire(3)
    sem.release(3)
    assert waiters(quit) == (0, 0)


# -- timers and contexts ---------------------------------------------------------------------------------------------


def test_timer(place):
    def waits(c, seconds):
        start = goproc._timer.monotonic() if hasattr(goproc._timer, "monotonic") else 0.0
        t = Timer(seconds)
        got = select(c, t)
        return got.index, got.ok, got.value >= start

    c = chan()
    assert place.receiver(waits, c, 0.003).result(10) == (1, True, True)
    assert waiters(c) == (0, 0)
    assert select(c, after(0.002)).index == 1
    assert select(c, after(-1)).index == 1
    assert select(after(FAR), default).index == 1


def test_timer_that_is_not_first(place):
    def waits(c, t):
        return select(t, c), select(t, default).index

    c, t = chan(), Timer(FAR)
    g = place.receiver(waits, c, t)
    until_waiting(c, receivers=1)
    c.send("value")
    assert g.result(10) == ((1, "value", True), 1)
    assert t.stop() is True
    assert select(t, default).index == 1


def test_timer_is_reset_and_stopped_under_a_select(place):
    t, c = Timer(FAR), chan()
    g = place.receiver(lambda t, c: select(t, c, t.c), t, c)
    until_waiting(c, receivers=1)
    t.reset(2 * FAR)
    t.stop()
    with pytest.raises(TimeoutError):
        g.join(timeout=0.005)
    t.reset(0.001)
    at, value, ok = g.result(10)
    assert at in (0, 2) and isinstance(value, float) and ok
    assert waiters(c) == (0, 0)


def test_timer_goes_to_one_of_several_selects(place):
    t, c, got = Timer(FAR), chan(), chan(5)

    def waits(t, c, got):
        got.send(select(t, c).index)

    for _ in range(3):
        place.receiver(waits, t, c, got)
    until_waiting(c, receivers=3)
    t.reset(0.001)
    assert got.recv(timeout=10) == 0
    until_waiting(c, receivers=2)
    assert got.try_recv() == (None, False)
    c.close()
    assert [got.recv(timeout=10) for _ in range(2)] == [1, 1]


def test_ticker(place):
    def ticks(done):
        ticker = Ticker(0.002)
        try:
            return Counter(select(done, ticker).index for _ in range(5))
        finally:
            ticker.stop()

    assert place.receiver(ticks, chan()).result(10) == {1: 5}


def test_earliest_of_several_timers_and_the_timeout(runtime0):
    ts = [Timer(s) for s in (FAR, 0.004, FAR / 2)]
    assert select(*ts).index == 1
    with pytest.raises(TimeoutError):
        select(ts[0], ts[1], timeout=0.002)
    ts[2].reset(0.001)
    assert select(*ts, timeout=FAR).index == 2


def test_context(place):
    def waits(ctx, c):
        return select(c, ctx)

    ctx, cancel = context.with_cancel(context.background())
    c = chan()
    assert select(ctx, default).index == 1
    gs = [place.receiver(waits, ctx, c), place.receiver(lambda ctx, c: select(c, ctx.done()), ctx, c)]
    until_waiting(c, receivers=2)
    cancel()
    assert [g.result(10) for g in gs] == [(1, None, False)] * 2
    assert select(ctx) == (0, None, False)
    assert waiters(c) == (0, 0)
    # one that is never done has no channel
    assert select(context.background(), default).index == 1
    with pytest.raises(TimeoutError):
        select(context.background(), timeout=0.001)


def test_context_with_a_deadline(place):
    def waits(c):
        ctx, cancel = context.with_timeout(context.background(), 0.003)
        child, cancel2 = context.with_cancel(ctx)
        try:
            return select(c, child).index, str(child.err())
        finally:
            cancel2()
            cancel()

    assert place.receiver(waits, chan()).result(10) == (1, "context deadline exceeded")


def test_all_kinds_in_one(place):
    """Nothing is ready; then one of them, each in turn; the others are as before."""

    def waits(c, d, g, wg, sem, t, ctx):
        return select(c, (d.send, "v" * 100), g, wg, (sem.acquire, 2), t, ctx, nil)

    def start():
        c, d, sem, t = chan(), chan(), Semaphore(2), Timer(FAR)
        stop = chan()
        g = go.local(lambda: stop.recv())
        wg = WaitGroup()
        wg.add(1)
        sem.acquire()
        ctx, cancel = context.with_cancel(context.background())
        waiting = place.receiver(waits, c, d, g, wg, sem, t, ctx)
        until_waiting(c, receivers=1)
        ends = [
            lambda: c.send(1),
            lambda: d.recv(),
            lambda: stop.send(1),
            lambda: wg.done(),
            lambda: sem.release(),
            lambda: t.reset(0),
            cancel,
        ]
        return (c, d, g, wg, sem, t, ctx), waiting, ends

    for i in range(7):
        things, waiting, ends = start()
        ends[i]()
        assert waiting.result(10).index == i
        c, d, g, wg, sem, _, _ctx = things
        assert waiters(c) == waiters(d) == waiters(g) == waiters(wg) == waiters(sem) == (0, 0)
        for k, end in enumerate(ends):
            if k in (2, 3, 4, 6) and k != i:
                end()
        g.join(10)
        sem.release(2 if i == 4 else 0) if i == 4 else None
        assert sem.try_acquire(2)
        sem.release(2)
        sleep(0)
