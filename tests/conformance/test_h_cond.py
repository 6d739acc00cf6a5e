"""H: Cond."""

from __future__ import annotations

import copy
import pickle

import pytest
from peek import until_waiting

from goproc import Atomic, chan
from goproc.sync import Cond, Mutex


def test_H01_signal(place, blocks):
    def wait(m, cond, running, awake):
        m.lock()
        running.send(True)
        cond.wait()
        awake.send(True)
        m.unlock()

    n = 2
    m = Mutex()
    cond, running, awake = Cond(m), chan(n), chan(n)
    gs = [place.anyone(wait, m, cond, running, awake) for _ in range(n)]
    for _ in range(n):
        running.recv(timeout=10)
    for left in range(n, 0, -1):
        blocks(*gs) if left == n else None
        assert len(awake) == 0, "a goroutine is awake"
        until_waiting(cond, receivers=left)
        m.lock()
        cond.signal()
        m.unlock()
        awake.recv(timeout=10)
        until_waiting(cond, receivers=left - 1)
        assert len(awake) == 0, "too many are awake"
    cond.signal()
    for g in gs:
        g.result(10)


def test_H01_order_and_other_lockers(place):
    """Each signal wakes the one that has waited longest; the lock need not be held."""

    def wait(m, cond, awake, i):
        with m:
            cond.wait()
        awake.send(i)

    m = Mutex()
    cond, awake, gs = Cond(m), chan(), []
    for i in range(4):
        gs.append(place.anyone(wait, m, cond, awake, i))
        until_waiting(cond, receivers=i + 1)
    got = []
    for _ in range(4):
        place.anyone(cond.signal).result(10)
        got.append(awake.recv(timeout=10))
    assert got == [0, 1, 2, 3]
    for g in gs:
        g.result(10)


def test_H03_broadcast(place, long):
    def worker(m, cond, running, awake, leave, i):
        m.lock()
        while not leave.load():
            running.send(i)
            cond.wait()
            awake.send(i)
        m.unlock()

    n = 50 if long else 12
    m = Mutex()
    cond, running, awake, leave = Cond(m), chan(n), chan(n), Atomic(False)
    gs = [place.anyone(worker, m, cond, running, awake, leave, i) for i in range(n)]
    for last in range(4):
        for _ in range(n):
            running.recv(timeout=20)
        if last == 3:
            m.lock()
            leave.store(True)
            m.unlock()
        assert len(awake) == 0, "a goroutine is awake"
        m.lock()
        cond.broadcast()
        m.unlock()
        seen = [awake.recv(timeout=20) for _ in range(n)]
        assert sorted(seen) == list(range(n))
    assert len(running) == 0, "a goroutine did not leave"
    cond.broadcast()
    for g in gs:
        g.result(10)


def test_H04_three_way(place):
    def one(cond, x):
        with cond:
            x.store(1)
            cond.wait()
            return x.load()

    def two(cond, x):
        with cond:
            while x.load() != 1:
                cond.mutex.unlock()
                cond.mutex.lock()
            x.store(2)
            cond.signal()

    def three(cond, x):
        with cond:
            while True:
                if x.load() == 2:
                    x.store(3)
                    return x.load()
                cond.mutex.unlock()
                cond.mutex.lock()

    m = Mutex()
    cond, x = Cond(m), Atomic(0)
    gs = [place.anyone(f, cond, x) for f in (one, two, three)]
    got = [g.result(30) for g in gs]
    assert got[0] in (2, 3) and got[1:] == [None, 3] and x.load() == 3


def test_H06_copy_check(runtime2):
    """There are no copies: a Cond that was sent, pickled or copied is the same one, whoever waits on it."""

    def wait(cond, gone):
        with cond:
            cond.wait()
        gone.send(True)

    cond, gone, through = Cond(Mutex()), chan(), chan(1)
    through.send(cond)
    assert through.recv() == cond
    from goproc import go

    g = go.on(1)(wait, cond, gone)
    until_waiting(cond, receivers=1)
    for make in (copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))):
        try:
            made = make(cond)
        except (TypeError, RuntimeError, pickle.PicklingError):
            continue  # refused is as good
        assert made == cond and made.mutex == cond.mutex
    go.on(1)(cond.signal).result(10)
    assert gone.recv(timeout=10)
    g.result(10)


def test_H07_not_remembered(place, blocks):
    def wait(cond):
        with cond:
            cond.wait()

    cond = Cond(Mutex())
    cond.signal()
    cond.broadcast()
    g = place.anyone(wait, cond)
    until_waiting(cond, receivers=1)
    blocks(g)
    cond.signal()
    g.result(10)


@pytest.mark.parametrize("wakes", ["signal", "broadcast"])
def test_H_no_waiters(place, wakes):
    cond = Cond(Mutex())
    for _ in range(3):
        place.anyone(getattr(cond, wakes)).result(10)
