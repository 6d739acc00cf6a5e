"""B, select: one ready case, chosen at one instant; a blocked select is woken once and leaves nothing in any queue.

"Must block" is checked by the queues of the channels where there are any; shares of a random choice are checked
within ten standard deviations, so a right implementation fails about never.
"""

from __future__ import annotations

from collections import Counter

import pytest
from peek import until, until_waiting, waiters

from goproc import ChanClosed, Selector, chan, default, nil, select, yield_now
from goproc.shm import _core


def near(count, n, p):
    """True if the count, of n, is within ten standard deviations of the one that probability p gives."""
    return abs(count - n * p) <= 10 * (n * p * (1 - p)) ** 0.5


def test_B03_nonblocking_select_races_with_close(place, long):
    """A goroutine looks at c1, then c2, without blocking, after c1 was filled: one of them has to be ready."""
    n = 2000 if long else 100

    def look(c1, c2, done):
        if select(c1, default).index == 1 and select(c2, default).index == 1:
            done.send(False)
        else:
            done.send(True)

    done = chan(1)
    for _ in range(n):
        c1, c2 = chan(1), chan()
        c1.send(1)
        place.receiver(look, c1, c2, done)
        c2.close()
        select(c1, default)
        assert done.recv(timeout=10)


@pytest.mark.watchdog(120)
def test_B05_stress(place, long):
    """Four channels, for each a plain sender and a plain receiver, and one select on all of them at either side."""
    n = 10_000 if long else (500 if place.one_process else 150)

    def send(c, n):
        for i in range(n):
            c.send(i)

    def recv(c, n):
        return [c.recv() for _ in range(n)]

    def select_send(cs, n):
        left = [n] * 4
        while any(left):
            at = select(
                *((c.send, n - k) if k else (nil.send, 0) for c, k in zip(cs, left, strict=True))
            ).index
            left[at] -= 1

    def select_recv(cs, n):
        got = [[] for _ in cs]
        selector = Selector(*cs)
        for _ in range(4 * n):
            at, value, ok = selector.select()
            assert ok
            got[at].append(value)
            if len(got[at]) == n:
                selector[at] = nil
        return got

    cs = [chan(), chan(), chan(2), chan(3)]
    senders = [place.sender(send, c, n) for c in cs] + [place.sender(select_send, cs, n)]
    receivers = [place.receiver(recv, c, n) for c in cs]
    got = place.receiver(select_recv, cs, n).result(100)
    for g, one in zip(receivers, got, strict=True):
        assert Counter(one + g.result(100)) == Counter(list(range(n)) * 2)
    for g in senders:
        g.result(10)
    assert [(len(c), waiters(c)) for c in cs] == [(0, (0, 0))] * 4


def test_B06_fairness(place, long):
    n = 10_000 if long else 2000

    def pick(idle1, idle2, c1, c2, n):
        return Counter(select(idle1, idle2, c1, c2).index for _ in range(n))

    c1, c2 = chan(n + 1), chan(n + 1)
    for c in (c1, c2):
        c.send_many([None] * (n + 1))
    seen = place.receiver(pick, chan(), chan(), c1, c2, n).result(30)
    assert seen.keys() == {2, 3} and seen.total() == n
    assert near(seen[2], n, 1 / 2)
    assert len(c1) + len(c2) == n + 2
    for c in (c1, c2):  # what is left in a buffer is dropped with it
        c.recv_many(n + 1)


@pytest.mark.watchdog(120)
def test_B11_no_waiters_pile_up_on_a_quiet_channel(place, long):
    n = 100_000 if long else (2000 if place.one_process else 500)

    def send(busy, n):
        for i in range(n):
            busy.send(i)

    def recv(busy, never, n):
        for i in range(n):
            assert select(busy, never) == (0, i, True)

    busy, never = chan(), chan()
    used = []
    for _ in range(3):
        s, r = place.sender(send, busy, n), place.receiver(recv, busy, never, n)
        r.result(60)
        s.result(60)
        assert waiters(never) == (0, 0) == waiters(busy)
        del s, r
        _core.collect()
        used.append(_core.census()["blocks"])
    assert used[2] - used[1] <= 16


BLOCKING = {
    "nil send": lambda c: nil.send(7),
    "nil recv": lambda c: nil.recv(),
    "recv of empty": lambda c: c.recv(),
    "empty select": lambda c: select(),
    "only nil recv": lambda c: select(nil),
    "only nil send": lambda c: select((nil.send, 7)),
    "both nil": lambda c: select(nil.recv, (nil.send, 7)),
    "select that is not ready": lambda c: select(c.recv),
    "nil beside it": lambda c: select(c.recv, nil, (nil.send, 1)),
    "send to itself": lambda c: select((c.send, 1), c.recv),
}


@pytest.mark.parametrize("form", BLOCKING)
def test_B12_blocks(place, blocks, form):
    c = chan()
    g = place.receiver(BLOCKING[form], c)
    if "nil" not in form and form != "empty select":
        until_waiting(c, receivers=1, senders=int(form == "send to itself"))
    blocks(g)
    g.cancel()
    assert isinstance(g.exception(10), BaseException)
    assert waiters(c) == (0, 0)


def test_B12_does_not_block(place):
    def all_of_them():
        room, one, closed = chan(1), chan(1), chan(1)
        room.send(7)
        closed.close()
        for _ in range(10):
            assert closed.recv_ok() == (None, False)
        assert nil.try_send(7) is False and nil.try_recv() == (None, False)
        assert select(default) == (0, None, False)
        assert select(default, nil) == (0, None, False)
        assert select((nil.send, 7), default) == (1, None, False)
        assert select((one.send, 8), default) == (0, None, True)
        assert select(one.recv, default) == (0, 8, True)
        assert select((one.send, 8)) == (0, None, True)
        assert select(one.recv) == (0, 8, True)
        for case in (closed, closed.recv, closed.recv_ok):
            assert select(case) == (0, None, False)
            assert select(case, nil, chan()) == (0, None, False)
            assert select(case, default) == (0, None, False)
        for cases in (((closed.send, 7),), ((closed.send, 7), default), ((closed.send, 7), nil)):
            try:
                select(*cases)
            except ChanClosed as error:
                assert str(error) == "send on closed channel"
            else:
                raise AssertionError(cases)
        return room.recv()

    assert place.anyone(all_of_them).result(10) == 7


def test_B13_ready_case_proceeds(place):
    """The case that is not ready leaves no trace, the ready one is received."""
    c, never = chan(1), chan()
    c.send(42)
    assert place.receiver(lambda c, never: select(never, c), c, never).result(10) == (1, 42, True)
    assert (len(c), waiters(c), waiters(never)) == (0, (0, 0), (0, 0))


def test_B15_default_leaves_the_destination(place):
    def poll(c):
        x = {}
        at, value, ok = select(c, (c.send, x), default)
        if at == 0:
            x["received"] = value
        return x, at, value, ok

    c = chan()
    assert place.anyone(poll, c).result(10) == ({}, 2, None, False)
    assert waiters(c) == (0, 0)


SEND = {
    "plain": lambda c, other, v: c.send(v),
    "one case": lambda c, other, v: select((c.send, v)),
    "two cases": lambda c, other, v: select((c.send, v), other),
}
RECV = {
    "plain": lambda c, other: c.recv(),
    "one case": lambda c, other: select(c).value,
    "two cases": lambda c, other: select(other, c.recv).value,
}


@pytest.mark.parametrize("recv", RECV)
@pytest.mark.parametrize("send", SEND)
def test_B16_forms_meet(place, send, recv):
    for first in ("sender", "receiver"):
        c, other = chan(), chan()
        if first == "sender":
            s = place.sender(SEND[send], c, other, "v")
            until_waiting(c, senders=1)
            r = place.receiver(RECV[recv], c, other)
        else:
            r = place.receiver(RECV[recv], c, other)
            until_waiting(c, receivers=1)
            s = place.sender(SEND[send], c, other, "v")
        assert r.result(10) == "v"
        s.result(10)
        assert waiters(c) == waiters(other) == (0, 0)


@pytest.mark.parametrize("value", [7, True, "hello"], ids=["int", "bool", "str"])
@pytest.mark.parametrize("cap", [0, 1])
def test_B18_polling_succeeds_in_the_end(place, cap, value):
    c, done = chan(cap), chan(1)
    assert select(c, default) == (1, None, False)

    def receiver(c, done):
        done.send(c.recv())

    def sender(c, done, value):
        c.send(value)
        done.send("sent")

    place.receiver(receiver, c, done)
    until(lambda: select((c.send, value), default).index == 0)
    assert done.recv(timeout=10) == value
    place.sender(sender, c, done, value)
    if cap:
        assert done.recv(timeout=10) == "sent"
    else:
        until_waiting(c, senders=1)
        assert select(done, default).index == 1
    found = []

    def poll():
        yield_now()
        at, got, ok = select(c, default)
        if at == 0:
            found.append((got, ok))
        return found

    until(poll)
    assert found == [(value, True)]
    if not cap:
        assert done.recv(timeout=10) == "sent"


def closed(n):
    cs = [chan() for _ in range(n)]
    for c in cs:
        c.close()
    return cs


def test_B20_a_channel_given_twice_counts_twice(place):
    n = 3000
    a, b = closed(2)
    seen = place.anyone(lambda a, b, n: Counter(select(a, a, b).index for _ in range(n)), a, b, n).result(30)
    assert all(near(seen[i], n, 1 / 3) for i in range(3))
    assert near(seen[0] + seen[1], n, 2 / 3)


@pytest.mark.parametrize("k", [2, 4])
def test_B21_uniform_over_closed(place, long, k):
    n = 40_000 if long else 4000
    seen = place.anyone(lambda cs, n: Counter(select(*cs).index for _ in range(n)), closed(k), n).result(30)
    assert all(near(seen[i], n, 1 / k) for i in range(k)), seen


def test_B22_default_does_not_hide_a_closed_send(place, cap):
    c = chan(cap)
    c.close()
    for v in (1, "x" * 1000):
        with pytest.raises(ChanClosed, match=r"^send on closed channel"):
            select((c.send, v), default)
        with pytest.raises(ChanClosed, match=r"^send on closed channel"):
            place.sender(lambda c, v: select(default, (c.send, v)), c, v).result(10)


def test_B22_closed_send_beside_a_ready_case(place):
    def pick(c, ready, n):
        raised = 0
        for _ in range(n):
            try:
                assert select((c.send, 1), ready) == (1, None, False)
            except ChanClosed:
                raised += 1
        return raised

    c, ready = closed(2)
    assert near(place.anyone(pick, c, ready, 2000).result(30), 2000, 1 / 2)


def test_B23_errors(place):
    def errors():
        c = chan()
        for make in (select, Selector):
            for cases in ((default, c, default), [c] * 65_537, (c, 1)):
                try:
                    make(*cases)
                except (ValueError, TypeError) as error:
                    yield type(error).__name__, str(error)

    texts = [
        ("ValueError", "reflect.Select: multiple default cases"),
        ("ValueError", "reflect.Select: too many cases (max 65536)"),
    ]
    got = place.anyone(lambda f: list(f()), errors).result(10)
    assert got[:2] == got[3:5] == texts
    assert got[2] == got[5] and got[2][0] == "TypeError"
    assert got[2][1].startswith("reflect.Select: invalid Dir: case 1 is int")


def test_B24_send_and_receive_on_one_buffer_alternate(place):
    def alternate():
        c = chan(1)
        return [select((c.send, i), c) for i in range(6)]

    sent = (0, None, True)
    assert place.anyone(alternate).result(10) == [sent, (1, 0, True), sent, (1, 2, True), sent, (1, 4, True)]


@pytest.mark.parametrize("form", ["select", "Selector"])
def test_B25_fan_in_until_both_are_nil(place, some_cap, form):
    def send(c, items):
        for item in items:
            c.send(item)
        c.close()

    def fan_in(a, b, form):
        both, got = [a, b], []
        selector = Selector(*both)
        while both != [nil, nil]:
            at, value, ok = selector() if form == "Selector" else select(*both)
            if ok:
                got.append(value)
            else:
                both[at] = selector[at] = nil
        return got

    a, b = chan(some_cap), chan(some_cap)
    senders = [place.sender(send, c, [(name, i) for i in range(100)]) for name, c in (("a", a), ("b", b))]
    got = place.receiver(fan_in, a, b, form).result(30)
    for name in "ab":
        assert [i for which, i in got if which == name] == list(range(100))
    assert len(got) == 200
    for g in senders:
        g.result(10)


def test_B26_many_cases(place):
    ready = 250
    cs = [chan(1 if i == ready else 0) for i in range(500)]
    cs[ready].send("there")
    assert place.receiver(lambda cs: select(*cs), cs).result(20) == (ready, "there", True)
    g = place.receiver(lambda cs: select(*cs), cs)
    until(lambda: all(waiters(c) == (1, 0) for c in cs))
    place.sender(lambda c: c.send("came"), cs[ready]).result(10)
    assert g.result(20) == (ready, "came", True)
    assert [waiters(c) for c in cs] == [(0, 0)] * 500
