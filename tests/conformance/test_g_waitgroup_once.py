"""G: WaitGroup, Once and the functions made of it."""

from __future__ import annotations

import gc
import traceback
import weakref

import programs
import pytest
from peek import until_waiting

from goproc import Atomic, WaitGroup, chan, go, goexit, sleep
from goproc.sync import Once, once_func, once_value


@pytest.fixture(params=[once_func, once_value], ids=lambda f: f.__name__)
def once(request):
    return request.param


def test_G01_two_groups(place):
    def worker(one, two, ended):
        one.done()
        two.wait()
        ended.add(1)

    one, two, n = WaitGroup(), WaitGroup(), 16
    for _ in range(3):
        ended = Atomic(0)
        one.add(n)
        two.add(n)
        gs = [place.anyone(worker, one, two, ended) for _ in range(n)]
        one.wait(timeout=20)
        for _ in range(n):
            assert ended.load() == 0
            two.done()
        for g in gs:
            g.result(10)
        assert ended.load() == n


def test_G02_negative(place):
    def misuse(wg):
        wg.add(1)
        wg.done()
        try:
            wg.done()
        except ValueError as error:
            return str(error)

    assert place.anyone(misuse, WaitGroup()).result(10) == "sync: negative WaitGroup counter"


def test_G03_no_early_wake(place, long):
    def worker(n, wg):
        n.add(1)
        wg.done()

    for _ in range(1000 if long else 50):
        wg, n = WaitGroup(), Atomic(0)
        wg.add(2)
        gs = [place.anyone(worker, n, wg) for _ in range(2)]
        wg.wait(timeout=20)
        assert n.load() == 2
        for g in gs:
            g.join(10)


def test_G04_go(place):
    wg, n = WaitGroup(), Atomic(0)
    wg.go(n.add, 1)
    wg.wait(timeout=10)
    assert n.load() == 1
    assert place.anyone(lambda wg, n: (wg.go(n.add, 2), wg.wait(10), n.load())[2], wg, n).result(20) == 3


def test_G06_go_goexit(place):
    wg = WaitGroup()
    wg.go(goexit)
    wg.wait(timeout=10)
    assert wg.count == 0


def test_G07_many_waiters(place):
    wg = WaitGroup()
    wg.add(2)
    gs = [place.anyone(lambda wg: wg.wait(), wg) for _ in range(10)]
    until_waiting(wg, receivers=10)
    wg.done()
    until_waiting(wg, receivers=10)
    place.anyone(wg.done).result(10)
    for g in gs:
        g.result(10)


def test_G08_once(place):
    def worker(once, n):
        once.do(n.add, 1)
        return n.load()

    once, n = Once(), Atomic(0)
    gs = [place.anyone(worker, once, n) for _ in range(10)]
    assert [g.result(10) for g in gs] == [1] * 10


def test_G09_once_panic(place):
    class Boom(Exception):
        pass

    def fail():
        raise KeyError("boom")

    def second(once, n):
        once.do(n.add, 1)
        return n.load()

    once, n = Once(), Atomic(0)
    assert isinstance(place.anyone(once.do, fail).exception(10), KeyError)
    assert second(once, n) == 0
    assert place.anyone(second, once, n).result(10) == 0


def test_G10_once_blocks(place, blocks):
    def slow(started, finish, done):
        started.send(1)
        finish.recv()
        done.add(1)

    def second(once, done):
        once.do(done.add, 100)
        return done.load()

    once, started, finish, done = Once(), chan(), chan(), Atomic(0)
    first = place.sender(once.do, slow, started, finish, done)
    started.recv(timeout=10)
    others = [place.receiver(second, once, done) for _ in range(2)]
    blocks(first, *others)
    finish.send(1)
    assert [g.result(10) for g in others] == [1, 1]
    first.result(10)


@pytest.mark.parametrize("value", [42, "text", (1, [2, {"k": None}]), None], ids=str)
def test_G11_once_func_and_value(place, once, value):
    calls = Atomic(0)

    def f():
        calls.add(1)
        return value

    f = once(f)
    expected = value if once is once_value else None
    for _ in range(6):
        assert f() == expected
        assert place.anyone(f).result(10) == expected
    assert calls.load() == 1


def test_G11_first_call_elsewhere(place, once):
    """The function was passed on before anybody called it."""
    calls = Atomic(0)

    def f():
        sleep(0.002)  # the length of the call
        return calls.add(1)

    f = once(f)
    gs = [place.anyone(f) for _ in range(8)]
    expected = 1 if once is once_value else None
    assert [g.result(10) for g in gs] == [expected] * 8
    assert f() == expected and calls.load() == 1


def test_G12_panic_replay(place, once):
    calls = Atomic(0)

    def f():
        calls.add(1)
        raise ValueError("x", 1)

    f = once(f)
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            f()
        assert caught.value.args == ("x", 1)
        error = place.anyone(f).exception(10)
        assert type(error) is ValueError and error.args == ("x", 1)
    assert calls.load() == 1


def test_G12_panic_replay_first_elsewhere(place, once):
    calls = Atomic(0)

    def f():
        calls.add(1)
        raise ValueError("x")

    f = once(f)
    assert str(place.sender(f).exception(10)) == "x"
    with pytest.raises(ValueError) as caught:
        f()
    assert str(caught.value) == "x"
    assert str(place.receiver(f).exception(10)) == "x"
    assert calls.load() == 1


def test_G13_once_goexit(place, once):
    calls = Atomic(0)

    def f():
        calls.add(1)
        goexit()

    f = once(f)
    for _ in range(3):
        g = place.anyone(f)
        g.join(10)
    assert calls.load() == 1


def test_G14_traceback(runtime0, once):
    def its_own_frame():
        raise ValueError("x")

    f = once(its_own_frame)
    with pytest.raises(ValueError) as caught:
        f()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "its_own_frame" in names
    with pytest.raises(ValueError) as caught:
        f()
    notes = "".join(getattr(caught.value, "__notes__", ()))
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "its_own_frame" in names or "its_own_frame" in notes


@pytest.mark.parametrize("fails", [False, True])
def test_G15_release(runtime0, once, fails):
    class Big:
        pass

    def make():
        big = Big()

        def f():
            big.used = True
            if fails:
                raise ValueError("x")

        return once(f), weakref.ref(big)

    f, big = make()
    gc.collect()
    assert big() is not None
    for _ in range(2):
        if fails:
            with pytest.raises(ValueError):
                f()
        else:
            f()
        gc.collect()
        assert big() is None


def test_G16_recursive(tmp_path):
    done = programs.run(
        tmp_path,
        """
        from goproc.sync import Once

        once = Once()
        once.do(lambda: once.do(print, "never"))
        """,
        procs=1,
    )
    assert (done.status, done.out) == (2, "")
    lines = done.err.splitlines()
    assert lines[:2] == ["fatal error: all goroutines are asleep - deadlock!", ""], done.err
    assert any(line.startswith("goroutine 1 [sync.Mutex.Lock") for line in lines), done.err


def test_G16_two_onces(tmp_path):
    """Each initialises the other."""
    done = programs.run(
        tmp_path,
        """
        from goproc import go
        from goproc.sync import Once

        a, b = Once(), Once()

        def init_a():
            b.do(init_b)

        def init_b():
            a.do(init_a)

        a.do(init_a)
        """,
        procs=2,
    )
    assert done.status == 2 and done.err.startswith("fatal error: all goroutines are asleep"), done.err


def test_G_many_rounds_of_go(place):
    wg, n = WaitGroup(), Atomic(0)

    def round_(wg, n):
        for _ in range(10):
            wg.go(n.add, 1)

    gs = [place.anyone(round_, wg, n) for _ in range(3)]
    for g in gs:
        g.result(20)
    wg.wait(timeout=20)
    assert n.load() == 30
    go(int).result(10)
