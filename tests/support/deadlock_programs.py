"""Small programs in two families: 200 that come to a deadlock, and 200 that only look as if they did.

A program of the first family is something that happened and is over, a way to block, and who does it, where. One of
the second is somebody who waits, surrounded by goroutines that wait for ever, and something that wakes him after a
while. The lists below have lengths without a common factor, so that counting through all of them at once gives
another program each time.
"""

from __future__ import annotations

import textwrap
from typing import NamedTuple

COUNT = 200
PROCS = (1, 2, 4)

IMPORTS = """\
import asyncio, os, queue, signal, socket, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from goproc import (
    Barrier, Cond, Group, Limiter, Mutex, Once, RWMutex, Selector, Semaphore, Ticker, Timer, WaitGroup,
    after, after_func, chan, context, default, go, goexit, nil, procs, select, sleep, yield_now,
)
LAST = procs()
"""


class Script(NamedTuple):
    name: str
    text: str
    procs: int
    goroutines: int  # that a report of it shows


# -- deadlocks ---------------------------------------------------------------------------------------------------------

# something that happened before, and is over; none leaves a goroutine
BEFORE = {
    "nothing": "pass",
    "messages": """
def echo(a, b):
    for v in a: b.send(v)
a, b = chan(), chan(3)
g = go.on(LAST)(echo, a, b)
for i in range(200):
    a.send(i)
    assert b.recv() == i
a.close()
g.join()
""",
    "thread": """
t = threading.Thread(target=time.sleep, args=(0.05,))
t.start()
t.join()
""",
    "thread still ends": "threading.Thread(target=time.sleep, args=(0.2,)).start()",
    "thread elsewhere": "go.on(LAST)(lambda: threading.Thread(target=time.sleep, args=(0.2,)).start()).join()",
    "timers": """
after(0.02).recv()
after_func(0.1, lambda: None)
t, k = Timer(3600), Ticker(0.01)
k.c.recv()
k.stop()
assert go.on(LAST)(t.stop).result()
""",
    "timeouts": """
for wait in (lambda: chan().recv(timeout=0.02), lambda: select(nil, chan(), timeout=0.02),
             lambda: Semaphore(1).acquire(2, timeout=0.02)):
    try:
        go.on(LAST)(wait).result()
    except TimeoutError:
        pass
""",
    "contexts": """
ctx, cancel = context.with_timeout(context.background(), 0.05)
gs = [go.on(i % procs())(lambda c: c.done().recv_ok(), ctx) for i in range(4)]
for g in gs: g.join()
far, cancel = context.with_timeout(context.background(), 3600)
cancel()
""",
    "cancelled": """
gs = [go.on(i % procs())(nil.recv) for i in range(5)]
sleep(0.02)  # nothing to wait on: they wait by then, or have not begun
for g in gs: g.cancel()
for g in gs: g.exception()
""",
    "failures": """
def fail(): raise ValueError("expected")
for i in range(5): assert isinstance(go.on(i % procs())(fail).exception(), ValueError)
go.on(LAST)(goexit).join()
""",
    "processes": "subprocess.run(['true'], check=True)",
    "timeouts not needed": """
def ask(c, d):
    for v in range(50):
        c.send(v, timeout=3600)
        c.recv(timeout=3600)
    go(lambda: (sleep(0.02), d.send(1)))  # the caller waits by then
    d.recv(timeout=3600)
    with context.timeout(3600):
        go(lambda: (sleep(0.02), d.send(1)))
        select(d, chan())
    go(int).result(timeout=3600)
go.on(LAST)(ask, chan(1), chan()).result()
ask(chan(1), chan())
""",
    "timers stopped elsewhere": """
calls = [after_func(3600, print) for _ in range(100)] + [go.on(LAST)(lambda: after_func(3600, print)).result()]
go.on(LAST)(lambda: [t.stop() for t in calls]).join()
calls.pop().reset(0)
after(3600)
""",
    "cancelled sleepers": """
def sleeper(w):
    try:
        w.done()
        sleep(3600)
    finally:
        chan(1).send(1, timeout=3600)
w = WaitGroup()
w.add(6)
gs = [go.on(i % procs())(sleeper, w) for i in range(6)]
w.wait()
for g in gs: g.cancel()
for g in gs: g.exception()
""",
    "contexts cancelled": """
ctx, cancel = context.with_timeout(context.background(), 3600)
gs = [go.on(i % procs())(select, ctx, chan()) for i in range(4)]
context.after_func(ctx, int)
sleep(0.02)  # nothing to wait on: they wait by then, or have not begun
cancel()
for g in gs: g.join()
""",
    "stolen tasks": """
gs = [go(lambda n: sum(i * i for i in range(n)), n * 1000) for n in range(40)]
assert sum(g.result() for g in gs)
""",
    "threads talked": """
def talk(c):
    ts = [threading.Thread(target=c.send, args=(i,)) for i in range(5)]
    for t in ts: t.start()
    for t in ts: c.recv()
    with ThreadPoolExecutor(2) as pool: assert sum(pool.map(abs, range(9))) == 36
for i in range(procs() + 1): go.on(i)(talk, chan()).result()
""",
}

# a way to block for ever
BLOCK = {
    "send": "chan().send(1)",
    "full": "c = chan(2); [c.send(i) for i in range(3)]",
    "send what is large": "chan().send(bytes(1 << 20))",
    "send many": "chan(4).send_many(range(5))",
    "recv many": "c = chan(9); c.send(1); c.recv_many(9); c.recv_many(9)",
    "recv for infinity": "chan().recv(timeout=float('inf'))",
    "recv": "chan().recv()",
    "range": "[x for x in chan(9)]",
    "nil": "nil.recv()",
    "select": "select(chan(), (chan().send, 1), chan(1))",
    "select nothing": "select()",
    "select nil": "select(nil, (nil.send, 1))",
    "select many": "select(*[chan() for _ in range(100)])",
    "Selector": "s = Selector(chan(), chan()); s[0] = nil; s.select()",
    "select itself": "c = chan(); select(c, (c.send, 1))",
    "select of all kinds": """
m, w, t = Semaphore(1), WaitGroup(), Timer(3600)
m.acquire(), w.add(1), t.stop()
ctx, cancel = context.with_cancel(context.background())
select(chan(), nil, m.acquire, w.wait, ctx, t)
""",
    "Selector used before": """
c = chan(3)
c.send_many("abc")
s = Selector(c, chan())
for _ in range(4): s.select()
""",
    "timer received before": "t = after(0.02); t.recv(); t.recv()",
    "timer stopped meanwhile": """
t = Timer(3600)
go.on(LAST)(lambda t: (sleep(0.1), t.stop()), t)
t.c.recv()
""",
    "timer of select stopped meanwhile": """
t = Ticker(3600)
go.on(LAST)(lambda t: (sleep(0.1), t.stop()), t)
select(chan(), t)
""",
    "stopped timer": "t = Timer(3600); t.stop(); t.c.recv()",
    "stopped ticker": "t = Ticker(0.01); t.stop(); select(t, chan())",
    "Mutex": "m = Mutex(); m.lock(); m.lock()",
    "Mutex of one who ended": "m = Mutex(); go.on(LAST)(m.lock).join(); m.lock()",
    "rlock": "m = RWMutex(); m.lock(); m.rlock()",
    "RWMutex": "m = RWMutex(); m.rlock(); m.lock()",
    "WaitGroup": "w = WaitGroup(); w.add(1); w.wait()",
    "Cond": "m = Mutex(); m.lock(); Cond(m).wait()",
    "Semaphore": "s = Semaphore(1); s.acquire(); s.acquire()",
    "Barrier": "Barrier(2).wait()",
    "Once": "o = Once()\ndef f(): o.do(f)\no.do(f)",
    "context": "ctx, cancel = context.with_cancel(context.background()); ctx.done().recv()",
    "context without its deadline": """
ctx, cancel = context.with_timeout(context.background(), 3600)
free, cancel = context.with_cancel(context.without_cancel(ctx))
free.done().recv()
""",
}

# who blocks, and how main comes to depend on it; the number of goroutines in the report
WHO = {
    "main": ("f()", lambda n: 1),
    "local": ("go.local(f).join()", lambda n: 2),
    "another": ("go.on(LAST)(f).result()", lambda n: 2),
    "everywhere": ("gs = [go.on(i % n)(f) for i in range(2 * n)]; select(*gs)", lambda n: 2 * n + 1),
    "chain": (
        "g = go.on(LAST)(f)\nfor i in range(4): g = go.on(i % n)(lambda g: g.join(), g)\ng.join()",
        lambda n: 6,
    ),
    "without main": ("[go.on(i)(f) for i in range(n)]; goexit()", lambda n: n),
    "thread": ("threading.Thread(target=f, daemon=True).start(); nil.recv()", lambda n: 1),
    "thread elsewhere": (
        "go.on(LAST)(lambda: threading.Thread(target=f, daemon=True).start()).join(); chan().recv()",
        lambda n: 1,
    ),
}


def deadlocks() -> list[Script]:
    """200 programs, each of which has to be reported."""
    found = []
    for i in range(COUNT):
        procs = PROCS[i // 8 % 3]
        before, block, who = (list(table)[i % len(table)] for table in (BEFORE, BLOCK, WHO))
        ending, goroutines = WHO[who]
        text = f"{IMPORTS}{BEFORE[before]}\ndef f():\n{textwrap.indent(BLOCK[block], '    ')}\nn = procs()\n{ending}\n"
        found.append(Script(f"{before}-{block}-{who}-{procs}", text, procs, goroutines(procs)))
    return found


# -- idle --------------------------------------------------------------------------------------------------------------

# what wakes somebody after D seconds, by c.send(1) or c.close()
WAKE = {
    "sleep": "go(lambda: (sleep(D), c.send(1)))",
    "sleep elsewhere": "go.on(LAST)(lambda: (sleep(D), c.send(1)))",
    "sleep of a process": "go.on(LAST)(lambda: (time.sleep(D), c.send(1)))",
    "computing": """
def burn():
    until = time.monotonic() + D
    while time.monotonic() < until: pass
    c.close()
go.on(LAST)(burn)
""",
    "after": "go.on(LAST)(lambda: (after(D).recv(), c.send(1)))",
    "after_func": "after_func(D, c.close)",
    "after_func elsewhere": "go.on(LAST)(lambda: after_func(D, c.close)).join()",
    "Ticker": "go.on(LAST)(lambda k: ([k.c.recv() for _ in range(4)], k.stop(), c.close()), Ticker(D / 4))",
    "Timer of select": "go(lambda t: (select(t, nil), c.send(1)), Timer(D))",
    "Timer reset elsewhere": """
t = Timer(3600)
go.on(LAST)(lambda: (sleep(D / 2), t.reset(D / 2)))
go(lambda: (t.c.recv(), c.send(1)))
""",
    "timeout": """
def wait():
    try: chan().recv(timeout=D)
    except TimeoutError: c.send(1)
go.on(LAST)(wait)
""",
    "timeout of select": """
def wait():
    try: select(chan(), (chan().send, 1), timeout=D)
    except TimeoutError: c.close()
go.local(wait)
""",
    "timeout of a lock": """
m = Mutex()
m.lock()
def wait():
    try: m.lock(timeout=D)
    except TimeoutError: c.send(1)
go.on(LAST)(wait)
""",
    "timeout of a wait group": """
w = WaitGroup()
w.add(1)
def wait():
    try: w.wait(timeout=D)
    except TimeoutError: c.send(1)
go.on(LAST)(wait)
""",
    "context": """
ctx, cancel = context.with_timeout(context.background(), D)
go.on(LAST)(lambda x: (x.done().recv_ok(), c.send(1)), ctx)
""",
    "context in with": """
def wait():
    try:
        with context.timeout(D): chan().recv()
    except context.DeadlineExceeded: c.send(1)
go.on(LAST)(wait)
""",
    "Limiter": "l = Limiter(1 / D, 1); l.wait(); go.on(LAST)(lambda: (l.wait(), c.send(1)))",
    "thread": "threading.Thread(target=lambda: (time.sleep(D), c.send(1))).start()",
    "thread elsewhere": """
def begin(): threading.Thread(target=lambda: (time.sleep(D), c.send(1))).start()
go.on(LAST)(begin).join()
""",
    "thread of a thread": """
def second(): time.sleep(D / 2); c.send(1)
def first(): time.sleep(D / 2); threading.Thread(target=second).start()
threading.Thread(target=first).start()
""",
    "thread for a thread": """
gate = chan()
threading.Thread(target=lambda: (gate.recv(), c.send(1))).start()
threading.Thread(target=lambda: (time.sleep(D), gate.send(1))).start()
""",
    "thread with a timeout": """
def wait():
    try: chan().recv(timeout=D)
    except TimeoutError: c.send(1)
threading.Thread(target=wait).start()
""",
    "threading.Timer": "threading.Timer(D, c.close).start()",
    "Event": """
def begin():
    e = threading.Event()
    threading.Timer(D, e.set).start()
    threading.Thread(target=lambda: (e.wait(), c.send(1))).start()
go.on(LAST)(begin).join()
""",
    "executor": "ThreadPoolExecutor(2).submit(lambda: (time.sleep(D), c.close()))",
    "queue": """
def begin():
    q = queue.Queue()
    threading.Timer(D, q.put, (1,)).start()
    c.send(q.get())
go.on(LAST)(begin)
""",
    "asyncio": """
async def later(): await asyncio.sleep(D); c.close()
threading.Thread(target=lambda: asyncio.run(later())).start()
""",
    "signal": """
signal.signal(signal.SIGUSR1, lambda *a: c.close())
subprocess.Popen(["sh", "-c", f"sleep {D}; kill -USR1 {os.getpid()}"])
""",
    "alarm": """
signal.signal(signal.SIGALRM, lambda *a: c.close())
signal.setitimer(signal.ITIMER_REAL, D)
""",
    "socket": """
def listen():
    a, b = socket.socketpair()
    with a, b:
        subprocess.Popen(["sh", "-c", f"sleep {D}; echo 1"], stdout=b)
        c.send(a.recv(1))
go.on(LAST)(listen)
""",
    "socket of a thread": """
a, b = socket.socketpair()
subprocess.Popen(["sh", "-c", f"sleep {D}; echo 1"], stdout=b)
threading.Thread(target=lambda: c.send(a.recv(1))).start()
""",
    "subprocess": "go.on(LAST)(lambda: c.send(subprocess.run(['sleep', str(D)]).returncode))",
    "messages": """
def relay(a, b):
    for v in a: b.send(v)
    b.close()
def turn(a, b):
    until = time.monotonic() + D
    while time.monotonic() < until:
        a.send(1)
        b.recv()
    a.close()
    b.recv_ok()
    c.close()
a, b = chan(), chan()
go.on(LAST)(relay, a, b)
go.on(0)(turn, a, b)
""",
    "threads that talk": """
def begin():
    a, b = queue.Queue(), queue.Queue()
    def echo():
        while a.get(): b.put(1)
    def ask():
        for _ in range(8):
            a.put(1)
            b.get()
            time.sleep(D / 8)
        a.put(0)
        c.close()
    for f in (echo, ask): threading.Thread(target=f).start()
go.on(LAST)(begin)
""",
    "computing in C": """
def burn():
    until = time.monotonic() + D
    while time.monotonic() < until: 3 ** 40000
    c.send(1)
go(burn)
""",
    "function after a context": """
def begin():
    ctx, cancel = context.with_timeout(context.background(), D)
    context.after_func(ctx, c.close)
go.on(LAST)(begin)
""",
    "goroutines": """
def hand_on(until, i):
    if time.monotonic() < until: go.on(i % procs())(hand_on, until, i + 1)
    else: c.send(1)
go(hand_on, time.monotonic() + D, 0)
""",
}

# who waits for it
WAITS = {
    "main": "c.recv_ok()",
    "another": "go.on(LAST)(c.recv_ok).result()",
    "select": "select(c, nil, chan(), (chan().send, 1))",
    "Selector": "Selector(chan(), c).select()",
    "relay": "d = chan(); go.on(0)(lambda: (c.recv_ok(), d.send(1))); d.recv()",
    "Mutex": """
m = Mutex()
m.lock()
go.on(LAST)(lambda: (c.recv_ok(), m.unlock()))
m.lock()
""",
    "WaitGroup": "w = WaitGroup(); w.go(c.recv_ok); w.wait()",
    "Semaphore": "s = Semaphore(2); s.acquire(2); go(lambda: (c.recv_ok(), s.release(2))); s.acquire()",
    "RWMutex": "m = RWMutex(); m.lock(); go(lambda: (c.recv_ok(), m.unlock())); m.rlock()",
    "Barrier": "b = Barrier(2); go.on(LAST)(lambda: (c.recv_ok(), b.wait())); b.wait()",
    "context": """
ctx, cancel = context.with_cancel(context.background())
below, _ = context.with_cancel(ctx)
go.on(LAST)(lambda: (c.recv_ok(), cancel()))
below.done().recv_ok()
""",
    "Cond": """
m, told = Mutex(), chan(1)
cond = Cond(m)
def tell():
    c.recv_ok()
    with m: told.send(1), cond.signal()
go.on(LAST)(tell)
with m:
    while not len(told): cond.wait()
""",
    "Once": """
o, begun = Once(), chan()
go.on(LAST)(o.do, lambda: (begun.send(1), c.recv_ok()))
begun.recv()
o.do(int)
""",
    "Group": "with Group() as group: group.go(c.recv_ok)",
    "thread": "d = chan(); threading.Thread(target=lambda: (c.recv_ok(), d.close())).start(); d.recv_ok()",
}


def idles(seconds: float) -> list[Script]:
    """200 programs, each of which ends well after `seconds`, "done" being its only output."""
    found = []
    for i in range(COUNT):
        procs = PROCS[i // 5 % 3]
        wake, waits = (list(table)[i % len(table)] for table in (WAKE, WAITS))
        text = (
            f"{IMPORTS}D = {seconds}\nc = chan()\nothers = [go.on(i)(nil.recv) for i in range(procs() + 1)]\n"
        )
        text += f"{WAKE[wake]}\n{WAITS[waits]}\nprint('done')\n"
        found.append(Script(f"{wake}-{waits}-{procs}", text, procs, procs + 1))
    return found


assert len(BEFORE) * len(BLOCK) * len(WHO) > COUNT < len(WAKE) * len(WAITS)
