"""A, channel transfer: values go through once, in order, to whom they belong.

"Must block" is checked by looking at the channel's queue of waiters, "must not block" by finishing at all: nothing
here depends on how fast anything is.
"""

from __future__ import annotations

import gc
from collections import Counter

import pytest
from peek import until_waiting, waiters

from goproc import Atomic, WaitGroup, chan, default, select, yield_now


def test_A01_recv_of_empty_blocks(place, cap):
    c = chan(cap)
    plain = place.receiver(lambda c: c.recv(), c)
    two = place.receiver(lambda c: c.recv_ok(), c)
    until_waiting(c, receivers=2)
    for g in (plain, two):
        with pytest.raises(TimeoutError):
            g.join(timeout=0.001)
    assert (len(c), plain.state, two.state) == (0, "running", "running")
    # with two in the queue there is still nothing to take, in any form
    assert c.try_recv() == (None, False)
    assert select(c, default) == select(c.recv, default) == select(c.recv_ok, default) == (1, None, False)
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
    assert select((c.send, "no room"), default) == (1, None, False)
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


def test_A07_four_senders_four_receivers(place, cap, long):
    n = 1000 if long else 250
    c = chan(cap)
    senders = [place.sender(lambda c, n: [c.send(i) for i in range(n)] and None, c, n) for _ in range(4)]
    receivers = [place.receiver(lambda c, n: [c.recv() for _ in range(n)], c, n) for _ in range(4)]
    seen = Counter(v for g in receivers for v in g.result(30))
    for g in senders:
        g.result(30)
    assert seen == dict.fromkeys(range(n), 4)
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


def test_A11_daisy_chain(place, long):
    n = (10_000 if long else 2000) if place.kind == "local" else (2000 if long else 200)

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
        return [c.try_send(a), c.try_send(b), select((c.send, a), (c.send, b), default).index]

    assert place.sender(try_both, c, first, other).result(10) == [False, False, 2]
    assert (len(c), c.recv()) == (1, first)
    assert c.try_recv() == (None, False)


def test_A14_channel_received_as_operand(place):
    cc, c = chan(1), chan(1)
    cc.send(c)
    assert place.sender(lambda cc: select((cc.recv().send, 2), default).index, cc).result(10) == 0
    assert c.recv(timeout=10) == 2


@pytest.mark.watchdog(120)
def test_A15_many_workers_between_two_channels(place, long):
    primes = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)
    n = 271_828 if long else 4000
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
    assert (len(got), sum(got)) == (n, sum(primes[i % 10] for i in range(n)))
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


def test_A20_identity(place, cap):
    c, other = chan(cap), chan(cap)
    assert c == c and c != other and c == c.rx == c.tx == c.rx.rx
    assert len({c, c.rx, c.tx, other}) == 2
    table = {c: "mine", other: "other"}
    assert table[c.tx] == "mine"
    assert c != 1 and c != "c" and c.__ne__(None) is not False
    # through another channel, and through another process
    way = chan(1)
    way.send([c, {"key": c.tx}, c.rx])
    got = way.recv()
    assert got[0] is c and got[1]["key"] == c and hash(got[2]) == hash(c)
    back = place.anyone(
        lambda a, b, v: (a, v, a == v, a is v, hash(a) == hash(v), a == b), c, other, c
    ).result(10)
    assert back[0] is c and back[1] is c and back[2:] == (True, True, True, False)


def test_A21_receive_only(place, some_cap):
    def misuse(rx):
        found = []
        uses = (
            lambda: rx.send(1),
            lambda: rx.try_send(1),
            lambda: rx.send_many([1]),
            lambda: rx.close(),
            lambda: rx.tx,
        )
        for use in uses:
            try:
                use()
            except TypeError as error:
                found.append(str(error))
        return found

    c = chan(some_cap)
    send, close = "cannot send to receive-only channel", "cannot close receive-only channel"
    assert place.anyone(misuse, c.rx).result(10) == [send, send, send, close, send]
    assert misuse(c.rx) == [send, send, send, close, send]
    assert (len(c), c.closed) == (0, False)


def test_A21_send_only(place, some_cap):
    def misuse(tx):
        found = []
        uses = (
            lambda: tx.recv(),
            lambda: tx.recv_ok(),
            lambda: tx.try_recv(),
            lambda: tx.recv_many(1),
            lambda: iter(tx),
            lambda: next(tx),
            lambda: list(tx),
            lambda: tx.rx,
        )
        for use in uses:
            try:
                use()
            except TypeError as error:
                found.append(str(error))
        return found

    c = chan(some_cap)
    if some_cap:
        c.send(1)
    expected = ["receive from send-only channel"] * 8
    assert place.anyone(misuse, c.tx).result(10) == expected
    assert misuse(c.tx) == expected
    assert (len(c), c.closed) == (min(some_cap, 1), False)


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
        until_waiting(c, senders=1)
        gc.collect(1)
        got.append(c.recv(timeout=10))
    assert got == list(range(10))
    g.result(10)


def test_A23_writes_before_a_send_are_seen_after_the_receive(place, long):
    n = 10_000 if long else 500

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


def test_A23_writes_before_a_close_are_seen_after_the_receive(place):
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
