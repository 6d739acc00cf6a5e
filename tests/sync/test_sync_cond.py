"""Cond, beyond conformance cases H."""

from __future__ import annotations

import threading

import pytest
from peek import until, until_waiting, waiters

from goproc import Atomic, Cancelled, chan, go, sleep
from goproc.sync import Cond, Mutex, RWMutex


def test_needs_the_lock(place):
    def misuse(cond):
        try:
            cond.wait(1)
        except RuntimeError as error:
            return str(error)

    cond = Cond(Mutex())
    assert place.anyone(misuse, cond).result(10) == "sync: unlock of unlocked mutex" == misuse(cond)
    assert waiters(cond) == (0, 0) and cond.mutex.try_lock()
    cond.mutex.unlock()


@pytest.mark.parametrize("side", ["reader of a written", "writer of a read"])
def test_needs_the_right_side_of_the_lock(runtime0, side):
    """It says so and does not try to take what it never had."""
    rw = RWMutex()
    if side == "reader of a written":
        rw.lock()
        cond = Cond(rw.reader)
    else:
        rw.rlock()
        cond = Cond(rw)

    def misuse():
        try:
            cond.wait(0.01)
        except RuntimeError as error:
            return str(error)

    assert "unlocked" in go.local(misuse).result(5)
    assert waiters(rw) == (0, 0) and waiters(cond) == (0, 0)


def test_with_and_mutex(place):
    m = Mutex()
    cond = Cond(m)
    assert cond.mutex is m
    with cond:
        assert m.locked
    assert not m.locked
    rw = RWMutex()
    with Cond(rw):
        assert not rw.try_rlock()
    with Cond(rw.reader):
        assert rw.try_rlock()
        rw.runlock()
    assert rw.try_lock()
    rw.unlock()


@pytest.mark.parametrize("timeout", [0, -1, 0.002])
def test_times_out_with_the_lock_held(place, timeout):
    def wait(cond, timeout):
        with cond:
            try:
                cond.wait(timeout)
            except TimeoutError as error:
                return str(error), cond.mutex.locked

    cond = Cond(Mutex())
    for g in [place.anyone(wait, cond, timeout) for _ in range(3)]:
        assert g.result(10) == ("sync.Cond.Wait: timed out", True)
    assert waiters(cond) == (0, 0) and cond.mutex.try_lock()
    cond.mutex.unlock()


def test_timeout_does_not_count_the_time_to_lock_again(place):
    def wait(cond, waits):
        with cond:
            waits.send(1)
            try:
                cond.wait(0.005)
            except TimeoutError:
                return cond.mutex.locked

    cond, waits = Cond(Mutex()), chan(1)
    while True:
        g = place.anyone(wait, cond, waits)
        waits.recv()
        cond.mutex.lock()
        if waiters(cond) == (1, 0):
            break
        cond.mutex.unlock()  # on a busy machine its time may be up before we have the lock
        g.join(10)
    sleep(0.01)  # past its time: it waits for the lock
    assert g.state == "running"
    cond.mutex.unlock()
    assert g.result(10) is True


def test_nonsense_for_a_timeout(runtime0):
    cond = Cond(Mutex())
    with cond:
        with pytest.raises(ValueError):
            cond.wait(float("nan"))
        for bad in ("1", [], 1j):
            with pytest.raises(TypeError):
                cond.wait(bad)
        assert cond.mutex.locked
    assert waiters(cond) == (0, 0)


def test_cancelled_with_the_lock_held(place):
    def wait(cond, seen):
        with cond:
            try:
                cond.wait()
            finally:
                seen.store(cond.mutex.locked)

    cond, seen = Cond(Mutex()), Atomic(False)
    g, stays = place.anyone(wait, cond, seen), place.anyone(wait, cond, Atomic(False))
    until_waiting(cond, receivers=2)
    cond.mutex.lock()
    g.cancel()
    until(lambda: waiters(cond)[0] < 2)
    sleep(0.002)  # nothing is to happen
    assert g.state == "running" and not seen.load()
    cond.mutex.unlock()
    assert isinstance(g.exception(10), Cancelled) and seen.load() is True
    assert cond.mutex.try_lock()
    cond.mutex.unlock()
    cond.signal()
    stays.result(10)


def test_signal_to_one_that_gives_up_goes_to_the_next(place):
    """Whoever gave up first does not have it: so often as there was a signal, a wait ends by one."""

    def wait(cond):
        with cond:
            try:
                cond.wait()
            except Cancelled:
                return "cancelled"
        return "signalled"

    for i in range(20):
        cond = Cond(Mutex())
        gs = [place.anyone(wait, cond)]
        until_waiting(cond, receivers=1)
        gs.append(place.anyone(wait, cond))
        until_waiting(cond, receivers=2)
        if i % 2:
            gs[0].cancel()
            cond.signal()
        else:
            cond.signal()
            gs[0].cancel()
        if gs[0].result(10) == "signalled":
            until_waiting(cond, receivers=1)
            cond.signal()
        assert gs[1].result(10) == "signalled"


def test_broadcast_wakes_those_that_wait_now(place):
    def wait(cond, n):
        with cond:
            for _ in range(2):
                cond.wait()
                n.add(1)

    cond, n = Cond(Mutex()), Atomic(0)
    gs = [place.anyone(wait, cond, n) for _ in range(5)]
    for expected in (5, 10):
        until_waiting(cond, receivers=5)
        cond.broadcast()
        until(lambda expected=expected: n.load() == expected)
    for g in gs:
        g.result(10)
    assert n.load() == 10


def test_of_a_reader(place):
    """Several wait with the read lock; each has it again when it goes on."""

    def wait(cond, inside, leave):
        with cond:
            cond.wait()
            inside.add(1)
            leave.recv_ok()

    rw = RWMutex()
    cond, inside, leave = Cond(rw.reader), Atomic(0), chan()
    gs = [place.anyone(wait, cond, inside, leave) for _ in range(4)]
    until_waiting(cond, receivers=4)
    with rw.writer:
        cond.broadcast()
    until(lambda: inside.load() == 4)
    assert not rw.try_lock()
    leave.close()
    for g in gs:
        g.result(10)
    assert rw.try_lock()
    rw.unlock()


def test_of_a_writer(place):
    def wait(cond, inside):
        with cond:
            cond.wait()
            assert inside.add(1) == 1
            sleep(0.0005)
            inside.add(-1)

    cond, inside = Cond(RWMutex()), Atomic(0)
    gs = [place.anyone(wait, cond, inside) for _ in range(4)]
    until_waiting(cond, receivers=4)
    cond.broadcast()
    for g in gs:
        g.result(10)
    assert cond.mutex.try_lock()
    cond.mutex.unlock()


def test_queue_with_two_conditions(place, long):
    """The textbook's bounded buffer: nothing is lost, nobody sleeps for ever."""

    def produce(m, not_full, not_empty, used, room, n):
        for _ in range(n):
            with m:
                while used.load() == room:
                    not_full.wait()
                used.add(1)
                not_empty.signal()

    def consume(m, not_full, not_empty, used, n):
        for _ in range(n):
            with m:
                while used.load() == 0:
                    not_empty.wait()
                assert used.add(-1) >= 0
                not_full.signal()

    m, used, n = Mutex(), Atomic(0), 300 if long else 60
    not_full, not_empty = Cond(m), Cond(m)
    gs = [place.anyone(produce, m, not_full, not_empty, used, 2, n) for _ in range(3)]
    gs += [place.anyone(consume, m, not_full, not_empty, used, n) for _ in range(3)]
    for g in gs:
        g.result(40)
    assert used.load() == 0


def test_plain_threads_wait(place):
    cond, n = Cond(Mutex()), Atomic(0)

    def wait(cond, n):
        with cond:
            cond.wait()
            n.add(1)

    threads = [threading.Thread(target=wait, args=(cond, n)) for _ in range(3)]
    for t in threads:
        t.start()
    g = place.anyone(wait, cond, n)
    until_waiting(cond, receivers=4)
    for i in range(2):
        cond.signal()
        until(lambda i=i: n.load() == i + 1)
    place.anyone(cond.broadcast).result(10)
    for t in threads:
        t.join(20)
    g.result(10)
    assert n.load() == 4


def test_two_conditions_of_one_mutex_are_two(place):
    def wait(cond):
        with cond:
            cond.wait()

    m = Mutex()
    a, b = Cond(m), Cond(m)
    assert a != b and a.mutex == b.mutex
    ga, gb = place.anyone(wait, a), place.anyone(wait, b)
    until_waiting(a, receivers=1)
    until_waiting(b, receivers=1)
    b.broadcast()
    gb.result(10)
    assert ga.state == "running" and waiters(a) == (1, 0)
    a.signal()
    ga.result(10)


def test_repr(runtime0):
    assert "Mutex" in repr(Cond(Mutex()))


def test_sent_alone_and_inside(runtime2):
    """It has its mutex with it, however it travels."""

    def signal(message):
        cond = message
        while not isinstance(cond, Cond):
            cond = next(iter(cond.values() if isinstance(cond, dict) else cond))
        with cond:
            cond.signal()
        return cond.mutex

    def wait(cond):
        with cond:
            cond.wait()

    cond = Cond(Mutex())
    for message in (cond, [cond], {"k": cond}, ((cond,),)):
        g = go.local(wait, cond)
        until_waiting(cond, receivers=1)
        assert go.on(1)(signal, message).result(10) == cond.mutex
        g.result(10)
