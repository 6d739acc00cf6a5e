"""A select that blocks: what ends it, and that it leaves every queue as it found it."""

from __future__ import annotations

import signal
import threading
from collections import Counter

import pytest
from peek import until, until_waiting, waiters

from goproc import (
    Atomic,
    Cancelled,
    ChanClosed,
    Selector,
    chan,
    context,
    default,
    go,
    nil,
    runtime,
    select,
    sleep,
    yield_now,
)

SHORT = 0.002
FORMS = {
    "select": lambda cases, **kw: select(*cases, **kw),
    "Selector": lambda cases, **kw: Selector(*cases).select(**kw),
    "called": lambda cases, **kw: Selector(*cases)(**kw),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def mixed(a, b, full):
    """Cases none of which is ready: two receives, two sends, one that never is; one channel twice."""
    return a, b.recv, (full.send, "late"), (full.send, "late" * 100), nil, a.recv_ok


def channels():
    full = chan(1)
    full.send("first")
    return chan(), chan(3), full


def nothing_happened(a, b, full):
    assert waiters(a) == waiters(b) == waiters(full) == (0, 0)
    assert (len(a), len(b), len(full)) == (0, 0, 1)


@pytest.mark.parametrize("timeout", [SHORT, 0, -1, 0.0, -1e300, float("-inf"), False])
def test_time_is_up(place, form, timeout):
    def attempt(form, mixed, a, b, full, timeout):
        try:
            form(mixed(a, b, full), timeout=timeout)
        except TimeoutError as error:
            return str(error)

    cs = channels()
    assert place.receiver(attempt, form, mixed, *cs, timeout).result(10) == "select: timed out"
    nothing_happened(*cs)
    # who comes next meets those who are there, not the one that left
    a, _b, full = cs
    g = place.receiver(lambda a: a.recv(), a)
    a.send("next")
    assert g.result(10) == "next"
    g = place.sender(lambda full: full.send("second"), full)
    assert [full.recv(), full.recv()] == ["first", "second"]
    g.result(10)


@pytest.mark.parametrize("timeout", [0, -1, None, 1e9, 1e300, float("inf"), 10**6, True, 0.001])
def test_ready_case_wins_over_any_timeout(runtime0, form, timeout):
    c = chan(1)
    c.send(1)
    assert form((c, nil), timeout=timeout) == (0, 1, True)
    assert form((nil, default), timeout=timeout) == (1, None, False)


@pytest.mark.parametrize("timeout", [None, 1e9, 1e300, float("inf"), 10**6])
def test_very_long_is_not_short(place, form, timeout):
    a, b, full = cs = channels()
    g = place.receiver(lambda form, mixed, cs, t: form(mixed(*cs), timeout=t), form, mixed, list(cs), timeout)
    until_waiting(b, receivers=1)
    assert (waiters(a), waiters(full)) == ((2, 0), (0, 2))
    b.send("came")
    assert g.result(10) == (1, "came", True)
    nothing_happened(*cs)


@pytest.mark.parametrize("n", [0, 1, 2, 70])
def test_only_nil_times_out(runtime0, form, n):
    with pytest.raises(TimeoutError):
        form([nil] * n, timeout=SHORT)


def test_cancel(place, form):
    def blocked(form, mixed, cs):
        try:
            form(mixed(*cs))
        except Cancelled:
            # it is over: the goroutine can go on, select included
            done = chan(1)
            done.send("cancelled")
            return select(*cs[:2], done).value

    a, _b, full = cs = channels()
    g = place.receiver(blocked, form, mixed, list(cs))
    until_waiting(a, receivers=2)
    assert g.cancel()
    assert g.result(10) == "cancelled"
    nothing_happened(*cs)
    assert a.try_send(1) is False and full.try_recv() == ("first", True) and full.try_recv() == (None, False)


def test_deadline_of_a_block(place, form):
    def blocked(form, mixed, cs):
        try:
            with context.timeout(0.005):
                form(mixed(*cs), timeout=100)
        except context.DeadlineExceeded:
            return "too late"

    cs = channels()
    assert place.receiver(blocked, form, mixed, list(cs)).result(10) == "too late"
    nothing_happened(*cs)


def test_shield_holds_a_deadline_off(place):
    def blocked(c, d, parked):
        with context.timeout(0.001):
            with context.shield():
                got = select(c, d)
            try:
                select(c, d)
            except context.DeadlineExceeded:
                return got

    c, d, parked = chan(), chan(), chan(1)
    g = place.receiver(blocked, c, d, parked)
    until_waiting(c, receivers=1)
    sleep(0.01)  # past the deadline
    place.sender(lambda c: c.send("late"), c).join(10)
    assert g.result(10) == (0, "late", True)
    assert waiters(c) == waiters(d) == (0, 0)


@pytest.mark.parametrize("how", ["timeout", "cancel", "context"])
def test_ends_that_race_with_a_value_lose_none(place, long, how):
    """Time is up just when a value comes: it was received or it was not; and a send was done or it was not."""

    def take(a, b, stop, how):
        got = []
        while True:
            try:
                if how == "context":
                    with context.timeout(0.0003):
                        at, value, _ok = select(a, b, stop)
                else:
                    at, value, _ok = select(a, b, stop, timeout=0.0003 if how == "timeout" else None)
            except (TimeoutError, context.DeadlineExceeded, Cancelled):
                continue
            if at == 2:
                return got
            got.append(value)

    def give(a, b, n, me):
        sent, i = [], 0
        while len(sent) < n:
            i += 1
            try:
                select((a.send, (me, i)), (b.send, (me, i, "x" * 200)), timeout=0.0003)
            except TimeoutError:
                continue
            sent.append((me, i))
            if i % 3 == 0:
                yield_now()
            if i % 50 == 0:
                sleep(0.001)  # a pause, in which the takers find nothing
        return sent

    a, b, stop = chan(), chan(), chan()
    n = 3000 if long else 300
    takers = [place.receiver(take, a, b, stop, how) for _ in range(2)]
    if how == "cancel":
        until_waiting(stop, receivers=2)  # a goroutine cancelled before it has started never does
    givers = [place.sender(give, a, b, n, me) for me in range(2)]
    while how == "cancel" and any(g.state == "running" for g in givers):
        for g in takers:
            g.cancel()
        sleep(0.0005)  # so that they take something, too
    sent = [v for g in givers for v in g.result(50)]
    stop.close()
    got = [v[:2] for g in takers for v in g.result(50)]
    assert Counter(got) == Counter(sent)
    assert waiters(a) == waiters(b) == waiters(stop) == (0, 0)


def test_close_wakes_a_receiver(place, form):
    _a, b, _full = cs = channels()
    g = place.receiver(lambda form, mixed, cs: form(mixed(*cs)), form, mixed, list(cs))
    until_waiting(b, receivers=1)
    place.sender(lambda b: b.close(), b).join(10)
    assert g.result(10) == (1, None, False)
    nothing_happened(*cs)


def test_close_wakes_a_sender(place, form):
    _a, _b, full = cs = channels()

    def blocked(form, mixed, cs):
        try:
            form(mixed(*cs))
        except ChanClosed as error:
            return str(error)

    g = place.receiver(blocked, form, mixed, list(cs))
    until_waiting(full, senders=2)
    full.close()
    assert g.result(10) == "send on closed channel"
    nothing_happened(*cs)
    assert [full.recv_ok(), full.recv_ok()] == [("first", True), (None, False)]


def test_all_channels_closed_at_once(place, long):
    for _ in range(50 if long else 10):
        cs = [chan() for _ in range(5)]
        gs = [place.receiver(lambda cs: select(*cs), cs) for _ in range(3)]
        until_waiting(cs[4], receivers=3)
        closers = [place.sender(lambda c: c.close(), c) for c in cs]
        for g in gs:
            at, value, ok = g.result(10)
            assert at in range(5) and (value, ok) == (None, False)
        for g in closers:
            g.join(10)
        assert [waiters(c) for c in cs] == [(0, 0)] * 5


def test_order_of_queues_holds_for_selects(place):
    """A blocked select has its place in each queue by when it blocked, beside plain operations."""
    c, other = chan(), chan()
    gs = []
    for i in range(6):
        f = (lambda c, other: c.recv()) if i % 2 else (lambda c, other: select(other, c).value)
        gs.append(place.receiver(f, c, other))
        until_waiting(c, receivers=i + 1)
    gs[2].cancel()
    assert isinstance(gs[2].exception(10), Cancelled)
    for i in range(5):
        c.send(i)
    assert [gs[i].result(10) for i in (0, 1, 3, 4, 5)] == [0, 1, 2, 3, 4]
    assert waiters(c) == waiters(other) == (0, 0)


def test_one_value_wakes_one_of_many(place):
    cs = [chan() for _ in range(3)]
    gs = [place.receiver(lambda cs: select(*cs), cs) for _ in range(6)]
    until_waiting(cs[0], receivers=6)
    for i in range(6):
        cs[i % 3].send(i)
        assert [waiters(c) for c in cs] == [(5 - i, 0)] * 3 or until(
            lambda i=i: all(waiters(c) == (5 - i, 0) for c in cs)
        ) is None
    assert sorted(g.result(10).value for g in gs) == list(range(6))


def test_fair_after_a_block(place, long):
    """The cases of one channel have equal chances also when the select blocked first."""
    n = 2000 if long else 200

    def take(a, b, n):
        return Counter(select(a, b, a.recv, a.recv_ok).index for _ in range(n))

    a, b = chan(), chan()
    g = place.receiver(take, a, b, n)
    for i in range(n):
        until(lambda: waiters(a)[0] == 3)
        a.send(i)
    seen = g.result(10)
    assert seen[1] == 0
    for at in (0, 2, 3):
        assert abs(seen[at] - n / 3) <= 10 * (n * 2 / 9) ** 0.5


# -- both ends -------------------------------------------------------------------------------------------------------


def test_two_selects_meet(place):
    """Each sends on one channel and receives from the other: one of the two ways, and both know which."""

    def meet(mine, other, v):
        return select((mine.send, v), other)

    for _ in range(20):
        a, b = chan(), chan()
        g, h = place.sender(meet, a, b, "g"), place.receiver(meet, b, a, "h")
        one, two = g.result(10), h.result(10)
        assert (one, two) in (((0, None, True), (1, "g", True)), ((1, "h", True), (0, None, True)))
        assert waiters(a) == waiters(b) == (0, 0)


def test_send_and_receive_on_one_channel(place):
    """It does not meet itself, but meets another of its kind."""

    def meet(c, v):
        return select((c.send, v), c)

    c = chan()
    g = place.sender(meet, c, "g")
    until_waiting(c, receivers=1, senders=1)
    h = place.receiver(meet, c, "h")
    one, two = g.result(10), h.result(10)
    assert (one, two) in (((0, None, True), (1, "g", True)), ((1, "h", True), (0, None, True)))
    assert waiters(c) == (0, 0)


@pytest.mark.watchdog(120)
def test_every_value_once(place, some_caps, long):
    """Selects on both sides over the same channels, in opposite orders, some values in blocks of their own."""
    n = (5000 if long else 400) if place.one_process else (2000 if long else 200)

    def send(cs, n, me):
        for i in range(n):
            v = (me, i) if i % 4 else (me, i, "x" * 300)
            select(*((c.send, v) for c in cs))

    def recv(cs, stop):
        got = []
        selector = Selector(*reversed(cs), stop)
        while True:
            _at, v, ok = selector.select()
            if not ok:
                return got
            got.append(v[:2])

    cs, stop = [chan(cap) for cap in some_caps], chan()
    receivers = [place.receiver(recv, cs, stop) for _ in range(3)]
    senders = [place.sender(send, cs[i:] + cs[:i], n, i) for i in range(3)]
    for g in senders:
        g.result(100)
    until(lambda: not any(map(len, cs)))
    stop.close()
    got = [v for g in receivers for v in g.result(20)]
    assert Counter(got) == Counter((me, i) for me in range(3) for i in range(n))
    assert [waiters(c) for c in (*cs, stop)] == [(0, 0)] * (len(cs) + 1)


@pytest.fixture(params=[(0, 0), (0, 0, 1, 3), (1,)], ids=str)
def some_caps(request):
    return request.param


@pytest.mark.watchdog(120)
def test_ring_of_selects(place, long):
    """A token each goroutine passes on or gets, all selecting on two neighbours' channels: it is never doubled or lost."""
    n, rounds = 6, 600 if long else 100

    def node(left, right, stop, moves):
        passed, have = 0, 0
        while True:
            cases = [left, stop, (right.send, "token") if have else nil]
            at, _, _ok = select(*cases)
            if at == 1:
                return passed, have
            have += 1 if at == 0 else -1
            passed += at == 2
            moves.add(1)

    cs, stop, moves = [chan() for _ in range(n)], chan(), Atomic(0)
    gs = [place.anyone(node, cs[i], cs[(i + 1) % n], stop, moves) for i in range(n)]
    for i in range(3):
        cs[2 * i].send("token")
    until(lambda: moves.load() >= n * rounds, 60)
    stop.close()
    got = [g.result(20) for g in gs]
    assert sum(have for _, have in got) == 3
    assert sum(passed for passed, _ in got) > 0


# -- threads ---------------------------------------------------------------------------------------------------------


class Thread(threading.Thread):
    """A thread whose result can be waited for without stopping the scheduler."""

    def __init__(self, f, *args):
        super().__init__(daemon=True)
        self.f, self.args, self.out = f, args, None
        self.start()

    def run(self):
        try:
            self.out = self.f(*self.args)
        except BaseException as error:
            self.out = error

    def result(self):
        until(lambda: not self.is_alive())
        self.join()
        return self.out


def test_plain_threads(place, form):
    a, b, full = cs = channels()
    t = Thread(lambda: form(mixed(*cs)))
    until_waiting(b, receivers=1)
    place.sender(lambda b: b.send("to a thread"), b).join(10)
    assert t.result() == (1, "to a thread", True)
    nothing_happened(*cs)
    t = Thread(lambda: form(mixed(*cs), timeout=SHORT))
    assert isinstance(t.result(), TimeoutError)
    nothing_happened(*cs)
    t = Thread(lambda: form(mixed(*cs)))
    until_waiting(b, receivers=1)
    assert full.recv() == "first"
    at, value, ok = t.result()
    assert at in (2, 3) and (value, ok) == (None, True)
    assert full.recv() == ("late" if at == 2 else "late" * 100)
    assert waiters(a) == waiters(b) == waiters(full) == (0, 0)
    a.close()
    assert Thread(lambda: form((a, nil))).result() == (0, None, False)


def test_threads_and_goroutines_select_against_each_other(place, long):
    n = 2000 if long else 200

    def send(a, b, n, me):
        for i in range(n):
            select((a.send, (me, i)), (b.send, (me, i)))

    def recv(a, b, n):
        return [select(b, a).value for _ in range(n)]

    a, b = chan(), chan(1)
    ts = [Thread(send, a, b, n, "t"), Thread(recv, a, b, n)]
    gs = [place.sender(send, a, b, n, "g"), place.receiver(recv, a, b, n)]
    got = gs[1].result(50) + ts[1].result()
    gs[0].result(10)
    assert ts[0].result() is None
    assert Counter(got) == Counter((me, i) for me in "tg" for i in range(n))
    assert waiters(a) == waiters(b) == (0, 0)


# -- the end of the runtime ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 70])
def test_runtime_stops_under_blocked_selects(n):
    """Also with a list of locks in shared memory: what belonged to the old runtime is not freed in the next."""
    with runtime(procs=1):
        cs = [chan() for _ in range(n)]
        selector = Selector(*cs)
        ts = [Thread(lambda: select(*cs)), Thread(selector.select)]
        gs = [go.local(lambda: select(*cs)) for _ in range(2)]
        until(lambda: waiters(cs[0]) == (4, 0))
    with runtime(procs=1):
        kept = [chan(1) for _ in range(200)]
        for c in kept:
            c.send("x" * 200)
        for t in ts:
            assert isinstance(t.result(), BaseException)
        more = [chan(1) for _ in range(200)]
        for c in more:
            c.send("y" * 200)
        assert {c.recv() for c in kept} == {"x" * 200}
        assert {c.recv() for c in more} == {"y" * 200}
        with pytest.raises(BaseException):  # noqa: B017 (stopped, whatever it is called)
            selector.select()
    del gs


# -- exceptions from elsewhere ---------------------------------------------------------------------------------------


class Alarm(Exception):
    pass


@pytest.mark.parametrize("n", [1, 4, 70])
def test_a_signal_handler_raises(runtime0, n):
    """The main goroutine is blocked in a select, and nothing else runs."""

    def ring(number, frame):
        raise Alarm

    cs = [chan() for _ in range(n)]
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for form in (lambda: select(*cs), Selector(*cs, (cs[0].send, "x" * 1000)).select):
            with pytest.raises(Alarm):
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                form()
            assert {waiters(c) for c in cs} == {(0, 0)}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    g = go.local(lambda: select(*cs))
    until_waiting(cs[-1], receivers=1)
    cs[-1].send("after")
    assert g.result(10) == (n - 1, "after", True)


def test_too_deep_to_block(runtime0):
    """A select that is ready is done at any depth; one that would block says so, and has done nothing."""

    def down(a, b, errors):
        try:
            down(a, b, errors)
        except RecursionError:
            pass
        try:
            select(a, (b.send, 1))
        except RecursionError as error:
            errors.append(str(error))
        except TimeoutError:
            pass

    a, b, errors = chan(), chan(), []
    g = go.local(down, a, b, errors)
    until(lambda: waiters(a) == (1, 0) and waiters(b) == (0, 1))
    assert errors and "too deep to block" in errors[-1]
    g.cancel()
    g.exception(10)
    assert waiters(a) == waiters(b) == (0, 0)
