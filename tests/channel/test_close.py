"""Closing, nil channels, and misuse: cases C01 to C10 of Go's channel tests, and A21."""

from __future__ import annotations

import pytest
from peek import until_waiting, waiters

import goproc
from goproc import ChanClosed, chan, go, nil


def test_C01_close_of_nil():
    with pytest.raises(ChanClosed, match=r"^close of nil channel"):
        nil.close()


def test_C02_close_twice(place, cap):
    c = chan(cap)
    c.close()
    with pytest.raises(ChanClosed, match=r"^close of closed channel"):
        c.close()
    with pytest.raises(ChanClosed, match=r"^close of closed channel"):
        place.anyone(lambda c: c.close(), c).result(10)
    assert c.closed


def test_C03_send_on_closed(place, cap):
    c = chan(cap)
    c.close()
    for value in (1, "x" * 1000, {"a": [1, 2]}):
        with pytest.raises(ChanClosed, match=r"^send on closed channel"):
            c.send(value)
        with pytest.raises(ChanClosed, match=r"^send on closed channel"):
            c.try_send(value)
        with pytest.raises(ChanClosed, match=r"^send on closed channel"):
            c.send_many([value])
        with pytest.raises(ChanClosed, match=r"^send on closed channel"):
            place.sender(lambda c, v: c.send(v), c, value).result(10)
    assert len(c) == 0


def test_C03_errors_are_in_one_tree():
    assert issubclass(ChanClosed, goproc.GoprocError) and issubclass(goproc.GoprocError, Exception)


def test_C04_send_on_closed_and_full_does_not_block(place):
    c = chan(1)
    c.send(10)
    c.close()
    with pytest.raises(ChanClosed, match=r"^send on closed channel"):
        place.sender(lambda c: c.send(11), c).result(10)
    assert c.recv_ok() == (10, True)
    assert c.recv_ok() == (None, False)


def test_C05_value_of_a_blocked_sender_is_lost_at_close(place):
    c = chan(1)
    c.send(10)
    g = place.sender(lambda c: c.send(11), c)
    until_waiting(c, senders=1)
    c.close()
    with pytest.raises(ChanClosed, match=r"^send on closed channel"):
        g.result(10)
    assert [c.recv_ok(), c.recv_ok()] == [(10, True), (None, False)]


@pytest.mark.parametrize("n", [-1, -(2**31), -(2**62), 2**32, 2**62])
def test_C06_size_out_of_range(runtime1, n):
    with pytest.raises(ValueError, match=r"^makechan: size out of range$"):
        chan(n)


@pytest.mark.parametrize("n", [1.0, "1", None])
def test_C06_size_must_be_an_int(runtime1, n):
    with pytest.raises(TypeError):
        chan(n)


def test_C06_size_that_does_not_fit_in_memory(runtime1):
    with pytest.raises(goproc.OutOfSharedMemory, match=r"memory"):
        chan(2**31)
    c = chan(1)
    c.send(1)
    assert c.recv() == 1


def test_C07_close_wakes_all_receivers(place, some_cap):
    c = chan(some_cap)
    gs = [place.receiver(lambda c: c.recv_ok(), c) for _ in range(50)]
    until_waiting(c, receivers=50)
    c.close()
    assert [g.result(10) for g in gs] == [(None, False)] * 50
    assert waiters(c) == (0, 0)


def test_C07_close_wakes_all_senders(place, some_cap):
    c = chan(some_cap)
    for i in range(some_cap):
        c.send(i)

    def send(c):
        try:
            c.send("never")
        except ChanClosed as error:
            return str(error)

    gs = [place.sender(send, c) for _ in range(50)]
    until_waiting(c, senders=50)
    place.anyone(lambda c: c.close(), c).join(10)
    assert [g.result(10) for g in gs] == ["send on closed channel"] * 50
    assert waiters(c) == (0, 0)
    assert list(c) == list(range(some_cap))


def test_C07_blocked_forms_at_close(place):
    """Every way to wait for a value sees the end in its own way."""

    def recv(c):
        try:
            return c.recv()
        except ChanClosed as error:
            return str(error)

    c = chan()
    gs = [
        place.receiver(recv, c),
        place.receiver(lambda c: c.recv_ok(timeout=100), c),
        place.receiver(lambda c: list(c), c),
        place.receiver(lambda c: c.recv_many(5), c),
    ]
    until_waiting(c, receivers=4)
    c.close()
    assert [g.result(10) for g in gs] == ["receive from closed channel", (None, False), [], []]


def test_C08_range_ends_when_closed_and_drained(place):
    c = chan(3)
    c.send(1)
    c.send(2)
    c.close()
    assert place.receiver(lambda c: list(c), c).result(10) == [1, 2]
    assert list(c) == []


def test_C08_break_leaves_the_rest(place):
    c = chan(3)
    c.send_many([1, 2, 3])

    def first(c):
        for v in c:
            return v

    assert place.receiver(first, c).result(10) == 1
    assert (len(c), c.recv(), c.recv()) == (2, 2, 3)


def test_C09_receive_from_closed_never_blocks(place, some_cap):
    c = chan(some_cap)
    c.close()

    def drain(c):
        for _ in range(1000):
            assert c.recv_ok() == (None, False)
            assert c.recv_many(3) == []
            for form in (c.recv, c.try_recv):
                try:
                    form()
                except ChanClosed as error:
                    assert str(error) == "receive from closed channel"
                else:
                    raise AssertionError("no error")
        return True

    assert place.receiver(drain, c).result(20)


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


def test_with_closes_when_the_block_raises(runtime1):
    c = chan(1)
    with pytest.raises(KeyError), c:
        raise KeyError
    assert c.closed


def test_with_the_send_view(runtime1):
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


def test_nil_times_out(runtime1):
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


def test_view_keeps_its_channel(runtime1):
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
def test_wrong_arguments(runtime1, call):
    c = chan(5)
    with pytest.raises(TypeError):
        call(c)
    assert len(c) == 0


def test_typed_maker_and_hints(runtime1):
    c = chan[int](3)
    assert type(c) is goproc.Chan and c.cap == 3
    assert chan(cap=4).cap == 4
    assert goproc.Chan[int] and goproc.SendChan[str] and goproc.RecvChan[bytes]
    assert go(lambda c: c.cap, c).result(10) == 3


def test_repr(runtime1):
    c = chan(2)
    c.send(1)
    assert "1/2" in repr(c) and repr(c.tx).startswith("<chan<-") and repr(c.rx).startswith("<<-chan")
    c.close()
    assert "closed" in repr(c)
    assert repr(nil) == "<nil chan>"
