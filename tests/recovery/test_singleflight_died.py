"""singleflight: the process that runs a call dies; the callers of the key in other processes go on."""

import os
import signal

import pytest
from peek import until

from goproc import WorkerDied, chan, go, singleflight, sleep
from goproc.singleflight import Result

pytestmark = pytest.mark.usefixtures("workers2")


def dies(begun):
    begun.send(os.getpid())
    sleep(60)


def runs_until_killed(flights, begun):
    return flights.do("key", dies, begun)


def joins(flights):
    return flights.do("key", lambda: "run again")


def joins_by_channel(flights):
    return flights.do_chan("key", lambda: "run again").recv()


def callers(flights):
    call = flights._calls.load().by_key.get("key")
    return 0 if call is None else call.callers


def start(flights, begun):
    return go.on(1)(runs_until_killed, flights, begun), begun.recv()


def kill_when_joined(flights, pid, n):
    until(lambda: callers(flights) >= n)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("by", [joins, joins_by_channel])
def test_callers_of_other_processes_get_the_death(by):
    flights, begun = singleflight.Group(), chan(1)
    runner, pid = start(flights, begun)
    others = [go.on(2)(by, flights), go.on(0)(by, flights)]
    kill_when_joined(flights, pid, 3)
    assert isinstance(runner.exception(20), WorkerDied)
    for other in others:
        if by is joins:
            assert isinstance(other.exception(20), WorkerDied)
        else:
            value, error, _ = other.result(20)
            assert value is None and isinstance(error, WorkerDied)
    assert flights._calls.load().by_key == {}


def test_the_next_caller_runs_its_function():
    flights, begun = singleflight.Group(), chan(1)
    runner, pid = start(flights, begun)
    os.kill(pid, signal.SIGKILL)
    assert isinstance(runner.exception(20), WorkerDied)
    while True:
        try:
            found = flights.do("key", lambda: "run again")
            break
        except WorkerDied:  # of the first call: its end is told after that of the goroutine
            sleep(0.001)
    assert found == ("run again", False)
    assert flights._calls.load() == ({}, ())


def test_a_forgotten_call_ends_with_its_process():
    flights, begun = singleflight.Group(), chan(1)
    runner, pid = start(flights, begun)
    other = go.on(2)(joins, flights)
    until(lambda: callers(flights) == 2)
    flights.forget("key")
    assert flights.do("key", lambda: "beside it") == ("beside it", False)
    os.kill(pid, signal.SIGKILL)
    assert isinstance(other.exception(20), WorkerDied)
    assert isinstance(runner.exception(20), WorkerDied)
    assert flights._calls.load() == ({}, ())


def test_a_result_that_was_there_before_the_death_stays():
    flights, gate, begun = singleflight.Group(), chan(1), chan(1)

    def answers():
        begun.send(os.getpid())
        return gate.recv()

    runner = go.on(1)(lambda: flights.do("key", answers))
    pid = begun.recv()
    other = go.on(2)(lambda: flights.do_chan("key", answers).recv())
    until(lambda: callers(flights) == 2)
    gate.send(7)
    assert runner.result(20) == (7, True)
    os.kill(pid, signal.SIGKILL)
    assert other.result(20) == Result(7, None, True)
