"""The zygote of `goproc run` imports the modules of the script ahead, beside the script, and the workers share them.

The modules are made by the tests, in a folder that looks like one for installed modules. Each records who executed it,
and may wait for a file to appear (a gate) where it is not the script that imports it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import Run, Start, ok

import goproc
from goproc._proc import early

# What modules made here may use.
TOOLS = """
import os, sys, time

FOLDER = os.environ["TEST_FOLDER"]
IN_ZYGOTE = "-c" in sys.orig_argv  # or in a worker, which is forked from it

def path(name):
    return os.path.join(FOLDER, name)

def log(name):
    with open(path("log"), "a") as file:
        file.write(f"{name}:{os.getpid()} ")

def logged(name=""):
    try:
        with open(path("log")) as file:
            return [int(word.partition(":")[2]) for word in file.read().split() if word.startswith(name + ":")]
    except FileNotFoundError:
        return []

def open_gate(name):
    open(path(name), "w").close()

def until(condition):
    while not condition():
        time.sleep(0.002)

def gate(name):
    # Not a wait of the script's own: only what imports ahead is held up.
    if IN_ZYGOTE:
        log("at-" + name)
        until(lambda: os.path.exists(path(name)))
"""

# At the top level of a module, the wait itself must be there, and not in a function.
GATE = """
if t.IN_ZYGOTE:
    t.log("at-{0}")
    while not os.path.exists(t.path("{0}")):
        time.sleep(0.002)
"""

HEAD = """
import os, sys, time
import tools_of_test as t
"""


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Callable[..., dict[str, str]]]:
    """Makes installed modules of texts, and gives the environment in which a script finds them."""
    folder = tmp_path / "site-packages"

    def install(**modules: str) -> dict[str, str]:
        for name, text in {"tools_of_test": TOOLS, **modules}.items():
            file = folder / (name.replace("__", "/") + ".py")
            if name.endswith("_package"):
                file = folder / name.removesuffix("_package").replace("__", "/") / "__init__.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            head = "" if name == "tools_of_test" else HEAD
            file.write_text(head + textwrap.dedent(text))
        path = os.pathsep.join([str(folder), str(Path(goproc.__path__[0]).parent)])
        return {"PYTHONPATH": path, "TEST_FOLDER": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    yield install


SCRIPT = """
import os, subprocess, sys, time
import tools_of_test as t
{imports}
from goproc import go

def worker():
    return os.getpid(), os.getppid()

{body}
"""


def script(imports: str, body: str) -> str:
    return SCRIPT.format(imports=imports, body=textwrap.dedent(body))


# -- shared --------------------------------------------------------------------------------------------------


def test_imported_once_and_shared(run: Run, install: Any) -> None:
    env = install(
        heavy_package="pid = os.getpid()\nfrom heavy import part",
        heavy__part="pid = os.getpid()\nt.log('part')",
    )
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("part")) == 2)
        def pids():
            import heavy.part
            return heavy.pid, heavy.part.pid, os.getppid()
        for p in (1, 2):
            a, b, zygote = go.on(p)(pids).result()
            print(a == b == zygote)
        print(len(t.logged("part")))
        """,
    )
    assert ok(run(text, procs=3, env=env)) == "True\nTrue\n2\n"


def test_what_modules_of_the_user_import_is_shared(run: Run, install: Any, tmp_path: Path) -> None:
    """They are read and not run, also if they import one another."""
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    (tmp_path / "own.py").write_text("import other\nimport tools_of_test as t\nt.log('own')\n")
    (tmp_path / "other.py").write_text("import own\nimport heavy\n")
    text = script(
        "import own, heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        print(go.on(1)(lambda: heavy.pid == os.getppid()).result(), len(t.logged("own")))
        """,
    )
    assert ok(run(text, env=env)) == "True 1\n"


def test_plain_python_imports_nothing_ahead(run: Run, install: Any) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy",
        "print(go.on(1)(lambda: heavy.pid == os.getpid()).result(), len(t.logged('heavy')))",
    )
    assert ok(run(text, env=env, how="python")) == "True 2\n"


@pytest.mark.parametrize("words", [["-m", "module_of_test"], ["entry"], ["stdin"]], ids=" ".join)
def test_ways_to_start(tmp_path: Path, install: Any, words: list[str]) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2 or words == ["stdin"])
        print(go.on(1)(lambda: (heavy.pid == os.getppid(), heavy.pid == os.getpid())).result())
        """.replace("words", repr(words)),
    )
    (tmp_path / "module_of_test.py").write_text(text)
    command = [sys.executable, "-m", "goproc", "run", "--procs", "2"]
    if words == ["entry"]:
        entry = Path(sys.executable).with_name("goproc")
        if not entry.exists():
            pytest.skip("goproc is not installed as a command")
        command[:3] = [str(entry)]
        command.append("module_of_test.py")
    else:
        command += ["-"] if words == ["stdin"] else words
    done = subprocess.run(
        command,
        input=text if words == ["stdin"] else "",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **env},
        timeout=30,
    )
    shared = "(False, True)\n" if words == ["stdin"] else "(True, False)\n"
    assert (done.stdout, done.stderr) == (shared, "")


def test_a_second_runtime_works_without(run: Run, install: Any) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy, goproc",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        for _ in range(2):
            with goproc.runtime(procs=2):
                print(go.on(1)(lambda: heavy.pid == os.getppid()).result())
        """,
    )
    assert ok(run(text, env=env)) == "True\nFalse\n"


# -- half done -----------------------------------------------------------------------------------------------

HALF = {
    "heavy_package": "from heavy import before\n" + GATE.format("gate") + "from heavy import after",
    "heavy__before": "pid = os.getpid()",
    "heavy__after": "pid = os.getpid()",
}


@pytest.mark.parametrize("where", ["module", "function"])
def test_half_done_is_finished_by_the_worker_that_needs_it(run: Run, install: Any, where: str) -> None:
    """And nobody else is held up by it: the gate opens after the others have had their results."""
    half = dict(HALF)
    if where == "function":
        half["heavy_package"] = "from heavy import before\nt.gate('gate')\nfrom heavy import after"
    env = install(**half)
    text = script(
        "import heavy",
        """
        t.until(lambda: t.logged("at-gate"))
        zygote = t.logged("at-gate")[0]
        print([go.on(p)(lambda: os.getppid()).result() == zygote for p in (1, 2)])
        print(go.on(1)(lambda: "heavy" in sys.modules).result())
        t.open_gate("gate")
        def pids():
            import heavy
            return heavy.before.pid == os.getppid(), heavy.after.pid == os.getpid()
        print(go.on(1)(pids).result(), go.on(1)(lambda: "heavy" in sys.modules).result())
        print(go.on(2)(lambda: heavy.after.pid == os.getpid()).result(), len(t.logged("at-gate")))
        """,
    )
    assert ok(run(text, procs=3, env=env)) == "[True, True]\nFalse\n(True, True) True\nTrue 1\n"


@pytest.mark.parametrize(
    "statement",
    [
        "import heavy",
        "import heavy.before",
        "import heavy.after",
        "from heavy import before",
        "from heavy.before import pid",
        "importlib.import_module('heavy')",
        "importlib.import_module('heavy.before')",
        "importlib.import_module('.before', 'heavy')",
        "__import__('heavy')",
        "importlib.util.find_spec('heavy.before')",
        "pickle.loads(b'cheavy.before\\nthing\\n.')",
        "pickle.loads(b'cheavy\\nthing\\n.')",
    ],
)
def test_every_way_to_import_finishes_it(run: Run, install: Any, statement: str) -> None:
    half = dict(HALF)
    half["heavy_package"] += "\nthing = 1"
    half["heavy__before"] += "\nthing = 1"
    env = install(**half)
    text = script(
        "import heavy",
        f"""
        t.until(lambda: t.logged("at-gate"))
        go.on(1)(worker).result()
        t.open_gate("gate")
        def f():
            import importlib, importlib.util, pickle
            {statement}
            whole = sys.modules["heavy"]
            return whole.thing, whole.before.pid == os.getppid(), whole.after.pid == os.getpid()
        f.__module__ = "elsewhere"
        print(go.on(1)(f).result())
        """,
    )
    assert ok(run(text, env=env)) == "(1, True, True)\n"


def test_only_as_far_as_needed(run: Run, install: Any) -> None:
    """Of a module that imports another the rest stays undone if only the other is wanted."""
    env = install(
        outer_package="import inner\nfrom outer import late",
        outer__late=GATE.format("late"),
        inner_package=GATE.format("inner") + "from inner import last",
        inner__last="pid = os.getpid()",
    )
    text = script(
        "import outer",
        """
        t.until(lambda: t.logged("at-inner"))
        go.on(1)(worker).result()
        t.open_gate("inner")
        def inner():
            import inner
            return inner.last.pid == os.getpid(), "outer" in sys.modules, t.logged("at-late")
        print(go.on(1)(inner).result())
        t.open_gate("late")
        print(go.on(1)(lambda: outer.late.__name__).result(), len(t.logged("at-late")))
        """,
    )
    assert ok(run(text, env=env)) == "(True, False, [])\nouter.late 1\n"


def test_many_goroutines_need_it_at_once(run: Run, install: Any) -> None:
    env = install(**HALF)
    text = script(
        "import heavy",
        """
        t.until(lambda: t.logged("at-gate"))
        handles = [go.on(1)(lambda: heavy.after.pid == os.getpid()) for _ in range(20)]
        t.open_gate("gate")
        print({handle.result() for handle in handles})
        """,
    )
    assert ok(run(text, env=env)) == "{True}\n"


def test_a_thread_of_a_worker_sees_it_whole(run: Run, install: Any) -> None:
    env = install(**HALF)
    text = script(
        "import heavy, threading",
        """
        t.until(lambda: t.logged("at-gate"))
        go.on(1)(worker).result()
        t.open_gate("gate")
        def f():
            seen = []
            def life():
                import heavy, wave
                seen.append((heavy.before.pid == os.getppid(), heavy.after.pid == os.getpid()))
            thread = threading.Thread(target=life)
            thread.start()
            thread.join()
            return seen
        print(go.on(1)(f).result())
        """,
    )
    assert ok(run(text, env=env)) == "[(True, True)]\n"


def test_random_numbers_differ_after_a_half_done_import(run: Run, install: Any) -> None:
    """numpy seeds its generator when it is imported: here before the fork."""
    pytest.importorskip("numpy", reason="NumPy is not installed")
    env = install(heavy="import numpy.random\nt.log('random')\n" + GATE.format("gate"))
    text = script(
        "import heavy",
        """
        t.until(lambda: t.logged("at-gate"))
        go.on(1)(worker).result()
        t.open_gate("gate")
        draws = [go.on(p)(lambda: heavy.numpy.random.random()).result() for p in (1, 2)]
        print(draws[0] != draws[1])
        """,
    )
    assert ok(run(text, procs=3, env=env)) == "True\n"


def test_dropped_import_keeps_the_import_system_usable(run: Run, install: Any) -> None:
    env = install(**HALF)
    text = script(
        "import heavy",
        """
        t.until(lambda: t.logged("at-gate"))
        def f():
            import colorsys, xml.dom.minidom
            try:
                import no_such_module_anywhere
            except ImportError:
                import traceback
                text = traceback.format_exc()
                return "preload" in text, "importlib" in text, colorsys.__name__
        print(go.on(1)(f).result())
        """,
    )
    assert ok(run(text, env=env)) == "(False, False, colorsys)\n".replace("colorsys", "'colorsys'")


# -- imports that go wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end", ["raise ValueError('here')", "raise SystemExit(3)", "raise KeyboardInterrupt"]
)
def test_an_import_that_fails_ahead_is_done_by_who_needs_it(run: Run, install: Any, end: str) -> None:
    env = install(
        broken=f"t.log('broken')\nif len(t.logged('broken')) and t.IN_ZYGOTE and os.getpid() not in t.logged('me'):\n  {end}\npid = os.getpid()",
        heavy="pid = os.getpid()\nt.log('heavy')",
    )
    text = script(
        "import broken, heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        def f():
            t.log("me")
            import broken
            return broken.pid == os.getpid(), heavy.pid == os.getppid()
        print(go.on(1)(f).result())
        """,
    )
    assert ok(run(text, env=env)) == "(True, True)\n"


def test_a_half_done_import_that_fails(run: Run, install: Any) -> None:
    """The goroutine imports it anew, and has the error of that."""
    half = dict(HALF)
    half["heavy__after"] = "if t.IN_ZYGOTE:\n  t.log('after')\n  raise ValueError('this worker has none')"
    env = install(**half)
    text = script(
        "import heavy",
        """
        t.until(lambda: t.logged("at-gate"))
        go.on(1)(worker).result()
        t.open_gate("gate")
        def f():
            import heavy
        try:
            go.on(1)(f).result()
        except ValueError as error:
            print(error, len(t.logged("after")))
        print(go.on(1)(lambda: "heavy" in sys.modules).result())
        """,
    )
    assert ok(run(text, env=env)) == "this worker has none 2\nFalse\n"


def test_a_module_that_starts_a_thread_is_not_imported_ahead(run: Run, install: Any) -> None:
    """The one before it is: the zygote begins again with that."""
    env = install(
        first="pid = os.getpid()",
        second="import threading\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "pid = os.getpid()\nt.log('second')",
        third="pid = os.getpid()",
    )
    text = script(
        "import first, second, third",
        """
        t.until(lambda: len(t.logged("second")) == 2)
        pids = lambda: (first.pid, second.pid, third.pid)
        handle = go.on(1)(pids)
        pid, zygote = go.on(1)(worker).result()
        print(handle.result() in ((zygote, pid, pid), (pid, pid, pid)), handle.result()[1:] == (pid, pid))
        """,
    )
    assert ok(run(text, env=env)) == "True True\n"


def test_a_zygote_that_began_again_still_sees_changes(run: Run, install: Any) -> None:
    env = install(
        heavy="import threading\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "t.log('heavy')"
    )
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        os.environ["VALUE"] = "1"
        print(go.on(1)(os.getenv, "VALUE").result())
        """,
    )
    assert ok(run(text, env=env)) == "1\n"


def test_a_half_done_import_with_a_thread_is_given_up(run: Run, install: Any) -> None:
    env = install(
        heavy="import threading\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        + GATE.format("gate")
        + "pid = os.getpid()"
    )
    text = script(
        "import heavy",
        """
        t.until(lambda: t.logged("at-gate"))
        print(go.on(1)(lambda: os.getppid()).result() == t.logged("at-gate")[0])
        t.open_gate("gate")
        print(go.on(1)(lambda: heavy.pid == os.getpid()).result())
        """,
    )
    assert ok(run(text, env=env)) == "True\nTrue\n"


@pytest.mark.parametrize("half", [False, True])
def test_a_banner_is_shown_once(run: Run, install: Any, half: bool) -> None:
    banner = "print('banner')\nos.write(1, b'raw\\n')\nsys.stderr.write('error\\n')\nimport warnings; warnings.warn('w')\n"
    gate = GATE.format("gate") if half else ""
    env = install(
        heavy=banner
        + gate
        + banner.replace("b", "B").replace("raw", "end").replace("B'", "b'")
        + "t.log('heavy')"
    )
    text = script(
        "import heavy",
        """
        if HALF:
            t.until(lambda: t.logged("at-gate"))
            print(go.on(1)(lambda: 1).result())
            t.open_gate("gate")
        else:
            t.until(lambda: len(t.logged("heavy")) == 2)
        print(go.on(1)(lambda: heavy.__name__).result())
        print(go.on(1)(lambda: print("from the worker", flush=True)).result())
        """.replace("HALF", str(half)),
    )
    done = run(text, env=env)
    assert done.status == 0
    for word in ("banner", "raw", "Banner", "end\n"):
        assert done.out.count(word) == 1, done
    assert done.err.count("error\n") == 2 and done.err.count("UserWarning") == 2, done
    assert done.out.endswith("heavy\nfrom the worker\nNone\n")


def test_a_module_that_uses_goproc_is_left_to_those_who_may(run: Run, install: Any) -> None:
    env = install(
        uses="import goproc\nt.log('uses')\nif not t.IN_ZYGOTE: t.until(lambda: len(t.logged('uses')) == 2)\n"
        "ch = goproc.chan(1)\nprocs = goproc.procs()"
    )
    text = script(
        "import uses",
        """
        print(go.on(1)(lambda: uses.procs).result())
        """,
    )
    assert ok(run(text, env=env)) == "2\n"


# -- what the script changes before it uses goproc -----------------------------------------------------------


def test_a_changed_environment_is_seen_by_imports(run: Run, install: Any) -> None:
    env = install(heavy="value = os.environ.get('VALUE'), os.environ.get('OMP_NUM_THREADS')\nt.log('heavy')")
    text = script(
        "",
        """
        t.until(lambda: t.logged("heavy"))
        os.environ["VALUE"] = "1"
        os.environ["OMP_NUM_THREADS"] = "3"
        import heavy
        print(heavy.value, go.on(1)(lambda: heavy.value).result())
        def own():
            return os.environ["VALUE"], os.environ["OPENBLAS_NUM_THREADS"]
        print(go.on(1)(own).result())
        if False:
            import heavy
        """,
    )
    env["OPENBLAS_NUM_THREADS"] = ""
    assert ok(run(text, env=env)) == "('1', '3') ('1', '3')\n('1', '1')\n"


def test_a_changed_environment_without_imports_that_could_have_seen_it(run: Run, install: Any) -> None:
    text = script(
        "import json",
        """
        os.environ["VALUE"] = "1"
        os.environ["OMP_NUM_THREADS"] = "3"
        del os.environ["GONE"]
        os.environ["PYTHONUTF8"] = CHANGED
        def own():
            names = ["VALUE", "OMP_NUM_THREADS", "GONE", "OPENBLAS_NUM_THREADS"]
            shell = subprocess.run(["sh", "-c", "echo $VALUE $OMP_NUM_THREADS $GONE"], capture_output=True, text=True)
            return [os.environ.get(name) for name in names], shell.stdout
        print(go.on(1)(own).result())
        """,
    )
    env = {**install(), "GONE": "2", "OPENBLAS_NUM_THREADS": "", "PYTHONUTF8": "0"}
    for changed in ("0", "1"):
        done = run(text.replace("CHANGED", repr(changed)), env=env)
        assert ok(done) == "(['1', '3', None, '1'], '1 3\\n')\n"


def test_a_variable_that_the_import_itself_sets_is_no_change(run: Run, install: Any) -> None:
    env = install(heavy="os.environ['VALUE'] = '1'\npid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        print(go.on(1)(lambda: (heavy.pid == os.getppid(), os.environ["VALUE"])).result())
        """,
    )
    assert ok(run(text, env=env)) == "(True, '1')\n"


def test_workers_are_what_the_script_has_become(run: Run, install: Any, tmp_path: Path) -> None:
    """Folder, umask, limits, CPUs, ignored signals and standard streams; and the imports are still shared."""
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    (tmp_path / "elsewhere").mkdir()
    text = script(
        "import heavy",
        """
        import resource, signal
        t.until(lambda: len(t.logged("heavy")) == 2)
        os.chdir("elsewhere")
        os.umask(0o027)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        keep = os.dup(1)
        os.dup2(os.open("out", os.O_WRONLY | os.O_CREAT), 1)
        def facts():
            os.write(1, b"to the file")
            umask = os.umask(0)
            os.umask(umask)
            return (
                os.getcwd(), umask, resource.getrlimit(resource.RLIMIT_NOFILE), os.sched_getaffinity(0),
                signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN, signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL,
                heavy.pid == os.getppid(),
            )
        seen = go.on(1)(facts).result()
        os.dup2(keep, 1)
        expected = os.getcwd(), 0o027, (soft - 1, hard), os.sched_getaffinity(0), True, True, True
        print(seen == expected or (seen, expected))
        print(open("out").read())
        """,
    )
    assert ok(run(text, env=env)) == "True\nto the file\n"


def test_a_module_from_elsewhere_is_the_one_that_workers_have(run: Run, install: Any, tmp_path: Path) -> None:
    """The script prefers another folder, after the zygote has imported the installed module."""
    env = install(heavy="where = 'installed'\nt.log('heavy')")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "heavy.py").write_text("where = 'mine'\n")
    text = script(
        "",
        """
        t.until(lambda: t.logged("heavy"))
        sys.path.insert(0, "mine")
        def f():
            import heavy
            return heavy.where
        print(go.on(1)(f).result())
        import heavy
        print(heavy.where)
        """,
    )
    assert ok(run(text, env=env)) == "mine\nmine\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_gets_another_zygote(run: Run, install: Any) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        os.setegid(12345)
        print(go.on(1)(lambda: (os.getegid(), heavy.pid == os.getppid())).result())
        """,
    )
    assert ok(run(text, env=env)) == "(12345, False)\n"


@pytest.mark.parametrize("change", ["os.setsid()", "os.setpgid(0, 0)"])
def test_another_session_or_group_gets_another_zygote(run: Run, install: Any, change: str) -> None:
    text = script("", f"{change}\nprint(go.on(1)(os.getpgrp).result() == os.getpid())")
    assert ok(run(text, env=install(), start_new_session=False)) == "True\n"


# -- programs that do not come to use it ---------------------------------------------------------------------


def test_a_program_without_goproc_sees_nothing_of_it(run: Run, install: Any) -> None:
    env = install(heavy=GATE.format("never"))
    text = """
        import os, sys
        import heavy
        print([name for name in os.environ if name.startswith("GOPROC")], sys.argv[1:], "goproc" in sys.modules)
    """
    assert ok(run(text, env=env)) == "['GOPROC_PROCS'] [] False\n"


@pytest.mark.parametrize("how", ["kill", "interrupt", "exit"])
def test_ends_before_the_first_use(start: Start, install: Any, how: str) -> None:
    """Whatever the zygote is doing, it ends with the program."""
    env = install(heavy=GATE.format("never"))
    text = script(
        "import heavy",
        """
        t.until(lambda: t.logged("at-never"))
        print("ready", flush=True)
        if HOW == "exit":
            os._exit(0)
        time.sleep(60)
        """.replace("HOW", repr(how)),
    )
    with start(text, env=env) as program:
        program.wait_for("ready")
        if how == "kill":
            program.kill()
        elif how == "interrupt":
            program.interrupt()
        done = program.wait()
    assert done.status == {"kill": -signal.SIGKILL, "interrupt": -signal.SIGINT, "exit": 0}[how]
    assert done.err.count("Traceback") == (how == "interrupt"), done


def test_a_script_with_a_syntax_error(run: Run, install: Any) -> None:
    done = run("import os\nthis is no Python\n", env=install())
    assert done.status == 1 and done.err.count("SyntaxError") == 1, done


def test_a_dead_zygote_is_replaced(run: Run, install: Any) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')\n" + GATE.format("never"))
    text = script(
        "import heavy",
        """
        import signal
        t.until(lambda: t.logged("at-never"))
        t.open_gate("never")
        zygote = t.logged("at-never")[0]
        os.kill(zygote, signal.SIGKILL)
        t.until(lambda: not os.path.exists(f"/proc/{zygote}"))
        print(go.on(1)(lambda: heavy.pid == os.getpid()).result())
        """,
    )
    assert ok(run(text, env=env)) == "True\n"


# -- other programs beside it --------------------------------------------------------------------------------


def test_nested_programs_have_their_own(run: Run, install: Any, tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text(
        "import os\nfrom goproc import go\nprint(go.on(1)(os.getppid).result())\n"
    )
    text = script(
        "",
        """
        line = [sys.executable, "inner.py"]
        def inner(*line, **options):
            return subprocess.run(line, capture_output=True, text=True, timeout=20, **options)
        for early in (True, False):
            outer = None if early else go.on(1)(os.getppid).result()
            for command in (line, sys.orig_argv[:-1] + ["inner.py"], [sys.executable, "-m", "goproc", "run", "inner.py"]):
                done = inner(*command, close_fds=False)
                print(done.returncode, done.stderr, done.stdout.strip().isdigit() and int(done.stdout) != outer)
        """,
    )
    assert ok(run(text, env=install())) == "0  True\n" * 6


def test_a_child_forked_before_the_first_use_has_its_own(run: Run, install: Any) -> None:
    env = install(heavy="pid = os.getpid()\nt.log('heavy')")
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        print(go.on(1)(lambda: heavy.pid == os.getppid()).result(), flush=True)
        """,
    )
    assert ok(run(text, env=env)) == "False\nTrue\n"


@pytest.mark.parametrize("value", ["0.1.1", "garbage", "999.1.1", "1.1.1", "1.1", "", "2"])
def test_the_option_is_not_believed_blindly(run: Run, install: Any, value: str) -> None:
    text = script("", "print(go.on(1)(lambda: 1).result(), sys._xoptions)")
    options = ["-X", f"{early.OPTION}={value}" if value else early.OPTION]
    assert ok(run(text, env=install(), how="python", options=options)) == "1 {}\n"
