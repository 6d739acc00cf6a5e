"""Maps and flows that are left while a worker imports modules, to read its function or an item: it is not killed for that."""

from __future__ import annotations

import textwrap

import pytest
from programs import Run

SLOW = """
import os, pathlib, time
folder = pathlib.Path(__file__).parent
if os.getpid() != int((folder / "host").read_text()):
    from goproc._data import flow_worker
    flow_worker._LONG_NS = 0  # however long the script takes
    (folder / "importing").touch()
    while not (folder / "gate").exists(): time.sleep(0.001)
def same(x): return x
class Item: pass
"""
HEAD = """
    import gc, os, pathlib, sys, tempfile, time
    from goproc import Atomic, flow, go, num_goroutine, pmap, yield_now
    from goproc._data import engine, flow_iterator, flow_run
    from goproc.shm import _core
    for module in (engine, flow_iterator, flow_run):
        module.CLOSE_SECONDS = 0.0
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "host").write_text(str(os.getpid()))
    (folder / "slow.py").write_text(SLOW)
    sys.path.insert(0, str(folder))
    go(abs, 1).result()
    import slow
    while not all(pids := [*_core.pids()]): yield_now()
    calls = Atomic(0)
    def count(x):
        calls.add(1)
        return 0
    results = iter(SHAPE)
    g = go.local(lambda: list(results))
    while not (folder / "importing").exists(): yield_now()
    g.cancel()
    g.join()
"""
WAYS = {"dropped": "del g, results; gc.collect()", "closed": "results.close()"}
TAIL = """
    for _ in range(100): yield_now()
    before = calls.load()
    (folder / "gate").touch()
    while num_goroutine() > 1: time.sleep(0.001)
    print(_core.deaths(), pids == [*_core.pids()], calls.load() - before)
    print(list(pmap(slow.same, range(3))), list(flow(range(3)).map(slow.same)))
"""
# The number of workers, and the map or the flow.
SHAPES = {
    "function": (1, "flow([1]).map(slow.same)"),
    "function of two workers": (2, "flow([1]).map(slow.same, 2, ordered=False)"),
    "function of a later stage": (1, "flow(range(50)).map(count).map(slow.same)"),
    "item": (2, "flow([slow.Item()]).map(count)"),
    "item of workers in order": (2, "flow([slow.Item()]).map(count, 2)"),
    "item of flat_map": (1, "flow([slow.Item()]).flat_map(lambda x: [count(x)])"),
    "function with options": (1, "flow([1]).map(slow.same, on_error='skip')"),
    "item with options": (2, "flow([slow.Item()]).map(count, on_error='skip')"),
    "stage": (1, "flow([1]).stage(slow.same)"),
    "pmap": (2, "pmap(slow.same, [1, 2])"),
    "item of pmap": (1, "pmap(count, [slow.Item()] * 2)"),
    "item of pmap, calls share a process": (2, "pmap(count, [slow.Item()] * 2, workers=4)"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_worker_that_imports_is_not_killed(run: Run, shape: str, way: str) -> None:
    procs, made = SHAPES[shape]
    script = textwrap.dedent(HEAD).replace("SLOW", repr(SLOW)).replace("SHAPE", made)
    done = run(script + WAYS[way] + textwrap.dedent(TAIL), procs=procs)
    assert (done.status, done.out, done.err) == (0, "0 True 0\n[0, 1, 2] [0, 1, 2]\n", ""), done


def test_a_function_that_a_busy_worker_cannot_read_later_is_not_told_of(run: Run) -> None:
    """The map has raised the exception of another worker by then."""
    done = run(
        """
        import pathlib, tempfile, time
        from goproc import PickleError, chan, go, num_goroutine, pmap, yield_now
        folder = pathlib.Path(tempfile.mkdtemp())
        class Unreadable:
            def __reduce__(self): return int, ("no number",)
        held = Unreadable()
        def spin():
            (folder / "begun").touch()
            while not (folder / "gate").exists(): time.sleep(0.001)
        busy = go.on(2)(spin)
        while not (folder / "begun").exists(): yield_now()
        try: list(pmap(lambda x: held, range(8), chunk=1))
        except PickleError as exc: print(exc)
        (folder / "gate").touch()
        busy.join()
        while num_goroutine() > 1: time.sleep(0.001)
        """,
        procs=2,
    )
    assert (done.status, done.out, done.err) == (
        0,
        "the function <lambda> -> global 'held' cannot be read by worker 1: "
        "ValueError: invalid literal for int() with base 10: 'no number'\n",
        "",
    ), done


def test_a_function_that_can_no_longer_be_read_when_the_map_has_ended_is_not_told_of(run: Run) -> None:
    """The other worker has called it for all items by then."""
    done = run(
        """
        import pathlib, tempfile, time
        from goproc import go, num_goroutine, pmap, yield_now
        folder = pathlib.Path(tempfile.mkdtemp())
        def read():
            if (folder / "gate").exists(): raise OSError("the server has gone")
            return abs
        class Connected:
            def __reduce__(self): return read, ()
            def __call__(self, x): raise AssertionError
        def spin():
            (folder / "begun").touch()
            while not (folder / "gate").exists(): time.sleep(0.001)
        busy = go.on(2)(spin)
        while not (folder / "begun").exists(): yield_now()
        print(sum(pmap(Connected(), range(8), chunk=1)))
        (folder / "gate").touch()
        busy.join()
        while num_goroutine() > 1: time.sleep(0.001)
        """,
        procs=2,
    )
    assert (done.status, done.out, done.err) == (0, "28\n", ""), done
