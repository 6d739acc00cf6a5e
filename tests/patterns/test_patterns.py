"""The patterns: each does what the book says, and leaves no goroutine when its done closes (conftest checks that)."""

from __future__ import annotations

import doctest
import threading
from collections import Counter

import pytest

from goproc import (
    Atomic,
    WaitGroup,
    _health,
    _joining,
    after,
    chan,
    context,
    default,
    go,
    nil,
    patterns,
    rate,
    select,
    sleep,
    tick,
)
from goproc.errors import Canceled


def stoppable(test):
    """A test that takes a done channel, which is closed at its end. Not a fixture: pytest would hold on to the channel."""

    def with_done(runtime2):
        done = chan()
        try:
            test(done)
        finally:
            if not done.closed:
                done.close()

    with_done.__name__ = test.__name__
    with_done.__doc__ = test.__doc__
    return with_done


def examples():
    finder = doctest.DocTestFinder()
    found = [test for module in (patterns, _health, _joining) for test in finder.find(module, "patterns")]
    return {test.name: test for test in found if test.examples}


@pytest.mark.parametrize("name", examples())
def test_example(runtime2, name):
    run_example(name)


@pytest.mark.parametrize("name", examples())
def test_example_in_one_process(runtime0, name):
    run_example(name)


def run_example(name):
    test = examples()[name]
    test.globs = {"__name__": "__main__"}
    out: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=out.append, clear_globs=True)
    assert out == []


def test_every_pattern_has_an_example():
    without = {"fan_in", "generate", "pulse", "take"}  # in those of others
    for name in set(patterns.__all__) - without:
        assert f"patterns.{name}" in examples(), name


def ended(ch):
    """The channel has been closed, and nothing more comes."""
    return ch.recv_ok(20) == (None, False)


# -- done -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda done, ch: [patterns.or_done(done, ch)],
        lambda done, ch: [patterns.take(done, ch, 5)],
        lambda done, ch: patterns.tee(done, ch),
        lambda done, ch: [patterns.fan_in(done, ch, ch)],
        lambda done, ch: [patterns.bridge(done, patterns.generate(done, [ch]))],
        lambda done, ch: [patterns.bridge(done, chan())],
        lambda done, ch: [patterns.stage(done, ch, str)],
        lambda done, ch: [patterns.stage(done, ch, str, workers=3, cap=2)],
        lambda done, ch: [patterns.pipeline(done, ch, str, int)],
        lambda done, ch: patterns.fan_out(done, ch, str),
        lambda done, ch: patterns.heartbeat(done, ch, str),
        lambda done, ch: patterns.heartbeat(done, ch, str, interval=0.001),
        lambda done, ch: [patterns.or_channel(done, ch)],
        lambda done, ch: [patterns.generate(done, [1, 2])],
        lambda done, ch: [patterns.repeat(done, 1, 2)],
        lambda done, ch: [patterns.repeat_fn(done, int)],
        lambda done, ch: [patterns.steward(10, lambda done, interval: chan())(done, 10)],
    ],
)
@pytest.mark.parametrize("how", ["empty input", "nobody receives", "context"])
def test_stops_when_done_closes(runtime2, make, how):
    values, halt = chan(8), chan()
    if how != "empty input":
        values.send_many(range(8))
    if how == "context":
        halt, cancel = context.with_cancel(context.background())
    if how == "context" and "or_channel" in make.__code__.co_names:
        outputs = make(halt.done(), chan())
    else:
        outputs = make(halt, chan() if "or_channel" in make.__code__.co_names else values)
    sleep(0.005)  # nothing to wait on: they may wait by then, or not
    cancel() if how == "context" else halt.close()
    for ch in outputs:
        while ch.recv_ok(20)[1]:
            pass


@pytest.mark.parametrize("no_done", [None, nil])
def test_never_done(runtime2, no_done):
    numbers = patterns.generate(no_done, range(10))
    assert list(patterns.take(no_done, numbers, 3)) == [0, 1, 2]
    assert list(patterns.or_done(no_done, numbers)) == list(range(3, 10))


@stoppable
def test_outputs_can_only_be_received_from(done):
    outputs = [
        patterns.generate(done, []),
        patterns.take(done, chan(), 0),
        *patterns.tee(done, patterns.generate(done, [])),
        patterns.or_channel(done, done),
        patterns.or_channel(done),
        patterns.or_channel(),
    ]
    for ch in outputs:
        with pytest.raises(TypeError):
            ch.send(1)
        with pytest.raises(TypeError):
            ch.close()


# -- one by one -------------------------------------------------------------------------------------------------------


@stoppable
def test_or_channel(done):
    assert patterns.or_channel() == nil
    assert patterns.or_channel(done) == done
    for n in (2, 3, 4, 7):
        for first in range(n):
            channels = [chan(1) for _ in range(n)]
            either = patterns.or_channel(*channels)
            assert select(either, default).index == 1
            channels[first].send(1) if first % 2 else channels[first].close()
            assert ended(either)


@stoppable
def test_or_channel_of_contexts(done):
    for others in ((), (done,), (done, chan())):
        ctx, cancel = context.with_cancel(context.background())
        either = patterns.or_channel(*others, ctx)
        assert select(either, default).index == 1
        cancel()
        assert ended(either)


def test_or_channel_of_the_book(runtime2):
    assert ended(patterns.or_channel(after(7200), after(300), after(0.02), after(3600), after(60)))


@stoppable
def test_generate_asks_for_values_as_they_are_received(done):
    asked = []

    def values():
        for n in range(10):
            asked.append(n)
            yield n

    ch = patterns.generate(done, values())
    assert ch.recv(20) == 0
    assert len(asked) <= 2


@stoppable
def test_repeat_without_values(done):
    assert ended(patterns.repeat(done))


@stoppable
def test_repeat_fn_calls_it_each_time(done):
    calls = Atomic(0)
    ch = patterns.repeat_fn(done, lambda: calls.add(1))
    assert [ch.recv(20) for _ in range(5)] == [1, 2, 3, 4, 5]


@stoppable
def test_take_more_than_there_is(done):
    assert list(patterns.take(done, patterns.generate(done, "abc"), 5)) == ["a", "b", "c"]
    assert list(patterns.take(done, patterns.generate(done, "abc"), 0)) == []


@stoppable
def test_take_leaves_the_rest(done):
    ch = chan(5)
    ch.send_many(range(5))
    assert list(patterns.take(done, ch, 2)) == [0, 1]
    assert ch.recv_many(5) == [2, 3, 4]


@stoppable
def test_stage_keeps_the_order_with_one_worker(done):
    numbers = patterns.generate(done, range(100))
    assert list(patterns.stage(done, numbers, lambda n: 2 * n)) == list(range(0, 200, 2))


@stoppable
def test_stage_with_workers(done):
    numbers = patterns.generate(done, range(100))
    assert sorted(patterns.stage(done, numbers, lambda n: 2 * n, workers=4, cap=8)) == list(range(0, 200, 2))
    with pytest.raises(ValueError):
        patterns.stage(done, numbers, int, workers=0)


@stoppable
def test_pipeline_without_functions(done):
    assert list(patterns.pipeline(done, patterns.generate(done, "ab"))) == ["a", "b"]


def is_prime(n):
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


@stoppable
def test_fan_out_and_in_find_primes(done):
    """The book's prime finder, with smaller numbers."""
    numbers = patterns.generate(done, range(2, 10_000))
    finders = patterns.fan_out(done, numbers, lambda n: (n, is_prime(n)), workers=3)
    assert len(finders) == 3
    found = (n for n, prime in patterns.fan_in(done, *finders) if prime)
    assert len(list(found)) == 1229


@stoppable
def test_fan_in_of_nothing(done):
    assert ended(patterns.fan_in(done))
    assert ended(patterns.fan_in(done, patterns.generate(done, [])))


@stoppable
def test_fan_in_takes_from_all(done):
    inputs = [patterns.generate(done, [n] * n) for n in range(1, 6)]
    assert Counter(patterns.fan_in(done, *inputs)) == {n: n for n in range(1, 6)}


@stoppable
def test_tee_gives_each_value_to_both_before_the_next(done):
    one, other = patterns.tee(done, patterns.generate(done, range(3)))
    assert other.recv(20) == 0
    with pytest.raises(TimeoutError):
        other.recv(0.01)
    assert one.recv(20) == 0
    assert one.recv(20) == 1
    with pytest.raises(TimeoutError):
        one.recv(0.01)
    assert [other.recv(20), one.recv(20), other.recv(20)] == [1, 2, 2]
    assert ended(one) and ended(other)


@stoppable
def test_bridge_of_the_book(done):
    def each_in_a_channel():
        for n in range(10):
            ch = chan(1)
            ch.send(n)
            ch.close()
            yield ch

    assert list(patterns.bridge(done, patterns.generate(done, each_in_a_channel()))) == list(range(10))


@stoppable
def test_bridge_waits_for_an_open_channel(done):
    first, channels = chan(1), chan(2)
    channels.send_many([first, patterns.generate(done, "b")])
    channels.close()
    out = patterns.bridge(done, channels)
    with pytest.raises(TimeoutError):
        out.recv(0.01)
    first.send("a")
    first.close()
    assert list(out) == ["a", "b"]


# -- health -----------------------------------------------------------------------------------------------------------


@stoppable
def test_heartbeat_at_each_unit_of_work(done):
    beats, results = patterns.heartbeat(done, patterns.generate(done, range(4)), lambda n: n + 1)
    got = []
    for n in range(4):
        assert beats.recv(20) is None
        got.append(results.recv(20))
        assert got[-1] == n + 1
    assert ended(results) and ended(beats)


@stoppable
def test_heartbeat_that_nobody_listens_to(done):
    _, results = patterns.heartbeat(done, patterns.generate(done, range(20)), lambda n: n, interval=0.001)
    assert list(results) == list(range(20))


@stoppable
def test_heartbeat_at_intervals(done):
    values = chan()
    beats, results = patterns.heartbeat(done, values, lambda n: -n, interval=0.005)
    for _ in range(3):
        beats.recv(20)  # while it waits for a value
    values.send(1)
    for _ in range(3):
        beats.recv(20)  # while nobody takes the result
    assert results.recv(20) == -1


@stoppable
def test_replicated(done):
    started, cancelled = WaitGroup(), WaitGroup()
    started.add(2)
    cancelled.add(2)

    def slow(text):
        started.done()
        try:
            chan().recv()
        finally:
            cancelled.done()

    def quick(text):
        started.wait()
        return text

    assert patterns.replicated(done, [slow, quick, slow], "answer") == "answer"
    cancelled.wait(timeout=20)


@stoppable
def test_replicated_passes_over_failures(done):
    def fails(text):
        raise KeyError(text)

    def answers(text):
        sleep(0.01)  # the others have failed by then
        return text

    assert patterns.replicated(done, [fails, answers, fails], "x") == "x"
    with pytest.raises(ExceptionGroup) as caught:
        patterns.replicated(done, [fails, fails], "x")
    assert [repr(e) for e in caught.value.exceptions] == ["KeyError('x')"] * 2
    with pytest.raises(ValueError):
        patterns.replicated(done, [])


@stoppable
def test_replicated_until_done(done):
    go.local(lambda: sleep(0.01) or done.close())  # all three wait by then
    with pytest.raises(Canceled):
        patterns.replicated(done, [lambda: chan().recv()] * 3)


@stoppable
def test_replicated_with_a_handler_that_cannot_be_copied(done):
    lock = threading.Lock()
    with pytest.raises(Exception, match="lock"):
        patterns.replicated(done, [lambda: chan().recv(), lambda: lock.acquire()])


@stoppable
def test_steward_restarts_an_irresponsible_ward(done):
    """The book's: it does nothing and never beats."""
    log, starts = [], Atomic(0)

    def ward(done, interval):
        starts.add(1)
        go.local(done.recv_ok)
        return nil

    beats = patterns.steward(0.02, ward, log.append)(done, 0.01)
    while starts.load() < 4:
        beats.recv(20)  # the steward itself is well
    done.close()
    while beats.recv_ok(20)[1]:
        pass
    assert set(log) == {"steward: ward unhealthy; restarting"}
    assert len(log) in (starts.load() - 1, starts.load())


@stoppable
def test_steward_leaves_a_healthy_ward_alone(done):
    log, starts = [], Atomic(0)

    def ward(done, interval):
        starts.add(1)
        beats = chan()
        go.local(beat, done, beats, interval / 4)
        return beats

    def beat(done, beats, interval):
        ticks = tick(interval)
        while select(done, ticks).index:
            patterns.pulse(beats)

    beats = patterns.steward(60.0, ward, log.append)(done, 0.01)
    for _ in range(5):
        beats.recv(20)
    assert (starts.load(), log) == (1, [])


@stoppable
def test_stewards_of_stewards(done):
    starts = Atomic(0)

    def ward(done, interval):
        starts.add(1)
        return nil

    inner = patterns.steward(0.01, ward, lambda text: None)
    outer_log = []
    outer = patterns.steward(10.0, inner, outer_log.append)
    beats = outer(done, 0.01)
    while starts.load() < 5:
        beats.recv(20)
    assert outer_log == []


@stoppable
def test_steward_and_bridge_stitch_the_values_of_a_sick_ward(done):
    """The book's ward that sends a list and breaks at a negative number: 1 2 1 2 1 2."""
    streams = chan()

    def ward(halt, interval):
        values, beats = chan(), chan()
        go.local(work, halt, values, beats)
        return beats

    def work(halt, values, beats):
        with values:
            if select(done, halt, (streams.send, values)).index < 2:
                return
            for n in (1, 2, -1, 3, 4, 5):
                # Not halted between its values: on a busy machine its time may be over before they are received.
                if n < 0 or select(done, (values.send, n)).index == 0:
                    return

    patterns.steward(0.05, ward, lambda text: None)(done, 3600)
    assert list(patterns.take(done, patterns.bridge(done, streams), 6)) == [1, 2, 1, 2, 1, 2]


def test_context_greeter_of_the_book(runtime2):
    """The greeting has a time limit of its own; when it fails, the farewell is cancelled."""

    def print_greeting(ctx, said):
        try:
            said.send(gen_greeting(ctx) + " world!")
        except Exception as error:
            return f"cannot print greeting: {error}"

    def gen_greeting(ctx):
        ctx, cancel = context.with_timeout(ctx, 0.05)
        try:
            return {"EN/US": "hello"}[locale(ctx)]
        finally:
            cancel()

    def print_farewell(ctx, said):
        try:
            said.send({"EN/US": "goodbye"}[locale(ctx)] + " world!")
        except Exception as error:
            return f"cannot print farewell: {error}"

    def locale(ctx):
        if select(ctx, after(60)).index == 0:
            raise ctx.err()
        return "EN/US"

    said = chan(2)
    ctx, cancel = context.with_cancel(context.background())
    greeting = go(print_greeting, ctx, said)
    farewell = go(print_farewell, ctx, said)
    assert greeting.result(20) == "cannot print greeting: context deadline exceeded"
    cancel()
    assert farewell.result(20) == "cannot print farewell: context canceled"
    assert len(said) == 0


# -- rates ------------------------------------------------------------------------------------------------------------


class Recorder:
    """Looks like a limiter, and notes when it is asked."""

    def __init__(self, limit, log):
        self.limit = limit
        self._log = log

    def wait(self, n=1, ctx=None):
        self._log.append((self.limit, n, ctx))


def test_multi_limiter(runtime2):
    log = []
    both = patterns.MultiLimiter(Recorder(10, log), Recorder(2, log), patterns.MultiLimiter(Recorder(5, log)))
    assert both.limit == 2
    both.wait(3, "ctx")
    assert log == [(2, 3, "ctx"), (5, 3, "ctx"), (10, 3, "ctx")]
    assert patterns.MultiLimiter().limit == rate.inf


def test_multi_limiter_elsewhere(runtime2):
    both = patterns.MultiLimiter(rate.Limiter(0, 2), rate.Limiter(0, 3))
    go(lambda: both.wait(2)).result(20)
    with pytest.raises(TimeoutError), context.timeout(0.01):
        both.wait()
