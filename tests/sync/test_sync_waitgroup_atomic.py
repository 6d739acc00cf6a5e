"""WaitGroup and Atomic, in one process and across; what Go's cases G01 to G07 leave out."""

from __future__ import annotations

import gc
import threading

import pytest
from peek import until_waiting, waiters

from goproc import Atomic, Cancelled, WaitGroup, chan, go, goexit, yield_now


@pytest.fixture(params=["local", "on1", "spread"])
def spawn(request, runtime4):
    turn = iter(range(10**9))
    return {"local": go.local, "on1": go.on(1), "spread": lambda f, *a: go.on(next(turn) % 4)(f, *a)}[
        request.param
    ]


# -- WaitGroup --------------------------------------------------------------------------------------------------------


def test_negative_counter(spawn):
    wg = WaitGroup()
    wg.add(1)
    wg.done()
    with pytest.raises(ValueError, match=r"^sync: negative WaitGroup counter$"):
        wg.done()
    with pytest.raises(ValueError, match="sync: negative WaitGroup counter"):
        spawn(lambda wg: wg.add(-5), wg).result(10)
    assert wg.count == 0
    wg.add(2)
    with pytest.raises(ValueError):
        wg.add(-3)
    assert wg.count == 2


def test_go_passes_arguments_and_results(runtime4):
    wg, n = WaitGroup(), Atomic(0)
    gs = [wg.go(lambda n, k, *, j: n.add(k + j), n, 1, j=1) for _ in range(50)]
    wg.wait(timeout=20)
    assert n.load() == 100 and wg.count == 0
    assert sorted(g.result(10) for g in gs) == list(range(2, 102, 2))


def test_go_that_cannot_be_started_does_not_count(runtime2):
    wg = WaitGroup()
    for bad in (lambda: wg.go(None), lambda: wg.go(5), lambda: wg.go(print, (i for i in ()))):
        with pytest.raises((TypeError, Exception)):
            bad()
        assert wg.count == 0


def test_goexit_counts_as_done(runtime2):
    wg = WaitGroup()
    wg.go(goexit)
    wg.wait(timeout=10)


def test_failure_with_a_handle_counts_as_done(runtime2):
    def fail():
        raise KeyError("k")

    wg = WaitGroup()
    g = wg.go(fail)
    wg.wait(timeout=10)
    assert isinstance(g.exception(10), KeyError)


def test_wait_at_zero_does_not_block(runtime0):
    wg = WaitGroup()
    wg.wait()
    wg.wait(timeout=0)
    wg.add(0)
    wg.wait(0)


def test_wait_times_out(spawn):
    wg = WaitGroup()
    wg.add(1)

    def wait(wg):
        try:
            wg.wait(timeout=0.002)
        except TimeoutError as error:
            return str(error)

    assert spawn(wait, wg).result(10) == "sync.WaitGroup.Wait: timed out"
    for timeout in (0, -1, 0.002):
        with pytest.raises(TimeoutError):
            wg.wait(timeout=timeout)
    assert waiters(wg) == (0, 0)
    wg.done()
    wg.wait(timeout=0)


def test_wait_cancelled(spawn):
    wg = WaitGroup()
    wg.add(1)
    g, stays = spawn(lambda wg: wg.wait(), wg), spawn(lambda wg: wg.wait(), wg)
    until_waiting(wg, receivers=2)
    g.cancel()
    assert isinstance(g.exception(10), Cancelled)
    assert waiters(wg) == (1, 0)
    wg.done()
    stays.result(10)


def test_used_again(spawn):
    wg = WaitGroup()
    for i in range(1, 20):
        wg.add(i)
        gs = [spawn(lambda wg: wg.done(), wg) for _ in range(i)]
        wg.wait(timeout=20)
        assert wg.count == 0
        for g in gs:
            g.join(10)


@pytest.mark.parametrize("n", [2**63, -(2**63) - 1, 2**200])
def test_add_out_of_range(runtime0, n):
    with pytest.raises(OverflowError):
        WaitGroup().add(n)


def test_counter_overflow(runtime0):
    wg = WaitGroup()
    wg.add(2**63 - 1)
    with pytest.raises(OverflowError):
        wg.add(1)
    assert wg.count == 2**63 - 1


@pytest.mark.parametrize(
    "call",
    [
        lambda w: w.add("1"),
        lambda w: w.add(1.0),
        lambda w: w.done(1),
        lambda w: w.wait("1"),
        lambda w: w.wait(1, 2),
    ],
)
def test_wrong_arguments(runtime0, call):
    wg = WaitGroup()
    with pytest.raises(TypeError):
        call(wg)
    assert wg.count == 0


def test_group_is_a_value(runtime2):
    wg = WaitGroup()
    got = go.on(1)(lambda w: (w.add(2), w)[1], wg).result(10)
    assert got is wg and wg.count == 2 and len({wg, got}) == 1
    assert "count=2" in repr(wg)


def test_stress(runtime4):
    wg, total = WaitGroup(), Atomic(0)

    def worker(wg, total, depth):
        total.add(1)
        if depth:
            for _ in range(2):
                wg.add(1)
                go(worker, wg, total, depth - 1)
        wg.done()

    wg.add(4)
    for p in range(4):
        go.on(p)(worker, wg, total, 6)
    wg.wait(timeout=30)
    assert total.load() == 4 * (2**7 - 1)


# -- Atomic -----------------------------------------------------------------------------------------------------------


def test_atomic_operations(runtime0):
    a = Atomic(5)
    assert a.load() == 5 and Atomic().load() == 0
    assert a.store(7) is None and a.load() == 7
    assert a.add(3) == 10 and a.add() == 11 and a.add(n=-1) == 10
    assert a.swap(20) == 10 and a.load() == 20
    assert a.cas(20, 21) is True and a.cas(20, 22) is False and a.load() == 21
    assert a.and_(0b10100) == 21 and a.load() == 20
    assert a.or_(1) == 20 and a.load() == 21
    assert "21" in repr(a)


def test_atomic_limits(runtime0):
    top, bottom = 2**63 - 1, -(2**63)
    for v in (top, bottom, -1, 0):
        assert Atomic(v).load() == v
    for v in (top + 1, bottom - 1, 2**100):
        with pytest.raises(OverflowError):
            Atomic(v)
        for call in (Atomic(0).store, Atomic(0).add, Atomic(0).swap, Atomic(0).and_, Atomic(0).or_):
            with pytest.raises(OverflowError):
                call(v)
    a = Atomic(top)
    with pytest.raises(OverflowError):
        a.add(1)
    assert a.load() == top
    a.store(bottom)
    with pytest.raises(OverflowError):
        a.add(-1)
    assert a.and_(-1) == bottom and a.or_(-1) == bottom and a.load() == -1


def test_atomic_bool(runtime2):
    a = Atomic(False)
    assert a.load() is False and a.swap(True) is False and a.load() is True
    assert a.cas(True, False) is True and a.load() is False
    a.store(True)
    assert go.on(1)(lambda a: (a.load(), a.swap(False)), a).result(10) == (True, True)
    assert a.load() is False
    for call in (
        lambda: a.add(1),
        lambda: a.add(True),
        lambda: a.and_(1),
        lambda: a.or_(1),
        lambda: a.store(1),
        lambda: a.cas(0, 1),
    ):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("v", ["1", 1.0, None, [], True])
def test_atomic_of_something_else(runtime0, v):
    a = Atomic(0)
    for call in (a.store, a.add, a.swap, a.and_, a.or_):
        with pytest.raises(TypeError):
            call(v)
    with pytest.raises(TypeError):
        a.cas(0, v)
    assert a.load() == 0
    if v is not True:
        with pytest.raises(TypeError):
            Atomic(v)


def test_atomic_failed_construction_leaves_nothing(runtime0):
    from goproc.shm import _core

    before = _core.census()["objects"]
    for _ in range(10):
        with pytest.raises(TypeError):
            Atomic("x")
    gc.collect()
    assert _core.census()["objects"] == before


def test_atomic_adds_of_all_processes(spawn):
    def worker(a, n):
        for _ in range(n):
            a.add(1)

    a = Atomic(0)
    gs = [spawn(worker, a, 2000) for _ in range(8)]
    for g in gs:
        g.result(20)
    assert a.load() == 16_000


def test_atomic_adds_return_each_number_once(runtime4):
    def worker(a, n):
        return [a.add(1) for _ in range(n)]

    a = Atomic(0)
    gs = [go.on(i)(worker, a, 2000) for i in range(4)]
    got = [g.result(20) for g in gs]
    assert sorted(i for one in got for i in one) == list(range(1, 8001))
    assert all(one == sorted(one) for one in got)


def test_atomic_cas_elects_one(runtime4):
    def worker(a, start, me):
        start.recv_ok()
        return [i for i in range(200) if a.cas(i, i + 1)]

    a, start = Atomic(0), chan()
    gs = [go.on(i)(worker, a, start, i) for i in range(4)]
    until_waiting(start, receivers=4)
    start.close()
    won = [i for g in gs for i in g.result(20)]
    assert sorted(won) == list(range(a.load()))


def test_atomic_spin_lets_others_run(runtime0):
    """A goroutine that polls must not keep the one it waits for from running."""
    a = Atomic(0)

    def wait():
        while a.load() == 0:
            pass
        return "seen"

    g = go.local(wait)
    yield_now()
    go.local(lambda: a.store(1))
    assert g.result(20) == "seen"


def test_atomic_from_threads(runtime2):
    a = Atomic(0)

    def work():
        for _ in range(3000):
            a.add(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    g = go.on(1)(lambda a: [a.add(1) for _ in range(3000)] and None, a)
    for t in threads:
        t.join()
    g.result(20)
    assert a.load() == 15_000


def test_token_ring_by_atomic(runtime4):
    """E01: four goroutines take turns, each seeing what the one before it wrote."""

    def worker(x, p, n):
        for i in range(n):
            while x.load() != 4 * i + p:
                yield_now()
            x.store(4 * i + p + 1)

    x = Atomic(0)
    gs = [go.on(p)(worker, x, p, 20) for p in range(4)]
    for g in gs:
        g.result(30)
    assert x.load() == 80
