"""Everything that blocks takes a timeout, and an operation that was given up leaves nothing behind.

"Nothing behind" has two sides: the queue of the channel is empty again, and the next operation is matched with the
next partner, not with the one that left.
"""

from __future__ import annotations

import pytest
from peek import until, until_waiting, waiters

from goproc import Cancelled, WaitGroup, chan, go, runtime, sleep

SHORT = 0.002
FORMS = {
    "recv": lambda c, t: c.recv(timeout=t),
    "recv_positional": lambda c, t: c.recv(t),
    "recv_ok": lambda c, t: c.recv_ok(timeout=t),
    "recv_many": lambda c, t: c.recv_many(3, timeout=t),
    "send": lambda c, t: c.send("late", timeout=t),
    "send_block": lambda c, t: c.send("late" * 100, timeout=t),
    "send_positional": lambda c, t: c.send("late", t),
    "send_many": lambda c, t: c.send_many(["late"], timeout=t),
}


def filled(cap):
    c = chan(cap)
    for i in range(cap):
        c.send(i)
    return c


@pytest.mark.parametrize("form", FORMS)
def test_times_out_and_leaves_no_waiter(place, some_cap, form):
    c = filled(some_cap) if form.startswith("send") else chan(some_cap)
    f = FORMS[form]

    def attempt(c):
        try:
            f(c, SHORT)
        except TimeoutError as error:
            return str(error)

    side = place.sender if form.startswith("send") else place.receiver
    text = side(attempt, c).result(10)
    assert text == ("chan send: timed out" if form.startswith("send") else "chan receive: timed out")
    assert waiters(c) == (0, 0)
    with pytest.raises(TimeoutError):
        f(c, SHORT)
    assert waiters(c) == (0, 0)
    # what comes next is matched right
    if form.startswith("send"):
        assert [c.recv() for _ in range(some_cap)] == list(range(some_cap))
        g = place.receiver(lambda c: c.recv(), c)
        c.send("next")
        assert g.result(10) == "next"
    else:
        g = place.sender(lambda c: c.send("next"), c)
        assert c.recv() == "next"
        g.result(10)


@pytest.mark.parametrize("timeout", [0, -1, 0.0, -1e300])
def test_no_time_at_all_is_a_poll(place, some_cap, timeout):
    c = chan(some_cap)
    with pytest.raises(TimeoutError):
        c.recv(timeout=timeout)
    g = place.sender(lambda c: c.send(7), c)
    until_waiting(c, senders=1) if some_cap == 0 else g.result(10)
    assert c.recv(timeout=timeout) == 7
    g.result(10)


@pytest.mark.parametrize("timeout", [1e9, 1e300, float("inf"), 10**6, True])
def test_very_long_is_not_short(place, timeout):
    c = chan()
    g = place.receiver(lambda c, t: c.recv(timeout=t), c, timeout)
    until_waiting(c, receivers=1)
    c.send("came")
    assert g.result(10) == "came"


def test_timeout_that_is_no_number():
    """NaN must not get among the timers, where it would have no place in the order and stop all that follow."""
    with runtime(procs=0):
        c, wg = chan(), WaitGroup()
        wg.add(1)
        gs = [
            go.local(lambda: c.recv(timeout=float("nan"))),
            go.local(lambda: c.send(1, timeout=float("nan"))),
            go.local(lambda: wg.wait(timeout=float("nan"))),
        ]
        slept = go.local(lambda: sleep(0.005) or "slept")
        try:
            until(lambda: slept.state == "done", 5)
        finally:
            for g in gs:
                g.cancel()
        for g in gs:
            assert isinstance(g.exception(5), ValueError)


def test_timeout_too_large_for_a_float(runtime0):
    with pytest.raises((OverflowError, ValueError)):
        chan().recv(timeout=10**400)
    with pytest.raises(TimeoutError):
        chan().recv(timeout=SHORT)


def test_waiter_in_the_middle_leaves(place):
    """The queue stays in order when somebody who is neither first nor last gives up."""
    c, gs = chan(), []
    for i in range(5):
        gs.append(place.receiver(lambda c: c.recv(), c))
        until_waiting(c, receivers=i + 1)
    for i in (2, 0, 4):
        assert gs[i].cancel()
        with pytest.raises(Cancelled):
            gs[i].result(10)
    assert waiters(c) == (2, 0)
    c.send("first")
    c.send("second")
    assert [gs[1].result(10), gs[3].result(10)] == ["first", "second"]


def test_sender_in_the_middle_leaves(place):
    c, gs = chan(1), []
    c.send("buffered")
    for i in range(5):
        gs.append(place.sender(lambda c, i: c.send({"sender": i, "pad": "x" * 100}), c, i))
        until_waiting(c, senders=i + 1)
    for i in (3, 0):
        assert gs[i].cancel()
        with pytest.raises(Cancelled):
            gs[i].result(10)
    assert waiters(c) == (0, 3)
    assert c.recv() == "buffered"
    assert [c.recv()["sender"] for _ in range(3)] == [1, 2, 4]
    assert c.try_recv() == (None, False)
    for i in (1, 2, 4):
        gs[i].result(10)


def test_timeouts_race_with_partners(place, some_cap):
    """Whoever says a value was sent, it arrives; whoever says it was not, it does not: also at the last moment."""

    def send(c):
        sent = 0
        for _ in range(300):
            try:
                c.send(1, timeout=0.0002)
                sent += 1
            except TimeoutError:
                pass
        return sent

    def recv(c, stop):
        got = 0
        while True:
            try:
                got += c.recv(timeout=0.0003)
            except TimeoutError:
                if stop.closed:
                    return got

    c, stop = chan(some_cap), chan()
    senders = [place.sender(send, c) for _ in range(3)]
    receivers = [place.receiver(recv, c, stop) for _ in range(2)]
    sent = sum(g.result(30) for g in senders)
    stop.close()
    got = sum(g.result(30) for g in receivers) + len(c)
    assert got == sent
    assert waiters(c) == (0, 0)


def test_timeout_while_others_run(place):
    """A waiting goroutine's timeout comes although its process never idles."""
    c, stop = chan(), chan()

    def busy(a, stop):
        n = 0
        while not stop.closed:
            a.send(n)
            a.recv()
            n += 1

    def wait(c):
        try:
            c.recv(timeout=0.01)
        except TimeoutError:
            return "time is up"

    spinner = place.receiver(busy, chan(1), stop)
    assert place.receiver(wait, c).result(20) == "time is up"
    stop.close()
    spinner.result(10)


def test_cancelled_while_blocked(place, some_cap):
    c = filled(some_cap)
    g = place.sender(lambda c: c.send("x" * 100), c)
    until_waiting(c, senders=1)
    assert g.cancel() is True
    assert g.cancel() is False
    with pytest.raises(Cancelled):
        g.result(10)
    assert waiters(c) == (0, 0)
    assert len(c) == some_cap


def test_many_timeouts_that_did_not_expire_are_forgotten(runtime0):
    """A timer of an operation that completed must not stay until its time: a loop of such would fill the memory."""
    from goproc._sched import timers

    a, b = chan(), chan()

    def echo():
        for v in a:
            b.send(v)

    g = go.local(echo)
    for i in range(3000):
        a.send(i, timeout=1000)
        assert b.recv(timeout=1000) == i
    a.close()
    g.join(10)
    assert len(timers.heap) < 2000
