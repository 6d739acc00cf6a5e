"""The end of a flow: complete, by a failure, or early. Nobody hangs, and no goroutine is left (conftest checks that)."""

import gc
import itertools
import sys
import threading

import pytest
from peek import until, until_only_main
from places import place_fixture

import goproc
from goproc import chan, flow, go
from goproc.errors import PickleError


def inc(x):
    return x + 1


def fail_at_3(x):
    if x == 3:
        raise ValueError("three")
    return x


place = place_fixture(((0, "spread"), (1, "spread"), (2, "spread")))


SHAPES = {
    "alone": lambda f: f.map(fail_at_3),
    "first of many": lambda f: f.map(fail_at_3).map(inc).map(inc),
    "last of many": lambda f: f.map(lambda x: x).map(lambda x: x, 2).map(fail_at_3),
    "several workers": lambda f: f.map(fail_at_3, 3).map(inc, 2),
    "unordered": lambda f: f.map(fail_at_3, 3, ordered=False).map(inc, 2),
    "each": lambda f: f.each(fail_at_3).batch(2),
    "filter": lambda f: f.map(lambda x: x).filter(fail_at_3),
    "flat_map": lambda f: f.flat_map(lambda x: [fail_at_3(x)]),
    "options": lambda f: f.map(fail_at_3, 2, timeout=30).map(inc),
    "behind a batch": lambda f: f.batch(1).map(lambda b: fail_at_3(*b)),
    "merged": lambda f: f.map(fail_at_3).merge(flow(range(5))),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_failure_is_raised_with_the_name_of_the_stage(place, shape):
    with pytest.raises(ValueError, match="three") as caught:
        list(SHAPES[shape](flow(range(50))))
    note = caught.value.__notes__[-1]
    assert "stage" in note and ("fail_at_3" in note or "<lambda>" in note)
    until_only_main()


@pytest.mark.parametrize("shape", SHAPES)
def test_failure_ends_run_over_an_endless_source(place, shape):
    """As in pypeln, which hung after an exception."""
    with pytest.raises(ValueError, match="three"):
        SHAPES[shape](flow(itertools.count())).run()
    until_only_main()


def test_results_before_the_failure_come_first(place):
    got = []
    with pytest.raises(ValueError):
        for value in flow(range(50)).map(fail_at_3).map(inc, 2):
            got.append(value)
    assert got == [1, 2, 3]


def test_note_names_the_item(place):
    with pytest.raises(ValueError) as caught:
        list(flow(range(5)).map(fail_at_3))
    assert "item 3" in caught.value.__notes__[-1]
    assert any("fail_at_3" in note and "Traceback" in note for note in caught.value.__notes__)


def test_run_is_over_after_a_failure(place):
    results = iter(flow(range(5)).map(fail_at_3))
    with pytest.raises(ValueError):
        list(results)
    assert list(results) == []


def test_exception_of_the_source_comes_after_the_results_before_it(place):
    def source():
        yield 1
        yield 2
        raise KeyError("source")

    got = []
    with pytest.raises(KeyError, match="source"):
        for value in flow(source()).map(inc, 2).map(inc):
            got.append(value)
    assert got == [3, 4]
    with pytest.raises(KeyError) as caught:
        list(flow(source()).take(5))
    assert not hasattr(caught.value, "__notes__")
    until_only_main()


BEFORE_A_BATCH = {
    "the source": lambda f: f,
    "a stage": lambda f: f.map(fail_at_3),
    "a stage in this process": lambda f: f.map(fail_at_3, 0),
    "a stage with options": lambda f: f.map(fail_at_3, timeout=30),
}


@pytest.mark.parametrize("within", [None, 30])
@pytest.mark.parametrize("before", BEFORE_A_BATCH)
def test_what_a_batch_has_when_a_stage_before_it_fails_is_handed_on(place, before, within):
    def source():
        yield 1
        yield 2
        if before == "the source":
            raise ValueError("three")
        yield 3

    saved, got = chan(10), []
    with pytest.raises(ValueError, match="three"):
        for value in BEFORE_A_BATCH[before](flow(source())).batch(500, within).each(saved.send):
            got.append(value)
    assert got == [[1, 2]] and saved.recv() == [1, 2]
    with pytest.raises(ValueError, match="three"):
        BEFORE_A_BATCH[before](flow(source())).batch(2).each(saved.send).batch(500, within).run()
    assert saved.recv() == [1, 2]
    until_only_main()


def test_failing_stage_goroutine_ends_the_flow(place):
    def stage(rx, tx):
        for value in rx:
            tx.send(fail_at_3(value))

    got = []
    with pytest.raises(ValueError) as caught:
        for value in flow(itertools.count()).map(lambda x: x).stage(stage).map(inc):
            got.append(value)
    assert got == [1, 2, 3]
    assert "'stage'" in caught.value.__notes__[-1]
    until_only_main()


@pytest.mark.parametrize("branches", ["merged", "apart"])
def test_failure_before_a_tee_is_raised_by_all_branches(place, branches):
    one, other = flow(itertools.count()).map(fail_at_3).tee()
    if branches == "merged":
        with pytest.raises(ValueError, match="three"):
            list(one.merge(other.map(inc)))
    else:
        consumers = [go.local(list, branch) for branch in (one, other)]
        for g in consumers:
            with pytest.raises(ValueError, match="three"):
                g.result()
    until_only_main()


def stop(x):
    raise StopIteration


def leave(x):
    sys.exit(3)


@pytest.mark.parametrize("options", [{}, {"timeout": 30}], ids=["loop", "pool"])
@pytest.mark.parametrize("f", [stop, leave, lambda x: goproc.goexit()], ids=["stop", "exit", "goexit"])
def test_exceptions_that_end_loops_or_programs_are_failures(place, f, options):
    with pytest.raises(RuntimeError):
        list(flow(range(3)).map(f, **options))
    until_only_main()


def test_result_that_cannot_be_sent_is_a_failure(place):
    with pytest.raises(PickleError, match="lock") as caught:
        list(flow(range(3)).map(lambda x: threading.Lock()))
    assert "<lambda>" in caught.value.__notes__[-1]


def test_item_that_cannot_be_sent_is_an_exception_of_the_source(place):
    with pytest.raises(PickleError, match="lock"):
        list(flow([threading.Lock()]).map(inc))


def test_function_that_cannot_be_sent_is_refused(place):
    lock = threading.Lock()
    with pytest.raises(PickleError, match="lock"):
        list(flow(range(3)).map(lambda x: lock))
    until_only_main()


# -- early ends ------------------------------------------------------------------------------------------------------

LONG = {
    "map": lambda f: f.map(inc),
    "chain": lambda f: f.map(inc, 2).map(inc).batch(3),
    "pool": lambda f: f.map(inc, 2, on_error="skip"),
    "stage": lambda f: f.stage(lambda rx, tx: tx.send_many(rx)),
    "within": lambda f: f.batch(2, within=30.0),
    "feed": lambda f: f,
}


@pytest.mark.parametrize("shape", LONG)
def test_leaving_the_loop_ends_the_run(place, shape):
    for _ in LONG[shape](flow(itertools.count())):
        break
    gc.collect()
    until_only_main()


@pytest.mark.parametrize("shape", LONG)
def test_close_ends_the_run(place, shape):
    results = iter(LONG[shape](flow(itertools.count())))
    next(results)
    results.close()
    until_only_main()
    assert list(results) == []
    results.close()


def test_with_block_closes_the_run(place):
    with iter(flow(itertools.count()).map(inc)) as results:
        assert next(results) == 1
    until_only_main()


def test_close_cancels_calls_that_wait(place):
    def wait(x):
        if x:
            chan().recv()
        return x

    results = iter(flow(range(9)).map(wait, 2))
    assert next(results) == 0
    results.close()
    until_only_main()


def test_run_that_was_not_begun_has_nothing_to_close(place):
    results = iter(flow(itertools.count()).map(inc))
    results.close()
    assert list(results) == []


def test_two_goroutines_cannot_be_in_one_run(place):
    gate = chan()
    results = iter(flow(gate).map(inc))
    waiting = go.local(next, results)
    until(lambda: results._running)
    with pytest.raises(RuntimeError, match="another goroutine"):
        next(results)
    gate.send(1)
    assert waiting.result() == 2
    results.close()


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: flow(3), TypeError, "iterable"),
        (lambda: flow([], buffer=-1), ValueError, "buffer="),
        (lambda: flow([], buffer="3"), TypeError, "buffer="),
        (lambda: flow([]).map(3), TypeError, "not callable"),
        (lambda: flow([]).map(None), TypeError, "not callable"),
        (lambda: flow([]).filter(3), TypeError, "not callable"),
        (lambda: flow([]).each("x"), TypeError, "not callable"),
        (lambda: flow([]).stage(None), TypeError, "not callable"),
        (lambda: flow([]).map(inc, -1), ValueError, "workers="),
        (lambda: flow([]).map(inc, 0, timeout=1), ValueError, "workers=0"),
        (lambda: flow([]).map(inc, 1.5), TypeError, "workers="),
        (lambda: flow([]).stage(inc, 0), ValueError, "workers="),
        (lambda: flow([]).map(inc, timeout=-1), ValueError, "timeout="),
        (lambda: flow([]).map(inc, retries=-1), ValueError, "retries="),
        (lambda: flow([]).map(inc, on_error="what"), ValueError, "on_error="),
        (lambda: flow([]).map(inc, threads=0), ValueError, "threads="),
        (lambda: flow([]).map(inc, key=3), TypeError, "key="),
        (lambda: flow([]).map(inc, init=3), TypeError, "init="),
        (lambda: flow([]).map(inc, limit=3), TypeError, "limit="),
        (lambda: flow([]).batch(0), ValueError, "batch"),
        (lambda: flow([]).batch("2"), TypeError, "batch"),
        (lambda: flow([]).batch(2, within=0), ValueError, "within="),
        (lambda: flow([]).batch(2, within=-1), ValueError, "within="),
        (lambda: flow([]).take(-1), ValueError, "take"),
        (lambda: flow([]).skip(-1), ValueError, "skip"),
        (lambda: flow([]).tee(0), ValueError, "tee"),
        (lambda: flow([]).throttle(0), ValueError, "throttle"),
        (lambda: flow([]).throttle("x"), TypeError, "throttle"),
        (lambda: flow([]).merge([1]), TypeError, "merge"),
        (lambda: flow([]).run(progress=3), TypeError, "progress="),
    ],
)
def test_bad_argument_is_refused_at_its_line(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_call_that_waits_when_take_has_all_that_it_wants_is_cancelled(runtime2):
    waits, never = chan(), chan()

    def wait(x):
        if x == 0:
            waits.recv()
        if x == 3:
            waits.send(None)
            never.recv()
        return x

    assert list(flow(range(9)).map(wait, 4).take(3)) == [0, 1, 2]
