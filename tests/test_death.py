"""Ends that nobody asked for: kill -9 of any process, crashes, Ctrl-C, SIGTERM; and processes that programs fork."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import programs
import pytest
from programs import Done, Program

Run = Callable[..., Done]
Start = Callable[..., AbstractContextManager[Program]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return partial(programs.run, tmp_path)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return partial(programs.start, tmp_path)


# What a program may be doing when it is hit. Each prints "ready" once it does it.
DOING = {
    "idle": """
        from goproc import go, chan, procs, sleep
        go.local(sleep, 100)  # else all would be asleep for ever, which is a fatal error
        for i in range(procs()): go.on(i)(chan().recv)
        go.on(1)(int).result()
        print("ready", flush=True)
        chan().recv()
    """,
    "streaming": """
        from goproc import go, chan, procs
        ch = chan(64)
        started = chan(4)
        def produce(ch):
            started.send(1)
            i = 0
            while True:
                ch.send((i, "text", "x" * (i % 200) * (i % 100)))
                i += 1
        for i in range(1, procs()): go.on(i)(produce, ch)
        for _ in range(1, procs()): started.recv()
        for _ in range(1000): ch.recv()
        print("ready", flush=True)
        for _ in ch: pass
    """,
    "spawning": """
        from goproc import go, chan, WaitGroup, yield_now
        wg = WaitGroup()
        said = False
        while True:
            wg.go(pow, 2, 10)
            if wg.count > 1000: wg.wait()
            if not said:
                wg.wait()
                print("ready", flush=True)
                said = True
    """,
    "computing": """
        from goproc import go, chan, procs
        started = chan(4)
        def burn():
            started.send(1)
            while True: pass
        for i in range(1, procs()): go.on(i)(burn)
        for _ in range(1, procs()): started.recv()
        print("ready", flush=True)
        while True: pass
    """,
    "printing": """
        from goproc import go, chan, procs
        started = chan(4)
        def chatter(name):
            started.send(1)
            while True: print(name * 100)
        for i in range(1, procs()): go.on(i)(chatter, str(i))
        for _ in range(1, procs()): started.recv()
        print("ready", flush=True)
        chatter("0")
    """,
}
EACH = pytest.mark.parametrize("doing", list(DOING))


# -- kill -9 -------------------------------------------------------------------------------------------------


@EACH
def test_kill_the_host(start: Start, doing: str) -> None:
    with start(DOING[doing], procs=3) as program:
        program.wait_for("ready")
        program.kill()
        assert program.wait().status == -signal.SIGKILL


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.06, 0.08, 0.1, 0.12, 0.15])
def test_kill_the_host_while_it_starts(start: Start, delay: float) -> None:
    with start(DOING["streaming"], procs=4, how="python") as program:
        time.sleep(delay)
        program.kill()
        assert program.wait().status == -signal.SIGKILL


@EACH
def test_kill_the_zygote(start: Start, doing: str) -> None:
    with start(DOING[doing], procs=3) as program:
        program.wait_for("ready")
        program.kill(program.zygote())
        done = program.wait(5)
    assert done.status == 2, done
    assert done.err == "fatal error: goproc's zygote process died (killed?), and the workers with it\n"


@EACH
def test_kill_a_worker(start: Start, doing: str) -> None:
    with start(DOING[doing], procs=3) as program:
        program.wait_for("ready")
        victim = program.worker(random.choice([1, 2]))
        number = next(p.name for p in program.alive() if p.pid == victim)[-1]
        program.kill(victim)
        done = program.wait(5)
    assert done.status == 2, done
    first, _, rest = done.err.partition("\n")
    assert first.startswith(f"fatal error: proc {number} (pid {victim}) was killed by signal 9 (SIGKILL)")
    assert done.err.count("fatal error") == 1 and "Traceback" not in done.err
    if doing in ("streaming", "computing", "printing"):
        name = {"streaming": "produce", "computing": "burn", "printing": "chatter"}[doing]
        assert re.fullmatch(rf"1 goroutine was lost with it:\n    goroutine \d+: {name}\n", rest), done.err


@pytest.mark.parametrize("attempt", range(6))
def test_kill_any_process_at_any_moment(start: Start, attempt: int) -> None:
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    doing = dice.choice(list(DOING))
    with start(DOING[doing], procs=3, how="python") as program:
        time.sleep(dice.random() * 0.4)
        victim = dice.choice(program.alive())
        try:
            program.kill(victim.pid)
        except ProcessLookupError:
            pytest.fail(f"{victim} ended by itself: {program.texts()}")
        done = program.wait(5)
    message = f"seed {seed}: {doing}, {victim}, {done}"
    assert done.status == (-signal.SIGKILL if victim.pid == program.pid else 2), message
    assert done.err.count("fatal error") == (victim.pid != program.pid) and "Traceback" not in done.err, (
        message
    )


def test_all_workers_are_killed_at_once(start: Start) -> None:
    with start(DOING["idle"], procs=4) as program:
        program.wait_for("ready")
        victims = [program.worker(i) for i in (1, 2, 3)]
        program.kill(victims[0])
        for pid in victims[1:]:
            try:
                program.kill(pid)
            except ProcessLookupError:
                pass  # the first death has ended the program already
        done = program.wait(5)
    assert done.status == 2 and done.err.count("fatal error") == 1, done


def test_the_goroutines_of_a_dead_worker_are_named(start: Start) -> None:
    script = """
        from goproc import go, chan, sleep
        go.local(sleep, 100)
        ready = chan(3)
        def first(): ready.send(1); chan().recv()
        def second(): ready.send(1); chan().recv()
        def elsewhere(): ready.send(1); chan().recv()
        a, b = go.on(1)(first), go.on(1).opts(name="nick")(second)
        go.on(2)(elsewhere)
        for _ in range(3): ready.recv()
        print(a.id, b.id, flush=True)
        go(chan().recv)
        chan().recv()
    """
    with start(script, procs=3) as program:
        program.wait_for("\n")
        a, b = program.texts()[0].split()
        program.kill(program.worker(1))
        done = program.wait(5)
    lines = done.err.splitlines()
    assert lines[1] == "2 goroutines were lost with it:", done.err
    assert sorted(lines[2:]) == sorted([f"    goroutine {a}: first", f"    goroutine {b}: nick"])


def test_the_report_names_what_only_that_process_would_have_started(run: Run) -> None:
    script = """
        import os, signal
        from goproc import go, chan
        begun = chan()
        def last():
            begun.send(1)
            while True: sum(range(10**6))  # C code is not interrupted
        pid = go.on(1)(os.getpid).result()
        kept = [go.on(1)(last)]
        begun.recv()
        kept += [go.on(1)(waits) for waits in (int, str)]
        for other in [go(int) for _ in range(3)]: other.join()
        os.kill(pid, signal.SIGKILL)
        chan().recv()
    """
    done = run(script, env={"GOPROC_PREEMPT": "0"})
    lines = done.err.splitlines()
    assert (done.status, lines[1]) == (2, "3 goroutines were lost with it:"), done.err
    assert sorted(re.sub(r"\d+", "N", line) for line in lines[2:]) == [
        f"    goroutine N: {name}" for name in ("int (not started)", "last", "str (not started)")
    ]


@pytest.mark.parametrize(
    "main", ["g.result()", "wg.wait()", "ch.recv()", "sleep(60)", "time.sleep(60)", "thread()"]
)
def test_nothing_hangs_on_a_dead_worker(run: Run, main: str) -> None:
    script = f"""
        import os, signal, time, threading
        from goproc import go, chan, sleep, WaitGroup
        def thread():
            t = threading.Thread(target=ch.recv)
            t.start()
            t.join()
        def dies():
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        ch, wg = chan(), WaitGroup()
        wg.add(1)
        g = go.on(1)(dies)
        {main}
    """
    done = run(script)
    assert done.status == 2 and done.err.count("fatal error: proc 1") == 1, done
    assert "goroutine was lost with it:" in done.err and ": dies\n" in done.err


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ("ctypes.string_at(0)", "was killed by signal 11 (SIGSEGV)"),
        ("os.abort()", "was killed by signal 6 (SIGABRT)"),
        ("os._exit(3)", "ended by itself with status 3"),
        ("os._exit(0)", "ended by itself with status 0"),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(10)", "was killed by signal 15 (SIGTERM)"),
        ("os.kill(os.getpid(), signal.SIGHUP)", "was killed by signal 1 (SIGHUP)"),
        (
            "resource.setrlimit(resource.RLIMIT_CPU, (1, 2)); [0 for _ in iter(int, 1)]",
            "was killed by signal",
        ),
    ],
)
def test_crashes_of_a_worker(run: Run, end: str, text: str) -> None:
    script = f"""
        import ctypes, os, resource, signal, time
        from goproc import go, chan
        def crash():
            print("last words", end="", flush=True)
            {end}
        go.on(1)(crash)
        chan().recv()
    """
    done = run(script)
    assert (done.status, done.out) == (2, "last words"), done
    assert re.match(rf"fatal error: proc 1 \(pid \d+\) {re.escape(text)}", done.err), done.err
    assert done.err.count("fatal error") == 1 and ": crash\n" in done.err


def test_faulthandler_works_in_a_worker(run: Run) -> None:
    script = """
        import ctypes
        from goproc import go, chan
        def crash():
            import faulthandler
            faulthandler.enable()
            ctypes.string_at(0)
        go.on(1)(crash)
        chan().recv()
    """
    done = run(script)
    assert done.status == 2 and "Segmentation fault" in done.err and "in crash" in done.err


def test_stopped_workers_do_not_hold_up_the_end(start: Start) -> None:
    script = """
        from goproc import go, chan, procs
        for i in range(procs()): go.on(i)(int).result()
        print("ready", flush=True)
        input()
    """
    with start(script, procs=3, stdin=subprocess.PIPE) as program:
        program.wait_for("ready")
        program.kill(program.worker(1), signal.SIGSTOP)
        program.type("\n")
        done = program.wait(5)
    assert (done.status, done.err) == (0, "")


def test_a_stopped_zygote_does_not_hold_up_the_end(start: Start) -> None:
    script = 'from goproc import go\ngo.on(1)(int).result()\nprint("ready", flush=True)\ninput()\n'
    with start(script, stdin=subprocess.PIPE) as program:
        program.wait_for("ready")
        program.kill(program.zygote(), signal.SIGSTOP)
        program.type("\n")
        done = program.wait(10)
    assert (done.status, done.err) == (0, "")


# -- Ctrl-C --------------------------------------------------------------------------------------------------

WAITS = {
    "recv": "chan().recv()",
    "send": "chan().send(1)",
    "for": "for v in chan(): pass",
    "result": "go.on(1)(chan().recv).result()",
    "WaitGroup": "wg = WaitGroup(); wg.add(1); wg.wait()",
    "sleep": "sleep(60)",
    "time.sleep": "time.sleep(60)",
    "computing": "while True: pass",
    "C code": "sum(range(10**11))",
    "a goroutine computes here": "go.local(burn); chan().recv()",
    "a goroutine sleeps here": "go.local(time.sleep, 60); chan().recv()",
    "workers compute": "go.on(1)(burn); chan().recv()",
    "many wait here": "for _ in range(100): go.on(0)(chan().recv)\nchan().recv()",
    "streaming": "ch = chan(16); go.on(1)(stream, ch)\nfor v in ch: pass",
    "spawning": "while True: go(int).join()",
    "a thread waits": "t = threading.Thread(target=quiet, daemon=True); t.start(); t.join()",
    "a lock": "threading.Lock().acquire() and threading.Event().wait()",
}
C_CODE = {"C code"}  # Python itself looks at signals between bytecodes only


@pytest.mark.parametrize("where", [w for w in WAITS if w not in C_CODE])
def test_ctrl_c(start: Start, where: str) -> None:
    indented = WAITS[where].replace("\n", "\n        ")
    script = f"""
        import threading, time
        from goproc import go, chan, sleep, WaitGroup, RuntimeStopped
        def burn():
            while True: pass
        def stream(ch):
            while True: ch.send(1)
        def quiet():
            try: chan().recv()
            except RuntimeStopped: pass
        go.on(1)(int).result()
        go.on(1)(sleep, 100)  # something is still to come: it is no deadlock
        print("ready", flush=True)
        print("unfinished", end="")
        {indented}
    """
    with start(script) as program:
        program.wait_for("ready")
        time.sleep(0.05)
        program.interrupt()
        done = program.wait(2.0)
    assert done.status == 130, done
    assert done.out == "ready\nunfinished"
    assert re.fullmatch(
        r"goproc: interrupted \(Ctrl-C\)(; \d+ goroutines? of this process ended)?\n", done.err
    ), done.err


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.02, 0.04, 0.06, 0.1])
def test_ctrl_c_while_it_starts(start: Start, delay: float) -> None:
    """Before the runtime is there the traceback is Python's own; workers add nothing to it in any case."""
    script = """
        import goproc
        print("begun", flush=True)
        from goproc import go, chan, sleep
        go.on(1)(sleep, 100)
        chan().recv()
    """
    with start(script, how="python") as program:
        program.wait_for("begun")
        time.sleep(delay)
        program.interrupt()
        done = program.wait(2.0)
    assert done.status in (130, -signal.SIGINT), done
    if done.status == 130:
        assert done.err.startswith("goproc: interrupted (Ctrl-C)") and done.err.count("\n") == 1
    else:
        assert done.err.startswith("Traceback") and done.err.endswith("KeyboardInterrupt\n")
        assert "worker" not in done.err, done.err


def test_ctrl_c_while_goproc_loads(start: Start) -> None:
    """At every module that loading goproc imports: Python would drop it in a callback of the import system."""
    script = """
        import signal, sys
        import goproc
        class Pressed:
            pressed = False
            def find_spec(self, name, path=None, target=None):
                if name == sys.argv[1]:
                    signal.raise_signal(signal.SIGINT)
                    Pressed.pressed = True
        sys.meta_path.insert(0, Pressed())
        try:
            from goproc import go
        except KeyboardInterrupt:
            print(Pressed.pressed, "goproc.host" in sys.modules, signal.getsignal(signal.SIGINT).__name__)
        from goproc import go
        print(go(int, "7").result())
    """
    for module in ("goproc.host", "greenlet", "goproc.scheduler"):
        with start(script, module, how="python") as program:
            done = program.wait(5)
        assert done.out == "True True default_int_handler\n7\n", (module, done)


def test_ctrl_c_where_python_drops_it(start: Start) -> None:
    """Raised in a __del__ it is only printed, and forgotten; main hears of it all the same, or the user's handler does."""
    script = """
        import signal, sys, time
        from goproc import go, chan
        class Slow:
            def __del__(self):
                print("deleting", flush=True)
                end = time.monotonic() + 60
                while time.monotonic() < end: time.sleep(0.001)
        go.on(1)(int).result()
        Slow()
        how = sys.argv[1]
        if how == "blocks": chan().recv()
        while how == "computes": pass
    """
    for how in ("blocks", "computes"):
        with start(script, how) as program:
            program.wait_for("deleting")
            program.interrupt()
            done = program.wait(2)
        assert (done.status, done.err) == (130, "goproc: interrupted (Ctrl-C)\n"), (how, done)


def test_a_handler_that_raises(start: Start) -> None:
    """Whatever runs when the signal comes: the exception reaches main, and the program goes on."""
    script = """
        import signal, sys
        from goproc import go, chan, sleep
        class Alarm(Exception): pass
        def handler(number, frame): raise Alarm
        signal.signal(signal.SIGALRM, handler)
        ch = chan()
        for before in (lambda: None, lambda: go.local(int), lambda: go.on(0)(int), lambda: go.on(0)(chan().recv)):
            for block in (ch.recv, lambda: sleep(60), go.on(1)(chan().recv).result):
                kept = before()
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                try: block()
                except Alarm: pass
                g = go.on(1)(ch.send, 5)
                h = go.on(0)(lambda: 6)
                print(ch.recv(), h.result(), go.local(int).result(), end=" ")
    """
    with start(script) as program:
        done = program.wait(5)
    assert (done.status, done.err) == (0, ""), done
    assert done.out == "5 6 0 " * 12


def test_ctrl_c_is_an_exception_in_main(start: Start) -> None:
    script = """
        from goproc import go, chan, sleep
        go.on(1)(sleep, 100)
        ch = chan()
        g = go.on(1)(ch.recv)
        try:
            print("ready", flush=True)
            chan().recv()
        except KeyboardInterrupt:
            print("caught", flush=True)
        ch.send(5)
        print(g.result(), go.on(1)(int).result())
        try:
            print("again", flush=True)
            while True: pass
        except KeyboardInterrupt:
            print("caught again")
        go.local(chan().recv)
        sleep(0.05)
        print("end")
    """
    with start(script) as program:
        program.wait_for("ready")
        time.sleep(0.05)
        program.interrupt()
        program.wait_for("again")
        time.sleep(0.05)
        program.interrupt()
        done = program.wait()
    assert (done.status, done.err) == (0, ""), done
    assert done.out == "ready\ncaught\n5 0\nagain\ncaught again\nend\n"


def test_ctrl_c_runs_mains_finally_blocks_and_atexit(start: Start) -> None:
    script = """
        import atexit
        from goproc import go, chan, sleep
        atexit.register(print, "atexit")
        go.on(1)(sleep, 100)
        def other():
            try: chan().recv()
            finally: print("other")
        go.on(0)(other)
        go.on(1)(other)
        try:
            print("ready", flush=True)
            chan().recv()
        finally:
            print("finally")
    """
    with start(script) as program:
        program.wait_for("ready")
        time.sleep(0.1)
        program.interrupt()
        done = program.wait(2.0)
    assert (done.status, done.out) == (130, "ready\nfinally\natexit\n"), done


def test_ctrl_c_that_main_does_not_come_to_hear_of(run: Run) -> None:
    """It meets another goroutine, and main ends without another operation."""
    script = """
        import os, signal
        from goproc import WaitGroup, go
        wg = WaitGroup()
        wg.add(1)
        def last():
            try: os.kill(os.getpid(), signal.SIGINT)
            finally: wg.done()
        go.local(last)
        wg.wait()
        print("main ends")
    """
    done = run(script)
    assert done.status == 130 and done.err.startswith("goproc: interrupted (Ctrl-C)"), done


@pytest.mark.parametrize("main", ["time.sleep(60)", "sleep(60)", "chan().recv()", "burn()"])
def test_ctrl_c_twice(start: Start, main: str) -> None:
    script = f"""
        import time
        from goproc import go, chan, sleep
        def burn():
            while True: pass
        go.on(1)(sleep, 100)
        try:
            print("ready", flush=True)
            chan().recv()
        finally:
            print("cleaning up", flush=True)
            {main}
    """
    with start(script) as program:
        program.wait_for("ready")
        time.sleep(0.05)
        program.interrupt()
        program.wait_for("cleaning up")
        program.interrupt()
        done = program.wait(2.0)
    assert done.status == 130 and done.err.startswith("goproc: interrupted (Ctrl-C)"), done
    assert done.err.count("\n") == 1


def test_ctrl_c_many_times(start: Start) -> None:
    """Held down."""
    with start(DOING["streaming"], procs=3) as program:
        program.wait_for("ready")
        for _ in range(20):
            try:
                program.interrupt()
            except ProcessLookupError:
                break
            time.sleep(0.005)
        done = program.wait(2.0)
    assert done.status == 130 and done.err.count("\n") == 1 and "Traceback" not in done.err, done


def test_ctrl_c_against_a_goroutine_that_swallows_it(start: Start) -> None:
    script = """
        from goproc import go, chan
        def stubborn():
            while True:
                try:
                    n = 0  # a loop that begins the block would jump out of it in Python 3.11, for that instant
                    while True: n += sum(range(100))
                except KeyboardInterrupt: pass
        go.local(stubborn)
        print("ready", flush=True)
        chan().recv()
    """
    with start(script) as program:
        program.wait_for("ready")
        time.sleep(0.05)
        program.interrupt()
        done = program.wait(2.0)  # its slice ends, and main hears of it
    assert (done.status, done.out) == (130, "ready\n")
    assert done.err == "goproc: interrupted (Ctrl-C); 1 goroutine of this process ended\n"


def test_the_users_own_handlers_stay(start: Start) -> None:
    script = """
        import signal, sys
        from goproc import go, chan
        def handler(number, frame):
            print("got", number, flush=True)
            if number == signal.SIGTERM: sys.exit(5)
        signal.signal(signal.SIGINT, handler)
        signal.signal(signal.SIGTERM, handler)
        go.on(1)(int).result()
        print("ready", flush=True)
        chan().recv()
    """
    with start(script) as program:
        program.wait_for("ready")
        program.interrupt()
        program.wait_for("got 2")
        program.kill(number=signal.SIGTERM)
        done = program.wait(2.0)
    assert (done.status, done.err) == (5, ""), done


def test_a_signal_handler_that_prints(run: Run) -> None:
    """It may have interrupted a print: that must neither deadlock nor tear a line."""
    script = """
        import itertools, signal, sys, time
        from goproc import go
        counter = itertools.count(1)
        def say(*words):  # print() writes in pieces, between which a handler can come, as in any Python
            sys.stdout.write(" ".join(map(str, words)) + "\\n")
        def handler(number, frame):
            mine = next(counter)
            say("handler", mine, "h" * (9000 if mine % 3 == 0 else 10))
        def chatter(name, seconds):
            i, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                i += 1
                say(name, i, name[0] * (9000 if i % 5 == 0 else 10))
            return i
        signal.signal(signal.SIGALRM, handler)
        other = go.on(1)(chatter, "worker", 1)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        i = chatter("main", 1)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("end", i, other.result(), next(counter) - 1)
    """
    done = run(script)
    assert (done.status, done.err) == (0, "")
    *lines, last = done.out.splitlines()
    end, *counts = last.split()
    assert end == "end" and int(counts[2]) > 20
    for name, count in zip(("main", "worker", "handler"), counts, strict=True):
        step = 3 if name == "handler" else 5
        expected = [
            f"{name} {i} " + name[0] * (9000 if i % step == 0 else 10) for i in range(1, int(count) + 1)
        ]
        mine = [line for line in lines if line.startswith(f"{name} ")]
        assert sorted(mine) == sorted(expected)  # a handler may interrupt itself


def test_ctrl_c_reaches_the_programs_that_goroutines_started(start: Start) -> None:
    script = """
        import subprocess
        from goproc import go, chan, sleep
        go.on(1)(sleep, 100)
        def child():
            with subprocess.Popen(["sleep", "60"]) as p:
                print("ready", flush=True)
                return p.wait()
        go.on(1)(child)
        chan().recv()
    """
    with start(script) as program:
        program.wait_for("ready")
        program.interrupt()
        assert program.wait(2.0).status == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@EACH
def test_sigterm_ends_the_host(start: Start, doing: str, number: int) -> None:
    if number == signal.SIGHUP and doing != "idle":
        pytest.skip("the same as SIGTERM")
    with start(DOING[doing], procs=3) as program:
        program.wait_for("ready")
        program.kill(number=number)
        done = program.wait()
    assert (done.status, done.err) == (-number, "")


def test_signals_of_a_worker_group_do_no_harm(start: Start) -> None:
    script = """
        import os, signal
        from goproc import go
        def f():
            os.kill(os.getpid(), signal.SIGINT)
            return sum(range(10**6))
        print([go.on(1)(f).result() for _ in range(3)])
    """
    with start(script) as program:
        done = program.wait()
    assert (done.status, done.out, done.err) == (0, "[499999500000, 499999500000, 499999500000]\n", "")


# -- processes that the program forks ------------------------------------------------------------------------


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("proc", [0, 1])
@pytest.mark.parametrize("end", ["os._exit(7)", "sys.exit(7)", "raise SystemExit(7)"])
def test_a_forked_child_gets_a_clear_error(run: Run, proc: int, end: str) -> None:
    script = f"""
        import os, sys, warnings
        import goproc
        from goproc import go, chan, RuntimeStopped
        ch = chan(1)
        ch.send("kept")
        def work():
            warnings.simplefilter("ignore")  # Python 3.12 warns of fork() in a process with threads
            g, at = go(int), goproc.Atomic(1)
            pid = os.fork()
            if pid == 0:
                for use in (lambda: ch.recv(), lambda: ch.try_send(1), lambda: chan(1), lambda: go(int), lambda: len(ch),
                            lambda: g.result(), lambda: at.load(), lambda: goproc.runtime(procs=2).__enter__(),
                            lambda: ch.close(), lambda: goproc.sleep(0), lambda: goproc.WaitGroup()):
                    try: print("gave", use())
                    except RuntimeError as e: print(type(e).__name__, "fork" in str(e))
                sys.stdout.flush()
                {end}
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if {proc}:
            print("status", go.on(1)(work).result())
        else:
            print("status", work())
        print(ch.recv(), go.on(1)(int).result())
    """
    done = run(script)
    assert (done.status, done.err) == (0, ""), done
    lines = done.out.splitlines()
    assert lines[-2:] == ["status 7", "kept 0"]
    assert set(lines[:-2]) <= {"RuntimeStopped True", "RuntimeError True", "gave None"}, done.out
    assert lines.count("gave None") <= 1  # sleep(0)


@pytest.mark.parametrize("proc", [0, 1])
def test_forked_children_that_run_on(run: Run, proc: int) -> None:
    """A child that returns from main as its parent does ends its own interpreter and not the program."""
    script = f"""
        import os, sys, warnings
        from goproc import go, chan
        go.on(1)(int).result()
        def work():
            warnings.simplefilter("ignore")  # Python 3.12 warns of fork() in a process with threads
            if (pid := os.fork()) == 0:
                print("child", flush=True)
                return "child"
            assert os.waitpid(pid, 0)[1] == 0
            return "parent"
        print(go.on({proc})(work).result() if {proc} else work())
        if os.getpid() == os.getsid(0): print(go.on(1)(int).result())
    """
    done = run(script)
    assert (done.status, done.err) == (0, ""), done
    if proc == 0:
        assert done.out == "child\nchild\nparent\n0\n"
    else:
        assert done.out in ("child\nparent\n0\n",)


@pytest.mark.parametrize("proc", [0, 1])
def test_subprocess_in_goroutines(run: Run, proc: int) -> None:
    script = f"""
        import os, subprocess, sys
        from goproc import go, WaitGroup
        def work(i):
            done = subprocess.run([sys.executable, "-S", "-c", f"print({{i}} + 1); raise SystemExit({{i}})"], capture_output=True, text=True)
            return done.stdout, done.returncode, os.system(f"exit {{i}}") >> 8, os.popen("echo shell").read()
        print([go.on({proc})(work, i).result() for i in range(2)])
    """
    done = run(script)
    assert (done.status, done.err) == (0, ""), done
    assert done.out == "[('1\\n', 0, 0, 'shell\\n'), ('2\\n', 1, 1, 'shell\\n')]\n"


@pytest.mark.parametrize("proc", [0, 1])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_in_goroutines(run: Run, tmp_path: Path, proc: int, method: str) -> None:
    (tmp_path / "functions.py").write_text("def square(x): return x * x\n")
    script = f"""
        import multiprocessing, warnings
        warnings.simplefilter("ignore")
        from goproc import go
        import functions
        def work():
            context = multiprocessing.get_context("{method}")
            with context.Pool(2) as pool: return pool.map(functions.square, range(5))
        def main():
            go.on(1)(int).result()
            print(go.on(1)(work).result() if {proc} else work(), flush=True)
        if __name__ == "__main__": main()
    """
    done = run(script, gone=5.0)  # its helper processes end when they notice
    assert (done.status, done.out, done.err) == (0, "[0, 1, 4, 9, 16]\n", ""), done


@pytest.mark.parametrize("proc", [0, 1])
def test_a_multiprocessing_process_with_a_function_of_main(run: Run, proc: int) -> None:
    script = f"""
        import multiprocessing, warnings
        from concurrent.futures import ProcessPoolExecutor
        warnings.simplefilter("ignore")
        from goproc import go
        context = multiprocessing.get_context("fork")
        def put(queue, value): queue.put(value + 1)
        def work():
            queue = context.SimpleQueue()
            p = context.Process(target=put, args=(queue, 4))
            p.start()
            value = queue.get()
            p.join()
            with ProcessPoolExecutor(1, mp_context=context) as pool: return value, p.exitcode, pool.submit(pow, 2, 5).result()
        print(go.on(1)(work).result() if {proc} else work())
        print(go.on(1)(int).result())
    """
    done = run(script)
    assert (done.status, done.out, done.err) == (0, "(5, 0, 32)\n0\n", ""), done


def test_children_of_workers_may_outlive_nobody(start: Start) -> None:
    """What a goroutine forked and did not wait for is its own affair, but must not keep goproc's processes."""
    script = """
        import subprocess
        from goproc import go
        print(go.on(1)(lambda: subprocess.Popen(["sleep", "1"]).pid).result())
    """
    with start(script) as program:
        assert program.process.wait(5) == 0
        assert programs.eventually(lambda: [p.name for p in program.alive()] == ["sleep"], 1.0)
        assert programs.eventually(lambda: not program.alive(), 3.0)


# -- output --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["pipe", "file"])
def test_output_is_never_torn(tmp_path: Path, target: str) -> None:
    script = """
        import sys
        from goproc import go, procs
        def chatter(name):
            for i in range(10_000):
                print(name, i, "x" * (8000 if i % 100 == 0 else i % 60), sep=":")
        handles = [go.on(i)(chatter, i) for i in range(8)]
        for h in handles: h.join()
    """
    path = tmp_path / "out"
    with path.open("wb") as file:
        if target == "file":
            done = programs.run(tmp_path, script, procs=8, stdout=file)
        else:
            done = programs.run(tmp_path, script, procs=8)
    out = done.out if target == "pipe" else path.read_text()
    assert (done.status, done.err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 80_000 and out.endswith("\n")
    expected = [0] * 8
    for line in lines:
        name, i, text = line.split(":")
        assert int(i) == expected[int(name)], line[:100]
        assert text == "x" * (8000 if int(i) % 100 == 0 else int(i) % 60)
        expected[int(name)] += 1


def test_output_and_errors_through_one_pipe(tmp_path: Path) -> None:
    script = """
        import sys
        from goproc import go, procs
        def chatter(name):
            for i in range(500):
                print(name, i, "o", "y" * 5000, file=sys.stdout if i % 2 else sys.stderr)
        for h in [go.on(i % procs())(chatter, i) for i in range(4)]: h.join()
    """
    done = programs.run(tmp_path, script, procs=2, stderr=subprocess.STDOUT)
    assert done.status == 0
    assert sorted(done.out.splitlines()) == sorted(
        f"{n} {i} o " + "y" * 5000 for n in range(4) for i in range(500)
    )


def test_nobody_reads_the_output(tmp_path: Path) -> None:
    """`program | head -1`: the program ends on SIGPIPE or BrokenPipeError, and is gone."""
    script = """
        from goproc import go, chan, procs
        def chatter():
            while True: print("line")
        for i in range(1, procs()): go.on(i)(chatter)
        chan().recv()
    """
    line, variables = programs.command(tmp_path, script)
    shell = " ".join(line) + " | head -1"
    with programs.start_command(["/bin/sh", "-c", shell], tmp_path, variables) as program:
        done = program.wait(5)
    assert done.out == "line\n" and "BrokenPipeError" in done.err
    assert sys.executable and os.path.exists("/bin/sh")
