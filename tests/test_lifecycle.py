"""Programs from their start to their end: what workers are, how main ends, exits, panics, several runtimes in a row."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import programs
import pytest
from programs import Done, Run

from goproc import topology

HOW = pytest.mark.parametrize("how", ["goproc", "python"])
ON_BOTH = pytest.mark.parametrize("proc", [0, 1])


def ok(done: Done) -> str:
    """The output of a program that ended well and had nothing to complain about."""
    assert (done.status, done.err) == (0, ""), done
    return done.out


# -- what the processes are ----------------------------------------------------------------------------------


@HOW
def test_goroutines_run_in_every_proc(run: Run, how: str) -> None:
    script = """
        import os
        from goproc import go, procs, proc
        where = [go.on(i)(lambda: (proc(), os.getpid(), procs())).result() for i in range(procs())]
        print([(p, n) for p, _, n in where], len({pid for _, pid, _ in where}), where[0][1] == os.getpid())
    """
    assert ok(run(script, procs=3, how=how)) == "[(0, 3), (1, 3), (2, 3)] 3 True\n"


def test_procs_by_default_are_the_cpus_it_may_use(run: Run) -> None:
    assert ok(run("import goproc; print(goproc.procs())", procs=None)) == f"{topology.default_procs()}\n"
    script = (
        "import os, goproc; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(goproc.procs())"
    )
    assert ok(run(script, procs=None)) == "1\n"


def test_the_option_comes_before_the_environment(run: Run) -> None:
    script = "import goproc; print(goproc.procs())"
    assert ok(run(script, procs=None, how="python", env={"GOPROC_PROCS": "3"})) == "3\n"
    assert ok(run(script, procs=2, env={"GOPROC_PROCS": "3"})) == "2\n"
    script = "import goproc\nwith goproc.runtime(procs=2) as r: print(goproc.procs(), r.procs)"
    assert ok(run(script, procs=3)) == "2 2\n"


def test_one_proc_starts_no_process(run: Run) -> None:
    script = """
        import os
        import psutil
        from goproc import go, chan
        ch = chan()
        go(ch.send, 1)
        print(ch.recv(), psutil.Process().children(), len(os.listdir("/proc/self/task")))
    """
    assert (
        ok(run(script, procs=1)) == "1 [] 2\n"
    )  # the second thread is the monitor, which is no thread of Python


def test_an_import_starts_nothing(run: Run) -> None:
    script = """
        import psutil, goproc
        from goproc import go, chan, Chan, nil, WaitGroup, Atomic, sleep, errors, sync
        print(psutil.Process().children(), goproc.proc(), repr(nil))
    """
    assert ok(run(script)) == "[] 0 <nil chan>\n"


AFFINITY = """
    import os
    from goproc import go, procs
    before = os.sched_getaffinity(0)
    print([sorted(go.on(i)(os.sched_getaffinity, 0).result()) for i in range(procs())])
"""


def _affinities(done: Done) -> list[list[int]]:
    return eval(ok(done))  # type: ignore[no-any-return]


def test_workers_are_pinned_where_there_is_a_cpu_for_each(run: Run) -> None:
    cpus = topology.spread_cpus(topology.allowed_cpus())
    plan = topology.plan_pinning(2, cpus, topology.cpu_quota())
    if plan[1] is None:
        pytest.skip("fewer than two CPUs")
    assert _affinities(run(AFFINITY, procs=2)) == [sorted(cpus), [plan[1]]]


def test_workers_are_not_pinned_when_told_or_too_many(run: Run) -> None:
    cpus = sorted(topology.allowed_cpus())
    assert _affinities(run(AFFINITY, procs=2, options=["--no-pin"])) == [cpus, cpus]
    assert _affinities(run(AFFINITY, procs=2, how="python", env={"GOPROC_PIN": "0"})) == [cpus, cpus]
    many = len(cpus) + 1
    assert _affinities(run(AFFINITY, procs=many)) == [cpus] * many


def test_blas_uses_one_thread_in_workers(run: Run) -> None:
    script = """
        import os
        from goproc import go
        names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"
        def show(): return [os.environ.get(name) for name in names]
        os.environ.pop(names[3], None)
        os.environ[names[2]] = "5"
        print(show(), go.on(1)(show).result())
    """
    unset: dict[str, str | None] = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    )
    done = run(script, env={**unset, "OPENBLAS_NUM_THREADS": "3"})
    assert ok(done) == "[None, '3', '5', None] ['1', '3', '5', '1']\n"


@pytest.mark.parametrize("numpy", [False, True])
def test_random_numbers_differ_between_procs(run: Run, numpy: bool) -> None:
    if numpy:
        pytest.importorskip("numpy")
    module, call = ("numpy.random", "random_sample") if numpy else ("random", "random")
    script = f"""
        import {module}
        from goproc import go, procs
        {module}.seed(1)
        expected = {module}.{call}()
        {module}.seed(1)
        def draw():
            import {module}
            return {module}.{call}()
        values = [go.on(i)(draw).result() for i in range(procs())]
        print(values[0] == expected, len(set(values)))
    """
    assert ok(run(script, procs=4)) == "True 4\n"
    # one that only the workers import
    script = f"""
        from goproc import go, procs
        def draw():
            import {module}
            return {module}.{call}()
        print(len(set(go.on(i)(draw).result() for i in range(procs()))))
    """
    assert ok(run(script, procs=3)) == "3\n"


# -- the script and its modules ------------------------------------------------------------------------------


def test_the_script_is_run_once_and_needs_no_guard(run: Run, tmp_path: Path) -> None:
    script = """
        import os
        with open("runs", "a") as file: file.write(f"{os.getpid()}\\n")
        from goproc import go, procs
        class Point:
            def __init__(self, x): self.x = x
            def __eq__(self, other): return type(other) is Point and self.x == other.x
        OFFSET = 10
        def helper(x): return x + OFFSET
        def work(point): return Point(helper(point.x))
        for i in range(procs()):
            assert go.on(i)(work, Point(i)).result() == Point(i + 10)
            assert go.on(i)(lambda: [helper(i) for _ in "ab"]).result() == [i + 10] * 2
        print("fine")
    """
    assert ok(run(script, procs=3)) == "fine\n"
    assert len((tmp_path / "runs").read_text().split()) == 1


def test_modules_beside_the_script(run: Run, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("import os\ndef pid(): return os.getpid()\n")
    away = tmp_path / "away"
    away.mkdir()
    script = """
        import os
        from goproc import go
        def late():
            import beside
            return beside.pid()
        os.chdir("away")
        import beside
        print(go.on(1)(beside.pid).result() == go.on(1)(late).result() != os.getpid())
        print(go.on(1)(os.getcwd).result() == os.getcwd(), os.path.basename(os.getcwd()))
    """
    assert ok(run(script)) == "True\nTrue away\n"
    # named by a relative path, from another folder
    line = [sys.executable, "-m", "goproc", "run", os.path.join(os.pardir, "script.py"), "--procs", "2"]
    (tmp_path / "script.py").write_text((tmp_path / "script.py").read_text().replace('"away"', '"/"'))
    with programs.start_command(line, away, programs.environment()) as program:
        assert ok(program.wait()).startswith("True\nTrue")


def test_a_module_that_changes_the_folder_later(run: Run, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("def f(): return 7\n")
    (tmp_path / "elsewhere").mkdir()
    script = """
        import os
        from goproc import go, procs
        procs()
        go.on(1)(int).result()
        os.chdir("elsewhere")
        import beside
        print(go.on(1)(beside.f).result(), go.on(1)(lambda: beside.f()).result())
    """
    assert ok(run(script)) == "7 7\n"


def test_a_package_run_with_m(run: Run, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("def double(x): return 2 * x\n")
    (package / "__main__.py").write_text(
        "import sys\n"
        "from goproc import go\n"
        "from . import part\n"
        "def late(x):\n"
        "    from .part import double\n"
        "    return double(x)\n"
        "print(go.on(1)(part.double, 4).result(), go.on(1)(late, 5).result(), sys.argv[1:])\n"
    )
    line = [sys.executable, "-m", "goproc", "run", "--procs", "2", "-m", "package", "--", "--procs", "x"]
    with programs.start_command(line, tmp_path, programs.environment()) as program:
        assert ok(program.wait()) == "8 10 ['--procs', 'x']\n"
    line = [sys.executable, "-m", "package"]
    with programs.start_command(line, tmp_path, programs.environment(GOPROC_PROCS="2")) as program:
        assert ok(program.wait()) == "8 10 []\n"


SMALL = "from goproc import go\ndef f(x): return x + 1\nprint(go.on(1)(f, 1).result(), go.on(1)(lambda: 5).result())\n"


def test_a_program_given_with_c(tmp_path: Path) -> None:
    line = [sys.executable, "-c", SMALL, "word"]
    with programs.start_command(line, tmp_path, programs.environment(GOPROC_PROCS="2")) as program:
        assert ok(program.wait()) == "2 5\n"


@pytest.mark.parametrize("words", [["-m", "goproc", "run", "-", "--procs", "2"], ["-"], []])
def test_a_program_on_standard_input(tmp_path: Path, words: list[str]) -> None:
    variables = programs.environment(GOPROC_PROCS="2")
    with programs.start_command(
        [sys.executable, *words], tmp_path, variables, stdin=subprocess.PIPE
    ) as program:
        program.type(SMALL)
        assert program.process.stdin is not None
        program.process.stdin.close()
        assert ok(program.wait()) == "2 5\n"


def test_standard_input_is_mains(run: Run) -> None:
    script = """
        import sys
        from goproc import go, chan
        ch = chan(4)
        def upper(ch):
            for line in ch: print(line.upper(), end="", flush=True)
        g = go.on(1)(upper, ch)
        print(input("? "))
        for line in sys.stdin: ch.send(line)
        ch.close()
        g.join()
    """
    assert ok(run(script, stdin="first\na\nb\n")) == "? first\nA\nB\n"


def test_sys_argv_in_workers(run: Run) -> None:
    script = """
        import sys
        from goproc import go
        print(go.on(1)(lambda: sys.argv).result() == sys.argv, sys.argv[1:])
    """
    assert ok(run(script, "a", "--procs", "9")) == "True ['a', '--procs', '9']\n"


# -- main ends -----------------------------------------------------------------------------------------------

OTHERS = """
    import os, sys, time
    from goproc import go, chan, sleep
    ch = chan()
    def mark(text):
        with open("marks", "a") as file: file.write(text + "\\n")
    def waits(name):
        try:
            mark("begin " + name)
            started.send(1)
            chan().recv()
        finally:
            mark("finally " + name)
    def computes():
        try:
            mark("begin computes")
            started.send(1)
            while True: sum(range(100))
        finally:
            mark("finally computes")
    def sleeps():
        try:
            mark("begin sleeps")
            started.send(1)
            time.sleep(60)
        finally:
            mark("finally sleeps")
    started = chan(4)
    go.on(0)(waits, "host")
    go.on(1)(waits, "worker")
    go.on(1)(sleeps)
    go.on(2)(computes)
    for _ in range(4): started.recv()
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit(7)", 7),
        ("sys.exit()", 0),
        ("sys.exit(-1)", 255),
        ("os._exit(9)", 9),
        ("raise SystemExit('why')", 1),
    ],
)
def test_the_end_of_main_is_the_end(run: Run, tmp_path: Path, end: str, status: int) -> None:
    done = run(OTHERS + f"    {end}\n", procs=3)
    assert done.status == status
    assert done.err == ("why\n" if "why" in end else "")
    marks = (tmp_path / "marks").read_text().split("\n")
    assert sorted(marks) == ["", "begin computes", "begin host", "begin sleeps", "begin worker"]


@HOW
def test_an_exception_in_main_is_a_panic_with_pythons_own_traceback(
    run: Run, tmp_path: Path, how: str
) -> None:
    script = """
        import sys
        {}
        class Mine(Exception): pass
        def f(x):
            try: 1 / x
            except ZeroDivisionError as e: raise Mine("no", "luck") from e
        f(0)
    """
    done = run(script.format("from goproc import go, chan; go.on(1)(chan().recv); chan(1).send(1)"), how=how)
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script.format("pass")))
    plain = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=20)
    header = "panic: ('no', 'luck')\n\ngoroutine 1 [running]:\n"
    assert (done.status, done.out, done.err) == (2, "", header + plain.stderr)
    assert "ZeroDivisionError" in done.err and done.err.endswith("Mine: ('no', 'luck')\n")


@pytest.mark.parametrize("target", ["pipe", "file"])
def test_no_output_is_lost_at_the_end(tmp_path: Path, target: str) -> None:
    script = """
        import sys
        from goproc import go, chan
        ready = chan(3)
        def say(name):
            print(name, "line")
            print(name, "rest", end="")
            ready.send(1)
            chan().recv()
        print("main before", end=" ")
        go.on(0)(say, "zero")
        go.on(1)(say, "one")
        for _ in "ab": ready.recv()
        print("main after", end="")
    """
    with (tmp_path / "out").open("wb") as file:
        options: dict[str, Any] = {"stdout": file} if target == "file" else {}
        done = programs.run(tmp_path, script, **options)
    out = done.out if target == "pipe" else (tmp_path / "out").read_text()
    assert done.status == 0 and done.err == ""
    for piece in ("zero line\n", "zero rest", "one line\n", "one rest", "main before main after"):
        assert out.count(piece) == 1, out


def test_atexit_runs_once_and_in_main_only(run: Run) -> None:
    script = """
        import atexit, os
        me = os.getpid()
        def after():  # registered before the runtime started, so it runs after that has stopped
            for use in (lambda: ch.try_send(1), lambda: chan(1), lambda: go(int)):
                try: print("gave", use())
                except RuntimeStopped: print("stopped", os.getpid() == me)
        atexit.register(after)
        from goproc import go, chan, RuntimeStopped
        ch = chan(1)
        atexit.register(lambda: print("before", ch.try_send(1), go.on(1)(int).result()))
        go.on(1)(lambda: atexit.register(print, "in a worker")).result()
    """
    assert ok(run(script)) == "before True 0\n" + "stopped True\n" * 3


def test_a_plain_thread_outlives_main(run: Run) -> None:
    """Python waits for its threads before the program ends, and they can still use channels with the workers."""
    script = """
        import threading
        from goproc import go, chan, sleep
        ch, back = chan(), chan()
        def worker():
            for v in ch: back.send(v + 1)
        go.on(1)(worker)
        def thread():
            for i in range(100):
                ch.send(i)
                assert back.recv() == i + 1
            print("thread done")
        threading.Thread(target=thread).start()
        print("main done")
    """
    assert sorted(ok(run(script)).splitlines()) == ["main done", "thread done"]


@ON_BOTH
@pytest.mark.parametrize(
    ("code", "status", "text"),
    [("3", 3, ""), ("None", 0, ""), ("'why'", 1, "why\n"), ("True", 1, ""), ("256", 0, "")],
)
def test_sys_exit_in_a_goroutine_ends_the_program(
    run: Run, proc: int, code: str, status: int, text: str
) -> None:
    script = f"""
        import sys
        from goproc import go, chan
        def leave():
            print("unfinished", end="")
            sys.exit({code})
        g = go.on({proc})(leave)
        chan().recv()
    """
    done = run(script)
    assert (done.status, done.err, done.out) == (status, text, "unfinished")


# -- panics --------------------------------------------------------------------------------------------------

# Its creator's number is not known when the goroutine failed before its handle was dropped.
PARENT = r"( in goroutine \d+)?"


@HOW
@ON_BOTH
def test_a_panic(run: Run, tmp_path: Path, how: str, proc: int) -> None:
    script = f"""
        from goproc import go, chan

        def fails(x):
            raise ValueError(f"bad value {{x}}")

        def middle():
            fails(42)

        def main():
            print("before")
            go.on({proc})(middle)
            chan().recv()

        main()
    """
    done = run(script, how=how)
    assert (done.status, done.out) == (2, "before\n")
    path = str(tmp_path / "script.py")
    first, _, rest = done.err.partition("\n\n")
    assert first == "panic: bad value 42"
    assert re.match(r"goroutine \d+ \[running\]:\nTraceback \(most recent call last\):\n", rest)
    frames = [line for line in rest.splitlines() if line.startswith('  File "')]
    assert frames == [f'  File "{path}", line 8, in middle', f'  File "{path}", line 5, in fails']
    assert "    fails(42)\n" in rest and '    raise ValueError(f"bad value {x}")\n' in rest
    assert re.search(
        rf"\nValueError: bad value 42\ncreated by main{PARENT}\n\t{re.escape(path)}:12\n$", rest
    ), rest
    assert "goproc/" not in done.err


@pytest.mark.parametrize(
    "main", ["while True: pass", "import time; time.sleep(60)", "chan().recv()", "sleep(60)", "h.join()"]
)
def test_a_panic_ends_main_whatever_it_does(run: Run, main: str) -> None:
    script = f"""
        from goproc import go, chan, sleep
        def fails(): raise KeyError("k")
        def lives(): chan().recv()
        h = go.on(1)(lives)
        go.on(1)(fails)
        {main}
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: 'k'\n"), done
    assert done.err.count("panic:") == 1


def test_a_panic_ends_the_workers_whatever_they_do(run: Run) -> None:
    script = OTHERS + "    go.on(0)(lambda: 1 / 0)\n    chan().recv()\n"
    done = run(script, procs=3)
    assert done.status == 2 and done.err.startswith("panic: division by zero\n"), done


def test_created_by_a_goroutine(run: Run, tmp_path: Path) -> None:
    script = """
        from goproc import go, chan
        def child(): raise RuntimeError
        def parent():
            go(child)
            chan().recv()
        g = go.on(1)(parent)
        chan().recv()
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: RuntimeError\n")
    assert re.search(
        rf"\ncreated by parent{PARENT}\n\t{re.escape(str(tmp_path))}/script.py:5\n$", done.err
    ), done.err


def test_a_panic_in_go_local(run: Run, tmp_path: Path) -> None:
    done = run("from goproc import *\ngo.local(lambda: 1 / 0)\nchan().recv()\n")
    assert done.status == 2 and done.err.startswith("panic: division by zero\n")
    assert re.search(rf"\ncreated by main{PARENT}\n\t{re.escape(str(tmp_path))}/script.py:2\n$", done.err), (
        done.err
    )


@pytest.mark.parametrize("attempt", range(4))
def test_many_panics_at_once_give_one_report(run: Run, attempt: int) -> None:
    script = """
        from goproc import go, chan, Atomic, procs
        def fails(i, at):
            at.add(1)
            while at.load() < procs(): pass
            raise ValueError("x" * 3000 + f" of {i}")
        at = Atomic(0)
        for i in range(1, procs()): go.on(i)(fails, i, at)
        at.add(1)
        chan().recv()
    """
    done = run(script, procs=4)
    assert done.status == 2
    assert done.err.count("panic:") == done.err.count("Traceback") == done.err.count("created by") == 1, (
        done.err
    )
    assert re.fullmatch(
        r"panic: x{3000} of (\d)\n\ngoroutine \d+ \[running\]:\nTraceback.*\nValueError: x{3000} of \1\ncreated by .*\n",
        done.err,
        re.DOTALL,
    )


@ON_BOTH
@pytest.mark.parametrize(
    ("raising", "text"),
    [
        ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})()", "Odd"),
        ("raise type('Odd', (BaseException,), {})('base')", "base"),
        ("raise ExceptionGroup('several', [ValueError('a'), OSError('b')])", "several"),
        ("(lambda f: f(f))(lambda f: f(f))", "RecursionError"),
        ("raise ValueError('\\udcff \\U0001f600')", "panic: \\udcff"),
        ("raise ValueError('y' * 2_000_000)", "yyyyy"),
        ("raise ValueError(__import__('threading').Lock())", "lock"),
        ("raise StopIteration", "StopIteration"),
        ("raise GeneratorExit('g')", "panic: g"),
        ("exec('1 +')", "SyntaxError"),
        ("__import__('no_such_module')", "No module named"),
    ],
)
def test_odd_panics(run: Run, proc: int, raising: str, text: str) -> None:
    done = run(f"from goproc import go, chan\ndef f():\n    {raising}\ngo.on({proc})(f)\nchan().recv()\n")
    assert done.status == 2 and done.err.startswith("panic: "), done
    assert text in done.err and "created by main" in done.err


def test_an_exception_kept_for_a_handle(run: Run) -> None:
    script = """
        import traceback
        from goproc import go, procs
        def inner(): raise KeyError("k", 3)
        def f(): inner()
        for i in range(procs()):
            g = go.on(i)(f)
            g.join()
            try: g.result()
            except KeyError as e:
                assert e.args == ("k", 3) and g.exception() is e
                text = traceback.format_exc()
                assert "in inner" in text and "in f" in text and "g.result()" in text, text
                print(g.state, type(e).__name__)
            else: print("nothing raised")
        g = go.on(1)(f)
        print(repr(g.exception()))
    """
    assert ok(run(script)) == "failed KeyError\n" * 2 + "KeyError('k', 3)\n"


@pytest.mark.parametrize(
    "ending",
    [
        "g.join(); del g; chan().recv()",
        "g = None; chan().recv()",
        "g.join(); g = 5; chan().recv()",
        "g.join(); [].append(g); g = go.on(1)(int); chan().recv()",
    ],
)
@ON_BOTH
def test_a_handle_dropped_unread_panics(run: Run, proc: int, ending: str) -> None:
    script = f"""
        from goproc import go, chan
        def f(): raise ValueError("unread")
        def main():
            g = go.on({proc})(f)
            {ending}
        main()
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: unread\n"), done
    assert "Traceback" in done.err and "in f" in done.err and "ValueError: unread" in done.err


# What may become of a handle that was given away, so that not only its own process knows whether it is still to be read.
GIVEN_AWAY = {
    "thrown away with its channel": "c = chan(1); c.send(g); del g, c; wait()",
    "still in a channel at the end": "c = chan(1); c.send(g); del g",
    "of a sender when the channel was closed": """
        c = chan(); s = go.local(lambda g: c.send([g]), g); sleep(0.01); del g
        c.close(); s.exception(); del s; wait()""",
    "in a result that nobody asks for": "h = go(lambda: g); h.join(); del g, h; wait()",
    "an argument that nobody uses": "h = go(lambda x: None, g); h.join(); del g, h; wait()",
    "dropped there before it fails": "go.on(1)(lambda x: None, late).join(); del g, late; more.send(1); wait()",
}


@ON_BOTH
@pytest.mark.parametrize("fate", list(GIVEN_AWAY))
def test_a_handle_given_away_and_never_read_panics(run: Run, proc: int, fate: str) -> None:
    script = f"""
        from goproc import go, chan, sleep
        def f(): raise ValueError("unread")
        def later(more): more.recv(); f()
        def wait(): sleep(20)
        def main():
            more = chan()
            g = go.on({proc})(f) if {"late" not in GIVEN_AWAY[fate]} else None
            late = go.on({proc})(later, more) if g is None else None
            if g is not None: g.join()
{textwrap.indent(textwrap.dedent(GIVEN_AWAY[fate]).strip(), " " * 12)}
        main()
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: unread\n"), done
    assert done.seconds < 15, done


def test_what_is_given_away_and_read_is_no_panic(run: Run) -> None:
    script = """
        from goproc import go, chan, procs
        def f(i): raise ValueError(i)
        def reads(handles, out):
            for g in handles: out.send(str(g.exception()))
        handles, out = chan(100), chan(1)
        reader = go.on(1)(reads, handles, out)
        got = []
        for i in range(300):
            handles.send(go.on(i % 2)(f, i))  # often it has failed already, and this was the only handle here
            got.append(int(out.recv()))
        handles.close()
        print(sorted(got) == list(range(300)))
    """
    assert ok(run(script)) == "True\n"


@pytest.mark.parametrize("how", ["with goproc.runtime(procs=2): main()", "goproc.run(main, procs=2)"])
def test_unread_at_the_end_of_a_runtime(run: Run, how: str) -> None:
    script = f"""
        import goproc
        from goproc import go
        def f(): raise ValueError("unread")
        def main():
            global g
            g = go(f)
            g.join()
        {how}
        print("not reached")
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("panic: unread\n") and done.out == "", done


def test_the_result_is_read_elsewhere(run: Run) -> None:
    script = """
        from goproc import go, chan
        def fails(): raise ValueError("from afar")
        def reads(g):
            try: g.result()
            except ValueError as e: return str(e)
        g = go.on(1)(fails)
        r = go.on(2)(reads, g)
        del g
        print(r.result())
    """
    assert ok(run(script, procs=3)) == "from afar\n"


def test_goexit_and_cancel_are_no_panics(run: Run) -> None:
    script = """
        from goproc import go, chan, goexit, Cancelled, sleep
        def leaves():
            try: goexit()
            finally: print("finally", flush=True)
        print(go.on(1)(leaves).result())
        g = go.on(1)(chan().recv)
        sleep(0.05)
        g.cancel()
        try: g.result()
        except Cancelled: print("cancelled")
        g = go.on(1)(chan().recv)
        g.cancel()
        del g
        sleep(0.1)
    """
    assert ok(run(script)) == "finally\nNone\ncancelled\n"


# -- several runtimes ----------------------------------------------------------------------------------------


def test_fifty_runtimes_in_one_program_leave_nothing(run: Run) -> None:
    script = """
        import gc, os, sys, threading
        import psutil
        import goproc
        from goproc import go, chan, WaitGroup
        me = psutil.Process()
        def census():
            gc.collect()
            with open("/proc/self/maps") as file: maps = [l for l in file if "goproc" in l and "memfd" in l]
            return me.num_fds(), len(maps), me.num_threads(), len(me.children(recursive=True)), threading.active_count()
        kept = []
        def once(i):
            with goproc.runtime(procs=1 + i % 3):
                ch = chan(4)
                kept.append(ch)
                g = go(sum, [i, 1])
                go.on(goproc.procs() - 1)(ch.send, "x" * 30_000)
                go(chan().recv)
                go.local(chan().recv)
                assert g.result() == i + 1 and len(ch.recv()) == 30_000
                kept.append(g)
        for i in range(3): once(i)
        before = census()
        for i in range(50): once(i)
        assert census() == before, (before, census())
        assert [kept[i].result() for i in range(1, len(kept), 2)] == [1, 2, 3, *range(1, 51)]
        print("fine", before[1:])
    """
    assert ok(run(script, how="python")) == "fine (0, 1, 0, 1)\n"


def test_a_runtime_inside_a_runtime(run: Run) -> None:
    script = """
        import goproc
        from goproc import go, chan
        def try_it():
            try:
                with goproc.runtime(procs=2): print("inside")
            except RuntimeError as e: print(type(e).__name__, e, flush=True)
        with goproc.runtime(procs=3):
            try_it()
            go.on(1)(try_it).result()
            go.on(0)(try_it).result()
        with goproc.runtime(procs=2): pass
        chan()
        try_it()
        try: goproc.run(print, procs=2)
        except RuntimeError as e: print(e)
    """
    lines = ok(run(script, procs=2)).splitlines()
    assert lines[0] == lines[2] == "RuntimeError a goproc runtime with 3 procs runs already"
    assert lines[1].startswith(lines[0]) and "proc 1" in lines[1]
    assert lines[3:] == [
        "RuntimeError a goproc runtime with 2 procs runs already",
        lines[3].partition(" ")[2],
    ]


def test_leaving_a_runtime_unwinds_its_goroutines(run: Run) -> None:
    script = """
        import goproc
        from goproc import go, chan, sleep
        def f(name, ch):
            try: ch.recv()
            finally: print("finally", name)
        with goproc.runtime(procs=2):
            ch = chan()
            go.on(0)(f, "host", ch)
            go.on(1)(f, "worker", ch)
            go.local(f, "local", ch)
            sleep(0.1)
        print("left")
        with goproc.runtime(procs=2): print(go(int).result())
    """
    assert sorted(ok(run(script, how="python")).splitlines()) == [
        "0",
        "finally host",
        "finally local",
        "left",
    ]


def test_what_unwound_goroutines_do_does_not_start_a_runtime(run: Run) -> None:
    script = """
        import goproc, psutil
        from goproc import go, chan, sleep, RuntimeStopped
        def f(ch):
            try: ch.recv()
            finally:
                for use in (lambda: chan(1), lambda: go(int), lambda: ch.send(1), goproc.procs):
                    try: print("gave", use())
                    except RuntimeStopped: print("stopped")
        with goproc.runtime(procs=2):
            ch = chan()
            go.local(f, ch)
            sleep(0.05)
        print(psutil.Process().children())
    """
    assert ok(run(script)) == "stopped\n" * 4 + "[]\n"


def test_the_first_use_is_in_a_thread_that_ends(run: Run) -> None:
    script = """
        import threading
        from goproc import go
        thread = threading.Thread(target=lambda: print(go(lambda: 5).result()))
        thread.start()
        thread.join()
        print(go(lambda: 6).result(timeout=2))
    """
    assert ok(run(script, procs=1)) == "5\n6\n"


def test_ctrl_c_leaves_a_runtime(run: Run) -> None:
    script = """
        import os, signal, time
        import goproc
        from goproc import go, chan
        signal.signal(signal.SIGALRM, lambda number, frame: os.kill(os.getpid(), signal.SIGINT))
        def interrupted(wait):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try: wait()
            except KeyboardInterrupt: print("caught")
        def inside():
            with goproc.runtime(procs=2):
                go.on(1)(chan().recv)
                chan().recv()
        interrupted(inside)
        interrupted(lambda: time.sleep(5))  # Python's own handler is back
        with goproc.runtime(procs=2): print(go.on(1)(int).result())
        interrupted(inside)
    """
    assert ok(run(script)) == "caught\ncaught\n0\ncaught\n"


@pytest.mark.parametrize(
    "raising", ["raise ValueError('through')", "go(lambda: 1 / 0).result()", "import no_such"]
)
def test_an_exception_leaves_a_runtime(run: Run, raising: str) -> None:
    script = f"""
        import goproc
        from goproc import go, chan
        for i in range(3):
            try:
                with goproc.runtime(procs=2):
                    go(chan().recv)
                    {raising}
            except (ValueError, ZeroDivisionError, ImportError) as e: print(type(e).__name__)
    """
    assert len(ok(run(script)).split()) == 3


def test_run(run: Run) -> None:
    script = """
        import goproc
        from goproc import go, procs
        def main(a, *, b): return a, b, procs(), go.on(1)(lambda: 5).result()
        print(goproc.run(main, 1, b=2, procs=3))
        try: goproc.run(lambda: 1 / 0, procs=2)
        except ZeroDivisionError as e: print("error", e)
        print(goproc.run(procs))
    """
    assert ok(run(script, procs=2)) == "(1, 2, 3, 5)\nerror division by zero\n2\n"


def test_use_after_the_runtime_stopped(run: Run) -> None:
    script = """
        import threading
        import goproc
        from goproc import go, chan, WaitGroup, Atomic, RuntimeStopped
        with goproc.runtime(procs=2):
            ch = chan(1)
            ch.send(1)
            read, unread, wg, at = go(int, "5"), go(int, "6"), WaitGroup(), Atomic(3)
            read.result(), unread.join()
        uses = {
            "send": lambda: ch.send(1), "recv": lambda: ch.recv(), "try_send": lambda: ch.try_send(1),
            "try_recv": lambda: ch.try_recv(), "recv_ok": lambda: ch.recv_ok(), "len": lambda: len(ch),
            "close": lambda: ch.close(), "for": lambda: list(ch), "closed": lambda: ch.closed,
            "send_many": lambda: ch.send_many([1]), "recv_many": lambda: ch.recv_many(1),
            "result": lambda: unread.result(), "join": lambda: unread.join(), "cancel": lambda: unread.cancel(),
            "state": lambda: unread.state, "exception": lambda: unread.exception(),
            "wait": lambda: wg.wait(), "add": lambda: wg.add(1), "done": lambda: wg.done(),
            "load": lambda: at.load(), "store": lambda: at.store(1), "atomic add": lambda: at.add(1),
        }
        def check():
            for name, use in uses.items():
                try: print(name, "gave", use())
                except RuntimeStopped as e:
                    assert isinstance(e, RuntimeError) and "stopped" in str(e), (name, e)
                except BaseException as e: print(name, "raised", repr(e))
        check()
        print(read.result(), bool(repr((ch, read, unread, ch.tx, ch.rx))), ch == ch.tx, hash(ch) == hash(ch.rx))
        with goproc.runtime(procs=2):
            check()  # not those of the new one either
            new = chan(1)
            new.send("new")
            for use in (lambda: new.send(ch), lambda: go(print, ch)):
                try: print("gave", use())
                except (RuntimeStopped, goproc.PickleError) as e: assert "stopped" in str(e)
            print(new.recv(), new == ch, len({new, ch}))
    """
    assert ok(run(script, how="python")) == "5 True True True\nnew False 2\n"


def test_everything_can_be_shown_after_the_runtime_stopped(run: Run) -> None:
    script = """
        import goproc
        from goproc import go, chan, WaitGroup, Atomic
        with goproc.runtime(procs=2): things = chan(1), go(int, "5"), WaitGroup(), Atomic(3)
        print(*map(repr, things))
    """
    assert len(ok(run(script)).split("<")) == 5


def test_a_thread_that_waits_hears_of_the_end(run: Run) -> None:
    script = """
        import threading, time
        import goproc
        from goproc import chan, RuntimeStopped
        def wait(ch):
            try: ch.recv()
            except RuntimeStopped as e: print(f"thread: {e}\\n", end="")
        with goproc.runtime(procs=2):
            threads = [threading.Thread(target=wait, args=(chan(),)) for _ in range(3)]
            for t in threads: t.start()
            time.sleep(0.1)
        for t in threads: t.join(5)
        print([t.is_alive() for t in threads])
    """
    assert ok(run(script)) == "thread: the goproc runtime stopped\n" * 3 + "[False, False, False]\n"
