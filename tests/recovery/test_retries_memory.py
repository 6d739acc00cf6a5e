"""A goroutine with retries has a block for its outcome beside its call: neither is left behind, however it ends."""

from __future__ import annotations

from programs import Run, ok


def test_nothing_is_left(run: Run) -> None:
    text = """
    import gc, os
    from goproc import WorkerDied, go, Atomic
    from goproc.shm import _core
    def fail(x): raise ValueError(x)
    def nothing(x): pass
    def same(x): return x
    def die_once(count, x):
        if count.add(1) == 1: os.kill(os.getpid(), 9)
        return x
    def die(x): os.kill(os.getpid(), 9)
    def round():
        big = "x" * 3000
        for f in (fail, nothing, same): [go.opts(retries=2)(f, big).exception() for _ in range(20)]
        for f in (nothing, same): [go.opts(retries=2)(f, big) for _ in range(20)]      # handles dropped
        assert go.opts(retries=2)(die_once, Atomic(0), big).result() == big
        assert type(go.opts(retries=1)(die, big).exception()) is WorkerDied
        try: go.opts(retries=1)(same, lambda: open("/"), (x for x in ()))
        except Exception: pass
        while _core.census()["queued"]: pass
        for p in (1, 2): go.on(p)(gc.collect).result()
        gc.collect()
        _core.collect()
        return _core.census()["blocks"]
    first = [round() for _ in range(3)][-1]
    later = [round() for _ in range(5)]
    print(min(later) <= first, first, later)
    """
    assert ok(run(text)).startswith("True ")
