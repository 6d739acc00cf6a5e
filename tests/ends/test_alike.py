"""Programs end alike, however they start the runtime: by its first use, in a block, by run(), by main()."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path

import programs
import pytest
from programs import Run, Start

HOW = pytest.mark.parametrize("how", ["goproc", "python"])
WAYS = {
    "first use": "goproc.chan()\nwork()",
    "block": "with goproc.runtime(procs=2):\n    work()",
    "run": "goproc.run(work, procs=2)",
    "main": "goproc.main(work, procs=2)",
    "decorator": "@goproc.main\ndef main():\n    work()",
}
WAY = pytest.mark.parametrize("way", WAYS)


def script(way: str, *lines: str) -> str:
    """A program whose work is these lines."""
    head = "import atexit, os, signal, subprocess, sys, time\nimport goproc\nfrom goproc import go, sleep\n"
    return head + "def work():\n" + textwrap.indent("\n".join(lines), "    ") + "\n" + WAYS[way] + "\n"


@HOW
@WAY
def test_ctrl_c(start: Start, way: str, how: str) -> None:
    text = script(
        way,
        "atexit.register(print, 'at exit')",
        "go.on(1)(sleep, 60)",
        "print('ready', flush=True)",
        "sleep(60)",
    )
    with start(text, how=how) as program:
        program.wait_for("ready")
        program.interrupt()
        done = program.wait(10)
    assert (done.status, done.out, done.err) == (130, "ready\nat exit\n", "goproc: interrupted (Ctrl-C)\n")


@WAY
def test_ctrl_c_with_goroutines_here(start: Start, way: str) -> None:
    text = script(
        way,
        "go.local(sleep, 60)",
        "go.local(sleep, 60)",
        "sleep(0)",
        "print('ready', flush=True)",
        "sleep(60)",
    )
    with start(text) as program:
        program.wait_for("ready")
        program.interrupt()
        done = program.wait(10)
    assert done.status == 130
    assert done.err == "goproc: interrupted (Ctrl-C); 2 goroutines of this process ended\n"


@HOW
@WAY
def test_a_panic_of_main(run: Run, tmp_path: Path, way: str, how: str) -> None:
    done = run(
        script(way, "atexit.register(print, 'at exit')", "go.on(1)(int).result()", "raise ValueError('no')"),
        how=how,
    )
    assert (done.status, done.out) == (2, "at exit\n")
    assert done.err.startswith("panic: no\n\ngoroutine 1 [running]:\nTraceback (most recent call last):\n")
    assert done.err.endswith("ValueError: no\n") and "goproc/" not in done.err, done


@WAY
def test_exits(run: Run, way: str) -> None:
    for line, status, err in (("sys.exit(3)", 3, ""), ("sys.exit('so')", 1, "so\n"), ("sys.exit()", 0, "")):
        done = run(script(way, line))
        assert (done.status, done.err) == (status, err)


def test_caught_exception_ends_nothing(run: Run) -> None:
    text = """
        import sys, goproc
        def fails(): raise ValueError("x")
        hook = sys.excepthook
        for again in range(2):
            try:
                goproc.run(fails, procs=1)
            except ValueError:
                print("caught")
        goproc.run(int, procs=1)
        print(sys.excepthook is hook)
        raise KeyError("after the runtimes")
    """
    done = run(text)
    assert (done.status, done.out) == (1, "caught\ncaught\nTrue\n")
    assert done.err.startswith("Traceback") and "panic" not in done.err


def test_exception_that_is_caught_and_raised_again(run: Run) -> None:
    text = """
        import goproc
        def fails(): raise ValueError("x")
        try:
            goproc.run(fails, procs=1)
        finally:
            print("finally")
    """
    done = run(text)
    assert (done.status, done.out) == (2, "finally\n") and done.err.startswith("panic: x\n")


def test_ctrl_c_that_is_caught_outside(start: Start) -> None:
    text = """
        import goproc
        from goproc import go, sleep
        def work():
            print("ready", flush=True)
            sleep(60)
        try:
            goproc.run(work, procs=2)
        except KeyboardInterrupt:
            print("caught", goproc.run(lambda: [go.on(p)(int, p).result() for p in (1, 2)], procs=2))
    """
    with start(text) as program:
        program.wait_for("ready")
        program.interrupt()
        done = program.wait(10)
    assert (done.status, done.out, done.err) == (0, "ready\ncaught [1, 2]\n", "")


# -- output that nobody reads ----------------------------------------------------------------------------------------

PRINTERS = {
    "main": ["go.on(1)(int).result()", "while True: print('line')"],
    "main, once more": ["go.on(1)(int).result()", "print('line')", "until_unread()", "print('line')"],
    "main, at the end": [
        "go.on(1)(int).result()",
        "print('line')",
        "until_unread()",
        "print('line', end='')",
    ],
    "a goroutine": ["go.on(1)(printer)", "sleep(20)"],
    "one with a handle": ["go.on(1)(printer).join()", "sleep(20)"],
    "its result": ["go.on(1)(printer).result()"],
    "one here": ["go.local(printer).result()"],
    "a group": ["with goproc.Group() as g: [g.go(printer) for _ in range(3)]"],
    "many": ["for g in [go(print, i) for i in range(5000)]: g.join()", "go.on(2)(printer).join()"],
}

UNREAD = """
def printer():
    while True: print('line')
def until_unread():
    import select
    poll = select.poll()
    poll.register(1, 0)
    poll.poll()
"""


@pytest.mark.parametrize("way", ["first use", "run"])
@pytest.mark.parametrize("who", PRINTERS)
def test_nobody_reads_the_output(tmp_path: Path, who: str, way: str) -> None:
    """The program ends as others do in a pipeline: silently, by SIGPIPE."""
    text = UNREAD + script(way, *PRINTERS[who])
    line, variables = programs.command(tmp_path, text)
    status = tmp_path / "status"
    shell = f"({' '.join(line)}; echo $? > {status}) | head -1"
    with programs.start_command(["/bin/sh", "-c", shell], tmp_path, variables) as program:
        done = program.wait(20)
    assert (done.err, len(done.out.splitlines())) == ("", 1)
    assert programs.eventually(lambda: status.exists() and status.read_text() == f"{128 + signal.SIGPIPE}\n")


def test_other_pipes_are_the_programs_affair(run: Run) -> None:
    text = """
        import os, sys
        from goproc import go
        def work():
            r, w = os.pipe()
            os.close(r)
            os.write(w, b"x")
        try:
            go.on(1)(work).result()
        except BrokenPipeError:
            print("caught")
        work()
    """
    done = run(text)
    assert (done.status, done.out) == (2, "caught\n") and done.err.startswith("panic: [Errno 32] Broken pipe")


def test_a_program_that_expects_it(tmp_path: Path) -> None:
    """The recipe of Python's documentation."""
    text = """
        import os, sys
        from goproc import go
        go.on(1)(int).result()
        try:
            while True: print("line")
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            print("more")
        sys.exit(5)
    """
    line, variables = programs.command(tmp_path, text)
    status = tmp_path / "status"
    shell = f"({' '.join(line)}; echo $? > {status}) | head -1"
    with programs.start_command(["/bin/sh", "-c", shell], tmp_path, variables) as program:
        done = program.wait(20)
    assert (done.err, done.out) == ("", "line\n")
    assert programs.eventually(lambda: status.exists() and status.read_text() == "5\n")
