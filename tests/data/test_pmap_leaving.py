"""Maps that share processes: one that replaces its processes goes on beside one that rests; a dropped one lets go of them."""

from __future__ import annotations

from programs import Run, ok

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
