"""Maps that are left: no further call begins, and processes are let go of, where a map dies, rests, or is dropped."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from peek import until
from programs import Run, ok

from goproc import Atomic, pmap

QUIET = {"GOPROC_QUIET_DEATHS": "1", "GOPROC_PROCS": "2"}


def test_recycle_beside_a_map_that_rests(run: Run) -> None:
    """The other map's goroutine stays on the process until that map is over: the process is kept."""
    script = """
        from goproc import pmap
        pairs = zip(pmap(int, range(25), recycle=10, chunk=1), pmap(int, range(25), chunk=1))
        print(sum(a == b for a, b in pairs))
    """
    assert ok(run(script, env=QUIET)) == "25\n"


def test_dropped_after_a_death_without_the_cyclic_collector(run: Run) -> None:
    script = """
        import gc, os, weakref
        from goproc import pmap
        gc.disable()
        def f(x):
            if x == 5: os.kill(os.getpid(), 9)
            return x
        m = pmap(f, range(1000), on_error="skip", chunk=1)
        for x in m:
            if x > 20: break
        known = weakref.ref(m)
        del m
        print(known())
    """
    assert ok(run(script, env=QUIET)) == "None\n"


def test_an_init_that_waits_although_it_was_cancelled_is_killed(run: Run) -> None:
    """Also where its process is to make several calls at once: none of the lanes has begun."""
    done = run(
        """
        from goproc import Cancelled, chan, go, pmap
        from goproc._data import engine
        from goproc.shm import _core
        engine.CLOSE_SECONDS = 0.0
        begun, never = chan(), chan()
        def init():
            begun.send(None)
            while True:
                try: never.recv()
                except Cancelled: pass
        results = pmap(abs, range(8), workers=4, init=init)
        g = go.local(lambda: next(results))
        begun.recv()
        g.cancel()
        g.join()
        results.close()
        print(list(pmap(abs, range(3))), _core.deaths())
        """,
        procs=1,
    )
    assert (done.status, done.out, done.err) == (0, "[0, 1, 2] 1\n", ""), done


OPTIONS: list[Any] = [
    pytest.param({}, id="plain"),
    pytest.param({"timeout": 60}, id="timeout"),
    pytest.param({"workers": 4}, id="workers"),
    pytest.param({"threads": 2}, id="threads"),
    pytest.param({"init": int}, id="init"),
]


@pytest.mark.parametrize("options", OPTIONS)
def test_no_call_begins_after_close(runtime2: Any, options: dict[str, Any]) -> None:
    """Neither of the chunk whose call runs: its items take long together."""
    begun, opened = Atomic(0), Atomic(0)

    def f(x: int) -> int:
        begun.add(1)
        if x % 40 == 19:
            time.sleep(0.003)  # the results are sent after this call: with the next call the lane begins anew
        while x % 40 > 19 and not opened.load():
            time.sleep(0.001)  # this call cannot be cancelled
        return x

    results = pmap(f, range(240), chunk=40, **options)
    assert next(results) == 0
    lanes = results._engine.lanes.lanes
    until(lambda: begun.load() == 21 * len(lanes))

    def open_gate() -> None:
        while not all(lane.way.chunks.closed for lane in lanes):
            time.sleep(0.001)
        time.sleep(0.02)  # calls that take less than FLUSH_SECONDS together are made in one go
        opened.store(1)

    opener = threading.Thread(target=open_gate)
    opener.start()
    results.close()
    opener.join()
    assert begun.load() == 21 * len(lanes)
