"""Everybody at once, with timeouts and cancel() at random moments; invariants tell whether anything went wrong.

What is looked for: two inside at once, a wake-up lost (somebody sleeps although it is free: the test does not end), a
signal lost or stolen, units that vanish.
"""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peek import until, waiters

from goproc import Atomic, Cancelled, chan, go, sleep, yield_now
from goproc.sync import Cond, Mutex, RWMutex, Semaphore

pytestmark = pytest.mark.watchdog(150)


def disturb(gs, seed, often=0.004):
    """Cancel about half of them, one by one, while they work."""
    chance = random.Random(seed)
    for g in chance.sample(gs, len(gs) // 2):
        sleep(chance.random() * often)
        g.cancel()


def outcomes(gs):
    """The results of those that were not cancelled; nothing else may have happened to any."""
    results = []
    for g in gs:
        error = g.exception(60)
        assert error is None or isinstance(error, Cancelled), error
        if error is None:
            results.append(g.result())
    return results


@pytest.mark.parametrize("seed", range(2))
def test_mutex(place, seed, long):
    def work(m, inside, total, n, seed):
        import random

        chance = random.Random(seed)
        for _ in range(n):
            how = chance.randrange(4)
            if how == 0:
                if not m.try_lock():
                    continue
            elif how == 1:
                try:
                    m.lock(timeout=chance.random() * 0.001)
                except TimeoutError:
                    continue
            else:
                m.lock()
            try:
                assert inside.add(1) == 1
                total.add(1)
                if how == 2:
                    yield_now()
                elif chance.random() < 0.05:
                    sleep(chance.random() * 0.002)
                assert inside.load() == 1
            finally:
                inside.add(-1)
                m.unlock()

    m, inside, total, n = Mutex(), Atomic(0), Atomic(0), 2000 if long else 80
    gs = [place.anyone(work, m, inside, total, n, 100 * seed + i) for i in range(8)]
    disturb(gs, seed)
    outcomes(gs)
    assert inside.load() == 0 and waiters(m) == (0, 0)
    assert m.try_lock()
    m.unlock()


@pytest.mark.parametrize("seed", range(2))
def test_rwmutex(place, seed, long):
    def work(m, activity, n, seed):
        import random

        chance = random.Random(seed)
        for _ in range(n):
            writes = chance.random() < 0.3
            side = m.writer if writes else m.reader
            how = chance.randrange(4)
            if how == 0:
                if not side.try_lock():
                    continue
            elif how == 1:
                try:
                    side.lock(timeout=chance.random() * 0.001)
                except TimeoutError:
                    continue
            else:
                side.lock()
            amount = 1000 if writes else 1
            try:
                seen = activity.add(amount)
                assert seen == 1000 if writes else seen < 1000, (seen, writes)
                if how == 2:
                    yield_now()
                elif chance.random() < 0.05:
                    sleep(chance.random() * 0.002)
            finally:
                activity.add(-amount)
                side.unlock()

    m, activity, n = RWMutex(), Atomic(0), 2000 if long else 80
    gs = [place.anyone(work, m, activity, n, 100 * seed + i) for i in range(8)]
    disturb(gs, seed)
    outcomes(gs)
    assert activity.load() == 0 and waiters(m) == (0, 0)
    assert m.try_lock()
    m.unlock()


@pytest.mark.parametrize("seed", range(2))
def test_semaphore(place, seed, long):
    def work(sem, used, n, seed):
        import random

        chance = random.Random(seed)
        for _ in range(n):
            units, how = chance.randrange(1, 6), chance.randrange(4)
            if how == 0:
                if not sem.try_acquire(units):
                    continue
            elif how == 1:
                try:
                    sem.acquire(units, timeout=chance.random() * 0.001)
                except TimeoutError:
                    continue
            else:
                sem.acquire(units)
            try:
                assert used.add(units) <= 5
                if how == 2:
                    yield_now()
                elif chance.random() < 0.05:
                    sleep(chance.random() * 0.002)
            finally:
                used.add(-units)
                sem.release(units)

    sem, used, n = Semaphore(5), Atomic(0), 2000 if long else 80
    gs = [place.anyone(work, sem, used, n, 100 * seed + i) for i in range(8)]
    disturb(gs, seed)
    outcomes(gs)
    assert used.load() == 0 and waiters(sem) == (0, 0) and sem.free == 5


@pytest.mark.parametrize("seed", range(2))
def test_no_signal_is_lost_or_stolen(place, seed, long):
    """Among waiters that give up are some that stay; each signal sent while one of those sleeps ends one wait, once."""

    def stays(cond, asleep, woken, stop):
        with cond:
            while not stop.load():
                asleep.add(1)
                try:
                    cond.wait()
                finally:
                    asleep.add(-1)
                woken.add(1)

    def gives_up(cond, woken, stop, seed):
        import random

        chance = random.Random(seed)
        with cond:
            while not stop.load():
                try:
                    cond.wait(timeout=chance.random() * 0.0005)
                except TimeoutError:
                    continue
                woken.add(1)

    cond, asleep, woken, stop = Cond(Mutex()), Atomic(0), Atomic(0), Atomic(False)
    steady = [place.anyone(stays, cond, asleep, woken, stop) for _ in range(3)]
    flighty = [place.anyone(gives_up, cond, woken, stop, seed * 100 + i) for i in range(4)]
    chance = random.Random(seed)
    victims = flighty[:2]
    sent, rounds = 0, 3000 if long else 150
    i = -1
    # more rounds if the waiters have had little of the CPUs
    while (i := i + 1) < rounds or sent <= rounds // 20:
        with cond.mutex:
            # those that have signals but not yet the lock still count as asleep; all of them may be steady ones
            if asleep.load() > sent - woken.load():
                cond.signal()
                sent += 1
        if i % 20 == 0 and victims:
            victims.pop().cancel()
        if chance.random() < 0.3:
            sleep(chance.random() * 0.0003)
        else:
            yield_now()
    until(lambda: woken.load() == sent, 30, lambda: f"{woken.load()} of {sent} signals ended a wait")
    sleep(0.005)  # nothing is to happen
    assert woken.load() == sent
    with cond.mutex:
        stop.store(True)
        cond.broadcast()
    outcomes(steady)
    outcomes(flighty)
    assert waiters(cond) == (0, 0) and cond.mutex.try_lock()
    cond.mutex.unlock()


@pytest.mark.parametrize("seed", range(2))
def test_threads_among_goroutines(place, seed, long):
    """Waiter slots go from threads to goroutines and back, while sleepers must be left alone."""

    def work(m, sem, c, inside, used, n, seed):
        import random
        import time

        chance = random.Random(seed)
        for _ in range(n):
            what, wait = chance.randrange(3), chance.random() * 0.0006
            try:
                if what == 0:
                    m.lock(wait)
                    assert inside.add(1) == 1
                    inside.add(-1)
                    m.unlock()
                elif what == 1:
                    units = chance.randrange(1, 4)
                    sem.acquire(units, wait)
                    assert used.add(units) <= 3
                    used.add(-units)
                    sem.release(units)
                elif chance.random() < 0.5:
                    c.send(1, timeout=wait)
                else:
                    c.recv(timeout=wait)
            except TimeoutError:
                pass
            if chance.random() < 0.1:
                until, nap = time.monotonic(), chance.random() * 0.001
                sleep(nap)
                assert time.monotonic() >= until + nap

    n = 1500 if long else 120
    m, sem, c, inside, used, failed = Mutex(), Semaphore(3), chan(), Atomic(0), Atomic(0), []

    def thread(seed):
        try:
            work(m, sem, c, inside, used, n, seed)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=thread, args=(seed * 100 + i,)) for i in range(4)]
    for t in threads:
        t.start()
    gs = [place.anyone(work, m, sem, c, inside, used, n, seed * 100 + 50 + i) for i in range(5)]
    outcomes(gs)
    until(lambda: not any(t.is_alive() for t in threads), 60)
    assert not failed
    assert not m.locked and sem.free == 3
    assert [waiters(thing) for thing in (m, sem, c)] == [(0, 0)] * 3


def test_queue_of_tokens_with_consumers_that_are_cancelled(place, long):
    """Whoever has signalled for a token sees it consumed, though some consumers vanish with the lock or the signal."""

    def consume(cond, tokens, taken):
        while True:
            with cond:
                while tokens.load() == 0:
                    try:
                        cond.wait()
                    except BaseException:
                        cond.signal()  # it may have been ours
                        raise
                tokens.add(-1)
            taken.add(1)

    cond, tokens, taken = Cond(Mutex()), Atomic(0), Atomic(0)
    gs = [place.anyone(consume, cond, tokens, taken) for _ in range(8)]
    victims, n = gs[:6], 1500 if long else 150
    for i in range(n):
        with cond:
            tokens.add(1)
            cond.signal()
        if i % (n // 6) == 1:
            victims.pop().cancel()
        if i % 3 == 0:
            sleep(0.0001)  # a pause, in which all consumers wait
    until(lambda: taken.load() == n, 30, lambda: f"{taken.load()} of {n} consumed, {waiters(cond)} wait")
    for g in gs:
        g.cancel()
    assert outcomes(gs) == []


def test_locks_within_locks(place, long):
    """Dining philosophers who put the first fork back when the second does not come in time."""

    def dine(left, right, meals, n, seed):
        import random

        chance = random.Random(seed)
        eaten = 0
        while eaten < n:
            with left:
                try:
                    right.lock(timeout=chance.random() * 0.002)
                except TimeoutError:
                    continue
                meals.add(1)
                eaten += 1
                right.unlock()
            yield_now()

    count, n, meals = 5, 100 if long else 12, Atomic(0)
    forks = [Mutex() for _ in range(count)]
    gs = [place.anyone(dine, forks[i], forks[(i + 1) % count], meals, n, i) for i in range(count)]
    outcomes(gs)
    assert meals.load() == count * n
    assert not any(m.locked for m in forks)


def test_waiters_of_a_mutex_that_is_cancelled_as_it_is_woken(runtime2, long):
    """The one that is woken to try again may vanish first: it then wakes the next."""

    def take(m, got):
        with m:
            got.add(1)

    for i in range(600 if long else 60):
        m, got = Mutex(), Atomic(0)
        m.lock()
        gs = [go.on(k % 2)(take, m, got) for k in range(4)]
        until(lambda m=m: sum(waiters(m)) == 4)
        victim = gs[i % 4]
        if i % 3:
            m.unlock()
            victim.cancel()
        else:
            victim.cancel()
            m.unlock()
        gone = sum(isinstance(g.exception(30), Cancelled) for g in gs)
        assert got.load() == 4 - gone and gone <= 1
        assert m.try_lock() and waiters(m) == (0, 0)


def test_holder_that_takes_its_time_and_many_that_give_up(place, long):
    def visit(m, n, seed):
        import random

        chance, got = random.Random(seed), 0
        for _ in range(n):
            try:
                m.lock(timeout=chance.random() * 0.0006)
            except TimeoutError:
                continue
            got += 1
            sleep(chance.random() * 0.0003)
            m.unlock()
        return got

    m = Mutex()
    gs = [place.anyone(visit, m, 400 if long else 40, i) for i in range(6)]
    assert sum(outcomes(gs)) > 0
    assert not m.locked and waiters(m) == (0, 0)


# -- a read-write mutex against a model -------------------------------------------------------------------------------

OPS = st.lists(
    st.tuples(
        st.sampled_from(["rlock", "lock", "try_rlock", "try_lock", "unlock", "runlock", "cancel"]),
        st.integers(0, 9),
    ),
    max_size=30,
)


class Model:
    """Readers, or a writer; a writer that waits keeps new readers out; readers that waited go when a writer ends."""

    def __init__(self) -> None:
        self.readers, self.writer = 0, False
        self.waiting_readers: list[int] = []
        self.waiting_writers: list[int] = []
        self.have: set[int] = set()

    def enter(self, who: int | None, writes: bool) -> bool:
        if writes:
            free = not self.writer and self.readers == 0
            if free:
                self.writer = True
        else:
            free = not self.writer and not self.waiting_writers
            if free:
                self.readers += 1
        if who is not None:
            if free:
                self.have.add(who)
            else:
                (self.waiting_writers if writes else self.waiting_readers).append(who)
        return free

    def readers_in(self) -> None:
        self.have.update(self.waiting_readers)
        self.readers += len(self.waiting_readers)
        self.waiting_readers.clear()

    def writer_in(self) -> None:
        if self.readers == 0 and not self.writer and self.waiting_writers:
            self.have.add(self.waiting_writers.pop(0))
            self.writer = True

    def leave(self, writes: bool) -> bool:
        if writes:
            if not self.writer:
                return False
            self.writer = False
            self.readers_in()
        else:
            if self.readers == 0:
                return False
            self.readers -= 1
        self.writer_in()
        return True

    def give_up(self, who: int) -> None:
        if who in self.waiting_readers:
            self.waiting_readers.remove(who)
        elif who in self.waiting_writers:
            self.waiting_writers.remove(who)
            if not self.waiting_writers and not self.writer:
                self.readers_in()


@given(ops=OPS)
@settings(
    deadline=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
def test_rwmutex_agrees_with_the_model(runtime0, ops):
    m, model, gs, had = RWMutex(), Model(), [], set()

    def take(who, name):
        getattr(m, name)()
        had.add(who)

    for name, x in ops:
        writes = not name.endswith(("rlock", "runlock"))
        if name in ("rlock", "lock"):
            who = len(gs)
            gs.append(go.local(take, who, name))
            model.enter(who, writes)
        elif name in ("try_rlock", "try_lock"):
            assert getattr(m, name)() == model.enter(None, writes)
        elif name == "cancel":
            if x < len(gs) and x not in model.have:
                gs[x].cancel()
                model.give_up(x)
        elif model.leave(writes):
            getattr(m, name)()
        else:
            with pytest.raises(RuntimeError):
                getattr(m, name)()
        for _ in range(3):
            yield_now()
        waiting = len(model.waiting_readers) + len(model.waiting_writers)
        # The slice of one of them may have ended before it waits: it goes on when main does not run.
        until(lambda waiting=waiting: had == model.have and sum(waiters(m)) == waiting)
        assert had == model.have
        assert sum(waiters(m)) == waiting
    for g in gs:
        g.cancel()
    for g in gs:
        g.exception(10)


def test_chan_and_locks_together(place, long):
    """A goroutine that blocks in a channel with the lock held is waited for; those behind time out and come again."""

    def worker(m, c, n):
        for _ in range(n):
            while True:
                try:
                    m.lock(timeout=0.001)
                    break
                except TimeoutError:
                    pass
            c.send(1)
            m.unlock()

    m, c, n = Mutex(), chan(), 60 if long else 15
    gs = [place.anyone(worker, m, c, n) for _ in range(4)]
    for i in range(4 * n):
        c.recv(timeout=20)
        if i % 10 == 0:
            sleep(0.002)  # a pause, in which the time of others is up
    outcomes(gs)
    assert not m.locked
