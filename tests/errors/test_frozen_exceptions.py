"""Exceptions whose class lets no attribute be set are raised, with traceback, cause and notes, as any other."""

from __future__ import annotations

import textwrap

import pytest
from programs import Run, ok

HEAD = """
    import dataclasses, os, traceback
    from goproc import Group, as_completed, blocking, flow, go, pmap, psort
    from goproc.futures import Executor
"""

CLASSES = {
    "a frozen dataclass": """
        @dataclasses.dataclass(frozen=True)
        class Frozen(Exception):
            code: int
    """,
    "a frozen dataclass with slots": """
        @dataclasses.dataclass(frozen=True, slots=True)
        class Frozen(Exception):
            code: int
    """,
    "attrs": """
        import attrs
        @attrs.frozen
        class Frozen(Exception):
            code: int
    """,
    "a __setattr__ that raises": """
        class Frozen(Exception):
            def __init__(self, code): vars(self)["code"] = code
            def __setattr__(self, name, value): raise TypeError(f"{name} is not to be set")
            __delattr__ = __setattr__
    """,
}

WAYS = """
    def fail(*_):
        try:
            {}["key"]
        except KeyError as error:
            raise Frozen(7) from error
    def inside(): return blocking(fail)
    def in_block():
        with Group() as group:
            group.go(int)
            fail()
    def submit(executor): return executor.submit(fail).result()
    def completed(): return [g.result() for g in as_completed([go(fail)])]
    ways = {
        "go": lambda: go(fail).result(),
        "go.on(0)": lambda: go.on(0)(fail).result(),
        "go.local": lambda: go.local(fail).result(),
        "blocking": lambda: blocking(fail),
        "blocking on a worker": lambda: go(inside).result(),
        "as_completed": completed,
        "pmap": lambda: list(pmap(fail, [1, 2])),
        "pmap with retries": lambda: list(pmap(fail, [1], retries=1, retry_on=Frozen)),
        "psort": lambda: list(psort([2, 1], key=fail)),
        "flow": lambda: flow([1, 2]).map(fail, 1).run(),
        "Executor.submit": lambda: submit(executor),
        "Executor.map": lambda: list(executor.map(fail, [1, 2], chunksize=2)),
        "Group": in_block,
    }
    with Executor(1) as executor:
        for name, way in ways.items():
            try:
                way()
                print(name, "raised nothing")
            except Exception as error:
                found = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
                text = "".join(traceback.format_exception(found))
                if (type(found), getattr(found, "code", 0)) != (Frozen, 7) or "in fail" not in text or "KeyError" not in text:
                    print(name, type(error), error)
    failure, = pmap(fail, ["x"], on_error="return")
    print(type(failure.error) is Frozen, failure.error.code, failure.error.__notes__[-1])
"""


def script(text: str) -> str:
    return textwrap.dedent(HEAD) + textwrap.dedent(text)


@pytest.mark.parametrize("kind", CLASSES)
def test_it_arrives_by_all_ways(run: Run, kind: str) -> None:
    if kind == "attrs":
        pytest.importorskip("attrs", reason="attrs is not installed")
    text = script(CLASSES[kind]) + textwrap.dedent(WAYS)
    assert ok(run(text, procs=1)) == "True 7 item 0: 'x'\n"


def test_uncaught(run: Run) -> None:
    done = run(script(CLASSES["a frozen dataclass"]) + "go(int).result()\nraise Frozen(5)\n", procs=1)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("panic: 5\n\ngoroutine 1 [running]:\nTraceback")
    assert done.err.endswith("Frozen: 5\n")
    assert "FrozenInstanceError" not in done.err


def test_in_a_forked_child(run: Run) -> None:
    text = """
        import warnings

        def f():
            warnings.simplefilter("ignore")  # Python 3.12 warns of fork() in a process with threads
            child = os.fork()
            if child == 0: raise Frozen(5)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(go(f).result())
    """
    done = run(script(CLASSES["a frozen dataclass"]) + textwrap.dedent(text), procs=1)
    assert (done.status, done.out) == (0, "1\n")
    assert done.err.endswith("Frozen: 5\n")
