"""Mutex and RWMutex, beyond conformance cases F."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from peek import until, until_waiters, until_waits_or_ended

from goproc import Atomic, Cancelled, chan, go, sleep, yield_now
from goproc.sync import Mutex, RWMutex, Semaphore


def test_with(place):
    m = Mutex()
    with m as entered:
        assert entered is m and m.locked
        assert place.anyone(m.try_lock).result(10) is False
    assert not m.locked
    with pytest.raises(KeyError), m:
        raise KeyError
    assert m.try_lock()
    m.unlock()


def test_repr(runtime0):
    m = Mutex()
    assert "free" in repr(m)
    with m:
        assert "locked" in repr(m)
    assert repr(RWMutex()).startswith("<RWMutex")


def test_not_reentrant(runtime0):
    m = Mutex()
    m.lock()
    with pytest.raises(TimeoutError):
        m.lock(timeout=0.001)
    m.unlock()


def test_counter_guarded_by_a_mutex(place, long):
    """Read, wait, write: only mutual exclusion makes the sum right."""

    def work(m, total, n):
        for i in range(n):
            with m:
                seen = total.load()
                if i % 3 == 0:
                    yield_now()
                total.store(seen + 1)

    m, total, n = Mutex(), Atomic(0), 500 if long else 60
    gs = [place.anyone(work, m, total, n) for _ in range(8)]
    for g in gs:
        g.result(40)
    assert total.load() == 8 * n


def test_one_that_waited_long_is_next(place):
    """After a millisecond it is handed to the first in the queue, in order, whoever else comes."""

    def take(m, order, i):
        with m:
            order.send(i)

    m, order, gs = Mutex(), chan(8), []
    m.lock()
    for i in range(4):
        gs.append(place.anyone(take, m, order, i))
        until_waiters(m, i + 1)
    sleep(0.003)  # longer than that
    m.unlock()
    for g in gs:
        g.result(10)
    assert [order.recv() for _ in range(4)] == [0, 1, 2, 3]


def test_first_in_the_queue_gives_up(place):
    m = Mutex()
    m.lock()
    a, b, c = (place.anyone(m.lock) for _ in range(3))
    until_waiters(m, 3)
    a.cancel()
    assert isinstance(a.exception(10), Cancelled)
    m.unlock()
    until(lambda: "done" in (b.state, c.state))
    until_waiters(m, 1)
    m.unlock()
    b.result(10)
    c.result(10)
    m.unlock()


def test_unlocked_by_another_process_wakes_a_waiter(place):
    m = Mutex()
    place.sender(m.lock).result(10)
    g = place.sender(m.lock)
    until_waiters(m, 1)
    place.receiver(m.unlock).result(10)
    g.result(10)
    m.unlock()


def test_lock_of_a_busy_goroutine_can_be_waited_for(runtime2):
    """The holder never blocks; whoever waits sleeps until it is done."""

    def work(m, started):
        with m:
            started.send(1)
            sum(range(200_000))

    m, started = Mutex(), chan(1)
    g = go.on(1)(work, m, started)
    started.recv(timeout=10)
    with m:
        pass
    g.result(10)


# -- RWMutex ----------------------------------------------------------------------------------------------------------


def test_with_sides(place):
    m = RWMutex()
    with m.reader:
        assert m.try_rlock() and not m.try_lock()
        assert place.anyone(m.try_lock).result(10) is False
        m.runlock()
    with m.writer:
        assert not m.try_rlock() and not m.try_lock()
    with pytest.raises(KeyError), m.writer:
        raise KeyError
    with pytest.raises(KeyError), m.reader:
        raise KeyError
    assert m.try_lock()
    m.unlock()


def test_sides_have_all_operations(runtime0):
    m = RWMutex()
    m.reader.lock(timeout=1)
    assert m.reader.try_lock() and not m.writer.try_lock()
    m.reader.unlock()
    with pytest.raises(TimeoutError):
        m.writer.lock(timeout=0)
    m.reader.unlock()
    m.writer.lock()
    with pytest.raises(TimeoutError):
        m.reader.lock(0.001)
    m.writer.unlock()


def test_side_is_sent(place):
    def read(side):
        with side:
            return side.try_lock() and (side.unlock() or True)

    m = RWMutex()
    assert place.anyone(read, m.reader).result(10) is True
    assert place.anyone(lambda side: side.try_lock(), m.writer).result(10) is True
    assert not m.try_rlock()
    m.unlock()


def test_readers_all_go_when_the_writer_ends(place):
    def read(m, inside, leave):
        with m.reader:
            inside.add(1)
            leave.recv_ok()

    m, inside, leave = RWMutex(), Atomic(0), chan()
    m.lock()
    gs = [place.anyone(read, m, inside, leave) for _ in range(6)]
    until_waiters(m, 6)
    m.unlock()
    until(lambda: inside.load() == 6)
    leave.close()
    for g in gs:
        g.result(10)
    assert m.try_lock()
    m.unlock()


def test_readers_that_waited_go_before_the_next_writer(place):
    """Go's order: when a writer ends, the readers that came meanwhile are first, though a writer came before them."""

    def write(m, order):
        with m.writer:
            order.send("w")

    def read(m, order):
        with m.reader:
            order.send("r")

    m, order = RWMutex(), chan(8)
    m.lock()
    gs = [place.anyone(write, m, order)]
    until_waiters(m, 1)
    for n in range(2):
        gs.append(place.anyone(read, m, order))
        until_waiters(m, 2 + n)
    m.unlock()
    for g in gs:
        g.result(10)
    assert [order.recv() for _ in range(3)] == ["r", "r", "w"]


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_pending_writer_that_gives_up_lets_readers_in(place, how):
    m = RWMutex()
    m.rlock()
    writer = place.anyone(m.lock, 0.05 if how == "timeout" else None)
    until_waits_or_ended(m, writer)
    readers = [place.anyone(m.rlock) for _ in range(3)]
    if how == "cancel":
        until_waiters(m, 4)
        writer.cancel()
    assert isinstance(writer.exception(10), TimeoutError if how == "timeout" else Cancelled)
    for g in readers:
        g.result(10)
    for _ in range(4):
        m.runlock()
    assert m.try_lock()
    m.unlock()


def test_second_writer_keeps_readers_out_when_the_first_gives_up(place):
    m = RWMutex()
    m.rlock()
    first, second = place.anyone(m.lock), place.anyone(m.lock)
    until_waiters(m, 2)
    reader = place.anyone(m.rlock)
    until_waiters(m, 3)
    first.cancel()
    assert isinstance(first.exception(10), Cancelled)
    until_waiters(m, 2)
    assert not m.try_rlock() and reader.state == "running"
    m.runlock()
    second.result(10)
    assert reader.state == "running"
    m.unlock()
    reader.result(10)
    m.runlock()


def test_writers_in_order(place):
    def write(m, order, i):
        with m.writer:
            order.send(i)

    m, order, gs = RWMutex(), chan(8), []
    m.rlock()
    for i in range(4):
        gs.append(place.anyone(write, m, order, i))
        until_waiters(m, i + 1)
    m.runlock()
    for g in gs:
        g.result(10)
    assert [order.recv() for _ in range(4)] == [0, 1, 2, 3]


def test_writer_is_not_starved(place):
    """Readers overlap all the time, so that there always is one."""

    def read(m, stop):
        while not stop.load():
            with m.reader:
                sleep(0.0005)

    m, stop = RWMutex(), Atomic(False)
    readers = [place.anyone(read, m, stop) for _ in range(4)]
    for _ in range(5):
        place.anyone(m.lock).result(20)
        m.unlock()
    stop.store(True)
    for g in readers:
        g.result(10)


def test_readers_are_not_starved(place):
    def write(m, stop):
        while not stop.load():
            with m.writer:
                yield_now()

    m, stop = RWMutex(), Atomic(False)
    writers = [place.anyone(write, m, stop) for _ in range(3)]
    for _ in range(5):
        place.anyone(m.rlock).result(20)
        m.runlock()
    stop.store(True)
    for g in writers:
        g.result(10)


@pytest.mark.parametrize("make", [Mutex, lambda: Semaphore(2)])
def test_with_by_other_means_than_a_with_statement(runtime0, make):
    lock = make()
    with ExitStack() as stack:
        assert stack.enter_context(lock) is lock
        assert held(lock) == 1
    assert held(lock) == 0
    enter, leave = lock.__enter__, lock.__exit__
    assert enter() is lock
    assert held(lock) == 1
    assert leave(None, None, None) is None
    assert held(lock) == 0
    assert repr(lock) in repr(enter)
    assert "__enter__" in repr(enter)


def held(lock):
    return int(lock.locked) if isinstance(lock, Mutex) else lock.size - lock.free


def test_more_with_blocks_at_a_time_than_are_kept_for_use_again(runtime0):
    """And what is bound keeps its object."""
    locks = [Mutex() for _ in range(40)]
    with ExitStack() as stack:
        for m in locks:
            stack.enter_context(m)
        assert all(m.locked for m in locks)
    bound = [Mutex().__enter__ for _ in range(40)]
    assert all(enter().locked for enter in bound)
    for m in locks:
        with m:
            assert m.locked


def test_enter_of_something_else(runtime0):
    with pytest.raises(TypeError, match=r"__enter__\(\) needs a goproc.*Mutex"):
        Mutex.__enter__(Semaphore(1))
    with pytest.raises(TypeError, match=r"__exit__\(\) of a goproc.*Mutex cannot be bound to a int"):
        Mutex.__exit__.__get__(1)
    with pytest.raises(TypeError):
        Mutex.__enter__()
    with pytest.raises(TypeError, match="keyword"):
        Mutex().__enter__(a=1)


def test_with_a_mutex_of_a_derived_class(runtime0):
    class Counted(Mutex):
        __slots__ = ()

    with Counted() as m:
        assert type(m) is Counted
        assert m.locked
    assert not m.locked
