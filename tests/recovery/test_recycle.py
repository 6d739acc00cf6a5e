"""recycle(): a worker is replaced, and nothing is lost."""

from __future__ import annotations

import re

import pytest
from programs import Run
from replacing import STARTED, output

LOUD = True
EACH_POLICY = pytest.mark.parametrize("policy", ["restart", "continue", "exit"])


@EACH_POLICY
def test_a_fresh_process(run: Run, policy: str) -> None:
    """It has the same number, its exit handlers have run, nothing is said."""
    text = """
    before = go.on(1)(os.getpid).result()
    go.on(1)(atexit.register, print, "bye", flush=True).join()
    recycle(1)
    print("recycled")
    assert go.on(1)(os.getpid).result() != before
    try: os.kill(before, 0)
    except ProcessLookupError: print("gone")
    """
    assert output(run, text, options=["--on-death", policy]) == "bye\nrecycled\ngone\n"


def test_those_that_have_begun_end_first(run: Run) -> None:
    text = """
    ready, gate = chan(), chan()
    old = go.on(1)(os.getpid).result()
    g = go.on(1)(hold, ready, gate)
    ready.recv()
    waits = go.local(recycle, 1)
    while waits.state != "running": sleep(0.001)
    later = go.on(1)(os.getpid)      # for the new process
    tasks = [go(pow, 2, n) for n in range(100)]
    assert [t.result() for t in tasks] == [2**n for n in range(100)]   # by the other one
    print(waits.state, later.state)
    gate.send("done")
    print(g.result())
    waits.result()
    print(later.result() != old)
    """
    assert output(run, text) == "running queued\ndone\nTrue\n"


def test_in_time_or_not_at_all(run: Run) -> None:
    text = """
    ready, gate = chan(), chan()
    old = go.on(1)(os.getpid).result()
    g = go.on(1)(hold, ready, gate)
    ready.recv()
    try: recycle(1, timeout=0.05)
    except TimeoutError as error: print(error)
    print(go.on(1)(os.getpid).result() == old)
    gate.send(1)
    g.result()
    sleep(0.05)  # nothing to wait on: it must not leave
    print(go.on(1)(os.getpid).result() == old)
    """
    assert output(run, text) == (
        "recycle(1): goroutines that have begun there have not ended: timed out\nTrue\nTrue\n"
    )


def test_called_there(run: Run) -> None:
    text = """
    def work():
        recycle(goproc.proc())
        return os.getpid()
    old = go.on(1)(work).result()
    print(go.on(1)(os.getpid).result() != old)
    """
    assert output(run, text) == "True\n"


def test_cancelled_while_it_waits(run: Run) -> None:
    text = """
    ready, gate = chan(), chan()
    g = go.on(1)(hold, ready, gate)
    ready.recv()
    waits = go.local(recycle, 1)
    sleep(0.02)  # nothing to wait on: it has asked by then
    waits.cancel()
    print(repr(waits.exception()))
    print(go.on(1)(int).result())
    gate.send(1)
    """
    assert output(run, text) == "Cancelled()\n0\n"


def test_timers_and_local_goroutines_keep_the_process(run: Run) -> None:
    text = """
    fired = chan(1)
    def later():
        goproc.after_func(0.15, fired.send, os.getpid())
        go.local(sleep, 0.1)
    go.on(1)(later).result()
    recycle(1)
    print(fired.try_recv()[1])
    """
    assert output(run, text) == "True\n"


@pytest.mark.parametrize("end", ["recycle(1)", "end_by_a_kill()"])
def test_a_timer_whose_function_is_gone(run: Run, end: str) -> None:
    text = f"""
    def set_far():
        timer = goproc.after_func(3600, print)
        timer.stop()
        return timer
    def end_by_a_kill():
        pid = go.on(1)(os.getpid).result()
        goproc.kill(1)
        assert go.on(1)(os.getpid).result() != pid
    timer = go.on(1)(set_far).result()
    assert timer.reset(3600) is False and timer.stop() is True
    {end}
    for where in (go.local, go.on(1), go.on(2)):
        assert where(timer.stop).result() is False
        try: where(timer.reset, 0).result()
        except RuntimeError as error: print(str(error).partition("(")[0])
    """
    line = "time: Reset of a Timer whose function is gone: worker 1 \n"
    assert output(run, text, options=["--quiet-deaths"]) == 3 * line


def test_all_at_once_under_load(run: Run) -> None:
    text = """
    tasks = [go(pow, 2, n) for n in range(2000)]
    waits = [go.local(recycle, p) for p in (1, 2, 3)]
    tasks += [go(pow, 2, n) for n in range(2000)]
    tasks += [go.on(1 + n % 3)(pow, 2, n) for n in range(300)]
    for g in waits: g.result()
    for n in range(12): recycle(1 + n % 3)
    assert [g.result() for g in tasks] == [2**n for n in [*range(2000), *range(2000), *range(300)]]
    """
    assert output(run, text, procs=3) == ""


def test_objects_that_it_shared_stay(run: Run) -> None:
    """Channels, results and locks that it made are there, and nothing leaks."""
    text = """
    from goproc.shm import _core
    def make():
        ch = chan(3)
        ch.send([1] * 1000)
        return ch
    for _ in range(30):
        ch = go.on(1)(make).result()
        g = go.on(1)(lambda: "x" * 5000)
        g.join()
        recycle(1)
        assert ch.recv() == [1] * 1000 and g.result() == "x" * 5000
        ch.send(1)
    del ch, g
    _core.collect()
    census = _core.census()
    assert census["blocks"] < 20 and census["objects"] < 20, census
    """
    assert output(run, text) == ""


def test_an_exit_handler_that_hangs(run: Run) -> None:
    text = """
    def work(): atexit.register(time.sleep, 1000)
    go.on(1)(work).result()
    recycle(1)
    print(go.on(1)(int).result())
    """
    assert output(run, text) == "0\n"


def test_killed_while_it_retires(run: Run) -> None:
    text = """
    ready, gate = chan(), chan()
    g = go.on(1)(hold, ready, gate)
    ready.recv()
    waits = go.local(recycle, 1)
    sleep(0.02)  # nothing to wait on: it has asked by then
    kill(1)
    waits.result()
    print(type(g.exception()).__name__, go.on(1)(int).result())
    """
    done = run(STARTED + text)
    assert (done.status, done.out) == (0, "WorkerDied 0\n"), done
    assert re.fullmatch(r"goproc: proc 1 \(pid \d+\) was killed .*; the worker is replaced\n", done.err), done


def test_a_worker_that_is_not_there_any_more(run: Run) -> None:
    text = """
    def die(): os.kill(os.getpid(), 9)
    go.on(1)(die).exception()
    try: recycle(1)
    except WorkerDied as error: print(error.proc, str(error).split(":")[0])
    """
    done = run(STARTED + text, options=["--on-death", "continue"])
    assert done.out == "1 recycle(1)\n", done


def test_bad_numbers(run: Run) -> None:
    text = """
    for bad in (0, 3, -1, "1", True, None):
        try: recycle(bad)
        except (ValueError, TypeError) as error: print(type(error).__name__, error)
    for bad in (float("nan"), "1"):
        try: recycle(1, timeout=bad)
        except (ValueError, TypeError) as error: print(type(error).__name__, error)
    """
    assert output(run, text).splitlines() == [
        "ValueError recycle(0): proc 0 is the host, the process of the script; only workers can be recycled",
        "ValueError recycle(3): the workers are 1 to 2",
        "ValueError recycle(-1): the workers are 1 to 2",
        "TypeError recycle() takes the number of a worker, not str",
        "TypeError recycle() takes the number of a worker, not bool",
        "TypeError recycle() takes the number of a worker, not NoneType",
        "ValueError recycle(timeout=...) takes seconds, not NaN",
        "TypeError recycle(timeout=...) takes seconds as a number, not str",
    ]
