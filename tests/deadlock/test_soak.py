"""Hand-overs at full speed, one kind at a time, so that all processes are idle again and again while one is told.

A false report would end the program with status 2; afterwards a real deadlock has to be seen all the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import run

SCRIPT = """
import itertools, sys, threading, time
from goproc import (
    Barrier, Cond, Mutex, Semaphore, Timer, WaitGroup, after, chan, context, go, procs, select, sleep,
)

def where(i): return go.on(i % procs())

def for_a_while(seconds):
    until = time.monotonic() + seconds
    return itertools.takewhile(lambda i: time.monotonic() < until, itertools.count())

# -- each: over and over, somebody waits and somebody else, mostly in another process, ends that

def channels(seconds):
    def echo(a, b):
        for v in a: b.send(v)
    a, b = chan(), chan()
    g = where(1)(echo, a, b)
    for i in for_a_while(seconds):
        a.send(i)
        assert b.recv() == i
    a.close()
    g.join()

def selects(seconds):
    def echo(a, b, never):
        while select(a, never).ok: select((b.send, 1), never)
    a, b, never = chan(), chan(), chan()
    g = where(1)(echo, a, b, never)
    for i in for_a_while(seconds):
        select(never, (a.send, i))
        select(b, never)
    a.close()
    g.join()

def circle(seconds):
    def relay(a, b):
        for v in a: b.send(v)
        b.close()
    n = procs() + 1
    ring = [chan(i % 2) for i in range(n + 1)]
    gs = [where(i + 1)(relay, ring[i], ring[i + 1]) for i in range(n)]
    for i in for_a_while(seconds):
        ring[0].send(i)
        assert ring[n].recv() == i
    ring[0].close()
    for g in gs: g.join()

def conds(seconds):
    def answer(m, c, seen, stop):
        with m:
            while not stop.try_recv()[1]:
                while not len(seen) and not len(stop): c.wait()
                if len(seen):
                    seen.recv()
                    c.broadcast()
    m, seen, stop = Mutex(), chan(1), chan(1)
    c = Cond(m)
    g = where(1)(answer, m, c, seen, stop)
    for i in for_a_while(seconds):
        with m:
            seen.send(i)
            c.broadcast()
            while len(seen): c.wait()
    with m:
        stop.send(1)
        c.broadcast()
    g.join()

def barriers(seconds):
    def rounds(b, n):
        for _ in range(n): b.wait()
    for i in for_a_while(seconds):
        b = Barrier(3)
        gs = [where(k)(rounds, b, 20) for k in (1, 2)]
        rounds(b, 20)
        for g in gs: g.join()

def wait_groups(seconds):
    for i in for_a_while(seconds):
        wg = WaitGroup()
        wg.add(2)
        for k in (1, 2): where(k)(wg.done)
        wg.wait()

def semaphores(seconds):
    def take(s, t, n):
        for _ in range(n):
            s.acquire()
            t.release()
    for i in for_a_while(seconds):
        s, t = Semaphore(1), Semaphore(1)
        s.acquire()
        t.acquire()
        g = where(1)(take, s, t, 20)
        for _ in range(20):
            s.release()
            t.acquire()
        g.join()

def spawns(seconds):
    def hand_on(n, done):
        if n: where(n)(hand_on, n - 1, done)
        else: done.send(1)
    done = chan()
    for i in for_a_while(seconds):
        go(hand_on, 8, done)
        done.recv()
        assert where(i)(int, "5").result() == 5

def timers(seconds):
    for i in for_a_while(seconds):
        g = where(1)(lambda: after(0.0002).recv())
        after(0.0001).recv()
        g.join()
        sleep(0.0001)
        t = Timer(3600)
        where(1)(t.reset, 0.0001)
        t.c.recv()
        try:
            chan().recv(timeout=0.0001)
        except TimeoutError:
            pass

def contexts(seconds):
    for i in for_a_while(seconds):
        ctx, cancel = context.with_cancel(context.background())
        gs = [where(k)(lambda c: c.done().recv_ok(), ctx) for k in (1, 2)]
        where(1)(cancel)
        for g in gs: g.join()

def cancels(seconds):
    for i in for_a_while(seconds):
        c = chan()
        gs = [where(k)(c.recv) for k in (1, 2)]
        where(2)(lambda: [g.cancel() for g in gs])
        for g in gs: g.exception()

def threads(seconds):
    def far(a, b):
        def echo():
            for v in a: b.send(v)
            b.close()
        threading.Thread(target=echo).start()
    def near(a, b, end):
        for i in for_a_while(seconds):
            a.send(i)
            assert b.recv() == i
        a.close()
        b.recv_ok()
        end.send(1)
    a, b, end = chan(), chan(), chan()
    where(1)(far, a, b).join()
    threading.Thread(target=near, args=(a, b, end)).start()
    end.recv()

def short_threads(seconds):
    c = chan()
    for i in for_a_while(seconds):
        threading.Thread(target=lambda: threading.Thread(target=c.send, args=(i,)).start()).start()
        assert c.recv() == i

KINDS = [
    channels, selects, circle, conds, barriers, wait_groups, semaphores,
    spawns, timers, contexts, cancels, threads, short_threads,
]
for kind in KINDS:
    kind(float(sys.argv[1]) / len(KINDS))
    print(kind.__name__, flush=True)
print("end", flush=True)
chan().recv()
"""


@pytest.mark.watchdog(300)
@pytest.mark.parametrize("procs", [2, 4, 1])
def test_no_false_report(tmp_path: Path, procs: int, long: bool) -> None:
    seconds = 60 if long else 3
    done = run(tmp_path, SCRIPT, str(seconds / 3), procs=procs, limit=seconds + 120)
    assert done.out.endswith("short_threads\nend\n"), done
    assert done.status == 2 and done.err.startswith("fatal error: all goroutines are asleep - deadlock!\n\n")
    assert done.err.count("\ngoroutine ") == 1, done.err
