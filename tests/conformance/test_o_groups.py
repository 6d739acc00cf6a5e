"""O: errgroup (Group), the weighted semaphore, singleflight."""

from __future__ import annotations

import programs
import pytest
from peek import until, until_waiting

from goproc import (
    Atomic,
    Group,
    Semaphore,
    chan,
    context,
    go,
    goexit,
    singleflight,
    sleep,
    yield_now,
)
from goproc.errors import Canceled


class Trouble(Exception):
    pass


def ends(text):
    if text is not None:
        raise Trouble(text)


LISTS = ([], [None], ["1"], ["1", None], ["1", None, "2"])


@pytest.fixture(params=["go", "local"])
def start(request, runtime2):
    """How members are started."""
    return lambda group, f, *args: getattr(group, request.param)(f, *args)


# -- errgroup ---------------------------------------------------------------------------------------------------------


def wait_error(group):
    try:
        group.wait(timeout=20)
    except Trouble as error:
        return str(error)
    return None


@pytest.mark.parametrize("texts", LISTS)
def test_O01_zero_group(start, texts):
    group = Group()
    first = None
    for text in texts:
        start(group, ends, text)
        first = first or text
        assert wait_error(group) == first
    assert wait_error(group) == first


@pytest.mark.parametrize("texts", LISTS)
def test_O02_with_context(start, texts):
    group = Group()
    assert group.ctx.err() is None
    for text in texts:
        start(group, ends, text).join(20)
    first = next((text for text in texts if text), None)
    assert wait_error(group) == first
    assert group.ctx.done().recv_ok(20) == (None, False)
    assert isinstance(group.ctx.err(), Canceled)
    cause = context.cause(group.ctx)
    assert isinstance(cause, Trouble) and str(cause) == first if first else isinstance(cause, Canceled)


def test_O02_derived_from_another_context(start):
    ctx, cancel = context.with_cancel(context.background())
    group = Group(ctx=ctx)
    member = start(group, lambda group: group.ctx.done().recv_ok(), group)
    cancel()
    assert member.result(20) == (None, False)
    group.wait(timeout=20)


def test_O03_try_go_and_limit(start, request):
    n = 42
    group = Group()
    group.set_limit(n)
    gate = chan()
    for _ in range(n):
        assert group.try_go(gate.recv_ok)
    assert group.try_go(gate.recv_ok) is None
    gate.close()
    group.wait(timeout=20)

    gate = chan()
    assert group.try_go(gate.recv_ok)
    gate.close()
    group.wait(timeout=20)

    group.set_limit(1)
    gate = chan()
    start(group, gate.recv_ok)
    assert group.try_go(gate.recv_ok) is None
    gate.close()
    group.wait(timeout=20)

    group.set_limit(0)
    assert [group.try_go(gate.recv_ok) for _ in range(1024)] == [None] * 1024
    group.wait(timeout=20)


def test_O04_limit_of_go(start):
    def member(active, most):
        now = active.add(1)
        while (seen := most.load()) < now and not most.cas(seen, now):
            pass
        yield_now()
        active.add(-1)

    limit = 10
    group, active, most = Group(limit), Atomic(0), Atomic(0)
    for _ in range(1025):
        start(group, member, active, most)
    group.wait(timeout=40)
    assert active.load() == 0
    assert 1 <= most.load() <= limit


def test_O05_limit_is_not_changed_while_some_are_active(start):
    group = Group(3)
    gate = chan()
    for _ in range(2):
        start(group, gate.recv_ok)
    with pytest.raises(
        RuntimeError,
        match=r"^errgroup: modify limit while 2 goroutines in the group are still active$",
    ):
        group.set_limit(5)
    assert group.limit == 3
    gate.close()
    group.wait(timeout=20)
    group.set_limit(5)
    assert group.limit == 5


# -- semaphore.Weighted -----------------------------------------------------------------------------------------------


def test_O06_try(place):
    def tries(sem):
        got = []
        sem.acquire(1)
        got += [sem.try_acquire(1), sem.try_acquire(1)]
        sem.release(2)
        got.append(sem.try_acquire(1))
        sem.acquire(1)
        got.append(sem.try_acquire(1))
        return got

    assert place.anyone(tries, Semaphore(2)).result(20) == [True, False, True, False]


@pytest.mark.parametrize("how", ["timeout", "ctx"])
def test_O06_try_by_time(place, how):
    def tries(sem, how):
        def attempt(seconds):
            limit = {"timeout": seconds}
            if how == "ctx":
                limit = {"ctx": context.with_timeout(context.background(), seconds)[0]}
            try:
                sem.acquire(1, **limit)
                return True
            except TimeoutError:
                return False

        got = []
        sem.acquire(1)
        got += [attempt(20), attempt(0.01)]
        sem.release(2)
        got.append(attempt(20))
        sem.acquire(1)
        got.append(attempt(0.01))
        return got

    assert place.anyone(tries, Semaphore(2), how).result(20) == [True, False, True, False]


def test_O07_more_than_there_are(place):
    def too_big(sem, ctx):
        try:
            sem.acquire(3, ctx=ctx)
        except Canceled as error:
            return str(error)

    def others(sem):
        for _ in range(20):
            sem.acquire(2, timeout=20)
            sem.release(2)
            sem.acquire(1, timeout=20)
            assert sem.try_acquire(1)
            sem.release(2)

    sem = Semaphore(2)
    ctx, cancel = context.with_cancel(context.background())
    big = place.anyone(too_big, sem, ctx)
    place.anyone(others, sem).result(20)
    with pytest.raises(TimeoutError):
        big.join(timeout=0.01)
    cancel()
    assert big.result(20) == "context canceled"
    assert sem.free == 2


def test_O08_large_is_not_starved(place):
    def cycle(sem, stop):
        n = 0
        while not stop.load():
            with sem:
                sleep(0.0005)
            n += 1
        return n

    n = 4
    sem, stop = Semaphore(n), Atomic(False)
    holders = [place.anyone(cycle, sem, stop) for _ in range(2 * n)]
    sleep(0.01)  # nothing to wait on: they hold it all the time by then
    sem.acquire(n, timeout=20)
    assert sem.free == 0
    sem.release(n)
    stop.store(True)
    for g in holders:
        g.result(20)
    assert sem.free == n


def test_O09_cancelled_front_lets_the_next_one_pass(place):
    def big(sem, ctx):
        try:
            sem.acquire(2, ctx=ctx)
        except Canceled:
            return "canceled"

    sem = Semaphore(2)
    sem.acquire(1)
    ctx, cancel = context.with_cancel(context.background())
    front = place.anyone(big, sem, ctx)
    until_waiting(sem, 1)
    small = place.anyone(lambda sem: sem.acquire(1), sem)
    until_waiting(sem, 2)
    with pytest.raises(TimeoutError):
        small.join(timeout=0.01)  # first come, first served
    cancel()
    assert front.result(20) == "canceled"
    small.result(20)
    assert sem.free == 0


def test_O10_cancel_wins(place):
    def attempt(sem, ctx):
        try:
            sem.acquire(2, ctx=ctx)
        except Canceled:
            return "canceled"
        return "acquired"

    for _ in range(20):
        sem = Semaphore(2)
        sem.acquire(1)
        ctx, cancel = context.with_cancel(context.background())
        waiter = place.anyone(attempt, sem, ctx)
        until_waiting(sem, 1)

        def cancel_and_release(sem, cancel):
            cancel()
            sem.release(1)

        place.anyone(cancel_and_release, sem, cancel).result(20)
        assert waiter.result(20) == "canceled"
        assert sem.free == 2
        assert place.anyone(attempt, sem, ctx).result(20) == "canceled"  # even now that all are free
        assert sem.free == 2


# -- singleflight -----------------------------------------------------------------------------------------------------


def test_O11_one_call_for_all(place):
    n = 10

    def caller(flights, calls):
        def load():
            calls.add(1)
            wait_for_callers(flights, "key", n)
            return "bar"

        return flights.do("key", load)

    flights, calls = singleflight.Group(), Atomic(0)
    callers = [place.anyone(caller, flights, calls) for _ in range(n)]
    assert [g.result(20) for g in callers] == [("bar", True)] * n
    assert calls.load() == 1


def test_O12_forget(place):
    def first(flights, started, gate):
        def load():
            started.close()
            gate.recv_ok()
            return 1

        return flights.do("key", load)

    flights, started, gate, second_gate = singleflight.Group(), chan(), chan(), chan()
    one = place.anyone(first, flights, started, gate)
    started.recv_ok(20)
    flights.forget("key")

    def load_again():
        second_gate.recv_ok()
        return 2

    two = flights.do_chan("key", load_again)
    gate.close()
    assert one.result(20) == (1, False)  # its end does not take the second call out
    three = flights.do_chan("key", lambda: 3)
    second_gate.close()
    assert two.recv(20) == (2, None, True)
    assert three.recv(20) == (2, None, True)


def wait_for_callers(flights, key, n):
    until(lambda: (call := flights._calls.load().by_key.get(key)) is not None and call.callers >= n)


def test_O13_panic_reaches_every_caller(place):
    def caller(flights):
        def load():
            wait_for_callers(flights, "key", 5)
            raise Trouble("invalid memory address or nil pointer dereference")

        return flights.do("key", load)

    flights = singleflight.Group()
    for error in [g.exception(20) for g in [place.anyone(caller, flights) for _ in range(5)]]:
        assert isinstance(error, Trouble)
        assert str(error) == "invalid memory address or nil pointer dereference"


def test_O13_goexit_ends_every_caller(place):
    def caller(flights, ended):
        def load():
            wait_for_callers(flights, "key", 5)
            goexit()

        try:
            flights.do("key", load)
            return "went on"
        finally:
            ended.add(1)

    flights, ended = singleflight.Group(), Atomic(0)
    got = [g.result(20) for g in [place.anyone(caller, flights, ended) for _ in range(5)]]
    assert got == [None] * 5
    assert ended.load() == 5


@pytest.mark.parametrize("procs", [0, 1, 2])
def test_O13_panic_with_do_chan_ends_the_program(tmp_path, procs):
    """An Exception is what Go returns as an error; a panic is what is none."""
    text = """
    from goproc import singleflight

    class Panic(BaseException):
        pass

    def load():
        raise Panic("Panicking in DoChan")

    ch = singleflight.Group().do_chan("", load)
    ch.recv()
    print("went on")
    """
    done = programs.run(tmp_path, text, procs=procs)
    assert done.status == 2
    assert done.out == ""
    assert "panic: Panicking in DoChan" in done.err


def test_O13_goexit_with_do_chan_is_told(runtime2):
    result = singleflight.Group().do_chan("key", goexit).recv(20)
    assert str(result.error) == "runtime.Goexit was called"


def test_O11_do_chan(place):
    def caller(flights, calls):
        def load():
            calls.add(1)
            wait_for_callers(flights, "key", 3)
            return "bar"

        return flights.do_chan("key", load).recv(20)

    flights, calls = singleflight.Group(), Atomic(0)
    callers = [place.anyone(caller, flights, calls) for _ in range(3)]
    assert [tuple(g.result(20)) for g in callers] == [("bar", None, True)] * 3
    assert calls.load() == 1
    go.local(sleep, 0).join(20)
