"""Timers beyond the conformance cases: shared by processes, func timers, what is left of them."""

from __future__ import annotations

import contextvars
import gc
import math
import threading
import weakref
from time import monotonic

import pytest
from peek import until, until_waiting, until_waits_or_ended
from programs import run

import goproc
from goproc import chan, default, go, select
from goproc._timer import Ticker, Timer, after, after_func, tick
from goproc.shm import _core

INFINITY = float("inf")


def census_after_collection():
    gc.collect()
    _core.collect()
    return {name: n for name, n in _core.census().items() if name in ("objects", "handles", "blocks")}


def forget_shared():
    """Forget the timers that were sent. They stay, as other processes may set them; here no process has one any more."""
    from goproc import _timer

    _timer._shared.clear()


# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        Timer,
        Ticker,
        after,
        tick,
        lambda s: after_func(s, print),
        lambda s: Timer(3600).reset(s),
        lambda s: Ticker(3600).reset(s),
    ],
)
def test_bad_durations(runtime0, call):
    with pytest.raises(ValueError, match="NaN"):
        call(math.nan)
    for bad in ("1", None, [1]):
        with pytest.raises(TypeError, match="seconds"):
            call(bad)


def test_after_func_of_no_function(runtime0):
    with pytest.raises(TypeError):
        after_func(1, None)


def test_channels_are_receive_only(runtime0):
    for c in (Timer(3600).c, Ticker(3600).c, after(3600), tick(3600)):
        assert isinstance(c, goproc.RecvChan)
        with pytest.raises(TypeError, match="receive-only"):
            c.send(1.0)
        with pytest.raises(TypeError, match="receive-only"):
            c.close()


def test_repr(runtime0):
    t = Timer(3600)
    assert repr(t).startswith("<Timer in 3")
    t.stop()
    assert repr(t) == "<Timer inactive>"
    t.reset(-1)
    assert repr(t) == "<Timer due>"
    assert repr(Ticker(1000)).startswith("<Ticker in ")
    assert repr(Timer.__new__(Timer)) == "<Timer uninitialized>"


@pytest.mark.parametrize(
    "first",
    ["timer.after(0.01).recv()", "timer.Timer(0.01).c.recv()", "context.with_cancel(context.background())"],
)
def test_first_use(tmp_path, first):
    done = run(tmp_path, f"from goproc import context, _timer as timer\n{first}\nprint('ok')\n", how="python")
    assert (done.status, done.out, done.err) == (0, "ok\n", "")


# -- values -----------------------------------------------------------------------------------------------------------


def test_value_is_when_it_was_due(runtime0):
    before = monotonic()
    t = Timer(0.02)
    after_ = monotonic()
    goproc.sleep(0.05)  # the value has been there for a while when it is received
    assert before + 0.02 - 1e-6 <= t.c.recv() <= after_ + 0.02 + 1e-6


def test_operations_on_the_channel(runtime2):
    assert after(0.005).recv_ok(timeout=20)[1]
    t = Timer(3600)
    assert t.c.try_recv() == (None, False)
    t.reset(0.02)
    goproc.sleep(0.03)  # past its time
    assert t.c.try_recv()[1]
    assert t.c.try_recv() == (None, False)
    with pytest.raises(TimeoutError):
        t.c.recv(timeout=0.01)
    with pytest.raises(TimeoutError):
        after(3600).recv(timeout=0.01)
    with pytest.raises(TimeoutError):
        select(after(3600), after(3600), timeout=0.01)
    assert not after(0.01).closed
    assert after(0) != after(0)


def test_a_ticker_is_a_stream(runtime2):
    ticker = Ticker(0.002)

    def takes(c):
        times = []
        for t in c:
            times.append(t)
            if len(times) == 5:
                return times

    start = monotonic()
    times = go.on(1)(takes, ticker.c).result(20)
    assert times == sorted(set(times))
    assert times[0] >= start - 0.002
    assert ticker.stop() and not ticker.stop()
    assert ticker.c.try_recv() == (None, False)
    assert not ticker.reset(0.001)
    assert ticker.c.recv(timeout=20)
    assert ticker.reset(3600)
    assert ticker.c.try_recv() == (None, False)
    ticker.stop()


def test_intervals_below_the_clock(runtime0):
    for ticker in (Ticker(1e-12), Ticker(5e-324)):
        assert len(ticker.c.recv_many(1)) == len(ticker.c.recv_many(1)) == 1
        assert ticker.reset(1e-15)
        assert ticker.c.recv(timeout=20) < ticker.c.recv(timeout=20)
    c = tick(1e-12)
    assert c.recv(timeout=20) < c.recv(timeout=20)


def test_select_takes_timers(runtime0):
    t, ticker = Timer(0.005), Ticker(3600)
    index, value, ok = select(chan(), ticker, t)
    assert (index, ok) == (2, True) and isinstance(value, float)
    assert select(t, ticker, default).index == 2
    ticker.stop()


def test_select_waits_for_the_earliest(runtime4):
    def waits():
        return select(after(3600), after(0.02), chan(), after(3600)).index

    assert [go.on(p)(waits).result(20) for p in range(4)] == [1] * 4


def test_many_receivers_of_one_timer(runtime4):
    """One value, whoever waits; then the next, by reset."""
    t, got = Timer(3600), chan(100)

    def receives(c, got):
        got.send(c.recv())

    gs = [go.on(p % 4)(receives, t.c, got) for p in range(8)]
    for n in range(1, 9):
        t.reset(0)
        until(lambda n=n: len(got) == n)
        goproc.sleep(0.002)  # nothing is to happen
        assert len(got) == n
    for g in gs:
        g.result(20)


def test_timers_of_threads(runtime0):
    got = []

    def thread():
        t = Timer(0.01)
        got.append(t.c.recv(timeout=20))
        got.append(t.reset(3600))
        got.append(t.stop())

    t = threading.Thread(target=thread)
    t.start()
    t.join()
    assert isinstance(got[0], float) and got[1:] == [False, True]


# -- shared by processes ----------------------------------------------------------------------------------------------


def test_a_timer_travels(runtime4):
    t = Timer(3600)
    ch = chan(1)
    ch.send(t)
    copy = ch.recv()
    assert copy == t and hash(copy) == hash(t) and copy.c == t.c
    assert t != Timer(3600) and t != t.c

    assert go.on(1)(lambda t: t.reset(1800), t).result(20) is True
    assert go.on(2)(lambda t: t.stop(), t).result(20) is True
    assert t.stop() is False
    assert go.on(3)(lambda t: (t.reset(0), t.c.recv() > 0), t).result(20) == (False, True)
    assert t.stop() is False
    ticker = Ticker(3600)
    assert go.on(1)(lambda t: (t.reset(0.001), t.c.recv() > 0, t.stop()), ticker).result(20) == (
        True,
        True,
        True,
    )
    assert not ticker.stop()


@pytest.mark.parametrize("setter, waiter", [(0, 1), (1, 0), (1, 2), (1, 1)])
def test_a_waiter_hears_of_a_reset_elsewhere(runtime4, setter, waiter):
    t = Timer(3600)
    g = go.on(waiter)(lambda c: c.recv(), t.c)
    until_waiting(t.c, receivers=1)
    before = monotonic()
    go.on(setter)(lambda t: t.reset(0.01), t).result(20)
    assert g.result(20) >= before + 0.01


@pytest.mark.parametrize("setter", [0, 1])
def test_a_waiter_hears_of_a_stop_elsewhere(runtime2, setter):
    t = Timer(0.2)
    g = go.on(1)(lambda c: c.recv(), t.c)
    until_waits_or_ended(t.c, g)
    if go.on(setter)(lambda t: t.stop(), t).result(20):
        goproc.sleep(0.3)  # past its time: nothing is to happen
        assert g.state == "running"
        t.reset(0)
    g.result(20)


def test_a_timer_outlives_its_maker(runtime2):
    c = go.on(1)(lambda: after(0.02)).result(20)
    assert c.recv(timeout=20) > 0


# -- functions --------------------------------------------------------------------------------------------------------


def test_after_func(runtime2):
    def f(a, *, b):
        out.send((a, b, goproc.proc()))

    out = chan(1)
    t = after_func(0.005, f, 1, b=2)
    assert t.c is None
    assert out.recv(timeout=20) == (1, 2, 0)
    assert not t.stop()
    assert not t.reset(0)
    assert out.recv(timeout=20) == (1, 2, 0)
    assert not t.reset(3600)
    assert t.reset(3600)
    assert t.stop()
    assert not t.stop()
    goproc.sleep(0.01)  # nothing is to happen
    assert len(out) == 0

    def makes(out):
        after_func(0.005, lambda: out.send(goproc.proc()))

    go.on(1)(makes, out).result(20)
    assert out.recv(timeout=20) == 1


def test_after_func_shares_memory_and_contextvars(runtime0):
    var = contextvars.ContextVar("var", default="none")
    seen, ended = [], chan(1)

    def f():
        seen.append(var.get())
        ended.send(True)

    token = var.set("here")
    after_func(0.005, f)
    var.reset(token)
    assert ended.recv(timeout=20)
    assert seen == ["here"]


def test_reset_may_run_it_beside_itself(runtime0):
    entered, hold = chan(), chan()

    def f():
        entered.send(True)
        hold.recv_ok()

    t = after_func(0, f)
    entered.recv(timeout=20)
    assert not t.stop()
    assert not t.reset(0)
    entered.recv(timeout=20)
    hold.close()


def test_after_func_infinity(runtime0):
    t = after_func(INFINITY, print)
    assert t.stop()
    called = chan(1)
    after_func(-INFINITY, called.send, True)
    assert called.recv(timeout=20)


@pytest.mark.parametrize("owner, other", [(0, 1), (1, 0), (1, 2)])
def test_func_timers_are_set_from_elsewhere(runtime4, owner, other):
    out = chan(10)

    def makes(out):
        return after_func(3600, lambda: out.send(goproc.proc()))

    t = go.on(owner)(makes, out).result(20)
    assert t.c is None
    for _ in range(2):
        go.on(other)(lambda t: t.reset(0.002), t).result(20)
        assert out.recv(timeout=20) == owner
    assert go.on(other)(lambda t: (t.reset(3600), t.reset(1800), t.stop(), t.stop()), t).result(20) == (
        False,
        True,
        True,
        False,
    )
    assert t.stop() is False
    # Stopped from elsewhere while it is pending: it does not run.
    t.reset(0.1)
    if go.on(other)(lambda t: t.stop(), t).result(20):
        goproc.sleep(0.15)  # past its time: nothing is to happen
        assert len(out) == 0
    t.reset(0.01)
    assert out.recv(timeout=20) == owner
    go.on(owner)(forget_shared).result(20)


def test_a_func_timer_that_came_back_is_the_same(runtime0):
    called = chan(1)
    t = after_func(3600, called.send, True)
    ch = chan(1)
    ch.send(t)
    copy = ch.recv()
    assert copy == t
    del t
    gc.collect()
    assert copy.reset(0)
    assert called.recv(timeout=20)
    forget_shared()


def test_after_func_from_a_thread(runtime0):
    called = chan(2)
    made = []
    thread = threading.Thread(target=lambda: made.append(after_func(0.005, called.send, 1)))
    thread.start()
    thread.join()
    assert called.recv(timeout=20) == 1
    thread = threading.Thread(target=lambda: made.append(made[0].reset(0.005)))
    thread.start()
    thread.join()
    assert called.recv(timeout=20) == 1
    assert made[1] is False


def test_objects_of_a_func_timer_go(runtime0):
    class Thing:
        def method(self):
            pass

    def dead(ref):
        gc.collect()
        return ref() is None

    # Dropped while it is pending it still fires, and then goes.
    thing = Thing()
    ref = weakref.ref(thing)
    after_func(0.01, thing.method)
    del thing
    assert not dead(ref)
    until(lambda: dead(ref))
    # Stopped and dropped, it goes at once.
    thing = Thing()
    ref = weakref.ref(thing)
    t = after_func(3600, thing.method)
    t.stop()
    del thing, t
    goproc.yield_now()
    assert dead(ref)


def test_nothing_is_left_of_func_timers(runtime0):
    def use():
        after_func(3600, print).stop()
        t = after_func(3600, print)
        t.reset(7200)
        t.stop()

    use()
    before = census_after_collection()
    for _ in range(2000):
        use()
    after_ = census_after_collection()
    assert all(after_[name] <= before[name] for name in before)


def test_nothing_is_left_of_received_timers(runtime0):
    def use():
        after(0).recv()
        select(after(0), after(3600))

    use()
    before = census_after_collection()
    for _ in range(1000):
        use()
    after_ = census_after_collection()
    assert all(after_[name] <= before[name] for name in before)


def test_an_exception_in_a_function_is_a_panic(tmp_path):
    done = run(
        tmp_path,
        """
        import goproc
        from goproc import _timer as timer

        def fails():
            raise ValueError("at the wrong time")

        timer.after_func(0.01, fails)
        goproc.sleep(20)
        """,
    )
    assert done.status == 2
    assert done.err.startswith("panic: at the wrong time\n")


def test_a_pending_timer_is_no_deadlock(tmp_path):
    done = run(
        tmp_path,
        """
        import goproc
        from goproc import _timer as timer

        ch = goproc.chan()
        timer.after_func(0.3, ch.send, "by the function")
        print(ch.recv())
        print(timer.after(0.3).recv() > 0)
        """,
    )
    assert (done.status, done.out) == (0, "by the function\nTrue\n")


@pytest.mark.parametrize("change", ["reset", "stop", "nothing"])
@pytest.mark.parametrize("proc", [0, 1])
def test_waiter_for_a_timer_keeps_its_place_in_other_queues(runtime2, proc, change):
    def first(c, t, out):
        out.send(("first", goproc.select(c, t).value))

    def second(c, out):
        out.send(("second", c.recv()))

    c, out, t = chan(), chan(2), Timer(3600)
    gs = [go.on(proc)(first, c, t, out)]
    until_waiting(c, receivers=1)
    gs.append(go.on(proc)(second, c, out))
    until_waiting(c, receivers=2)
    if change == "reset":
        assert t.reset(1800)
    elif change == "stop":
        assert t.stop()
    assert c.try_send("x") and c.try_send("y")
    assert sorted(out.recv(timeout=20) for _ in range(2)) == [("first", "x"), ("second", "y")]
    for g in gs:
        g.join(20)


@pytest.mark.parametrize("proc", [0, 1])
def test_waiter_that_loses_a_timer_to_another_keeps_its_place(runtime2, proc):
    """Two are parked until the timer is due, and one gets its value."""

    def one(c, t, out, name):
        r = goproc.select(c, t)
        out.send((name, r.index))
        return r.index

    for _ in range(5):
        c, out, t = chan(), chan(3), Timer(3600)
        gs = [go.on(0)(one, c, t, out, "first")]
        until_waiting(c, receivers=1)
        gs.append(go.on(proc)(one, c, t, out, "second"))
        until_waiting(c, receivers=2)
        gs.append(go.on(0)(c.recv))
        until_waiting(c, receivers=3)
        t.reset(0.001)
        winner, index = out.recv(timeout=20)
        assert index == 1
        until_waiting(c, receivers=2)
        assert c.try_send("x")
        assert out.recv(timeout=20) == ("second" if winner == "first" else "first", 0)
        assert c.try_send("y")
        assert gs[2].result(20) == "y"
        for g in gs:
            g.join(20)


def test_a_timer_set_earlier_wakes_its_waiters(runtime2):
    """Again and again, from the other process: each time for the new time, and never lost."""

    def waits(t, out):
        for _ in range(200):
            goproc.select(t, chan())
            out.send(1)

    out, t = chan(), Timer(3600)
    g = go.on(1)(waits, t, out)
    for _ in range(200):
        t.reset(3600)
        t.reset(0)
        out.recv(timeout=20)
    g.join(20)


def test_the_function_of_a_timer_is_its_makers_child(runtime2):
    """Labels and parent are of who called after_func(), not of who runs when the timer is due."""

    def f(out):
        out.send(goproc.current().labels)

    def busy(stop):
        while not stop.load():
            goproc.sleep(0.001)

    def makes(out):
        after_func(0.02, f, out)

    stop, out = goproc.Atomic(0), chan(1)
    other = go.opts(labels={"job": "other"}).local(busy, stop)
    after_func(0.02, f, out)
    assert out.recv(timeout=20) == {}
    go.opts(labels={"job": "mine"}).local(makes, out).join(20)
    assert out.recv(timeout=20) == {"job": "mine"}
    stop.store(1)
    other.join(20)
