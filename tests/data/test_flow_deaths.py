"""Workers of a flow that die, or hang and are killed: programs of their own, since a runtime gets new processes by it."""

import textwrap

import pytest

HEAD = """
import os, signal
import goproc
from goproc import Failure, chan, flow, num_goroutine, sleep
from goproc.errors import TaskTimeout, WorkerDied
from goproc.shm import _core

def inc(x):
    return x + 1

def die_at_3(x):
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x

def hang_at_3(x):
    while x == 3:
        pass
    return x

def note_of(stages, kind):
    try:
        list(stages)
    except kind as error:
        return error.__notes__[-1]

"""
TAIL = """
while num_goroutine() > 1:
    sleep(0.001)
"""


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def lines(run, request):
    """Run a program; return the lines that it printed. It may tell of deaths on stderr. No goroutine is left."""

    def of(text):
        done = run(HEAD + textwrap.dedent(text) + TAIL, procs=request.param)
        assert done.status == 0, done
        return done.out.splitlines()

    return of


@pytest.mark.parametrize("workers", [1, 2])
def test_death_ends_the_flow_with_the_name_of_the_stage(lines, workers):
    text = f"""
        print(note_of(flow(range(9)).map(inc).map(die_at_3, {workers}).map(inc), WorkerDied))
        print(list(flow(range(3)).map(inc)))
    """
    assert lines(text) == ["in the stage 'die_at_3' of the flow", "[1, 2, 3]"]


def test_death_is_one_failed_item(lines):
    text = """
        print(list(flow(range(6)).map(die_at_3, 2, on_error="skip").map(inc)))
        print([type(r.error).__name__ for r in flow(range(6)).map(die_at_3, on_error="return") if isinstance(r, Failure)])
    """
    assert lines(text) == ["[1, 2, 3, 5, 6]", "['WorkerDied']"]


def test_call_that_computes_too_long_is_one_failed_item(lines):
    text = """
        numbers = flow(range(6)).map(lambda x: x, 2).map(hang_at_3, 2, timeout=2, on_error="skip").map(inc)
        print(list(numbers), [s.failed for s in numbers.stats()])
    """
    assert lines(text) == ["[1, 2, 3, 5, 6] [0, 1, 0]"]


def test_killed_call_of_a_flow_that_raises_is_named(lines):
    text = """
        print(note_of(flow(range(6)).map(lambda x: x).map(hang_at_3, timeout=0.1), TaskTimeout))
    """
    assert lines(text) == ["in the stage 'hang_at_3' of the flow"]


def test_worker_that_dies_without_an_item_is_replaced(lines):
    text = """
        items = chan(5)
        numbers = flow(items).map(inc).map(inc)
        results = iter(numbers)
        items.send(1)
        print(next(results))
        while any(s.busy for s in numbers.stats()):
            sleep(0.001)
        before = set(_core.pids()[1:])
        for p in goproc.workers():
            goproc.kill(p)
        while before & set(_core.pids()) or 0 in _core.pids():
            sleep(0.001)
        items.send(2)
        items.close()
        print(list(results))
    """
    assert lines(text) == ["3", "[4]"]


def test_item_that_is_handed_to_a_dead_worker_is_told_of(lines):
    text = """
        for _ in range(6):
            items = chan(5)
            results = iter(flow(items).map(lambda x: goproc.proc()))
            items.send(1)
            there = next(results)
            sleep(0.01)  # nothing to wait on: the worker waits for the next item by then, or is about to
            goproc.kill(there)
            items.send(2)
            items.close()
            try:
                assert len(list(results)) == 1
            except WorkerDied as error:
                assert "in the stage '<lambda>' of the flow" in error.__notes__[-1]
    """
    assert lines(text) == []


def test_close_kills_a_call_that_does_not_react(lines):
    text = """
        with iter(flow(range(9)).map(hang_at_3)) as results:
            print(next(results), next(results), next(results))
        print(list(flow(range(3)).map(inc)))
    """
    assert lines(text) == ["0 1 2", "[1, 2, 3]"]


@pytest.mark.parametrize(
    "stage", ["map(die, on_error={})", "filter(die, 1, on_error={})", "each(die, threads=2, on_error={})"]
)
def test_a_call_that_dies_in_a_pool_has_the_name_of_the_stage(lines, stage):
    text = f"""
        def die(x):
            os.kill(os.getpid(), signal.SIGKILL)
        dead = chan(1)
        print(list(flow([1]).{stage.format("dead")}))
        print({{g[1] for g in dead.recv().error.goroutines}})
    """
    assert lines(text) == ["[]", "{'die'}"]
