"""goproc.futures: what an initializer sets in the globals of the script is there in the calls of its process."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import Run, ok

PROGRAM = """
import functools
from goproc.futures import Executor

BASE = None
CACHE = {}

class Reader:
    def read(self): return BASE

def begin(base):
    global BASE, TABLE
    BASE, TABLE = base, [base, base]
    CACHE["base"] = base

def base(): return BASE
def table(): return TABLE
def nested(): return base(), table(), CACHE.get("base"), Reader().read()
def add(n): return BASE + n

with Executor(2, initializer=begin, initargs=(7,)) as executor:
    calls = base, table, nested, Reader().read, functools.partial(add, 1), lambda: BASE
    print([executor.submit(call).result() for call in calls])
    print(list(executor.map(add, range(3))), list(executor.map(add, range(3), chunksize=2)))
print(BASE, CACHE)
with Executor(2, initializer=begin, initargs=(8,)) as executor:
    print(executor.submit(nested).result())
with Executor(2) as executor:
    print(executor.submit(base).result(), type(executor.submit(table).exception()).__name__)
"""


@pytest.mark.parametrize("how", ["goproc", "python"])
def test_calls_see_the_globals_that_the_initializer_has_set(run: Run, how: str) -> None:
    assert ok(run(PROGRAM, how=how)).splitlines() == [
        "[7, [7, 7], (7, [7, 7], 7, 7), 7, 8, 7]",
        "[7, 8, 9] [7, 8, 9]",
        "None {}",
        "(8, [8, 8], 8, 8)",
        "None NameError",
    ]


IN_A_MODULE = """
BASE = None

def begin(base):
    global BASE
    BASE = base

def base():
    return BASE

def nested():
    def begin(base):
        global BASE
        BASE = base
    return begin, lambda: BASE
"""


def test_functions_within_functions_of_a_module_see_them(run: Run, tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(IN_A_MODULE)
    done = run("""
        import parts
        from goproc.futures import Executor

        begin, base = parts.nested()
        for initializer in (parts.begin, begin):
            for n in (7, 7, 8):
                with Executor(1, initializer=initializer, initargs=(n,)) as executor:
                    print([executor.submit(call).result() for call in (parts.base, base)], end=" ")
    """)
    assert ok(done) == "[7, 7] [7, 7] [8, 8] " * 2
