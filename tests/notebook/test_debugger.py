"""pdb in goroutines: it stops in the program's code alone, and its end is the goroutine's."""

from __future__ import annotations

import pytest
from programs import Run

STOPS = ["go(breakpoint)", "go(f)", "go(pdb.set_trace)", "go.local(breakpoint)", "go.local(f)", "go.on(0)(f)"]


@pytest.mark.parametrize("procs", [0, 2])
def test_the_end_of_its_input_is_the_failure_of_the_goroutine(run: Run, procs: int) -> None:
    script = f"""
        import bdb, pdb
        from goproc import go
        def f():
            breakpoint()
        def g():
            f()
            return "not reached"
        for stop in {STOPS!r}:
            try: print(eval(stop).result())
            except bdb.BdbQuit: print("quit", go(int).result(), go.local(int).result())
        print(type(go(g).exception()).__name__)
    """
    done = run(script, procs=procs)
    assert done.status == 0, done
    assert [line for line in done.out.splitlines() if "quit 0 0" in line] and done.out.count(
        "quit 0 0"
    ) == len(STOPS), done
    assert done.out.endswith("BdbQuit\n"), done
    assert "_life.py" not in done.out, done


def test_a_debugger_that_is_there_before_goproc(run: Run) -> None:
    script = """
        import bdb, pdb
        assert "goproc._debugger_hook" not in __import__("sys").modules
        from goproc import go
        print(type(go.local(breakpoint).exception()).__name__, type(go(breakpoint).exception()).__name__)
    """
    done = run(script)
    assert (done.status, done.err) == (0, ""), done
    assert done.out.endswith("BdbQuit BdbQuit\n"), done


def test_modules_that_were_looked_for_before_they_are_imported(run: Run) -> None:
    """So does a worker that is forked while the zygote imports them: the worker imports them again."""
    script = """
        import goproc, sys
        from importlib.util import find_spec
        if "logging" not in sys.modules and "bdb" not in sys.modules:
            find_spec("logging"), find_spec("bdb")
        import bdb, logging
        print(bdb.Bdb.stop_here.__module__, logging.Logger.handle.__module__)
        print([finder for finder in sys.meta_path if "goproc" in str(finder)])
    """
    done = run(script)
    assert (done.status, done.out, done.err) == (0, "goproc._debugger_hook goproc._logging_hook\n[]\n", ""), (
        done
    )
