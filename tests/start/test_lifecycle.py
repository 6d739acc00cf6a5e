"""Programs from their start to their end: what workers are, modules, how main ends and exits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import programs
import pytest
from programs import Done, Run, ok

from goproc._proc import topology

HOW = pytest.mark.parametrize("how", ["goproc", "python"])
ON_BOTH = pytest.mark.parametrize("proc", [0, 1])


# -- what the processes are ----------------------------------------------------------------------------------


@HOW
def test_goroutines_run_in_every_proc(run: Run, how: str) -> None:
    script = """
        import os
        from goproc import go, procs, proc
        where = [go.on(i)(lambda: (proc(), os.getpid(), procs())).result() for i in range(procs() + 1)]
        print([(p, n) for p, _, n in where], len({pid for _, pid, _ in where}), where[0][1] == os.getpid())
    """
    assert ok(run(script, procs=3, how=how)) == "[(0, 3), (1, 3), (2, 3), (3, 3)] 4 True\n"


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


def test_no_workers_are_no_processes(run: Run) -> None:
    script = """
        import os
        import psutil
        from goproc import go, chan
        ch = chan()
        go(ch.send, 1)
        print(ch.recv(), psutil.Process().children(), len(os.listdir("/proc/self/task")))
    """
    assert (
        ok(run(script, procs=0)) == "1 [] 2\n"
    )  # the second thread is the monitor, which is no thread of Python


def test_an_import_starts_nothing(run: Run) -> None:
    script = """
        import psutil, goproc
        from goproc import go, chan, Chan, nil, WaitGroup, Atomic, sleep, errors, sync
        print(psutil.Process().children(), goproc.proc(), repr(nil))
    """
    assert ok(run(script, how="python")) == "[] 0 <nil chan>\n"


AFFINITY = """
    import os
    from goproc import go, procs
    before = os.sched_getaffinity(0)
    print([sorted(go.on(i)(os.sched_getaffinity, 0).result()) for i in range(procs() + 1)])
"""


def _affinities(done: Done) -> list[list[int]]:
    return eval(ok(done))  # type: ignore[no-any-return]


def test_workers_are_pinned_where_there_is_a_cpu_for_each(run: Run) -> None:
    cpus = topology.spread_cpus(topology.allowed_cpus())
    plan = topology.plan_pinning(2, cpus, topology.cpu_quota())
    if plan[1] is None:
        pytest.skip("fewer than two CPUs")
    assert _affinities(run(AFFINITY, procs=2)) == [sorted(cpus), [plan[1]], [plan[2]]]


def test_workers_are_not_pinned_when_told_or_too_many(run: Run) -> None:
    cpus = sorted(topology.allowed_cpus())
    assert _affinities(run(AFFINITY, procs=2, options=["--no-pin"])) == [cpus] * 3
    assert _affinities(run(AFFINITY, procs=2, how="python", env={"GOPROC_PIN": "0"})) == [cpus] * 3
    many = len(cpus) + 1
    assert _affinities(run(AFFINITY, procs=many)) == [cpus] * (many + 1)


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
        pytest.importorskip("numpy", reason="NumPy is not installed")
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
        values = [go.on(i)(draw).result() for i in range(procs() + 1)]
        print(values[0] == expected, len(set(values)))
    """
    assert ok(run(script, procs=4)) == "True 5\n"
    # one that only the workers import
    script = f"""
        from goproc import go, procs
        def draw():
            import {module}
            return {module}.{call}()
        print(len(set(go.on(i)(draw).result() for i in range(procs() + 1))))
    """
    assert ok(run(script, procs=3)) == "4\n"


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
        for i in range(procs() + 1):
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


def test_a_panic_ends_the_workers_whatever_they_do(run: Run) -> None:
    script = OTHERS + "    go.on(0)(lambda: 1 / 0)\n    chan().recv()\n"
    done = run(script, procs=3)
    assert done.status == 2 and done.err.startswith("panic: division by zero\n"), done


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


def test_atexit_runs_once_in_each_process(run: Run) -> None:
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
    assert ok(run(script)) == "before True 0\nin a worker\n" + "stopped True\n" * 3


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
