"""Small programs for the deadlock detector: 200 in which nothing can ever go on, 200 that only look like it for a while.

Both are products of a few lists, of which fixed pairs are taken, so that a number always is the same program:

- what one blocks on for ever, with where that happens and what the program did before;
- what ends a wait from outside of goroutines' own doings (time, threads, signals, other processes, a computation that
  has not ended), with what is waited on and who makes it.

``python tests/deadlock/families.py deadlock 17`` prints a program, to be run by hand.
"""

from __future__ import annotations

import sys
import textwrap
from typing import NamedTuple


class Case(NamedTuple):
    """A program and what is expected of it."""

    kind: str  # "deadlock" or "idle"
    number: int
    family: str
    text: str
    procs: int
    how: str  # as for programs.run
    out: str
    reason: str  # of one goroutine of the report; "" where what is blocked has no goroutine


HEAD = """
import concurrent.futures, os, queue, select as system_select, signal, socket, subprocess, sys, threading, time
from goproc import *

last = procs() - 1

def spread(f, *args):
    return [go.on(p)(f, *args) for p in range(procs())]

def thread(f, *args):
    t = threading.Thread(target=f, args=args, daemon=True)
    t.start()
    return t

def fed(n, cap=0):
    c = chan(cap)
    go(lambda: c.send_many(range(n)) and c.close())
    return c
"""

# -- deadlocks: what one blocks on -------------------------------------------------------------------------------------

BLOCKS = {
    "send": ("chan().send(1)", "chan send"),
    "send to full": ("c = chan(2)\nc.send(1)\nc.send(2)\nc.send(3)", "chan send"),
    "send_many to full": ("chan(4).send_many(range(5))", "chan send"),
    "send of what is large": ("chan().send(bytes(1 << 20))", "chan send"),
    "recv": ("chan().recv()", "chan receive"),
    "recv for infinity": ("chan(1).recv(timeout=float('inf'))", "chan receive"),
    "recv_many": ("c = chan(9)\nc.send(1)\nc.recv_many(9)\nc.recv_many(9)", "chan receive"),
    "range": ("c = chan(3)\nc.send_many('ab')\nfor v in c: pass", "chan receive"),
    "select {}": ("select()", "select (no cases)"),
    "select of two": ("select(chan(), (chan().send, 1))", "select"),
    "select of all kinds": (
        "m = Semaphore(1)\nm.acquire()\nw = WaitGroup()\nw.add(1)\n"
        "ctx, cancel = context.with_cancel(context.background())\nt = Timer(3600)\nt.stop()\n"
        "select(chan(), nil, m.acquire, w.wait, ctx, t, go(nil.recv))",
        "select",
    ),
    "select of nil": ("select(nil, (nil.send, 1))", "select"),
    "Selector": ("s = Selector(chan(1), chan())\ns[0] = nil\ns.select()", "select"),
    "Selector used before": (
        "c = chan(3)\nc.send_many('abc')\ns = Selector(c, chan())\nfor _ in range(4): s.select()",
        "select",
    ),
    "nil recv": ("nil.recv()", "chan receive (nil chan)"),
    "nil send": ("nil.send(1)", "chan send (nil chan)"),
    "Mutex": ("m = Mutex()\nm.lock()\nm.lock()", "sync.Mutex.Lock"),
    "Mutex of a goroutine that ended": ("m = Mutex()\ngo(m.lock).join()\nm.lock()", "sync.Mutex.Lock"),
    "RLock": ("m = RWMutex()\nm.lock()\nm.rlock()", "sync.RWMutex.RLock"),
    "Lock": ("m = RWMutex()\nm.rlock()\nm.lock()", "sync.RWMutex.Lock"),
    "WaitGroup": ("w = WaitGroup()\nw.go(int)\nw.wait()\nw.add(1)\nw.wait()", "sync.WaitGroup.Wait"),
    "Cond": ("m = Mutex()\nc = Cond(m)\nm.lock()\nc.broadcast()\nc.wait()", "sync.Cond.Wait"),
    "Cond with a signal for one of two": (
        "m = Mutex()\nc = Cond(m)\nn = Atomic(0)\ndone = WaitGroup()\ndone.add(2)\n"
        "def f():\n    with m:\n        n.add(1)\n        c.wait()\n    done.done()\n"
        "go(f)\ngo(f)\nwhile n.load() < 2: sleep(0.01)\n"
        "with m: c.signal()\n"
        "done.wait()",
        "sync.WaitGroup.Wait",
    ),
    "Once": ("o = Once()\ndef again(): o.do(again)\no.do(again)", "sync.Mutex.Lock"),
    "Semaphore": ("s = Semaphore(2)\ns.acquire()\ns.acquire(2)", "semacquire"),
    "Barrier": ("b = Barrier(2)\ngo(b.wait)\nb.wait()\nb.wait()", ""),
    "join": ("go(nil.recv).join()", "goroutine join"),
    "join of each other": (
        "def f(c):\n    other = c.recv()\n    other.join()\n"
        "a, b = chan(1), chan(1)\nx, y = go(f, a), go(f, b)\na.send(y)\nb.send(x)\ny.join()",
        "goroutine join",
    ),
    "locks in opposite order": (
        "def f(one, two, both):\n    with one:\n        both.wait()\n        with two: print('no')\n"
        "one, two, both = Mutex(), Mutex(), Barrier(2)\nx, y = go(f, one, two, both), go(f, two, one, both)\nx.join()",
        "sync.Mutex.Lock",
    ),
    "context without end": ("context.background().done().recv_ok()", "chan receive (nil chan)"),
    "context not cancelled": (
        "ctx, cancel = context.with_cancel(context.background())\nctx.done().recv_ok()",
        "chan receive",
    ),
    "context without its deadline": (
        "ctx, cancel = context.with_timeout(context.background(), 3600)\n"
        "free, _ = context.with_cancel(context.without_cancel(ctx))\nfree.done().recv_ok()",
        "chan receive",
    ),
    "stopped Timer": ("t = Timer(3600)\nt.stop()\nt.c.recv()", "chan receive"),
    "Timer received twice": ("t = after(0.05)\nt.recv()\nt.recv()", "chan receive"),
    "stopped Ticker": ("t = Ticker(0.02)\nt.c.recv()\nt.c.recv()\nt.stop()\nt.c.recv()", "chan receive"),
    "Timer stopped under its receiver": (
        "t = Timer(3600)\ndef f():\n    sleep(0.2)\n    t.stop()\ngo.on(last)(f)\nt.c.recv()",
        "chan receive",
    ),
    "Timer stopped under its select": (
        "t = Timer(3600)\ndef f():\n    sleep(0.2)\n    t.stop()\ngo.on(last)(f)\nselect(t, chan())",
        "select",
    ),
    "answer that nobody sends": (
        "def serve(requests):\n    for question, answer in requests:\n        if question: answer.send(1)\n"
        "requests = chan()\nspread(serve, requests)\nanswer = chan()\n"
        "requests.send((1, answer))\nanswer.recv()\nrequests.send((0, answer))\nanswer.recv()",
        "chan receive",
    ),
    "pipeline that is not closed": (
        "def f(source, out):\n    for v in source: out.send(v + 1)\n    out.close()\n"
        "a, b, c = chan(), chan(1), chan()\ngo.on(last)(f, a, b)\ngo.on(0)(f, b, c)\n"
        "go(lambda: a.send_many(range(50)))\n"
        "for v in c: pass",
        "chan receive",
    ),
    "Group": ("with Group() as group:\n    group.go(int)\n    group.go(chan().recv)", "chan receive"),
}

# -- deadlocks: where, and after what ----------------------------------------------------------------------------------
# Each calls stuck() where it likes, prints "before" when everything else is done.

PLACES = {
    "main": "before()\nstuck()",
    "goroutine of main's process": "before()\ngo.local(stuck).join()",
    "goroutine of another process": "before()\ngo.on(last)(stuck).join()",
    "everywhere": "before()\nspread(stuck)\nstuck()",
    "main gone": "go.on(last)(stuck)\nbefore()\ngoexit()",
    "chain of joins": (
        "def deep(n):\n    go.on(n % procs())(deep, n - 1).join() if n else stuck()\nbefore()\ndeep(5)"
    ),
    "plain thread": "before()\nthread(stuck)\nselect()",
    "plain threads of all processes": (
        "def f():\n    for _ in range(3): thread(stuck)\nfor g in spread(f): g.join()\nbefore()\nnil.recv()"
    ),
    "after work": (
        "def square(source, out):\n    for v in source: out.send(v * v)\n"
        "numbers, squares = fed(300), chan(3)\n"
        "workers = spread(square, numbers, squares)\n"
        "go(lambda: [w.join() for w in workers] and squares.close())\n"
        "assert sum(squares) == sum(v * v for v in range(300))\nbefore()\nstuck()"
    ),
    "after stolen tasks": (
        "def f(n):\n    return sum(i * i for i in range(n * 2000))\n"
        "assert sum(g.result() for g in [go(f, n) for n in range(40)])\nbefore()\n"
        "for g in [go(stuck) for _ in range(4)]: g.join()"
    ),
    "after timers ran": (
        "ran = WaitGroup()\nran.add(4)\n"
        "for p in range(4): go.on(p % procs())(lambda: (sleep(0.3), ran.done()))\n"
        "after(0.1).recv()\nafter_func(0.1, sleep, 0.1)\nran.wait()\nbefore()\nstuck()"
    ),
    "after timeouts that were not needed": (
        "c = chan(1)\n"
        "def f():\n"
        "    for v in range(200):\n        c.send(v, timeout=3600)\n        c.recv(timeout=3600)\n"
        "    m = Mutex()\n    m.lock(timeout=3600)\n    go(int).result(timeout=3600)\n"
        "    go(lambda d: (sleep(0.05), d.send(1)), d := chan())\n    d.recv(timeout=3600)\n"
        "    with context.timeout(3600):\n"
        "        go(lambda d: (sleep(0.05), d.send(1)), d)\n        d.recv()\n"
        "    select(d, timeout=0.05) if 0 else None\n"
        "    try: select(d, timeout=0.05)\n    except TimeoutError: pass\n"
        "go.on(last)(f).result()\nf()\nbefore()\nstuck()"
    ),
    "after timers that were stopped": (
        "calls = [after_func(3600, print) for _ in range(100)]\n"
        "others = [go.on(p)(lambda: after_func(3600, print)).result() for p in range(procs())]\n"
        "go.on(last)(lambda: [t.stop() for t in calls]).join()\nfor t in others: t.stop()\n"
        "t = Ticker(0.01)\nt.c.recv()\nt.stop()\nafter(3600)\nbefore()\nstuck()"
    ),
    "after goroutines were cancelled": (
        "def f(ready):\n"
        "    try:\n        ready.done()\n        sleep(3600)\n    finally:\n        chan(1).send(1, timeout=3600)\n"
        "ready = WaitGroup()\nready.add(2 * procs())\nall = spread(f, ready) + spread(f, ready)\nready.wait()\n"
        "sleep(0.1)\nfor g in all: g.cancel()\nfor g in all: g.exception()\n"
        "before()\nstuck()"
    ),
    "after contexts were cancelled": (
        "ctx, cancel = context.with_timeout(context.background(), 3600)\n"
        "all = spread(lambda: select(ctx, chan()))\n"
        "stop = context.after_func(ctx, int)\n"
        "sleep(0.1)\ncancel()\nfor g in all: g.join()\n"
        "ctx, cancel = context.with_timeout(context.background(), 0.1)\nctx.done().recv_ok()\nbefore()\nstuck()"
    ),
    "after threads ended": (
        "c = chan()\ndef f():\n"
        "    many = [thread(c.send, n) for n in range(5)]\n    for _ in many: c.recv()\n    for t in many: t.join()\n"
        "for g in spread(f): g.join()\n"
        "with concurrent.futures.ThreadPoolExecutor(3) as pool: assert sum(pool.map(abs, range(9))) == 36\n"
        "before()\nstuck()"
    ),
    "while a thread ends": "thread(time.sleep, 0.5)\nspread(thread, time.sleep, 0.7)\nbefore()\nstuck()",
    "after other programs ran": (
        "def f():\n    subprocess.run(['true'], check=True)\n"
        "for g in spread(f): g.join()\nf()\na, b = socket.socketpair()\na.send(b'x')\nb.recv(1)\n"
        "before()\nstuck()"
    ),
    "after errors": (
        "def f():\n    raise ValueError\n"
        "for g in [*spread(f), *[go(f) for _ in range(9)]]: assert isinstance(g.exception(), ValueError)\n"
        "try:\n    with Group() as group:\n        group.go(f)\n        group.go(sleep, 3600)\n"
        "except* ValueError: pass\n"
        "before()\nw = WaitGroup()\nw.go(stuck)\nw.wait()"
    ),
}

_FIRST = """
def before():
    print("before", flush=True)
"""


def _deadlock(number: int) -> Case:
    blocks, places = list(BLOCKS), list(PLACES)
    what = blocks[number % len(blocks)]
    where = places[(number + number // len(blocks) * 3) % len(places)]
    body, reason = BLOCKS[what]
    text = f"{HEAD}\ndef stuck():\n{textwrap.indent(body, '    ')}\n{_FIRST}\n{PLACES[where]}\n"
    if "thread" in where and "thread ends" not in where and "threads ended" not in where:
        reason = ""
    procs = 1 + (number + number // 4) % 4
    how = ("goproc", "python")[number // 3 % 2]
    return Case("deadlock", number, f"{what}: {where}", text, procs, how, "before\n", reason)


# -- idle programs: what ends the wait ---------------------------------------------------------------------------------
# begin(done) has done() called in more than a second: by itself, after it returned, or in a thread.

ENDS = {
    "sleep": "sleep(1.3)\ndone()",
    "after": "after(1.2).recv()\ndone()",
    "Timer": "t = Timer(1.2)\nselect(t, chan())\ndone()",
    "Timer set again": "t = Timer(3600)\nt.reset(1.2)\nt.c.recv()\ndone()",
    "Timer set by another": (
        "t = Timer(1.5)\nt.stop()\ngo.on(0)(lambda: (sleep(0.6), t.reset(0.7)))\nt.c.recv()\ndone()"
    ),
    "Ticker": "t = tick(0.4)\nfor _ in range(4): t.recv()\ndone()",
    "after_func": "after_func(1.3, done)",
    "timeout": "try: chan().recv(timeout=1.3)\nexcept TimeoutError: done()",
    "timeout of select": "try: select(chan(), nil, timeout=1.3)\nexcept TimeoutError: done()",
    "timeout of a lock": "m = Mutex()\nm.lock()\ntry: m.lock(timeout=1.3)\nexcept TimeoutError: done()",
    "timeout of a thread": (
        "def f():\n    try: chan().recv(timeout=1.3)\n    except TimeoutError: done()\nthread(f)"
    ),
    "deadline of a context": (
        "ctx, _ = context.with_timeout(context.background(), 1.3)\n"
        "ctx, _ = context.with_cancel(ctx)\nctx.done().recv_ok()\ndone()"
    ),
    "function after a context": (
        "ctx, _ = context.with_timeout(context.background(), 1.3)\ncontext.after_func(ctx, done)"
    ),
    "deadline of a block": "try:\n    with context.timeout(1.3): nil.recv()\nexcept DeadlineExceeded: done()",
    "limiter": "l = Limiter(2, 1)\nfor _ in range(4): l.wait()\ndone()",
    "thread that sleeps": "def f():\n    time.sleep(1.3)\n    done()\nthread(f)",
    "thread that computes": (
        "def f():\n    until = time.monotonic() + 1.3\n    while time.monotonic() < until: sum(range(1000))\n    done()\n"
        "thread(f)"
    ),
    "threads that start each other": (
        "def f(n):\n    time.sleep(0.3)\n    thread(f, n - 1) if n else done()\nthread(f, 4)"
    ),
    "threads that talk": (
        "a, b = queue.Queue(), queue.Queue()\n"
        "def f():\n    while a.get(): b.put(1)\n"
        "def g():\n    for _ in range(12):\n        a.put(1)\n        b.get()\n        time.sleep(0.1)\n"
        "    a.put(0)\n    done()\n"
        "thread(f)\nthread(g)"
    ),
    "threading.Timer": "threading.Timer(1.3, done).start()",
    "pool of threads": (
        "def f():\n    pool = concurrent.futures.ThreadPoolExecutor(2)\n"
        "    pool.submit(time.sleep, 1.3).add_done_callback(lambda _: done())\nf()"
    ),
    "socket": (
        "a, b = socket.socketpair()\n"
        "def late():\n    time.sleep(1.3)\n    a.send(b'x')\n"
        "thread(late)\nassert b.recv(1) == b'x'\ndone()"
    ),
    "socket in a thread": (
        "def f():\n    with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "        port = server.getsockname()[1]\n"
        "        code = f'import socket, time; time.sleep(1); socket.create_connection((\"127.0.0.1\", {port}))'\n"
        "        child = subprocess.Popen([sys.executable, '-c', code])\n"
        "        server.accept()[0].close()\n        child.wait()\n        done()\n"
        "thread(f)"
    ),
    "another program": "subprocess.run(['sleep', '1.3'], check=True)\ndone()",
    "output that comes late": (
        "with subprocess.Popen('sleep 1.3; echo x', shell=True, stdout=subprocess.PIPE) as child:\n"
        "    assert child.stdout.readline() == b'x\\n'\ndone()"
    ),
    "time.sleep": "time.sleep(1.3)\ndone()",
    "a pipe polled": (
        "r, w = os.pipe()\nchild = subprocess.Popen('sleep 1.3; echo', shell=True, stdout=w)\n"
        "system_select.select([r], [], [])\nchild.wait()\ndone()"
    ),
    "computation": (
        "until = time.monotonic() + 1.3\nwhile time.monotonic() < until: sum(range(1000))\ndone()"
    ),
    "computation in C": "until = time.monotonic() + 1.3\nwhile time.monotonic() < until: 3 ** 60000\ndone()",
    "work in flight": (
        "def f(source, out):\n    for v in source: out.send(v)\n"
        "ring = [chan() for _ in range(2 * procs() + 1)]\n"
        "for i in range(2 * procs()): go.on(i % procs())(f, ring[i], ring[i + 1])\n"
        "until = time.monotonic() + 1.3\n"
        "while time.monotonic() < until:\n    ring[0].send(1)\n    ring[-1].recv()\ndone()"
    ),
    "tasks that make tasks": (
        "def f(until, done):\n    if time.monotonic() < until: go(f, until, done)\n    else: done()\n"
        "go(f, time.monotonic() + 1.3, done)"
    ),
    "alarm": (
        "c = chan(1)\nsignal.signal(signal.SIGALRM, lambda *_: c.try_send(1))\n"
        "signal.setitimer(signal.ITIMER_REAL, 1.3)\nc.recv()\ndone()"
    ),
    "signal from another program": (
        "c = chan(1)\nsignal.signal(signal.SIGUSR1, lambda *_: c.try_send(1))\n"
        "child = subprocess.Popen(f'sleep 1.3; kill -USR1 {os.getpid()}', shell=True)\nc.recv()\nchild.wait()\ndone()"
    ),
}

# -- idle programs: what is waited for ---------------------------------------------------------------------------------
# Defines done, to be called once from anywhere, and wait, for main.

WAITS = {
    "recv": "c = chan()\ndone, wait = lambda: c.send(1), c.recv",
    "buffer": "c = chan(3)\ndone, wait = lambda: c.send(1), c.recv",
    "close": "c = chan()\ndone, wait = c.close, lambda: list(c)",
    "send": "c = chan()\ndone, wait = c.recv, lambda: c.send(1)",
    "select": "c = chan()\ndone, wait = lambda: c.send(1), lambda: select(nil, chan(), c)",
    "Selector": "c = chan()\ns = Selector(chan(), c.recv)\ndone, wait = lambda: c.send(1), s.select",
    "WaitGroup": "w = WaitGroup()\nw.add(1)\ndone, wait = w.done, w.wait",
    "select of a WaitGroup": "w = WaitGroup()\nw.add(1)\ndone, wait = w.done, lambda: select(w.wait, chan())",
    "Mutex": "m = Mutex()\nm.lock()\ndone, wait = m.unlock, m.lock",
    "RWMutex": "m = RWMutex()\nm.lock()\ndone, wait = m.unlock, m.rlock",
    "Cond": (
        "m, flag = Mutex(), Atomic(0)\nc = Cond(m)\n"
        "def done():\n    with m:\n        flag.store(1)\n        c.broadcast()\n"
        "def wait():\n    with m:\n        while not flag.load(): c.wait()"
    ),
    "Semaphore": "s = Semaphore(3)\ns.acquire(3)\ndone, wait = lambda: s.release(2), lambda: s.acquire(2)",
    "Barrier": "b = Barrier(2)\ndone, wait = b.wait, b.wait",
    "context": (
        "ctx, cancel = context.with_cancel(context.background())\n"
        "below, _ = context.with_cancel(ctx)\ndone, wait = cancel, below.done().recv_ok"
    ),
    "join": "c = chan()\ng = go.on(last)(c.recv)\ndone, wait = lambda: c.send(1), g.result",
    "Once": (
        "c, o, begun = chan(), Once(), chan()\ng = go.on(last)(o.do, lambda: (begun.send(1), c.recv()))\nbegun.recv()\n"
        "done, wait = lambda: c.send(1), lambda: (o.do(int), g.join())"
    ),
    "relay": (
        "def f(source, out): out.send(source.recv())\n"
        "ring = [chan() for _ in range(6)]\nfor i in range(5): go.on(i % procs())(f, ring[i], ring[i + 1])\n"
        "done, wait = lambda: ring[0].send(1), ring[-1].recv"
    ),
    "thread that waits": (
        "c, d = chan(), chan()\nthread(lambda: d.send(c.recv()))\ndone, wait = lambda: c.send(1), d.recv"
    ),
    "Group": (
        "c = chan()\ndef wait():\n    with Group() as group:\n        group.go(c.recv)\n        group.go(c.recv)\n"
        "done = lambda: c.send_many('ab')"
    ),
}

MAKERS = {
    "another process": "go.on(last)(begin, done)",
    "any process": "go(begin, done)",
    "main's process": "go.local(begin, done)",
}


def _idle(number: int) -> Case:
    ends, waits, makers = list(ENDS), list(WAITS), list(MAKERS)
    end, maker = ends[number % len(ends)], makers[number // 2 % len(makers)]
    wait = waits[(number + number // len(ends)) % len(waits)]
    text = (
        f"{HEAD}\ndef begin(done):\n{textwrap.indent(ENDS[end], '    ')}\n\n{WAITS[wait]}\n"
        f"asleep = spread(nil.recv)\n{MAKERS[maker]}\nwait()\nprint('done')\n"
    )
    procs = 1 + (number + number // 4) % 4
    how = ("goproc", "python")[number // 3 % 2]
    return Case("idle", number, f"{end}, {wait}: {maker}", text, procs, how, "done\n", "")


NUMBER = 200
CASES = {
    "deadlock": [_deadlock(number) for number in range(NUMBER)],
    "idle": [_idle(number) for number in range(NUMBER)],
}

if __name__ == "__main__":
    case = CASES[sys.argv[1]][int(sys.argv[2])]
    print(f"# {case.family}; --procs {case.procs}, {case.how}\n{case.text}")
