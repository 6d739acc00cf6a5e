"""F: Mutex and RWMutex."""

from __future__ import annotations

import pytest
from peek import until

from goproc import Atomic, chan, sleep, yield_now
from goproc.sync import Mutex, RWMutex


def test_F01_mutex_basic(place, long):
    m = Mutex()
    m.lock()
    assert m.try_lock() is False
    assert place.anyone(m.try_lock).result(10) is False
    m.unlock()
    assert m.try_lock() is True
    m.unlock()

    def hammer(m, n):
        for i in range(n):
            if i % 3 == 0:
                if m.try_lock():
                    m.unlock()
                continue
            m.lock()
            m.unlock()

    gs = [place.anyone(hammer, m, 1000 if long else 100) for _ in range(10)]
    for g in gs:
        g.result(40)
    assert m.try_lock()
    m.unlock()


MISUSE = {
    "unlock of a fresh mutex": (Mutex, (), "unlock", "sync: unlock of unlocked mutex"),
    "second unlock": (Mutex, ("lock", "unlock"), "unlock", "sync: unlock of unlocked mutex"),
    "Unlock of a fresh one": (RWMutex, (), "unlock", "sync: Unlock of unlocked RWMutex"),
    "Unlock while read-locked": (RWMutex, ("rlock",), "unlock", "sync: Unlock of unlocked RWMutex"),
    "second Unlock": (RWMutex, ("lock", "unlock"), "unlock", "sync: Unlock of unlocked RWMutex"),
    "RUnlock of a fresh one": (RWMutex, (), "runlock", "sync: RUnlock of unlocked RWMutex"),
    "RUnlock while write-locked": (RWMutex, ("lock",), "runlock", "sync: RUnlock of unlocked RWMutex"),
    "second RUnlock": (RWMutex, ("rlock", "runlock"), "runlock", "sync: RUnlock of unlocked RWMutex"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_F02_misuse(place, case):
    """An exception, not the end of the program as in Go; the lock is as it was."""
    kind, before, call, text = MISUSE[case]
    m = kind()
    for name in before:
        getattr(m, name)()

    def misuse(m, call):
        try:
            getattr(m, call)()
        except RuntimeError as error:
            return str(error)

    assert place.anyone(misuse, m, call).result(10) == text
    assert misuse(m, call) == text
    if before == ("rlock",):
        assert m.try_rlock() and not m.try_lock()
    else:
        assert m.try_lock() is (before != ("lock",))


def test_F03_fairness(place):
    def greedy(m, stop):
        while not stop.load():
            m.lock()
            sleep(0.0001)
            m.unlock()

    def polite(m):
        for _ in range(10):
            sleep(0.0001)
            m.lock()
            m.unlock()

    m, stop = Mutex(), Atomic(False)
    hog = place.sender(greedy, m, stop)
    place.receiver(polite, m).result(30)
    stop.store(True)
    hog.result(10)


def test_F04_cross_goroutine_unlock(place):
    m = Mutex()
    place.sender(m.lock).result(10)
    assert m.locked
    place.receiver(m.unlock).result(10)
    place.anyone(m.lock, 10).result(20)
    assert not m.try_lock()
    m.unlock()


@pytest.mark.parametrize("readers", [1, 3, 4])
def test_F05_parallel_readers(place, readers):
    def reader(m, inside, leave, gone):
        m.rlock()
        inside.send(True)
        leave.recv()
        m.runlock()
        gone.send(True)

    m, inside, leave, gone = RWMutex(), chan(), chan(), chan()
    gs = [place.anyone(reader, m, inside, leave, gone) for _ in range(readers)]
    for _ in range(readers):
        inside.recv(timeout=10)
    for _ in range(readers):
        leave.send(True)
    for _ in range(readers):
        gone.recv(timeout=10)
    for g in gs:
        g.result(10)


@pytest.mark.parametrize("readers", [1, 3, 10])
def test_F06_rw_hammer(place, readers, long):
    def read(m, activity, n):
        for i in range(n):
            m.rlock()
            seen = activity.add(1)
            assert 1 <= seen < 10_000, f"a reader sees {seen}"
            if i % 4 == 0:
                yield_now()
            activity.add(-1)
            m.runlock()

    def write(m, activity, n):
        for i in range(n):
            m.lock()
            seen = activity.add(10_000)
            assert seen == 10_000, f"a writer sees {seen}"
            if i % 4 == 0:
                yield_now()
            activity.add(-10_000)
            m.unlock()

    m, activity, n = RWMutex(), Atomic(0), 1000 if long else 40
    gs = [place.anyone(write, m, activity, n)]
    gs += [place.anyone(read, m, activity, n) for _ in range(readers // 2)]
    gs += [place.anyone(write, m, activity, n)]
    gs += [place.anyone(read, m, activity, n) for _ in range(readers - readers // 2)]
    for g in gs:
        g.result(40)
    assert activity.load() == 0


def test_F07_try_variants(place):
    m = RWMutex()

    def attempts(m):
        got = m.try_lock(), m.try_rlock()
        if got[0]:
            m.unlock()
        if got[1]:
            m.runlock()
        return got

    m.lock()
    assert place.anyone(attempts, m).result(10) == (False, False) == attempts(m)
    m.unlock()
    assert m.try_lock()
    m.unlock()
    assert m.try_rlock() and m.try_rlock()
    assert not m.try_lock()
    assert place.anyone(attempts, m).result(10) == (False, True)
    m.runlock()
    m.runlock()
    assert place.anyone(attempts, m).result(10) == (True, False)


def test_F08_pending_writer(place, blocks):
    def write(m, events):
        m.lock()
        events.send("writes")
        m.unlock()

    def read(m, events):
        m.rlock()
        events.send("reads")
        m.runlock()

    m, events = RWMutex(), chan(2)
    m.rlock()
    writer = place.sender(write, m, events)

    def writer_waits():
        if m.try_rlock():
            m.runlock()
            return False
        return True

    until(writer_waits)
    reader = place.receiver(read, m, events)
    blocks(writer, reader)
    assert len(events) == 0 and m.try_rlock() is False
    m.runlock()
    assert [events.recv(timeout=10) for _ in range(2)] == ["writes", "reads"]
    writer.result(10)
    reader.result(10)


def test_F09_rlocker(place):
    def worker(m, locked, n):
        for _ in range(n):
            m.reader.lock()
            m.reader.lock()
            locked.send(True)
            m.writer.lock()
            locked.send(True)

    m, locked, n = RWMutex(), chan(1), 10
    g = place.anyone(worker, m, locked, n)
    for _ in range(n):
        locked.recv(timeout=10)
        m.reader.unlock()
        sleep(0.002)  # nothing is to happen
        assert not locked.try_recv()[1], "the write lock came with a reader left"
        m.reader.unlock()
        locked.recv(timeout=10)
        assert not m.reader.try_lock()
        m.writer.unlock()
    g.result(10)
