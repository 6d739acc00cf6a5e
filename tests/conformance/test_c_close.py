"""C, close, nil and misuse: each misuse is an exception with Go's text, which can be caught."""

from __future__ import annotations

import pytest
from peek import until_waiting, waiters

import goproc
from goproc import ChanClosed, chan, nil


def test_C01_close_of_nil(place):
    for close in (nil.close, lambda: place.anyone(lambda c: c.close(), nil).result(10)):
        with pytest.raises(ChanClosed, match=r"^close of nil channel"):
            close()


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


def test_C01_C02_C03_are_caught_as_one_kind(place):
    """Go's are runtime.Error; here the base of them all is GoprocError. Also in another goroutine than their own."""

    def misuse(c):
        for use in (nil.close, c.close, lambda: c.send(1), lambda: c.try_send(1)):
            try:
                use()
            except goproc.GoprocError as error:
                yield type(error).__name__

    c = chan(3)
    c.close()
    assert list(misuse(c)) == ["ChanClosed"] * 4
    assert place.anyone(lambda f, c: list(f(c)), misuse, c).result(10) == ["ChanClosed"] * 4
    assert isinstance(place.sender(lambda c: c.send(1), c).exception(10), goproc.GoprocError)
    assert issubclass(goproc.GoprocError, Exception)


def test_C04_send_on_closed_and_full_does_not_block(place):
    c = chan(1)
    c.send(10)
    c.close()
    with pytest.raises(ChanClosed, match=r"^send on closed channel"):
        place.sender(lambda c: c.send(11), c).result(10)
    assert c.recv_ok() == (10, True)
    assert c.recv_ok() == (None, False)


def test_C04_value_of_a_blocked_sender_is_lost_at_close(place):
    c = chan(1)
    c.send(10)
    g = place.sender(lambda c: c.send(11), c)
    until_waiting(c, senders=1)
    c.close()
    with pytest.raises(ChanClosed, match=r"^send on closed channel"):
        g.result(10)
    assert [c.recv_ok(), c.recv_ok()] == [(10, True), (None, False)]


@pytest.mark.parametrize("n", [-1, -(2**31), -(2**62), 2**32, 2**62])
def test_C06_size_out_of_range(runtime0, n):
    with pytest.raises(ValueError, match=r"^makechan: size out of range$"):
        chan(n)


@pytest.mark.parametrize("n", [1.0, "1", None])
def test_C06_size_must_be_an_int(runtime0, n):
    with pytest.raises(TypeError):
        chan(n)


def test_C06_size_that_does_not_fit_in_memory(runtime0):
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


def test_C08_range_over_nil_blocks(place, blocks):
    g = place.receiver(lambda c: list(c), nil)
    blocks(g)
    g.cancel()
    with pytest.raises(goproc.Cancelled):
        g.result(10)


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


@pytest.mark.parametrize("procs", [1, 2, 4])
@pytest.mark.parametrize("where", ["main", "goroutine", "blocked"])
def test_C10_uncaught_send_panics(run, procs, where):
    """The whole program dies: main in the middle of its wait, and every worker (run() looks for what is left)."""
    done = run(
        """
        import sys
        from goproc import chan, go, nil, procs, sleep
        from goproc.testing import until_waiting

        def send(ready, c):
            ready.send(None)
            c.send(1)

        for p in range(procs()):
            go.on(p)(lambda: nil.recv())
        c, ready = chan(), chan()
        if sys.argv[1] == "main":
            c.close()
            c.send(1)
        go.on(procs() - 1)(send, ready, c)
        if sys.argv[1] == "goroutine":
            c.close()
        ready.recv()
        if sys.argv[1] == "blocked":
            until_waiting(c, senders=1)
            c.close()
        sleep(20)
        print("lives")
        """,
        where,
        procs=procs,
    )
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("panic: send on closed channel\n\ngoroutine "), done.err
