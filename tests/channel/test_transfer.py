"""Transfer beyond the cases of tests/conformance: what polls, answers, and forms pipelines."""

from __future__ import annotations

from peek import until, until_waiting, waiters

from goproc import chan, go, yield_now


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
