"""The rate limiter: golang.org/x/time/rate's arithmetic on a clock of the test's own, then the real one."""

from __future__ import annotations

import math
import random

import pytest
from peek import until, until_blocked

from goproc import Atomic, Cancelled, Limiter, WaitGroup, chan, context, go, rate, yield_now
from goproc.errors import Canceled, DeadlineExceeded


class Clock:
    """Time that passes when the test says so, in this process."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def forward(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(runtime0, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(rate, "monotonic", clock)
    return clock


def test_every():
    assert rate.every(0.1) == 10
    assert rate.every(60) == 1 / 60
    assert rate.every(0) == rate.every(-1) == rate.inf == math.inf


def test_burst_of_one(clock):
    limiter = Limiter(10, 1)
    got = []
    for seconds in (0, 0, 0, 0.1, 0, 0, 0.1, 0):
        clock.forward(seconds)
        got.append(limiter.allow())
    assert got == [True, False, False, True, False, False, True, False]


def test_burst_of_three(clock):
    limiter = Limiter(10, 3)
    got = []
    for seconds in (0, 0, 0, 0, 0.1, 0, 0.1, 0.1, 0.1, 1, 0, 0, 0):
        clock.forward(seconds)
        got.append(limiter.allow())
    assert got == [True, True, True, False, True, False, True, True, True, True, True, True, False]


def test_several_at_once(clock):
    limiter = Limiter(10, 3)
    assert not limiter.allow(4)
    assert limiter.allow(3)
    assert not limiter.allow()
    clock.forward(0.2)
    assert not limiter.allow(3)
    assert limiter.allow(2)
    assert limiter.allow(0)


def test_no_limit(clock):
    limiter = Limiter(rate.inf, 0)
    assert limiter.allow(10**9)
    assert limiter.reserve(5).delay == 0
    limiter.wait(7)
    assert limiter.limit == math.inf


def test_no_more_than_the_burst(clock):
    limiter = Limiter(0, 2)
    assert [limiter.allow() for _ in range(3)] == [True, True, False]
    clock.forward(1e6)
    assert not limiter.allow()
    reservation = limiter.reserve()
    assert reservation.ok and reservation.delay == math.inf
    reservation.cancel()
    with pytest.raises(DeadlineExceeded):
        limiter.wait(timeout=1e6)


def test_tokens(clock):
    limiter = Limiter(10, 5)
    assert limiter.tokens() == 5
    limiter.allow(3)
    assert limiter.tokens() == 2
    clock.forward(0.15)
    assert limiter.tokens() == pytest.approx(3.5)
    clock.forward(100)
    assert limiter.tokens() == 5
    limiter.reserve(5)
    limiter.reserve(2)
    assert limiter.tokens() == -2


def test_reservations_queue_up(clock):
    limiter = Limiter(10, 2)
    delays = [limiter.reserve(n).delay for n in (2, 1, 2, 1)]
    assert delays == pytest.approx([0, 0.1, 0.3, 0.4])
    clock.forward(0.2)
    reservation = limiter.reserve()
    assert reservation.delay == pytest.approx(0.3)
    clock.forward(0.1)
    assert reservation.delay == pytest.approx(0.2)
    clock.forward(5)
    assert reservation.delay == 0


def test_a_reservation_of_more_than_the_burst(clock):
    limiter = Limiter(10, 2)
    reservation = limiter.reserve(3)
    assert not reservation.ok and reservation.delay == math.inf
    reservation.cancel()
    assert limiter.tokens() == 2
    assert repr(reservation) == "<Reservation refused>"


def test_cancel_the_last_reservation(clock):
    limiter = Limiter(10, 2)
    limiter.reserve(2)
    reservation = limiter.reserve(2)
    assert reservation.delay == pytest.approx(0.2)
    reservation.cancel()
    assert limiter.reserve(2).delay == pytest.approx(0.2)
    reservation.cancel()  # once
    assert limiter.tokens() == -2


def test_cancel_one_that_others_came_after(clock):
    limiter = Limiter(10, 2)
    limiter.reserve(2)
    first = limiter.reserve(2)
    limiter.reserve(1)
    first.cancel()  # the one after it goes on waiting for its time, and that is past one of the two tokens
    assert limiter.tokens() == pytest.approx(-2)
    assert limiter.reserve(2).delay == pytest.approx(0.4)


def test_cancel_too_late(clock):
    limiter = Limiter(10, 2)
    limiter.reserve(2)
    reservation = limiter.reserve(2)
    clock.forward(0.3)
    reservation.cancel()
    assert limiter.tokens() == pytest.approx(1)


def test_change_the_settings(clock):
    limiter = Limiter(10, 10)
    limiter.allow(10)
    clock.forward(0.5)
    limiter.set_limit(100)
    assert (limiter.limit, limiter.burst) == (100, 10)
    assert limiter.tokens() == pytest.approx(5)
    clock.forward(0.01)
    assert limiter.tokens() == pytest.approx(6)
    limiter.set_burst(3)
    assert limiter.tokens() == pytest.approx(3)
    limiter.set_burst(20)
    clock.forward(0.1)
    assert limiter.tokens() == pytest.approx(13)
    limiter.set_limit(rate.inf)
    assert limiter.allow(1000)


def test_a_clock_that_stands_still_or_runs_back(clock):
    """Processes take turns: one may have looked at the clock before another, and come after it."""
    limiter = Limiter(10, 2)
    assert limiter.allow(2)
    clock.forward(-50)
    assert not limiter.allow()
    clock.forward(50.1)
    assert limiter.allow()
    assert not limiter.allow()


def test_against_a_model(clock, long):
    """A bucket that is filled step by step, in exact arithmetic."""
    random.seed(1)
    for _ in range(200 if long else 20):
        speed, burst = random.choice((1, 4, 16)), random.randint(1, 6)
        limiter, tokens = Limiter(speed, burst), burst * 64
        for _ in range(100):
            steps = random.choice((0, 0, 1, 5, 64))
            clock.forward(steps / 64)
            tokens = min(burst * 64, tokens + steps * speed)
            n = random.randint(0, burst + 1)
            allowed = n <= burst and n * 64 <= tokens
            assert limiter.allow(n) == allowed
            tokens -= n * 64 * allowed


def test_wait(clock, monkeypatch):
    slept = []

    def passes(seconds):
        slept.append(seconds)
        clock.forward(seconds)

    monkeypatch.setattr(rate.waits, "sleep", passes)
    limiter = Limiter(10, 3)
    limiter.wait(3)
    limiter.wait()
    limiter.wait(2)
    assert slept == pytest.approx([0.1, 0.2])


def test_wait_errors(runtime0):
    limiter = Limiter(rate.every(3600), 2)
    with pytest.raises(ValueError, match=r"^rate: Wait\(n=3\) exceeds limiter's burst 2$"):
        limiter.wait(3)
    limiter.wait(2)
    for limits in (
        {"timeout": 30},
        {"timeout": 0},
        {"ctx": context.with_timeout(context.background(), 30)[0]},
    ):
        with pytest.raises(TimeoutError) as caught:
            limiter.wait(2, **limits)
        assert str(caught.value) == "rate: Wait(n=2) would exceed context deadline"
    with pytest.raises(DeadlineExceeded, match="would exceed context deadline"), context.timeout(30):
        limiter.wait(2)
    assert limiter.tokens() > -1  # none of them took any
    ctx, cancel = context.with_cancel(context.background())
    cancel()
    with pytest.raises(Canceled, match="context canceled"):
        limiter.wait(0, ctx)
    with pytest.raises(ValueError, match="NaN"):
        limiter.wait(timeout=math.nan)


def test_a_wait_that_is_given_up_gives_its_tokens_back(runtime2):
    limiter = Limiter(rate.every(3600), 1)
    limiter.wait()
    ctx, cancel = context.with_cancel(context.background())
    for args, kind in (((), Cancelled), ((1, ctx), Canceled)):
        waiting = go(limiter.wait, *args)
        until(lambda: limiter.tokens() <= -0.5)
        until_blocked(waiting)
        if args:
            cancel()
        else:
            waiting.cancel()
        assert isinstance(waiting.exception(20), kind)
        assert limiter.tokens() == pytest.approx(0, abs=0.01)


def test_really_waiting(runtime2):
    limiter = Limiter(1000, 1)
    done = WaitGroup()
    for _ in range(20):
        done.go(limiter.wait)
    ctx, _ = context.with_timeout(context.background(), 30)
    limiter.wait(1, ctx)
    done.wait(timeout=20)


def test_one_bucket_for_all_processes(runtime4):
    def attempts(limiter, allowed, start):
        start.recv_ok()
        for _ in range(200):
            if limiter.allow():
                allowed.add(1)
            yield_now()

    limiter, allowed, start = Limiter(0, 100), Atomic(0), chan()
    members = [go.on(i)(attempts, limiter, allowed, start) for i in range(4)]
    start.close()
    for g in members:
        g.result(20)
    assert allowed.load() == 100


def test_a_limiter_is_a_value(runtime2):
    limiter = Limiter(10, 2)
    other = go.on(1)(lambda limiter: (limiter.set_burst(5), limiter)[1], limiter).result(20)
    assert other == limiter and hash(other) == hash(limiter) and other != Limiter(10, 2)
    assert limiter.burst == 5
    reservation = go.on(1)(limiter.reserve, 2).result(20)
    reservation.cancel()
    assert reservation.ok
    assert repr(Limiter(10, 2)) == "<Limiter 10/s burst 2, 2.00 tokens>"


def test_bad_input(runtime0):
    for bad in ("1", None, True, 1j):
        with pytest.raises(TypeError):
            Limiter(bad, 1)
    for bad in (-1, math.nan, -math.inf):
        with pytest.raises(ValueError):
            Limiter(bad, 1)
    for bad in ("1", None, True, 1.5):
        with pytest.raises(TypeError):
            Limiter(1, bad)
        with pytest.raises(TypeError):
            Limiter(1, 1).allow(bad)
    with pytest.raises(ValueError):
        Limiter(1, -1)
    with pytest.raises(ValueError):
        Limiter(1, 1).reserve(-1)
