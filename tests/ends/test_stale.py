"""Handles of a runtime that has stopped: every operation says so, and none starts another runtime."""

from __future__ import annotations

import pytest
from programs import Run, ok

STALE = """
    import time
    import goproc
    from goproc import *
    from goproc import context
    from goproc.shm import _core
    with goproc.runtime(procs=1):
        ch, other, unread, wg, mutex = chan(1), chan(1), go(time.sleep, 60), WaitGroup(), Mutex()
        rw, sem, atomic, group, limiter = RWMutex(), Semaphore(1), Atomic(1), Group(), Limiter(1)
        cond, once, barrier, selector = Cond(mutex), Once(), Barrier(1), Selector(ch)
        ctx, cancel = context.with_cancel(context.background())
        timer, ticker, shared = Timer(10), Ticker(10), share([1])
    never = lambda: print("called")
"""

USES = {
    "channel": "ch.send(1); ch.recv(); ch.try_recv(); ch.recv_ok(); len(ch); ch.close(); next(iter(ch)); ch.tx.send(1); ch.rx.recv()",
    "many": "ch.send_many([1]); ch.recv_many(1); ch.send(1, timeout=1)",
    "select": "select(ch); select(ch.recv); select((ch.send, 1)); select(ch, default); select(ch, other); select(other, timeout=1)",
    "select others": "select(unread); select(wg); select(wg.wait); select((sem.acquire, 1)); select(timer); select(ticker); select(ctx)",
    "select and nil": "select(nil, ch); select(default, ch); select(ch.rx); select((ch.tx.send, 1))",
    "selector": "selector.select(); Selector(ch); Selector(nil, (ch.send, 1)); selector.select(timeout=1)",
    "goroutine": "unread.result(); unread.join(); unread.cancel(); list(as_completed([unread]))",
    "sync": "wg.add(); wg.done(); wg.wait(); wg.go(int); mutex.lock(); mutex.try_lock(); rw.rlock(); rw.lock(); sem.acquire()",
    "sync too": "cond.signal(); cond.wait(); once.do(never); barrier.wait(); atomic.load(); atomic.add(1); Cond(mutex); Cond(rw.reader)",
    "context": "ctx.err(); cancel(); context.with_cancel(ctx); context.with_timeout(ctx, 1); context.after_func(ctx, never); context.cause(ctx)",
    "timers": "timer.stop(); timer.reset(1); timer.c.recv(); ticker.stop(); ticker.reset(1)",
    "groups": "group.go(int); group.wait(); Group(ctx=ctx); limiter.wait(); limiter.allow(); shared.value",
    "go": "go(ch.recv); go(print, ch); go(print, end=ch); go.local(ch.recv); go.opts(name='x')(mutex.lock)",
}


@pytest.mark.parametrize("what", USES)
def test_every_use_says_so_and_starts_nothing(run: Run, what: str) -> None:
    script = f"""{STALE}
    for text in {USES[what]!r}.split("; "):
        try:
            print(text, "gave", eval(text))
        except RuntimeStopped as error:
            assert "stopped" in str(error), error
        assert not _core.attached(), text
    """
    assert ok(run(script, procs=None)) == ""


def test_the_others_work_afterwards(run: Run) -> None:
    script = f"""{STALE}
    for attempt in (lambda: select(ch), lambda: go(print, ch)):
        try: attempt()
        except RuntimeStopped: pass
    new = chan(1)
    new.send(1)
    print(select(new).value, select(nil, default).index, go(int, 5).result())
    try: select(new, ch)
    except RuntimeStopped as error: print(error)
    """
    assert ok(run(script, procs=1)) == "1 1 5\nChan used after the goproc runtime it belongs to stopped\n"


def test_each_says_so_by_its_repr(run: Run) -> None:
    script = f"""{STALE}
    things = (ch, ch.tx, ch.rx, unread, wg, mutex, sem, atomic, once, barrier, group, limiter, timer, ticker, shared)
    for thing in things:
        before, after, rest = repr(thing).partition(" of a runtime that stopped")
        print(*before.split()[:1], after == " of a runtime that stopped" and rest == ">")
    """
    kinds = "chan chan<- <-chan Goroutine WaitGroup Mutex Semaphore Atomic Once Barrier Group Limiter Timer Ticker Shared"
    assert ok(run(script, procs=None)).splitlines() == [f"<{kind} True" for kind in kinds.split()]
