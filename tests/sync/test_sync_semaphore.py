"""Semaphore: first come, first served; conformance cases O06 to O10 in every placement; and a model of it."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peek import until, until_blocked, until_waiters, until_waits_or_ended, waiters

from goproc import Atomic, Cancelled, chan, context, go, select, sleep, yield_now
from goproc.sync import Semaphore


def test_O06_try(place):
    sem = Semaphore(2)
    sem.acquire(1)
    assert place.anyone(sem.try_acquire, 1).result(10) is True
    assert sem.try_acquire(1) is False
    sem.release(2)
    assert sem.try_acquire(1) is True
    place.anyone(sem.acquire, 1).result(10)
    assert sem.try_acquire(1) is False
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            sem.acquire(1, timeout=timeout)
    sem.release(2)


def test_O07_too_big(place):
    """More than there are in all: it waits for its timeout or cancel() and is in nobody's way."""
    sem = Semaphore(2)
    big = place.anyone(sem.acquire, 3)
    until_blocked(big)
    for n in (1, 2):
        sem.acquire(n, timeout=5)
        place.anyone(sem.release, n).result(10)
    assert sem.try_acquire(3) is False
    with pytest.raises(TimeoutError):
        sem.acquire(3, timeout=0.002)
    big.cancel()
    assert isinstance(big.exception(10), Cancelled)
    assert sem.free == 2


def test_O08_large_is_not_starved(place):
    n = 4

    def hold(sem, stop):
        while not stop.load():
            with sem:
                sleep(0.0002)

    sem, stop = Semaphore(n), Atomic(False)
    holders = [place.anyone(hold, sem, stop) for _ in range(n)]
    for _ in range(5):
        place.anyone(sem.acquire, n).result(20)
        sem.release(n)
    stop.store(True)
    for g in holders:
        g.result(10)
    assert sem.free == n


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_O09_front_that_gives_up_lets_the_next_go(place, how):
    sem = Semaphore(10)
    sem.acquire(1)
    big = place.anyone(sem.acquire, 10, 0.05 if how == "timeout" else None)
    until_waits_or_ended(sem, big)
    small = place.anyone(sem.acquire, 5)
    if how == "cancel":
        until_waiters(sem, 2)
        big.cancel()
    assert isinstance(big.exception(10), Cancelled if how == "cancel" else TimeoutError)
    small.result(10)
    assert sem.free == 4
    sem.release(6)


def test_with(place):
    sem = Semaphore(2)
    with sem as entered:
        assert entered is sem and sem.free == 1
        with sem:
            assert place.anyone(sem.try_acquire).result(10) is False
    with pytest.raises(KeyError), sem:
        raise KeyError
    assert sem.free == 2 and "2 of 2" in repr(sem)


def test_released_more_than_held(place):
    def misuse(sem, n):
        try:
            sem.release(n)
        except ValueError as error:
            return str(error)

    sem = Semaphore(2)
    assert misuse(sem, 1) == "semaphore: released more than held"
    sem.acquire()
    assert place.anyone(misuse, sem, 2).result(10) == "semaphore: released more than held"
    assert sem.free == 1
    sem.release()


def test_nothing(place):
    sem = Semaphore(0)
    assert not sem.try_acquire() and sem.try_acquire(0)
    sem.acquire(0)
    sem.release(0)
    with pytest.raises(TimeoutError):
        sem.acquire(timeout=0.001)
    sem = Semaphore(1)
    sem.acquire()
    g = place.anyone(sem.acquire)
    until_waiters(sem, 1)
    assert not sem.try_acquire(0)  # somebody waits
    sem.release()
    g.result(10)
    sem.release()


def test_first_come_first_served(place):
    """A large one at the head holds up all small ones behind it, though they would fit."""

    def take(sem, n, order):
        sem.acquire(n)
        order.send(n)

    sem, order = Semaphore(6), chan(10)
    sem.acquire(6)
    gs, sizes = [], [3, 1, 5, 1, 2]
    for i, n in enumerate(sizes):
        gs.append(place.anyone(take, sem, n, order))
        until_waiters(sem, i + 1)
    assert not sem.try_acquire(1)
    sem.release(2)
    sleep(0.003)  # nothing is to happen
    assert len(order) == 0 and sem.free == 2
    sem.release(2)  # 3 and 1
    until_waiters(sem, 3)
    assert sorted(order.recv(timeout=10) for _ in range(2)) == [1, 3] and sem.free == 0
    sem.release(4)  # not 5, and so nobody
    sleep(0.003)  # nothing is to happen
    assert len(order) == 0 and not sem.try_acquire(1)
    sem.release(1)
    assert order.recv(timeout=10) == 5
    sem.release(1)
    assert order.recv(timeout=10) == 1
    sem.release(2)
    assert order.recv(timeout=10) == 2
    for g in gs:
        g.result(10)
    until(lambda: sem.free == 6 - 1 - 2 + 0 or True)
    sem.release(6 - sem.free)


def test_one_release_serves_many(place):
    sem = Semaphore(8)
    sem.acquire(8)
    gs = [place.anyone(sem.acquire, 1) for _ in range(8)]
    until_waiters(sem, 8)
    sem.release(8)
    for g in gs:
        g.result(10)
    assert sem.free == 0
    sem.release(8)


def test_bounds_how_many_run(place):
    def work(sem, inside, most):
        for _ in range(15):
            with sem:
                n = inside.add(1)
                assert n <= 3
                while (seen := most.load()) < n and not most.cas(seen, n):
                    pass
                yield_now()
                inside.add(-1)

    sem, inside, most = Semaphore(3), Atomic(0), Atomic(0)
    gs = [place.anyone(work, sem, inside, most) for _ in range(8)]
    for g in gs:
        g.result(30)
    assert sem.free == 3 and most.load() <= 3


# -- a model ----------------------------------------------------------------------------------------------------------

OPS = st.lists(
    st.one_of(
        st.tuples(st.just("try"), st.integers(0, 5)),
        st.tuples(st.just("acquire"), st.integers(0, 5)),
        st.tuples(st.just("release"), st.integers(0, 5)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
    ),
    max_size=25,
)


class Model:
    """A semaphore as one would write it down."""

    def __init__(self, size: int) -> None:
        self.size, self.free = size, size
        self.queue: list[tuple[int, int]] = []  # (who, units)
        self.have: set[int] = set()

    def serve(self) -> None:
        while self.queue and self.queue[0][1] <= self.free:
            who, n = self.queue.pop(0)
            self.free -= n
            self.have.add(who)

    def attempt(self, n: int) -> bool:
        if self.queue or n > self.free:
            return False
        self.free -= n
        return True


@given(size=st.integers(0, 4), ops=OPS)
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
def test_semaphore_agrees_with_the_model(runtime0, size, ops):
    sem, model, gs, had = Semaphore(size), Model(size), [], set()

    def take(who, n):
        sem.acquire(n)
        had.add(who)

    for op, x in ops:
        if op == "try":
            assert sem.try_acquire(x) == model.attempt(x)
        elif op == "acquire":
            who = len(gs)
            gs.append(go.local(take, who, x))
            if x <= size:  # more than all of it queues nowhere
                model.queue.append((who, x))
                model.serve()
        elif op == "release":
            if x <= size - model.free:
                sem.release(x)
                model.free += x
                model.serve()
            else:
                with pytest.raises(ValueError):
                    sem.release(x)
        elif x < len(gs) and x not in model.have:
            gs[x].cancel()
            model.queue = [entry for entry in model.queue if entry[0] != x]
            model.serve()
        for _ in range(3):
            yield_now()
        # The slice of one of them may have ended before it waits: it goes on when main does not run.
        until(lambda: had == model.have and sum(waiters(sem)) == len(model.queue))
        assert had == model.have
        assert sem.free == model.free
        assert sum(waiters(sem)) == len(model.queue)
    for g in gs:
        g.cancel()
    for g in gs:
        g.exception(10)
    assert sum(waiters(sem)) == 0


@pytest.mark.parametrize("first, second", [(2, 1), (1, 2)])
def test_a_select_that_acquires_twice_does_not_block_itself(place, first, second):
    def waits(sem):
        return select((sem.acquire, first), (sem.acquire, second)).index

    for _ in range(8):  # the cases are queued in random order
        sem = Semaphore(2)
        sem.acquire(2)
        g = place.anyone(waits, sem)
        until_waiters(sem, 2)
        sem.release(1)
        assert g.result(20) == (0 if first == 1 else 1)
        assert sem.free == 0


def test_a_context_that_is_done_wins_over_units(runtime0):
    """Also if this process was too busy to see it in time."""
    sem = Semaphore(1)
    sem.acquire()
    ctx, cancel = context.with_timeout(context.background(), 0.3)
    g = go.local(sem.acquire, 1, ctx=ctx)
    until_waits_or_ended(sem, g)
    time.sleep(0.35)  # a call of the library: nobody else runs
    sem.release()
    with pytest.raises(context.DeadlineExceeded):
        g.result(20)
    assert sem.free == 1
    cancel()
