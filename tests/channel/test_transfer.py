"""Values go through once, in order, to whom they belong: cases A01 to A24 of Go's channel tests.

Every case runs for each capacity class and placement (see conftest). "Must block" is checked by looking at the
channel's queue of waiters, "must not block" by finishing at all: nothing here depends on how fast anything is.
"""

from __future__ import annotations

import gc
from collections import Counter

import pytest
from peek import until, until_waiting, waiters

from goproc import Atomic, WaitGroup, chan, go, sleep, yield_now


def test_A01_recv_of_empty_blocks(place, cap):
    c = chan(cap)
    plain = place.receiver(lambda c: c.recv(), c)
    two = place.receiver(lambda c: c.recv_ok(), c)
    until_waiting(c, receivers=2)
    for g in (plain, two):
        with pytest.raises(TimeoutError):
            g.join(timeout=0.001)
    assert (len(c), plain.state, two.state) == (0, "running", "running")
    c.send(1)
    c.send(1)
    assert plain.result(10) == 1
    assert two.result(10) == (1, True)
    assert c.try_recv() == (None, False)
    assert waiters(c) == (0, 0)


def test_A02_send_to_full_blocks(place, cap):
    c = chan(cap)
    for i in range(cap):
        c.send(i)
    assert c.try_send("no room") is False
    g = place.sender(lambda c: c.send("last"), c)
    until_waiting(c, senders=1)
    with pytest.raises(TimeoutError):
        g.join(timeout=0.001)
    assert c.try_send("no room") is False
    assert [c.recv() for _ in range(cap + 1)] == [*range(cap), "last"]
    assert g.result(10) is None
    assert waiters(c) == (0, 0)


def test_A03_closed_channel_is_drained(place, cap):
    c = chan(cap)

    def fill(c):
        for i in range(c.cap):
            c.send(i)
        c.close()

    g = place.sender(fill, c)
    assert [c.recv_ok(timeout=10) for _ in range(cap)] == [(i, True) for i in range(cap)]
    assert c.recv_ok(timeout=10) == (None, False)
    g.join(10)
    assert c.closed and c.recv_ok() == (None, False)


def test_A04_close_unblocks_receiver(place, cap):
    c = chan(cap)
    g = place.receiver(lambda c: c.recv_ok(), c)
    until_waiting(c, receivers=1)
    place.sender(lambda c: c.close(), c).join(10)
    assert g.result(10) == (None, False)
    assert waiters(c) == (0, 0)


@pytest.mark.parametrize("form", ["recv", "recv_ok", "iterate"])
def test_A05_A06_fifo(place, cap, form):
    c = chan(cap)

    def send(c):
        for i in range(100):
            c.send(i)
        c.close()

    def recv(c, form):
        if form == "recv":
            return [c.recv() for _ in range(100)]
        if form == "recv_ok":
            got = [c.recv_ok() for _ in range(100)]
            assert all(ok for _, ok in got)
            return [v for v, _ in got]
        return list(c)

    s, r = place.sender(send, c), place.receiver(recv, c, form)
    assert r.result(30) == list(range(100))
    s.result(30)


def test_A07_four_senders_four_receivers(place, cap):
    c = chan(cap)
    senders = [place.sender(lambda c: [c.send(i) for i in range(250)] and None, c) for _ in range(4)]
    receivers = [place.receiver(lambda c: [c.recv() for _ in range(250)], c) for _ in range(4)]
    seen = Counter(v for g in receivers for v in g.result(30))
    for g in senders:
        g.result(30)
    assert seen == dict.fromkeys(range(250), 4)
    assert (len(c), waiters(c)) == (0, (0, 0))


def test_A07_order_of_each_sender_is_kept(place, cap):
    """FIFO per sender, whoever receives."""
    c = chan(cap)

    def send(c, me):
        for i in range(100):
            c.send((me, i))

    def recv(c):
        return list(c)

    senders = [place.sender(send, c, me) for me in range(3)]
    receivers = [place.receiver(recv, c) for _ in range(2)]
    for g in senders:
        g.result(30)
    c.close()
    got = [g.result(30) for g in receivers]
    for one in got:
        for me in range(3):
            mine = [i for who, i in one if who == me]
            assert mine == sorted(mine)
    assert sorted(v for one in got for v in one) == [(me, i) for me in range(3) for i in range(100)]


def test_A08_len_and_cap(place, cap):
    c = chan(cap)
    assert (len(c), c.cap, c.closed) == (0, cap, False)
    for i in range(cap):
        c.send(i)
        assert len(c) == i + 1
    assert place.anyone(lambda c: (len(c), c.cap), c).result(10) == (cap, cap)
    assert bool(c) is True


def test_A09_one_goroutine_alone(place):
    c = chan(10)

    def alone(c):
        for turn in range(3):
            for i in range(10):
                c.send((turn, i))
            assert [c.recv() for _ in range(10)] == [(turn, i) for i in range(10)]
        return True

    assert place.anyone(alone, c).result(10)


def test_A10_chain_over_one_unbuffered(place):
    def link(c, i, turn, following):
        turn.recv()
        v = c.recv()
        following.send(None)
        return v

    c, turns = chan(), [chan() for _ in range(11)]
    gs = [place.anyone(link, c, i, turns[i], turns[i + 1]) for i in range(10)]
    turns[0].send(None)
    for i in range(10):
        c.send(i)
    turns[10].recv(timeout=10)
    assert [g.result(10) for g in gs] == list(range(10))


def test_A11_daisy_chain(place):
    n = 200 if place.kind != "local" else 2000

    def pass_on(left, right):
        left.send(1 + right.recv())

    ends = [chan() for _ in range(n + 1)]
    gs = [place.anyone(pass_on, ends[i], ends[i + 1]) for i in range(n)]
    place.sender(lambda c: c.send(0), ends[n]).join(30)
    assert ends[0].recv(timeout=30) == n
    for g in gs:
        g.join(30)


@pytest.mark.parametrize("cap", [0, 1])
def test_A12_values_without_content(place, cap):
    c = chan(cap)
    unit = [None, (), "", b"", [], {}]
    s = place.sender(lambda c, unit: c.send_many(unit), c, unit)
    r = place.receiver(lambda c: [c.recv() for _ in range(6)], c)
    assert r.result(10) == unit
    assert s.result(10) == 6


def test_A13_try_send_to_full_leaves_the_buffer_alone(place):
    c = chan(1)
    first, other = {"first": [1]}, {"other": "x" * 100}
    c.send(first)

    def try_both(c, a, b):
        return [c.try_send(a), c.try_send(b), c.try_send(a)]

    assert place.sender(try_both, c, first, other).result(10) == [False] * 3
    assert (len(c), c.recv()) == (1, first)
    assert c.try_recv() == (None, False)


def test_A14_channel_received_as_operand(place):
    cc, c = chan(1), chan(1)
    cc.send(c)
    assert place.sender(lambda cc: cc.recv().try_send(2), cc).result(10) is True
    assert c.recv(timeout=10) == 2


@pytest.mark.watchdog(120)
def test_A15_many_workers_between_two_channels(place):
    primes = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)
    n = 4000
    q, r, wg = chan(69), chan(69), WaitGroup()

    def worker(q, r, wg, yields):
        for v in q:
            if yields:
                yield_now()
            r.send(v)
        wg.done()

    def feed(q, r, wg, primes, n):
        for i in range(n):
            q.send(primes[i % 10])
        q.close()
        wg.wait()
        r.close()

    wg.add(23)
    workers = [place.anyone(worker, q, r, wg, i % 3 == 0) for i in range(23)]
    feeder = place.sender(feed, q, r, wg, primes, n)
    got = list(r)
    assert (len(got), sum(got)) == (n, sum(primes) * n // 10)
    for g in [*workers, feeder]:
        g.join(10)


def test_A16_len_of_unbuffered_is_zero(place):
    c = chan(0)
    g = place.sender(lambda c: c.send(1), c)
    until_waiting(c, senders=1)
    assert (len(c), c.cap) == (0, 0)
    assert c.recv() == 1
    g.join(10)


def test_A17_full_buffer_is_refilled_from_the_queue(place):
    c = chan(2)
    c.send(1)
    c.send(2)
    gs = []
    for i, v in enumerate((3, 4, 5)):
        gs.append(place.sender(lambda c, v: c.send(v), c, v))
        until_waiting(c, senders=i + 1)
    seen = []
    for _ in range(5):
        seen.append((c.recv(), len(c)))
    assert seen == [(1, 2), (2, 2), (3, 2), (4, 1), (5, 0)]
    for g in gs:
        g.result(10)


def test_A18_receivers_are_served_in_order(place, some_cap):
    c, gs = chan(some_cap), []
    for i in range(5):
        gs.append(place.receiver(lambda c: c.recv(), c))
        until_waiting(c, receivers=i + 1)
    s = place.sender(lambda c: c.send_many(range(100, 105)), c)
    assert [g.result(10) for g in gs] == [100, 101, 102, 103, 104]
    assert s.result(10) == 5


@pytest.mark.parametrize("cap", [0, 2])
def test_A19_senders_are_served_in_order(place, cap):
    c, gs = chan(cap), []
    for i in range(cap):
        c.send(i)
    for i in range(5):
        gs.append(place.sender(lambda c, v: c.send(v), c, cap + i))
        until_waiting(c, senders=i + 1)
    r = place.receiver(lambda c, n: [c.recv() for _ in range(n)], c, cap + 5)
    assert r.result(10) == list(range(cap + 5))
    for g in gs:
        g.result(10)


def test_A22_collection_while_a_sender_is_blocked(place):
    def deep(n):
        return 0 if n == 0 else 1 + deep(n - 1)

    def send(c):
        for i in range(10):
            c.send(i)
            deep(200)
            gc.collect(1)

    c = chan()
    g = place.sender(send, c)
    got = []
    for _ in range(10):
        sleep(0.001)
        gc.collect(1)
        got.append(c.recv(timeout=10))
    assert got == list(range(10))
    g.result(10)


def test_A23_what_was_written_before_a_send_is_seen_after_the_receive(place):
    n = 500

    def write(x, c, back):
        for i in range(1, n + 1):
            x.store(i)
            c.send(i)
            back.recv()

    def read(x, c, back):
        stale = 0
        for _ in range(n):
            v = c.recv()
            stale += x.load() != v
            back.send(None)
        return stale

    for cap in (0, 1):
        x, c, back = Atomic(0), chan(cap), chan(cap)
        w, r = place.sender(write, x, c, back), place.receiver(read, x, c, back)
        w.result(30)
        assert r.result(30) == 0


def test_A23_what_was_written_before_a_close_is_seen(place):
    def read(x, c):
        c.recv_ok()
        return x.load()

    for i in range(20):
        x, c = Atomic(0), chan()
        g = place.receiver(read, x, c)
        place.sender(lambda x, c, i: (x.store(i + 1), c.close())[1], x, c, i)
        assert g.result(10) == i + 1


def test_A23_receive_from_unbuffered_is_before_the_send_returns(place):
    def read(x, c):
        for i in range(200):
            x.store(i)
            c.recv()

    def write(x, c):
        late = 0
        for i in range(200):
            c.send(None)
            late += x.load() < i
        return late

    x, c = Atomic(-1), chan()
    r, w = place.receiver(read, x, c), place.sender(write, x, c)
    assert w.result(30) == 0
    r.result(30)


def test_A24_buffered_channel_as_semaphore(place):
    def worker(tokens, inside, most):
        for _ in range(20):
            tokens.send(None)
            n = inside.add(1)
            while (seen := most.load()) < n and not most.cas(seen, n):
                pass
            yield_now()
            inside.add(-1)
            tokens.recv()

    tokens, inside, most = chan(3), Atomic(0), Atomic(0)
    gs = [place.anyone(worker, tokens, inside, most) for _ in range(20)]
    for g in gs:
        g.result(30)
    assert 1 <= most.load() <= 3
    assert inside.load() == 0


def test_handoff_bypasses_the_buffer(place, some_cap):
    """A waiting receiver implies an empty buffer: the value goes to it, and the buffer stays empty."""
    c = chan(some_cap)
    g = place.receiver(lambda c: c.recv(), c)
    until_waiting(c, receivers=1)
    assert c.try_send("handed") is True
    assert len(c) == 0
    assert g.result(10) == "handed"


def test_try_recv_takes_from_a_blocked_sender(place, some_cap):
    c = chan(some_cap)
    g = place.sender(lambda c: c.send_many(range(c.cap + 1)), c)
    until_waiting(c, senders=1)
    assert [c.try_recv() for _ in range(some_cap + 1)] == [(i, True) for i in range(some_cap + 1)]
    assert c.try_recv() == (None, False)
    assert g.result(10) == some_cap + 1


def test_polling_meets_a_partner_in_the_end(place, some_cap):
    """B18 without select: non-blocking operations on both ends of a busy loop."""

    def receive(c, n):
        got = []
        while len(got) < n:
            v, ok = c.try_recv()
            if ok:
                got.append(v)
            else:
                yield_now()
        return got

    def send(c, n):
        for i in range(n):
            while not c.try_send(i):
                yield_now()

    c = chan(some_cap)
    if some_cap:
        s, r = place.sender(send, c, 50), place.receiver(receive, c, 50)
        s.result(30)
        assert r.result(30) == list(range(50))
    r = place.receiver(lambda c: [c.recv() for _ in range(20)], c)
    send(c, 20)
    assert r.result(30) == list(range(20))
    s = place.sender(lambda c: [c.send(i) for i in range(20)] and None, c)
    assert receive(c, 20) == list(range(20))
    s.result(30)


def test_ping_pong(place, some_cap):
    def pong(a, b):
        for v in a:
            b.send(v + 1)
        b.close()

    a, b = chan(some_cap), chan(some_cap)
    g = place.receiver(pong, a, b)
    for i in range(300):
        a.send(i)
        assert b.recv(timeout=10) == i + 1
    a.close()
    assert b.recv_ok(timeout=10) == (None, False)
    g.result(10)


def test_pipeline_over_all_processes(place, some_cap):
    def stage(source, target):
        with target:
            for v in source:
                target.send(v + 1)

    ends = [chan(some_cap) for _ in range(9)]
    gs = [place.anyone(stage, ends[i], ends[i + 1]) for i in range(8)]
    feeder = place.anyone(lambda c: (c.send_many(range(200)), c.close())[1], ends[0])
    assert list(ends[8]) == [i + 8 for i in range(200)]
    for g in [*gs, feeder]:
        g.result(10)


def test_fan_in_of_all_placements_at_once(runtime4):
    c = chan(5)

    def send(c, me):
        for i in range(50):
            c.send((me, i))

    gs = [
        go.local(send, c, 0),
        go.on(0)(send, c, 1),
        go.on(2)(send, c, 2),
        go(send, c, 3),
        go.on(3)(send, c, 4),
    ]
    got = [c.recv(timeout=10) for _ in range(250)]
    assert sorted(got) == [(me, i) for me in range(5) for i in range(50)]
    for g in gs:
        g.result(10)
    until(lambda: waiters(c) == (0, 0))
