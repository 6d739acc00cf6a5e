"""The line on stderr about a worker that died: what died, of what, what ran there, what was lost."""

from __future__ import annotations

import re
import signal

import pytest
from programs import Run, Start

LOUD = True
HEAD = """
    import ctypes, os, resource, signal, sys, time
    import goproc
    from goproc import Atomic, Group, WaitGroup, WorkerDied, chan, go, kill, procs, sleep
    from goproc.shm import _core

    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def wait(ready):
        ready.send(1)
        chan().recv()

    def compute(begun):
        begun.store(1)
        while True: pass

    def until(condition):
        while not condition(): sleep(0.001)

    def sleeps(p):
        return _core.proc_facts(p)[2] == 2  # GP_PARKED
"""
PID = r"\(pid \d+\)"
ENDS = "; the worker is replaced\n"


def lines_of(run: Run, text: str, **options: object) -> str:
    """Return the stderr of a script that ends well."""
    done = run(HEAD + text, **options)
    assert (done.status, done.out) == (0, ""), done
    return done.err


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        ("ctypes.string_at(0)", "was killed by signal 11 (SIGSEGV)"),
        ("os.abort()", "was killed by signal 6 (SIGABRT)"),
        ("os._exit(3)", "ended by itself with status 3"),
        ("os.kill(os.getpid(), signal.SIGHUP)", "was killed by signal 1 (SIGHUP)"),
    ],
)
def test_cause(run: Run, end: str, cause: str) -> None:
    text = f"""
    def crash(n):
        {end}
    go.on(1)(crash, 7).exception()
    go.on(1)(crash, 8).exception()
    """
    err = lines_of(run, text)
    for line, n in zip(
        [line for line in err.splitlines() if line.startswith("goproc:")], (7, 8), strict=True
    ):
        start = re.escape(f"{cause} while it ran goroutine {n - 5}: crash(")
        assert re.fullmatch(rf"goproc: proc 1 {PID} {start}(\.\.\.|{n})\)" + ENDS[:-1], line), err


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        ("", ")"),
        ("60", "60)"),
        ("'a.txt', 3, deep=True", "'a.txt', 3, deep=True)"),
        ("1.5, None, False, b'abc'", "1.5, None, False, b'abc')"),
        ("[1, (2,), {'k': 3}], ()", "[1, (2,), {'k': 3}], ())"),
        ('"it\'s\\n"', r"'it\'s\x0a')"),
        ("chan()", "<chan>)"),
        ("'x' * 100", "'" + "x" * 20),
        ("'\\u00e9' * 20", "'" + "é" * 12),
        ("object()", "...)"),
        ("*range(300, 400)", "300, 301, 302, "),
    ],
)
def test_arguments_in_a_short_form(run: Run, call: str, shown: str) -> None:
    text = f"""
    procs()
    go(die, {call}).exception()
    """
    assert f" while it ran goroutine 2: die({shown}" in lines_of(run, text)


@pytest.mark.parametrize(
    "start",
    [
        "go.opts(labels={'k': 'v' * 50})(die, 5)",
        "go.opts(timeout=60)(die, 5)",
        "go.opts(name='die')(die, 5)",
        "WaitGroup().go(die, 5)",
    ],
)
def test_however_it_was_started(run: Run, start: str) -> None:
    text = f"""
    procs()
    {start}.exception()
    """
    assert " while it ran goroutine 2: die(5) (if nobody" in lines_of(run, text)


def test_stack_of_a_crash(run: Run) -> None:
    """The frames of the program follow the line, the innermost first; those of goproc are left out."""
    text = """
    def outer(n):
        inner(n)
    def inner(n):
        ctypes.string_at(n)
    for n in (0, 0):
        go.on(1)(outer, n).exception()
        go.on(1)(die).exception()
    """
    err = lines_of(run, text)
    blocks = err.split("goproc: ")[1:]
    assert len(blocks) == 4
    for crash, kill in (blocks[:2], blocks[2:]):
        frames = re.findall(r'^  File "[^"]*", line \d+ in (\w+)$', crash, re.MULTILINE)
        assert frames == ["string_at", "inner", "outer"] and len(crash.splitlines()) == 4, err
        assert len(kill.splitlines()) == 1


def test_the_programs_own_faulthandler_is_left_alone(run: Run) -> None:
    text = """
    def crash():
        import faulthandler
        faulthandler.enable()
        ctypes.string_at(0)
    go.on(1)(crash).exception()
    """
    err = lines_of(run, text)
    assert "Fatal Python error: Segmentation fault" in err
    assert next(line for line in err.splitlines() if line.startswith("goproc:")).endswith(ENDS[:-1])


def test_others_that_are_lost(run: Run) -> None:
    text = """
    ready = chan()
    waiting = [go.on(1).opts(name=f"w{n}")(wait, ready) for n in range(12)]
    for _ in waiting: ready.recv()
    go.on(1)(die).exception()
    for g in waiting: g.exception()
    """
    err = lines_of(run, text)
    assert " while it ran goroutine 14: die() (if nobody" in err
    found = re.search(
        r"; lost, too:((?: goroutine \d+ \(w\d+\),?)+) and 4 more; the worker is replaced\n", err
    )
    assert found and found[1].count("goroutine") == 8, err


def test_nothing_was_lost(run: Run) -> None:
    text = """
    go.on(1)(int).result()
    until(lambda: sleeps(1))
    kill(1)
    go.on(1)(int).result()
    """
    err = lines_of(run, text)
    assert re.fullmatch(
        rf"goproc: proc 1 {PID} was killed by signal 9 \(SIGKILL\) \(if nobody sent that, the kernel did for want of "
        r"memory; it had \d+ MiB at most\); no goroutine was lost; the worker is replaced\n",
        err,
    ), err


def test_nobody_ran(run: Run) -> None:
    """Goroutines that wait did not run, and neither did those that sleep."""
    text = """
    ready = chan()
    def nap():
        ready.send(1)
        sleep(100)
    lost = [go.on(1)(wait, ready), go.on(1)(wait, ready)]
    ready.recv(), ready.recv()
    until(lambda: sleeps(1))
    kill(1)
    for g in lost: g.exception()
    """
    err = lines_of(run, text)
    assert "while it ran" not in err and err.count("(wait)") == 2 and "; lost: goroutine 2" in err, err


def test_running_goroutine_among_many(run: Run) -> None:
    """After sleeps, yields and waits of others."""
    text = """
    from goproc import yield_now
    def nap(): sleep(100)
    def spin(stop, stopped):
        while not stop.load(): yield_now()
        stopped.store(1)
        sleep(100)
    def last(stop, stopped, begun):
        stop.store(1)
        until(stopped.load)
        compute(begun)
    stop, stopped, begun = Atomic(0), Atomic(0), Atomic(0)
    lost = [go.on(1)(nap), go.on(1)(spin, stop, stopped), go.on(1)(nap), go.on(1)(last, stop, stopped, begun)]
    until(begun.load)
    kill(1)
    for g in lost: g.exception()
    """
    err = lines_of(run, text)
    assert "while it ran goroutine 5: last(<Atomic>, <Atomic>, <Atomic>)" in err, err


def test_not_replaced(run: Run) -> None:
    err = lines_of(run, "\n    go.on(1)(die).exception()\n", options=["--on-death", "continue"])
    assert err.endswith("; the worker is not replaced\n"), err


def test_one_line_for_each_death(run: Run) -> None:
    text = """
    for n in range(10):
        lost = [go.on(p)(die) for p in (1, 2, 3)]
        for g in lost: g.exception()
    """
    err = lines_of(run, text, procs=3)
    assert err.count("\n") == err.count("goproc: proc ") == err.count("while it ran") == 30, err


@pytest.mark.parametrize("how", ["option", "variable", "argument"])
def test_quiet(run: Run, how: str) -> None:
    call = "go.on(1)(die).exception()"
    if how == "argument":
        text = f"""
    with goproc.runtime(2, quiet_deaths=True):
        {call}
    """
        assert lines_of(run, text) == ""
        return
    options = ["--quiet-deaths"] if how == "option" else []
    env = {"GOPROC_QUIET_DEATHS": "1"} if how == "variable" else None
    assert lines_of(run, f"\n    {call}\n", options=options, env=env) == ""


def test_bad_variable(run: Run) -> None:
    done = run("", env={"GOPROC_QUIET_DEATHS": "yes"})
    assert done.status == 2 and "GOPROC_QUIET_DEATHS: 'yes' is neither 0 nor 1" in done.err, done


def test_bad_option(run: Run) -> None:
    done = run("", options=["--quiet-deaths=1"])
    assert done.status == 2 and "--quiet-deaths takes no value" in done.err, done


def test_death_by_a_signal_from_outside(start: Start) -> None:
    text = (
        HEAD
        + """
    begun = Atomic(0)
    g = go.on(1)(compute, begun)
    until(begun.load)
    print("ready", flush=True)
    error = g.exception()
    print(error.signal, error.reason)
    """
    )
    with start(text) as program:
        program.wait_for("ready")
        program.kill(program.worker(1), signal.SIGTERM)
        done = program.wait(10)
    assert done.out.endswith("15 was killed by signal 15 (SIGTERM)\n"), done
    assert "was killed by signal 15 (SIGTERM) while it ran goroutine 2: compute(" in done.err, done
