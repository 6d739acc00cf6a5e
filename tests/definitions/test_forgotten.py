"""Definitions that a program makes at run time and forgets are not kept for ever, on the host or on workers."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from programs import Run, ok

# A definition is made of a number, and `use` has a worker use it.
_DEFINITIONS = {
    "functions": """
        def use(n):
            namespace = {"__name__": "__main__"}
            exec(compile(f"def function_{n}(): return {n}", f"<made {n}>", "exec"), namespace)
            return go.on(1)(namespace[f"function_{n}"]).result()
    """,
    "classes": """
        def use(n):
            kind = type(f"Class{n}", (), {"number": n})
            return go.on(1)(lambda thing: thing.number, kind()).result()
    """,
    "cached functions": """
        def use(n):
            namespace = {"__name__": "__main__", "lru_cache": functools.lru_cache}
            text = f"@lru_cache(8)\\ndef cached_{n}(): return {n}\\ndef calls_{n}(): return cached_{n}()"
            exec(compile(text, f"<made {n}>", "exec"), namespace)
            return go.on(1)(namespace[f"calls_{n}"]).result()
    """,
    "context variables": """
        def set_and_get(variable):
            variable.set(variable.get() + 1)
            return variable.get() - 1
        def use(n):
            return go.on(1)(set_and_get, ContextVar(f"variable_{n}", default=n)).result()
    """,
    "decorated functions": """
        class Decorated:
            def __init__(self, f):
                functools.update_wrapper(self, f)
                self.f = f
            def __call__(self): return self.f()
            def __reduce__(self): return self.f.__qualname__
        def use(n):
            return go.on(1)(lambda f: f(), Decorated(lambda: n)).result()
    """,
    "places": """
        def use(n):
            scope = {"__name__": "__main__", "go": go, "n": n}
            return eval(compile("go.on(1)(int, n)", f"<made {n}>", "eval"), scope).result()
    """,
}

_PROGRAM = """
import functools
from contextvars import ContextVar
from goproc import go
from goproc.shm import _core

def small():
    # Smaller limits than those of a long program.
    from goproc import _spawn as spawn
    from goproc._pickling import functions, store, wrappers
    spawn._KEPT_SITES = spawn._MOST_SITES = store._BLOBS = functions._CACHED_CODES = wrappers._MOST = store._FULL = 40
    from goproc._pickling import named, variables
    named._table.set(0); variables._table.set(0)

def kept():
    from goproc import _spawn as spawn
    from goproc._pickling import classes, functions, named, pickler, store, variables, wrappers
    tables = (
        spawn._sites, spawn._site_texts, store._refs, store._blobs, functions.by_code, functions.by_ref,
        classes.entries, classes._by_ref, wrappers._received, variables._reduced, variables._by_id, named._named,
        named._uids, pickler._policy,
    )
    return max(map(len, tables))
"""
_RUN = """
go.on(1)(small).result(); small()
right = all(use(n) == n for n in range(400))
blocks = _core.census()["definitions"]
print(right, kept() <= 220, go.on(1)(kept).result() <= 220, blocks <= 120)
"""


@pytest.mark.parametrize("kind", _DEFINITIONS)
def test_definitions_made_over_and_over(run: Run, kind: str) -> None:
    script = _PROGRAM + textwrap.dedent(_DEFINITIONS[kind]) + _RUN
    assert ok(run(script, procs=1)) == "True True True True\n"


def test_a_panic_at_one_of_very_many_places(run: Run) -> None:
    """A call that drops its handle is a panic if it fails, also where the place itself is not known."""
    script = (
        _PROGRAM
        + """
small()
for n in range(200):
    exec(compile("go(int, 1)", f"<made {n}>", "exec"), {"go": go})
exec(compile("go(int, 'x')", "<made last>", "exec"), {"go": go})
from goproc import sleep
sleep(60)
"""
    )
    done = run(script, procs=1)
    assert done.status == 2 and "panic: invalid literal for int()" in done.err, done
    assert "code made at run time" in done.err


def test_a_context_variable_is_itself_for_as_long_as_it_is_used(run: Run) -> None:
    script = (
        _PROGRAM
        + """
small()
kept_one = ContextVar("kept_one", default=0)
def give(variable): return variable
for n in range(300):
    if go.on(1)(give, ContextVar(f"v{n}", default=n)).result().get() != n: print("wrong", n)
    if go.on(1)(give, kept_one).result() is not kept_one: print("another one", n)
print("done")
"""
    )
    assert ok(run(script, procs=1)) == "done\n"


def test_soak_reports_the_memory_of_each_worker(run: Run) -> None:
    soak = Path(__file__).parents[2] / "scripts" / "soak.py"
    script = f"""
        import runpy, sys
        sys.argv = ["soak", "--minutes", "0.01", "--every", "0.01", "--only", "messages", "timers"]
        runpy.run_path({str(soak)!r}, run_name="__main__")
    """
    done = run(script, procs=None, how="python")
    assert done.status in (0, 1) and "rss of worker 2" in done.out and "rounds of 2 loads" in done.out, done
