"""Processes that outlive a panic: test runs, and servers that use goproc in their threads. (Sessions: test_interactive.)"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import programs
import pytest
from programs import Done, Run, ok

BEGIN = """
import os, signal, sys, time
import pytest
import goproc
from goproc import *
from goproc.errors import RuntimeStopped

def fails(): raise ValueError("of a goroutine")
"""


def run_tests(folder: Path, text: str, procs: int = 2, on_death: str | None = None) -> Done:
    """Run the tests of a text with pytest, in a process of their own."""
    (folder / "test_it.py").write_text(BEGIN + textwrap.dedent(text))
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "test_it.py"]
    variables = programs.environment(GOPROC_PROCS=str(procs), GOPROC_ON_DEATH=on_death)
    with programs.start_command(line, folder, variables) as program:
        return program.wait(50)


WAYS = {
    "main is blocked": "ch.recv()",
    "main sleeps": "sleep(30)",
    "main joins": "go.on(1)(time.sleep, 30).join()",
    "main computes": "while True: ch.try_send(1)",
    "main waits in a system call": "while True: time.sleep(0.01); len(ch)",
    "main starts goroutines": "while True: go(int).join()",
    "main is in a group": "with Group() as g:\n            g.go(time.sleep, 0.01)\n            ch.recv()",
}


@pytest.mark.parametrize("how", ["go(fails)", "go.local(fails)", "go.on(0)(fails)"])
@pytest.mark.parametrize("way", list(WAYS))
def test_a_panic_in_a_test_run(tmp_path: Path, way: str, how: str) -> None:
    done = run_tests(
        tmp_path,
        f"""
def test_first():
    ch = chan(1)
    {how}
    with pytest.raises((RuntimeStopped, ExceptionGroup)):
        {WAYS[way]}
    with pytest.raises(RuntimeStopped, match="panic in goroutine .*: of a goroutine"):
        while True: ch.try_send(1)

def test_second():
    assert go(int, 5).result() == 5
""",
    )
    assert done.status == 0 and "2 passed" in done.out, done


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9"),
        ("os._exit(3)", "ended by itself with status 3"),
        ("sys.exit(3)", r"sys.exit\(\) in a goroutine"),
    ],
)
def test_other_ends_of_a_goroutine(tmp_path: Path, end: str, reason: str) -> None:
    done = run_tests(
        tmp_path,
        f"""
def ends(): {end}

def test_first():
    g = go.on(1)(ends)
    with pytest.raises(RuntimeStopped, match={reason!r}):
        g.result()

def test_second():
    assert go(int, 5).result() == 5
""",
        on_death="exit",
    )
    assert done.status == 0 and "2 passed" in done.out, done


def test_the_same_in_a_runtime_block(tmp_path: Path) -> None:
    done = run_tests(
        tmp_path,
        """
def test_first():
    cleaned = []
    def local():
        try: chan().recv()
        finally: cleaned.append(1)
    with goproc.runtime(procs=2):
        go.local(local)
        yield_now()
        go(fails)
        with pytest.raises(RuntimeStopped):
            chan().recv()
    assert cleaned == [1]
    with goproc.runtime(procs=1):
        assert go(int, 5).result() == 5
""",
    )
    assert done.status == 0 and "1 passed" in done.out, done


def test_a_deadlock_is_an_exception(tmp_path: Path) -> None:
    done = run_tests(
        tmp_path,
        """
def test_first():
    g = go(fails)
    g.join()
    with pytest.raises(RuntimeError, match="(?s)all goroutines are asleep.*nobody read its result.*of a goroutine"):
        chan().recv()
    assert go(int, 5).result() == 5
    assert isinstance(g.exception(), ValueError)
""",
    )
    assert done.status == 0 and "1 passed" in done.out, done


def test_a_program_that_a_test_starts_is_no_test_run(run: Run) -> None:
    done = run(
        "from goproc import *\ngo(lambda: 1 / 0)\nchan().recv()\n",
        env={"PYTEST_CURRENT_TEST": "x", "PYTEST_VERSION": "9"},
    )
    assert done.status == 2 and done.err.startswith("panic: division by zero\n"), done


def test_a_server_that_uses_goproc_in_its_threads(run: Run) -> None:
    script = """
        import threading
        from goproc import chan, go
        from goproc.errors import RuntimeStopped

        def handle(n):
            ch = chan()
            if n == 1:
                go(lambda: 1 / 0)
                try: ch.recv()
                except RuntimeStopped as error: print(n, error, flush=True)
            else:
                print(n, go(int, n).result(), flush=True)

        for n in range(4):  # one request after the other, each in a thread of its own
            thread = threading.Thread(target=handle, args=(n,))
            thread.start()
            thread.join()
    """
    done = run(script)
    assert done.status == 0 and "panic: division by zero\n" in done.err, done
    lines = done.out.splitlines()
    assert [lines[0], *lines[2:]] == ["0 0", "2 2", "3 3"]
    assert re.fullmatch(
        r"1 the goproc runtime stopped: panic in goroutine \d+: division by zero", lines[1]
    ), lines


def test_failures_of_a_server(run: Run) -> None:
    """Requests that fail do not end the server, whenever their handles go."""
    script = """
        import threading
        from goproc import go
        def parse(n):
            if n % 2: raise ValueError(n)
            return n
        def handle(n):
            try: sum(g.result() for g in [go(parse, i) for i in range(n)])
            except ValueError as error: print("bad request", error, flush=True)
        for n in (5, 6, 7):
            thread = threading.Thread(target=handle, args=(n,))
            thread.start()
            thread.join()
        print("goes on")
    """
    done = run(script)
    assert (done.status, done.out) == (0, "bad request 1\n" * 3 + "goes on\n"), done


def test_a_panic_of_main_ends_a_program(run: Run) -> None:
    """The runtime is main's, so a panic ends the program, although threads use goproc, too."""
    script = """
        import threading
        from goproc import chan, go
        go(int).result()
        def handle():
            go(lambda: 1 / 0)
            chan().recv()
        threading.Thread(target=handle).start()
        chan().recv()
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: division by zero\n"), done


def test_an_ordinary_program_ends_well_after_all(run: Run) -> None:
    assert ok(run("from goproc import go\nprint(go(int, 5).result())")) == "5\n"
