"""Ctrl-C where the main thread comes to no bytecode: the core ends the program, unless Python has seen the signal."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from programs import Program, Run, Start, eventually, ok

HEAD = """
    import atexit, collections, ctypes, itertools, os, signal, threading, time
    from goproc import chan, go, procs, runtime, sleep
    def spin():
        collections.deque(itertools.repeat(0), 0)  # holds the GIL, and does not return
    def deadlock():
        "The C library goes on after EINTR."
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2): ctypes.CDLL(None).pthread_mutex_lock(mutex)
    def ready(): print("ready", flush=True)
    go.on(min(1, procs()))(int).result()
"""
ENDLESS = {
    "main": "ready(); spin()",
    "main, which goes on after EINTR": "ready(); deadlock()",
    "a goroutine of the host": "go.local(spin); ready(); chan().recv()",
    "a thread that keeps the GIL": "threading.Thread(target=spin, daemon=True).start()",
    "in a finally block": "try: ready(); sleep(60)\n    finally: spin()",
}
SEEN = {
    "every worker": "for n in range(procs()): go.on(n + 1)(spin)\n    ready(); chan().recv()",
    "main waits for one": "ready(); go.on(1)(spin).result()",
    "main in pause()": "ready(); ctypes.CDLL(None).pause()",
    "a goroutine in pause()": "go.local(ctypes.CDLL(None).pause); ready(); chan().recv()",
}


def press(program: Program, times: int, pause: float = 0.4) -> None:
    for n in range(times):
        time.sleep(pause if n else 0.1)  # nothing to wait on: the moment of the signal
        try:
            program.interrupt()
        except ProcessLookupError:
            pass


def until_in_c(program: Program, line: str = "spin()") -> None:
    """Wait until the script is in its loop in C: a thread has computed for long, or main sleeps in one wait."""
    before = _computed(program.pid)
    in_main = "Thread" not in line

    def spins() -> bool:
        now = _computed(program.pid)
        return any(now[tid] - before.get(tid, 0) >= 30 for tid in now if (tid == str(program.pid)) == in_main)

    def sleeps() -> bool:
        return _sleeps(program.pid)

    assert eventually(sleeps if "deadlock" in line else spins, 20.0), program.texts()


def _computed(pid: int) -> dict[str, int]:
    """Return the CPU time in user mode of each thread, in hundredths of a second."""
    found = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        try:
            found[folder.name] = int((folder / "stat").read_text().rpartition(")")[2].split()[11])
        except OSError:  # the thread has ended
            pass
    return found


def _sleeps(pid: int) -> bool:
    """Return True if the main thread sleeps all along some time."""

    def look() -> list[str]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return [line for line in lines if line.startswith(("State:", "voluntary_ctxt_switches:"))]

    before = look()
    time.sleep(0.2)  # the time that is looked at
    return look() == before and "S (sleeping)" in before[0]


@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize("procs", [0, 2])
@pytest.mark.parametrize("where", ENDLESS)
def test_python_does_not_see_it(start: Start, where: str, procs: int, presses: int) -> None:
    line = ENDLESS[where]
    with start(f"{HEAD}\n    atexit.register(print, 'exit')\n    {line}\n", procs=procs) as program:
        if "ready" in line:
            program.wait_for("ready")
        if where == "in a finally block":
            press(program, 1)
        until_in_c(program, line)
        press(program, presses)
        done = program.wait(15)
    assert done.status == 130, done
    assert (
        done.err
        == "goproc: interrupted (Ctrl-C); main was in C code and did not answer: no exit handler has run\n"
    )
    assert "exit" not in done.out


@pytest.mark.parametrize("where", SEEN)
def test_python_sees_it(start: Start, where: str) -> None:
    with start(f"{HEAD}\n    atexit.register(print, 'exit')\n    {SEEN[where]}\n") as program:
        program.wait_for("ready")
        press(program, 1)
        done = program.wait(10)
    assert done.status == 130, done
    assert done.err.startswith("goproc: interrupted (Ctrl-C)") and done.err.count("\n") == 1, done
    assert "exit" in done.out


ANSWERS = {
    "an except clause": """
        try: ready(); sleep(60)
        except KeyboardInterrupt: compute(3)""",
    "a finally block": """
        try:
            try: ready(); sleep(60)
            finally: compute(3)
        except KeyboardInterrupt: pass""",
    "a sleep in the clean-up": """
        try: ready(); time.sleep(60)
        except KeyboardInterrupt: time.sleep(3)""",
    "asyncio": """
        import asyncio
        async def main():
            ready()
            try: await asyncio.sleep(60)
            except asyncio.CancelledError: await asyncio.sleep(3)
        try: asyncio.run(main())
        except KeyboardInterrupt: pass""",
    "a handler": """
        signal.signal(signal.SIGINT, lambda *args: None)
        ready()
        collections.deque(itertools.repeat(0, 3 * 10**8), 0)
        compute(1)""",
    "a handler that is taken away again": """
        before = signal.signal(signal.SIGINT, lambda *args: None)
        signal.signal(signal.SIGINT, before)
        try: ready(); sleep(60)
        except KeyboardInterrupt: compute(3)""",
    "C code that returns soon": """
        try: ready(); collections.deque(itertools.repeat(0, 5 * 10**7), 0); sleep(60)
        except KeyboardInterrupt: compute(3)""",
    "a blocked signal": """
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        ready()
        time.sleep(3)""",
}


@pytest.mark.parametrize("procs", [0, 2])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_program_that_answers_is_left_alone(start: Start, answer: str, procs: int) -> None:
    script = f"""{HEAD}
    def compute(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end: pass
    if True:{ANSWERS[answer]}
    print("done")
    """
    with start(script, procs=procs) as program:
        program.wait_for("ready")
        press(program, 1)
        done = program.wait(20)
    assert (done.status, done.out, done.err) == (0, "ready\ndone\n", ""), done


def test_an_exit_handler_that_does_not_return(start: Start) -> None:
    """At first the handlers have their time, whatever is pressed."""
    script = f"{HEAD}\n    atexit.register(spin)\n    ready()\n    sleep(60)\n"
    with start(script) as program:
        program.wait_for("ready")
        press(program, 1)
        until_in_c(program)
        press(program, 1)
        time.sleep(2.2)  # nothing to wait on: longer than a program has to answer where no handler runs
        assert program.alive()
        press(program, 1)
        done = program.wait(10)
    assert done.status == 130, done
    assert done.err == "goproc: interrupted (Ctrl-C); exit handlers were still running\n"


def test_a_stop_is_not_counted(start: Start) -> None:
    """A program that was stopped has not had the time to see the signal."""
    script = f"""{HEAD}
    try:
        ready()
        collections.deque(itertools.repeat(0, 10**8), 0)
        sleep(60)
    except KeyboardInterrupt: print("done")
    """
    with start(script) as program:
        program.wait_for("ready")
        program.interrupt()
        program.kill(number=signal.SIGSTOP)
        time.sleep(2.5)  # nothing to wait on: longer than a program has to answer
        program.kill(number=signal.SIGCONT)
        done = program.wait(10)
    assert (done.status, done.out) == (0, "ready\ndone\n"), done


def test_presses_between_repetitions(start: Start) -> None:
    """A goroutine keeps the host, so that the runtime repeats the signal for main. A second press is known from that."""
    script = f"""{HEAD}
    def burn():
        while True:
            try:
                while True: pass
            except KeyboardInterrupt: pass
    go.local(burn)
    try:
        ready()
        chan().recv()
    except KeyboardInterrupt:
        print("heard", flush=True)
        sleep(60)
    """
    with start(script) as program:
        program.wait_for("ready")
        press(program, 1)
        program.wait_for("heard")
        press(program, 1)
        done = program.wait(10)
    assert done.status == 130, done


def test_python_s_own_handler_is_back_after_a_block(run: Run) -> None:
    script = """
        import signal
        from goproc import go, runtime
        with runtime(procs=2):
            go(int).result()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        try: signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt: print("as ever")
    """
    assert ok(run(script, how="python")) == "as ever\n"
