"""A program that cannot go on is reported, always; one that waits for something is not, however long it does.

A deadlock ends a program, so each example is one, see deadlock_programs.py. With --long there are 200 of each kind, and those
that wait do so for longer than anything in the scheduler that might have an opinion about it.
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import deadlock_programs
import pytest
from programs import run, start

LONG = "GOPROC_TEST_LONG" in os.environ
ASLEEP = "fatal error: all goroutines are asleep - deadlock!\n\n"
IDLE = 1.3 if LONG else 0.4


def some(scripts: list[deadlock_programs.Script], n: int) -> list[object]:
    """All of them with --long, else `n` from the whole range, as parameters."""
    chosen = scripts if LONG else scripts[:: -(-len(scripts) // n)]
    return [pytest.param(script, id=script.name) for script in chosen]


def headers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"^goroutine (\d+) \[[^\]]+\]:$", text, re.M)]


def test_no_two_programs_are_the_same() -> None:
    for scripts in (deadlock_programs.deadlocks(), deadlock_programs.idles(1)):
        assert len({script.text for script in scripts}) >= 190  # some have one text for two numbers of procs
        assert len({(script.text, script.procs) for script in scripts}) == len(scripts) == 200


@pytest.mark.parametrize("script", some(deadlock_programs.deadlocks(), 12))
def test_it_is_reported(tmp_path: Path, script: deadlock_programs.Script) -> None:
    done = run(tmp_path, script.text, procs=script.procs)
    assert done.status == 2 and done.err.startswith(ASLEEP + "goroutine "), done
    assert len(headers(done.err)) == len(set(headers(done.err))) == script.goroutines, done.err


@pytest.mark.parametrize("script", some(deadlock_programs.idles(IDLE), 12))
def test_it_is_not_reported(tmp_path: Path, script: deadlock_programs.Script) -> None:
    done = run(tmp_path, script.text, procs=script.procs)
    assert (done.status, done.out, done.err) == (0, "done\n", "")
    assert done.seconds >= IDLE


@pytest.mark.parametrize("how", ["signal.setitimer(signal.ITIMER_REAL, 0.7)", "signal.alarm(1)"])
@pytest.mark.parametrize("procs", [0, 2])
def test_a_handler_in_any_process_may_wake_somebody(tmp_path: Path, how: str, procs: int) -> None:
    script = f"""
        import signal
        from goproc import chan, go, nil, procs

        def waits():
            c = chan(1)
            signal.signal(signal.SIGALRM, lambda *a: c.send("woken"))
            {how}
            return c.recv()

        go.on(0)(nil.recv)
        print(go.on(procs())(waits).result())
        """
    done = run(tmp_path, script, procs=procs)
    assert (done.status, done.out, done.err) == (0, "woken\n", "")


def test_a_handler_in_a_worker_may_be_run_from_outside(tmp_path: Path) -> None:
    script = """
        import os, signal
        from goproc import chan, go

        def waits():
            c = chan(1)
            signal.signal(signal.SIGUSR1, lambda *a: c.send("woken"))
            print("ready", flush=True)
            return c.recv()

        print(go.on(1)(waits).result())
        """
    with start(tmp_path, script) as program:
        program.wait_for("ready")
        time.sleep(0.3)  # nothing is to happen
        assert program.texts()[1] == ""
        program.kill(program.worker(1), signal.SIGUSR1)
        done = program.wait()
    assert (done.status, done.out, done.err) == (0, "ready\nwoken\n", "")


@pytest.mark.parametrize("procs", [0, 2])
def test_reported_when_the_last_handler_is_gone(tmp_path: Path, procs: int) -> None:
    """A handler of the program's own holds off the report only as long as it is there."""
    script = """
        import signal
        from goproc import after_func, chan, go

        signal.signal(signal.SIGUSR1, print)
        after_func(0.3, lambda: (print("gone", flush=True), signal.signal(signal.SIGUSR1, signal.SIG_DFL)))
        chan().recv()
        """
    done = run(tmp_path, script, procs=procs)
    assert (done.status, done.out) == (2, "gone\n") and done.err.startswith(ASLEEP), done


@pytest.mark.parametrize("procs", [0, 2])
def test_a_handler_that_removes_itself(tmp_path: Path, procs: int) -> None:
    """It comes just when all are found asleep, wakes somebody, and is gone before anybody asks for handlers."""
    script = """
        import random, signal, sys, time
        from goproc import chan, go, runtime

        procs = int(sys.argv[1])

        def waits(c, seconds):
            def handler(*_):
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
                c.try_send(1)
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            c.recv()

        until = time.monotonic() + float(sys.argv[2])
        while time.monotonic() < until:
            with runtime(procs=procs):  # each asks for handlers once a second at most
                go.on(procs)(int).join()
                go.on(procs)(waits, chan(1), random.uniform(0.00002, 0.0008)).join()
        print("done")
        """
    done = run(tmp_path, script, str(procs), "20" if LONG else "2", how="python", procs=None, limit=60)
    assert (done.status, done.out, done.err) == (0, "done\n", "")


def test_a_runtime_of_an_application(tmp_path: Path) -> None:
    """Not under `goproc run`: the program has a runtime of its own, for a while, and again."""
    script = """
        import goproc

        for _ in range(2):
            with goproc.runtime(procs=2):
                assert goproc.go.on(1)(int, "7").result() == 7
        with goproc.runtime(procs=2):
            goproc.go.on(1)(goproc.chan().recv)
            goproc.chan().recv()
        """
    done = run(tmp_path, script, how="python", procs=None)
    assert done.status == 2 and done.err.startswith(ASLEEP) and len(headers(done.err)) == 2, done


@pytest.mark.parametrize("procs", [0, 1, 4])
def test_status_and_output_of_the_end(tmp_path: Path, procs: int) -> None:
    """Lines are not lost, nor main's unfinished one; `finally` blocks and exit handlers do not run, as in Go."""
    script = """
        import atexit
        from goproc import after, chan, go, procs

        atexit.register(print, "exit handler")

        def waits(c):
            print("begun")
            try:
                c.recv()
            finally:
                print("finally")

        go.on(procs())(waits, chan())
        after(0.1).recv()
        print("unfinished line", end=" ")
        chan().recv()
        """
    done = run(tmp_path, script, procs=procs)
    assert done.status == 2 and done.out.split() == ["begun", "unfinished", "line"], done


@pytest.mark.parametrize("how", ["goproc", "python"])
def test_main_ends_before_anything_began(tmp_path: Path, how: str) -> None:
    done = run(tmp_path, "import goproc\ngoproc.goexit()\n", how=how)
    title = "fatal error: no goroutines (main called runtime.Goexit) - deadlock!\n\n"
    assert (done.status, done.out, done.err) == (2, "", title)
