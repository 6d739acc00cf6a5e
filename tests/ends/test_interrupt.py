"""Ctrl-C wherever it comes, and other signals for which the program has a handler."""

from __future__ import annotations

import re
import signal
import time

import pytest
from programs import Run, Start

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
        import os, threading, time
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
        print("unfinished", end="")
        os.write(1, b"ready\\n")
        {indented}
    """
    with start(script) as program:
        program.wait_for("ready")
        time.sleep(0.05)  # nothing to wait on: from the line to the wait after it
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
        time.sleep(delay)  # the moment of the signal: any will do
        program.interrupt()
        done = program.wait(2.0)
    assert done.status in (130, -signal.SIGINT), done
    if done.status == 130:
        assert done.err.startswith("goproc: interrupted (Ctrl-C)") and done.err.count("\n") == 1
    else:
        assert done.err.startswith("Traceback") and done.err.endswith("KeyboardInterrupt\n")
        assert "worker" not in done.err, done.err


def test_ctrl_c_while_goproc_loads(start: Start) -> None:
    """At every module that the first use of goproc imports: Python would drop it in a callback of the import system."""
    script = """
        import signal, sys
        from goproc import go
        class Pressed:
            pressed = False
            def find_spec(self, name, path=None, target=None):
                if name == sys.argv[1]:
                    signal.raise_signal(signal.SIGINT)
                    Pressed.pressed = True
        sys.meta_path.insert(0, Pressed())
        try:
            go(int, "7")
        except KeyboardInterrupt:
            print(Pressed.pressed, "goproc._proc.host" in sys.modules, signal.getsignal(signal.SIGINT).__name__)
        print(go(int, "7").result())
    """
    for module in ("goproc._proc.host", "greenlet", "goproc._sched.scheduler"):
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
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.02)
                    block()
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
        sleep(0.05)  # nothing is to happen: an interrupt that came twice would be raised here
        print("end")
    """
    with start(script) as program:
        program.wait_for("ready")
        time.sleep(0.05)  # nothing to wait on: from the line to the wait after it
        program.interrupt()
        program.wait_for("again")
        time.sleep(0.05)  # as above
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
        time.sleep(0.1)  # nothing to wait on: from the line to the wait after it
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
        time.sleep(0.05)  # nothing to wait on: from the line to the wait after it
        program.interrupt()
        program.wait_for("cleaning up")
        program.interrupt()
        done = program.wait(2.0)
    assert done.status == 130 and done.err.startswith("goproc: interrupted (Ctrl-C)"), done
    assert done.err.count("\n") == 1


def test_ctrl_c_many_times(start: Start) -> None:
    """Held down."""
    script = """
        from goproc import go, chan
        ch = chan(64)
        def produce(ch):
            while True: ch.send((1, "text", "x" * 9999))
        for i in (1, 2): go.on(i)(produce, ch)
        for _ in range(1000): ch.recv()
        print("ready", flush=True)
        for _ in ch: pass
    """
    with start(script, procs=3) as program:
        program.wait_for("ready")
        for _ in range(20):
            try:
                program.interrupt()
            except ProcessLookupError:
                break
            time.sleep(0.005)  # some milliseconds apart, as from a keyboard
        done = program.wait(2.0)
    assert done.status == 130 and done.err.count("\n") == 1 and "Traceback" not in done.err, done


def test_ctrl_c_against_a_goroutine_that_swallows_it(start: Start) -> None:
    script = """
        from goproc import go, chan
        def stubborn():
            said = False
            while True:
                try:
                    if not said:
                        said = True
                        print("ready", flush=True)
                    n = 0  # a loop that begins the block would jump out of it in Python 3.11, for that instant
                    while True: n += sum(range(100))
                except KeyboardInterrupt: pass
        go.local(stubborn)
        chan().recv()
    """
    with start(script) as program:
        program.wait_for("ready")
        time.sleep(0.05)  # nothing to wait on: from the line to the wait after it
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
        counter, last = itertools.count(1), 0
        def say(*words):  # print() writes in pieces, between which a handler can come, as in any Python
            sys.stdout.write(" ".join(map(str, words)) + "\\n")
        def handler(number, frame):
            global last
            last = mine = next(counter)
            say("handler", mine, "h" * (9000 if mine % 3 == 0 else 10))
        def chatter(name, seconds):
            i, end = 0, time.monotonic() + seconds
            while time.monotonic() < end or (name == "main" and last <= 20):
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
