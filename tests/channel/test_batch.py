"""send_many, recv_many and iteration: several values in one call are still single values in order."""

from __future__ import annotations

import pytest
from peek import until_waiting

from goproc import ChanClosed, PickleError, chan


def test_send_many_is_many_sends(place, cap):
    c = chan(cap)
    s = place.sender(lambda c: (c.send_many(range(150)), c.send_many([]), c.close())[:2], c)
    assert [c.recv() for _ in range(150)] == list(range(150))
    assert s.result(10) == (150, 0)
    assert list(c) == []


@pytest.mark.parametrize("kind", [list, tuple, iter, dict.fromkeys, lambda r: (v for v in r)])
def test_send_many_takes_any_iterable(runtime0, kind):
    c = chan(10)
    assert c.send_many(kind(range(7))) == 7
    assert c.recv_many(100) == list(range(7))


def test_send_many_from_another_channel(place):
    a, b = chan(3), chan(3)
    mover = place.anyone(lambda a, b: (b.send_many(a), b.close())[0], a, b)
    feeder = place.sender(lambda a: (a.send_many(range(30)), a.close())[1], a)
    assert list(b) == list(range(30))
    assert mover.result(10) == 30
    feeder.join(10)


def test_send_many_stops_where_its_iterable_fails(runtime0):
    def source():
        yield 1
        yield 2
        raise KeyError("source")

    c = chan(10)
    with pytest.raises(KeyError, match="source"):
        c.send_many(source())
    assert c.recv_many(10) == [1, 2]


def test_send_many_stops_where_a_value_cannot_be_sent(runtime0):
    c = chan(10)
    with pytest.raises(PickleError):
        c.send_many([1, 2, (x for x in ()), 4])
    assert c.recv_many(10) == [1, 2]


def test_send_many_into_a_closing_channel(place):
    c = chan(2)

    def send(c):
        try:
            c.send_many(range(10))
        except ChanClosed as error:
            return str(error)

    g = place.sender(send, c)
    until_waiting(c, senders=1)
    c.close()
    assert g.result(10) == "send on closed channel"
    assert list(c) == [0, 1]


def test_send_many_timeout_counts_for_each_value(place):
    c = chan(2)
    with pytest.raises(TimeoutError):
        c.send_many(range(5), timeout=0.002)
    assert c.recv_many(10) == [0, 1]


def test_recv_many_takes_the_buffered_values(place, cap):
    c = chan(cap)
    n = min(cap, 20)
    c.send_many(range(n))
    if n:
        assert place.receiver(lambda c: c.recv_many(7), c).result(10) == list(range(min(n, 7)))
        if n > 7:
            assert c.recv_many(100) == list(range(7, n))
    c.close()
    assert c.recv_many(5) == []


def test_recv_many_blocks_for_the_first_only(place, some_cap):
    c = chan(some_cap)
    g = place.receiver(lambda c: c.recv_many(10), c)
    until_waiting(c, receivers=1)
    c.send("one")
    assert g.result(10) == ["one"]


def test_recv_many_takes_from_blocked_senders(place, some_cap):
    c = chan(some_cap)
    gs = [place.sender(lambda c, i: c.send(i), c, i) for i in range(some_cap + 3)]
    until_waiting(c, senders=3)
    assert sorted(c.recv_many(100)) == list(range(some_cap + 3))
    for g in gs:
        g.result(10)


@pytest.mark.parametrize("n", [0, -1, -(2**40)])
def test_recv_many_needs_a_positive_number(runtime0, n):
    with pytest.raises(ValueError, match="recv_many"):
        chan(1).recv_many(n)


def test_recv_many_of_a_huge_number(runtime0):
    c = chan(2)
    c.send_many([1, 2])
    assert c.recv_many(2**62) == [1, 2]


def test_batches_lose_nothing(place, cap):
    def send(c, me):
        for i in range(0, 200, 20):
            c.send_many([(me, k) for k in range(i, i + 20)])

    def recv(c):
        got = []
        while batch := c.recv_many(13):
            got += batch
        return got

    c = chan(cap)
    senders = [place.sender(send, c, me) for me in range(2)]
    receivers = [place.receiver(recv, c) for _ in range(2)]
    for g in senders:
        g.result(20)
    c.close()
    got = [g.result(20) for g in receivers]
    assert sorted(got[0] + got[1]) == [(me, i) for me in range(2) for i in range(200)]
    for one in got:
        for me in range(2):
            mine = [k for who, k in one if who == me]
            assert mine == sorted(mine)
