"""Time slices: the goroutines that run when one ends, the state that goroutines may change, and where one can be left."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import csv
import io
import json
import locale
import logging
import os
import queue
import random
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from peek import until
from programs import ok

from goproc import Atomic, _goroutine, _spawn, chan, go, proc, sleep, yield_now
from goproc._proc import line_output
from goproc._sched import process_state, safepoint, scheduler, waits


def busy(rounds=300_000):
    """Compute for some slices, without an operation of goproc."""
    return sum(i * i for i in range(rounds))


# -- what a slice begins: nothing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["task", "pinned"])
def test_a_goroutine_that_never_blocks_ends_before_the_next_begins(runtime1, kind):
    events = chan(100)

    def task(events, n):
        events.send(("begin", n))
        busy()
        events.send(("end", n))

    start = go if kind == "task" else go.on(1)
    for n in range(4):
        start(task, events, n)
    seen = [events.recv(timeout=50) for _ in range(8)]
    assert seen == [(what, n) for n in range(4) for what in ("begin", "end")]


def test_others_are_left_to_other_workers(runtime2, tmp_path):
    """One worker computes until the other one has done all that was queued."""
    computes, done = Atomic(0), tmp_path / "done"

    def hog(computes, done):
        computes.store(proc())  # without a wait: a worker whose goroutine waits may begin another
        while not os.path.exists(done):  # 512 looks at a WaitGroup would offer the turn to others
            busy(1000)
        return proc()

    g = go(hog, computes, str(done))
    until(computes.load)
    home = computes.load()
    others = [go(proc) for _ in range(20)]
    assert {other.result(50) for other in others} == {3 - home}
    done.touch()
    assert g.result(50) == home


def test_a_slice_resumes_those_that_had_blocked(runtime1):
    """The one that computes goes on until the other has been told often enough, which takes many slices of its own."""

    def computes(other, begun, stop):
        def counts():
            for n in other:
                begun.append(n)

        begun = []
        helper = go.local(counts)
        yield_now()  # it begins, and blocks
        stop.send(None)
        while len(begun) < 20:
            busy(1000)
        helper.cancel()
        return len(begun) >= 20

    other, stop = chan(), chan()
    g = go.on(1)(computes, other, None, stop)
    stop.recv(timeout=50)
    for n in range(20):
        other.send(n, timeout=50)
    assert g.result(50)


def test_while_one_was_preempted_no_other_begins(runtime1):
    """A goroutine that gives its turn away by itself goes back to the one that computes, not to an unstarted one."""
    events = chan(100)

    def computes(events, wake):
        wake.recv()
        events.send("computes")
        busy(600_000)
        events.send("computed")

    def yields(events, wake):
        wake.send(None)
        while len(events) < 2:
            yield_now()
        events.send("yielded")

    def unstarted(events):
        events.send("unstarted")

    def main(events):
        wake = chan()
        first, second = go.local(computes, events, wake), go.local(yields, events, wake)
        second.join()
        go.on(1)(unstarted, events)
        first.join()

    go.on(1)(main, events).join(50)
    seen = []
    while "unstarted" not in seen:
        seen.append(events.recv(timeout=50))
    assert seen.index("computed") < seen.index("unstarted"), seen


# -- state of the process ---------------------------------------------------------------------------------------------


def seeds(n):
    random.seed(n)
    random.random()
    busy()
    expected = random.Random(n)
    expected.random()
    return random.random() == expected.random()


def seeds_numpy(n):
    np.random.seed(n)
    np.random.random()
    busy()
    return np.random.random() == np.random.RandomState(n).random(2)[1]


def redirects(n):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        print(n)
        busy()
        print(n)
    return out.getvalue() == f"{n}\n{n}\n"


def changes_folder(n):
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        busy()
        return os.getcwd() == os.path.realpath(folder)


def changes_environment(n):
    os.environ["TASK"] = str(n)
    busy()
    return os.environ.pop("TASK") == str(n)


def catches_warnings(n):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        busy()
        warnings.warn(str(n), stacklevel=1)
        return [str(warning.message) for warning in caught] == [str(n)]


def sets_locale(n):
    before = locale.setlocale(locale.LC_NUMERIC)
    locale.setlocale(locale.LC_NUMERIC, "C" if n % 2 else "C.UTF-8")
    busy()
    try:
        return locale.setlocale(locale.LC_NUMERIC) == ("C" if n % 2 else "C.UTF-8")
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)


STATES = [seeds, seeds_numpy, redirects, changes_folder, changes_environment, catches_warnings, sets_locale]


@pytest.mark.parametrize("task", STATES, ids=lambda f: f.__name__)
def test_tasks_that_change_the_process_do_not_meet(runtime2, task):
    assert [g.result(50) for g in [go(task, n) for n in range(8)]] == [True] * 8


@pytest.mark.parametrize("task", STATES, ids=lambda f: f.__name__)
def test_goroutine_that_has_changed_the_process_keeps_it(runtime1, task):
    """Goroutines that had started are ready all the time; each changes the same state in its own turn."""

    def several(task):
        def body(n, turn):
            turn.recv()
            return task(n)

        turns = [chan(1) for _ in range(4)]
        gs = [go.local(body, n, turn) for n, turn in enumerate(turns)]
        yield_now()  # each of them begins, and blocks
        for turn in turns:
            turn.send(None)
        return [g.result(50) for g in gs]

    assert go.on(1)(several, task).result(50) == [True] * 4


def test_reading_the_state():
    """Each part counts, and counts no more once it was put back."""
    np.random.random()  # NumPy imports its generators at their first use
    before = process_state.read()
    assert process_state.read() == before
    stdout, folder, of_random, of_numpy = sys.stdout, os.getcwd(), random.getstate(), np.random.get_state()
    changes = [
        (lambda: setattr(sys, "stdout", io.StringIO()), lambda: setattr(sys, "stdout", stdout)),
        (lambda: os.environ.__setitem__("TASK", "1"), lambda: os.environ.__delitem__("TASK")),
        (lambda: os.chdir("/"), lambda: os.chdir(folder)),
        (lambda: random.random(), lambda: random.setstate(of_random)),
        (lambda: np.random.random(), lambda: np.random.set_state(of_numpy)),
    ]
    for change, undo in changes:
        change()
        try:
            assert process_state.read() != before
        finally:
            undo()
        assert process_state.read() == before


def test_options_of_pandas_are_read(monkeypatch):
    options = {"display": {"max_rows": 60, "width": 80}, "mode": {"copy": True}}
    module = SimpleNamespace(_global_config=options)
    monkeypatch.setitem(sys.modules, "pandas._config.config", module)
    before = process_state.read()
    options["display"]["max_rows"] = 5
    assert process_state.read() != before
    options["display"]["max_rows"] = 60
    assert process_state.read() == before


def test_another_generator_of_numpy_is_read():
    before = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(1))
        state = process_state.read()
        assert process_state.read() == state
        np.random.random()
        assert process_state.read() != state
    finally:
        np.random.set_bit_generator(before)


# -- where a goroutine can be left --------------------------------------------------------------------------------------


def test_libraries_that_know_no_locks():
    """A goroutine is left in json or NumPy, but not where a lock of the whole thread may be held."""

    def kind(module):
        code = compile("", module.__file__, "exec")
        return safepoint._kind(SimpleNamespace(f_code=code, f_globals=vars(module)))

    for module in (
        json,
        statistics,
        textwrap,
        csv,
        np._core.numeric if hasattr(np, "_core") else np.core.numeric,
    ):
        assert kind(module) == "lockless", module
    for module in (logging, queue, threading, subprocess, concurrent.futures._base, asyncio.runners):
        assert kind(module) == "library", module
    assert kind(scheduler) == "scheduler" and kind(line_output) == "tool" and kind(_goroutine) == "goproc"
    assert kind(sys.modules[__name__]) == "user"


def frames(*functions):
    """A stack of these, the innermost first."""
    frame = None
    for f in reversed(functions):
        frame = SimpleNamespace(f_code=f.__code__, f_globals=f.__globals__, f_back=frame)
    return frame


@pytest.mark.parametrize(
    "stack, left, raised",
    [
        ([frames], True, True),
        ([json.loads, frames], True, True),
        ([logging.info, frames], False, True),
        ([json.loads, logging.info, frames], False, True),
        ([_spawn.origin, frames], False, False),
        ([json.loads, _spawn.origin, frames], False, False),
        ([frames, _spawn.origin, frames], True, True),
        ([line_output.flush_all, frames], False, True),
        ([json.loads, line_output.flush_all, frames], False, True),
        ([waits.sleep, frames], False, False),
        ([frames, scheduler.run_goroutines], True, True),
        ([scheduler.run_goroutines], False, False),
        ([frames, logging.info, frames], False, True),
    ],
    ids=lambda x: "-".join(f.__name__ for f in x) if isinstance(x, list) else "",
)
def test_points_at_which_a_goroutine_can_be_left(stack, left, raised):
    frame = frames(*stack)
    assert safepoint.is_safepoint(frame, scheduler.run_goroutines.__code__) == left
    assert safepoint.may_raise(frame) == raised


NUMBERS = [float(i) for i in range(300)]
CALLS = {
    "json": lambda: json.loads(json.dumps(NUMBERS)),
    "statistics": lambda: statistics.mean(NUMBERS),
    "numpy": lambda: np.mean(np.ones(1000)),
    # a logger has locks, and a goroutine in it is not left
    "logging": lambda: logging.getLogger("of this test").debug("not shown"),
}


@pytest.mark.parametrize("library", list(CALLS))
def test_a_loop_of_library_calls_lets_others_run(runtime2, library):
    def computes(call, begun, stop):
        begun.send(1)
        while not stop.load():
            call()

    begun, stop = chan(), Atomic(0)
    g = go.on(0)(computes, CALLS[library], begun, stop)
    begun.recv()
    for _ in range(5):
        sleep(0.001)  # comes back although the other computes for ever
    stop.store(1)
    g.join(20)


def test_threads_get_their_turn_beside_busy_goroutines(run):
    """The look at the state of the process must not let go of the GIL: a thread that waits for it would starve."""
    script = """
        import threading, time
        from goproc import go
        def work():
            [go.local(abs, i) for i in range(30)][-1].result()
        rounds = 0
        def thread():
            global rounds
            while rounds < 300:
                time.sleep(0)
                rounds += 1
        waits = threading.Thread(target=thread)
        waits.start()
        turns = 0
        while waits.is_alive():
            work()
            turns += 1
        print(turns < 100_000)
    """
    assert ok(run(script, procs=0)) == "True\n"
