"""The end of main that is not its return: an exception nobody catches, and goexit()."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from programs import Run, environment, start

HOW = pytest.mark.parametrize("how", ["goproc", "python"])


# -- panic -----------------------------------------------------------------------------------------------------------


@HOW
@pytest.mark.parametrize("procs", [1, 3])
def test_D06_the_report(run: Run, tmp_path: Path, how: str, procs: int) -> None:
    script = """
        from goproc import chan
        def f(): raise RuntimeError("test")
        chan()
        f()
    """
    done = run(script, how=how, procs=procs)
    path = tmp_path / "script.py"
    assert (done.status, done.out) == (2, "")
    without_marks = "".join(x for x in done.err.splitlines(True) if x.strip(" ^~\n") or x == "\n")
    assert without_marks == (
        "panic: test\n\ngoroutine 1 [running]:\nTraceback (most recent call last):\n"
        f'  File "{path}", line 5, in <module>\n    f()\n'
        f'  File "{path}", line 3, in f\n    def f(): raise RuntimeError("test")\n'
        "RuntimeError: test\n"
    )


@pytest.mark.parametrize(
    ("exception", "text"),
    [
        ("KeyError('k')", "'k'"),
        ("ValueError()", "ValueError"),
        ("ValueError('two\\nlines')", "two\nlines"),
        ("BadStr()", "BadStr"),
        ("ExceptionGroup('g', [ValueError(1)])", "g (1 sub-exception)"),
        ("BaseException('b')", "b"),
    ],
)
def test_the_text(run: Run, exception: str, text: str) -> None:
    script = f"""
        from goproc import chan
        class BadStr(Exception):
            def __str__(self): 1 / 0
        chan()
        raise {exception}
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith(f"panic: {text}\n\ngoroutine 1 [running]:\n"), done


def test_before_the_runtime_runs_python_is_alone(run: Run) -> None:
    done = run("import goproc, goproc._proc.host\nraise ValueError('early')")
    assert done.status == 1 and done.err.startswith("Traceback")
    done = run("import goproc\nwith goproc.runtime(procs=2): goproc.chan()\nraise ValueError('late')")
    assert done.status == 1 and done.err.startswith("Traceback")


@pytest.mark.parametrize("threads", [False, True])
def test_the_end_is_in_order(run: Run, tmp_path: Path, threads: bool) -> None:
    """finally blocks, the report, exit handlers (which can still use goproc), buffered output; then status 2."""
    script = f"""
        import atexit, sys, threading
        from goproc import go, chan
        def at_exit():
            print("at exit", go.on(1)(int, "7").result())
            sys.stderr.write("end")
        kept = open({str(tmp_path / "kept")!r}, "w")
        kept.write("kept")
        chan()
        atexit.register(at_exit)
        threading.Thread(target=threading.Event().wait, daemon={not threads}).start()
        print("unfinished", end="")
        try:
            raise ValueError("boom")
        finally:
            print(" finally", end="")
    """
    both = run(script, stderr=subprocess.STDOUT)
    head, _, tail = both.out.partition("panic: boom\n")
    assert (
        both.status == 2
        and head == "unfinished finally"
        and tail.endswith("ValueError: boom\nat exit 7\nend")
    ), both
    assert (tmp_path / "kept").read_text() == "kept"


@pytest.mark.parametrize(
    ("end", "status"), [("sys.exit(3)", 3), ("sys.exit('x')", 1), ("raise KeyboardInterrupt", 130)]
)
def test_other_ends_keep_their_status(run: Run, end: str, status: int) -> None:
    assert run(f"import sys, goproc\ngoproc.chan()\n{end}").status == status


def test_ctrl_c_of_a_program_with_its_own_handler(tmp_path: Path) -> None:
    script = """
        import signal, goproc
        signal.signal(signal.SIGINT, lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        goproc.chan()
        print("ready", flush=True)
        while True: goproc.sleep(0.01)
    """
    with start(tmp_path, script) as program:
        program.wait_for("ready")
        program.interrupt()
        done = program.wait()
    assert done.status == -signal.SIGINT and done.err.endswith("KeyboardInterrupt\n"), done


def test_the_programs_own_excepthook(run: Run) -> None:
    script = """
        import sys, goproc
        def hook(kind, exc, tb): print("hook:", kind.__name__, exc, file=sys.stderr)
        sys.excepthook = hook
        goproc.chan()
        {}
        raise ValueError("boom")
    """
    header = "panic: boom\n\ngoroutine 1 [running]:\n"
    done = run(script.format(""))
    assert (done.status, done.err) == (2, header + "hook: ValueError boom\n")
    later = (
        "theirs = sys.excepthook; sys.excepthook = lambda *a: (print('mine', file=sys.stderr), theirs(*a))"
    )
    done = run(script.format(later))
    assert (done.status, done.err) == (2, "mine\n" + header + "hook: ValueError boom\n")
    done = run(
        script.format(
            "hook = None\ndef bad(*a): raise KeyError('in the hook')\nsys.excepthook = bad"
        ).replace("        ", "")
    )
    assert done.status in (1, 2) and "in the hook" in done.err and "ValueError: boom" in done.err


def test_printing_a_caught_exception_ends_nothing(run: Run) -> None:
    script = """
        import sys, threading, goproc
        goproc.chan()
        try: 1 / 0
        except ZeroDivisionError: sys.excepthook(*sys.exc_info())
        def f():
            try: [][1]
            except IndexError: sys.excepthook(*sys.exc_info())
        def cut():  # as code.InteractiveConsole does
            try: {}[1]
            except KeyError as e: sys.excepthook(KeyError, e, e.__traceback__.tb_next)
        for each in f, cut:
            each()
            goproc.go.local(each).join()
            thread = threading.Thread(target=each)
            thread.start()
            thread.join()
        print("still here")
    """
    done = run(script)
    assert (done.status, done.out) == (0, "still here\n") and "panic" not in done.err
    assert [done.err.count(f"{x}Error: ") for x in ("ZeroDivision", "Index", "Key")] == [1, 3, 3], done.err


def test_at_a_prompt_it_is_no_panic(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import goproc\nprint(goproc.chan(3).cap)\n1 / 0\n")
    typed = "print(goproc.go.on(1)(int, '8').result())\n[][1]\nprint(goproc.go(int, '9').result())\n"
    variables = environment(GOPROC_PROCS="2")
    line = [sys.executable, "-i", str(script)]
    done = subprocess.run(line, input=typed, env=variables, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and done.stdout == "3\n8\n9\n" and "panic" not in done.stderr
    assert "ZeroDivisionError" in done.stderr and "IndexError" in done.stderr


def test_L10_two_panics_make_one_report(run: Run) -> None:
    script = """
        import sys
        from goproc import Barrier, go, procs
        def bad(b, i):
            b.wait()
            raise ValueError(f"number {i}")
        b = Barrier(procs())
        for i in range(1, procs() + 1): go.on(i)(bad, b, i)
        b.wait()
        raise ValueError("number 0")
    """
    for _ in range(5):
        done = run(script, procs=4)
        assert done.status == 2 and len(re.findall(r"^panic: number \d$", done.err, re.M)) == 1, done
        assert len(re.findall(r"^goroutine \d+ \[running\]:$", done.err, re.M)) == 1, done


def test_a_goroutine_that_panics_while_main_ends(run: Run) -> None:
    """An exit handler waits for it, and it for main's end: not for ever. There is one report."""
    script = """
        import atexit
        from goproc import go, chan
        def bad(): raise ValueError("second")
        chan()
        def at_exit():
            go.on(1)(bad)
            chan().recv()
        atexit.register(at_exit)
        raise ValueError("first")
    """
    done = run(script)
    assert done.status == 2 and re.findall(r"^panic: (\w+)$", done.err, re.M) == ["first"], done


def test_in_an_exception_of_a_thread_nothing_ends(run: Run) -> None:
    script = """
        import threading
        from goproc import chan
        ch = chan(1)
        t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()
        print("fine")
    """
    done = run(script)
    assert (
        (done.status, done.out) == (0, "fine\n")
        and "ZeroDivisionError" in done.err
        and "panic" not in done.err
    )


# -- goexit ----------------------------------------------------------------------------------------------------------

GONE = "fatal error: no goroutines (main called runtime.Goexit) - deadlock!\n"


@HOW
@pytest.mark.parametrize("procs", [1, 2])
def test_L06_goexit_in_main(run: Run, how: str, procs: int) -> None:
    script = """
        from goproc import current, go, goexit, num_goroutine
        def other(main):
            main.join()
            print("other done", num_goroutine())
        go(other, current())
        try: goexit()
        finally: print("finally", num_goroutine())
    """
    done = run(script, how=how, procs=procs)
    assert (done.status, done.out) == (2, "finally 2\nother done 1\n") and done.err.strip() == GONE.strip(), (
        done
    )


def test_goexit_with_nobody_else(run: Run) -> None:
    done = run("import goproc\ngoproc.chan()\ngoproc.goexit()")
    assert (done.status, done.out, done.err.strip()) == (2, "", GONE.strip())


def test_goexit_when_the_others_are_asleep(run: Run) -> None:
    script = """
        from goproc import chan, go, goexit
        from goproc.testing import until_waiting
        ch = chan()
        go.on(1)(ch.recv)
        until_waiting(ch)
        goexit()
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith(
        "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 2 [chan"
    )
    assert "goroutine 1 [" not in done.err


@pytest.mark.parametrize("block", ["with goproc.runtime(procs=2):", "if True:"])
def test_goexit_ends_only_main(run: Run, block: str) -> None:
    script = f"""
        import goproc, sys
        from goproc import go, chan, goexit, sleep
        def last(main):
            main.join()
            print("main ended", main.state, main.result(), flush=True)
            sys.exit(7)
        try:
            {block}
                go.on(1)(last, goproc.current())
                goexit()
        finally:
            print("outer finally", flush=True)
    """
    done = run(script)
    assert (done.status, done.out, done.err) == (7, "outer finally\nmain ended done None\n", "")


def test_ctrl_c_after_goexit(tmp_path: Path) -> None:
    script = """
        from goproc import go, goexit, sleep
        def other():
            print("ready", flush=True)
            sleep(60)
        go.on(1)(other)
        goexit()
    """
    with start(tmp_path, script) as program:
        program.wait_for("ready")
        program.interrupt()
        done = program.wait()
    assert done.status == 130 and done.err.startswith("goproc: interrupted (Ctrl-C)"), done


def test_goexit_caught_is_no_exit(run: Run) -> None:
    script = """
        from goproc import go, chan, goexit
        chan()
        try: goexit()
        except BaseException as e: print(type(e).__name__)
        print(go.on(1)(int, "5").result())
    """
    done = run(script)
    assert (done.status, done.out, done.err) == (0, "Goexit\n5\n", "")


def test_cancelling_main_is_an_exception_like_others(run: Run) -> None:
    script = """
        import goproc
        from goproc import go, chan
        go.on(1)(lambda main: main.cancel(), goproc.current())
        try: chan().recv()
        finally: print("cleaned up")
    """
    done: Any = run(script)
    assert (done.status, done.out) == (2, "cleaned up\n") and done.err.startswith(
        "panic: Cancelled\n\ngoroutine 1"
    ), done
