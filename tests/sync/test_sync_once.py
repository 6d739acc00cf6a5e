"""Once, once_func and once_value, beyond conformance cases G."""

from __future__ import annotations

import threading

import pytest
from peek import until, waiters

from goproc import Atomic, Cancelled, PickleError, chan, go, sleep
from goproc.sync import Once, once_func, once_value


def test_arguments_and_result(place):
    once, n = Once(), Atomic(0)

    def f(n, a, *, b):
        n.add(a + b)
        return "not returned"

    assert once.do(f, n, 1, b=10) is None
    assert place.anyone(lambda once, f, n: once.do(f, n, 1, b=10), once, f, n).result(10) is None
    assert n.load() == 11
    assert "done" in repr(once) and "not done" in repr(Once())


def test_exception_goes_to_the_first_caller_only(place):
    def fail():
        raise KeyError("k")

    once = Once()
    assert isinstance(place.anyone(once.do, fail).exception(10), KeyError)
    assert place.anyone(once.do, fail).exception(10) is None
    once.do(fail)


def test_many_at_once(place):
    def init(n):
        sleep(0.002)  # the length of the call
        n.add(1)

    def worker(once, init, n):
        once.do(init, n)
        return n.load()

    for _ in range(5):
        once, n = Once(), Atomic(0)
        gs = [place.anyone(worker, once, init, n) for _ in range(8)]
        assert [g.result(10) for g in gs] == [1] * 8


def test_cancelled_while_another_does_it(place):
    def slow(started, finish):
        started.send(1)
        finish.recv()

    once, started, finish, n = Once(), chan(), chan(), Atomic(0)
    first = place.anyone(once.do, slow, started, finish)
    started.recv(timeout=10)
    gs = [place.anyone(once.do, n.add, 1) for _ in range(3)]
    until(lambda: sum(waiters(once)) == 3)
    gs[0].cancel()
    assert isinstance(gs[0].exception(10), Cancelled)
    finish.send(1)
    for g in (first, *gs[1:]):
        g.result(10)
    assert n.load() == 0
    once.do(n.add, 1)
    assert n.load() == 0


def test_cancelled_while_doing_it(place):
    """Whoever waits for it next does it: the cancellation was the first one's affair."""

    def slow(started):
        started.send(1)
        chan().recv()

    once, started, n = Once(), chan(), Atomic(0)
    first = place.anyone(once.do, slow, started)
    started.recv(timeout=10)
    others = [place.anyone(once.do, n.add, 1) for _ in range(2)]
    until(lambda: sum(waiters(once)) == 2)
    first.cancel()
    assert isinstance(first.exception(10), Cancelled)
    for g in others:
        g.result(10)
    assert n.load() == 1


def test_two_onces_are_independent(place):
    n = Atomic(0)
    a, b = Once(), Once()
    a.do(b.do, n.add, 1)
    b.do(n.add, 10)
    place.anyone(a.do, n.add, 100).result(10)
    assert n.load() == 1


def test_from_threads(runtime2):
    once, n = Once(), Atomic(0)
    threads = [threading.Thread(target=once.do, args=(n.add, 1)) for _ in range(6)]
    for t in threads:
        t.start()
    go.on(1)(once.do, n.add, 1).result(20)
    for t in threads:
        t.join(20)
    assert n.load() == 1


# -- functions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, 5, "f"])
@pytest.mark.parametrize("make", [once_func, once_value])
def test_of_something_else(runtime0, make, bad):
    with pytest.raises(TypeError):
        make(bad)


def test_value_is_the_same_object_in_one_process(runtime2):
    f = once_value(lambda: [1, 2])
    assert f() is f()
    assert go.on(1)(lambda f: (f() is f(), f()), f).result(10) == (True, [1, 2])


def test_value_of_every_kind(place):
    for value in (b"x" * 100_000, "x" * 1000, {1: (2, [3])}, frozenset((1, 2)), range(3), 10**40):
        f = once_value(lambda value=value: value)
        assert place.anyone(f).result(10) == value == f()


def test_value_that_cannot_be_copied(place):
    """Every caller is told; f has run."""
    n = Atomic(0)

    def f():
        n.add(1)
        return (i for i in ())

    f = once_value(f)
    for _ in range(2):
        with pytest.raises(PickleError):
            f()
        assert isinstance(place.anyone(f).exception(10), PickleError)
    assert n.load() == 1


def test_once_func_ignores_a_result_that_cannot_be_copied(place):
    f = once_func(lambda: (i for i in ()))
    assert f() is None and place.anyone(f).result(10) is None


def test_function_is_sent_after_it_was_called(place):
    n = Atomic(0)
    f = once_value(lambda: n.add(1))
    assert f() == 1
    c = chan(1)
    c.send(f)
    assert c.recv()() == 1
    assert place.anyone(lambda fs: [f() for f in fs], [f, f]).result(10) == [1, 1]
    assert n.load() == 1


def test_as_decorator(place):
    n = Atomic(0)

    @once_value
    def config():
        return {"calls": n.add(1)}

    assert config() == {"calls": 1} == place.anyone(lambda: config()).result(10)
    assert config.__name__ == "config"


def test_exception_again_and_again_does_not_grow(runtime0):
    """Raising the same exception adds to its traceback; a thousand times must not add a thousand frames."""

    def fail():
        raise ValueError("x")

    f = once_value(fail)

    def depth():
        try:
            f()
        except ValueError as error:
            n, tb = 0, error.__traceback__
            while tb is not None:
                n, tb = n + 1, tb.tb_next
            return n

    first = [depth() for _ in range(3)][-1]
    for _ in range(200):
        last = depth()
    assert last <= first + 2


def test_value_from_many_at_once(place):
    def slow():
        sleep(0.002)  # the length of the call
        return n.add(1)

    for _ in range(5):
        n = Atomic(0)
        f = once_value(slow)
        gs = [place.anyone(f) for _ in range(8)]
        assert [g.result(10) for g in gs] == [1] * 8
