"""Closing with `with`, nil channels, views, arguments."""

from __future__ import annotations

import pytest
from peek import until_waiting

import goproc
from goproc import chan, go, nil


def test_with_closes(place, some_cap):
    def send(c):
        with c as same:
            assert same is c
            for i in range(10):
                c.send(i)

    c = chan(some_cap)
    g = place.sender(send, c)
    assert list(c) == list(range(10))
    g.result(10)
    assert c.closed


def test_with_closes_when_the_block_raises(runtime0):
    c = chan(1)
    with pytest.raises(KeyError), c:
        raise KeyError
    assert c.closed


def test_with_the_send_view(runtime0):
    c = chan(2)
    with c.tx as tx:
        tx.send(1)
    assert c.closed and list(c.rx) == [1]


# -- nil --------------------------------------------------------------------------------------------------------------


def test_nil_send_and_receive_block(place):
    for f in (
        lambda: nil.send(1),
        lambda: nil.recv(),
        lambda: nil.recv_ok(),
        lambda: next(iter(nil)),
        lambda: nil.recv_many(1),
        lambda: nil.send_many([1]),
    ):
        g = place.anyone(f)
        with pytest.raises(TimeoutError):
            g.join(timeout=0.01)
        assert g.cancel() is True
        with pytest.raises(goproc.Cancelled):
            g.result(10)


def test_nil_times_out(runtime0):
    for f in (
        lambda: nil.send(1, timeout=0.001),
        lambda: nil.recv(timeout=0.001),
        lambda: nil.recv_ok(timeout=0),
        lambda: nil.recv_many(1, timeout=0.001),
    ):
        with pytest.raises(TimeoutError, match=r"nil chan"):
            f()


def test_nil_is_never_ready():
    assert nil.try_send(1) is False
    assert nil.try_recv() == (None, False)
    assert (len(nil), nil.cap, nil.closed) == (0, 0, False)
    assert nil


def test_nil_is_one_everywhere(place):
    assert place.anyone(lambda c: c is nil and c == nil, nil).result(10)
    c = chan(3)
    c.send(nil)
    c.send([nil, {"nil": nil}])
    c.send(nil.rx)
    assert c.recv() is nil
    assert c.recv() == [nil, {"nil": nil}]
    assert c.recv() == nil
    assert nil != chan() and hash(nil) == hash(nil.tx)


# -- views ------------------------------------------------------------------------------------------------------------


def test_views_work_and_know_the_channel(place, some_cap):
    def send(tx):
        with tx:
            for i in range(20):
                tx.send(i)
        return (tx.cap, len(tx), tx.closed, tx.tx is tx)

    c = chan(some_cap)
    g = place.sender(send, c.tx)
    assert list(c.rx) == list(range(20))
    cap, length, closed, same = g.result(10)
    assert (cap, closed, same) == (some_cap, True, True)
    assert 0 <= length <= some_cap
    assert (
        isinstance(c.rx, goproc.RecvChan)
        and isinstance(c.tx, goproc.SendChan)
        and isinstance(c.tx, goproc.Chan)
    )


@pytest.mark.parametrize("view", [goproc.SendChan, goproc.RecvChan])
def test_views_are_not_made_directly(view):
    with pytest.raises(TypeError, match="view"):
        view(1)


def test_view_keeps_its_channel(runtime0):
    rx = chan(1).rx
    tx = chan(1).tx
    assert tx.try_send(1) is True
    assert rx.try_recv() == (None, False)


# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.send(),
        lambda c: c.send(1, 2, 3),
        lambda c: c.send(1, timeou=2),
        lambda c: c.send(1, 2, timeout=2),
        lambda c: c.send(1, timeout="2"),
        lambda c: c.recv("2"),
        lambda c: c.recv(1, 2),
        lambda c: c.recv_ok(timeout=[]),
        lambda c: c.recv_many(),
        lambda c: c.recv_many("1"),
        lambda c: c.send_many(1),
        lambda c: c.try_send(),
    ],
)
def test_wrong_arguments(runtime0, call):
    c = chan(5)
    with pytest.raises(TypeError):
        call(c)
    assert len(c) == 0


def test_typed_maker_and_hints(runtime0):
    c = chan[int](3)
    assert type(c) is goproc.Chan and c.cap == 3
    assert chan(cap=4).cap == 4
    assert goproc.Chan[int] and goproc.SendChan[str] and goproc.RecvChan[bytes]
    assert go(lambda c: c.cap, c).result(10) == 3


def test_repr(runtime0):
    c = chan(2)
    c.send(1)
    assert "1/2" in repr(c) and repr(c.tx).startswith("<chan<-") and repr(c.rx).startswith("<<-chan")
    c.close()
    assert "closed" in repr(c)
    assert repr(nil) == "<nil chan>"


# -- close is one step ------------------------------------------------------------------------------------------------


def test_values_of_waiting_senders_are_lost(place, some_cap):
    """Many senders, who are told one after the other: whoever has been told receives nothing from those who have not."""

    def send(c, i, results):
        try:
            c.send(i)
            results.send("sent")
        except goproc.ChanClosed:
            results.send(c.recv_ok())

    count = 300
    for _ in range(3):
        c, results = chan(some_cap), chan(count)
        for i in range(some_cap):
            c.send(-i)
        for i in range(count):
            place.anyone(send, c, i, results)
        until_waiting(c, senders=count)
        c.close()
        got = [results.recv(timeout=20) for _ in range(count)]
        buffered = [value for value, ok in got if ok]
        assert sorted(buffered) == sorted(-i for i in range(some_cap)), buffered
        assert got.count((None, False)) == count - some_cap
