"""go.opts(timeout=s, grace=g): cancelled, and killed with its worker if that does not help."""

from __future__ import annotations

import re

import pytest
from programs import Run, ok

import goproc
from goproc import TaskTimeout, chan, context, go, pmap, sleep

LOUD = True
HEAD = """
    import os, re, signal, sys, time
    import goproc
    from goproc import Atomic, TaskTimeout, WorkerDied, chan, context, go, proc, sleep

    def hang_in_c():
        re.match(r"(a|a)+$", "a" * 60 + "b")

    def compute():
        while True: pass

    def show(error):
        print(type(error).__name__, re.sub(r"pid \\d+", "pid N", str(error)))
"""


def script(text: str) -> str:
    return HEAD + text


# -- cancelled ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["local", "on"])
def test_cancelled_where_it_waits(runtime2: object, where: str) -> None:
    log = chan(1)

    def wait() -> None:
        try:
            chan().recv()
        finally:
            log.send("cleaned up")

    start = go.opts(timeout=0.05, grace=30)
    g = start.local(wait) if where == "local" else start.on(1)(wait)
    with pytest.raises(TaskTimeout, match=r"goroutine \d+ \(.*wait\) had not ended after 0.05 s") as caught:
        g.result()
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value.__cause__, goproc.Cancelled)
    assert log.recv() == "cleaned up"
    assert g.state == "failed"


def test_the_time_counts_from_the_start(runtime1: object) -> None:
    """A goroutine that waits for a worker has all of its time."""
    gate = chan()

    def keep() -> None:
        sleep(0.2)  # nothing to wait on: longer than the other one's time

    first = go(keep)
    later = go.opts(timeout=0.15, grace=30).on(1)(lambda: "done")
    assert later.result() == "done"
    first.result()
    gate.close()


def test_ends_in_time(runtime2: object) -> None:
    def work() -> str:
        sleep(0.001)
        return "done"

    assert go.opts(timeout=30, grace=0)(work).result() == "done"
    assert go.opts(timeout=float("inf"))(work).result() == "done"
    assert go.opts(timeout=30).opts(name="x")(work).name == "x"
    assert go.opts(timeout=0)(int).result() == 0  # it never waits


@pytest.mark.parametrize("seconds", [1e9, 1e18, 1e300])
def test_a_time_that_does_not_come(runtime1: object, seconds: float) -> None:
    assert go.opts(timeout=seconds)(lambda: sleep(0.001)).result() is None
    assert go.opts(timeout=0.05, grace=seconds)(int).result() == 0
    assert list(pmap(int, ["1", "2"], timeout=seconds)) == [1, 2]


def test_a_result_in_the_grace_counts(runtime2: object) -> None:
    def finish() -> str:
        try:
            chan().recv()
        except goproc.Cancelled:
            return "partial"
        return ""

    assert go.opts(timeout=0.02, grace=30)(finish).result() == "partial"


def test_another_exception_in_the_grace_counts(runtime2: object) -> None:
    def finish() -> None:
        try:
            chan().recv()
        except goproc.Cancelled:
            raise KeyError("mine") from None

    with pytest.raises(KeyError, match="mine"):
        go.opts(timeout=0.02, grace=30)(finish).result()


def test_cancelled_by_somebody_else(runtime2: object) -> None:
    g = go.opts(timeout=30)(chan().recv)
    g.cancel()
    with pytest.raises(goproc.Cancelled):
        g.result()


def test_shielded_in_the_grace(runtime2: object) -> None:
    ready = chan(1)

    def work(gate: object) -> str:
        with context.shield():
            ready.send(1)
            gate.recv()
        return "shielded"

    gate = chan()
    g = go.opts(timeout=0.02, grace=30)(work, gate)
    ready.recv()
    sleep(0.05)  # nothing to wait on: its time is over by then
    gate.send(1)
    assert g.result() == "shielded"


def test_many_with_limits_switch_often(runtime2: object) -> None:
    def ping(rx: object, tx: object) -> int:
        n = 0
        for value in rx:
            n += value
            tx.send(n)
        return n

    channels = [(chan(), chan()) for _ in range(20)]
    tasks = [go.opts(timeout=60)(ping, a, b) for a, b in channels]
    for _ in range(20):
        for a, _b in channels:
            a.send(1)
        for _a, b in channels:
            b.recv()
    for a, _b in channels:
        a.close()
    assert [g.result() for g in tasks] == [20] * 20


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["hang_in_c", "compute"])
def test_killed_with_its_worker(run: Run, what: str) -> None:
    text = f"""
    pid = go.on(1)(os.getpid).result()
    g = go.on(1).opts(timeout=0.1, grace=0.1)({what})
    show(g.exception())
    print(type(g.exception().__cause__).__name__, g.exception().__cause__.timed_out)
    print(go.on(1)(os.getpid).result() != pid)
    """
    done = run(script(text))
    assert done.out == (
        f"TaskTimeout goroutine 3 ({what}) had not ended in the time of go.opts(timeout=..., grace=...): its worker, "
        "proc 1 (pid N), was killed\nWorkerDied True\nTrue\n"
    ), done
    assert re.fullmatch(
        rf"goproc: proc 1 \(pid \d+\) was killed, as goroutine 3 had not ended in time: {what}\(\); "
        r"the worker is replaced\n",
        done.err,
    ), done


def test_clean_up_that_does_not_end(run: Run) -> None:
    text = """
    def stubborn():
        try: chan().recv()
        finally: chan().recv()
    def shielded():
        with context.shield(): chan().recv()
    for f in (stubborn, shielded): show(go.opts(timeout=0.05, grace=0.05)(f).exception())
    """
    done = run(script(text))
    assert [line.split()[0] for line in done.out.splitlines()] == ["TaskTimeout"] * 2, done


def test_another_that_keeps_the_process_is_not_killed(run: Run) -> None:
    """The one whose time is over waits. Another computes, which has more time: it is not to blame."""
    text = """
    ready = chan()
    def wait():
        ready.send(1)
        chan().recv()
    def work():
        ready.send(1)
        end = time.monotonic() + 0.6
        while time.monotonic() < end: sum(range(10**5))
        return "done"
    a = go.on(1).opts(timeout=0.1, grace=0.1)(wait)
    ready.recv()
    b = go.on(1).opts(timeout=30)(work)
    ready.recv()
    print(b.result())
    show(a.exception())
    """
    done = run(script(text), env={"GOPROC_PREEMPT": "0"})
    assert done.out == (
        "done\nTaskTimeout goroutine 2 (wait) had not ended after 0.1 s (go.opts(timeout=...)) and was cancelled\n"
    ), done
    assert done.err == ""


def test_others_that_are_lost(run: Run) -> None:
    """They get WorkerDied, which says for whose sake. Those with retries start again, and that does not count."""
    text = """
    ready, gate = chan(), chan()
    def wait():
        ready.send(1)
        return gate.recv()
    innocent = go.on(1)(wait)
    again = go.on(1).opts(retries=1)(wait)
    ready.recv(), ready.recv()
    for _ in range(3):
        go.on(1).opts(timeout=0.05, grace=0.05, name="slow")(hang_in_c).exception()
        ready.recv()
    error = innocent.exception()
    show(error)
    print(error.timed_out)
    gate.send("kept on")
    print(again.result())
    """
    done = run(script(text))
    assert done.out == (
        "WorkerDied goroutine 2 (wait) was lost with its process: proc 1 (pid N) was killed by signal 9 (SIGKILL), as "
        "goroutine 4 had not ended in time: slow()\nTrue\nkept on\n"
    ), done


def test_a_time_that_is_over_is_no_loss(run: Run) -> None:
    text = """
    runs = Atomic(0)
    def work():
        runs.add(1)
        hang_in_c()
    show(go.opts(timeout=0.05, grace=0.05, retries=5)(work).exception())
    print(runs.load())
    """
    done = run(script(text))
    assert done.out.startswith("TaskTimeout") and done.out.endswith("\n1\n"), done


def test_killed_for_another_reason(run: Run) -> None:
    """The time of a goroutine has nothing to do with the death of its worker."""
    text = """
    def work():
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    error = go.opts(timeout=60)(work).exception()
    print(type(error).__name__, error.timed_out)
    """
    assert run(script(text)).out == "WorkerDied False\n"


def test_nobody_is_killed_in_the_host(run: Run) -> None:
    text = """
    def work():
        time.sleep(0.4)  # longer than the limit
        return os.getpid()
    assert go.opts(timeout=0.05, grace=0.05).local(work).result() == os.getpid()
    show(go.opts(timeout=0.05, grace=0.05).local(chan().recv).exception())
    """
    for procs in (0, 2):
        assert ok(run(script(text), procs=procs)).startswith("TaskTimeout"), procs


def test_many_that_hang(run: Run) -> None:
    """Every fourth hangs; the others have results, and all the time for them. Nobody waits for ever."""
    text = """
    def work(n):
        if n % 4 == 0: compute()
        return n
    tasks = [go.opts(timeout=60 if n % 4 else 0.2, grace=0.05)(work, n) for n in range(20)]
    print([n if g.exception() is None else type(g.exception()).__name__ for n, g in enumerate(tasks)])
    """
    done = run(script(text), options=["--quiet-deaths"])
    assert eval(done.out) == ["TaskTimeout" if n % 4 == 0 else n for n in range(20)], done
    assert done.err == ""


# -- misused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"timeout": -1}, ValueError, r"go.opts\(timeout=...\) takes seconds from 0 on, not -1"),
        ({"timeout": float("nan")}, ValueError, r"go.opts\(timeout=...\) takes seconds from 0 on, not nan"),
        ({"timeout": "1"}, TypeError, r"go.opts\(timeout=...\) takes seconds as a number, not str"),
        ({"timeout": True}, TypeError, "not bool"),
        (
            {"timeout": 1, "grace": -0.5},
            ValueError,
            r"go.opts\(grace=...\) takes seconds from 0 on, not -0.5",
        ),
        ({"grace": 1}, ValueError, r"go.opts\(grace=...\) counts from the end of a timeout: give timeout="),
    ],
)
def test_bad_options(options: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        go.opts(**options)
    with pytest.raises(error, match=text):
        go.opts(name="x").opts(**options)
