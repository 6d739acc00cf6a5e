"""An import that is under way when the workers are forked is finished by those that need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from preloading import GATE, HALF, script
from programs import Run, ok


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


def test_the_program_finds_its_own_module_while_an_import_is_half_done(
    run: Run, install: Any, tmp_path: Path
) -> None:
    """The zygote imports for goproc, which has Python's modules. Workers are the program's, which has its own."""
    env = install(**HALF)
    (tmp_path / "struct.py").write_text("MINE = 5\n")
    text = script(
        "import heavy",
        """
        t.until(lambda: t.logged("at-gate"))
        def own():
            import struct
            return struct.MINE, "heavy" in sys.modules
        print(go.on(1)(own).result())
        t.open_gate("gate")
        print(go.on(1)(lambda: heavy.after.pid == os.getpid()).result(), go.on(1)(own).result())
        """,
    )
    assert ok(run(text, env=env)) == "(5, False)\nTrue (5, True)\n"
