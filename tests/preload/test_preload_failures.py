"""Imports ahead that fail, start threads, print, or use goproc."""

from __future__ import annotations

from typing import Any

import pytest
from preloading import GATE, HALF, script
from programs import Run, ok


@pytest.mark.parametrize(
    "end", ["raise ValueError('here')", "raise SystemExit(3)", "raise KeyboardInterrupt"]
)
def test_an_import_that_fails_ahead_is_done_by_the_goroutine_that_needs_it(
    run: Run, install: Any, end: str
) -> None:
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


@pytest.mark.parametrize("name, shared", [("jemalloc_bg_thd", True), ("jemalloc", False)])
def test_the_thread_of_an_allocator_ends_with_a_fork(run: Run, install: Any, name: str, shared: bool) -> None:
    """PyArrow, which pandas imports, has such a thread. Nothing warns of the forks."""
    env = install(
        heavy=f"""
        import threading
        allocator = threading.Thread(target=time.sleep, args=(60,), daemon=True)
        allocator.start()
        with open(f"/proc/self/task/{{allocator.native_id}}/comm", "w") as file:
            file.write("{name}")
        pid = os.getpid()
        t.log("heavy")
        """
    )
    text = script(
        "import heavy",
        """
        t.until(lambda: len(t.logged("heavy")) == 2)
        print(go.on(1)(lambda: heavy.pid == os.getppid()).result())
        """,
    )
    done = run(text, env={**env, "PYTHONWARNINGS": "error"})
    assert ok(done) == f"{shared}\n"


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


def test_a_module_that_uses_goproc_is_imported_in_the_worker(run: Run, install: Any) -> None:
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
