"""singleflight beyond Go's own cases, which are O11 to O13."""

from __future__ import annotations

import threading

import pytest
from peek import until

from goproc import Atomic, Cancelled, Goroutine, PickleError, WaitGroup, chan, go, singleflight
from goproc.singleflight import Result


class Trouble(Exception):
    pass


def wait_for_callers(flights, key, n):
    until(lambda: callers_of(flights, key) >= n)


def callers_of(flights, key):
    call = flights._calls.load().by_key.get(key)
    return 0 if call is None else call.callers


def nothing_in_flight(flights):
    calls = flights._calls.load()
    return calls.by_key == {} and calls.forgotten == ()


def test_a_call_of_its_own(runtime0):
    flights = singleflight.Group()
    kept = object()
    value, shared = flights.do("key", lambda: kept)
    assert value is kept and shared is False  # not copied
    assert flights.do(("any", 1), int, "7") == (7, False)
    assert flights.do("key", dict, a=1) == ({"a": 1}, False)
    with pytest.raises(ZeroDivisionError):
        flights.do("key", lambda: 1 // 0)
    assert nothing_in_flight(flights)


def test_keys_are_independent(runtime2):
    def caller(flights, key, both):
        def load():
            wait_for_callers(flights, key, 2)
            both.done()
            both.wait()
            return key.upper()

        return flights.do(key, load)

    flights, both = singleflight.Group(), WaitGroup()
    both.add(2)
    callers = [go(caller, flights, key, both) for key in "abab"]
    assert [g.result(20) for g in callers] == [("A", True), ("B", True)] * 2
    assert nothing_in_flight(flights)


def test_each_waiting_caller_gets_a_copy(runtime2):
    def load():
        wait_for_callers(flights, "key", 3)
        return [1, 2]

    flights = singleflight.Group()
    callers = [go.local(flights.do, "key", load) for _ in range(3)]
    values = [g.result(20)[0] for g in callers]
    assert values == [[1, 2]] * 3
    assert len({id(v) for v in values}) == 3


def test_do_and_do_chan_share(runtime2):
    flights, gate = singleflight.Group(), chan()
    running = go.local(flights.do, "key", lambda: gate.recv_ok() and "v")
    until(lambda: callers_of(flights, "key") == 1)
    ch = flights.do_chan("key", lambda: "another")
    gate.close()
    assert running.result(20) == ("v", True)
    assert ch.recv(20) == Result("v", None, True)


def test_do_joins_a_call_of_do_chan(runtime2):
    flights, gate = singleflight.Group(), chan()
    ch = flights.do_chan("key", lambda: gate.recv_ok() and "v")
    waiting = go(lambda flights: flights.do("key", int), flights)
    until(lambda: callers_of(flights, "key") == 2)
    gate.close()
    assert waiting.result(20) == ("v", True)
    assert ch.recv(20) == Result("v", None, True)


def test_an_error_of_do_chan_is_in_its_result(runtime2):
    def fails():
        raise Trouble("in the result")

    result = singleflight.Group().do_chan("key", fails).recv(20)
    assert result.value is None and result.shared is False
    assert isinstance(result.error, Trouble) and str(result.error) == "in the result"


def test_a_value_that_cannot_be_copied_is_for_the_first_caller_only(runtime0):
    def load():
        wait_for_callers(flights, "key", 3)
        return threading.Lock()

    flights = singleflight.Group()
    first = go.local(lambda: type(flights.do("key", load)[0]).__name__)
    until(lambda: callers_of(flights, "key") == 1)
    second = go.local(flights.do, "key", load)
    ch = flights.do_chan("key", load)
    assert first.result(20) == "lock"
    assert isinstance(second.exception(20), PickleError)
    assert isinstance(ch.recv(20).error, PickleError)
    assert nothing_in_flight(flights)


def test_another_caller_runs_the_function_if_the_first_is_cancelled(runtime2):
    """Nobody cancelled those who wait."""

    def caller(flights, runs):
        def load():
            if runs.add(1) == 1:
                chan().recv()
            return "done"

        return flights.do("key", load)

    flights, runs = singleflight.Group(), Atomic(0)
    first = go(caller, flights, runs)
    until(lambda: runs.load() == 1)
    others = [go(caller, flights, runs) for _ in range(3)]
    ch = flights.do_chan("key", lambda: runs.add(1) and "done")
    until(lambda: callers_of(flights, "key") == 5)
    first.cancel()
    assert isinstance(first.exception(20), Cancelled)
    assert [g.result(20)[0] for g in others] == ["done"] * 3
    assert ch.recv(20).value == "done"
    assert nothing_in_flight(flights)


def test_a_waiting_caller_can_give_up(runtime2):
    flights, gate = singleflight.Group(), chan()
    running = go.local(flights.do, "key", lambda: gate.recv_ok() and "v")
    until(lambda: callers_of(flights, "key") == 1)
    waiting = go(lambda flights: flights.do("key", int), flights)
    until(lambda: callers_of(flights, "key") == 2)
    waiting.cancel()
    assert isinstance(waiting.exception(20), Cancelled)
    gate.close()
    assert running.result(20)[0] == "v"
    assert flights.do("key", int) == (0, False)


def test_bad_keys_and_functions(runtime0):
    flights = singleflight.Group()
    with pytest.raises(TypeError):
        flights.do([], int)
    with pytest.raises(PickleError):
        flights.do(threading.Lock(), int)
    with pytest.raises(TypeError):
        flights.do("key", None)
    assert nothing_in_flight(flights)
    assert flights.do("key", int) == (0, False)


def test_forget_of_a_key_that_is_not_in_flight(runtime0):
    flights = singleflight.Group()
    flights.forget("key")
    assert flights.do("key", int) == (0, False)


def test_callers_of_all_processes(runtime4, long):
    def caller(flights, runs, rounds):
        return [flights.do(n, lambda n=n: (runs.add(1), n)[1])[0] for n in range(rounds)]

    rounds = 300 if long else 50
    flights, runs = singleflight.Group(), Atomic(0)
    callers: list[Goroutine[list[int]]] = [go.on(i % 4)(caller, flights, runs, rounds) for i in range(8)]
    for g in callers:
        assert g.result(40) == list(range(rounds))
    assert rounds <= runs.load() <= 8 * rounds
    assert nothing_in_flight(flights)
