"""go.opts(retries=n): a goroutine that was lost with its process starts again."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import Run, ok

from goproc import go

LOUD = True
HEAD = """
    import os, signal, sys, time
    import goproc
    from goproc import Atomic, Group, WaitGroup, WorkerDied, chan, go, kill, proc, select, sleep

    def die(number=signal.SIGKILL):
        os.kill(os.getpid(), number)
        time.sleep(60)

    def die_first(runs, deaths, value=None):
        "Die in the first runs, then return."
        if runs.add(1) <= deaths:
            die()
        return runs.load() if value is None else value
"""


def script(text: str) -> str:
    return HEAD + text


@pytest.mark.parametrize("deaths", [0, 1, 3])
def test_runs_until_it_has_a_result(run: Run, deaths: int) -> None:
    text = f"""
    print(go.opts(retries=3)(die_first, Atomic(0), {deaths}).result())
    """
    done = run(script(text))
    assert (done.status, done.out) == (0, f"{deaths + 1}\n"), done
    assert done.err.count("1 starts again (retries); the worker is replaced") == deaths


def test_runs_so_often_and_not_more(run: Run) -> None:
    text = """
    runs = Atomic(0)
    g = go.opts(retries=2)(die_first, runs, 100)
    try:
        g.result()
    except WorkerDied as error:
        print(runs.load(), g.state, error)
    """
    done = run(script(text))
    assert done.out.startswith("3 failed goroutine 2 (die_first) was lost with its process: proc "), done
    assert done.out.endswith("was killed by signal 9 (SIGKILL); it had been lost 2 times before\n"), done


def test_each_run_gets_the_arguments_of_the_go_line(run: Run) -> None:
    """Large and small, plain and pickled, channels and closures; nothing is torn, and nothing is left."""
    text = """
    from goproc.shm import _core
    class Thing:
        def __init__(self, n): self.n = n
    def consume(runs, values, thing, data, ch, *, key):
        values.append(len(values))
        ch.send((list(values), thing.n, sum(data), key, outer))
        if runs.add(1) <= 2: die()
    outer = "outer"
    ch = chan(10)
    values, data = [7], bytes(range(256)) * 1000
    before = _core.census()["blocks"]
    g = go.opts(retries=2)(consume, Atomic(0), values, Thing(5), data, ch, key={"k": (1, 2)})
    values.append(99)
    g.result()
    for _ in range(3): assert ch.recv() == ([7, 1], 5, sum(data), {"k": (1, 2)}, "outer")
    print(ch.try_recv())
    """
    assert run(script(text)).out == "(None, False)\n"


# The zygote forks no replacement as long as there is a file.
HOLD = """
import os, time
def hold():
    while os.path.exists("hold"): time.sleep(0.001)
os.register_at_fork(before=hold)
"""


def test_state_of_the_handle_meanwhile(run: Run, tmp_path: Path) -> None:
    """It is queued until a worker takes it, and the same goroutine."""
    (tmp_path / "sitecustomize.py").write_text(HOLD)
    text = """
    started, gate = chan(), chan()
    def work():
        started.send(goproc.current().id)
        return gate.recv()
    g = go.on(1).opts(retries=1)(work)
    assert started.recv() == g.id
    open("hold", "w").close()
    kill(1)
    while g.state == "running": sleep(0.0005)
    print(g.state)
    os.unlink("hold")
    assert started.recv() == g.id
    print(g.state, g._proc)
    gate.send("done")
    print(g.result(), g.state)
    """
    done = run(script(text), env={"PYTHONPATH": str(tmp_path)})
    assert done.out == "queued\nrunning 1\ndone done\n", done


def test_a_failure_or_a_cancellation_is_no_loss(run: Run) -> None:
    text = """
    runs = Atomic(0)
    def fail():
        runs.add(1)
        raise ValueError("mine")
    g = go.opts(retries=5)(fail)
    print(repr(g.exception()), runs.load())
    g = go.opts(retries=5)(chan().recv)
    while g.state != "running": sleep(0.001)
    g.cancel()
    print(repr(g.exception()))
    """
    assert ok(run(script(text))) == "ValueError('mine') 1\nCancelled()\n"


def test_cancelled_and_lost(run: Run) -> None:
    """cancel() counts for the next run, too."""
    text = """
    started = chan()
    def work():
        started.send(1)
        while True: sum(range(10**6))
    g = go.on(1).opts(retries=5)(work)
    started.recv()
    g.cancel()
    kill(1)
    print(repr(g.exception()))
    """
    assert run(script(text)).out == "Cancelled()\n"


def test_without_a_handle(run: Run) -> None:
    """The statement form: it starts again; lost for good it is a panic."""
    text = """
    runs, done = Atomic(0), chan()
    def work(deaths):
        if runs.add(1) <= deaths: die()
        done.send(runs.load())
    go.opts(retries=2)(work, 2)
    print(done.recv(), flush=True)
    go.opts(retries=1)(work, 100)
    done.recv()
    """
    done = run(script(text))
    assert (done.status, done.out) == (2, "3\n"), done
    assert (
        "panic: goproc.errors.WorkerDied" in done.err and "goroutine 3 [lost with its process]" in done.err
    ), done


def test_all_at_once(run: Run) -> None:
    """Every worker dies while each runs some of many goroutines."""
    text = """
    runs = Atomic(0)
    def work(n):
        runs.add(1)
        sleep(0.001 * (n % 7))
        return n
    tasks = [go.opts(retries=100)(work, n) for n in range(500)]
    for p in (1, 2, 3, 1, 2, 3):
        kill(p)
        sleep(0.05)  # nothing to wait on: any number of them runs again by then
    assert [g.result() for g in tasks] == list(range(500))
    assert runs.load() >= 500
    """
    done = run(script(text), procs=3)
    assert (done.status, done.out) == (0, ""), done


def test_argument_that_was_lost_with_it(run: Run) -> None:
    text = """
    started = chan()
    def wait(): chan().recv()
    def join(handles, **more):
        started.send(1)
        handles["a"][0].join()
    victim, other = go.on(1)(wait), go.on(2)(wait)
    g = go.on(1).opts(retries=1)(join, {"a": [victim]})
    h = go.on(1).opts(retries=1)(join, {"a": [other]})
    started.recv(), started.recv()
    kill(1)
    error = g.exception()
    print(type(error).__name__, error.proc, error.signal, error)
    started.recv()
    print(h.state)
    victim.exception()
    """
    done = run(script(text))
    first, second = done.out.splitlines()
    assert first.startswith(
        "WorkerDied 1 9 goroutine 4 (join) was lost with its process and does not start again, although it has retries: "
        "argument 1 is a handle of goroutine 2, which was lost with it (proc 1"
    ), done
    assert second == "running", done


def test_pinned_to_a_worker_that_is_not_replaced(run: Run) -> None:
    text = """
    g = go.on(1).opts(retries=5)(die_first, Atomic(0), 1)
    try: g.result()
    except WorkerDied as error: print(error)
    print(go.opts(retries=5)(die_first, Atomic(0), 0, "elsewhere").result())
    """
    done = run(script(text), options=["--on-death", "continue"])
    assert "was for proc 1 alone" in done.out and done.out.endswith("\nelsewhere\n"), done


def test_bad_options() -> None:
    for retries, error in ((-1, ValueError), (1.0, TypeError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"go.opts\(retries=...\) takes a"):
            go.opts(retries=retries)
    with pytest.raises(ValueError, match="cannot run again; use go"):
        go.opts(retries=1).local(int)
    assert go.opts(retries=10**9)._limits.retries == 65535
