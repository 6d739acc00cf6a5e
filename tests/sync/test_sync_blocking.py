"""All operations that block: timeouts, cancel(), threads. None of these harms the object.

One table says for each operation how to make an object on which it blocks, and how to end that.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import pytest
from peek import until, until_waiters, waiters

from goproc import Atomic, Cancelled, chan, context, go, sleep
from goproc.sync import Barrier, Cond, Mutex, Once, RWMutex, Semaphore


class Case(NamedTuple):
    make: Any  # -> the object, on which the operation blocks
    take: tuple[Any, ...]  # the operation: name, arguments before the timeout
    free: tuple[Any, ...]  # what ends the block
    put: tuple[Any, ...]  # what ends what the operation began
    reason: str


def held(thing: Any, call: str, *args: Any) -> Any:
    getattr(thing, call)(*args)
    return thing


CASES = {
    "mutex": Case(lambda: held(Mutex(), "lock"), ("lock",), ("unlock",), ("unlock",), "sync.Mutex.Lock"),
    "writer behind writer": Case(
        lambda: held(RWMutex(), "lock"), ("lock",), ("unlock",), ("unlock",), "sync.RWMutex.Lock"
    ),
    "writer behind reader": Case(
        lambda: held(RWMutex(), "rlock"), ("lock",), ("runlock",), ("unlock",), "sync.RWMutex.Lock"
    ),
    "reader behind writer": Case(
        lambda: held(RWMutex(), "lock"), ("rlock",), ("unlock",), ("runlock",), "sync.RWMutex.RLock"
    ),
    "semaphore": Case(
        lambda: held(Semaphore(1), "acquire"), ("acquire", 1), ("release",), ("release",), "semacquire"
    ),
    "many units": Case(
        lambda: held(Semaphore(3), "acquire", 1),
        ("acquire", 3),
        ("release", 1),
        ("release", 3),
        "semacquire",
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def call(thing, operation, *more):
    name, *args = operation
    return getattr(thing, name)(*args, *more)


def start(place, thing, operation, *more):
    name, *args = operation
    return place.anyone(getattr(thing, name), *args, *more)


def is_usable(place, thing, case):
    """Free it, and take and give it back from both sides."""
    call(thing, case.free)
    for _ in range(2):
        start(place, thing, case.take, 10).result(20)
        start(place, thing, case.put).result(20)
    assert waiters(thing) == (0, 0)


def test_blocks_until_freed(place, case):
    thing = case.make()
    g = start(place, thing, case.take)
    until_waiters(thing, 1)
    assert g.state == "running"
    start(place, thing, case.free).result(10)
    g.result(10)
    call(thing, case.put)


def test_times_out(place, case):
    thing = case.make()

    def attempt(thing, take, timeout):
        name, *args = take
        try:
            getattr(thing, name)(*args, timeout)
        except TimeoutError as error:
            return str(error)

    for timeout in (0, -1, 0.002, float("-inf")):
        assert place.anyone(attempt, thing, case.take, timeout).result(10) == f"{case.reason}: timed out"
        assert attempt(thing, case.take, timeout) == f"{case.reason}: timed out"
    is_usable(place, thing, case)


def test_timeout_that_is_not_needed(place, case):
    thing = case.make()
    call(thing, case.free)
    for timeout in (0, -1, 5, 1e300, float("inf"), None):
        call(thing, case.take, timeout)
        call(thing, case.put)
    thing = case.make()
    g = start(place, thing, case.take, 30)
    until_waiters(thing, 1)
    call(thing, case.free)
    g.result(10)
    call(thing, case.put)


def test_nonsense_for_a_timeout(runtime0, case):
    thing = case.make()
    with pytest.raises(ValueError, match="NaN"):
        call(thing, case.take, float("nan"))
    for bad in ("1", [], 1j):
        with pytest.raises(TypeError):
            call(thing, case.take, bad)
    with pytest.raises(OverflowError):
        call(thing, case.take, 10**400)
    assert waiters(thing) == (0, 0)
    call(thing, case.free)
    call(thing, case.take)


def test_cancelled_while_blocked(place, case):
    thing = case.make()
    first, second, third = (start(place, thing, case.take) for _ in range(3))
    until_waiters(thing, 3)
    for g in (second, first):
        g.cancel()
        assert isinstance(g.exception(10), Cancelled)
    until_waiters(thing, 1)
    call(thing, case.free)
    third.result(10)
    call(thing, case.put)
    assert waiters(thing) == (0, 0)


def test_cancelled_when_it_was_just_freed(place, case):
    """It got it or it was cancelled; either way nobody else waits for what is free."""

    def attempt(thing, take, put):
        name, *args = take
        try:
            getattr(thing, name)(*args)
        except Cancelled:
            return "cancelled"
        name, *args = put
        getattr(thing, name)(*args)
        return "had it"

    for i in range(20):
        thing = case.make()
        gs = [place.anyone(attempt, thing, case.take, case.put) for _ in range(3)]
        until_waiters(thing, 3)
        if i % 2:
            gs[0].cancel()
            call(thing, case.free)
        else:
            call(thing, case.free)
            gs[0].cancel()
        assert gs[0].result(10) in ("cancelled", "had it")
        assert [g.result(10) for g in gs[1:]] == ["had it", "had it"]


def test_deadline_of_a_block_around_it(place, case):
    thing = case.make()
    g = start(place, thing, case.take)
    until_waiters(thing, 1)
    for _ in range(2):
        with pytest.raises(context.DeadlineExceeded), context.timeout(0.003):
            call(thing, case.take)
    until_waiters(thing, 1)
    call(thing, case.free)
    g.result(10)
    call(thing, case.put)
    assert waiters(thing) == (0, 0)


def test_shielded_from_cancel(place, case):
    """cancel() waits for the end of the shield; meanwhile the operation goes on to wait, and gets what it waits for."""

    def attempt(thing, take, put, got):
        name, *args = take
        with context.shield():
            getattr(thing, name)(*args)
            got.add(1)
            name, *args = put
            getattr(thing, name)(*args)
        chan().recv()

    thing, got = case.make(), Atomic(0)
    g = place.anyone(attempt, thing, case.take, case.put, got)
    until_waiters(thing, 1)
    g.cancel()
    sleep(0.005)  # nothing is to happen
    assert sum(waiters(thing)) == 1
    call(thing, case.free)
    assert isinstance(g.exception(10), Cancelled) and got.load() == 1
    call(thing, case.take, 0)
    call(thing, case.put)


def test_times_out_when_it_is_just_freed(place, case, long):
    def attempts(thing, take, put, n):
        import random

        name, *args = take
        done, *more = put
        got = 0
        for _ in range(n):
            try:
                getattr(thing, name)(*args, random.random() * 0.001)
            except TimeoutError:
                continue
            got += 1
            getattr(thing, done)(*more)
        return got

    thing = case.make()
    call(thing, case.free)
    gs = [place.anyone(attempts, thing, case.take, case.put, 1000 if long else 60) for _ in range(6)]
    for g in gs:
        g.result(40)
    assert waiters(thing) == (0, 0)
    call(thing, case.take, 0)
    call(thing, case.put)


def test_plain_threads_wait(place, case):
    """Threads and goroutines wait in one queue; a thread that blocks holds up nothing."""
    thing, got = case.make(), []

    def take():
        call(thing, case.take, 20)
        got.append(1)
        call(thing, case.put)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for t in threads:
        t.start()
    until_waiters(thing, 3)
    g = start(place, thing, case.take)
    until_waiters(thing, 4)
    call(thing, case.free)
    until(lambda: len(got) == 3 and waiters(thing) == (0, 0)) if g.state != "done" else None
    g.result(10)
    call(thing, case.put)
    for t in threads:
        t.join(20)
    assert len(got) == 3


def test_threads_time_out(runtime2, case):
    thing, errors = case.make(), []

    def take():
        for timeout in (0, 0.002):
            try:
                call(thing, case.take, timeout)
            except TimeoutError as error:
                errors.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert errors == [f"{case.reason}: timed out"] * 6
    assert waiters(thing) == (0, 0)
    call(thing, case.free)
    call(thing, case.take, 0)


def test_other_goroutines_run_meanwhile(runtime0, case):
    thing, ran = case.make(), []
    g = go.local(call, thing, case.take)
    until_waiters(thing, 1)
    go.local(ran.append, 1).join(10)
    assert ran == [1]
    call(thing, case.free)
    g.result(10)


# -- objects, whatever they do ----------------------------------------------------------------------------------------

MAKERS = {
    "Mutex": Mutex,
    "RWMutex": RWMutex,
    "Cond": lambda: Cond(Mutex()),
    "Cond of a reader": lambda: Cond(RWMutex().reader),
    "Once": Once,
    "Semaphore": lambda: Semaphore(2),
    "Barrier": lambda: Barrier(2),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_is_a_value(place, kind):
    """The thing that arrives is the one that was sent, by whichever way."""
    thing, other, c = MAKERS[kind](), MAKERS[kind](), chan(1)
    assert place.anyone(lambda x: x, thing).result(10) == thing
    for message in (thing, [thing], {"k": (thing, thing)}):
        c.send(message)
        assert c.recv() == message
        got = place.anyone(lambda m: m, message).result(10)
        assert got == message
    assert len({thing, place.anyone(lambda: thing).result(10)}) == 1
    assert thing != other and len({thing, other}) == 2
    assert kind.split()[0] in repr(thing)


@pytest.mark.parametrize("kind", MAKERS)
def test_outlives_its_maker(runtime2, kind):
    """The process that made it has let go of it; the other holds it still."""

    def make(kind):
        return MAKERS[kind]()

    thing = go.on(1)(make, kind).result(10)
    sleep(0.001)  # nothing to wait on: proc 1 has let go of it by then, or is about to
    again = go.on(1)(lambda x: x, thing).result(10)
    assert again == thing


@pytest.mark.parametrize(
    "f",
    [
        lambda: Mutex(1),
        lambda: RWMutex(1),
        lambda: Once(1),
        lambda: Cond(),
        lambda: Cond(1),
        lambda: Cond(threading.Lock()),
        lambda: Semaphore(),
        lambda: Semaphore("1"),
        lambda: Semaphore(1.5),
        lambda: Barrier(),
        lambda: Barrier("1"),
        lambda: Barrier(1.5),
        lambda: Mutex().lock(1, 2),
        lambda: Mutex().lock(time=1),
        lambda: Mutex().try_lock(1),
        lambda: Mutex().unlock(1),
        lambda: RWMutex().rlock(1, 2),
        lambda: RWMutex().lock(time=1),
        lambda: RWMutex().try_rlock(1),
        lambda: Once().do(),
        lambda: Once().do(1),
        lambda: Semaphore(1).acquire(1, 2, 3, 4),
        lambda: Semaphore(1).acquire("1"),
        lambda: Semaphore(1).acquire(units=1),
        lambda: Semaphore(1).acquire(1, n=1),
        lambda: Semaphore(1).acquire(ctx=5),
        lambda: Semaphore(1).try_acquire("1"),
        lambda: Semaphore(1).release("1"),
        lambda: Barrier(1).wait("1"),
        lambda: Barrier(1).wait(1, 2),
        lambda: Cond(Mutex()).signal(1),
    ],
)
def test_wrong_arguments(runtime0, f):
    with pytest.raises(TypeError):
        f()


@pytest.mark.parametrize("f", [lambda: Semaphore(-1), lambda: Barrier(0), lambda: Barrier(-1)])
def test_wrong_numbers(runtime0, f):
    with pytest.raises(ValueError):
        f()


@pytest.mark.parametrize("name", ["acquire", "try_acquire", "release"])
def test_wrong_numbers_of_units(runtime0, name):
    sem = Semaphore(2)
    with pytest.raises(ValueError):
        getattr(sem, name)(-1)
    with pytest.raises(OverflowError):
        getattr(sem, name)(2**64)
    assert sem.free == 2


def test_used_from_many_processes_at_once(runtime4):
    """One object of each kind, all of them in the hands of all processes."""

    def work(m, rw, sem, once, barrier, total):
        for _ in range(10):
            with m:
                total.add(1)
            with rw.reader:
                pass
            with rw.writer:
                total.add(1)
            with sem:
                total.add(1)
            once.do(total.add, 1000)
            barrier.wait(20)

    total = Atomic(0)
    args = Mutex(), RWMutex(), Semaphore(2), Once(), Barrier(8), total
    gs = [go.on(i % 4)(work, *args) for i in range(8)]
    for g in gs:
        g.result(40)
    assert total.load() == 8 * 10 * 3 + 1000
